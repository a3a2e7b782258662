"""The life of one server: started at once or when first used, started again with backoff, its links leased to calls.

A `Server` owns the nursery that all its links live in, so a server that goes takes its links and children with it, and
nothing that a server does reaches another.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Final, TypeAlias

import attrs
import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Adapter, Link, LinkStatistics, Offer
from mcpgateway.config.model import Isolation, ServerConfig
from mcpgateway.errors import (
    EraMismatch,
    GatewayError,
    MethodNotFound,
    ServerError,
    ServerTimeout,
    ServerUnavailable,
    TooBusy,
)
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.handshake import initialize_params
from mcpgateway.protocol.revisions import LATEST_LEGACY, Era
from mcpgateway.servers.kept import Kept
from mcpgateway.servers.ledger import LinkKey, Open, Queue, Slot, Use, decide, resolve, surplus
from mcpgateway.servers.links import Links

log = logging.getLogger("mcpgateway.server")

EMPTY: Final = Raw(b"{}")
PIPES: Final = ("stdio", "in-process")
UNKNOWN: Final = LinkKey(Era.MODERN, owner="?")
"""The key of a link whose era is being found out: nobody's."""
SINGLE: Final = (Isolation.SHARED, Isolation.SESSION)
"""One link per key."""
_DEFAULT_MAX: Final = 5
_DEFAULT_MAX_SESSIONS: Final = 64


Heard: TypeAlias = "Callable[[Server, LinkKey, Link, Message], bool]"
"""Takes what a link received outside calls; whether it will be dealt with, which matters for requests. Never blocks."""


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


@attrs.define(eq=False)
class _Waiter:
    """A call that waits for a link; `settled` when it has one, or cannot have one."""

    key: LinkKey
    alone: bool
    initialize: Raw | None
    hears: bool
    slot: Slot | None = None
    problem: ServerError | None = None
    settled: trio.Event = attrs.field(factory=trio.Event)


