"""Capability sets as values: compared, asked, and united where several servers stand behind one name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Raw

from mcpgateway.errors import JSON
from mcpgateway.jsonrpc import members_of, raw_of, value_of

_CANONICAL: Final = msgspec.json.Encoder(order="deterministic").encode
_ASKABLE: Final = ("elicitation", "sampling", "roots")


def capability_key(capabilities: Raw) -> bytes:
    """Canonical bytes of a capability set: equal sets give equal bytes, whatever their spelling and order."""
    return _CANONICAL(value_of(capabilities))


_ACTED_UPON: Final = (*_ASKABLE, "extensions", "tasks")


def acted_upon(capabilities: Raw) -> Raw:
    """The part of a client's capabilities that servers act upon: what clients of one link must have in common.

    Were it all of them, anybody could have a process started for every made-up member of ``experimental``.

    :raises InvalidParams: it is not an object
    """
    return raw_of({name: value for name, value in members_of(capabilities).items() if name in _ACTED_UPON})


def may_be_asked(capabilities: Raw) -> bool:
    """Whether a client with these capabilities may be sent requests by a server.

    :raises InvalidParams: it is not an object
    """
    declared = members_of(capabilities)
    return any(kind in declared for kind in _ASKABLE)


def declared(capabilities: Raw, kind: str) -> bool:
    """Whether a capability set has a member of that name.

    :raises InvalidParams: it is not an object
    """
    return kind in members_of(capabilities)


def merge_capabilities(all_capabilities: Iterable[Raw]) -> dict[str, JSON]:
    """The capabilities of several servers as of one: the union of all members, at every depth, booleans by *or*.

    Of two other values that differ the first stands, so that the order of the servers decides, never that of arrival.
    """
    merged: dict[str, JSON] = {}
    for capabilities in all_capabilities:
        for name, raw in members_of(capabilities).items():
            value = value_of(raw)
            merged[name] = _unite(merged[name], value) if name in merged else value
    return merged


def _unite(first: JSON, second: JSON) -> JSON:
    if isinstance(first, dict) and isinstance(second, dict):
        both = {name: _unite(first[name], second[name]) for name in first.keys() & second.keys()}
        return {**second, **first, **both}
    if isinstance(first, bool) and isinstance(second, bool):
        return first or second
    return first
