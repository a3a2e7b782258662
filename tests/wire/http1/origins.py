"""Origins for the client: listeners on loopback whose connections follow a script, byte by byte."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import trio
import trio.testing

from mcpgateway.wire.http1.client import Pool
from mcpgateway.wire.http1.responses import Response
from mcpgateway.wire.readiness import Poller
from mcpgateway.wire.transport import SocketTransport, Transport
from mcpgateway.wire.waiting import Wait
from tests.wire.http1 import certificates

GUARD: Final = 60.0
"""Seconds after which a test that waits for bytes has failed."""

OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Line:
    """One accepted connection."""

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        self.stream = stream
        self._rest = b""

    async def request(self) -> bytes:
        """One request whole; empty when the client has closed."""
        while b"\r\n\r\n" not in self._rest:
            if not await self._more():
                return b""
        head, _, _ = self._rest.partition(b"\r\n\r\n")
        length = next((int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")), 0)
        size = len(head) + 4 + length
        while len(self._rest) < size:
            await self._more()
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    async def _more(self) -> bool:
        try:
            data = bytes(await self.stream.receive_some())
        except trio.BrokenResourceError:
            data = b""
        self._rest += data
        return bool(data)

    async def closed(self) -> None:
        """Wait until the client has closed."""
        while await self._more():
            pass

    async def say(self, data: bytes) -> None:
        await self.stream.send_all(data)

    def reset(self) -> None:
        """Let the client get a reset, now."""
        stream = self.stream
        sock = stream.transport_stream.socket if isinstance(stream, trio.SSLStream) else stream.socket
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        sock.close()


Script: TypeAlias = Callable[[Line], Awaitable[None]]
"""What one connection does; it is closed at the end."""


async def serve_ok(line: Line) -> None:
    """Answer every request with 200, for as long as the client likes."""
    while await line.request():
        await line.say(OK)


def says(*pieces: bytes) -> Script:
    """Take a request, say the pieces one after the other, and close."""

    async def script(line: Line) -> None:
        await line.request()
        for piece in pieces:
            await line.say(piece)
            await trio.testing.wait_all_tasks_blocked()

    return script


class PlainPoller(Poller):
    """A poller of a platform without epoll."""

    def __init__(self) -> None:
        super().__init__()
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None

    def transport(self, sock: socket.socket) -> Transport:
        return SocketTransport(sock)


class Origin:
    """The origin, and a `Pool` of connections to it."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.accepted = 0

    async def get(self, path: str = "/", wait: Wait | None = None, limit: int = 1 << 20) -> tuple[int, bytes]:
        """Status and body of one exchange."""
        return await self.send(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode(), wait, limit)

    async def exchange(self, data: bytes, wait: Wait) -> Response:
        return await self.pool.exchange(data, wait, self.pool.deadlines)

    async def send(self, data: bytes, wait: Wait | None = None, limit: int = 1 << 20) -> tuple[int, bytes]:
        wait = wait or Wait()
        response = await self.exchange(data, wait)
        return response.status, await response.read(wait, limit)


@asynccontextmanager
async def origin(kind: str, *scripts: Script, host: str = "127.0.0.1") -> AsyncIterator[Origin]:
    """An origin whose first connection follows the first script, and so on; the last one is for all that follow.

    Ends with the pool closed, and with nothing left open in it.
    """
    poller = PlainPoller() if kind == "plain" else Poller()
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    scheme = "https" if kind == "tls" else "http"
    pool = Pool(f"{scheme}://{host}:{port}/mcp", poller, tls=certificates.trusting)
    site = Origin(pool)

    async def handle(stream: trio.SocketStream) -> None:
        script = scripts[min(site.accepted, len(scripts) - 1)]
        site.accepted += 1
        line: trio.SocketStream | trio.SSLStream[trio.SocketStream] = stream
        if kind == "tls":
            line = trio.SSLStream(stream, certificates.listening(), server_side=True, https_compatible=True)
        try:
            await script(Line(line))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client is what is tested
        finally:
            await trio.aclose_forcefully(stream)

    with trio.fail_after(GUARD):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.run)
            nursery.start_soon(trio.serve_listeners, handle, [listener])
            try:
                yield site
            finally:
                pool.close()
                nursery.cancel_scope.cancel(reason="the test is over")
    assert pool.open_connections == 0
