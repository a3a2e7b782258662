"""``${VAR}``, ``${VAR:-default}`` and ``$$`` in string values, after parsing. Pure.

What a variable holds is taken as it is: quotes, backslashes and further ``$`` in it mean nothing, and nothing nests.
A ``$`` followed by anything else stays. The default serves an unset and an empty variable alike, as in a shell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import attrs

from mcpgateway.config.document import Expanded, Node, Problem

_REFERENCE = re.compile(r"\$(?:\$|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\})")
_LENIENT = re.compile(r"\$\$|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")
_LENIENT_BARE = re.compile(rf"{_LENIENT.pattern}|\$(?P<bare>[A-Za-z_][A-Za-z0-9_]*)")

_UNQUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\$\{(?P<braced>\w+)\}|\$(?P<bare>\w+)', re.ASCII)


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


def expand_leniently(text: str, env: Mapping[str, str], *, bare: bool) -> tuple[str, list[str]]:
    """The text with ``${VAR}`` and ``${VAR:-default}`` filled in, with ``bare`` also ``$VAR``; and what is odd.

    A variable that is not set is empty. Every other ``$`` stays, a second one too. What is said of a bare ``$VAR`` does
    not show its name: it may be part of a password.
    """
    odd: list[str] = []

    def value(match: re.Match[str]) -> str:
        groups = match.groupdict()
        name, default = groups["name"] or groups.get("bare"), groups["default"]
        if name is None:
            return match[0]
        if name not in env and default is None:
            subject = f"the environment variable {name}" if groups["name"] else "the variable that follows a '$'"
            odd.append(f"{subject} is not set: it counts as empty")
        return env.get(name) or default or ""

    return (_LENIENT_BARE if bare else _LENIENT).sub(value, text), list(dict.fromkeys(odd))


def expand_unquoted(text: str, env: Mapping[str, str]) -> str:
    """The text of a JSON document with ``${VAR}`` and ``$VAR`` filled in where they stand outside of strings."""
    return _UNQUOTED.sub(lambda found: env.get(found["braced"] or found["bare"] or "", found[0]), text)


# ---- documents -------------------------------------------------------------------------------------------------------


def expand_all(node: Node, env: Mapping[str, str]) -> tuple[Node, list[Problem]]:
    """Every string value of a document expanded; a string that cannot be stays as it is, with a problem."""
    problems: list[Problem] = []

    def expanded(node: Node, text: str) -> str:
        try:
            return Expanded(expand(text, env), text)
        except Unset as error:
            problems.extend(Problem(_unset(name), node.at, node.line) for name in error.names)
            return text

    return _visit(node, expanded), problems


def expand_all_leniently(node: Node, env: Mapping[str, str], *, bare: bool) -> tuple[Node, list[Problem]]:
    """Every string value of a document expanded as by `expand_leniently`, and what is odd."""
    warnings: list[Problem] = []

    def expanded(node: Node, text: str) -> str:
        filled, odd = expand_leniently(text, env, bare=bare)
        warnings.extend(Problem(each, node.at, node.line) for each in odd)
        return text if filled == text else Expanded(filled, text)

    return _visit(node, expanded), warnings


def _visit(node: Node, expanded: Callable[[Node, str], str]) -> Node:
    match node.value:
        case dict(entries):
            again = tuple((key, _visit(entry, expanded)) for key, entry in node.repeated)
            inner = {key: _visit(entry, expanded) for key, entry in entries.items()}
            return attrs.evolve(node, value=inner, repeated=again)
        case list(items):
            return attrs.evolve(node, value=[_visit(item, expanded) for item in items])
        case str(text) if "$" in text:
            return attrs.evolve(node, value=expanded(node, text))
        case _:
            return node


def _unset(name: str) -> str:
    return f"the environment variable {name} is not set (set it, or give a default: ${{{name}:-…}})"
