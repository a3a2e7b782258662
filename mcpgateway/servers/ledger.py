"""Which link a call gets: pure bookkeeping over the links of one server, and the rules of isolation.

The bound ``max`` is over all keys together. What the rules decide is returned; whoever asked does the I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import attrs

from mcpgateway.adapters.base import Link
from mcpgateway.config.model import Isolation
from mcpgateway.protocol.revisions import Era


@attrs.frozen(cache_hash=True)
class LinkKey:
    """What calls must have in common to share a link.

    ``capabilities`` is the canonical capability set that a legacy link was negotiated with (empty for modern links,
    whose requests carry their own); ``owner`` is the client session or principal that a link belongs to alone, and
    empty where it may be shared.
    """

    era: Era
    capabilities: bytes = b""
    owner: str = ""


@attrs.define(eq=False)
class Slot:
    """One link, or the attempt to make one, and who uses it."""

    key: LinkKey
    link: Link | None = None
    """``None`` while connecting."""
    calls: int = 0
    """Calls in flight."""
    alone: bool = False
    """Leased to one call only, which may be asked something."""
    leaving: bool = False
    """Being closed; not to be used any more."""
    idle_since: float = 0.0


@attrs.frozen
class Use:
    slot: Slot


@attrs.frozen
class Open:
    """Make a link, after closing ``evict`` where it is given."""

    evict: Slot | None = None


@attrs.frozen
class Join:
    """Wait for a link that somebody else is making."""

    slot: Slot


@attrs.frozen
class Queue:
    """Wait for a call to end."""


Decision: TypeAlias = Use | Open | Join | Queue


def resolve(isolation: Isolation, *, pipe: bool, era: Era) -> Isolation:
    """What ``auto`` means for a server of this kind in this era."""
    if isolation is not Isolation.AUTO:
        return isolation
    if era is Era.MODERN:
        return Isolation.SHARED
    return Isolation.MULTIPLEXED if pipe else Isolation.SESSION


def decide(
    slots: Iterable[Slot], key: LinkKey, *, alone: bool, max: int | None, exclusive: bool, single: bool
) -> Decision:
    """Which link a call with this key gets.

    ``alone`` calls need a link without other calls; ``exclusive`` makes every call such a one; ``single`` allows one
    link per key (isolation ``shared`` and ``session``), on which even ``alone`` calls meet.
    """
    mine: list[Slot] = []
    count = 0
    idle: Slot | None = None
    for slot in slots:
        count += 1
        if slot.leaving:
            continue
        if slot.key == key:
            mine.append(slot)
        elif slot.calls == 0 and slot.link is not None and not slot.key.owner:
            idle = slot if idle is None or slot.idle_since < idle.idle_since else idle
    for slot in mine:
        if slot.link is None or slot.link.closed.is_set():
            continue
        if single or (slot.calls == 0 if alone or exclusive else not slot.alone):
            return Use(slot)
    connecting = next((slot for slot in mine if slot.link is None), None)
    if connecting is not None and (single or not (alone or exclusive)):
        return Join(connecting)
    if max is None or count < max:
        return Open()
    if idle is not None:
        return Open(evict=idle)
    return Queue()


def surplus(slots: Iterable[Slot], *, min: int, idle_before: float) -> list[Slot]:
    """The links to close: shared ones without calls since ``idle_before``, but for the last ``min`` of all."""
    kept = [slot for slot in slots if slot.link is not None and not slot.leaving]
    idle = sorted(
        (slot for slot in kept if slot.calls == 0 and not slot.key.owner and slot.idle_since < idle_before),
        key=lambda slot: slot.idle_since,
    )
    spare = len(kept) - min
    return idle[: spare if spare > 0 else 0]
