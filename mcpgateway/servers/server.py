"""The life of one server: started at once or when first used, tried again when it fails, and what is known of it.

A `Server` owns the nursery that all its links live in, so a server that goes takes its links and children with it, and
nothing that a server does reaches another.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import attrs
import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Adapter, Link, LinkStatistics, Offer
from mcpgateway.catalog.naming import Target
from mcpgateway.config.model import Isolation, ServerConfig
from mcpgateway.errors import EraMismatch, GatewayError, MethodNotFound, NotTried, ServerTimeout
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.handshake import initialize_params
from mcpgateway.protocol.negotiated import Negotiated
from mcpgateway.protocol.revisions import LATEST_LEGACY, Era
from mcpgateway.servers.health import Health, attempts_of
from mcpgateway.servers.kept import Kept
from mcpgateway.servers.leases import SINGLE, Leases, Terms
from mcpgateway.servers.ledger import LinkKey, Slot, resolve, surplus
from mcpgateway.servers.links import Links

log = logging.getLogger("mcpgateway.server")

EMPTY: Final = Raw(b"{}")
UNKNOWN: Final = LinkKey(Era.MODERN, owner="?")
"""The key of a link whose era is being found out: nobody's."""
STATES: Final = ("starting", "ready", "idle", "failed", "stopped")
_DEFAULT_MAX: Final = 5
_DEFAULT_MAX_SESSIONS: Final = 64


Heard: TypeAlias = "Callable[[Server, LinkKey, Link, Message], bool]"
"""Takes what a link received outside calls; whether it will be dealt with, which matters for requests. Never blocks."""


