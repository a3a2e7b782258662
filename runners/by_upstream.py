"""What ``check`` found out about servers, by upstream: the text and the JSON of dlmufei/mcp-gateway. Pure.

Both are byte for byte what its users, and their scripts, know, but for what was wrong with it: secrets are hidden
wherever they are, and as ``***``; text is cut between characters, not within them; columns are aligned by display
width; the JSON has the servers in the configuration's order, not by chance; disabled servers do not count as servers.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Final, TypeAlias

import attrs
from rich.cells import cell_len

from mcpgateway.config.masking import masked_arguments, masked_endpoint, masked_url, without
from mcpgateway.config.model import Config, HttpServer, ServerConfig, StdioServer, UpstreamConfig, WebSocketServer
from mcpgateway.config.secrets import secrets_of
from runners.findings import Finding, Status, flat

Paint: TypeAlias = Callable[[str, str], str]
"""Gives a text a colour, or not."""

WIDTH: Final = 50
NAME_WIDTH: Final = 28
"""Cells that the name of a tool takes at least."""
LONGEST_DESCRIPTION: Final = 45
"""Characters of a description that are shown in the text; the JSON has all of them."""
NOTHING: Final = "-"
DISABLED: Final = "disabled in config"
"""The error of a disabled server, in the JSON."""

_TYPES: Final = {HttpServer.type: "http"}
"""Our name of a type, and the one that the users of this output know."""
_ICONS: Final = {Status.OK: "✅", Status.FAILED: "❌", Status.DISABLED: "⏸️"}
_WORDS: Final = {Status.OK: "Connected", Status.FAILED: "Failed", Status.DISABLED: "Disabled"}
_COUNTS: Final = {Status.OK: "Healthy", Status.FAILED: "Failed", Status.DISABLED: "Disabled"}
_PLAIN: Final = str.maketrans({"📡": "#", "📊": "#", "✅": "+", "❌": "x", "⏸": "-", "\ufe0f": None, "•": "*"})

_COLOURS: Final = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "cyan": 36}
_STATUS_COLOURS: Final = {Status.OK: "green", Status.FAILED: "red", Status.DISABLED: "yellow"}


@attrs.frozen
class Entry:
    """A server as an upstream shows it; nothing of it is secret."""

    name: str
    type: str
    url: str
    command: str
    args: tuple[str, ...]
    finding: Finding


@attrs.frozen
class Group:
    """An upstream, and what was found out about its servers, in the configuration's order."""

    name: str
    endpoint: str
    """With ``***`` for secrets."""
    enabled: bool
    entries: tuple[Entry, ...]


@attrs.frozen
class Report:
    """What was found out about a configuration that has upstreams."""

    groups: tuple[Group, ...]
    others: tuple[Entry, ...]
    """Servers that no upstream shows, which a configuration of dlmufei/mcp-gateway cannot have."""

    def entries(self) -> Iterator[Entry]:
        """All that is told: a server that two upstreams show is told twice."""
        for group in self.groups:
            yield from group.entries
        yield from self.others

    def counts(self) -> Counter[Status]:
        return Counter(entry.finding.status for entry in self.entries())

    def total(self) -> int:
        """The servers that are not disabled."""
        counts = self.counts()
        return counts.total() - counts[Status.DISABLED]

    def tools(self) -> int:
        return sum(len(entry.finding.tools) for entry in self.entries())


# ---- who shows what --------------------------------------------------------------------------------------------------


def grouped(config: Config, findings: Collection[Finding]) -> Report:
    """What was found out about the servers of a configuration, by the upstreams that show them."""
    found = {finding.name: _entry(config.servers[finding.name], finding) for finding in findings}
    groups = tuple(
        Group(
            upstream.name,
            masked_endpoint(upstream.endpoint.reveal()),
            upstream.enabled,
            tuple(found[name] for name in _shown(config, upstream)),
        )
        for upstream in config.upstreams
    )
    shown = {name for upstream in config.upstreams for name in _shown(config, upstream)}
    return Report(groups, tuple(found[name] for name in config.servers if name not in shown))


def _shown(config: Config, upstream: UpstreamConfig) -> tuple[str, ...]:
    """The servers that an upstream sees or would see, were they enabled."""
    if upstream.namespace in config.namespaces:
        return config.namespaces[upstream.namespace].servers
    return (upstream.namespace,) if upstream.namespace else tuple(config.servers)


def _entry(server: ServerConfig, finding: Finding) -> Entry:
    shown = partial(without, secrets_of(server))
    url, command, args = "", "", list[str]()
    match server:
        case HttpServer() | WebSocketServer():
            url = shown(masked_url(server.url))
        case StdioServer():
            command, *args = map(shown, masked_arguments([server.command, *server.args]))
    type = _TYPES.get(server.type, server.type)
    return Entry(server.title or server.name, type, url, command, tuple(args), finding)


# ---- JSON ------------------------------------------------------------------------------------------------------------


def as_json(report: Report) -> str:
    """As Go's encoder prints it, without the line break at its end: members that are empty are left out.

    Servers that no upstream shows are ``otherServers``, which is only there if there are any.
    """
    counts = report.counts()
    members = {
        "upstreams": [_group_members(group) for group in report.groups],
        "totalServers": report.total(),
        "healthyCount": counts[Status.OK],
        "failedCount": counts[Status.FAILED],
        "disabledCount": counts[Status.DISABLED],
        "totalTools": report.tools(),
        **_given(otherServers=[_members(entry) for entry in report.others]),
    }
    return _GO_ESCAPED.sub(_go_escape, json.dumps(members, indent=2, ensure_ascii=False))


