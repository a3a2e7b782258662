"""Tool arguments mirrored as ``Mcp-Param-*`` headers (MCP 2026-07-28, transports, "Custom Headers").

A tool's input schema marks properties with ``x-mcp-header``; a client mirrors those arguments, a server compares. A
mark is good only on a string, integer or boolean property that is reached from the root through ``properties`` alone,
with a header token that is unique in the schema whatever its case. A tool with a bad mark has no mirrored arguments,
and clients over HTTP drop it from listings.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final, TypeAlias

import attrs

from mcpgateway.errors import JSON, HeaderMismatch
from mcpgateway.protocol.header_values import decode_value, encode_value

PREFIX: Final = b"mcp-param-"
MARK: Final = "x-mcp-header"

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, 5.6.2
_TYPES: Final = ("string", "integer", "boolean")
# Decimal notation only, as in the reference SDKs: 4.2e1 never compares as a number.
_DECIMAL: Final = re.compile(r"-?[0-9]+(\.0+)?")

# The keywords of JSON Schema 2020-12 that hold further schemas, by the shape of their value. Keywords that hold data
# (default, examples, const, enum) are absent, so that data is never taken for a mark; references are not followed.
_ONE: Final = frozenset(
    {
        "items",
        "contains",
        "unevaluatedItems",
        "additionalProperties",
        "propertyNames",
        "unevaluatedProperties",
        "not",
        "if",
        "then",
        "else",
        "contentSchema",
    }
)
_MANY: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NAMED: Final = frozenset({"patternProperties", "dependentSchemas", "$defs", "definitions"})

_Path: TypeAlias = "tuple[str, ...]"


@attrs.frozen
class HeaderParameter:
    """A property that is mirrored."""

    path: tuple[str, ...]
    """Names of properties, from the arguments inwards."""
    header: bytes
    """The whole header name, in lower case."""
    integer: bool
    """Integers are compared as numbers (``42.0`` is ``42``), all else as text."""


def param_headers(headers: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Those of the (lower-case) headers that mirror arguments, known or not: a gateway forwards them all."""
    return {name: value for name, value in headers.items() if name.startswith(PREFIX)}


def header_parameters(schema: JSON) -> tuple[HeaderParameter, ...]:
    """The mirrored properties of an input schema; none where a mark is bad."""
    if find_invalid(schema) is not None:
        return ()
    return tuple(
        HeaderParameter(path, PREFIX + mark.lower().encode(), part.get("type") == "integer")
        for path, part in _positions(schema)
        if path and isinstance(mark := part.get(MARK), str)
    )


def find_invalid(schema: JSON) -> str | None:
    """What is wrong with the marks of an input schema, for people; ``None`` where nothing is."""
    seen: dict[str, str] = {}
    for path, part in _positions(schema):
        if MARK in part:
            problem = _judge(path, part, seen)
            if problem is not None:
                return problem
    return None


def _judge(path: _Path | None, part: dict[str, JSON], seen: dict[str, str]) -> str | None:
    if not path:
        return f"{MARK} outside the chain of properties"
    mark, where = part[MARK], ".".join(path)
    if not isinstance(mark, str) or _TOKEN.fullmatch(mark) is None:
        return f"{MARK} of property {where!r} is not a header token"
    if part.get("type") not in _TYPES:
        return f"{MARK} on property {where!r}, which is not a string, integer or boolean"
    if mark.lower() in seen:
        return f"{MARK} {mark!r} on both {seen[mark.lower()]!r} and {where!r}"
    seen[mark.lower()] = where
    return None


def _positions(root: JSON) -> Iterator[tuple[_Path | None, dict[str, JSON]]]:
    # A stack rather than recursion: schemas come from servers and may be nested as deep as they like.
    stack: list[tuple[_Path | None, JSON]] = [((), root)]
    while stack:
        path, part = stack.pop()
        if isinstance(part, dict):
            yield path, part
            for keyword, value in part.items():
                stack.extend(_inner(path, keyword, value))


def _inner(path: _Path | None, keyword: str, value: JSON) -> Iterator[tuple[_Path | None, JSON]]:
    if keyword in _ONE:
        yield None, value
    elif isinstance(value, list) and keyword in _MANY:
        yield from ((None, part) for part in value)
    elif isinstance(value, dict) and keyword == "properties":
        yield from ((None if path is None else (*path, name), part) for name, part in value.items())
    elif isinstance(value, dict) and keyword in _NAMED:
        yield from ((None, part) for part in value.values())


def mirrored(parameters: Iterable[HeaderParameter], arguments: JSON) -> dict[bytes, bytes]:
    """The headers that a client sends for these arguments; an absent or null argument has none."""
    headers = {}
    for parameter in parameters:
        text = _text(_at(arguments, parameter.path))
        if text is not None:
            headers[parameter.header] = encode_value(text)
    return headers


def check_parameters(
    parameters: Iterable[HeaderParameter],
    arguments: JSON,
    headers: Mapping[bytes, bytes],
    duplicates: Collection[bytes] = (),
) -> None:
    """Compare headers with the arguments that they mirror: both there and equal, or neither.

    :raises HeaderMismatch: they differ, or a header came more than once
    """
    for parameter in parameters:
        header = headers.get(parameter.header)
        if header is not None and parameter.header in duplicates:
            raise _mismatch(parameter, "appears more than once")
        value = _at(arguments, parameter.path)
        text = _text(value)
        if text is None and header is not None:
            raise _mismatch(parameter, "mirrors an argument that is absent")
        if text is not None and (header is None or not _agree(parameter, value, text, header)):
            raise _mismatch(parameter, "is missing" if header is None else "differs from its argument")


def _mismatch(parameter: HeaderParameter, what: str) -> HeaderMismatch:
    return HeaderMismatch(f"header {parameter.header.decode()} {what} (argument {'.'.join(parameter.path)!r})")


def _agree(parameter: HeaderParameter, value: JSON, text: str, header: bytes) -> bool:
    mirrored_text = decode_value(header)
    if mirrored_text is None:
        return False
    if parameter.integer and _is_whole(value) and _DECIMAL.fullmatch(mirrored_text) is not None:
        return _same_number(mirrored_text.partition(".")[0], value)
    return mirrored_text == text


def _is_whole(value: JSON) -> bool:
    return not isinstance(value, bool) and (isinstance(value, int) or (isinstance(value, float) and value.is_integer()))


def _same_number(digits: str, value: JSON) -> bool:
    assert isinstance(value, int | float)
    try:
        return int(digits) == int(value)
    except ValueError:
        return False  # more digits than Python converts


def _text(value: JSON) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        return None
    try:
        return str(value)
    except ValueError:
        return None  # more digits than Python converts


def _at(arguments: JSON, path: tuple[str, ...]) -> JSON:
    value = arguments
    for name in path:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value
