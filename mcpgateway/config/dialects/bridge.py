"""The files of dlmufei/mcp-gateway: upstreams with servers of their own each.

Every upstream's ``mcpServers`` become servers, and a namespace of raw names for the upstream. A server keeps its name;
where an earlier upstream has one of that name, it is ``{upstream}.{server}``, so that an upstream more renames nothing.
Servers of several upstreams that are configured alike and say ``shared: true`` are one.

The first generation has one ``upstream`` without a name, and ``mcpServers`` beside it. Its program filled in no
variables, so there only ``${VAR}`` is one, and ``MCP_ENDPOINT`` wins over the file.

What that program took, whatever it made of it, loads here: keys that it did not know are ignored with a warning, and
values that made no sense count as their documented defaults. What it refused is refused in its words.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping

import attrs

from mcpgateway.config import names
from mcpgateway.config.dialects import bridge_parts as parts
from mcpgateway.config.dialects.go import fields, items, quoted, text
from mcpgateway.config.dialects.shapes import Dialect
from mcpgateway.config.dialects.translation import Notes, Translation
from mcpgateway.config.document import Expanded, Node, kind, legible
from mcpgateway.config.expansion import expand_all_leniently

ALONE = "default"
"""What the upstream is called that has no name: that of the first generation, and that of ``MCP_ENDPOINT``."""

_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_SECTIONS = ("upstreams", "logging", "metrics")
_FIRST_SECTIONS = ("upstream", "mcpServers", "logging", "metrics")
_UPSTREAM = ("name", "endpoint", "reconnect", "keepalive", "mcpServers", *parts.PASSED)


class Bridge:
    """One translation. ``env`` is where variables come from; ``None`` leaves strings as they are."""

    def __init__(self, env: Mapping[str, str] | None) -> None:
        self._env = env
        self._notes = Notes()
        self._upstreams: dict[str, Node] = {}
        self._namespaces: dict[str, Node] = {}
        self._servers: dict[str, Node] = {}
        self._shared: dict[str, parts.Server] = {}
        """Servers that may be, by the names that they have here."""

    def translate(self, root: Node) -> Translation:
        first = "upstreams" not in fields(root, ("upstreams",))[0]
        if self._env is not None:
            root, unset = expand_all_leniently(root, self._env, bare=not first)
            self._notes.warnings.extend(unset)
        sections = self._fields(root, _FIRST_SECTIONS if first else _SECTIONS)
        if first:
            self._first(sections, root)
        else:
            self._second(sections["upstreams"])
        entries = {
            "upstreams": Node(list(self._upstreams.values()), root.at, root.line),
            "servers": Node(self._servers, root.at, root.line),
            "namespaces": Node(self._namespaces, root.at, root.line),
        }
        level = (self._env or {}).get("MCP_LOG_LEVEL", "")
        if level or "logging" in sections:
            entries["logging"] = parts.logging(
                sections.get("logging", Node({}, root.at, root.line)), level, self._notes
            )
        if "metrics" in sections:
            entries["metrics"] = parts.metrics(sections["metrics"], self._notes)
        root = Node(entries, root.at, root.line)
        notes = self._notes
        return Translation(root, Dialect.BRIDGE, notes.problems, notes.warnings, expanded=True, lenient=True)

    # ---- upstreams ---------------------------------------------------------------------------------------------------

    def _first(self, sections: Mapping[str, Node], root: Node) -> None:
        node = sections.get("upstream", Node({}, root.at, root.line))
        found = self._fields(node, ("endpoint", "reconnect", "keepalive", *parts.PASSED))
        endpoint = (self._env or {}).get("MCP_ENDPOINT")
        if endpoint:
            found["endpoint"] = Node(endpoint, node.at, node.line)
        if self._lacks(found, "endpoint"):
            self._notes.wrong("upstream endpoint is required (set MCP_ENDPOINT)", _root(node))
        self._upstream(ALONE, found, sections.get("mcpServers"), node, subject="")

    def _second(self, declared: Node) -> None:
        if not isinstance(declared.value, list):
            self._notes.wrong(f"expected a list, got {kind(declared.value)}", declared)
        elif not declared.items:
            self._notes.wrong("at least one upstream is required", _root(declared))
        for index, node in enumerate(declared.items):
            found = self._fields(node, _UPSTREAM)
            if not isinstance(node.value, dict | None):
                continue
            name, subject = parts.string(found, "name", self._notes), f"upstream[{index}]"
            if name == "":
                self._notes.wrong(f"{subject}: name is required", _root(node))
            if self._lacks(found, "endpoint"):
                called = f"{subject} {_shown(name)}" if name else subject
                self._notes.wrong(f"{called}: endpoint is required{_why_empty(found)}", _root(node))
            called = f"upstream {_shown(name)}" if name else subject
            name = self._called(name or subject, found.get("name", node))
            self._upstream(name, found, found.get("mcpServers"), node, called)

    def _called(self, name: str, node: Node) -> str:
        """What an upstream is called here: its name, if nobody else has it and logs may show it."""
        shown = name
        if problem := names.upstream_problem(name):
            shown = names.legal(name, "upstream")
            self._notes.odd(f"this upstream is called {shown!r} here: its name {problem}", node)
        called = names.unique(shown, self._upstreams)
        if called != shown:
            self._notes.odd(f"there is another upstream {shown!r}: this one is called {called!r} here", node)
        return called

    def _upstream(self, name: str, found: Mapping[str, Node], servers: Node | None, node: Node, subject: str) -> None:
        namespace = names.unique(names.legal(name, "upstream"), self._namespaces)
        listed = [Node(each, node.at, node.line) for each in self._served(name, servers, node, subject)]
        naming = Node({"mode": Node("raw", node.at, node.line)}, node.at, node.line)
        view = {"servers": Node(listed, node.at, node.line), "naming": naming}
        self._namespaces[namespace] = Node(view, node.at, node.line)
        entries = {
            "name": attrs.evolve(found.get("name", node), value=name),
            "namespace": Node(namespace, node.at, node.line),
            "endpoint": found.get("endpoint", Node("", node.at, node.line)),
        }
        entries |= parts.passed(found, parts.PASSED, self._notes)
        if "reconnect" in found:
            entries["reconnect"] = parts.reconnect(found["reconnect"], self._notes)
        if "keepalive" in found:
            entries["keepalive"] = parts.keepalive(found["keepalive"], self._notes)
        self._upstreams[name] = Node(entries, node.at, node.line)

    # ---- servers -----------------------------------------------------------------------------------------------------

    def _served(self, upstream: str, declared: Node | None, node: Node, subject: str) -> Iterator[str]:
        """Take the servers of an upstream, and tell their names."""
        if declared is not None and not isinstance(declared.value, dict):
            self._notes.wrong(f"expected a mapping, got {kind(declared.value)}", declared)
            return
        found = {} if declared is None else items(declared)
        active, served = 0, set[str]()
        for name, server in found.items():
            whose = f"{subject} server {_shown(name)}" if subject else f"server {_shown(name)}"
            translated = parts.server(server, whose, self._notes)
            active += not translated.disabled
            if translated.entries:
                called = self._alike(translated, served) or self._new(upstream, text(name), translated, server)
                served.add(called)
                yield called
        if not active:
            missing = "at least one enabled MCP server is required"
            self._notes.wrong(f"{subject}: {missing}" if subject else missing, _root(declared or node))

    def _alike(self, server: parts.Server, served: Container[str]) -> str | None:
        """A server of another upstream that is as good, if both may be shared; the upstream has ``served`` already."""
        alike = (called for called, other in self._shared.items() if called not in served and other.alike(server))
        return next(alike, None) if server.shared else None

    def _new(self, upstream: str, name: str, server: parts.Server, node: Node) -> str:
        called = names.legal(name, "server")
        if called in self._servers:
            called = names.legal(f"{names.legal(upstream, 'upstream')}.{called}", "server")
        called = names.unique(called, self._servers)
        if server.shared:
            self._shared[called] = server
        written = Node(legible(name), node.at, node.line)
        titled = {} if called == name else {"title": written, "prefix": written}
        self._servers[called] = Node({**server.entries, **titled}, node.at, node.line)
        return called

    # ---- reading -----------------------------------------------------------------------------------------------------

    def _fields(self, node: Node, known: tuple[str, ...]) -> dict[str, Node]:
        return parts.known_fields(node, known, self._notes)

    def _lacks(self, found: Mapping[str, Node], key: str) -> bool:
        return parts.string(found, key, self._notes) == ""


def _why_empty(found: Mapping[str, Node]) -> str:
    """The variable that an empty endpoint is made of, if it is that alone."""
    value = found["endpoint"].value if "endpoint" in found else None
    variable = _VARIABLE.fullmatch(value.written) if isinstance(value, Expanded) else None
    return f" (the environment variable {variable[1]} is empty or not set)" if variable else ""


def _shown(name: str) -> str:
    return quoted(legible(name))


def _root(node: Node) -> Node:
    """For a message that says itself what it is about."""
    return attrs.evolve(node, at=())
