"""Leases on the links of one server: which call gets which link, who waits, and who is refused.

Links are made and closed by `mcpgateway.servers.links.Links`, never by the calls that want them. This is the way of
every call: `Leases.take` and `Leases.release` cost 0.3 µs together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
import trio
from msgspec import Raw

from mcpgateway.adapters.base import Offer
from mcpgateway.config.model import Isolation
from mcpgateway.errors import NotTried, ServerError, TooBusy
from mcpgateway.protocol.revisions import Era
from mcpgateway.servers.ledger import LinkKey, Open, Queue, Slot, Use, decide, yielding
from mcpgateway.servers.links import Links

SINGLE: Final = (Isolation.SHARED, Isolation.SESSION)
"""One link per key."""


@attrs.frozen
class Terms:
    """The rules of leasing; see `mcpgateway.config.model.ServerConfig`."""

    isolation: Callable[[Era], Isolation]
    places: Callable[[Isolation], int | None]
    """How many links there may be."""
    acquire_timeout: float
    max_calls: int


@attrs.define(eq=False)
class _Waiter:
    """A call that waits for a link; `settled` when it has one, or cannot have one."""

    key: LinkKey
    alone: bool
    initialize: Raw | None
    hears: bool
    listens: bool
    slot: Slot | None = None
    problem: ServerError | None = None
    settled: trio.Event = attrs.field(factory=trio.Event)


class Leases:
    """Who has which link. ``handshake`` gives the gateway's own params for a legacy link with these capabilities."""

    def __init__(self, name: str, links: Links, terms: Terms, handshake: Callable[[Raw], Raw]) -> None:
        self.terms = terms
        self.calls = 0
        """Leases at this moment."""
        self._name = name
        self._links = links
        self._free = links.free
        self._handshake = handshake
        self._waiters: dict[_Waiter, None] = {}
        self._idle = trio.lowlevel.ParkingLot()
        self._ended = False

    @property
    def waiting(self) -> int:
        """Calls that wait for a link."""
        return len(self._waiters)

    def take(self, key: LinkKey) -> Slot | None:
        """A link for a plain call, if there is one at once; give it back with `release`."""
        slot = self._free.get(key)
        if slot is not None and not slot.alone and self.calls < self.terms.max_calls:
            slot.calls += 1
            self.calls += 1
            return slot
        return None

    def release(self, slot: Slot, *, close: bool = False) -> None:
        """Give a leased link back; ``close`` it if it is not fit for another call."""
        slot.calls -= 1
        slot.alone = False
        self.calls -= 1
        if slot.calls == 0:
            slot.idle_since = trio.current_time()
            if slot.leaving or self._ended:
                self._idle.unpark_all()
        if close:
            self._links.retire_soon(slot)
        if self._waiters:
            self.serve_waiters()

    def leave(self, slot: Slot, *, close: bool = False) -> None:
        """`release` for a subscription."""
        slot.listens -= 1
        if not (slot.listens or slot.calls):
            slot.idle_since = trio.current_time()
        if close:
            self._links.retire_soon(slot)
        if self._waiters:
            self.serve_waiters()

    async def acquire(
        self, key: LinkKey, *, alone: bool, initialize: Raw | None, hears: bool, listens: bool = False
    ) -> Slot:
        """See `mcpgateway.servers.server.Server.acquire`."""
        if not listens and self.calls + len(self._waiters) >= self.terms.max_calls:
            raise TooBusy(
                f"server {self._name!r}: {self.terms.max_calls} calls are with it already (servers[…].max_calls)"
            )
        give_back = self.leave if listens else self.release
        slot = self._grant(key, alone, initialize, hears, listens)
        if slot is None:
            self._make_room()
            slot = await self._wait(_Waiter(key, alone, initialize, hears, listens))
        if slot.link is None:
            try:
                problem = await self._links.settled(slot)
            except BaseException:
                give_back(slot)
                raise
            if problem is not None:
                give_back(slot)
                raise self._links.again(problem, key.era)
        if not (listens or slot.alone or slot.leaving):
            self._free[key] = slot
        return slot

    def _make_room(self) -> None:
        """End a call that only waits for its client: whoever forgets to answer is not to keep everybody else out."""
        slot = yielding(self._links.slots)
        if slot is not None and slot.give_up is not None:
            slot.give_up()
            slot.give_up = None

    async def _wait(self, waiter: _Waiter) -> Slot:
        self._waiters[waiter] = None
        seconds = self.terms.acquire_timeout
        try:
            with trio.move_on_after(seconds):
                await waiter.settled.wait()
        except BaseException:
            if waiter.slot is not None:  # granted after it was cancelled, and before it could say so
                (self.leave if waiter.listens else self.release)(waiter.slot)
            raise
        finally:
            self._waiters.pop(waiter, None)
        if waiter.slot is not None:
            return waiter.slot
        in_use = len(self._links.slots)
        raise waiter.problem or TooBusy(
            f"server {self._name!r}: no link became free within {seconds:g} s; {in_use} are in use (links.max)"
        )

    def refuse(self, owner: str) -> None:
        """Make no link any more for calls that wait for one of this owner, who has gone."""
        for waiter in [waiter for waiter in self._waiters if waiter.key.owner == owner]:
            del self._waiters[waiter]
            waiter.problem = NotTried(self._name, "the session has ended")
            waiter.settled.set()

    def grant_own(self, key: LinkKey) -> Slot | None:
        """Lease a link for the gateway's own sake; ``None`` if there is no room for it now."""
        try:
            return self._grant(key, False, None, True, False)
        except ServerError:
            return None

    def _grant(self, key: LinkKey, alone: bool, initialize: Raw | None, hears: bool, listens: bool) -> Slot | None:
        """Lease a link, which may have to be made first; ``None`` if the call has to wait."""
        if self._ended:
            raise NotTried(self._name, "is not running")
        isolation = self.terms.isolation(key.era)
        places = self.terms.places(isolation)
        exclusive, single = isolation is Isolation.EXCLUSIVE, isolation in SINGLE
        if key.pooled and isolation is Isolation.SESSION:
            single = False
        slots = self._links.slots
        match decide(slots, key, alone=alone, max=places, exclusive=exclusive, single=single, listens=listens):
            case Queue():
                return None
            case Use(slot):
                pass
            case Open(evict):
                slot = self._open(key, initialize, evict, hears=hears)
        if listens:
            slot.listens += 1
            return slot
        slot.calls += 1
        self.calls += 1
        slot.alone = (alone or exclusive) and not single
        return slot

    def _open(self, key: LinkKey, initialize: Raw | None, evict: Slot | None, *, hears: bool) -> Slot:
        self._links.check_pause()
        slot = Slot(key)
        params = initialize if initialize is not None else self._handshake(Raw(key.capabilities or b"{}"))
        self._links.begin(slot, Offer(key.era, params, hears=hears), evict)
        return slot

    def serve_waiters(self) -> None:
        """Lease what has become free to those who wait, in their order."""
        in_vain: set[tuple[LinkKey, bool, bool]] = set()
        for waiter in list(self._waiters):
            wish = (waiter.key, waiter.alone, waiter.listens)
            if wish in in_vain:
                continue
            try:
                waiter.slot = self._grant(waiter.key, waiter.alone, waiter.initialize, waiter.hears, waiter.listens)
            except ServerError as problem:
                waiter.problem = problem
            else:
                if waiter.slot is None:
                    in_vain.add(wish)
                    continue
            del self._waiters[waiter]
            waiter.settled.set()

    def end(self) -> None:
        """Lease no link any more."""
        self._ended = True
        self._free.clear()
        self.serve_waiters()
        self._idle.unpark_all()

    async def idle(self, slot: Slot | None = None) -> None:
        """Wait until nobody has a lease; on one link that is leaving, where one is given."""
        while (self.calls if slot is None else slot.calls) > 0:
            await self._idle.park()
