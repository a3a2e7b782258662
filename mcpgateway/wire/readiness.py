"""Which sockets can be read or written: one edge-triggered epoll for all of them, inside trio's own.

`trio.lowlevel.wait_readable` changes trio's epoll set at every wait: 10 µs with the switch of tasks, twice a call. Here
a socket is registered once in its life, an edge is remembered until somebody wants it, and waiting is parking (5 µs).
One task of the gateway, `Poller.run`, sleeps on the inner epoll and hands the edges out.

A socket may be *watched*: then an edge runs a function, here and now, instead of waking a task. It is how a plain call
crosses the gateway without a single switch of tasks. Such a function must not block, and what it raises closes the
socket.

It also sends. Waking a peer that sleeps costs the sender most of a ``send``; of several sends in a row only the first
pays. So while several tasks have been woken at once, what they put is kept until all have run, and then sent in one go;
a task that runs alone sends at once. Nobody waits for a send unless the peer does not read.

The rule of edge triggering (epoll(7)): after an edge, read until the socket has nothing more, or gives less than was
asked for; only then will there be another edge. `EdgeTransport` keeps it.
"""

from __future__ import annotations

import logging
import select
import socket
from collections.abc import Callable
from typing import Final

import trio

from mcpgateway.wire.transport import CHUNK, SocketTransport, Transport, TransportBroken, broken, peer_closed, prepare
from mcpgateway.wire.waiting import Wait

log = logging.getLogger("mcpgateway.wire")

AVAILABLE: Final = hasattr(select, "epoll")
"""Linux only; elsewhere `Poller.transport` gives transports that wait with trio's own primitives."""


class Poller:
    """The inner epoll. Whoever owns the sockets runs `run` in their nursery, for as long as they live."""

    def __init__(self) -> None:
        self._transports: dict[int, EdgeTransport] = {}
        self._epoll = select.epoll() if AVAILABLE else None
        self.batching = False
        """Whether several tasks have been woken at once, so that it pays to send together."""
        self.pending: list[EdgeTransport] = []
        """What has been put and waits for the others of its batch."""

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
        """Hand out edges, and send what was put, for ever."""
        if self._epoll is None:
            await trio.sleep_forever()
        epoll, transports = self._epoll, self._transports
        try:
            while True:
                if self.pending:
                    self._flush()
                events = epoll.poll(0)
                if not events:
                    self.batching = False
                    await trio.lowlevel.wait_readable(epoll)
                    continue
                self.batching = len(events) > 1
                for fd, what in events:
                    transport = transports.get(fd)
                    if transport is None:
                        continue
                    try:
                        transport.edge(what)
                    except Exception:
                        log.exception("an event on a socket could not be handled; the socket is closed")
                        transport.close()
                if self.pending:
                    self._flush()
                await trio.lowlevel.checkpoint()
        finally:
            self.batching = False
            epoll.close()

    def _flush(self) -> None:
        pending, self.pending = self.pending, []
        for transport in pending:
            transport.flush()


_READ_EDGE: Final = (select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLERR | select.EPOLLHUP) if AVAILABLE else 0
_LAST_EDGE: Final = (select.EPOLLRDHUP | select.EPOLLERR | select.EPOLLHUP) if AVAILABLE else 0
_WRITE_EDGE: Final = (select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP) if AVAILABLE else 0


class EdgeTransport:
    """A non-blocking socket registered with a `Poller`, which does its sending."""

    __slots__ = (
        "_broken",
        "_last",
        "_out",
        "_poller",
        "_reader",
        "_sock",
        "_writer",
        "disturbed",
        "stuck",
        "watcher",
        "when_stuck",
    )

    def __init__(self, sock: socket.socket, poller: Poller) -> None:
        prepare(sock)
        self._sock = sock
        self._poller = poller
        self.disturbed = True
        """There has been an edge that nobody has read to its end: bytes, or the peer's farewell."""
        self._last = False
        """The peer has hung up: what can be read now is all there will be."""
        self.watcher: Callable[[], None] | None = None
        """Runs at every edge for reading, in place of a task."""
        self.when_stuck: Callable[[], None] | None = None
        """Runs when the peer turns out not to take what was put."""
        self._reader: Wait | None = None
        self._writer: Wait | None = None
        self._out: list[bytes | memoryview] = []
        """Put and not yet sent."""
        self._broken: TransportBroken | None = None
        """How sending failed; whoever uses the transport next is told."""
        self.stuck = False

    def edge(self, events: int) -> None:
        """Take an edge from the poller: remember it, and wake who waits for it."""
        if self.stuck and events & _WRITE_EDGE:
            self.flush()
        if events & _READ_EDGE:
            self.disturbed = True
            if events & _LAST_EDGE:
                self._last = True
            if self.watcher is not None:
                self.watcher()
            else:
                self._wake_reader()

    def _wake_reader(self) -> None:
        if self.watcher is not None:
            self.watcher()
            return
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.resume()

    async def receive(self, wait: Wait) -> bytes:
        while True:
            if self.disturbed or self._broken is not None:
                data = self.try_receive()
                if data is not None:
                    return data
            self._reader = wait
            try:
                await wait.park()
            finally:
                self._reader = None

    def try_receive(self) -> bytes | None:
        if self._broken is not None:
            raise self._broken
        try:
            data = self._sock.recv(CHUNK)
        except BlockingIOError:
            self.disturbed = False
            return None
        except OSError as problem:
            raise broken(problem) from None
        # A short read empties the socket, unless the end has been announced: no edge will follow it.
        self.disturbed = self._last or len(data) == CHUNK or not data
        return data

    @property
    def unsent(self) -> int:
        return sum(map(len, self._out))

    def put(self, data: bytes) -> None:
        if self._broken is not None:
            raise self._broken
        out = self._out
        out.append(data)
        if len(out) > 1:
            return  # on its way already
        if self._poller.batching:
            self._poller.pending.append(self)
        else:
            self.flush()
            if self._broken is not None:
                raise self._broken

    def flush(self) -> None:
        """Send what was put, as far as the socket takes it."""
        out = self._out
        if not out:
            return  # nor is there ever anything on a socket that was closed
        data = out[0] if len(out) == 1 else b"".join(out)
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as problem:
            self._fail(broken(problem, unsent=not self.stuck))
            return
        if sent == len(data):
            out.clear()
            self.stuck = False
            if self._writer is not None:
                self._resume_writer()
        else:
            self._out = [memoryview(data)[sent:]]
            if not self.stuck:
                self.stuck = True
                if self.when_stuck is not None:
                    self.when_stuck()

    def _fail(self, problem: TransportBroken) -> None:
        self._broken = problem
        self._out.clear()
        self.stuck = False
        self._resume_writer()
        self._wake_reader()

    def _resume_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.resume()

    async def flushed(self, wait: Wait) -> None:
        while self._out:
            self._writer = wait
            try:
                await wait.park()
            finally:
                self._writer = None
        if self._broken is not None:
            raise self._broken

    def peer_closed(self) -> bool:
        return peer_closed(self._sock)

    async def end(self) -> None:
        self.flush()
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as problem:
            raise broken(problem) from None

    def close(self) -> None:
        fd = self._sock.fileno()
        if fd >= 0:
            self.flush()
            self.when_stuck = None
            self._poller.forget(fd)
            self._sock.close()
            self._fail(TransportBroken("the connection was closed on this side"))
            self.watcher = None

    def __repr__(self) -> str:
        return f"<EdgeTransport fd={self._sock.fileno()}>"
