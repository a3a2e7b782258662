"""One accepted connection of an HTTP/1.1 server: a task that owns it, and the requests that need none.

Deadlines for the head, the body, silence and stalled writes are kept by a `Sweeper`. Budget on the hot path: 6 µs for
the two system calls, 4 for parsing, 1 for the reply head.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from mcpgateway.errors import TooBusy
from mcpgateway.wire.bounds import address_of
from mcpgateway.wire.http1.exchange import Exchange
from mcpgateway.wire.http1.requests import HttpRequest, Refusal, RequestReader
from mcpgateway.wire.readiness import EdgeTransport
from mcpgateway.wire.transport import TlsTransport, Transport, TransportBroken
from mcpgateway.wire.waiting import Wait

if TYPE_CHECKING:
    from mcpgateway.wire.http1.server import HttpServer

log = logging.getLogger("mcpgateway.http")

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_JSON: Final = b"Content-Type: application/json\r\n"
_RETRY: Final = b"Retry-After: %d\r\n" % TooBusy.retry_after


Handler = Callable[[HttpRequest, Exchange], Awaitable[None]]
"""Answers one request. What it raises is logged and answered with 500."""

Begin = Callable[[HttpRequest, Exchange], bool]
"""Takes a request without a task, if it can: true says that it will be answered with `Exchange.respond_now`, handed
on with `Exchange.continue_with` or given up with `Exchange.abort`, now or later; false that nothing has happened. Must
not block or raise."""

Refuse = Callable[[int, str], bytes]
"""Makes the JSON body of a response that the wire itself has to send: (status, reason) to bytes."""


class Connection:
    """One accepted connection: reads requests, has them answered, one at a time, in their order.

    Its task owns it, and does all that may wait. On a socket that can be watched, the task sleeps between such things:
    requests are read where their bytes arrive, and offered to ``begin`` first, which may take one and answer it later
    from wherever the answer arrives. What ``begin`` does not take wakes the task for ``handler``.
    """

    def __init__(self, transport: Transport, peer: str, secure: bool, server: HttpServer) -> None:
        self.transport = transport
        self.address = address = address_of(peer)
        """What it counts as."""
        self._server = server
        self._limits = server.limits
        self.wait = Wait(trio.current_time() + server.limits.idle_timeout, _IdleTooLong)
        self._builder = RequestReader(partial(HttpRequest, peer, secure, address), server.limits)
        self._exchange: Exchange | None = None
        """What is being answered without the task."""
        self._continuation: Callable[[], Awaitable[None]] | None = None
        self._handling = False
        self._advancing = False
        self._attention = False
        self._ended = False
        self._gone = False
        self._head = 0
        self._body = 0
        """Bytes of bodies that are counted for this connection."""
        self._beaten: trio.Event | None = None
        """Set when a beat that could not be sent at once has gone out."""
        self.closing = False
        self.streaming: Exchange | None = None
        """The event stream that is being written, if it wants to be kept alive."""

    @property
    def busy(self) -> bool:
        """Whether a request is being answered, or its answer sent."""
        return self._handling or self._exchange is not None or self.transport.stuck

    # ---- the task ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until either side closes. Owns the transport. Raises nothing but cancellation."""
        self._server.sweeper.add(self.wait)
        try:
            if isinstance(self.transport, TlsTransport):
                self._set_deadline(self._limits.header_timeout, _IdleTooLong)
                await self.transport.shake_hands(self.wait)
            await self._serve()
        except Refusal as refusal:
            await self._refuse(refusal)
        except (TransportBroken, _IdleTooLong, _Draining):
            pass
        finally:
            self._gone = True
            self._release_body()
            self._server.sweeper.discard(self.wait)
            self.transport.close()
            if self._continuation is not None:
                self._server.adopt(self._continuation)

    async def _serve(self) -> None:
        builder = self._builder
        transport = self.transport
        watched = transport if isinstance(transport, EdgeTransport) else None
        streak = 0
        while True:
            while self._continuation is not None or (builder.ready and self._exchange is None):
                if not await self._answer():
                    return
                # Pipelined requests and bytes that are always there keep this task from parking.
                streak += 1
                if streak > 16 or builder.ready:
                    streak = 0
                    await trio.lowlevel.checkpoint()
            if transport.stuck:
                await self._flush()
            if self._exchange is None:
                if builder.refusal is not None:
                    raise builder.refusal
                if self._ended or self.closing:
                    return
            if watched is not None and (self._exchange is not None or not builder.partial):
                await self._watch(watched)
            else:
                await self._receive()

    async def _answer(self) -> bool:
        """Answer one request, or go on with one that was begun; false if the connection is to be closed."""
        continuation, self._continuation = self._continuation, None
        self._handling = True
        self.wait.deadline = math.inf
        if continuation is None:
            request = self._builder.ready.popleft()
            exchange = Exchange(self, request)
        else:
            assert self._exchange is not None
            exchange, self._exchange = self._exchange, None
            request = exchange.request
        try:
            await (self._server.handler(request, exchange) if continuation is None else continuation())
        except TransportBroken:
            raise
        except Exception:
            log.exception("the handler of %s failed", request.path[:200])
            if exchange.started:
                return False
            raise Refusal(500, "internal error; the gateway's log has the details") from None
        self._handling = False
        return exchange.finished and request.keep_alive and not self.closing

    async def _watch(self, transport: EdgeTransport) -> None:
        """Sleep until there is something that only this task can do."""
        self._attention = False
        if self._exchange is None:
            self._idle()
        transport.watcher = self._readable
        transport.when_stuck = self._attend
        try:
            if transport.disturbed:
                self._readable()
            if not self._attention:
                await self.wait.park()
        finally:
            transport.watcher = transport.when_stuck = None

    async def _receive(self) -> None:
        """Read until at least one request is whole, or none will be."""
        builder = self._builder
        phase = ""
        self._release_body()
        while not builder.ready and builder.refusal is None and not self._ended:
            if phase != (phase := "body" if builder.in_body else "head" if builder.partial else "idle"):
                await self._begin_phase(phase)
            self._take_in(await self.transport.receive(self.wait))
            if phase == "body":
                self._count_body()
        self.wait.deadline = math.inf

    async def _begin_phase(self, phase: str) -> None:
        if phase == "idle":
            self._idle()
        elif phase == "head":
            self._set_deadline(self._limits.header_timeout, _HeadTooSlow)
        else:
            self._set_deadline(self._limits.body_timeout, _BodyTooSlow)
            if self._builder.expect:
                await self.send(_CONTINUE)

    def _count_body(self) -> None:
        """Count what there is of a body, unless that was its last piece; what is too much is refused."""
        builder = self._builder
        if builder.ready or builder.refusal is not None:
            return
        try:
            self._server.bounds.bodies.take(self.address, builder.size - self._body)
        except TooBusy as problem:
            builder.refuse(problem.status, problem.message)
        else:
            self._body = builder.size

    def _release_body(self) -> None:
        if self._body:
            self._server.bounds.bodies.release(self.address, self._body)
            self._body = 0

    # ---- without the task --------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        """Bytes have come. While a request is being answered, they wait."""
        if self._exchange is not None:
            return
        try:
            data = self.transport.try_receive()
        except TransportBroken:
            self._ended = True
            self._attend()
            return
        if data is not None:
            self._take_in(data)
            self._advance()

    def _advance(self) -> None:
        """Offer requests to ``begin``, one after the other; whatever else there is to do wakes the task."""
        if self._advancing:
            return  # answered within `begin`: the loop that called it goes on
        builder = self._builder
        begin = self._server.begin
        self._advancing = True
        try:
            while begin is not None and builder.ready and self._exchange is None and self._goes_on():
                request = builder.ready.popleft()
                self._exchange = exchange = Exchange(self, request)
                self.wait.deadline = math.inf
                try:
                    begun = begin(request, exchange)
                except Exception:
                    log.exception("the handler of %s failed", request.path[:200])
                    builder.refuse(500, "internal error; the gateway's log has the details")
                    begun = False
                if not begun:
                    self._exchange = None
                    builder.ready.appendleft(request)
                    break
        finally:
            self._advancing = False
        if self._exchange is None:
            if builder.ready or builder.partial or builder.refusal is not None or not self._goes_on():
                self._attend()
            else:
                self._idle()
                if self.transport.disturbed:
                    self._attend()

    def _goes_on(self) -> bool:
        """Whether the next request may be answered: the connection lasts, and the client reads."""
        return not (self._ended or self.closing or self.transport.stuck)

    def _attend(self) -> None:
        self._attention = True
        self.wait.resume()

    def completed(self, exchange: Exchange) -> None:
        """A request that ``begin`` took has been answered."""
        if exchange is not self._exchange or self._gone:
            return
        self._exchange = None
        if not exchange.request.keep_alive:
            self._ended = True
        self._advance()

    def continued(self, exchange: Exchange, continuation: Callable[[], Awaitable[None]]) -> None:
        """A request that ``begin`` took needs the task after all."""
        if self._gone:
            self._server.adopt(continuation)
        elif exchange is self._exchange:
            self._continuation = continuation
            self._attend()

    def aborted(self, exchange: Exchange) -> None:
        """A request that ``begin`` took cannot be answered: there is nobody left, or nothing to say."""
        if exchange is self._exchange and not self._gone:
            self._exchange = None
            self._ended = True
            self._attend()

    # ---- both --------------------------------------------------------------------------------------------------------

    def _take_in(self, data: bytes) -> None:
        """Parse what was received; ``b""`` is the client's end."""
        builder = self._builder
        if not data:
            self._ended = True
            if builder.partial:
                builder.refuse(400, "the connection ended within a request")
            return
        if not builder.in_body:
            self._head += len(data)
        builder.measure = self._head > self._limits.header_bytes
        builder.feed(data)
        if builder.ready:
            self._head = 0
        elif builder.measure and not builder.in_body:
            builder.refuse(431, f"the request head is larger than {self._limits.header_bytes} bytes")

    def _idle(self) -> None:
        if self._body:
            self._release_body()
        self.wait.deadline = trio.current_time() + self._limits.idle_timeout
        self.wait.on_deadline = _IdleTooLong

    def _set_deadline(self, seconds: float, problem: Callable[[], Exception]) -> None:
        self.wait.deadline = trio.current_time() + seconds
        self.wait.on_deadline = problem

    async def send(self, data: bytes) -> None:
        """Send everything, or give the connection up when the client does not read it in time."""
        self.transport.put(data)
        if self.transport.stuck:
            await self._flush()

    async def _flush(self) -> None:
        """Wait until the client has taken what was put.

        The time for it is fixed beforehand: a reader that takes a byte now and then would renew any other deadline.
        """
        if self._beaten is not None:
            await self._beaten.wait()
        unsent = self.transport.unsent
        replies = self._server.bounds.replies
        try:
            replies.take(self.address, unsent)
        except TooBusy as problem:
            raise WriteStalled(problem.message) from None
        try:
            self._set_deadline(self._limits.write_timeout + unsent / self._limits.write_rate, WriteStalled)
            await self.transport.flushed(self.wait)
        finally:
            replies.release(self.address, unsent)
        self.wait.deadline = math.inf

    def beat(self) -> bool:
        """Keep the stream alive that is being written, if there is one; true if `flush_beat` is to be run for it."""
        if self.streaming is None or self._beaten is not None or not math.isinf(self.wait.deadline):
            return False  # nothing to keep alive, or something is on its way out under its own deadline
        if not self.transport.stuck:
            self.streaming.beat()
        if not self.transport.stuck:
            return False
        self._beaten = trio.Event()
        return True

    def slip(self, data: bytes) -> None:
        """Send beside whoever answers, which is not writing now."""
        try:
            self.transport.put(data)
        except TransportBroken:
            return  # whoever writes next is told
        if self.transport.stuck and self._beaten is None:
            self._beaten = trio.Event()
            self._server.adopt(self.flush_beat)

    async def flush_beat(self) -> None:
        """Wait until a beat is with the kernel; close on a client that does not even read that in time.

        Its own task, because the one of the connection is waiting for something to say.
        """
        wait = Wait(trio.current_time() + self._limits.write_timeout, WriteStalled)
        self._server.sweeper.add(wait)
        try:
            await self.transport.flushed(wait)
        except TransportBroken:
            self.transport.close()  # whoever writes next is told
        finally:
            self._server.sweeper.discard(wait)
            if self._beaten is not None:
                self._beaten.set()
                self._beaten = None

    def beyond(self) -> bytes:
        """What was read behind a request for another protocol."""
        return self._builder.beyond

    def tail(self, request: HttpRequest) -> bytes:
        """The last lines of a response's head."""
        if self.closing or not request.keep_alive:
            request.keep_alive = False
            return b"Connection: close\r\n\r\n"
        return b"\r\n" if request.version == "1.1" else b"Connection: keep-alive\r\n\r\n"

    async def _refuse(self, refusal: Refusal) -> None:
        """Answer what could not be read, then linger: closing on unread bytes would reset the answer away."""
        self.wait.ended = None
        request = HttpRequest("", False, self.address)
        request.keep_alive = False
        headers = _JSON + _RETRY if refusal.status in (429, 503) else _JSON
        body = self._server.refuse(refusal.status, refusal.reason)
        try:
            await Exchange(self, request).respond(refusal.status, body, headers)
            await self.transport.end()
            self._set_deadline(1.0, _IdleTooLong)
            for _ in range(64):
                if not await self.transport.receive(self.wait):
                    break
        except (TransportBroken, _IdleTooLong, _Draining):
            pass

    def refuse_service(self, problem: TooBusy) -> None:
        """Answer whatever comes with this, and close."""
        self._builder.refuse(problem.status, problem.message)

    def drain(self) -> None:
        """Close as soon as the request in flight, if any, has been answered."""
        self.closing = True
        if not self.busy:
            self.wait.end(_Draining())


class _IdleTooLong(Exception):
    """Nothing was asked for ``idle_timeout``."""


class _Draining(Exception):
    """The server is shutting down and the connection is idle."""


class WriteStalled(TransportBroken):
    """The client does not read."""


class _HeadTooSlow(Refusal):
    def __init__(self) -> None:
        super().__init__(408, "the request head took too long")


class _BodyTooSlow(Refusal):
    def __init__(self) -> None:
        super().__init__(408, "the request body took too long")
