"""Foreign shapes of configuration, recognised and translated into canonical keys. Pure.

A dialect only translates: it moves nodes under other keys, and each node keeps the line and the address that it has in
the file. Recognition is by shape; a file with the marks of two dialects is refused, naming both.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator

import attrs

from mcpgateway.config.document import Invalid, Node, Problem, legible, show
from mcpgateway.config.model import Config

UNSUPPORTED = frozenset({"auth", "rate_limit", "database", "deploy"})
"""Canonical sections that are designed but not built."""

_SHARED = frozenset({"upstreams", "namespaces", "logging", "metrics", "auth", "rate_limit", "database"})
"""Sections whose names the source systems have too."""

_CANONICAL = ({field.name for field in attrs.fields(Config)} | UNSUPPORTED) - {"source"}


class Dialect(enum.Enum):
    """Whose shape a file has; the values are for messages."""

    CANONICAL = "this gateway"
    DESKTOP = "desktop clients"
    BRIDGE = "dlmufei/mcp-gateway"
    NAMESPACES = "fakoli/mcp-gateway"
    POOLED = "lpreterite/mcp-gateway"
    DEPLOYING = "lucky-aeon/mcp-gateway"


@attrs.frozen
class Translation:
    """A document in canonical keys, and what is worth saying about the original."""

    root: Node
    problems: list[Problem] = attrs.field(factory=list)
    warnings: list[Problem] = attrs.field(factory=list)


def translate(root: Node) -> Translation:
    """Bring a document into canonical keys.

    :raises Invalid: not a mapping, a mix of dialects, or one that this version does not read
    """
    if root.value is None:
        return Translation(attrs.evolve(root, value={}))
    if not isinstance(root.value, dict):
        raise Invalid(Problem("a configuration is a mapping of sections such as 'servers'", line=root.line))
    match detect(root):
        case Dialect.CANONICAL, _:
            return Translation(root)
        case Dialect.DESKTOP, _:
            return _Desktop().translate(root)
        case dialect, mark:
            text = f"this is a configuration of {dialect.value}; not supported by this version yet"
            raise Invalid(Problem(text, mark.at, mark.line))


# ---- recognition -----------------------------------------------------------------------------------------------------


def detect(root: Node) -> tuple[Dialect, Node]:
    """The dialect of a document, and the node that gives it away.

    :raises Invalid: the document has the marks of two
    """
    found = [(dialect, mark) for dialect, marks in _MARKS.items() for mark in list(marks(root))[:1]]
    if len(found) > 1:
        (one, first), (other, second) = found[:2]
        text = f"mixes {show(first.at)!r} ({one.value}) with {show(second.at)!r} ({other.value}): use one of them"
        raise Invalid(Problem(text, line=second.line))
    return found[0] if found else (Dialect.CANONICAL, root)


def _bridge(root: Node) -> Iterator[Node]:
    yield from _at(root, "upstream")
    for upstreams in _at(root, "upstreams"):
        for upstream in upstreams.items:
            yield from _at(upstream, "mcpServers")


def _namespaces(root: Node) -> Iterator[Node]:
    yield from (node for node in _at(root, "server") if {"host", "port"} & set(node.entries))
    for namespaces in _at(root, "namespaces"):
        for namespace in namespaces.entries.values():
            yield from _at(namespace, "url")


def _pooled(root: Node) -> Iterator[Node]:
    yield from (node for node in _at(root, "servers") if isinstance(node.value, list))


def _deploying(root: Node) -> Iterator[Node]:
    for key, node in root.entries.items():
        if re.match(r"[A-Z][a-z]", key) and key.lower() not in _CANONICAL:
            yield node
    if all(key not in _CANONICAL and {"command", "url"} & set(node.entries) for key, node in root.entries.items()):
        yield from root.entries.values()


def _desktop(root: Node) -> Iterator[Node]:
    if "upstream" not in root.entries:  # the first generation of the bridge has both
        yield from _at(root, "mcpServers")


def _canonical(root: Node) -> Iterator[Node]:
    own = _CANONICAL if list(_desktop(root)) else _CANONICAL - _SHARED
    for key in sorted(own, key=lambda key: (key != "servers", key)):
        yield from (node for node in _at(root, key) if not (key == "servers" and isinstance(node.value, list)))


def _at(node: Node, key: str) -> Iterator[Node]:
    if key in node.entries:
        yield node.entries[key]


_MARKS: dict[Dialect, Callable[[Node], Iterator[Node]]] = {
    Dialect.BRIDGE: _bridge,
    Dialect.NAMESPACES: _namespaces,
    Dialect.POOLED: _pooled,
    Dialect.DEPLOYING: _deploying,
    Dialect.DESKTOP: _desktop,
    Dialect.CANONICAL: _canonical,
}


# ---- desktop clients -------------------------------------------------------------------------------------------------

_KEYS = {
    **{key: key for key in ("command", "args", "env", "cwd", "url", "headers", "type", "enabled", "description")},
    "transport": "type",
    "transportType": "type",
    "serverUrl": "url",
    "httpUrl": "url",
    "disabled": "enabled",
    "timeout": "timeout",
}
"""A key of a desktop client's server, and the canonical one that it becomes."""

_ENV_REFERENCE = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")


class _Desktop:
    """``{"mcpServers": {name: {…}}}`` as Claude Desktop, Cursor, VS Code and their kin write it.

    What only concerns the client (``autoApprove``, window settings) is left out, with a warning.
    """

    def __init__(self) -> None:
        self._problems: list[Problem] = []
        self._warnings: list[Problem] = []

    def translate(self, root: Node) -> Translation:
        for key, node in root.entries.items():
            if key != "mcpServers":
                self._ignored(key, root, node)
        declared = root.entries["mcpServers"]
        servers = declared
        if isinstance(declared.value, dict):
            entries = {name: self._server(server) for name, server in declared.value.items()}
            servers = attrs.evolve(declared, value=entries)
        return Translation(attrs.evolve(root, value={"servers": servers}), self._problems, self._warnings)

    def _server(self, server: Node) -> Node:
        if not isinstance(server.value, dict):
            return server
        entries: dict[str, Node] = {}
        for key, node in server.value.items():
            canonical = _KEYS.get(key)
            if canonical is None:
                self._ignored(key, server, node)
            elif key == "timeout" and not isinstance(node.value, str):
                text = 'ignored: clients disagree about its unit; write it as text such as "30s"'
                self._warnings.append(Problem(text, node.at, node.line))
            else:
                translated = _translated(key, node)
                first = entries.setdefault(canonical, translated)
                if first.value != translated.value:
                    text = f"{first.at[-1]!r} and {key!r} contradict each other"
                    self._problems.append(Problem(text, server.at, node.line))
        return attrs.evolve(server, value=entries)

    def _ignored(self, key: str, parent: Node, node: Node) -> None:
        self._warnings.append(
            Problem(f"key {legible(key)!r} is ignored: it is a matter of the client", parent.at, node.line)
        )


def _translated(key: str, node: Node) -> Node:
    if key == "disabled" and isinstance(node.value, bool):
        return attrs.evolve(node, value=not node.value)
    return _with_references(node)


def _with_references(node: Node) -> Node:
    """``${env:VAR}``, as VS Code and Cursor write it, becomes ``${VAR}``."""
    match node.value:
        case str(text):
            return attrs.evolve(node, value=_ENV_REFERENCE.sub(r"${\1}", text))
        case list(items):
            return attrs.evolve(node, value=[_with_references(item) for item in items])
        case dict(entries):
            return attrs.evolve(node, value={key: _with_references(entry) for key, entry in entries.items()})
        case _:
            return node
