"""Upstreams: WebSockets that the gateway dials, and on which it then is the MCP server of whoever is at the far end.

What goes over the socket is what goes over one that was accepted (`mcpgateway.fronts.websocket_channel`); an upstream
adds that it dials, and dials again (`mcpgateway.fronts.dialling` decides when), that it pings, and what an AI cloud has
the patience for (`mcpgateway.calls.impatient`). Servers, its sessions there (`mcpgateway.fronts.kept_sessions`) and
other upstreams do not notice that a connection has ended; calls in flight on it are cancelled.

An upstream is called by its name in logs and errors. Its endpoint, which holds a token, is shown nowhere.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final
from urllib.parse import unquote_plus, urlsplit

import attrs
import trio

from mcpgateway import jsonrpc
from mcpgateway.calls.impatient import Impatience, Terms
from mcpgateway.config.masking import without
from mcpgateway.config.model import OnToolsChanged, UpstreamConfig
from mcpgateway.config.secrets import secrets_of
from mcpgateway.errors import GatewayError, ReplyTooLong, ShuttingDown
from mcpgateway.fronts.channel import Channel, Commons
from mcpgateway.fronts.dialling import Event, Life, State, step
from mcpgateway.fronts.kept_sessions import KeptSessions
from mcpgateway.fronts.websocket_channel import COURTESY, End, Pace, WebSocketChannel
from mcpgateway.gateway import Gateway
from mcpgateway.wire.tls import client_context
from mcpgateway.wire.transport import Transport
from mcpgateway.wire.websocket import CannotConnect, HandshakeRefused
from mcpgateway.wire.websocket_client import open_websocket
from mcpgateway.wire.websocket_server import Frames

log = logging.getLogger("mcpgateway.upstream")

UNWELCOME: Final = 4004
"""The close code by which xiaozhi's cloud says that it wants no connection, "Internal server error" in its words."""

LAST_WORDS: Final = 0.3
"""Seconds at the end of a drain for what calls are answered that were ended."""

SHORTEST_SECRET: Final = 4
"""Characters of the shortest parameter of an endpoint that is hidden."""

REMARKS: Final = 20
"""What is odd about a peer is logged so many times on one connection."""

_OURS: Final = "the gateway failed, which its log tells of"

_FRAMING: Final = frozenset(
    {"host", "connection", "upgrade", "sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions"}
)


@attrs.frozen
class UpstreamStatistics:
    """An upstream at one moment. Times are in seconds."""

    name: str
    state: State
    since: float
    """How long it has been in this state."""
    reconnects: int
    """How often it was connected again, so far."""
    failures: int
    """Attempts and connections in a row that came to nothing, or did not last."""
    reason: str
    """Why it is not connected, or was not the last time; empty where it always was."""
    retry_in: float | None
    """When it is dialled again, if it waits for that."""
    calls: int
    """Requests of the upstream, so far."""
    overdue: int
    """Those of them that took longer than ``call_deadline``."""
    in_flight: int
    round_trip: float | None
    """From the last ping to its pong; ``None`` before the first one."""


