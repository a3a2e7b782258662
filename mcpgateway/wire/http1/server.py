"""An HTTP/1.1 server on trio: one task per connection, llhttp for the parsing, no nursery and no scope per request.

A request is read whole (its body is bounded), handed to one handler, and answered by that handler through its
`Exchange`, with one ``send`` for head and body together. Deadlines for the head, the body, silence and stalled writes
are kept by a `Sweeper`. Budget on the hot path: 6 µs for the two system calls, 4 for parsing, 1 for the reply head.
"""

from __future__ import annotations

import logging
import math
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Final

import attrs
import httptools
import trio

from mcpgateway.wire.readiness import EdgeTransport
from mcpgateway.wire.transport import Transport, TransportBroken
from mcpgateway.wire.waiting import Sweeper, Wait

log = logging.getLogger("mcpgateway.http")

_STATUS_LINES = {status: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_STATUS_LINES_BY_NUMBER: Final = {int(status): line for status, line in _STATUS_LINES.items()}
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
MAX_HEADERS: Final = 100


@attrs.frozen
class HttpLimits:
    """Bounds of one listener; seconds and bytes."""

    header_bytes: int = 32 * 1024
    body_bytes: int = 4 * 1024 * 1024
    header_timeout: float = 10.0
    body_timeout: float = 60.0
    idle_timeout: float = 120.0
    write_timeout: float = 30.0
    connections: int = 4096


class HttpRequest:
    """One request, read whole.

    ``path`` and ``query`` are the raw target, split at the first ``?``. ``headers`` maps lower-case names to values;
    of a repeated header the values are joined with ``", "`` (RFC 9110, 5.3) and the name is in ``duplicates``.
    ``peer`` is the client's address.
    """

    __slots__ = ("body", "duplicates", "headers", "keep_alive", "method", "path", "peer", "query", "secure", "version")

    def __init__(self, peer: str, secure: bool) -> None:
        self.method = b""
        self.path = b""
        self.query = b""
        self.version = "1.1"
        self.headers: dict[bytes, bytes] = {}
        self.duplicates: Sequence[bytes] = ()
        self.body = b""
        self.keep_alive = True
        self.peer = peer
        self.secure = secure


class _Refusal(Exception):
    """A request that cannot be read on; answered with ``status`` and the connection closed."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class _Builder:
    """What httptools calls while it parses: makes requests and puts them in ``ready``."""

    __slots__ = (
        "_body",
        "_limits",
        "_make",
        "_target",
        "_upgrading",
        "expect",
        "in_body",
        "measure",
        "parser",
        "partial",
        "ready",
        "refusal",
        "request",
        "size",
    )

    def __init__(self, make: Callable[[], HttpRequest], limits: HttpLimits) -> None:
        self._make = make
        self._limits = limits
        self.ready: deque[HttpRequest] = deque()
        self.refusal: _Refusal | None = None
        self.parser = httptools.HttpRequestParser(self)
        self.measure = False
        """Whether so much was received that a head may be too large."""
        self._upgrading: HttpRequest | None = None
        self._reset()

    def _reset(self) -> None:
        self.request = self._make()
        self._target = b""
        self._body: list[bytes] = []
        self.size = 0
        self.expect = False
        self.partial = False
        self.in_body = False

    def feed(self, data: bytes) -> None:
        """Parse what was received; a request that is none becomes a `refusal`."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as problem:
            self.refuse(400, f"not a valid HTTP/1.1 request: {problem}")

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Go on behind a request that asked for another protocol.

        We do not switch, which RFC 9110 (7.8) allows, and answer the request as it is; Java's client asks for HTTP/2
        like this with every POST. llhttp stops at such a head for good and leaves out the body: a fresh parser reads
        it behind a head that says no more than how long it is.
        """
        self.parser = httptools.HttpRequestParser(self)
        framing = b""
        if self.ready:
            headers = self.ready[-1].headers
            framing = b"".join(
                b"%b: %b\r\n" % (name, headers[name])
                for name in (b"content-length", b"transfer-encoding")
                if name in headers
            )
        if framing:
            self._upgrading = self.ready.pop()
            rest = b"POST / HTTP/1.1\r\nHost: -\r\n" + framing + b"\r\n" + rest
        if rest:
            self.feed(rest)

    def on_message_begin(self) -> None:
        self.partial = True

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_body:
            return  # a trailer: allowed, and nothing that a request of ours could mean by one
        request = self.request
        name = name.lower()
        if name in request.headers:
            request.duplicates = (*request.duplicates, name)
            value = request.headers[name] + b", " + value
        request.headers[name] = value

    def on_headers_complete(self) -> None:
        request = self.request
        parser = self.parser
        request.method = parser.get_method()
        request.version = parser.get_http_version()
        request.keep_alive = parser.should_keep_alive()
        target = self._target
        if target[:1] != b"/" and target != b"*":
            target = _origin_form(target)
        request.path, _, request.query = target.partition(b"?")
        headers = request.headers
        self.in_body = True
        if self.measure:
            size = len(target) + sum(len(name) + len(value) + 4 for name, value in headers.items())
            if size > self._limits.header_bytes:
                self.refuse(431, f"the request head is larger than {self._limits.header_bytes} bytes")
        if len(headers) > MAX_HEADERS or len(request.duplicates) > MAX_HEADERS:
            self.refuse(431, "too many header fields")
        if b"host" not in headers and request.version == "1.1":
            self.refuse(400, "a request needs a Host header")
        elif b"host" in request.duplicates:
            self.refuse(400, "two Host headers")
        declared = headers.get(b"content-length")
        if declared is not None and (len(declared) > 19 or int(declared) > self._limits.body_bytes):
            self.refuse(413, f"the body is larger than {self._limits.body_bytes} bytes")
        if b"expect" in headers:
            if headers[b"expect"].lower() != b"100-continue":
                self.refuse(417, "only 'Expect: 100-continue' is understood")
            self.expect = request.version == "1.1"

    def on_body(self, body: bytes) -> None:
        self.size += len(body)
        if self.size > self._limits.body_bytes:
            self.refuse(413, f"the body is larger than {self._limits.body_bytes} bytes")
            return
        self._body.append(body)

    def on_message_complete(self) -> None:
        body = self._body
        if self.refusal is None:
            request, self._upgrading = self._upgrading or self.request, None
            request.body = body[0] if len(body) == 1 else b"".join(body)
            self.ready.append(request)
        self._reset()

    def refuse(self, status: int, reason: str) -> None:
        if self.refusal is None:
            self.refusal = _Refusal(status, reason)


def _origin_form(target: bytes) -> bytes:
    """The path and query of an absolute-form target (RFC 9112, 3.2.2)."""
    _, separator, rest = target.partition(b"://")
    if not separator:
        return target
    _, slash, path = rest.partition(b"/")
    return slash + path or b"/"


class Exchange:
    """The answer to one request. Answer exactly once: `respond`, or `stream`, `write` … `finish`."""

    __slots__ = ("_beat", "_chunked", "_connection", "_head", "finished", "request", "started")

    def __init__(self, connection: Connection, request: HttpRequest) -> None:
        self._connection = connection
        self.request = request
        self.started = False
        self.finished = False
        self._head = b""
        self._beat = b""
        self._chunked = True

    async def respond(
        self, status: int, body: bytes = b"", headers: bytes = b"Content-Type: application/json\r\n"
    ) -> None:
        """Send a whole response; ``headers`` are ready lines, each with its CRLF."""
        await self._connection.send(self._whole(status, body, headers))

    def respond_now(self, status: int, body: bytes, headers: bytes) -> None:
        """`respond` without a task, for a request that ``begin`` took. Never raises: who is gone is gone."""
        connection = self._connection
        try:
            connection.transport.put(self._whole(status, body, headers))
        except TransportBroken:
            connection.aborted(self)
        else:
            connection.completed(self)

    def stream_now(self, headers: bytes, data: bytes) -> None:
        """A whole streamed response (200) without a task, as `respond_now`."""
        self.stream(200, headers)
        head, self._head = self._head, b""
        self.finished = True
        framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if self._chunked else data
        connection = self._connection
        try:
            connection.transport.put(head + framed)
        except TransportBroken:
            connection.aborted(self)
        else:
            connection.completed(self)

    def continue_with(self, continuation: Callable[[], Awaitable[None]]) -> None:
        """Let the connection's task answer after all, with this function: for a request that ``begin`` took."""
        self._connection.continued(self, continuation)

    def abort(self) -> None:
        """Close the connection without an answer: for a request that ``begin`` took."""
        self._connection.aborted(self)

    def _whole(self, status: int, body: bytes, headers: bytes) -> bytes:
        self.started = self.finished = True
        request = self.request
        tail = self._connection.tail(request)
        if status == 204 or status == 304:
            return b"".join((_status_line(status), _date(), headers, tail))
        length = b"Content-Length: %d\r\n" % len(body)
        if request.method == b"HEAD":
            body = b""
        return b"".join((_status_line(status), _date(), headers, length, tail, body))

    def stream(self, status: int, headers: bytes, *, beat: bytes = b"") -> None:
        """Begin a response whose end is not known; its head goes out with the first `write`.

        ``beat`` is sent whenever the server's heart beats (`HttpServer.beat`), so that nobody on the way takes a
        silent stream for a dead one.
        """
        self.started = True
        if beat:
            self._beat = beat
            self._connection.streaming = self
        request = self.request
        self._chunked = request.version == "1.1"
        if not self._chunked:
            request.keep_alive = False
        framing = b"Transfer-Encoding: chunked\r\n" if self._chunked else b""
        self._head = b"".join((_status_line(status), _date(), headers, framing, self._connection.tail(request)))

    async def write(self, data: bytes, *, last: bool = False) -> None:
        """Send a piece, and with ``last`` the end of the response in the same ``send``."""
        head, self._head = self._head, b""
        if self.request.method == b"HEAD":
            data, piece = b"", b""
        elif self._chunked:
            piece = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            if last:
                piece += b"0\r\n\r\n"
        else:
            piece = data
        if last:
            self.finished = True
            self._connection.streaming = None
        if head or piece:
            await self._connection.send(head + piece)

    def beat(self) -> None:
        """Send the beat of a stream that has begun, unless the client does not read anyway."""
        transport = self._connection.transport
        if self._head or self.finished or transport.stuck:
            return
        beat = self._beat
        try:
            transport.put(b"%x\r\n%b\r\n" % (len(beat), beat) if self._chunked else beat)
        except TransportBroken:
            pass  # whoever writes next is told

    async def finish(self) -> None:
        """End a streamed response; idempotent."""
        if not self.finished:
            await self.write(b"", last=True)

    def client_gone(self) -> bool:
        """Whether the client has closed its side of the connection."""
        return self._connection.transport.peer_closed()


def _status_line(status: int) -> bytes:
    return _STATUS_LINES_BY_NUMBER.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status


_date_cache: tuple[int, bytes] = (0, b"")


def _date() -> bytes:
    """The ``Date`` header (RFC 9110, 6.6.1), formatted once a second."""
    global _date_cache
    now = int(time.time())
    if _date_cache[0] != now:
        _date_cache = now, time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n", time.gmtime(now)).encode()
    return _date_cache[1]


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
        self._server = server
        self._limits = server.limits
        self.wait = Wait(trio.current_time() + server.limits.idle_timeout, _IdleTooLong)
        self._builder = _Builder(lambda: HttpRequest(peer, secure), server.limits)
        self._exchange: Exchange | None = None
        """What is being answered without the task."""
        self._continuation: Callable[[], Awaitable[None]] | None = None
        self._handling = False
        self._advancing = False
        self._attention = False
        self._ended = False
        self._gone = False
        self._head = 0
        self.closing = False
        self.streaming: Exchange | None = None
        """The event stream that is being written, if it wants to be kept alive."""

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._handling or self._exchange is not None

    # ---- the task ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until either side closes. Owns the transport. Raises nothing but cancellation."""
        self._server.sweeper.add(self.wait)
        try:
            await self._serve()
        except _Refusal as refusal:
            await self._refuse(refusal)
        except (TransportBroken, _IdleTooLong, _Draining):
            pass
        finally:
            self._gone = True
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
            raise _Refusal(500, "internal error; the gateway's log has the details") from None
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
        while not builder.ready and builder.refusal is None and not self._ended:
            if phase != (phase := "body" if builder.in_body else "head" if builder.partial else "idle"):
                await self._begin_phase(phase)
            self._take_in(await self.transport.receive(self.wait))
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
                if not self._begins(begin, exchange):
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

    def _begins(self, begin: Begin, exchange: Exchange) -> bool:
        try:
            return begin(exchange.request, exchange)
        except Exception:
            log.exception("the handler of %s failed", exchange.request.path[:200])
            self._builder.refuse(500, "internal error; the gateway's log has the details")
            return False

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
        self._set_deadline(self._limits.idle_timeout, _IdleTooLong)

    def _set_deadline(self, seconds: float, problem: Callable[[], Exception]) -> None:
        self.wait.deadline = trio.current_time() + seconds
        self.wait.on_deadline = problem

    async def send(self, data: bytes) -> None:
        """Send everything, or give the connection up when the client stops reading for ``write_timeout``."""
        self.transport.put(data)
        if self.transport.stuck:
            await self._flush()

    async def _flush(self) -> None:
        self._set_deadline(self._limits.write_timeout, _WriteStalled)
        await self.transport.flushed(self.wait)
        self.wait.deadline = math.inf

    def tail(self, request: HttpRequest) -> bytes:
        """The last lines of a response's head."""
        if self.closing or not request.keep_alive:
            request.keep_alive = False
            return b"Connection: close\r\n\r\n"
        return b"\r\n" if request.version == "1.1" else b"Connection: keep-alive\r\n\r\n"

    async def _refuse(self, refusal: _Refusal) -> None:
        """Answer what could not be read, then linger: closing on unread bytes would reset the answer away."""
        self.wait.ended = None
        request = HttpRequest("", False)
        request.keep_alive = False
        try:
            await Exchange(self, request).respond(refusal.status, self._server.refuse(refusal.status, refusal.reason))
            await self.transport.end()
            self._set_deadline(1.0, _IdleTooLong)
            for _ in range(64):
                if not await self.transport.receive(self.wait):
                    break
        except (TransportBroken, _IdleTooLong, _Draining):
            pass

    def refuse_service(self) -> None:
        """Answer whatever comes with 503, and close."""
        self._builder.refuse(503, f"the gateway has {self._limits.connections} connections, all of them busy")

    def drain(self) -> None:
        """Close as soon as the request in flight, if any, has been answered."""
        self.closing = True
        if not self.busy:
            self.wait.end(_Draining())


class _IdleTooLong(Exception):
    """Nothing was asked for ``idle_timeout``."""


class _Draining(Exception):
    """The server is shutting down and the connection is idle."""


class _WriteStalled(TransportBroken):
    """The client does not read."""


class _HeadTooSlow(_Refusal):
    def __init__(self) -> None:
        super().__init__(408, "the request head took too long")


class _BodyTooSlow(_Refusal):
    def __init__(self) -> None:
        super().__init__(408, "the request body took too long")


class HttpServer:
    """What the connections of one listener share, and all of them in one place for draining."""

    def __init__(
        self,
        handler: Handler,
        refuse: Refuse,
        sweeper: Sweeper,
        limits: HttpLimits | None = None,
        *,
        begin: Begin | None = None,
    ) -> None:
        self.handler = handler
        self.begin = begin
        self.refuse = refuse
        self.sweeper = sweeper
        self.limits = limits or HttpLimits()
        self.connections: dict[Connection, None] = {}
        """In the order in which they were accepted."""
        self.nursery: trio.Nursery | None = None
        """Where calls are finished whose connection has gone; whoever runs the server's connections sets it."""
        self._emptied = trio.Event()

    async def serve(self, transport: Transport, peer: str = "", *, secure: bool = False) -> None:
        """Serve one connection, and close it; run it in a nursery."""
        connection = Connection(transport, peer, secure, self)
        if not self._make_room():
            connection.refuse_service()
        self.connections[connection] = None
        try:
            await connection.run()
        finally:
            del self.connections[connection]
            if not self.connections:
                self._emptied.set()

    def adopt(self, continuation: Callable[[], Awaitable[None]]) -> None:
        """Finish what was begun for a connection that has gone: there is somebody else who counts on its end."""
        if self.nursery is not None and not self.nursery.cancel_scope.cancel_called:
            self.nursery.start_soon(_finish, continuation)

    def _make_room(self) -> bool:
        """At the bound, the longest-connected idle client makes room; false if all of them are busy."""
        if len(self.connections) < self.limits.connections:
            return True
        for connection in self.connections:
            if not connection.busy and not connection.closing:
                connection.drain()
                return True
        return False

    def drain(self) -> None:
        """Close idle connections now, and the others after their reply."""
        for connection in list(self.connections):
            connection.drain()

    async def beat(self, interval: float) -> None:
        """Keep streams alive for ever; run it beside the connections."""
        while True:
            await trio.sleep(interval)
            for connection in self.connections:
                if connection.streaming is not None:
                    connection.streaming.beat()

    async def emptied(self) -> None:
        """Wait until there is no connection."""
        while self.connections:
            self._emptied = trio.Event()
            await self._emptied.wait()


async def _finish(continuation: Callable[[], Awaitable[None]]) -> None:
    try:
        await continuation()
    except TransportBroken:
        pass
    except Exception:
        log.exception("a call could not be finished after its connection had gone")


async def accept(
    listener: socket.socket, nursery: trio.Nursery, serve: Callable[[socket.socket], Awaitable[None]]
) -> None:
    """Accept for ever, each connection in its own task of ``nursery``. The listener is the caller's to close.

    Out of descriptors, the listener pauses for a tenth of a second and goes on (accept(2), EMFILE).
    """
    while True:
        try:
            sock, _ = listener.accept()
        except BlockingIOError:
            await trio.lowlevel.wait_readable(listener)
        except ConnectionError:
            await trio.lowlevel.checkpoint()
        except OSError as problem:
            log.warning("cannot accept a connection: %s", problem)
            await trio.sleep(0.1)
        else:
            nursery.start_soon(serve, sock)
            await trio.lowlevel.checkpoint()


def bind(host: str, port: int) -> list[socket.socket]:
    """Listening sockets for every address of ``host``; port 0 takes any free one, the same for all of them.

    :raises OSError: the address is taken or not ours; no socket is left open
    """
    listeners: list[socket.socket] = []
    try:
        found: Iterable[tuple[int, tuple[str, int]]] = dict.fromkeys(
            (family, (str(address[0]), port))
            for family, _, _, _, address in socket.getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        )
        for family, (address, _) in found:
            sock = socket.socket(family, socket.SOCK_STREAM)
            listeners.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address, port))
            port = sock.getsockname()[1]
            sock.listen(1024)
            sock.setblocking(False)
    except OSError:
        for sock in listeners:
            sock.close()
        raise
    return listeners
