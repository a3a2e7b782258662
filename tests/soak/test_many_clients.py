"""Sixteen clients at random over one stdio server and one HTTP server behind one gateway.

Every message reaches its own client, in order; the servers see the cancellations that were made and no other; nothing
is left behind. Once with real sockets and processes for ``SOAK_SECONDS`` (5), and once without wires in virtual time,
where Hypothesis chooses the seeds and the scheduling; the second server is a pipe then too, all of whose links are
exclusive.
"""

from __future__ import annotations

import json
import math
import os
import random
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

import httpx2
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Event
from mcpgateway.app import serve
from mcpgateway.calls.namespace import Namespace
from mcpgateway.calls.relay import answer
from mcpgateway.config.loading import from_value
from mcpgateway.config.model import Config, InProcessServer, Isolation, Links
from mcpgateway.errors import CallCancelled
from mcpgateway.gateway import Gateway
from mcpgateway.jsonrpc import Message
from mcpgateway.sessions.store import Session
from mcpgateway.testing.http import serve_fixture
from mcpgateway.testing.memory import MemoryAdapter, MemoryLink
from mcpgateway.wire.sse import Parser
from mcpgateway.wire.waiting import Wait
from tests.calls.doubles import gateway_of, legacy, space
from tests.soak.players import PLAYERS, OnEvent, Player, Tally, capabilities, place
from tests.soak.server import SoakServer

ROOT: Final = Path(__file__).resolve().parent.parent.parent
SECONDS: Final = float(os.environ.get("SOAK_SECONDS", "5"))
CALLS: Final = 160
"""Calls of all players together in virtual time."""
CHILDREN: Final = 4
"""``links.max`` of the stdio server."""
OWN: Final = 3
"""Links of the gateway's own to a server that has one for each session: modern, and for each set of capabilities."""
SETTLING: Final = 60.0
"""Seconds until a gateway without clients must have nothing left of them."""
INITIALIZE: Final = {"protocolVersion": "2025-11-25", "clientInfo": {"name": "player", "version": "1"}}


def check_nothing_left(gateway: Gateway) -> None:
    now = gateway.statistics()
    assert (now.sessions, now.waits) == (0, 0)
    for server in now.servers:
        assert server.waiting == 0
        assert [link.in_flight for link in server.links] == [0] * len(server.links)
        assert len(server.links) <= (gateway.servers[server.name].config.links.max or OWN)
    leased = [slot for server in gateway.servers.values() for slot in server._links.slots if slot.calls or slot.alone]
    assert leased == []  # a lease has no statistics of its own


async def until_settled(gateway: Gateway) -> None:
    """Wait until nothing is left, or it is clear that something is."""
    with trio.move_on_after(SETTLING):
        while True:
            try:
                check_nothing_left(gateway)
            except AssertionError:
                await trio.testing.wait_all_tasks_blocked(0.01)
            else:
                return
    check_nothing_left(gateway)


# ---- in virtual time -------------------------------------------------------------------------------------------------


class Laggard(MemoryLink):
    """What its server sends takes its time, and stays in order."""

    _random = Random(0)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._sending, self._arriving = trio.open_memory_channel[Message](math.inf)

    def send(self, message: Message) -> None:
        self._sending.send_nowait(message)

    async def live(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._carry)
            await super().live()
            nursery.cancel_scope.cancel(reason="the link is closed")

    async def _carry(self) -> None:
        async for message in self._arriving:
            await trio.sleep(self._random.random() * 0.01)
            super().send(message)


