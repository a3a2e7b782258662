"""An HTTP/1.1 server on trio: one task per connection, no nursery and no scope per request.

A request is read whole (its body is bounded), handed to one handler, and answered by that handler through its
`Exchange`, with one ``send`` for head and body together.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Final

import trio

from mcpgateway.config.limits import Limits
from mcpgateway.errors import TooBusy
from mcpgateway.wire.bounds import Bounds, Places
from mcpgateway.wire.http1.connection import Begin, Connection, Handler, Refuse
from mcpgateway.wire.transport import Transport, TransportBroken
from mcpgateway.wire.waiting import Sweeper

log = logging.getLogger("mcpgateway.http")

REFUSED: Final = 256
"""Connections that are told at the same time why they were refused; more of them are closed without a word."""


class HttpServer:
    """What the connections of one listener share, and all of them in one place for draining."""

    def __init__(
        self,
        handler: Handler,
        refuse: Refuse,
        sweeper: Sweeper,
        limits: Limits | None = None,
        *,
        begin: Begin | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        self.handler = handler
        self.begin = begin
        self.refuse = refuse
        self.sweeper = sweeper
        self.limits = limits or Limits()
        self.bounds = bounds or Bounds(self.limits)
        self.connections: dict[Connection, None] = {}
        """In the order in which they were accepted, with those that are being refused."""
        self._places = Places[Connection](self.bounds.connections)
        self.nursery: trio.Nursery | None = None
        """Where calls are finished whose connection has gone; whoever runs the server's connections sets it."""
        self._emptied = trio.Event()

    async def serve(self, transport: Transport, peer: str = "", *, secure: bool = False) -> None:
        """Serve one connection, and close it; run it in a nursery."""
        connection = Connection(transport, peer, secure, self)
        address = connection.address
        try:
            idle = self._places.make_room(address, _is_idle)
        except TooBusy as problem:
            await self._turn_away(connection, problem)
            return
        if idle is not None:
            idle.drain()
        self._places.add(address, connection)
        try:
            await self._run(connection)
        finally:
            self._places.remove(address, connection)

    async def _turn_away(self, connection: Connection, problem: TooBusy) -> None:
        if len(self.connections) - len(self._places) < REFUSED:
            connection.refuse_service(problem)
            await self._run(connection)
        else:
            connection.transport.close()

    async def _run(self, connection: Connection) -> None:
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

    def drain(self) -> None:
        """Close idle connections now, and the others after their reply."""
        for connection in list(self.connections):
            connection.drain()

    async def beat(self, interval: float) -> None:
        """Keep streams alive for ever; run it beside the connections."""
        async with trio.open_nursery() as flushing:
            while True:
                await trio.sleep(interval)
                self._beat(flushing)

    def _beat(self, flushing: trio.Nursery) -> None:
        for connection in self.connections:
            if connection.beat():
                flushing.start_soon(connection.flush_beat)

    async def emptied(self) -> None:
        """Wait until there is no connection."""
        while self.connections:
            self._emptied = trio.Event()
            await self._emptied.wait()


def _is_idle(connection: Connection) -> bool:
    return not connection.busy and not connection.closing


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
    await trio.lowlevel.checkpoint()  # not if it was cancelled, and the listener closed, before it began
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


def bind(host: str, port: int, *, beside: Collection[socket.socket] = ()) -> list[socket.socket]:
    """Listening sockets for every address of ``host``; port 0 takes any free one, the same for all of them.

    A port that ``beside`` listen on, which are to be closed soon, is shared with them, but with nobody else.

    :raises OSError: the address is taken or not ours; no socket is left open
    """
    listeners: list[socket.socket] = []
    try:
        for sock in beside:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
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
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, bool(beside))
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
    finally:
        for sock in (*beside, *listeners):
            if sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
    return listeners
