"""A parsed configuration that remembers where everything stands, and how a problem with it is told.

Every format is read into `Node` values. Dialects move nodes about, and a node keeps the line and the address that it
has in the file, so that messages speak of what was written and not of what it was translated into.
"""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self, TypeAlias

import attrs

from mcpgateway.errors import JSON

Address: TypeAlias = tuple[str | int, ...]
"""The keys and indices that lead to a value."""

_ENDPOINT = re.compile(r"://|token=", re.IGNORECASE)

NAMED = frozenset({"servers", "mcpServers", "namespaces", "env", "headers", "rename"})
"""Keys under which stand names that somebody chose; these are shown in brackets."""


@attrs.frozen
class Node:
    """A value, the address that the file has it under, and the line of its key or item (from 1, where known)."""

    value: str | int | float | bool | list[Node] | dict[str, Node] | None
    at: Address = ()
    line: int | None = None
    repeated: tuple[tuple[str, Node], ...] = ()
    """Further entries of a mapping whose keys it has already; for dialects in which the last one counts."""

    @property
    def entries(self) -> dict[str, Node]:
        """The entries of a mapping; none for anything else."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> list[Node]:
        """The items of a list; none for anything else."""
        return self.value if isinstance(self.value, list) else []


class Expanded(str):
    """Text that came out of ``${…}``. Messages show ``written`` in its place, for it may be a secret."""

    __slots__ = ("written",)
    written: str

    def __new__(cls, text: str, written: str) -> Self:
        self = super().__new__(cls, text)
        self.written = written
        return self


@attrs.frozen
class Problem:
    """Something that is wrong, or odd, at one place of a file."""

    text: str
    at: Address = ()
    line: int | None = None

    def render(self, source: str) -> str:
        place = source if self.line is None else f"{source}:{self.line}"
        return ": ".join(part for part in (place, show(self.at), self.text) if part)


class Invalid(Exception):
    """The configuration cannot even be looked into."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*problems)
        self.problems = problems


class Refused(ValueError):
    """A value that is not what its key takes; ``text`` is for people and shows no secret.

    ``key`` names the entry of the value that is at fault. ``absent`` says that something is lacking, which is no news
    where that very thing was already complained about.
    """

    def __init__(self, text: str, *, key: str | None = None, absent: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.key = key
        self.absent = absent


def unexpected(expected: str, value: object, *, key: str | None = None) -> Refused:
    """The refusal of a value of the wrong kind."""
    return Refused(f"expected {expected}, got {shown(value)}", key=key)


def kind(value: object) -> str:
    """What a value is, without saying which."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case _:
            return f"a {type(value).__name__}"


def shown(value: object) -> str:
    """What a value is, short enough for a message; what came from the environment stays unsaid."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return f"the number {value}"
        case Expanded():
            return f"the value of {value.written!r}"
        case str():
            return repr(value if len(value) <= 40 else value[:39] + "…")
        case _:
            return kind(value)


def show(at: Address) -> str:
    """``servers['db'].args[0]`` for ``("servers", "db", "args", 0)``."""
    text, within = "", ""
    for part in at:
        if within or not isinstance(part, str) or not part.isidentifier():
            text, within = f"{text}[{_name(part, within)!r}]", ""
        else:
            text, within = f"{text}.{part}" if text else part, part if part in NAMED else ""
    return text


def _name(part: str | int, within: str) -> str | int:
    """A header or variable mistyped as ``{"NAME: value"}`` has its value in the key: leave that unsaid."""
    if within not in ("env", "headers") or not isinstance(part, str):
        return legible(part) if isinstance(part, str) else part
    name = re.split(r"[=:\s]", part, maxsplit=1)[0]
    return name if name == part else f"{name}…"


def legible(key: str) -> str:
    """A key or a name as messages show it: an endpoint in its place would be shown with its token."""
    found = _ENDPOINT.search(key)
    return f"{key[: found.end()]}…" if found else key


def plain(node: Node) -> JSON:
    """The bare value, in fresh containers."""
    match node.value:
        case dict(entries):
            return {key: plain(entry) for key, entry in entries.items()}
        case list(items):
            return [plain(item) for item in items]
        case scalar:
            return scalar


def nearest(root: Node, address: Address) -> tuple[Node, Address]:
    """The node at an address, or the innermost one on the way to it; with the rest of the way."""
    node = root
    for depth, part in enumerate(address):
        match node.value, part:
            case dict(entries), str() if part in entries:
                node = entries[part]
            case list(items), int() if part < len(items):
                node = items[part]
            case _:
                return node, address[depth:]
    return node, ()


def did_you_mean(given: str, names: list[str]) -> str:
    """A hint at the nearest right name, to put behind a message; empty where none is near."""
    near = difflib.get_close_matches(given, names, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


# ---- making ----------------------------------------------------------------------------------------------------------


def from_value(value: object, at: Address = (), lines: Mapping[Address, int] | None = None) -> Node:
    """A plain value as a document: mappings with string keys, lists, tuples, scalars, paths, dates.

    :raises Invalid: something else is in it
    """
    line = lines.get(at) if lines else None
    match value:
        case Path() | datetime.date() | datetime.time():
            return Node(str(value), at, line)
        case str() | bool() | int() | float() | None:
            return Node(value, at, line)
        case Mapping():
            return Node({_key(key, at): from_value(value[key], (*at, _key(key, at)), lines) for key in value}, at, line)
        case list() | tuple():
            return Node([from_value(item, (*at, index), lines) for index, item in enumerate(value)], at, line)
        case _:
            raise Invalid(Problem(f"a configuration cannot hold a {type(value).__name__}", at, line))


def _key(key: object, at: Address) -> str:
    if not isinstance(key, str):
        raise Invalid(Problem("keys must be strings (quote them)", at))
    return key


def assemble(entries: Iterable[tuple[str, Node]], at: Address, problems: list[Problem]) -> dict[str, Node]:
    """A mapping of entries in which a key may come twice; the first counts, and the second is a problem."""
    mapping: dict[str, Node] = {}
    for key, node in entries:
        first = mapping.setdefault(key, node)
        if first is not node:
            problems.append(Problem(f"given twice (first in line {first.line})", (*at, key), node.line))
    return mapping