def _group_members(group: Group) -> dict[str, object]:
    return {
        "name": group.name,
        "endpoint": group.endpoint,
        "mcpServers": [_members(entry) for entry in group.entries],
        **_given(disabled=not group.enabled),
    }


def _members(entry: Entry) -> dict[str, object]:
    finding = entry.finding
    tools = [{"name": tool.name, **_given(description=tool.description)} for tool in finding.tools]
    return {
        "name": entry.name,
        "type": entry.type,
        **_given(url=entry.url, command=entry.command, args=entry.args, disabled=finding.status is Status.DISABLED),
        "healthy": finding.status is Status.OK,
        **_given(
            error=_error(finding),
            serverName=finding.server_name,
            serverVersion=finding.server_version,
            tools=tools,
        ),
    }


def _given(**members: object) -> dict[str, object]:
    """Those that are not empty, as Go's ``omitempty`` has it."""
    return {name: value for name, value in members.items() if value}


def _error(finding: Finding) -> str:
    if finding.status is Status.DISABLED:
        return DISABLED
    return f"{finding.stage} failed: {finding.error}" if finding.stage else finding.error or ""


_GO_ESCAPED: Final = re.compile("[<>&\u2028\u2029\ud800-\udfff]")


def _go_escape(found: re.Match[str]) -> str:
    """What Go escapes beside what JSON demands: it may stand in HTML. Half a character becomes U+FFFD."""
    character = found[0]
    return "\\ufffd" if character >= "\ud800" else f"\\u{ord(character):04x}"


# ---- text ------------------------------------------------------------------------------------------------------------


def as_text(report: Report, *, colour: bool, plain: bool = False) -> str:
    """For people, without the line break at its end; servers sorted by name within each upstream.

    ``plain`` is for where its ornaments cannot be shown.
    """
    paint = _paint if colour else _leave
    text = "\n".join(_lines(report, paint))
    return text.translate(_PLAIN) if plain else text


def _lines(report: Report, paint: Paint) -> Iterator[str]:
    rule = paint("=" * WIDTH, "cyan")
    title = "MCP Gateway Configuration Check"
    margin = " " * ((WIDTH - len(title)) // 2)
    yield from ("", rule, f"{margin}{paint(title, 'bold')}{margin}", rule, "")
    for group in report.groups:
        yield f"📡 Upstream: {paint(flat(group.name), 'cyan')}"
        yield f"   Endpoint: {flat(group.endpoint)}"
        if not group.enabled:
            yield f"   Status: {paint('Disabled', 'yellow')}"
        yield ""
        yield from _entries(group.entries, paint)
    if report.others:
        yield from ("📡 No upstream", "")
        yield from _entries(report.others, paint)
    yield from _summary(report, paint)


def _entries(entries: tuple[Entry, ...], paint: Paint) -> Iterator[str]:
    for entry in sorted(entries, key=lambda entry: entry.name):
        yield from _entry_lines(entry, paint)
        yield ""


def _entry_lines(entry: Entry, paint: Paint) -> Iterator[str]:
    finding = entry.finding
    status = finding.status
    yield f"   {_ICONS[status]} [{paint(flat(entry.name), 'bold')}] ({entry.type})"
    if entry.url:
        yield f"      URL: {flat(entry.url)}"
    if entry.command:
        yield f"      Command: {flat(' '.join((entry.command, *entry.args)))}"
    yield f"      Status: {paint(_WORDS[status], _STATUS_COLOURS[status])}"
    if status is Status.FAILED:
        yield f"      Error: {paint(flat(_error(finding)), 'red')}"
    if status is Status.OK:
        version = f" v{finding.server_version}" if finding.server_version else ""
        yield f"      Server: {flat(f'{finding.server_name or NOTHING}{version}')}"
        yield f"      Tools ({len(finding.tools)}):"
        for tool in finding.tools:
            yield f"        • {_padded(flat(tool.name))} {paint(_described(tool.description), 'dim')}"


def _padded(name: str) -> str:
    return name + " " * (NAME_WIDTH - cell_len(name))


def _described(description: str) -> str:
    text = flat(description) or NOTHING
    return text if len(text) <= LONGEST_DESCRIPTION else f"{text[:LONGEST_DESCRIPTION]}..."


def _summary(report: Report, paint: Paint) -> Iterator[str]:
    rule = paint("-" * WIDTH, "cyan")
    yield from (rule, paint("📊 Summary", "bold"), rule)
    yield f"   Total Upstreams:    {len(report.groups)}"
    yield f"   Total MCP Servers:  {report.total()}"
    counts = report.counts()
    for status, what in _COUNTS.items():
        if counts[status]:
            yield f"     • {what + ':':<15} {paint(str(counts[status]), _STATUS_COLOURS[status])}"
    yield f"   Total Tools:        {report.tools()}"
    yield from (paint("=" * WIDTH, "cyan"), "")


def _paint(text: str, colour: str) -> str:
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def _leave(text: str, _: str) -> str:
    return text
