"""The parts of a file of dlmufei/mcp-gateway below an upstream, each in canonical keys.

A number as a duration is whole seconds. Zero and less, with which that program dialled in a busy loop or never pinged,
count as the documented default.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

import attrs

from mcpgateway import durations
from mcpgateway.config.dialects.go import fields, quoted, strings, text
from mcpgateway.config.dialects.translation import Notes
from mcpgateway.config.document import Expanded, Node, kind, plain, shown
from mcpgateway.config.model import Isolation, Keepalive, Reconnect, ServerConfig

PASSED = (
    "enabled",
    "headers",
    "tls",
    "connect_timeout",
    "call_deadline",
    "on_tools_changed",
    "message_bytes",
    "reply_bytes",
)
"""Keys of an upstream that are ours, and may stand in its file."""

_PASSED_PAUSES = ("stable", "refused")
_SECONDS = ("connect_timeout", "call_deadline", *_PASSED_PAUSES)
_LONGEST = 2**63 // 1_000_000_000

_SERVER = ("name", "type", "command", "args", "url", "headers", "env", "timeout", "disabled", "description", "shared")
_TYPES = {"stdio": "stdio", "http": "streamable-http", "streamablehttp": "streamable-http", "sse": "sse"}
_KEYS = {"stdio": ("command", "args", "env"), "streamable-http": ("url", "headers"), "sse": ("url", "headers")}
_TIMEOUTS = {"stdio": 30.0, "streamable-http": 120.0, "sse": 120.0}
"""Seconds for a call where the file says nothing."""

_CAP = ServerConfig("").max_timeout

LEVELS = "debug, info, warn, error"
_LEVELS = {"debug": "debug", "info": "info", "warn": "warning", "warning": "warning", "error": "error"}
_PORT = 9090


def known_fields(node: Node, known: tuple[str, ...], notes: Notes) -> dict[str, Node]:
    """The fields that an object sets; what it has beside them is ignored with a warning."""
    if not isinstance(node.value, dict | None):
        notes.wrong(f"expected a mapping, got {kind(node.value)}", node)
    found, others = fields(node, known)
    for key, value in others:
        notes.ignored(key, value, [name for name in known if name not in found])
    return found


def passed(found: Mapping[str, Node], keys: tuple[str, ...], notes: Notes) -> dict[str, Node]:
    """Keys of ours as they are, but for the unit of numbers."""
    entries = {}
    for key in keys:
        if key in found:
            seconds = _seconds(found[key], notes) if key in _SECONDS else None
            entries[key] = found[key] if seconds is None else _duration(seconds, found[key])
    return entries


def string(found: Mapping[str, Node], key: str, notes: Notes) -> str | None:
    """A field that is text; empty where it is not set, ``None`` with a complaint where it is something else."""
    if key not in found:
        return ""
    value = found[key].value
    if isinstance(value, str):
        return text(value)
    notes.wrong(f"expected a string, got {kind(value)}", found[key])
    return None


# ---- servers ---------------------------------------------------------------------------------------------------------


@attrs.frozen
class Server:
    """A server in canonical keys; without any where it could not run."""

    entries: Mapping[str, Node]
    disabled: bool
    shared: bool

    def alike(self, other: Server) -> bool:
        """Whether one process or session may serve the clients of both."""
        return self._reached() == other._reached()

    def _reached(self) -> dict[str, object]:
        return {key: plain(node) for key, node in self.entries.items() if key != "description"}


def server(node: Node, subject: str, notes: Notes) -> Server:
    """One server. ``subject`` is how messages about it begin. A disabled one need not be able to run."""
    found = known_fields(node, _SERVER, notes)
    disabled = "disabled" in found and found["disabled"].value is True
    shared = "shared" in found and found["shared"].value is True
    if "shared" in found and not isinstance(found["shared"].value, bool):
        notes.wrong(f"expected true or false, got {kind(found['shared'].value)}", found["shared"])
    type = string(found, "type", notes)
    is_one = isinstance(node.value, dict | None)
    if not is_one or type is None:
        return Server({}, disabled, shared)
    problem = "" if disabled else _lacks(type, found, notes)
    if problem:
        notes.wrong(f"{subject}: {problem}", attrs.evolve(node, at=()))
        return Server({}, disabled, shared)
    meant = _TYPES.get(type) or _TYPES["stdio" if "command" in found else "http"]
    return Server(_server(meant, found, node, notes), disabled, shared)


def _lacks(type: str, found: Mapping[str, Node], notes: Notes) -> str:
    """Why a server cannot run, in the words of the program."""
    if not type:
        return "type is required"
    if type not in _TYPES:
        written = found["type"].value
        return f"unsupported type {quoted(written.written if isinstance(written, Expanded) else type)}"
    needed = "command" if type == "stdio" else "url"
    return f"{needed} is required for {type} type" if string(found, needed, notes) == "" else ""


def _server(type: str, found: Mapping[str, Node], node: Node, notes: Notes) -> dict[str, Node]:
    """A server of one of our types in canonical keys."""
    source = found.get("type", node)
    entries = {"type": Node(type, source.at, source.line)}
    for key in _KEYS[type]:
        if key in found:
            entries[key] = strings(found[key])
    entries.setdefault(_KEYS[type][0], Node("", node.at, node.line))  # where it is disabled
    for key in {"command", "args", "env", "url", "headers"} & found.keys() - set(_KEYS[type]):
        notes.odd(f"is ignored: a server of type {type} has none", found[key])
    if "url" in entries:
        _take_credentials(entries)
    seconds = _more_than_none(found, "timeout", _TIMEOUTS[type], notes) or _TIMEOUTS[type]
    source = found.get("timeout", node)
    entries["timeout"] = _duration(seconds, source)
    if seconds > _CAP:
        entries["max_timeout"] = _duration(seconds, source)
    if "disabled" in found:
        value = found["disabled"].value
        entries["enabled"] = attrs.evolve(found["disabled"], value=not value if isinstance(value, bool) else value)
    if "description" in found:
        entries["description"] = found["description"]
    if type == "stdio":  # one process for all, whatever the cloud says that it could be asked
        entries["isolation"] = Node(Isolation.SHARED.value, node.at, node.line)
    return entries


def _take_credentials(entries: dict[str, Node]) -> None:
    """User and password of a URL become the header that Go made of them; one of the file wins."""
    node = entries["url"]
    try:
        url = urlsplit(str(node.value))
        host = url.netloc.rpartition("@")[2]
    except ValueError:
        return  # what is wrong with it is found where it is checked
    if url.username is None:
        return
    entries["url"] = attrs.evolve(node, value=url._replace(netloc=host).geturl())
    headers = entries.get("headers", Node({}, node.at, node.line))
    if isinstance(headers.value, dict) and "authorization" not in map(str.lower, headers.value):
        pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
        basic = "Basic " + base64.b64encode(pair.encode()).decode()
        entries["headers"] = attrs.evolve(
            headers, value={**headers.value, "Authorization": Node(basic, node.at, node.line)}
        )


# ---- how an upstream is dialled --------------------------------------------------------------------------------------


def reconnect(node: Node, notes: Notes) -> Node:
    """The pauses between attempts; what is not given is as documented, whatever else is."""
    if not isinstance(node.value, dict):
        return node
    known = ("enabled", "initialBackoff", "maxBackoff", "multiplier", *_PASSED_PAUSES)
    found = known_fields(node, known, notes)
    entries = passed(found, ("enabled", *_PASSED_PAUSES), notes)
    defaults = Reconnect()
    initial = _more_than_none(found, "initialBackoff", defaults.initial, notes)
    maximum = _more_than_none(found, "maxBackoff", defaults.maximum, notes)
    if (initial or defaults.initial) > (maximum or defaults.maximum):
        source = found["maxBackoff" if maximum is not None else "initialBackoff"]
        notes.odd("'maxBackoff' is shorter than 'initialBackoff', which counts for both", source)
        maximum = initial or defaults.initial
    for key, name, seconds in (("initialBackoff", "initial", initial), ("maxBackoff", "maximum", maximum)):
        if seconds is not None:
            entries[name] = _duration(seconds, found.get(key, node))
    if "multiplier" in found:
        multiplier = found["multiplier"]
        if isinstance(multiplier.value, bool) or not isinstance(multiplier.value, int | float) or multiplier.value >= 1:
            entries["multiplier"] = multiplier
        else:
            notes.odd(f"must be 1 or more: {defaults.multiplier:g} counts instead", multiplier)
    return Node(entries, node.at, node.line)


def keepalive(node: Node, notes: Notes) -> Node:
    """The pings."""
    if not isinstance(node.value, dict):
        return node
    found, defaults = known_fields(node, ("interval", "timeout"), notes), Keepalive()
    entries = {}
    for key in "interval", "timeout":
        seconds = _more_than_none(found, key, getattr(defaults, key), notes)
        if seconds is not None:
            entries[key] = _duration(seconds, found[key])
    return Node(entries, node.at, node.line)


# ---- logs and figures ------------------------------------------------------------------------------------------------


def log_level(name: str) -> str | None:
    """Our name of a level, or ``None`` for none."""
    return _LEVELS.get(name.lower())


def logging(node: Node, level: str, notes: Notes) -> Node:
    """How it logs; ``level`` is what the environment says, which wins over the file."""
    if not isinstance(node.value, dict):
        return node
    found = known_fields(node, ("level", "format", "verbose"), notes)
    if level:
        found["level"] = Node(level, node.at, node.line)
    entries = {"verbose": found["verbose"]} if "verbose" in found else {}
    chosen = string(found, "level", notes)
    if chosen and (known := log_level(chosen)):
        entries["level"] = attrs.evolve(found["level"], value=known)
    elif chosen:
        notes.odd(f"{'MCP_LOG_LEVEL ' if level else ''}must be one of {LEVELS}: info counts instead", found["level"])
    chosen = string(found, "format", notes)
    if chosen and chosen.lower() in ("text", "json"):
        entries["format"] = attrs.evolve(found["format"], value=chosen.lower())
    elif chosen:
        notes.odd("must be text or json: text counts instead", found["format"])
    return Node(entries, node.at, node.line)


def metrics(node: Node, notes: Notes) -> Node:
    """The listener for figures, which that program had keys for and never opened."""
    if not isinstance(node.value, dict):
        return node
    found = known_fields(node, ("enabled", "port"), notes)
    port = found.get("port", Node(_PORT, node.at, node.line))
    if type(port.value) is int and not 0 <= port.value <= 65535:
        notes.odd(f"must be 0 (any free port) to 65535: {_PORT} counts instead", port)
        port = attrs.evolve(port, value=_PORT)
    entries = {"enabled": found["enabled"]} if "enabled" in found else {}
    return Node({**entries, "port": port}, node.at, node.line)


# ---- durations -------------------------------------------------------------------------------------------------------


def _more_than_none(found: Mapping[str, Node], key: str, default: float, notes: Notes) -> float | None:
    """The seconds that a field sets; ``None`` where the default counts."""
    if key not in found:
        return None
    seconds = _seconds(found[key], notes)
    if seconds is None or seconds > 0:
        return seconds
    notes.odd(f"must be more than 0s: {durations.format(default)} counts instead", found[key])
    return None


def _seconds(node: Node, notes: Notes) -> float | None:
    """Seconds of a duration, or ``None`` for none, which is complained about."""
    match node.value:
        case bool():
            pass
        case int() | float() as number:
            if number != int(number):
                notes.odd("is a whole number of seconds: its fraction does not count", node)
            return float(max(-_LONGEST, min(int(number), _LONGEST)))
        case str(written):
            try:
                return durations.parse_go(written)
            except ValueError as problem:
                notes.wrong(f"{problem}, got {shown(written)}", node)
                return None
    notes.wrong(f'expected a duration such as "30s", got {shown(node.value)}', node)
    return None


def _duration(seconds: float, source: Node) -> Node:
    return Node(durations.format(seconds), source.at, source.line)
