"""Byte transports: the interface, a plain socket, and a TLS stream.

*Read before you wait* is the rule of the hot path: a transport tries ``recv`` or ``send`` on the non-blocking socket
first and parks the task only when that would block, so a call that finds its bytes there costs one system call
(`trio.SocketStream` costs 16 µs for the pair, this 6). The price is that a successful `Transport.receive` is not a
checkpoint: whoever loops on one yields now and then, so that a busy peer starves nobody.

Whoever waits does so under a `Wait`; ending it raises its exception here, in the waiting task. On Linux plain sockets
use the faster `mcpgateway.wire.readiness.EdgeTransport`.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import trio

from mcpgateway.wire.waiting import Wait, interruptible

CHUNK: Final = 65536
"""Bytes asked of one read: one 64 KiB reply, and what Linux gives a loopback reader at once."""


class TransportBroken(OSError):
    """The peer reset the connection, or TLS failed. An orderly end is an empty `receive` instead.

    ``unsent`` is true where nothing of what was last put can have reached the peer.
    """

    unsent = False


class Transport(Protocol):
    """One connected byte stream, used by one reading and one writing task."""

    async def receive(self, wait: Wait) -> bytes:
        """The next bytes; ``b""`` at the orderly end."""

    def try_receive(self) -> bytes | None:
        """The bytes that are there already; ``None`` if there are none yet."""

    @property
    def disturbed(self) -> bool:
        """Whether bytes, or the peer's end, may have come since the last time that there was nothing to read."""

    @property
    def stuck(self) -> bool:
        """Whether the peer does not take what was put, so that `flushed` has to be awaited before putting more."""

    @property
    def unsent(self) -> int:
        """How many bytes were put that the kernel has not taken."""

    def put(self, data: bytes) -> None:
        """Take bytes for sending, all of them and in order. Never waits; what cannot be sent at once is kept."""

    async def flushed(self, wait: Wait) -> None:
        """Wait until everything that was put is with the kernel."""

    def peer_closed(self) -> bool:
        """Whether the peer has closed its side, as far as one can tell without reading."""

    async def end(self) -> None:
        """Tell the peer that nothing more comes; what it still sends can be read."""

    def close(self) -> None:
        """Close at once; idempotent. Tasks parked on the transport get `TransportBroken`."""


def prepare(sock: socket.socket) -> None:
    """Make a stdlib socket non-blocking, and TCP send small messages at once."""
    sock.setblocking(False)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class SocketTransport:
    """A stdlib socket, which it owns, and trio's own primitives for waiting: where there is no epoll."""

    __slots__ = ("_rest", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        prepare(sock)
        self._sock = sock
        self._rest = bytearray()

    async def receive(self, wait: Wait) -> bytes:
        sock = self._sock
        while True:
            try:
                return sock.recv(CHUNK)
            except BlockingIOError:
                pass
            except OSError as problem:
                raise broken(problem) from None
            if wait.ended is not None:
                raise wait.ended
            wait.wake = self._wake
            try:
                await trio.lowlevel.wait_readable(sock)
            except (trio.ClosedResourceError, ValueError):
                wait.check()
                raise TransportBroken("the connection was closed on this side") from None
            finally:
                wait.wake = None

    def try_receive(self) -> bytes | None:
        try:
            return self._sock.recv(CHUNK)
        except BlockingIOError:
            return None
        except OSError as problem:
            raise broken(problem) from None

    @property
    def disturbed(self) -> bool:
        return True

    @property
    def stuck(self) -> bool:
        return bool(self._rest)

    @property
    def unsent(self) -> int:
        return len(self._rest)

    def put(self, data: bytes) -> None:
        if self._rest:
            self._rest += data
            return
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as problem:
            raise broken(problem, unsent=True) from None
        if sent != len(data):
            self._rest += data[sent:]

    async def flushed(self, wait: Wait) -> None:
        while self._rest:
            wait.check()
            wait.wake = self._wake
            try:
                await trio.lowlevel.wait_writable(self._sock)
                del self._rest[: self._sock.send(self._rest)]
            except BlockingIOError:
                continue
            except (trio.ClosedResourceError, ValueError):
                wait.check()
                raise TransportBroken("the connection was closed on this side") from None
            except OSError as problem:
                raise broken(problem) from None
            finally:
                wait.wake = None

    def _wake(self) -> None:
        trio.lowlevel.notify_closing(self._sock)

    def peer_closed(self) -> bool:
        return peer_closed(self._sock)

    async def end(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as problem:
            raise broken(problem) from None

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()

    def __repr__(self) -> str:
        return f"<SocketTransport fd={self._sock.fileno()}>"


class TlsTransport:
    """A TLS stream over a socket, both owned. Trio's stream does the work; the interface is ours."""

    __slots__ = ("_rest", "_sock", "_stream")

    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream
        self._sock = stream.transport_stream.socket
        self._rest = bytearray()

    async def shake_hands(self, wait: Wait) -> None:
        """Do the handshake, as either side; reading or writing would do it too."""
        with _on_tls(wait):
            await self._stream.do_handshake()

    async def receive(self, wait: Wait) -> bytes:
        with _on_tls(wait):
            return bytes(await self._stream.receive_some(CHUNK))

    def try_receive(self) -> bytes | None:
        return None

    @property
    def disturbed(self) -> bool:
        return _poll(self._sock, select.POLLIN | _HANG_UP)

    @property
    def stuck(self) -> bool:
        return bool(self._rest)

    @property
    def unsent(self) -> int:
        return len(self._rest)

    def put(self, data: bytes) -> None:
        self._rest += data  # a TLS record may have to wait for the peer's handshake messages

    async def flushed(self, wait: Wait) -> None:
        data = bytes(self._rest)
        self._rest.clear()
        with _on_tls(wait):
            await self._stream.send_all(data)

    def peer_closed(self) -> bool:
        return peer_closed(self._sock)

    async def end(self) -> None:
        await trio.lowlevel.checkpoint()  # TLS has no half-close that peers agree on; closing says it

    def close(self) -> None:
        self._sock.close()


@contextmanager
def _on_tls(wait: Wait) -> Iterator[None]:
    """Use trio's stream until the ``wait`` ends, and tell of its failures as ours.

    By a scope, and not by `notify_closing` as on plain sockets: trio's stream has checkpoints before it waits for the
    socket, and an end of the wait that falls on one of them would be lost.
    """
    try:
        with interruptible(wait):
            yield
    except (trio.BrokenResourceError, trio.ClosedResourceError) as problem:
        wait.check()
        raise TransportBroken(f"TLS: {_reason(problem)}") from None


def broken(problem: OSError, *, unsent: bool = False) -> TransportBroken:
    """A socket's error as ours."""
    mapped = TransportBroken(*problem.args)
    mapped.unsent = unsent
    return mapped


def _reason(problem: Exception) -> str:
    cause = problem.__cause__ or problem
    return cause.reason if isinstance(cause, ssl.SSLError) and cause.reason else str(cause) or type(cause).__name__


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


_HANG_UP = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


def peer_closed(sock: _HasFileno) -> bool:
    """Whether the far end has hung up, without reading: bytes already received (a pipelined request) stay there.

    macOS has no ``POLLRDHUP``; there a half-closed peer is noticed by ``POLLHUP`` only.
    """
    return sock.fileno() < 0 or _poll(sock, _HANG_UP)


def _poll(sock: _HasFileno, events: int) -> bool:
    poll = select.poll()
    poll.register(sock.fileno(), events)
    return bool(poll.poll(0))
