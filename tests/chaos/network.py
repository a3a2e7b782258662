"""A network in memory for clients of trio: what is connected to is one end of a socket pair, or nothing.

Socket pairs deliver at once, so that a run in virtual time neither waits for a kernel nor jumps past it.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from typing import Any, TypeAlias

import trio

Accept: TypeAlias = Callable[[], Awaitable[socket.socket]]
"""Makes a connection, whose far end it gives, or refuses with an `OSError`, or hangs."""


class Network(trio.abc.SocketFactory):
    """Ports on which something listens; set for a run with `installed`."""

    def __init__(self) -> None:
        self.listening: dict[int, Accept] = {}

    def socket(self, family: int = socket.AF_INET, type: int = socket.SOCK_STREAM, proto: int = 0) -> _Socket:
        return _Socket(self)

    @contextmanager
    def installed(self) -> Any:
        before = trio.socket.set_custom_socket_factory(self)
        try:
            yield self
        finally:
            trio.socket.set_custom_socket_factory(before)


class _Socket(trio.socket.SocketType):
    """As much of a socket as `trio.open_tcp_stream` needs."""

    type = socket.SOCK_STREAM

    def __init__(self, network: Network) -> None:
        self._network = network
        self._sock: socket.socket | None = None

    async def connect(self, address: Any) -> None:
        await trio.lowlevel.checkpoint()
        accept = self._network.listening.get(address[1])
        if accept is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        self._sock = await accept()

    def setsockopt(self, *arguments: Any) -> None:
        """There is nothing to set."""

    def detach(self) -> int:
        sock, self._sock = self._sock, None
        assert sock is not None
        return sock.detach()

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None
