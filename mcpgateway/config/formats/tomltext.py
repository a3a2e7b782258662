"""TOML with lines: ``tomllib`` reads, and the lines are found by looking for the keys again.

``tomllib`` keeps no positions. A scan for table headers and ``key =`` finds nearly all of them; keys inside inline
tables have the line of what they stand in.
"""

from __future__ import annotations

import re
import tomllib

from mcpgateway.config.document import Address, Invalid, Node, Problem, from_value

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_DOTTED = rf"({_PART}(?:\s*\.\s*{_PART})*)"
_HEADER = re.compile(rf"\s*\[\s*{_DOTTED}\s*\]\s*(?:#.*)?$")
_KEY = re.compile(rf"\s*{_DOTTED}\s*=")
_WHERE = re.compile(r" \(at line (\d+), column (\d+)\)$")


def read_toml(text: str) -> Node:
    """:raises Invalid: not TOML; a duplicate key is not"""
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Invalid(_problem(str(error))) from None
    except ValueError:
        raise Invalid(Problem("not TOML: a number is longer than can be read")) from None
    return from_value(value, lines=_lines(text, value))


def _problem(message: str) -> Problem:
    where = _WHERE.search(message)
    what = _WHERE.sub("", message)
    return Problem(f"not TOML: {what}", line=int(where[1]) if where else None)


def _lines(text: str, value: object) -> dict[Address, int]:
    lines: dict[Address, int] = {}
    table: Address = ()
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.match(line)
        key = _KEY.match(line)
        found = _address(header[1]) if header else (*table, *_address(key[1])) if key else ()
        if _exists(value, found):
            table = found if header else table
            for length in range(1, len(found) + 1):
                lines.setdefault(found[:length], number)
    return lines


def _address(dotted: str) -> Address:
    return tuple(part[1:-1] if part[0] in "\"'" else part for part in re.findall(_PART, dotted))


def _exists(value: object, address: Address) -> bool:
    for part in address:
        if not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True
