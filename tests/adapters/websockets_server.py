"""Servers over WebSockets by the ``websockets`` library, in a process of its own; the path says which.

======================= ===============================================================================================
``/dual``, ``/legacy``  the fixture server of both eras, or of one
``/modern``
``/silent``             reads everything and answers nothing
``/flood``              from the first call on, sends 200 notifications of 500 kB and a ping every 5 ms, while it
                        answers the calls that come; each is told how many pings were answered
``/deaf``               shakes hands and stops reading
======================= ===============================================================================================
"""

from __future__ import annotations

import asyncio
import json
import sys

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from mcpgateway import jsonrpc
from mcpgateway.demo.server import BOTH
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.fixture_server import Crashed, FixtureServer

ERAS = {"/dual": BOTH, "/legacy": {Era.LEGACY}, "/modern": {Era.MODERN}}
MESSAGES = 200
SIZE = 500_000


async def fixture(socket: ServerConnection, path: str) -> None:
    server = FixtureServer(eras=ERAS[path])
    async for data in socket:
        try:
            caused = server.handle(jsonrpc.decode(data if isinstance(data, bytes) else data.encode()))
        except Crashed as crash:
            await socket.close(1011, str(crash))
            return
        for message in caused:
            await socket.send(message.encode().decode())


class Flood:
    """What ``/flood`` does on one connection."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.answered = 0
        """Pings that were answered."""
        self.tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        server = FixtureServer(eras={Era.LEGACY})
        async for data in self.socket:
            message = jsonrpc.decode(str(data).encode())
            if message.method == "tools/call" and message.id is not None:
                if not self.tasks:
                    self.tasks = [asyncio.create_task(self.talk()), asyncio.create_task(self.ping())]
                result = {"content": [], "structuredContent": {"length": len(data), "answered": self.answered}}
                await self.socket.send(jsonrpc.result(message.id, result).encode().decode())
                continue
            for caused in server.handle(message):
                await self.socket.send(caused.encode().decode())
        for task in self.tasks:
            task.cancel()

    async def talk(self) -> None:
        for number in range(MESSAGES):
            params = {"uri": f"x:{number}", "filling": "x" * SIZE}
            message = {"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": params}
            await self.socket.send(json.dumps(message))

    async def ping(self) -> None:
        while True:
            asyncio.ensure_future(await self.socket.ping()).add_done_callback(self.ponged)
            await asyncio.sleep(0.005)

    def ponged(self, waiter: asyncio.Future[float]) -> None:
        self.answered += not waiter.cancelled() and waiter.exception() is None


async def handle(socket: ServerConnection) -> None:
    path = socket.request.path if socket.request is not None else ""
    try:
        if path in ERAS:
            await fixture(socket, path)
        elif path == "/flood":
            await Flood(socket).run()
        elif path == "/deaf":
            await shake_hands(socket)
            await asyncio.sleep(3600)
        else:
            async for _ in socket:
                pass
    except ConnectionClosed:
        pass


async def shake_hands(socket: ServerConnection) -> None:
    server = FixtureServer(eras={Era.LEGACY})
    for _ in range(2):
        for caused in server.handle(jsonrpc.decode(str(await socket.recv()).encode())):
            await socket.send(caused.encode().decode())


async def main() -> None:
    port = int(sys.argv[1])
    async with serve(handle, "127.0.0.1", port, subprotocols=[Subprotocol("mcp")], max_size=None, ping_interval=None):
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main())
