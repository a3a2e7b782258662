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

import trio

from mcpgateway.wire.http1.responses import Abandon, ClientConnection, Done, HttpError, Response
from mcpgateway.wire.readiness import EdgeTransport, Poller
from mcpgateway.wire.transport import TlsTransport, Transport, TransportBroken
from mcpgateway.wire.waiting import Wait, interruptible

KEPT: Final = 60.0
"""Seconds after which an idle connection is closed once a younger one has been given back."""


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
        self._idle: list[ClientConnection] = []
        self._open: set[ClientConnection] = set()
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
            self.discard(connection)
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

    async def _attempt(self, connection: ClientConnection, data: bytes, wait: Wait) -> Response:
        builder = connection.builder
        transport = connection.transport
        try:
            transport.put(data)
            if transport.stuck:
                await transport.flushed(wait)
            while not builder.headers_complete:
                await connection.receive(wait)
        except TransportBroken as problem:
            self.discard(connection)
            raise HttpError(f"the connection broke: {problem.strerror or problem}", unsent=problem.unsent) from None
        except BaseException:
            self.discard(connection)
            raise
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
        try:
            with interruptible(wait), trio.fail_after(self._connect_timeout):
                connection = ClientConnection(await self._connect(), self)
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

    def discard(self, connection: ClientConnection) -> None:
        self._open.discard(connection)
        connection.transport.close()

    def close_idle(self) -> None:
        """Close the connections that are not in use."""
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


def _touched(transport: Transport) -> bool:
    """Whether a kept connection that was disturbed has really been closed, or sent something."""
    if isinstance(transport, TlsTransport):
        return True
    try:
        return transport.try_receive() is not None or transport.peer_closed()
    except TransportBroken:
        return True
