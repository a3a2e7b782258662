"""What every modern result must carry, filled in where a server left it out (MCP 2026-07-28, basic and SEP-2549).

A client that finds no ``resultType`` must take the result for complete, so the gateway may say so; the one honest hint
about a result that came without cache hints is that nobody may keep it. Whatever is there stays to the byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import attrs
import msgspec
from msgspec import Raw

from mcpgateway.errors import InvalidParams
from mcpgateway.jsonrpc import NULL, members_of, raw_of
from mcpgateway.protocol.methods import CACHEABLE

COMPLETE: Final = Raw(b'"complete"')
_TTL: Final = Raw(b"0")
_SCOPE: Final = Raw(b'"private"')
_PUBLIC: Final = Raw(b'"public"')
_BEGINNING: Final = b'{"resultType":"'
"""How results of many servers begin: seen without decoding anything."""


_ABSENT: Final = Raw(b"")


class _Head(msgspec.Struct, gc=False):
    resultType: Raw = _ABSENT  # noqa: N815  # MCP's name; a union with None takes nothing but null


_decode_head = msgspec.json.Decoder(_Head).decode


def completed(method: str, result: Raw) -> Raw:
    """A modern result of a method, with what it lacks; the very same object where it lacks nothing.

    Costs 0.2 µs where the result begins with its type, 0.8 µs for others of 100 bytes.
    """
    if method not in CACHEABLE:
        if bytes(memoryview(result)[: len(_BEGINNING)]) == _BEGINNING:
            return result
        try:
            if _decode_head(result).resultType is not _ABSENT:
                return result
        except (msgspec.DecodeError, RecursionError):
            return result  # not an object: the server's mistake, and the client's to see
    try:
        members = members_of(result)
    except InvalidParams:
        return result
    return raw_of(members) if result != NULL and fill(method, members) else result


def fill(method: str, members: dict[str, Raw]) -> bool:
    """`completed` for the members of a result, in place; whether anything was missing."""
    before = len(members)
    if members.setdefault("resultType", COMPLETE) == COMPLETE and method in CACHEABLE:
        members.setdefault("ttlMs", _TTL)
        members.setdefault("cacheScope", _SCOPE)
    return len(members) > before


@attrs.frozen
class Hints:
    """For how long a result may be kept (milliseconds), and whether for anybody."""

    ttl_ms: int
    public: bool

    def members(self) -> dict[str, object]:
        return {"ttlMs": self.ttl_ms, "cacheScope": "public" if self.public else "private"}


UNKEPT: Final = Hints(0, False)
"""Of what nobody may keep: a result without hints, or with hints that make no sense."""

_decode_ttl = msgspec.json.Decoder(int).decode


def hints_of(members: Mapping[str, Raw]) -> Hints:
    """The hints of one result."""
    try:
        ttl = _decode_ttl(members.get("ttlMs", _TTL))
    except msgspec.DecodeError:
        return UNKEPT
    return Hints(max(ttl, 0), members.get("cacheScope") == _PUBLIC)


def strictest(hints: Iterable[Hints]) -> Hints:
    """The hints of what was made of several results: the shortest time, for the fewest."""
    every = tuple(hints)
    if not every:
        return UNKEPT
    return Hints(min(one.ttl_ms for one in every), all(one.public for one in every))
