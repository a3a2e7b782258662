"""Members cut out of raw objects and put in, one level deep; everything else keeps its bytes and its place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec
from msgspec import Raw

from mcpgateway.errors import InvalidParams, ServerMisbehaved
from mcpgateway.jsonrpc import NULL, members_of, raw_of

_decode_text = msgspec.json.Decoder(str).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode

META: Final = "_meta"


def is_object(raw: Raw) -> bool:
    """Whether a raw value that was decoded from a message is an object."""
    return bytes(memoryview(raw)[:1]) == b"{"


def text(raw: Raw | None) -> str | None:
    """A raw string; ``None`` where there is none, or something else."""
    if raw is None:
        return None
    try:
        return _decode_text(raw)
    except msgspec.DecodeError:
        return None


def entries(raw: Raw) -> list[Raw] | None:
    """The entries of a raw array; ``None`` where it is something else."""
    try:
        return _decode_list(raw)
    except (msgspec.DecodeError, RecursionError):
        return None


def of_server(raw: Raw | None, server: str, what: str) -> dict[str, Raw]:
    """The members of an object that a server sent; ``what`` names it for people.

    :raises ServerMisbehaved: it is not an object; ``null`` is not one either
    """
    try:
        if raw is not None and raw != NULL:
            return members_of(raw)
    except InvalidParams:
        pass
    raise ServerMisbehaved(server, f"{what} is not an object")


def without(raw: Raw, *names: str) -> Raw:
    """A raw object without some members; the very same where it has none of them, or is no object."""
    if not is_object(raw):
        return raw
    members = members_of(raw)
    return raw_of(members) if discard(members, names) else raw


def discard(members: dict[str, Raw], names: Iterable[str]) -> bool:
    """Remove members, in place; whether there were any."""
    before = len(members)
    for name in names:
        members.pop(name, None)
    return len(members) < before


def prune_meta(members: dict[str, Raw], unwanted: Callable[[str], bool]) -> bool:
    """Remove keys from ``_meta``, in place, and ``_meta`` with the last of them; whether there were any.

    :raises InvalidParams: ``_meta`` is there and not an object
    """
    meta = members_of(members.get(META))
    kept = {key: value for key, value in meta.items() if not unwanted(key)}
    if len(kept) == len(meta):
        return False
    if kept:
        members[META] = raw_of(kept)
    else:
        del members[META]
    return True
