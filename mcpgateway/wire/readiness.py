"""Which sockets can be read or written: one edge-triggered epoll for all of them, inside trio's own.

`trio.lowlevel.wait_readable` changes trio's epoll set at every wait: 10 µs with the switch of tasks, twice a call. Here
a socket is registered once in its life, an edge is remembered until somebody wants it, and waiting is parking (5 µs).
One task of the gateway, `Poller.run`, sleeps on the inner epoll and hands the edges out.

The rule of edge triggering (epoll(7)): after an edge, read until the socket has nothing more, or gives less than was
asked for; only then will there be another edge. `EdgeTransport` keeps it.
"""

from __future__ import annotations

import select
import socket
from typing import Final

import trio

from mcpgateway.wire.transport import CHUNK, SocketTransport, Transport, TransportBroken, peer_closed, prepare
from mcpgateway.wire.waiting import Wait

AVAILABLE: Final = hasattr(select, "epoll")
"""Linux only; elsewhere `Poller.transport` gives transports that wait with trio's own primitives."""


class Poller:
    """The inner epoll. Whoever owns the sockets runs `run` in their nursery, for as long as they live."""

    def __init__(self) -> None:
        self._transports: dict[int, EdgeTransport] = {}
        self._epoll = select.epoll() if AVAILABLE else None

    def transport(self, sock: socket.socket) -> Transport:
        """A transport for a connected socket, which it owns from now on."""
        if self._epoll is None:
            return SocketTransport(sock)
        transport = EdgeTransport(sock, self)
        fd = sock.fileno()
        self._transports[fd] = transport
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET)
        return transport

    def forget(self, fd: int) -> None:
        """A socket is about to be closed, which takes it out of the kernel's set."""
        self._transports.pop(fd, None)

    async def run(self) -> None:
        """Hand out edges for ever."""
        if self._epoll is None:
            await trio.sleep_forever()
        epoll, transports = self._epoll, self._transports
        try:
            while True:
                for fd, events in epoll.poll(0):
                    transport = transports.get(fd)
                    if transport is not None:
                        transport.edge(events)
                await trio.lowlevel.wait_readable(epoll)
        finally:
            epoll.close()


_WRITE_EDGE: Final = (select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP) if AVAILABLE else 0


class EdgeTransport:
    """A non-blocking socket registered with a `Poller`."""

    __slots__ = ("_poller", "_readable", "_reader", "_sock", "_writer")

    def __init__(self, sock: socket.socket, poller: Poller) -> None:
        prepare(sock)
        self._sock = sock
        self._poller = poller
        self._readable = True
        self._reader: Wait | None = None
        self._writer: Wait | None = None

    def edge(self, events: int) -> None:
        """Take an edge from the poller: remember it, and wake who waits for it."""
        self._readable = True
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.resume()
        if self._writer is not None and events & _WRITE_EDGE:
            writer, self._writer = self._writer, None
            writer.resume()

    async def receive(self, wait: Wait) -> bytes:
        while True:
            if self._readable:
                data = self.try_receive()
                if data is not None:
                    return data
            self._reader = wait
            try:
                await wait.park()
            finally:
                self._reader = None

    def try_receive(self) -> bytes | None:
        try:
            data = self._sock.recv(CHUNK)
        except BlockingIOError:
            self._readable = False
            return None
        except OSError as problem:
            raise TransportBroken(*problem.args) from None
        self._readable = len(data) == CHUNK or not data
        return data

    def try_send(self, data: bytes) -> int:
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as problem:
            raise TransportBroken(*problem.args) from None

    async def send(self, data: bytes, wait: Wait) -> None:
        rest = memoryview(data)
        while True:
            try:
                rest = rest[self._sock.send(rest) :]
            except BlockingIOError:
                pass
            except OSError as problem:
                raise TransportBroken(*problem.args) from None
            if not rest:
                return
            self._writer = wait
            try:
                await wait.park()
            finally:
                self._writer = None

    def peer_closed(self) -> bool:
        return peer_closed(self._sock)

    async def end(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as problem:
            raise TransportBroken(*problem.args) from None

    def close(self) -> None:
        fd = self._sock.fileno()
        if fd >= 0:
            self._poller.forget(fd)
            self._sock.close()
            for waiting in (self._reader, self._writer):
                if waiting is not None:
                    waiting.end(TransportBroken("the connection was closed on this side"))

    def __repr__(self) -> str:
        return f"<EdgeTransport fd={self._sock.fileno()}>"
