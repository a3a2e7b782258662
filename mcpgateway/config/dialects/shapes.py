"""Whose configuration it is, told by its shape. Pure.

A file with the marks of two dialects is refused, naming both.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator

import attrs

from mcpgateway.config.document import Invalid, Node, Problem, show
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


def detect(root: Node) -> tuple[Dialect, Node]:
    """The dialect of a document, and the node that gives it away.

    :raises Invalid: the document has the marks of two
    """
    found = [(dialect, mark) for dialect, marks in _MARKS.items() for mark in list(marks(root))[:1]]
    if found and found[0][0] is Dialect.BRIDGE:
        found = [found[0], *(each for each in found if each[0] is Dialect.CANONICAL)]
    if len(found) > 1:
        (one, first), (other, second) = found[:2]
        text = f"mixes {show(first.at)!r} ({one.value}) with {show(second.at)!r} ({other.value}): use one of them"
        raise Invalid(Problem(text, line=second.line))
    return found[0] if found else (Dialect.CANONICAL, root)


def _bridge(root: Node) -> Iterator[Node]:
    """Its marks are like no other's, and whatever else there was it ignored, in names also upper and lower case."""
    for upstreams in _folded(root, "upstreams"):
        for upstream in upstreams.items:
            yield from _folded(upstream, "mcpservers")
    yield from _folded(root, "upstream")


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


def _folded(node: Node, key: str) -> Iterator[Node]:
    yield from (entry for name, entry in [*node.entries.items(), *node.repeated] if name.lower() == key)


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
