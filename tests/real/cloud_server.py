"""AI clouds by the ``websockets`` library, which shares no code with the gateway: ``python -m … KIND``.

Prints its port, then one JSON value a line. What it does on a connection is a matter of the path:

============ ==========================================================================================================
``/ask/``    does what a cloud does at first: shakes hands, lists tools, calls those that it knows, and one that is
             not there, and pings; prints the answers, and at the end the close code
``/slow/``   has a slow call in flight, and says so
``/rude/``   `DROPS` times: has a slow call in flight and 16 quick ones at a time, then drops the connection without a
             word, after a time that differs; then prints what became of every single one of them, on the socket or at
             the server (`tests.real.ledger_server`), which it is known to by its token
``/steady/`` calls, one after the other, until the rude one is done; prints how many, and the seconds within which 95 of
             100 and all of them were answered
``/bad/…/``  says something that it should not (`BAD`), or ends in the midst of a frame (``half``)
``/refuse/`` answers the handshake with HTTP 401
============ ==========================================================================================================
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from itertools import count
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

DROPS = 200
IN_FLIGHT = 16
HELLO = {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "cloud", "version": "1"}}


def say(value: object) -> None:
    print(json.dumps(value), flush=True)


class Cloud:
    """One connection, from the far end."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.due: dict[object, asyncio.Future[Any]] = {}
        self.twice = 0
        """Answers to what was not asked, or was answered."""
        self._ids = count(1)

    async def read(self) -> None:
        async for data in self.socket:
            message = json.loads(data)
            if "method" in message:
                continue
            waiting = self.due.pop(message["id"], None)
            if waiting is None:
                self.twice += 1
            else:
                waiting.set_result(message)

    async def send(self, method: str, params: object) -> asyncio.Future[Any]:
        id = next(self._ids)
        waiting = self.due[id] = asyncio.get_running_loop().create_future()
        await self.socket.send(json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
        return waiting

    async def ask(self, method: str, params: object = None) -> Any:
        return await (await self.send(method, params or {}))

    async def initialize(self) -> Any:
        answer = await self.ask("initialize", HELLO)
        await self.socket.send('{"jsonrpc":"2.0","method":"notifications/initialized"}')
        return answer


KNOWN: dict[str, dict[str, object]] = {"now": {}, "echo": {"text": "hé"}, "add": {"a": 1, "b": 2}}
"""Tools that are called, and with what."""


BAD: dict[str, str | bytes] = {
    "binary": b"\0" * 10,
    "junk": "{",
    "foreign": '{"id":1}',
    "unasked": '{"jsonrpc":"2.0","id":77,"result":{}}',
    "early": '{"jsonrpc":"2.0","id":1,"method":"tools/list"}',
    "long": " " * 2000,
}
HALF = b"\x81\x7e\x10\x00{"
"""The head of a text frame of 4096 bytes, and the first of them."""


async def misbehave(socket: ServerConnection, how: str) -> None:
    if how == "half":
        socket.transport.write(HALF)
        socket.transport.close()
    else:
        await socket.send(BAD[how])


def refuse(socket: ServerConnection, request: Request) -> Response | None:
    return socket.respond(401, "no") if request.path.startswith("/refuse/") else None


async def ask(cloud: Cloud, path: str) -> None:
    shaken = await cloud.initialize()
    tools = (await cloud.ask("tools/list"))["result"]["tools"]
    calls = {}
    for name in KNOWN.keys() & {tool["name"] for tool in tools}:
        calls[name] = (await cloud.ask("tools/call", {"name": name, "arguments": KNOWN[name]}))["result"]
    unknown = await cloud.ask("tools/call", {"name": "nothing", "arguments": {}})
    ping = await cloud.ask("ping")
    say(
        {
            "path": path,
            "initialize": shaken["result"],
            "tools": [tool["name"] for tool in tools],
            "calls": calls,
            "unknown": unknown,
            "ping": ping["result"],
        }
    )


class Rude:
    """What the rude cloud has seen, over all its connections."""

    def __init__(self) -> None:
        self.drops = 0
        self.sent = 0
        self.answered = 0
        self.wrong = 0
        self.lost: set[str] = set()
        """The tokens of calls that were not answered on their socket, or not yet."""
        self.done = asyncio.Event()
        self._random = random.Random(7)

    async def serve(self, cloud: Cloud) -> None:
        await cloud.initialize()
        if self.drops == DROPS:
            told = await cloud.ask("tools/call", {"name": "cancelled", "arguments": {"count": DROPS}})
            cancelled = told["result"]["structuredContent"]["values"]
            told = await cloud.ask("tools/call", {"name": "fates", "arguments": {"tokens": sorted(self.lost)}})
            seen = {name: getattr(self, name) for name in ("drops", "sent", "answered", "wrong")}
            say({**seen, "lost": sorted(self.lost), "cancelled": cancelled, **told["result"]["structuredContent"]})
            self.done.set()
            return
        token = self.token(f"slow-{self.drops}")
        await cloud.send("tools/call", {"name": "slow", "arguments": {"name": token, "token": token}})
        await cloud.ask("ping")  # so that it has come
        callers = [asyncio.create_task(self.call(cloud, n)) for n in range(IN_FLIGHT)]
        await asyncio.sleep(self._random.uniform(0.0, 0.1))
        self.wrong += cloud.twice
        self.drops += 1
        if self.drops in (DROPS // 4, DROPS):
            say({"dropped": self.drops})
        cloud.socket.transport.abort()
        for caller in callers:
            caller.cancel()

    async def call(self, cloud: Cloud, n: int) -> None:
        for m in count():
            token = self.token(f"{self.drops}-{n}-{m}")
            answer = await cloud.ask("tools/call", {"name": "echo", "arguments": {"text": token, "token": token}})
            self.lost.discard(token)
            self.answered += 1
            self.wrong += answer.get("result", {}).get("content", [{}])[0].get("text") != token

    def token(self, token: str) -> str:
        """The token of a call that is about to be sent."""
        self.lost.add(token)
        self.sent += 1
        return token


async def steady(cloud: Cloud, rude: Rude) -> None:
    shaken = [await cloud.initialize()]
    taken, wrong = list[float](), 0
    while not rude.done.is_set():
        began = time.monotonic()
        text = f"steady-{len(taken)}"
        answer = await cloud.ask("tools/call", {"name": "echo", "arguments": {"text": text}})
        wrong += answer["result"]["content"][0]["text"] != text
        taken.append(time.monotonic() - began)
        await asyncio.sleep(0.005)
    taken.sort()
    waits = {"p95": taken[len(taken) * 95 // 100], "longest": taken[-1]}
    say({"steady": len(taken), **waits, "wrong": wrong + cloud.twice, "connections": len(shaken)})


async def main() -> None:
    rude = Rude()
    steadies = count(1)

    async def handle(socket: ServerConnection) -> None:
        path = urlsplit(socket.request.path).path if socket.request is not None else ""
        cloud = Cloud(socket)
        reading = asyncio.create_task(cloud.read())
        try:
            if path.startswith("/ask/"):
                await ask(cloud, path)
            elif path.startswith("/slow/"):
                await cloud.initialize()
                await cloud.send("tools/call", {"name": "slow", "arguments": {"name": "x"}})
                await cloud.ask("tools/call", {"name": "waiting", "arguments": {"count": 1}})
                say("slow is called")
            elif path.startswith("/bad/"):
                await misbehave(socket, path.split("/")[2])
            elif path == "/rude/":
                await rude.serve(cloud)
            else:
                say({"steady connection": next(steadies)})
                await steady(cloud, rude)
            await socket.wait_closed()
            if path.startswith("/ask/"):
                say({"path": path, "closed": socket.close_code})
        except ConnectionClosed:
            pass
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async with serve(handle, "127.0.0.1", 0, process_request=refuse, ping_interval=None, max_size=None) as server:
        say(server.sockets[0].getsockname()[1])
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main())
