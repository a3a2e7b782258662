"""Which link a call gets: pure bookkeeping over the links of one server, and the rules of isolation.

The bound ``max`` is over all keys together. What the rules decide is returned; whoever asked does the I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import attrs

from mcpgateway.adapters.base import Link
from mcpgateway.config.model import Isolation
from mcpgateway.errors import ServerError
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
    owner: str = attrs.field(default="", repr=False)
    pooled: bool = False
    """Its owner has no session: the links are leased as ``multiplexed`` ones are where the isolation is ``session``,
    and closed when they are idle."""

    @property
    def sessional(self) -> bool:
        """Whether the link is the other half of a client's session."""
        return bool(self.owner) and not self.pooled


@attrs.define(eq=False)
class Slot:
    """One link, or the attempt to make one, and who uses it."""

    key: LinkKey
    link: Link | None = None
    """``None`` while it is being made."""
    calls: int = 0
    """Calls that have it leased, those that wait for it to be made included."""
    alone: bool = False
    """Leased to one call only, so that whatever the server sends belongs to that call."""
    leaving: bool = False
    """Being closed; not to be used any more."""
    since: float = 0.0
    """When the link was made."""
    idle_since: float = 0.0
    answered: bool = False
    """A call was answered on it."""
    kept: bool = False
    """Somebody listens to what the server says on it."""
    give_up: Callable[[], None] | None = None
    """Ends the call that has the link to itself, which only waits for its client, since ``idle_since``."""
    level: str | None = None
    """The most verbose log level that calls on it wanted for themselves, …"""
    sessions_level: str | None = None
    """… and that the sessions which share it want; its server was told the more verbose of the two."""
    problem: ServerError | None = None
    """Why it could not be made."""
    listens: int = 0
    """Subscriptions on it, which keep no call from it."""

    @property
    def usable(self) -> bool:
        """Whether a call can be made on it, once it is there."""
        return not self.leaving and (self.link is None or not self.link.closed.is_set())

    @property
    def spare(self) -> bool:
        """Whether closing it takes nothing from anybody: idle, not listened to, and no session's state hangs on it."""
        if self.calls or self.listens or self.kept or self.link is None or self.leaving:
            return False
        return not self.key.sessional or not self.link.negotiated.stateful


@attrs.frozen
class Use:
    """Share or take this link. It may still be in the making, by somebody else's wish."""

    slot: Slot


@attrs.frozen
class Open:
    """Make a link, after closing ``evict`` where it is given."""

    evict: Slot | None = None


@attrs.frozen
class Queue:
    """Wait for a call to end."""


Decision: TypeAlias = Use | Open | Queue


def resolve(isolation: Isolation, *, local: bool, era: Era) -> Isolation:
    """What ``auto`` means for a server of this kind in this era."""
    if isolation is not Isolation.AUTO:
        return isolation
    if era is Era.MODERN:
        return Isolation.SHARED
    return Isolation.MULTIPLEXED if local else Isolation.SESSION


def decide(
    slots: Iterable[Slot],
    key: LinkKey,
    *,
    alone: bool,
    max: int | None,
    exclusive: bool,
    single: bool,
    listens: bool = False,
) -> Decision:
    """Which link a call with this key gets, or with ``listens`` a subscription: that shares one with whatever is on it.

    ``alone`` calls need a link without other calls; ``exclusive`` makes every call such a one; ``single`` allows one
    link per key (isolation ``shared`` and ``session``), on which even ``alone`` calls meet.

    Plain calls meet on the oldest link and lone ones take the youngest, so that the two rarely want the same.
    """
    mine: list[Slot] = []
    count = 0
    idle: Slot | None = None
    for slot in slots:
        count += 1
        if slot.key == key:
            if slot.usable:
                mine.append(slot)
        elif slot.spare and (idle is None or slot.idle_since < idle.idle_since):
            idle = slot
    lone = (alone or exclusive) and not (single or listens)
    fit = mine if listens else [slot for slot in mine if not (slot.calls if lone else slot.alone)]
    if fit:
        made = [slot for slot in fit if slot.link is not None]
        return Use((made or fit)[-1 if lone else 0])
    if max is None or count < max:
        return Open()
    return Queue() if idle is None else Open(evict=idle)


def yielding(slots: Iterable[Slot]) -> Slot | None:
    """The link to be had from a call that only waits for its client: of the one that has waited for longest."""
    return min((slot for slot in slots if slot.give_up is not None), key=lambda slot: slot.idle_since, default=None)


def surplus(slots: Iterable[Slot], *, min: int, idle_before: float) -> list[Slot]:
    """The links to close: spare ones without calls since ``idle_before``, but for the last ``min`` of all."""
    kept = [slot for slot in slots if slot.link is not None and not slot.leaving]
    idle = sorted(
        (slot for slot in kept if slot.spare and slot.idle_since < idle_before), key=lambda slot: slot.idle_since
    )
    spare = len(kept) - min
    return idle[: spare if spare > 0 else 0]