@attrs.frozen
class ServerStatistics:
    """A server at one moment."""

    name: str
    state: str
    """One of `STATES`; ``idle`` is one that starts when used."""
    eras: tuple[str, ...]
    """The eras it is known to speak."""
    links: tuple[LinkStatistics, ...]
    waiting: int
    """Calls waiting for a link."""
    failures: int
    """Failed attempts since it was last up, or calls in a row that failed because of it."""
    reason: str
    """Why the last attempt failed, or the calls; empty while it is well."""
    circuit: str
    """``closed``, ``open`` (it gets no calls) or ``half-open`` (it has answered a ping since)."""
    retry_in: float | None
    """Seconds until the next attempt, or ping; ``None`` where none is due."""
    made: int
    """Links made, so far; of a stdio server, processes started."""
    lost: int
    """Links that ended by themselves, so far: processes that exited, connections that broke."""
    failed: int
    """Attempts to make a link that failed, so far."""


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
        arrived: Callable[[Server], None] = lambda server: None,
    ) -> None:
        self.config = config
        self.name = config.name
        self.lazy = lazy
        self.pipe = config.pipe
        self.tried = trio.Event()
        """Set when the first attempt to reach the server has ended, or will not be made before it is used."""
        self.repeatable: set[str] = set()
        """Its tools that may be called twice, by its own names, as far as it was seen to list them."""
        self.tools: dict[str, Target] = {}
        """Its tools, by its own names, as far as it was seen to list them."""
        self.missed = False
        """Whether a listing was made without it since a link was made last: ``arrived`` is called at the next one."""
        self._arrived = arrived
        self._client_info = client_info
        self._heard = heard
        self._links = Links(
            config.name,
            adapter,
            startup_timeout=config.startup_timeout,
            attempts=attempts_of(config.recovery),
            random=random,
            receive=self._receive,
            changed=self._changed,
        )
        self.spoken = self._links.spoken
        self._spoken_before: dict[Era, Negotiated | None] = {}
        """What was known of each era before the server was configured anew, where that was not found out again."""
        self._moved = trio.lowlevel.ParkingLot()
        self.health = Health(
            config.name,
            self._links,
            config.recovery,
            moved=self._moved,
            probe=self.probe,
            handshake=self.initialize_params(EMPTY),
            random=random,
        )
        self.kept = Kept(self.carrier, lambda key: relinked(self, key))
        self._leases = Leases(config.name, self._links, self._terms(), self.initialize_params)
        self.take = self._leases.take
        self.release = self._leases.release
        self.leave = self._leases.leave
        self._probing = trio.Lock()
        self._stopped = False

    # ---- life --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled. Never raises anything else: what fails here fails the calls that need it."""
        try:
            async with trio.open_nursery() as nursery:
                self._links.nursery = nursery
                nursery.start_soon(self._reap)
                nursery.start_soon(self.health.run)
                try:
                    await self._keep_up()
                finally:
                    self._links.abandon()
        finally:
            self._end()
            self._links.slots.clear()

    async def _keep_up(self) -> None:
        """Hold ``links.min`` links: connect at the start, and again after each loss, with backoff.

        After ``recovery.attempts`` failures in a row this is left to those who need the server: to calls, and to the
        links that somebody listens to.
        """
        if not self._wanted():
            self.tried.set()
        while True:
            attempts = self._links.attempts
            pause = attempts.pause(trio.current_time())
            probing = len(self._links.slots) < self._wanted() and not attempts.exhausted
            absent = self.kept.absent()
            if not probing and absent is None:
                await self._moved.park()
            elif pause:
                with trio.move_on_after(pause):
                    await self._moved.park()
            elif probing:
                await self.probe()
                self.tried.set()
            else:
                assert absent is not None
                await self._make_kept(absent)

    async def _make_kept(self, key: LinkKey) -> None:
        """Make a link for a key that is to have one, or wait until there is room for it."""
        slot = self._leases.grant_own(key)
        if slot is None:
            await self._moved.park()
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
        return min(self.config.links.min, self._places(self.isolation(known)) or self.config.links.min)

    def _known_era(self) -> Era | None:
        return next((era for era, negotiated in self.spoken.items() if negotiated is not None), None)

    async def probe(self) -> None:
        """Make a link in whichever era the server speaks. A failure is logged and remembered, not raised."""
        known = self._known_era()
        slot = Slot(UNKNOWN if known is None else LinkKey(known, b"{}" if known is Era.LEGACY else b""))
        hears = self.isolation(Era.LEGACY) is not Isolation.SESSION  # where sessions are clients', nobody uses this one
        self._links.begin(slot, Offer(known, self.initialize_params(EMPTY), hears=hears), None)
        problem = await self._links.settled(slot)
        if problem is not None and not self._stopped:
            log.warning("%s", problem.message)
            if isinstance(problem, EraMismatch):
                self.spoken.clear()  # it came back as another version of itself
            if self._links.attempts.failures == self.config.recovery.attempts:
                log.warning("server %r: no further attempt is made until somebody needs it", self.name)

    async def stop(self) -> None:
        """Close all links gracefully, side by side; then cancel what is left. Bounded by the adapters' own bounds."""
        self._end()
        try:
            await self._links.end()
        finally:
            if self._links.nursery is not None:
                self._links.nursery.cancel_scope.cancel(reason=f"server {self.name} stops")

    async def retire(self, drain: float) -> None:
        """Lease no link any more, let calls finish for up to ``drain`` seconds, then `stop`."""
        self._end()
        with trio.move_on_after(drain):
            await self._leases.idle()
        await self.stop()

    def reconfigure(self, config: ServerConfig, adapter: Adapter, *, drain: float) -> None:
        """Be the server of another configuration from now on; whoever refers to this object need not know.

        Links are made by ``adapter``. Those that are there finish their calls for up to ``drain`` seconds and are
        closed; those that somebody listens to are made anew, which is told like any other loss (``relinked``).
        """
        self.config = config
        self.pipe = config.pipe
        self._spoken_before |= self.spoken
        self.repeatable.clear()
        self.tools.clear()
        self.health.reset(config.recovery)
        self._leases.terms = self._terms()
        self._links.startup_timeout = config.startup_timeout
        self._links.change(adapter, self._leases.idle, drain)
        self._changed()

    def _terms(self) -> Terms:
        return Terms(self.isolation, self._places, self.config.links.acquire_timeout, self.config.max_calls)

    def _end(self) -> None:
        """Lease no link any more."""
        self._stopped = True
        self.tried.set()
        self._leases.end()
        self._moved.unpark_all()

    def _changed(self) -> None:
        """A link was made, or has gone."""
        self._moved.unpark_all()
        self.kept.check()
        if self.missed and self._links.usable:
            self.missed = False
            self._arrived(self)
        if self._leases.waiting:
            self._leases.serve_waiters()

    async def _reap(self) -> None:
        """Close links that have been idle for long, down to ``links.min``."""
        while True:
            idle_timeout = self.config.links.idle_timeout
            await trio.sleep(max(idle_timeout / 4, 1.0))
            before = trio.current_time() - idle_timeout
            for slot in surplus(self._links.slots, min=self.config.links.min, idle_before=before):
                self._links.retire_soon(slot)

    # ---- links that are listened to ----------------------------------------------------------------------------------

    def keep(self, key: LinkKey) -> bool:
        """Hold the link of this key while somebody listens; see `mcpgateway.servers.kept.Kept.add`."""
        return not self._stopped and self.kept.add(key, self._places(self.isolation(key.era)))

    def is_linked(self, key: LinkKey) -> bool:
        """Whether a plain call of this key finds a link that is there."""
        return self.carrier(key) is not None

    def carrier(self, key: LinkKey) -> Slot | None:
        """The link on which plain calls of a key meet."""
        free = self._links.free.get(key)
        if free is not None:
            return free
        slots = self._links.slots
        return next((slot for slot in slots if slot.key == key and slot.link is not None and slot.usable), None)

    # ---- leases ------------------------------------------------------------------------------------------------------

    async def acquire(
        self,
        key: LinkKey,
        *,
        alone: bool = False,
        initialize: Raw | None = None,
        hears: bool = True,
        listens: bool = False,
    ) -> Slot:
        """Lease a link, having one made or waiting for one as the isolation says; give it back with `release`.

        ``initialize`` are the raw params of the handshake to make a legacy link with; the gateway's own by default.
        ``hears`` is that of the `Offer`: false where the session is to be the client's own.
        ``listens`` is for subscriptions, which share a link with whatever is on it: give it back with `leave`.
        Calls that wait are served first come, first served; none overtakes another that could have had its link.
        While the server has just failed, a call waits for up to `mcpgateway.servers.health.PATIENCE` seconds.

        :raises ServerUnavailable: it cannot be reached, or keeps failing and is to be tried again later
        :raises EraMismatch: it does not speak the era of the key
        :raises TooBusy: no link became free within ``links.acquire_timeout``, or ``max_calls`` are with it
        """
        self._refuse_if_known(key.era)
        await self.health.sit_out()
        self._refuse_if_known(key.era)  # what is known may have changed meanwhile
        return await self._leases.acquire(key, alone=alone, initialize=initialize, hears=hears, listens=listens)

    def end_owner(self, owner: str) -> None:
        """Close the links that belong to a client session that has ended, those in the making included."""
        self.kept.discard_owner(owner)
        self._leases.refuse(owner)
        for slot in [slot for slot in self._links.slots if slot.key.owner == owner]:
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
        return resolve(self.config.isolation, local=self.config.local, era=era)

    def initialize_params(self, capabilities: Raw, revision: str | None = None) -> Raw:
        """The gateway's own legacy handshake, with a client's capabilities."""
        return initialize_params(revision or LATEST_LEGACY, capabilities, self._client_info)

    def _places(self, isolation: Isolation) -> int | None:
        if self.config.links.max is not None:
            return self.config.links.max
        if isolation is Isolation.SESSION:
            return _DEFAULT_MAX_SESSIONS if self.config.local else None
        # The sessions of legacy clients are no links that a modern one could wait for: it would wait for them to end.
        sessions = not self.config.local and self.isolation(Era.LEGACY) is Isolation.SESSION
        return None if sessions else _DEFAULT_MAX

    def _refuse_if_known(self, era: Era) -> None:
        if self._stopped or self._links.nursery is None:
            raise NotTried(self.name, "is not running")
        if not self.tried.is_set():
            raise NotTried(self.name, "is still starting; try again in a moment")
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
            if not (self.spoken or self._links.slots or self._stopped) and self.tried.is_set():
                await self.probe()

    def timed_out(self, seconds: float | None = None) -> ServerTimeout:
        """What a call fails with when its deadline has passed."""
        return ServerTimeout(self.name, f"did not answer within {seconds or self.config.timeout:g} s")

    def may_speak(self, era: Era) -> bool:
        """Whether the server speaks an era, or might."""
        return self.spoken.get(era, True) is not None

    @property
    def presumed(self) -> Mapping[Era, Negotiated | None]:
        """What is known of each era (`spoken`), and of the others what was known before a new configuration."""
        return {**self._spoken_before, **self.spoken} if self._spoken_before else self.spoken

    @property
    def unstarted(self) -> bool:
        """Whether the last attempt that failed found nobody to shake hands with: its command cannot be run, say."""
        return self._links.unstarted

    @property
    def state(self) -> str:
        if self._stopped:
            return "stopped"
        if self.health.failing:
            return "failed"
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
            tuple(slot.link.statistics() for slot in self._links.all if slot.link is not None),
            self._leases.waiting,
            self.health.failures(),
            self.health.reason(),
            self.health.breaker.state.value,
            self.health.retry_in(),
            self._links.made,
            self._links.lost,
            self._links.failed,
        )

    def __repr__(self) -> str:
        return f"<Server {self.name} {self.state}, {len(self._links.slots)} links>"
