"""A client on the ``websockets`` library, which shares no code with the gateway: ``python -m … URL``.

Sends 200 calls of ``echo`` with 500 kB each, 50 at a time, and a ping every 5 ms, while it reads what comes back.
(What waits for the server behind the gateway may have 64 MiB.)
Prints how many replies were right, and how many pings were answered.
"""

from __future__ import annotations

import asyncio
import json
import sys

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

CALLS = 200
SIZE = 500_000


async def send(socket: ClientConnection, flying: asyncio.Semaphore) -> None:
    for n in range(CALLS):
        await flying.acquire()
        params = {"name": "echo", "arguments": {"text": chr(97 + n % 26) * SIZE}}
        await socket.send(json.dumps({"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": params}))


async def ping(socket: ClientConnection, answered: list[float]) -> None:
    while True:
        answered.append(await (await socket.ping()))
        await asyncio.sleep(0.005)


async def main(url: str) -> None:
    answered: list[float] = []
    flying = asyncio.Semaphore(50)
    async with connect(url, subprotocols=[Subprotocol("mcp")], max_size=None) as socket:
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        await socket.send(json.dumps({"jsonrpc": "2.0", "id": "i", "method": "initialize", "params": hello}))
        assert json.loads(await socket.recv())["id"] == "i"
        tasks = [asyncio.create_task(send(socket, flying)), asyncio.create_task(ping(socket, answered))]
        right = 0
        for _ in range(CALLS):
            reply = json.loads(await socket.recv())
            flying.release()
            assert "result" in reply, reply
            right += reply["result"]["content"][0]["text"] == chr(97 + reply["id"] % 26) * SIZE
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    print(json.dumps({"right": right, "pings": len(answered), "code": socket.close_code}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
