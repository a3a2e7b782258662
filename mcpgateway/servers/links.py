"""The links of one server: made, watched, closed, each by a task in the server's nursery.

No call makes a link itself: one that gives up leaves a link half made to the next, and cannot leave one half closed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import trio

from mcpgateway.adapters.base import Adapter, Link, Offer
from mcpgateway.errors import EraMismatch, NotStarted, NotTried, ServerError, ServerUnavailable
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.negotiated import Negotiated
from mcpgateway.protocol.revisions import Era, revisions_of
from mcpgateway.servers.attempts import Attempts
from mcpgateway.servers.ledger import LinkKey, Slot

log = logging.getLogger("mcpgateway.server")

GRACE: Final = 1.0
"""Seconds beyond its own bound that an adapter has to fail with a better error than ours."""
_EARLY: Final = 64
"""Messages that a server may send before its link is there."""


@attrs.define(eq=False)
class _Making:
    """A link in the making: how to end that, and how to wait for it."""

    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    settled: trio.Event = attrs.field(factory=trio.Event)


class Links:
    """What there is of links to one server, and what they taught about it.

    ``changed`` is called whenever a link was made or has gone, ``receive`` with what a link received outside calls.
    Set ``nursery`` before the first link is made; its end is the end of all links.
    """

    def __init__(
        self,
        name: str,
        adapter: Adapter,
        *,
        startup_timeout: float,
        attempts: Attempts,
        random: Callable[[], float],
        receive: Callable[[Slot, Message], None],
        changed: Callable[[], None],
    ) -> None:
        self.name = name
        self.adapter = adapter
        self.slots: list[Slot] = []
        self.free: dict[LinkKey, Slot] = {}
        """Links on which plain calls meet: the answer of `decide` for them, remembered."""
        self.spoken: dict[Era, Negotiated | None] = {}
        """What is known of each era: what was negotiated, or ``None`` where it is not spoken."""
        self.attempts = attempts
        self.made = 0
        """How many were made, so far."""
        self.lost = 0
        """How many ended by themselves, so far."""
        self.failed = 0
        """How many could not be made, so far."""
        self.nursery: trio.Nursery | None = None
        self.startup_timeout = startup_timeout
        self.unstarted = False
        """Whether the last attempt that failed found nobody to shake hands with."""
        self._random = random
        self._receive = receive
        self._changed = changed
        self._making: dict[Slot, _Making] = {}
        self._leaving: list[Slot] = []
        """Links of another adapter, which finish their calls."""
        self._ended = False

    @property
    def usable(self) -> bool:
        """Whether there is any link on which calls can be made."""
        return any(slot.link is not None and slot.usable for slot in self.slots)

    @property
    def making(self) -> bool:
        """Whether a link is in the making."""
        return bool(self._making)

    @property
    def all(self) -> tuple[Slot, ...]:
        """The links that there are, those that only finish their calls included."""
        return (*self.slots, *self._leaving)

    def check_pause(self) -> None:
        """Refuse to make a link while the server has just failed and has no other.

        :raises NotTried: with the reason, and when the next attempt will be made
        """
        seconds = self.attempts.pause(trio.current_time())
        if seconds and not self.usable:
            raise later(self.name, self.attempts.reason, seconds)

    def mismatch(self, era: Era) -> EraMismatch:
        """The error for a client of an era that the server does not speak."""
        other = Era.LEGACY if era is Era.MODERN else Era.MODERN
        return EraMismatch(self.name, client=era.value, server_era=other.value, supported=revisions_of(other))

    def begin(self, slot: Slot, offer: Offer, evict: Slot | None) -> None:
        """Have the link of a new slot made, in the place of another where ``evict`` is given."""
        assert self.nursery is not None
        self.slots.append(slot)
        self._making[slot] = _Making()
        if evict is not None:
            self._leave(evict)
        self.nursery.start_soon(self._make, slot, offer, evict)

    async def settled(self, slot: Slot) -> ServerError | None:
        """Wait until a link is made; why it was not, if so."""
        making = self._making.get(slot)
        if making is not None:
            await making.settled.wait()
        return slot.problem

    def again(self, problem: ServerError, era: Era) -> ServerError:
        """A problem for one more caller: an exception carries a traceback and a request's id, so none is shared."""
        if isinstance(problem, EraMismatch):
            return self.mismatch(era)
        again = ServerUnavailable(self.name, problem.reason)
        again.unsent = True
        again.__cause__ = problem.__cause__
        return again

    async def _make(self, slot: Slot, offer: Offer, evict: Slot | None) -> None:
        making = self._making[slot]
        slot.problem = ServerUnavailable(self.name, "is not running")
        try:
            if evict is not None:
                await self._retire(evict)
            slot.problem = await self._connect(slot, offer, making.scope)
        finally:
            del self._making[slot]
            making.settled.set()
            if slot.link is None:
                self._discard(slot)
            elif slot.leaving:
                self.retire_soon(slot)
            else:
                self._changed()

    async def _connect(self, slot: Slot, offer: Offer, scope: trio.CancelScope) -> ServerError | None:
        """Make the link of a slot; why it could not be made, if so."""
        assert self.nursery is not None
        scope.deadline = trio.current_time() + self.startup_timeout + GRACE
        problem: ServerError = ServerUnavailable(self.name, "did not connect in time")
        try:
            with scope:
                early: list[Message] = []
                link = await self.adapter.connect(self.nursery, offer, lambda message: self._take(slot, early, message))
                self._made(slot, link, offer)
                for message in early:
                    self._receive(slot, message)
                return None
        except EraMismatch as mismatch:
            if offer.era is not None:
                self.spoken[offer.era] = None
                return self.mismatch(offer.era)
            problem = mismatch
        except ServerError as refusal:
            problem = refusal
        except Exception as bug:
            log.exception("server %r: its adapter failed", self.name)
            problem = ServerUnavailable(self.name, f"cannot be reached: {type(bug).__name__} (see the log)")
        if slot.leaving or self._ended:
            return ServerUnavailable(self.name, "the session, or the server, has ended")
        self.unstarted = isinstance(problem, NotStarted)
        self.failed += 1
        self.attempts.failed(problem.reason, trio.current_time(), self._random())
        return problem

    def _take(self, slot: Slot, early: list[Message], message: Message) -> None:
        """Take what came outside calls; a server may speak before its handshake has been seen to the end."""
        if slot.link is not None:
            self._receive(slot, message)
        elif len(early) < _EARLY:
            early.append(message)

    def _made(self, slot: Slot, link: Link, offer: Offer) -> None:
        assert self.nursery is not None
        negotiated = link.negotiated
        self.spoken[negotiated.era] = negotiated
        if offer.era is None:
            slot.key = LinkKey(negotiated.era, b"{}" if negotiated.era is Era.LEGACY else b"")
            if negotiated.era is Era.LEGACY:
                self.spoken[Era.MODERN] = None
        if self.attempts.reason:
            log.info("server %r is back", self.name)
        self.attempts.made()
        self.made += 1
        slot.link = link
        slot.since = slot.idle_since = trio.current_time()
        self.nursery.start_soon(self._bury, slot, link)

    async def _bury(self, slot: Slot, link: Link) -> None:
        """Wait for the end of a link and take it out of the list."""
        await link.closed.wait()
        self._lose(slot, link)

    def _lose(self, slot: Slot, link: Link) -> None:
        if slot.leaving or self._ended or self.nursery is None:
            return
        log.warning("server %r lost a link: %s", self.name, link.failure)
        self.lost += 1
        now = trio.current_time()
        self.attempts.lost(link.failure, math.inf if slot.answered else now - slot.since, now, self._random())
        self._leave(slot)
        self.nursery.start_soon(self._retire, slot)

    def _leave(self, slot: Slot) -> None:
        """Give no further call to a slot."""
        slot.leaving = True
        if self.free.get(slot.key) is slot:
            del self.free[slot.key]

    def retire_soon(self, slot: Slot) -> None:
        """Give a slot no further call, and close its link, or give up making it, in a task of its own."""
        if slot.link is not None and slot.link.closed.is_set():
            self._lose(slot, slot.link)
            return
        self._leave(slot)
        making = self._making.get(slot)
        if making is not None:
            making.scope.cancel(reason="the link is not wanted any more")
        elif self.nursery is not None and not self._ended:
            self.nursery.start_soon(self._retire, slot)

    async def _retire(self, slot: Slot) -> None:
        """Close a link; its place is free when it is closed."""
        self._leave(slot)
        try:
            await self._close(slot)
        finally:
            self._discard(slot)

    async def _close(self, slot: Slot) -> None:
        if slot.link is not None:
            try:
                await slot.link.aclose()
            except Exception:
                log.exception("server %r: a link did not close", self.name)

    def _discard(self, slot: Slot) -> None:
        """Forget a slot whose link has ended, or was never made; its place is free."""
        self._leave(slot)
        for slots in self.slots, self._leaving:
            if slot in slots:
                slots.remove(slot)
                self._changed()

    def change(self, adapter: Adapter, drained: Callable[[Slot], Awaitable[None]], drain: float) -> None:
        """Make links with another adapter from now on.

        Those that are there finish their calls, for which ``drained`` waits, for up to ``drain`` seconds; they take no
        place meanwhile. Those in the making are given up.
        """
        self.adapter = adapter
        self.spoken.clear()
        self.free.clear()
        for slot in list(self.slots):
            self._leave(slot)
            making = self._making.get(slot)
            if making is not None:
                making.scope.cancel(reason="the server was configured anew")
            elif self.nursery is not None:
                self.slots.remove(slot)
                self._leaving.append(slot)
                self.nursery.start_soon(self._drain, slot, drained, drain)

    async def _drain(self, slot: Slot, drained: Callable[[Slot], Awaitable[None]], seconds: float) -> None:
        with trio.move_on_after(seconds):
            await drained(slot)
        await self._retire(slot)

    def abandon(self) -> None:
        """The nursery is being cancelled, and all links with it: nothing is to be started in it any more."""
        self._ended = True

    async def end(self) -> None:
        """Make no more links, and close all there are, side by side."""
        self._ended = True
        self.free.clear()
        for making in self._making.values():
            making.scope.cancel(reason=f"server {self.name} stops")
        async with trio.open_nursery() as closing:
            for slot in self.all:
                closing.start_soon(self._close, slot)


def later(server: str, reason: str, seconds: float) -> NotTried:
    """What a call fails with that comes while a server is not to be tried."""
    return NotTried(server, f"{reason} (next attempt in {math.ceil(seconds)} s)")