class Server:
    """One server behind the gateway. `run` is its life; everything else needs it to be running.

    Links are made and closed by tasks of the server, never by the calls that want them: a call that gives up leaves a
    link half made to the next one.
    """

    def __init__(
        self,
        config: ServerConfig,
        adapter: Adapter,
        *,
        client_info: Raw,
        random: Callable[[], float],
        lazy: bool = False,
        heard: Heard = lambda server, key, link, message: False,
        relinked: Callable[[Server, LinkKey], None] = lambda server, key: None,
    ) -> None:
        self.config = config
        self.name = config.name
        self.lazy = lazy
        self.pipe = config.type in PIPES
        """All messages of a link share one stream, which does not say what a server's request is about."""
        self.tried = trio.Event()
        """Set when the first attempt to reach the server has ended, or will not be made before it is used."""
        self._client_info = client_info
        self._heard = heard
        self._links = Links(
            config.name,
            adapter,
            startup_timeout=config.startup_timeout,
            random=random,
            receive=self._receive,
            changed=self._changed,
        )
        self.spoken = self._links.spoken
        self._slots = self._links.slots
        self._free = self._links.free
        self.kept = Kept(self._carrier, lambda key: relinked(self, key))
        self._waiters: dict[_Waiter, None] = {}
        self._moved = trio.Event()
        self._probing = trio.Lock()
        self._stopped = False

    # ---- life --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled. Never raises anything else: what fails here fails the calls that need it."""
        try:
            async with trio.open_nursery() as nursery:
                self._links.nursery = nursery
                nursery.start_soon(self._reap)
                await self._keep_up()
        finally:
            self._end()
            self._slots.clear()

    async def _keep_up(self) -> None:
        """Hold ``links.min`` links: connect at the start, and again after each loss, with backoff."""
        if not self._wanted():
            self.tried.set()
        while True:
            self._moved = trio.Event()
            pause = self._links.attempts.pause(trio.current_time())
            probing = len(self._slots) < self._wanted()
            absent = self.kept.absent()
            if not probing and absent is None:
                await self._moved.wait()
            elif pause:
                await trio.sleep(pause)
            elif probing:
                await self.probe()
                self.tried.set()
            else:
                assert absent is not None
                await self._make_kept(absent)

    async def _make_kept(self, key: LinkKey) -> None:
        """Make a link for a key that is to have one, or wait until there is room for it."""
        try:
            slot = self._grant(key, False, None)
        except ServerError:
            slot = None
        if slot is None:
            await self._moved.wait()
            return
        problem = await self._links.settled(slot)
        self.release(slot)
        if isinstance(problem, EraMismatch):
            self.kept.discard(key)

    def _wanted(self) -> int:
        if self.lazy or not self.config.links.min:
            return 0
        known = self._known_era()
        if known is None or self.isolation(known) in SINGLE:
            return 1
        return min(self.config.links.min, self._max(self.isolation(known)) or self.config.links.min)

    def _known_era(self) -> Era | None:
        return next((era for era, negotiated in self.spoken.items() if negotiated is not None), None)

    async def probe(self) -> None:
        """Make a link in whichever era the server speaks. A failure is logged and remembered, not raised."""
        known = self._known_era()
        slot = Slot(UNKNOWN if known is None else LinkKey(known, b"{}" if known is Era.LEGACY else b""))
        hears = self.isolation(Era.LEGACY) is not Isolation.SESSION  # where sessions are clients', nobody uses this one
        self._links.begin(slot, Offer(known, self.initialize_params(EMPTY), hears=hears), None)
        problem = await self._links.settled(slot)
        if problem is not None:
            log.warning("%s", problem.message)
            if isinstance(problem, EraMismatch):
                self.spoken.clear()  # it came back as another version of itself

    async def stop(self) -> None:
        """Close all links gracefully, side by side; then cancel what is left. Bounded by the adapters' own bounds."""
        self._end()
        try:
            await self._links.end()
        finally:
            if self._links.nursery is not None:
                self._links.nursery.cancel_scope.cancel(reason=f"server {self.name} stops")

    def _end(self) -> None:
        """Lease no link any more."""
        self._stopped = True
        self.tried.set()
        self._free.clear()
        self._serve_waiters()

    def _changed(self) -> None:
        """A link was made, or has gone."""
        self._moved.set()
        self.kept.check()
        if self._waiters:
            self._serve_waiters()

    async def _reap(self) -> None:
        """Close links that have been idle for long, down to ``links.min``."""
        idle_timeout = self.config.links.idle_timeout
        while True:
            await trio.sleep(max(idle_timeout / 4, 1.0))
            before = trio.current_time() - idle_timeout
            for slot in surplus(self._slots, min=self.config.links.min, idle_before=before):
                self._links.retire_soon(slot)

    # ---- links that are listened to ----------------------------------------------------------------------------------

    def keep(self, key: LinkKey) -> bool:
        """Hold the link of this key while somebody listens; see `mcpgateway.servers.kept.Kept.add`."""
        return not self._stopped and self.kept.add(key, self._max(self.isolation(key.era)))

    def is_linked(self, key: LinkKey) -> bool:
        """Whether a plain call of this key finds a link that is there."""
        return self._carrier(key) is not None

    def _carrier(self, key: LinkKey) -> Slot | None:
        """The link on which plain calls of a key meet."""
        free = self._free.get(key)
        if free is not None:
            return free
        return next((slot for slot in self._slots if slot.key == key and slot.link is not None and slot.usable), None)

    # ---- leases ------------------------------------------------------------------------------------------------------

    def take(self, key: LinkKey) -> Slot | None:
        """A link for a plain call, if there is one at once; give it back with `release`."""
        slot = self._free.get(key)
        if slot is not None and not slot.alone:
            slot.calls += 1
            return slot
        return None

    async def acquire(
        self, key: LinkKey, *, alone: bool = False, initialize: Raw | None = None, hears: bool = True
    ) -> Slot:
        """Lease a link, having one made or waiting for one as the isolation says; give it back with `release`.

        ``initialize`` are the raw params of the handshake to make a legacy link with; the gateway's own by default.
        ``hears`` is that of the `Offer`: false where the session is to be the client's own.
        Calls that wait are served first come, first served; none overtakes another that could have had its link.

        :raises ServerUnavailable: it cannot be reached, or has just failed and is to be tried again later
        :raises EraMismatch: it does not speak the era of the key
        :raises TooBusy: no link became free within ``links.acquire_timeout``
        """
        self._refuse_if_known(key.era)
        slot = self._grant(key, alone, initialize, hears)
        if slot is None:
            slot = await self._wait(_Waiter(key, alone, initialize, hears))
        if slot.link is None:
            try:
                problem = await self._links.settled(slot)
            except BaseException:
                self.release(slot)
                raise
            if problem is not None:
                raise self._links.again(problem, key.era)
        if not slot.alone and not slot.leaving:
            self._free[key] = slot
        return slot

    async def _wait(self, waiter: _Waiter) -> Slot:
        self._waiters[waiter] = None
        seconds = self.config.links.acquire_timeout
        try:
            with trio.move_on_after(seconds):
                await waiter.settled.wait()
        finally:
            self._waiters.pop(waiter, None)
        if waiter.slot is not None:
            return waiter.slot
        raise waiter.problem or TooBusy(
            f"server {self.name!r}: no link became free within {seconds:g} s; {len(self._slots)} are in use (links.max)"
        )

    def _grant(self, key: LinkKey, alone: bool, initialize: Raw | None, hears: bool = True) -> Slot | None:
        """Lease a link, which may have to be made first; ``None`` if the call has to wait."""
        if self._stopped:
            raise ServerUnavailable(self.name, "is not running")
        isolation = self.isolation(key.era)
        exclusive, single = isolation is Isolation.EXCLUSIVE, isolation in SINGLE
        match decide(self._slots, key, alone=alone, max=self._max(isolation), exclusive=exclusive, single=single):
            case Queue():
                return None
            case Use(slot):
                pass
            case Open(evict):
                slot = self._open(key, initialize, evict, hears=hears)
        slot.calls += 1
        slot.alone = (alone or exclusive) and not single
        return slot

    def release(self, slot: Slot, *, close: bool = False) -> None:
        """Give a leased link back; ``close`` it if it is not fit for another call."""
        slot.calls -= 1
        slot.alone = False
        if slot.calls == 0:
            slot.idle_since = trio.current_time()
        if close:
            self._links.retire_soon(slot)
        if self._waiters:
            self._serve_waiters()

    def _serve_waiters(self) -> None:
        """Lease what has become free to those who wait, in their order."""
        in_vain: set[tuple[LinkKey, bool]] = set()
        for waiter in list(self._waiters):
            if (waiter.key, waiter.alone) in in_vain:
                continue
            try:
                waiter.slot = self._grant(waiter.key, waiter.alone, waiter.initialize, waiter.hears)
            except ServerError as problem:
                waiter.problem = problem
            else:
                if waiter.slot is None:
                    in_vain.add((waiter.key, waiter.alone))
                    continue
            del self._waiters[waiter]
            waiter.settled.set()

    def _open(self, key: LinkKey, initialize: Raw | None, evict: Slot | None, *, hears: bool) -> Slot:
        seconds = self._links.attempts.pause(trio.current_time())
        if seconds and not self._links.usable:
            reason = self._links.attempts.reason
            raise ServerUnavailable(self.name, f"{reason} (next attempt in {math.ceil(seconds)} s)")
        slot = Slot(key)
        params = initialize if initialize is not None else self.initialize_params(Raw(key.capabilities or b"{}"))
        self._links.begin(slot, Offer(key.era, params, hears=hears), evict)
        return slot

    def end_owner(self, owner: str) -> None:
        """Close the links that belong to a client session that has ended, those in the making included."""
        self.kept.discard_owner(owner)
        for slot in [slot for slot in self._slots if slot.key.owner == owner]:
            self._links.retire_soon(slot)

    def _receive(self, slot: Slot, message: Message) -> None:
        """What a link received outside any call. A request that nobody takes is refused: there is nobody to ask."""
        link = slot.link
        assert link is not None
        if self._heard(self, slot.key, link, message):
            return
        if message.is_request and message.id is not None:
            problem = MethodNotFound(f"no client can be asked for {message.method} outside a call")
            self.answer_soon(link, jsonrpc.error(message.id, problem))

    def answer_soon(self, link: Link, message: Message) -> None:
        """Send what nobody waits for on a link, in a task of the server."""
        if self._links.nursery is not None and not self._stopped:
            self._links.nursery.start_soon(self._answer, link, message)

    async def _answer(self, link: Link, message: Message) -> None:
        try:
            await link.notify(message)
        except GatewayError as problem:
            log.info("%s", problem.message)

    # ---- what is known -----------------------------------------------------------------------------------------------

    def isolation(self, era: Era) -> Isolation:
        return resolve(self.config.isolation, pipe=self.pipe, era=era)

    def initialize_params(self, capabilities: Raw, revision: str | None = None) -> Raw:
        """The gateway's own legacy handshake, with a client's capabilities."""
        return initialize_params(revision or LATEST_LEGACY, capabilities, self._client_info)

    def _max(self, isolation: Isolation) -> int | None:
        if self.config.links.max is not None:
            return self.config.links.max
        if isolation is Isolation.SESSION:
            return _DEFAULT_MAX_SESSIONS if self.pipe else None
        return _DEFAULT_MAX

    def _refuse_if_known(self, era: Era) -> None:
        if self._stopped or self._links.nursery is None:
            raise ServerUnavailable(self.name, "is not running")
        if not self.tried.is_set():
            raise ServerUnavailable(self.name, "is still starting; try again in a moment")
        if era in self.spoken and self.spoken[era] is None:
            raise self._links.mismatch(era)

    async def known(self, within: float) -> bool:
        """Wait until the server has been tried, for at most so many seconds; whether it has been."""
        if not self.tried.is_set():
            with trio.move_on_after(within):
                await self.tried.wait()
        return self.tried.is_set()

    async def find_era(self) -> None:
        """Find out what a server speaks that was not used yet; for callers that do not mind the era."""
        async with self._probing:
            if not (self.spoken or self._slots or self._stopped) and self.tried.is_set():
                await self.probe()

    def timed_out(self) -> ServerTimeout:
        """What a call fails with when its deadline has passed."""
        return ServerTimeout(self.name, f"did not answer within {self.config.timeout:g} s")

    def may_speak(self, era: Era) -> bool:
        """Whether the server speaks an era, or might."""
        return self.spoken.get(era, True) is not None

    @property
    def state(self) -> str:
        if self._stopped:
            return "stopped"
        if self._links.usable:
            return "ready"
        if not self.tried.is_set():
            return "starting"
        return "failed" if self._links.attempts.reason else "idle"

    def statistics(self) -> ServerStatistics:
        return ServerStatistics(
            self.name,
            self.state,
            tuple(era.value for era, negotiated in self.spoken.items() if negotiated is not None),
            tuple(slot.link.statistics() for slot in self._slots if slot.link is not None),
            len(self._waiters),
            0 if self._links.usable else self._links.attempts.failures,
            self._links.attempts.reason,
        )

    def __repr__(self) -> str:
        return f"<Server {self.name} {self.state}, {len(self._slots)} links>"