class Direct:
    """A session without a wire."""

    def __init__(self, namespace: Namespace, session: Session) -> None:
        self._namespace = namespace
        self._session = session

    async def call(
        self, id: int, tool: str, arguments: Mapping[str, object], on_event: OnEvent
    ) -> dict[str, Any] | None:
        own, wait = b"%d" % id, Wait()
        self._session.begin(own, wait)
        try:
            reply = await self._namespace.serve(
                self._session.caller,
                jsonrpc.request(own, "tools/call", params_of(id, tool, arguments)),
                wait,
                _Back(on_event),
            )
        except CallCancelled:
            return None
        finally:
            self._session.end(own, wait)
        return decoded(reply.message.encode_as(own))

    async def send(self, message: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        if "method" in message:
            assert self._session.cancel(b"%d" % message["params"]["requestId"], "as the client asks")
        else:
            assert await answer(self._session.caller, jsonrpc.decode(json.dumps(message).encode()))


class _Back:
    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event

    async def send(self, event: Event) -> None:
        if event.message is not None:
            await self._on_event(decoded(event.message.encode()))


async def virtually(seed: int) -> None:
    tally, seen, dice = Tally(), list[str](), Random(seed)
    adapters = [MemoryAdapter(name, partial(SoakServer, report=seen.append)) for name in ("child", "web")]
    for adapter in adapters:
        adapter.link_class = type("SeededLaggard", (Laggard,), {"_random": dice})
    links = Links(max=CHILDREN, acquire_timeout=60.0)
    configs = {
        "child": InProcessServer("child", module="m:s", links=links),
        "web": InProcessServer("web", module="m:s", links=links, isolation=Isolation.EXCLUSIVE),
    }
    budget = iter(range(CALLS))
    async with gateway_of(*adapters, configs=configs, config=Config()) as gateway:
        async with trio.open_nursery() as players:
            for number in range(PLAYERS):
                name, prefixes = place(number)
                namespace = space(gateway, name)
                caller = legacy(json.dumps(capabilities(number)).encode())
                channel = Direct(namespace, gateway.sessions.open(f"session {number}", name, caller))
                player = Player(
                    f"p{number}", channel, Random(dice.random()), tally, askable=caller.askable, prefixes=prefixes
                )
                players.start_soon(player.play, lambda: next(budget, None) is not None)
        gateway.sessions.close_all()
        await until_settled(gateway)
    tally.check(seen)


@pytest.mark.requirement("3.shows.sixteen")
@settings(max_examples=20)
@given(st.integers(0, 2**32))
def test_in_virtual_time_every_message_reaches_its_own_client(seed: int) -> None:
    trio.run(virtually, seed, clock=trio.testing.MockClock(autojump_threshold=0))


# ---- for real --------------------------------------------------------------------------------------------------------


class OverHttp:
    """A session over Streamable HTTP, with a connection for each call."""

    def __init__(self, http: httpx2.AsyncClient, url: str, fields: dict[str, str]) -> None:
        self._http = http
        self._url = url
        self._fields = fields

    @classmethod
    async def open(cls, http: httpx2.AsyncClient, url: str, declared: Mapping[str, object]) -> OverHttp:
        channel = cls(http, url, {"Accept": "application/json, text/event-stream"})
        message = {
            "jsonrpc": "2.0",
            "id": 0,
            "method": "initialize",
            "params": {**INITIALIZE, "capabilities": declared},
        }
        answered = await http.post(url, json=message, headers=channel._fields)
        assert answered.status_code == 200, answered.text
        channel._fields |= {"Mcp-Session-Id": answered.headers["mcp-session-id"], "MCP-Protocol-Version": "2025-11-25"}
        await channel.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return channel

    async def call(
        self, id: int, tool: str, arguments: Mapping[str, object], on_event: OnEvent
    ) -> dict[str, Any] | None:
        params = params_of(id, tool, arguments)
        message = {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}
        reply: dict[str, Any] | None = None
        async with self._http.stream("POST", self._url, json=message, headers=self._fields) as response:
            assert response.status_code == 200
            if response.headers["content-type"] == "application/json":
                return decoded(await response.aread())
            parser = Parser()
            async for data in response.aiter_raw():
                for frame in parser.feed(data):
                    if frame.data:
                        assert reply is None, "a reply is the last event"
                        event = decoded(frame.data)
                        if "method" in event:
                            await on_event(event)
                        else:
                            reply = event
        return reply

    async def send(self, message: dict[str, Any]) -> None:
        answered = await self._http.post(self._url, json=message, headers=self._fields)
        assert answered.status_code == 202, answered.text

    async def close(self) -> None:
        assert (await self._http.delete(self._url, headers=self._fields)).status_code == 200


@asynccontextmanager
async def real_gateway(log: Path, web: str) -> AsyncIterator[tuple[Gateway, str]]:
    """A gateway over a child process and a server at ``web``; its URL."""
    servers = {
        "child": {
            "command": sys.executable,
            "args": ["-m", "tests.soak.server", str(log)],
            "env": {"PYTHONPATH": str(ROOT)},
            "links": {"max": CHILDREN, "acquire_timeout": "60s"},
        },
        "web": {"url": web},
    }
    value = {"listen": {"port": 0}, "state_dir": str(log.parent), "servers": servers}
    gateway = Gateway(from_value(value, env={}).config)
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        url = await nursery.start(partial(serve, gateway, stop=stop))
        await gateway.ready()
        yield gateway, url
        stop.set()


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.requirement("3.shows.sixteen")
async def test_for_real_every_message_reaches_its_own_client(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice, tally, log, seen = Random(seed), Tally(), tmp_path / "cancelled", list[str]()
    pids: set[int] = set()
    with trio.fail_after(SECONDS + 120):
        async with serve_fixture(partial(SoakServer, report=seen.append)) as web, real_gateway(log, web.url) as served:
            gateway, url = served
            async with httpx2.AsyncClient(timeout=60.0, limits=httpx2.Limits(max_connections=None)) as http:
                await play(http, url, dice, tally)
            pids = {link.pid for server in gateway.statistics().servers for link in server.links if link.pid}
            await until_settled(gateway)
    tally.check([*seen, *log.read_text().split()])
    assert pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    print(dict(tally.counts))


async def play(http: httpx2.AsyncClient, url: str, dice: Random, tally: Tally) -> None:
    """Have all players play for `SECONDS`, and close their sessions."""
    until = trio.current_time() + SECONDS

    async def one(number: int) -> None:
        name, prefixes = place(number)
        declared = capabilities(number)
        channel = await OverHttp.open(http, f"{url}/mcp/{name}".rstrip("/"), declared)
        player = Player(
            f"p{number}", channel, Random(dice.random()), tally, askable=bool(declared), prefixes=prefixes, leaves=True
        )
        await player.play(lambda: trio.current_time() < until)
        await channel.close()

    async with trio.open_nursery() as players:
        for number in range(PLAYERS):
            players.start_soon(one, number)


def params_of(id: int, tool: str, arguments: Mapping[str, object]) -> dict[str, Any]:
    return {"name": tool, "arguments": arguments, "_meta": {"progressToken": id}}


def decoded(data: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(data)
    return value
