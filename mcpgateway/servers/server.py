"""The life of one server: started at once or when first used, started again with backoff, its links leased to calls.

A `Server` owns the nursery that all its links live in, so a server that goes takes its links and children with it, and
nothing that a server does reaches another.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from typing import Final

import attrs
import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Adapter, Link, LinkStatistics, Offer
from mcpgateway.backoff import Backoff
from mcpgateway.config.model import Isolation, ServerConfig
from mcpgateway.errors import EraMismatch, MethodNotFound, ServerError, ServerUnavailable, TooBusy
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.handshake import initialize_params
from mcpgateway.protocol.negotiated import Negotiated
from mcpgateway.protocol.revisions import LATEST_LEGACY, Era, revisions_of
from mcpgateway.servers.ledger import Decision, Join, LinkKey, Open, Slot, Use, decide, resolve, surplus

log = logging.getLogger("mcpgateway.server")

EMPTY: Final = Raw(b"{}")
PIPES: Final = ("stdio", "in-process")
_DEFAULT_MAX: Final = 5
_DEFAULT_MAX_SESSIONS: Final = 64
_BACKOFF: Final = Backoff(initial=1.0, maximum=60.0)


@attrs.frozen
class ServerStatistics:
    """A server at one moment."""

    name: str
    state: str
    """``starting``, ``ready``, ``idle`` (starts when used), ``failed`` or ``stopped``."""
    eras: tuple[str, ...]
    """The eras it is known to speak."""
    links: tuple[LinkStatistics, ...]
    waiting: int
    """Calls waiting for a link."""
    failures: int
    """Failed attempts since it was last up."""
    reason: str
    """Why the last attempt failed; empty while it is up."""


class Server:
    """One server behind the gateway. `run` is its life; everything else needs it to be running."""

    def __init__(
        self,
        config: ServerConfig,
        adapter: Adapter,
        *,
        client_info: Raw,
        random: Callable[[], float],
        lazy: bool = False,
        heard: Callable[[Server, LinkKey, Message], None] = lambda server, key, message: None,
    ) -> None:
        self.config = config
        self.name = config.name
        self.adapter = adapter
        self.lazy = lazy
        self.tried = trio.Event()
        """Set when the first attempt to reach the server has ended, or will not be made before it is used."""
        self.spoken: dict[Era, Negotiated | None] = {}
        """What is known of each era: what was negotiated, or ``None`` where it is not spoken."""
        self.reason = ""
        self._client_info = client_info
        self._random = random
        self._heard = heard
        self._slots: list[Slot] = []
        self._free: dict[LinkKey, Slot] = {}
        """Links on which plain calls meet: the answer of `decide` for them, remembered."""
        self._waiters: deque[trio.Event] = deque()
        self._arrivals: dict[Slot, trio.Event] = {}
        self._failures = 0
        self._retry_at = -math.inf
        self._gone = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._stopped = False
        self._pipe = config.type in PIPES

    # ---- life --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled. Never raises anything else: what fails here fails the calls that need it."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._reap)
                await self._keep_up()
        finally:
            self._stopped = True
            self.tried.set()
            self._slots.clear()
            self._free.clear()

    async def _keep_up(self) -> None:
        """Hold ``links.min`` links: connect at the start, and again after each loss, with backoff."""
        if self.lazy or not self.config.links.min:
            self.tried.set()
            await trio.sleep_forever()
        while not self._stopped:
            if not self._usable():
                await self._first_link()
                self.tried.set()
            self._gone = trio.Event()
            if self._usable():
                await self._gone.wait()
            else:
                await trio.sleep_until(self._retry_at)
        await trio.sleep_forever()

    def _usable(self) -> bool:
        return any(slot.link is not None and not slot.link.closed.is_set() for slot in self._slots)

    async def _first_link(self) -> None:
        """Reach the server in whichever era it speaks; failures are logged and remembered, not raised."""
        known = next((era for era, negotiated in self.spoken.items() if negotiated is not None), None)
        slot = Slot(LinkKey(known or Era.MODERN, b"" if known is not Era.LEGACY else b"{}"))
        self._slots.append(slot)
        try:
            await self._connect(slot, Offer(known, self.initialize_params(EMPTY)))
        except ServerError as problem:
            if isinstance(problem, EraMismatch):
                self.spoken.clear()  # it came back as another version of itself
            log.warning("%s", problem.message)

    async def stop(self) -> None:
        """Close all links gracefully, side by side; then cancel what is left. Bounded by the adapters' own bounds."""
        self._stopped = True
        async with trio.open_nursery() as closing:
            for slot in list(self._slots):
                if slot.link is not None:
                    closing.start_soon(slot.link.aclose)
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel(reason=f"server {self.name} stops")

    async def _reap(self) -> None:
        """Close links that have been idle for long, down to ``links.min``."""
        idle_timeout = self.config.links.idle_timeout
        while True:
            await trio.sleep(max(idle_timeout / 4, 1.0))
            before = trio.current_time() - idle_timeout
            for slot in surplus(self._slots, min=self.config.links.min, idle_before=before):
                await self._retire(slot)

    # ---- links -------------------------------------------------------------------------------------------------------

    def isolation(self, era: Era) -> Isolation:
        return resolve(self.config.isolation, pipe=self._pipe, era=era)

    def initialize_params(self, capabilities: Raw, revision: str | None = None) -> Raw:
        """The gateway's own legacy handshake, with a client's capabilities."""
        return initialize_params(revision or LATEST_LEGACY, capabilities, self._client_info)

    def take(self, key: LinkKey) -> Slot | None:
        """A link for a plain call, if there is one at once; give it back with `release`."""
        slot = self._free.get(key)
        if slot is not None and not slot.alone:
            slot.calls += 1
            return slot
        return None

    async def acquire(self, key: LinkKey, *, alone: bool = False, initialize: Raw | None = None) -> Slot:
        """Lease a link, opening one or waiting for one as the isolation says; give it back with `release`.

        ``initialize`` are the raw params of the handshake to make a legacy link with; the gateway's own by default.
        Calls that wait are served first come, first served.

        :raises ServerUnavailable: it cannot be reached, or has just failed and is to be tried again later
        :raises EraMismatch: it does not speak the era of the key
        :raises TooBusy: no link became free within ``links.acquire_timeout``
        """
        self._refuse_if_known(key.era)
        deadline = trio.current_time() + self.config.links.acquire_timeout
        queued = False
        while True:
            decision = self._decide(key, alone)
            if isinstance(decision, Use):
                decision.slot.calls += 1
                decision.slot.alone = alone
                return decision.slot
            if isinstance(decision, Open):
                return await self._open(decision, key, alone, initialize)
            event = trio.Event()
            if isinstance(decision, Join):
                event = self._arrivals[decision.slot]
            elif queued:
                self._waiters.appendleft(event)  # woken, but somebody new was quicker: keep the place
            else:
                self._waiters.append(event)
            queued = True
            with trio.move_on_at(deadline) as scope:
                try:
                    await event.wait()
                finally:
                    if event in self._waiters:
                        self._waiters.remove(event)
            if scope.cancelled_caught:
                raise TooBusy(
                    f"server {self.name!r}: no link became free within {self.config.links.acquire_timeout:g} s; "
                    f"{len(self._slots)} are in use (links.max)"
                )

    def _decide(self, key: LinkKey, alone: bool) -> Decision:
        isolation = self.isolation(key.era)
        return decide(
            self._slots,
            key,
            alone=alone,
            max=self._max(isolation),
            exclusive=isolation is Isolation.EXCLUSIVE,
            single=isolation in (Isolation.SHARED, Isolation.SESSION),
        )

    def _max(self, isolation: Isolation) -> int | None:
        if self.config.links.max is not None:
            return self.config.links.max
        if isolation is Isolation.SESSION:
            return _DEFAULT_MAX_SESSIONS if self._pipe else None
        return _DEFAULT_MAX

    def _refuse_if_known(self, era: Era) -> None:
        if self._stopped or self._nursery is None:
            raise ServerUnavailable(self.name, "is not running")
        if not self.tried.is_set():
            raise ServerUnavailable(self.name, "is still starting; try again in a moment")
        if era in self.spoken and self.spoken[era] is None:
            raise self.mismatch(era)

    def mismatch(self, era: Era) -> EraMismatch:
        other = Era.LEGACY if era is Era.MODERN else Era.MODERN
        return EraMismatch(self.name, client=era.value, server_era=other.value, supported=revisions_of(other))

    async def _open(self, decision: Open, key: LinkKey, alone: bool, initialize: Raw | None) -> Slot:
        slot = Slot(key, calls=1, alone=alone)
        if trio.current_time() < self._retry_at:
            seconds = self._retry_at - trio.current_time()
            raise ServerUnavailable(self.name, f"{self.reason} (next attempt in {math.ceil(seconds)} s)")
        self._slots.append(slot)
        try:
            if decision.evict is not None:
                await self._retire(decision.evict)
        except BaseException:
            self._discard(slot)
            raise
        params = initialize if initialize is not None else self.initialize_params(Raw(key.capabilities or b"{}"))
        await self._connect(slot, Offer(key.era, params))
        return slot

    async def _connect(self, slot: Slot, offer: Offer) -> None:
        """Make the link of a slot that is in the list; on failure the slot is taken out again."""
        assert self._nursery is not None
        self._arrivals[slot] = trio.Event()
        try:
            link = await self.adapter.connect(self._nursery, offer, lambda message: self._receive(slot, message))
        except EraMismatch:
            self._discard(slot)
            if offer.era is None:
                raise
            self.spoken[offer.era] = None
            raise self.mismatch(offer.era) from None
        except ServerError as problem:
            self._discard(slot)
            if not self._usable():
                self._failed(problem.reason)
            raise
        except BaseException:
            self._discard(slot)
            raise
        finally:
            self._arrivals.pop(slot).set()
            self._wake_next()
        self._connected(slot, link, probed=offer.era is None)

    def _connected(self, slot: Slot, link: Link, *, probed: bool) -> None:
        assert self._nursery is not None
        negotiated = link.negotiated
        self.spoken[negotiated.era] = negotiated
        if probed and negotiated.era is Era.LEGACY:
            self.spoken[Era.MODERN] = None
            slot.key = LinkKey(Era.LEGACY, b"{}")
        elif probed:
            slot.key = LinkKey(Era.MODERN)
        if self._failures or self.reason:
            log.info("server %r is back", self.name)
        self._failures, self._retry_at, self.reason = 0, -math.inf, ""
        slot.link = link
        slot.idle_since = trio.current_time()
        if not slot.alone and self.isolation(slot.key.era) is not Isolation.EXCLUSIVE:
            self._free.setdefault(slot.key, slot)
        self._nursery.start_soon(self._bury, slot, link)

    def _failed(self, reason: str) -> None:
        self._retry_at = trio.current_time() + _BACKOFF.delay(self._failures, self._random())
        self._failures += 1
        self.reason = reason

    async def _bury(self, slot: Slot, link: Link) -> None:
        """Wait for the end of a link and take it out of the list."""
        await link.closed.wait()
        unexpected = not slot.leaving and not self._stopped
        if unexpected:
            log.warning("server %r lost a link: %s", self.name, link.failure)
            await self._retire(slot)

    def _leave(self, slot: Slot) -> None:
        """Give no further call to a slot."""
        slot.leaving = True
        if self._free.get(slot.key) is slot:
            del self._free[slot.key]
            for other in self._slots:
                if other.key == slot.key and other.link is not None and not other.leaving:
                    self._free[slot.key] = other
                    break

    def _discard(self, slot: Slot) -> None:
        """Forget a slot whose link has ended, or was never made; its place is free."""
        self._leave(slot)
        if slot in self._slots:
            self._slots.remove(slot)
            self._gone.set()
            self._wake_next()

    async def _retire(self, slot: Slot) -> None:
        """Close a link that nobody uses; its place is free when it is closed."""
        self._leave(slot)
        try:
            if slot.link is not None:
                await slot.link.aclose()
        finally:
            self._discard(slot)

    def release(self, slot: Slot) -> None:
        """Give a leased link back."""
        slot.calls -= 1
        slot.alone = False
        if slot.calls == 0:
            slot.idle_since = trio.current_time()
        if self._waiters:
            self._wake_next()

    def _wake_next(self) -> None:
        if self._waiters:
            self._waiters.popleft().set()

    async def drop_owner(self, owner: str) -> None:
        """Close the links that belong to a client session that has ended."""
        for slot in [slot for slot in self._slots if slot.key.owner == owner]:
            await self._retire(slot)

    def _receive(self, slot: Slot, message: Message) -> None:
        """What a link received outside any call. A request is refused: there is nobody to ask."""
        if message.is_request and message.id is not None and slot.link is not None and self._nursery is not None:
            problem = MethodNotFound(f"no client can be asked for {message.method} outside a call")
            self._nursery.start_soon(self._answer, slot.link, jsonrpc.error(message.id, problem))
            return
        self._heard(self, slot.key, message)

    async def _answer(self, link: Link, message: Message) -> None:
        try:
            await link.notify(message)
        except ServerError as problem:
            log.info("%s", problem.message)

    # ---- what is known ----------------------------------------------------------------------------------------------

    async def known(self, within: float) -> bool:
        """Wait until the server has been tried, for at most so many seconds; whether it has been."""
        if not self.tried.is_set():
            with trio.move_on_after(within):
                await self.tried.wait()
        return self.tried.is_set()

    def may_speak(self, era: Era) -> bool:
        """Whether the server speaks an era, or might."""
        return self.spoken.get(era, True) is not None

    @property
    def state(self) -> str:
        if self._stopped:
            return "stopped"
        if self._usable():
            return "ready"
        if not self.tried.is_set():
            return "starting"
        return "failed" if self.reason else "idle"

    def statistics(self) -> ServerStatistics:
        return ServerStatistics(
            self.name,
            self.state,
            tuple(era.value for era, negotiated in self.spoken.items() if negotiated is not None),
            tuple(slot.link.statistics() for slot in self._slots if slot.link is not None),
            len(self._waiters),
            self._failures,
            self.reason,
        )

    def __repr__(self) -> str:
        return f"<Server {self.name} {self.state}, {len(self._slots)} links>"
