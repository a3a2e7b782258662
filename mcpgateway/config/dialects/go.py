"""How Go's ``encoding/json`` reads a document into structs, as far as files come to depend on it. Pure.

A key counts in upper or lower case. Of what is given twice the last one counts, and objects are merged. ``null`` leaves
a field as it is. What no struct has is ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator

import attrs

from mcpgateway.config.document import Node

_SURROGATE = re.compile(r"[\ud800-\udfff]")


def members(node: Node) -> Iterator[tuple[str, Node]]:
    """The members of an object as they stand, those given twice last."""
    yield from node.entries.items()
    yield from node.repeated


def fields(node: Node, known: Collection[str]) -> tuple[dict[str, Node], list[tuple[str, Node]]]:
    """The fields of a struct that an object sets, by the names they have there, and its members that are no field."""
    by_fold = {name.lower(): name for name in known}
    found: dict[str, Node] = {}
    others: list[tuple[str, Node]] = []
    for key, value in members(node):
        name = by_fold.get(key.lower())
        if name is None:
            others.append((key, value))
        elif value.value is not None:
            found[name] = _merged(found[name], value) if name in found else value
    return found, others


def items(node: Node) -> dict[str, Node]:
    """The entries of a map from strings, the last one of each key."""
    return dict(members(node))


def strings(node: Node) -> Node:
    """A string, a list of them, or a map to them: ``null`` is an empty one. Anything else is left as it is."""
    match node.value:
        case str():
            return _string(node)
        case list(entries):
            return attrs.evolve(node, value=[_string(entry) for entry in entries])
        case dict():
            return Node({text(key): _string(entry) for key, entry in items(node).items()}, node.at, node.line)
        case _:
            return node


def _string(node: Node) -> Node:
    if node.value is None:
        return attrs.evolve(node, value="")
    if isinstance(node.value, str):
        return attrs.evolve(node, value=text(node.value))
    return node


def text(value: str) -> str:
    """Half a surrogate pair, which no UTF-8 has, becomes the replacement character."""
    return _SURROGATE.sub("\ufffd", value) if _SURROGATE.search(value) else value


def quoted(value: str) -> str:
    """A text as ``%q`` prints it in messages, near enough."""
    return json.dumps(text(value), ensure_ascii=False)


def _merged(first: Node, second: Node) -> Node:
    if not isinstance(first.value, dict) or not isinstance(second.value, dict):
        return second
    return attrs.evolve(second, value=first.value, repeated=(*first.repeated, *members(second)))
