"""An HTTP/1.1 client on trio: keep-alive connections to one origin, last used first, no lock, no task of its own.

One thread runs everything, so taking a connection from the idle list is atomic. A request and its response belong to
the caller's task from `Pool.exchange` to the end of the body; the caller's `Wait` ends either. Budget: 5 µs for the
two system calls, 8 for parking, 3 for parsing.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

import httptools
import trio

from mcpgateway.wire.http1.server import MAX_HEADERS
from mcpgateway.wire.readiness import EdgeTransport, Poller
from mcpgateway.wire.transport import TlsTransport, Transport, TransportBroken
from mcpgateway.wire.waiting import Wait, interruptible

MAX_HEAD: Final = 64 * 1024


KEPT: Final = 60.0
"""Seconds after which an idle connection is closed once a younger one has been given back."""


class HttpError(Exception):
    """The peer did not answer as HTTP/1.1 says, or not at all.

    ``unsent`` is true where no byte of the request can have been acted upon, so that it may be sent again.
    """

    def __init__(self, message: str, *, unsent: bool = False) -> None:
        super().__init__(message)
        self.unsent = unsent


class _Builder:
    """What httptools calls while it parses a response."""

    __slots__ = (
        "chunks",
        "complete",
        "headers",
        "headers_complete",
        "keep_alive",
        "parser",
        "size",
        "status",
        "surplus",
    )

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.reset()

    def reset(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.chunks: list[bytes] = []
        self.size = 0
        self.headers_complete = False
        self.keep_alive = False
        self.complete = False
        self.surplus = False

    def on_message_begin(self) -> None:
        self.surplus = self.complete

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.surplus or self.headers_complete:
            return  # of a message that nobody asked for, or a trailer
        name = name.lower()
        headers = self.headers
        headers[name] = headers[name] + b", " + value if name in headers else value

    def on_headers_complete(self) -> None:
        if self.surplus:
            return
        self.status = self.parser.get_status_code()
        self.keep_alive = self.parser.should_keep_alive()
        self.headers_complete = True

    def on_body(self, body: bytes) -> None:
        if not self.surplus:
            self.chunks.append(body)
            self.size += len(body)

    def on_message_complete(self) -> None:
        if self.status < 200:
            self.reset()  # an interim response (RFC 9110, 15.2); the real one follows
        else:
            self.complete = True


Done: TypeAlias = "Callable[[Response | HttpError], None]"
Abandon: TypeAlias = "Callable[[], None]"


class _Connection:
    __slots__ = ("_done", "_head", "builder", "idle_since", "pool", "transport", "unfinished")

    def __init__(self, transport: Transport, pool: Pool) -> None:
        self.transport = transport
        self.pool = pool
        self.builder = _Builder()
        self.idle_since = 0.0
        self.unfinished = False
        self._head = 0
        self._done: Done | None = None

    def finish(self) -> bool:
        """Take in the rest of a response that was left; whether the connection is ready for the next."""
        if not self.unfinished:
            return True
        self.unfinished = False
        builder = self.builder
        try:
            while not builder.complete and (data := self.transport.try_receive()):
                builder.parser.feed_data(data)
        except (TransportBroken, httptools.HttpParserError):
            return False
        ready = builder.complete and builder.keep_alive
        builder.reset()
        return ready

    async def receive(self, wait: Wait) -> None:
        """Read once and parse; see `take_in`."""
        self.take_in(await self.transport.receive(wait))

    def take_in(self, data: bytes) -> None:
        """Parse what was received. The end of the stream ends a body that runs until then.

        :raises HttpError: it is no response, or not a whole one
        """
        builder = self.builder
        if data:
            try:
                builder.parser.feed_data(data)
            except httptools.HttpParserUpgrade:
                raise HttpError("the peer switched protocols unasked") from None
            except httptools.HttpParserError as problem:
                raise HttpError(f"not a valid HTTP/1.1 response: {problem}") from None
            if not builder.headers_complete:
                self._head += len(data)
            if len(builder.headers) > MAX_HEADERS:
                raise HttpError("the response has too many header fields")
            if self._head > MAX_HEAD:
                raise HttpError("the head of the response is too large")
            return
        until_end = b"content-length" not in builder.headers and b"transfer-encoding" not in builder.headers
        if builder.headers_complete and until_end:
            builder.complete = True
            return
        what = "within its response" if builder.headers_complete else "without a response"
        raise HttpError(f"the peer closed the connection {what}")

    # ---- without a task ----------------------------------------------------------------------------------------------

    def watch(self, transport: EdgeTransport, done: Done) -> None:
        """Read the response where its bytes arrive, and call ``done`` with it."""
        self._done = done
        transport.watcher = self._readable

    def _readable(self) -> None:
        """Bytes have come: a whole response, an event stream that begins, or more of either."""
        builder = self.builder
        try:
            while True:
                data = self.transport.try_receive()
                if data is None:
                    return
                self.take_in(data)
                if builder.complete or (builder.headers_complete and not _is_json(builder.headers)):
                    break
                if builder.size > self.pool.limit:
                    raise HttpError(f"the response is larger than {self.pool.limit} bytes")
        except TransportBroken as problem:
            self._fail(HttpError(f"the connection broke: {problem.strerror or problem}", unsent=problem.unsent))
        except HttpError as problem:
            self._fail(problem)
        else:
            self.settle(Response(self.pool, self))

    def _fail(self, problem: HttpError) -> None:
        done = self._done  # closing settles, so that nobody else can
        self._done = None
        self.pool._close(self)
        if done is not None:
            done(problem)

    def settle(self, outcome: Response | HttpError) -> None:
        """Stop watching and tell who waits, if somebody still does."""
        done, self._done = self._done, None
        if isinstance(self.transport, EdgeTransport):
            self.transport.watcher = None
        if done is not None:
            done(outcome)

    def abandon(self) -> None:
        """Nobody waits any more: close."""
        self._done = None
        self.pool._close(self)


def _touched(transport: Transport) -> bool:
    """Whether a kept connection that was disturbed has really been closed, or sent something."""
    if isinstance(transport, TlsTransport):
        return True
    try:
        return transport.try_receive() is not None or transport.peer_closed()
    except TransportBroken:
        return True


def _is_json(headers: dict[bytes, bytes]) -> bool:
    return headers.get(b"content-type", b"").startswith(b"application/json")


class Response:
    """A response whose head is here and whose body may still be coming.

    Take all of it with `read`, or piece by piece with `more` until ``b""``; then the connection is reused by itself.
    `close` gives up what is left. Forgetting to do either costs the connection.
    """

    __slots__ = ("_connection", "_pool", "headers", "status")

    def __init__(self, pool: Pool, connection: _Connection) -> None:
        self._pool = pool
        self._connection: _Connection | None = connection
        self.status = connection.builder.status
        self.headers = connection.builder.headers

    async def read(self, wait: Wait, limit: int) -> bytes:
        """The whole body.

        :raises HttpError: it is larger than ``limit`` bytes, cut short or malformed
        """
        connection = self._connection
        if connection is not None and connection.builder.size > limit:
            self.close()
            raise HttpError(f"the response is larger than {limit} bytes")
        if (body := self.whole()) is not None:
            return body
        size = 0
        chunks: list[bytes] = []
        while piece := await self.more(wait):
            chunks.append(piece)
            size += len(piece)
            if size > limit:
                self.close()
                raise HttpError(f"the response is larger than {limit} bytes")
        return b"".join(chunks)

    def whole(self) -> bytes | None:
        """The whole body if it is here; ``None`` if more is to come."""
        connection = self._connection
        if connection is None or not connection.builder.complete:
            return None
        chunks = connection.builder.chunks
        self._release()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def piece(self) -> bytes:
        """What has come of the body and was not taken yet; never waits."""
        connection = self._connection
        if connection is None:
            return b""
        chunks, connection.builder.chunks = connection.builder.chunks, []
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def more(self, wait: Wait) -> bytes:
        """The next piece of the body; ``b""`` at its end."""
        connection = self._connection
        if connection is None:
            return b""
        builder = connection.builder
        try:
            while not builder.chunks and not builder.complete:
                await connection.receive(wait)
        except TransportBroken as problem:
            self.close()
            raise HttpError(f"the connection broke within the response: {problem}") from None
        except BaseException:
            self.close()
            raise
        chunks, builder.chunks = builder.chunks, []
        if builder.complete:
            self._release()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool._give_back(connection)

    def leave(self) -> None:
        """Nothing more is wanted of a response that is all but over (an event stream after its last event).

        What is left of it may still be on its way; the connection is reused if it has come by the time it is needed.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool._keep_unfinished(connection)

    def close(self) -> None:
        """Close the connection of a response that is not wanted any more; idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool._close(connection)


class Pool:
    """Keep-alive connections to the origin of one URL. Owned by whoever made it; `close` closes all of it.

    ``connect_timeout`` is in seconds and covers name look-up, TCP and TLS; ``limit`` bounds the bytes of a response to
    `begin`. There is no bound on connections here: the
    leases above bound the calls.
    """

    def __init__(
        self,
        url: str,
        poller: Poller,
        *,
        connect_timeout: float = 10.0,
        tls: ssl.SSLContext | None = None,
        limit: int = 64 * 1024 * 1024,
    ) -> None:
        parts: SplitResult = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http or https URL: {parts.scheme}://{parts.hostname or ''}")
        self.host: str = parts.hostname
        self.port: int = parts.port or (443 if parts.scheme == "https" else 80)
        self.secure = parts.scheme == "https"
        self.limit = limit
        self._poller = poller
        self._connect_timeout = connect_timeout
        self._tls = tls
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._closed = False

    @property
    def open_connections(self) -> int:
        """Connections that are open, idle ones included."""
        return len(self._open)

    def begin(self, data: bytes, done: Done) -> Abandon | None:
        """Send a whole request and have ``done`` called with its response, without a task.

        The response is whole, unless it is no JSON: then its body may still be coming. ``done`` must not block or
        raise. Gives what abandons the request (closing its connection; ``done`` is not called then), or ``None`` if
        nothing was sent: there is no connection at hand, and `exchange` has to make one.
        """
        connection = self._take()
        if connection is None:
            return None
        transport = connection.transport
        if not isinstance(transport, EdgeTransport):
            self._keep(connection)
            return None
        try:
            transport.put(data)
        except TransportBroken:
            self._close(connection)
            return None
        connection.watch(transport, done)
        return connection.abandon

    async def exchange(self, data: bytes, wait: Wait) -> Response:
        """Send a whole request and wait for the head of its response.

        Tries once more on a new connection if a kept one turns out to be closed before a byte was sent.

        :raises HttpError: not reachable, or no HTTP response; `HttpError.unsent` says whether it may have had effect
        """
        connection = self._take()
        if connection is not None:
            try:
                return await self._attempt(connection, data, wait)
            except HttpError as problem:
                if not problem.unsent:
                    raise
        return await self._attempt(await self._dial(wait), data, wait)

    async def _attempt(self, connection: _Connection, data: bytes, wait: Wait) -> Response:
        builder = connection.builder
        transport = connection.transport
        try:
            transport.put(data)
            if transport.stuck:
                await transport.flushed(wait)
            while not builder.headers_complete:
                await connection.receive(wait)
        except TransportBroken as problem:
            self._close(connection)
            raise HttpError(f"the connection broke: {problem.strerror or problem}", unsent=problem.unsent) from None
        except BaseException:
            self._close(connection)
            raise
        return Response(self, connection)

    def _take(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            transport = connection.transport
            # Undisturbed since its last response, it has neither been closed by the peer nor sent anything unasked.
            if connection.finish() and not (transport.disturbed and _touched(transport)):
                return connection
            self._close(connection)
        return None

    def _give_back(self, connection: _Connection) -> None:
        if connection.builder.keep_alive and not connection.builder.surplus:
            connection.builder.reset()
            connection._head = 0
            self._keep(connection)
        else:
            self._close(connection)

    def _keep_unfinished(self, connection: _Connection) -> None:
        if connection.builder.complete:
            self._give_back(connection)
        else:
            connection.unfinished = True
            self._keep(connection)

    def _keep(self, connection: _Connection) -> None:
        if self._closed:
            self._close(connection)
            return
        connection.idle_since = now = trio.current_time()
        idle = self._idle
        idle.append(connection)
        # Last used first: the front of the list is what nobody has needed for longest.
        if idle[0].idle_since < now - KEPT:
            self._close(idle.pop(0))

    async def _dial(self, wait: Wait) -> _Connection:
        if self._closed:
            raise HttpError("the client is closed", unsent=True)
        try:
            with interruptible(wait), trio.fail_after(self._connect_timeout):
                connection = _Connection(await self._connect(), self)
        except trio.TooSlowError:
            raise HttpError(f"no connection within {self._connect_timeout:g} s", unsent=True) from None
        except (OSError, trio.BrokenResourceError) as problem:
            raise HttpError(f"cannot connect: {_explain(problem)}", unsent=True) from None
        self._open.add(connection)
        return connection

    async def _connect(self) -> Transport:
        stream = await trio.open_tcp_stream(self.host, self.port)
        if not self.secure:
            return self._poller.transport(_detach(stream))
        secured = trio.SSLStream(stream, self._tls or _default_tls(), server_hostname=self.host, https_compatible=True)
        try:
            await secured.do_handshake()
        except BaseException:
            stream.socket.close()
            raise
        return TlsTransport(secured)

    def _close(self, connection: _Connection) -> None:
        self._open.discard(connection)
        connection.transport.close()

    def close_idle(self) -> None:
        """Close the connections that are not in use."""
        idle, self._idle = self._idle, []
        for connection in idle:
            self._close(connection)

    def close(self) -> None:
        """Close every connection, also those in use; idempotent."""
        self._closed = True
        self._idle.clear()
        for connection in list(self._open):
            self._close(connection)

    def __repr__(self) -> str:
        return f"<Pool {self.host}:{self.port} {len(self._open)} open, {len(self._idle)} idle>"


def _detach(stream: trio.SocketStream) -> socket.socket:
    return socket.socket(fileno=stream.socket.detach())


def _default_tls() -> ssl.SSLContext:
    from mcpgateway.wire.tls import client_context

    return client_context()


def _explain(problem: BaseException) -> str:
    """The innermost reason: trio and ssl wrap it."""
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    cause = problem.__cause__
    if isinstance(cause, BaseExceptionGroup) and cause.exceptions:
        return _explain(cause.exceptions[0])
    return _explain(cause) if cause is not None else str(problem) or type(problem).__name__
