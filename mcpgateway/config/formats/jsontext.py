"""JSON with lines: the standard parser judges, and since it has, finding the lines is a matter of counting brackets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from mcpgateway.config.document import Address, Invalid, Node, Problem, assemble

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')


def read_json(text: str) -> tuple[Node, list[Problem]]:
    """:raises Invalid: not strict JSON (comments, trailing commas and NaN are not)"""
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise Invalid(Problem(f"not JSON: {error.msg} (column {error.colno})", line=error.lineno)) from None
    except ValueError as error:
        raise Invalid(Problem(f"not JSON: {error}")) from None
    return _Reader(text).read()


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    line, end = 1, 0
    for match in _TOKEN.finditer(text):
        line += text.count("\n", end, match.start())
        end = match.start()
        yield match[0], line


class _Reader:
    """Builds nodes out of JSON that is known to be valid."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._problems: list[Problem] = []

    def read(self) -> tuple[Node, list[Problem]]:
        return self._node(*next(self._tokens), ()), self._problems

    def _node(self, token: str, line: int, at: Address) -> Node:
        match token:
            case "{":
                return self._mapping(list(self._entries(at)), at, line)
            case "[":
                return Node(list(self._items(at)), at, line)
            case _:
                return Node(json.loads(token), at, line)

    def _mapping(self, entries: list[tuple[str, Node]], at: Address, line: int) -> Node:
        mapping = assemble(entries, at, self._problems)
        return Node(mapping, at, line, tuple((key, node) for key, node in entries if mapping[key] is not node))

    def _entries(self, at: Address) -> Iterator[tuple[str, Node]]:
        for token, line in self._until("}"):
            key: str = json.loads(token)
            next(self._tokens)
            value, _ = next(self._tokens)
            yield key, self._node(value, line, (*at, key))

    def _items(self, at: Address) -> Iterator[Node]:
        for index, (token, line) in enumerate(self._until("]")):
            yield self._node(token, line, (*at, index))

    def _until(self, bracket: str) -> Iterator[tuple[str, int]]:
        for token, line in self._tokens:
            if token == bracket:
                return
            if token != ",":
                yield token, line
