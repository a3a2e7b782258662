"""An HTTP/1.1 client on trio: keep-alive connections to one origin, last used first, no lock, no task of its own.

One thread runs everything, so taking a connection from the idle list is atomic. A request and its response belong to
the caller's task from `Pool.exchange` to the end of the body; the caller's `Wait` ends either. Budget: 5 µs for the
two system calls, 8 for parking, 3 for parsing.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Final
from urllib.parse import SplitResult, urlsplit

import trio

from mcpgateway.wire.http1.responses import ClientConnection, Response
from mcpgateway.wire.http_client import DEFAULT, KEPT, Abandon, Deadlines, Done, Fields, HttpError, innermost, target_of
from mcpgateway.wire.readiness import EdgeTransport, Poller
from mcpgateway.wire.tls import client_context
from mcpgateway.wire.transport import TlsTransport, Transport, TransportBroken
from mcpgateway.wire.waiting import Wait, interruptible

MAX_BODY: Final = 64 * 1024 * 1024
"""Bytes of a response to a request that was begun."""


class Pool:
    """Keep-alive connections to the origin of one URL; a `mcpgateway.wire.http_client.HttpClient`.

    Owned by whoever made it; `close` closes all of it. ``tls`` gives the context for a new connection; ``limit`` bounds
    the bytes of a response to `begin`. There is no bound on connections here: the leases above bound the calls.
    """

    def __init__(
        self,
        url: str,
        poller: Poller,
        *,
        deadlines: Deadlines = DEFAULT,
        tls: Callable[[], ssl.SSLContext] = client_context,
        limit: int = MAX_BODY,
    ) -> None:
        parts: SplitResult = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http or https URL: {parts.scheme}://{parts.hostname or ''}")
        self.host: str = parts.hostname
        self.port: int = parts.port or (443 if parts.scheme == "https" else 80)
        self.secure = parts.scheme == "https"
        self.target = target_of(url)
        self.deadlines = deadlines
        self.limit = limit
        self._poller = poller
        self._tls = tls
        self._idle: list[ClientConnection] = []
        self._open: set[ClientConnection] = set()
        self._closed = False

    @property
    def open_connections(self) -> int:
        """Connections that are open, idle ones included."""
        return len(self._open)

    def prepare(self, method: bytes, fields: Fields, *, patient: bool = False) -> Prepared:
        """See `mcpgateway.wire.http_client.HttpClient.prepare`."""
        head = b"%b %b HTTP/1.1\r\n%b" % (method, self.target, _lines(fields))
        return Prepared(self, head, self.deadlines.patient() if patient else self.deadlines)

    def begin(self, data: bytes, wait: Wait, done: Done, deadlines: Deadlines) -> Abandon | None:
        """Send a whole request; see `mcpgateway.wire.http_client.Prepared.begin`."""
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
            self.discard(connection)
            return None
        connection.deadlines = deadlines
        if deadlines.first_byte is not None:
            wait.phase = deadlines.head()
        connection.watch(transport, wait, done)
        return connection.abandon

    async def exchange(self, data: bytes, wait: Wait, deadlines: Deadlines) -> Response:
        """Send a whole request; see `mcpgateway.wire.http_client.Prepared.exchange`."""
        connection = self._take()
        if connection is not None:
            try:
                return await self._attempt(connection, data, wait, deadlines)
            except HttpError as problem:
                if not problem.unsent:
                    raise
        return await self._attempt(await self._dial(wait), data, wait, deadlines)

    async def _attempt(self, connection: ClientConnection, data: bytes, wait: Wait, deadlines: Deadlines) -> Response:
        builder = connection.builder
        transport = connection.transport
        connection.deadlines = deadlines
        try:
            transport.put(data)
            if transport.stuck:
                await transport.flushed(wait)
            wait.phase = deadlines.head()
            while not builder.headers_complete:
                await connection.receive(wait)
        except TransportBroken as problem:
            self.discard(connection)
            raise connection.broken(problem) from None
        except BaseException:
            self.discard(connection)
            raise
        finally:
            wait.phase = None
        return Response(self, connection)

    def _take(self) -> ClientConnection | None:
        while self._idle:
            connection = self._idle.pop()
            transport = connection.transport
            # Undisturbed since its last response, it has neither been closed by the peer nor sent anything unasked.
            if connection.finish() and not (transport.disturbed and _touched(transport)):
                return connection
            self.discard(connection)
        return None

    def give_back(self, connection: ClientConnection) -> None:
        if connection.builder.keep_alive and not connection.builder.surplus:
            connection.builder.reset()
            connection.head = 0
            self._keep(connection)
        else:
            self.discard(connection)

    def keep_unfinished(self, connection: ClientConnection) -> None:
        if connection.builder.complete:
            self.give_back(connection)
        else:
            connection.unfinished = True
            self._keep(connection)

    def _keep(self, connection: ClientConnection) -> None:
        if self._closed:
            self.discard(connection)
            return
        connection.idle_since = now = trio.current_time()
        idle = self._idle
        idle.append(connection)
        # Last used first: the front of the list is what nobody has needed for longest.
        if idle[0].idle_since < now - KEPT:
            self.discard(idle.pop(0))

    async def _dial(self, wait: Wait) -> ClientConnection:
        if self._closed:
            raise HttpError("the client is closed", unsent=True)
        limit = self.deadlines.connect
        try:
            with interruptible(wait), trio.fail_after(limit):
                connection = ClientConnection(await self._connect(), self)
        except trio.TooSlowError:
            raise HttpError(f"no connection within {limit:g} s (connect_timeout)", unsent=True) from None
        except (OSError, trio.BrokenResourceError) as problem:
            raise HttpError(f"cannot connect: {innermost(problem)}", unsent=True) from None
        self._open.add(connection)
        return connection

    async def _connect(self) -> Transport:
        stream = await trio.open_tcp_stream(self.host, self.port)
        if not self.secure:
            return self._poller.transport(_detach(stream))
        try:
            secured = trio.SSLStream(stream, self._tls(), server_hostname=self.host, https_compatible=True)
            await secured.do_handshake()
        except BaseException:
            stream.socket.close()
            raise
        return TlsTransport(secured)

    def discard(self, connection: ClientConnection) -> None:
        self._open.discard(connection)
        connection.transport.close()

    async def close_idle(self) -> None:
        """Close the connections that are not in use. No checkpoint."""
        idle, self._idle = self._idle, []
        for connection in idle:
            self.discard(connection)

    def close(self) -> None:
        """Close every connection, also those in use; idempotent."""
        self._closed = True
        self._idle.clear()
        for connection in list(self._open):
            self.discard(connection)

    def __repr__(self) -> str:
        return f"<Pool {self.host}:{self.port} {len(self._open)} open, {len(self._idle)} idle>"


class Prepared:
    """See `mcpgateway.wire.http_client.Prepared`. ``head`` lacks its length and its end."""

    __slots__ = ("_deadlines", "_head", "_pool")

    def __init__(self, pool: Pool, head: bytes, deadlines: Deadlines) -> None:
        self._pool = pool
        self._head = head
        self._deadlines = deadlines

    def begin(self, fields: Fields | None, body: bytes, wait: Wait, done: Done) -> Abandon | None:
        """See `mcpgateway.wire.http_client.Prepared.begin`."""
        head = self._head + _lines(fields) if fields else self._head
        data = b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
        return self._pool.begin(data, wait, done, self._deadlines)

    async def exchange(self, wait: Wait, body: bytes | None = None, fields: Fields | None = None) -> Response:
        """See `mcpgateway.wire.http_client.Prepared.exchange`."""
        head = self._head + _lines(fields) if fields else self._head
        data = head + b"\r\n" if body is None else b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)
        return await self._pool.exchange(data, wait, self._deadlines)


def _lines(fields: Fields) -> bytes:
    return b"".join([b"%b: %b\r\n" % (name, value) for name, value in fields.items() if value is not None])


def _detach(stream: trio.SocketStream) -> socket.socket:
    return socket.socket(fileno=stream.socket.detach())


def _touched(transport: Transport) -> bool:
    """Whether a kept connection that was disturbed has really been closed, or sent something."""
    if isinstance(transport, TlsTransport):
        return True
    try:
        return transport.try_receive() is not None or transport.peer_closed()
    except TransportBroken:
        return True
