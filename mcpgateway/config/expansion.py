"""``${VAR}``, ``${VAR:-default}`` and ``$$`` in string values, after parsing. Pure.

What a variable holds is taken as it is: quotes, backslashes and further ``$`` in it mean nothing, and nothing nests.
A ``$`` followed by anything else stays. The default serves an unset and an empty variable alike, as in a shell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

from mcpgateway.config.document import Expanded, Node, Problem

_REFERENCE = re.compile(r"\$(?:\$|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\})")


class Unset(Exception):
    """Variables that a text needs and the environment lacks."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(names)
        self.names = names


def expand(text: str, env: Mapping[str, str]) -> str:
    """The text with its references filled in.

    :raises Unset: for variables without value and default, all of them at once
    """
    unset: list[str] = []

    def value(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        if name is None:
            return "$"
        if default is not None:
            return env.get(name) or default[2:]
        if name not in env:
            unset.append(name)
        return env.get(name, "")

    expanded = _REFERENCE.sub(value, text)
    if unset:
        raise Unset(tuple(dict.fromkeys(unset)))
    return expanded


def expand_all(node: Node, env: Mapping[str, str]) -> tuple[Node, list[Problem]]:
    """Every string value of a document expanded; a string that cannot be stays as it is, with a problem."""
    problems: list[Problem] = []

    def visit(node: Node) -> Node:
        match node.value:
            case dict(entries):
                return attrs.evolve(node, value={key: visit(entry) for key, entry in entries.items()})
            case list(items):
                return attrs.evolve(node, value=[visit(item) for item in items])
            case str(text) if "$" in text:
                return attrs.evolve(node, value=_expanded(text, node))
            case _:
                return node

    def _expanded(text: str, node: Node) -> str:
        try:
            return Expanded(expand(text, env), text)
        except Unset as error:
            problems.extend(Problem(_unset(name), node.at, node.line) for name in error.names)
            return text

    return visit(node), problems


def _unset(name: str) -> str:
    return f"the environment variable {name} is not set (set it, or give a default: ${{{name}:-…}})"