class Upstream:
    """One upstream of a gateway: `run` dials it and serves it. Another configuration is another upstream. ``moved`` is
    called when it comes into another state."""

    def __init__(
        self,
        config: UpstreamConfig,
        gateway: Gateway,
        *,
        moved: Callable[[], None],
        random: Callable[[], float] = random.random,
    ) -> None:
        self.config = config
        self.who = f"upstream {config.name!r}"
        self._gateway = gateway
        self._moved = moved
        self._random = random
        self._life = Life()
        self._reason = ""
        self._secrets = _secrets(config)
        own = config.tls.client_cert
        self._tls = partial(client_context, ca=config.tls.ca, identity=None if own is None else (own.cert, own.key))
        reconnects = config.on_tools_changed is OnToolsChanged.RECONNECT and config.reconnect.enabled
        terms = Terms(self.who, config.call_deadline, config.reply_bytes)
        self._impatience = Impatience(terms, self._tools_changed if reconnects else None)
        self._commons = Commons(
            lambda name: self._impatience.view(gateway.namespace(name, upstream=config.name)),
            *(gateway.sessions, gateway.callers, gateway.sweeper, gateway.bounds),
        )
        self.kept = KeptSessions(gateway.sessions)
        self.round_trip: float | None = None
        """Seconds from the last ping to its pong."""
        self._stopped: float | None = None
        """Once it is being stopped, the time until which calls in flight have."""
        self._patience = trio.CancelScope()
        """Around the wait for them."""
        self._idle: trio.CancelScope | None = None
        """Around what is not worth being waited for then."""
        self._ending = trio.Event()
        """The connection that there is has to end."""

    # ---- its life ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Dial, serve, wait and dial again, until it is stopped or has come to its end."""
        self._life = Life(since=trio.current_time())
        try:
            await self._wait_for_servers()
            async with trio.open_nursery() as keeping:
                keeping.start_soon(self._impatience.keep)
                while self._life.state is not State.ENDED:
                    await self._live()
                keeping.cancel_scope.cancel(reason="the upstream has ended")
        finally:
            self._life = attrs.evolve(self._life, state=State.ENDED)  # whatever became of it
            self.kept.close()
            self._moved()

    async def _wait_for_servers(self) -> None:
        """Wait until the servers that it sees have been tried, for as long as a listing waits (``startup_wait``); where
        it sees but one, for that, for there is nothing to show without it.

        A cloud loses its patience over a handshake, and takes the first list for all that there ever is.
        """
        namespace = self._gateway.namespace(self.config.namespace)
        servers = () if namespace is None else namespace.servers
        if self._stopped is None:
            with trio.move_on_after(math.inf if len(servers) == 1 else self._gateway.config.startup_wait) as self._idle:
                for server in servers:
                    await server.tried.wait()

    async def _live(self) -> None:
        """Go through the state that it is in."""
        if self._stopped is not None:
            self._step(Event.STOPPED)
        elif self._life.state is State.WAITING:
            await self._wait()
        else:
            await self._attempt()

    def stop(self, timeout: float) -> None:
        """Have it end: now if it is not connected, else once calls in flight are answered, for which they have so many
        seconds; the soonest counts. Never waits; `run` returns when it is done."""
        by = trio.current_time() + timeout
        self._stopped = by if self._stopped is None else min(by, self._stopped)
        self._patience.deadline = min(by, self._patience.deadline)
        self._ending.set()
        if self._idle is not None:
            self._idle.cancel(reason="the upstream is being stopped")

    async def _wait(self) -> None:
        with trio.CancelScope() as self._idle:
            await trio.sleep_until(self._life.since + self._life.pause)
            self._step(Event.ELAPSED)

    async def _attempt(self) -> None:
        """Dial once, and serve what comes of it."""
        config = self.config
        event = Event.UNREACHABLE
        try:
            with trio.CancelScope() as self._idle:
                transport, frames = await open_websocket(
                    config.endpoint.reveal(),
                    _fields(config),
                    self._gateway.poller,
                    self._tls,
                    config.connect_timeout,
                    config.message_bytes,
                )
        except HandshakeRefused as refused:
            event = Event.REFUSED if refused.status in (401, 403) else Event.UNREACHABLE
            reason = _explained(refused.status)
        except CannotConnect as problem:
            reason = str(problem)
        except Exception:
            log.exception("%s: an attempt to dial it failed", self.who)
            reason = _OURS
        else:
            if self._idle.cancelled_caught:
                return
            event, reason = await self._serve(transport, frames)
        if self._stopped is not None:
            return
        self._reason = self.shown(reason)
        self._step(event)
        self._tell(event)

    async def _serve(self, transport: Transport, frames: Frames) -> tuple[Event, str]:
        """Be the server on an open connection, which is closed here; what its end means, and why it came."""
        try:
            self._step(Event.OPENED)
            log.info("%s: connected", self.who)
            if self._gateway.namespace(self.config.namespace) is None:
                log.error("%s: there is no namespace %r, so it sees no tools", self.who, self.config.namespace)
            if self._stopped is None:
                self._ending = trio.Event()
            end = await _Dialled(self, transport, frames).run(self.config.namespace, b"")
        except Exception:
            log.exception("%s: a connection was given up", self.who)
            end = End(_OURS)
        finally:
            transport.close()
        if end.code == UNWELCOME:
            return Event.REFUSED, f"{end.reason}: it has failed, or does not take the token in its endpoint"
        return Event.DROPPED, end.reason

    def _step(self, event: Event) -> None:
        self._life = step(self._life, event, self.config.reconnect, now=trio.current_time(), unit=self._random())
        self._moved()

    def lasted(self) -> None:
        """The connection has been open for ``reconnect.stable`` seconds."""
        self._step(Event.LASTED)

    def _tell(self, event: Event) -> None:
        """Log that there is no connection, and what is done about it."""
        life = self._life
        if life.state is State.ENDED:
            log.error("%s: %s; it is not dialled again (reconnect.enabled)", self.who, self._reason)
        else:
            level = logging.ERROR if event is Event.REFUSED else logging.WARNING
            log.log(level, "%s: %s; dialled again in %.1f s", self.who, self._reason, life.pause)

    # ---- while it is connected ---------------------------------------------------------------------------------------

    def _tools_changed(self) -> None:
        """End the connection, politely: the cloud lists tools when there is a new one."""
        if not self._ending.is_set():
            log.info("%s: the tools have changed, so it is dialled anew (on_tools_changed)", self.who)
            self._ending.set()

    async def end_in_time(self, channel: Channel) -> None:
        """End a connection when that is wanted, and the calls in flight when their time is over."""
        await self._ending.wait()
        problem = ShuttingDown("this connection is being ended")
        channel.drain(problem)
        by = trio.current_time() + self._gateway.config.shutdown_timeout if self._stopped is None else self._stopped
        with trio.CancelScope(deadline=by) as self._patience:
            await trio.sleep_forever()
        channel.end_calls(problem)
        await trio.sleep(LAST_WORDS)

    @property
    def state(self) -> State:
        """Where it is in its life."""
        return self._life.state

    @property
    def address(self) -> str:
        """What it counts as in the gateway's bounds."""
        return f"upstream:{self.config.name}"

    @property
    def commons(self) -> Commons:
        return self._commons

    @property
    def pace(self) -> Pace:
        return Pace(self.config.keepalive.timeout, self._gateway.config.listen.limits.write_rate)

    # ---- what is to be seen ------------------------------------------------------------------------------------------

    def shown(self, text: str) -> str:
        """A text that may be in the cloud's own words, as it may be shown."""
        return without(self._secrets, text)

    def statistics(self) -> UpstreamStatistics:
        life, now = self._life, trio.current_time()
        waiting = life.state is State.WAITING
        return UpstreamStatistics(
            name=self.config.name,
            state=life.state,
            since=now - life.since,
            reconnects=max(0, life.connections - 1),
            failures=life.failures,
            reason=self._reason,
            retry_in=max(0.0, life.since + life.pause - now) if waiting else None,
            calls=self._impatience.calls,
            overdue=self._impatience.overdue,
            in_flight=self._gateway.bounds.calls.of(self.address),
            round_trip=self.round_trip,
        )

    def __repr__(self) -> str:
        return f"<Upstream {self.config.name!r} {self._life.state.value}>"


