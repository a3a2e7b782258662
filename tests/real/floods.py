"""A gateway that is flooded from one address, and a client of another that goes on calling."""

from __future__ import annotations

import resource
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import pytest
import trio

from tests.fronts.site import Client
from tests.real.gateways import GatewayProcess
from tests.real.load import Called, one

USER: Final = "127.0.0.2"
"""The address of the client that has nothing to do with the flood, which comes from 127.0.0.1."""


@contextmanager
def files(count: int) -> Iterator[None]:
    """Let this process have so many files open."""
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"this process may have {hard} files open, not {count}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


class Flood:
    """Connections from 127.0.0.1 that are opened by a thread, as fast as it can, and do no more than they are told."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._sockets: list[socket.socket] = []

    async def open(self, count: int, data: Callable[[int], bytes], *, buffer: int | None = None) -> None:
        """So many connections, each of which sends this; ``buffer`` is what they receive at most."""
        await trio.to_thread.run_sync(partial(self._open, count, data, buffer))

    def _open(self, count: int, data: Callable[[int], bytes], buffer: int | None) -> None:
        for number in range(count):
            sock = socket.socket()
            self._sockets.append(sock)
            if buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            sock.connect(("127.0.0.1", self._port))
            sock.sendall(data(number))

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()


class Site:
    """A gateway that is being flooded, and a client of another address."""

    def __init__(self, running: GatewayProcess) -> None:
        self.pid = running.process.pid
        self.port = int(running.url.rpartition(":")[2])
        self.flood = Flood(self.port)

    async def dial(self, address: str = USER) -> Client:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port, local_address=address)
        return Client(stream, f"127.0.0.1:{self.port}")

    async def clients(self) -> dict[str, Any]:
        async with await self.dial() as client:
            shown: dict[str, Any] = (await client.ask("GET", "/health")).json["clients"]
            return shown

    async def rest(self) -> None:
        """Wait until only the user's connection is left, and the one that asks."""
        with trio.fail_after(60):
            while (await self.clients())["connections"]["held"] > 2:  # noqa: ASYNC110 - another process
                await trio.sleep(0.1)

    async def served(self, flood: Callable[[], Awaitable[None]]) -> list[Called]:
        """The calls of a client of another address, until the flood has been let loose, and a while longer."""
        called: list[Called] = []
        async with await self.dial() as client, trio.open_nursery() as nursery:
            session = await client.initialize("/mcp/user")
            done = trio.Event()

            async def run() -> None:
                await flood()
                done.set()

            nursery.start_soon(run)
            while not done.is_set() or len(called) < 300:
                called.append(await one(client, session, len(called), "echo", {"text": "x"}, expect="x"))
        assert [each.problem for each in called if each.problem] == []
        return called
