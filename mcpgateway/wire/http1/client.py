"""An HTTP/1.1 client on trio: keep-alive connections to one origin, last used first, no lock, no task of its own.

One thread runs everything, so taking a connection from the idle list is atomic. A request and its response belong to
the caller's task from `Pool.exchange` to the end of the body; the caller's `Wait` ends either. Budget: 5 µs for the
two system calls, 8 for parking, 3 for parsing.
"""

from __future__ import annotations

import socket
import ssl
from typing import Final
from urllib.parse import SplitResult, urlsplit

import httptools
import trio

from mcpgateway.wire.http1.server import MAX_HEADERS
from mcpgateway.wire.readiness import Poller
from mcpgateway.wire.transport import TlsTransport, Transport, TransportBroken
from mcpgateway.wire.waiting import Wait, interruptible

MAX_HEAD: Final = 64 * 1024
FRESH: Final = 0.5
"""Seconds for which an idle connection is taken to be open; older ones are looked at first (one system call)."""


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

    __slots__ = ("chunks", "complete", "headers", "headers_complete", "keep_alive", "parser", "status")

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.reset()

    def reset(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.chunks: list[bytes] = []
        self.headers_complete = False
        self.keep_alive = False
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        headers = self.headers
        headers[name] = headers[name] + b", " + value if name in headers else value

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()
        self.keep_alive = self.parser.should_keep_alive()
        self.headers_complete = True

    def on_body(self, body: bytes) -> None:
        self.chunks.append(body)

    def on_message_complete(self) -> None:
        if self.status < 200:
            self.reset()  # an interim response (RFC 9110, 15.2); the real one follows
        else:
            self.complete = True


class _Connection:
    __slots__ = ("builder", "idle_since", "transport", "unfinished", "used")

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.builder = _Builder()
        self.idle_since = 0.0
        self.used = False
        self.unfinished = False

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
        """Read once and parse; at the end of the stream, end a body that runs until then."""
        data = await self.transport.receive(wait)
        builder = self.builder
        if data:
            try:
                builder.parser.feed_data(data)
            except httptools.HttpParserUpgrade:
                raise HttpError("the peer switched protocols unasked") from None
            except httptools.HttpParserError as problem:
                raise HttpError(f"not a valid HTTP/1.1 response: {problem}") from None
            if len(builder.headers) > MAX_HEADERS:
                raise HttpError("the response has too many header fields")
            return
        until_end = b"content-length" not in builder.headers and b"transfer-encoding" not in builder.headers
        if builder.headers_complete and until_end:
            builder.complete = True
            return
        what = "within its response" if builder.headers_complete else "without a response"
        raise HttpError(f"the peer closed the connection {what}")


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
        if connection is None:
            return b""
        builder = connection.builder
        if builder.complete and len(builder.chunks) == 1:
            body = builder.chunks[0]
            self._release()
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

    ``connect_timeout`` is in seconds and covers name look-up, TCP and TLS. There is no bound on connections here: the
    leases above bound the calls.
    """

    def __init__(self, url: str, poller: Poller, *, connect_timeout: float = 10.0, tls: ssl.SSLContext | None = None) -> None:
        parts: SplitResult = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http or https URL: {parts.scheme}://{parts.hostname or ''}")
        self.host: str = parts.hostname
        self.port: int = parts.port or (443 if parts.scheme == "https" else 80)
        self.secure = parts.scheme == "https"
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

    async def exchange(self, data: bytes, wait: Wait) -> Response:
        """Send a whole request and wait for the head of its response.

        Tries once more on a new connection if a kept one turns out to be closed before a byte was written.

        :raises HttpError: not reachable, or no HTTP response; `HttpError.unsent` says whether it may have had effect
        """
        connection = self._take() or await self._dial(wait)
        try:
            await self._send(connection, data, wait)
        except HttpError:
            self._close(connection)
            if not connection.used:
                raise
            connection = await self._dial(wait)
            try:
                await self._send(connection, data, wait)
            except BaseException:
                self._close(connection)
                raise
        except BaseException:
            self._close(connection)
            raise
        builder = connection.builder
        try:
            while not builder.headers_complete:
                await connection.receive(wait)
        except TransportBroken as problem:
            self._close(connection)
            raise HttpError(f"the connection broke before the response: {problem}") from None
        except BaseException:
            self._close(connection)
            raise
        return Response(self, connection)

    async def _send(self, connection: _Connection, data: bytes, wait: Wait) -> None:
        """Send, mapping a connection that was closed before the first byte to an `HttpError` that says so."""
        transport = connection.transport
        try:
            sent = transport.try_send(data)
        except TransportBroken as problem:
            raise HttpError(f"the connection broke: {problem}", unsent=True) from None
        if sent != len(data):
            try:
                await transport.send(data[sent:], wait)
            except TransportBroken as problem:
                raise HttpError(f"the connection broke: {problem}") from None

    def _take(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            age = trio.current_time() - connection.idle_since
            if connection.finish() and (age < FRESH or not connection.transport.peer_closed()):
                return connection
            self._close(connection)
        return None

    def _give_back(self, connection: _Connection) -> None:
        if connection.builder.keep_alive:
            connection.builder.reset()
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
        now = trio.current_time()
        connection.used = True
        connection.idle_since = now
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
                connection = _Connection(await self._connect())
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
        secured = trio.SSLStream(
            stream, self._tls or _default_tls(), server_hostname=self.host, https_compatible=True
        )
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