class _Dialled(WebSocketChannel):
    """One connection of an upstream."""

    def __init__(self, upstream: Upstream, transport: Transport, frames: Frames) -> None:
        super().__init__(upstream.commons, transport, upstream.address, frames, upstream.pace)
        self._upstream = upstream
        self._heard = trio.current_time()
        """When bytes came last."""
        self._asked: float | None = None
        """When a ping was sent whose pong has not come."""
        frames.ponged = self._ponged
        self._remarks = 0

    def _attend(self, channel: Channel, nursery: trio.Nursery) -> None:
        channel.remark = self._remark
        channel.kept = self._upstream.kept
        nursery.start_soon(self._keep_alive)
        nursery.start_soon(self._keep_moving)
        nursery.start_soon(self._last)
        nursery.start_soon(self._end_in_time, channel)

    async def _last(self) -> None:
        await trio.sleep(self._upstream.config.reconnect.stable)
        self._upstream.lasted()

    async def _end_in_time(self, channel: Channel) -> None:
        await self._upstream.end_in_time(channel)
        self._say_goodbye()
        await trio.sleep(COURTESY)
        self._gone("did not read our goodbye")

    async def _next(self) -> bytes:
        data = await super()._next()
        self._heard = trio.current_time()
        return data

    async def _keep_alive(self) -> None:
        """Ping; a peer from which nothing comes after that is gone, whatever the system says.

        One that still has to take what was sent before is not asked: its pong could not come yet.
        """
        keepalive = self._upstream.config.keepalive
        asked = trio.current_time()
        while True:
            await trio.sleep_until(asked + keepalive.interval)
            asked, stuck = trio.current_time(), self._flushing
            if stuck is None:
                self._asked = asked
                self._out.put(self._frames.ping())
            await trio.sleep(keepalive.timeout)
            if stuck is None and self._flushing is None and self._heard < asked:
                self._gone(f"did not answer a ping within {keepalive.timeout:g} s (keepalive)")

    async def _keep_moving(self) -> None:
        """A peer that takes nothing of what it is sent is gone, before the time for all of it (`Pace`) is over: it is
        found after ``keepalive.timeout``, and no later than after twice that, whenever it is pinged."""
        timeout = self._upstream.config.keepalive.timeout
        while True:
            stuck, unsent = self._flushing, self._transport.unsent
            await trio.sleep(timeout)
            if stuck is not None and self._flushing is stuck and self._transport.unsent == unsent > 0:
                self._gone(f"has read nothing for {timeout:g} s although messages are waiting (keepalive)")

    def _ponged(self) -> None:
        if self._asked is not None:
            self._upstream.round_trip = trio.current_time() - self._asked
            self._asked = None

    def _encode(self, data: bytes) -> bytes:
        limit = self._upstream.config.reply_bytes
        return self._frames.text(data) if limit is None or len(data) <= limit else self._shortened(data, limit)

    def _shortened(self, data: bytes, limit: int) -> bytes:
        """What is written in the place of a message that is too long, although replies to calls were looked at: of a
        batch its responses, one by one; for another response an error; for anything else nothing."""
        if data[:1] == b"[":
            return b"".join(map(self._encode, jsonrpc.decode_batch(data)))
        who, message = self._upstream.who, jsonrpc.decode(data)
        log.warning("%s: a message of %d bytes was not sent, for it takes %d (reply_bytes)", who, len(data), limit)
        if not message.is_response:
            return b""
        problem = ReplyTooLong(f"the answer has {len(data)} bytes, and {who} takes {limit} (reply_bytes)")
        return self._frames.text(jsonrpc.error(message.id, problem).encode())

    def _complain(self, channel: Channel, problem: GatewayError) -> None:
        self._remark(f"sent something that is no message: {problem.message}")
        channel.complain(problem)

    def _passed(self, what: str) -> None:
        self._remark(f"{what} was passed over, for messages are text")

    def _remark(self, what: str) -> None:
        """Log something odd about the peer, as long as there is not too much of it."""
        self._remarks += 1
        if self._remarks <= REMARKS:
            last = "; no more of the kind is logged on this connection" if self._remarks == REMARKS else ""
            log.warning("%s: %s%s", self._upstream.who, self._upstream.shown(what), last)


def _fields(config: UpstreamConfig) -> Sequence[tuple[bytes, bytes]]:
    """The header fields of the handshake that are the configuration's."""
    fields = {"user-agent": "mcpgateway", **{name.lower(): value.reveal() for name, value in config.headers.items()}}
    return [(name.encode(), value.encode()) for name, value in fields.items() if name not in _FRAMING]


def _secrets(config: UpstreamConfig) -> Sequence[str]:
    """What a cloud may know of and say, and nobody is to read."""
    values = [field.partition("=")[2] for field in urlsplit(config.endpoint.reveal()).query.split("&")]
    found = [*secrets_of(config), *values, *map(unquote_plus, values)]
    return [secret for secret in found if len(secret) >= SHORTEST_SECRET]


def _explained(status: int) -> str:
    """What to do about an answer to the handshake that is HTTP."""
    said = f"answered the WebSocket handshake with HTTP {status}"
    if status in (401, 403):
        return f"{said}: the token in its endpoint, or a header, is not accepted"
    if 300 <= status < 400:
        return f"{said}, a redirect: configure the endpoint that it leads to"
    if status in (404, 405):
        return f"{said}: check the path of its endpoint"
    return said
