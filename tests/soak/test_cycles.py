"""Clients that come and go leave nothing behind: no session, stream, call, task, descriptor, link or child."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import trio
import trio.lowlevel
import trio.testing
from trio.testing import MockClock, wait_all_tasks_blocked

from mcpgateway.app import serve
from mcpgateway.config.limits import Limits
from mcpgateway.config.model import Config, HttpServer, InProcessServer, Isolation, Links, Listen
from mcpgateway.fronts.flights import Flight
from mcpgateway.gateway import Gateway
from mcpgateway.protocol.revisions import Era
from mcpgateway.sessions.store import Session
from mcpgateway.testing.fixture_server import FixtureServer
from mcpgateway.testing.http import serve_fixture
from mcpgateway.testing.memory import MemoryAdapter
from mcpgateway.wire.http1.connection import Connection
from mcpgateway.wire.http1.exchange import Exchange
from tests.fronts.site import Client, call
from tests.processes import children_of, descriptors, resident_mb
from tests.real.gateways import GatewayProcess, configured, environment
from tests.real.pace import slowness
from tests.soak.cycles import SSE, Place, run

WARM_UP: Final = 40
FEW: Final = 150
MANY: Final = 1000
IDLE: Final = 600.0
"""Seconds for which a session is kept, in virtual time."""
APART: Final = 20.0
"""Seconds between two clients, in virtual time."""
NAMED: Final = 2
"""Objects of a class that sleeping frames may still name, however many clients there were."""
SETTLING: Final = 60.0
"""Seconds until a real gateway without clients must have nothing left of them."""
OVER: Final = 20.0
"""Seconds after which a call that nobody has seen is over: its deadline may be, before anybody has looked."""
GROWTH_MB: Final = 1.0
THOUSANDS: Final = 3
"""Of so many thousand clients, one has to leave no more than that: a leak would show each time."""
CHILDREN: Final = 3
"""Of a gateway at rest: the guard, and one of each of two servers."""
POOLED: Final = 20
"""Connections that a gateway at rest may have more or less to a server over HTTP: it keeps those of the busiest moment
for a while. A descriptor that is left by each client would be many hundreds."""


# ---- in virtual time -------------------------------------------------------------------------------------------------


@attrs.frozen
class Left:
    """All that clients could leave behind in this process."""

    tasks: int
    descriptors: int
    sessions: int
    waits: int
    held: dict[str, int]
    links: dict[str, int]


def left(gateway: Gateway) -> Left:
    now = gateway.statistics()
    return Left(
        trio.lowlevel.current_statistics().tasks_living,
        len(os.listdir("/proc/self/fd")),
        now.sessions,
        now.waits,
        {rule: bound.held for rule, bound in now.clients.items()},
        {server.name: len(server.links) for server in now.servers},
    )


def clients_objects(gateway: Gateway) -> Counter[str]:
    """What is in memory of clients, by class."""
    gc.collect()
    return Counter(type(each).__name__ for each in gc.get_objects() if is_clients(each, gateway))


def is_clients(each: object, gateway: Gateway) -> bool:
    """Whether it is of a client of the gateway; the server over HTTP has connections of its own in this process."""
    connection = each._connection if isinstance(each, Exchange) else each
    if isinstance(connection, Connection):
        return connection._server.bounds is gateway.bounds
    return isinstance(each, Session | Flight)


@asynccontextmanager
async def gateway_in_process(shared: MemoryAdapter | None = None) -> AsyncIterator[tuple[Gateway, int]]:
    """A gateway over a shared server, one that has a link for each session, and one over HTTP; and its port."""
    async with serve_fixture(eras=frozenset({Era.LEGACY})) as web:
        config = Config(
            listen=Listen(port=0, limits=Limits(session_idle_timeout=IDLE)),
            servers={
                "shared": InProcessServer("shared", module="object:given", links=Links(min=1, max=4)),
                "own": InProcessServer(
                    "own", module="object:given", isolation=Isolation.SESSION, links=Links(min=1, max=10_000)
                ),
                "web": HttpServer("web", url=web.url),
            },
        )
        legacy = frozenset({Era.LEGACY})
        own = MemoryAdapter("own", eras=legacy)
        gateway = Gateway(config, {"shared": shared or MemoryAdapter("shared"), "own": own})
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            url = await nursery.start(partial(serve, gateway, stop=stop))
            await gateway.ready()
            yield gateway, int(url.rpartition(":")[2])
            stop.set()


PLACES: Final = [
    Place("/mcp/shared"),
    Place("/mcp/own", legacy_only=True),
    Place("/mcp/web", legacy_only=True),
    Place("/mcp", "shared_"),
]


async def pass_time(clock: MockClock, seconds: float, times: int) -> None:
    for _ in range(times):
        await wait_all_tasks_blocked()
        clock.jump(seconds)
    await wait_all_tasks_blocked()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are counted in /proc")
@pytest.mark.requirement("4.shows.leaks", "feature.149")
@pytest.mark.parametrize("cycles", [FEW, pytest.param(MANY, marks=pytest.mark.real)])
async def test_in_virtual_time_clients_leave_nothing_behind(cycles: int, mock_clock: MockClock) -> None:
    shared = MemoryAdapter("shared")
    async with gateway_in_process(shared) as (gateway, port):

        async def dial() -> Client:
            await pass_time(mock_clock, APART, 1)
            return Client(await trio.open_tcp_stream("127.0.0.1", port), f"127.0.0.1:{port}")

        async def reached(rule: str) -> None:
            while not gateway.statistics().clients[rule].held:
                await wait_all_tasks_blocked(0.001)
            await wait_all_tasks_blocked()

        went = await run(PLACES, WARM_UP, dial, reached)
        await pass_time(mock_clock, IDLE / 4, 30)
        before = left(gateway)
        went += await run(PLACES, cycles, dial, reached)
        assert len(gateway.sessions) > 5
        await pass_time(mock_clock, IDLE / 4, 30)
        after = left(gateway)

        assert after == before
        assert (after.sessions, after.waits, set(after.held.values())) == (0, 0, {0})
        hosts = [link.host for link in shared.links if isinstance(link.host, FixtureServer)]
        cancelled = Counter(name for host in hosts for name in host.cancelled)
        assert cancelled["modern"] == went["drops_its_modern_call"]
        assert cancelled["dropped"] > 0  # at the deadline of the call, for a legacy one runs on
        assert max(clients_objects(gateway).values(), default=0) <= NAMED


@pytest.mark.requirement("feature.118", "feature.149", "4.clients.bounds")
async def test_idle_sessions_end_with_their_links_and_busy_ones_do_not(mock_clock: MockClock) -> None:
    """A session is looked at every eighth of its idle time; the server keeps its ``links.min``."""
    async with gateway_in_process() as (gateway, port):

        async def dial() -> Client:
            return Client(await trio.open_tcp_stream("127.0.0.1", port), f"127.0.0.1:{port}")

        def links() -> int:
            return sum(bool(slot.key.owner) for slot in gateway.servers["own"]._links.slots)

        async with await dial() as client, await dial() as listener:
            sessions = [await client.initialize("/mcp/own") for _ in range(5)]
            await listener.start("GET", "/mcp/own", headers={**SSE, **sessions[0].headers})
            await wait_all_tasks_blocked()
            assert (len(gateway.sessions), links()) == (5, 5)
            await pass_time(mock_clock, IDLE / 2, 1)
            async with await dial() as again:  # the first connection has been idle for too long
                assert (await sessions[1].post(again, call(1, "echo"))).status == 200
            await pass_time(mock_clock, IDLE / 2 - 1, 1)
            assert (len(gateway.sessions), links()) == (5, 5)
            await pass_time(mock_clock, IDLE / 8 + 2, 1)
            assert {session.id for session in gateway.sessions} == {sessions[0].id, sessions[1].id}
            assert links() == 2
            await pass_time(mock_clock, IDLE, 1)
            assert [session.id for session in gateway.sessions] == [sessions[0].id]
        await pass_time(mock_clock, IDLE / 4, 10)

        assert (len(gateway.sessions), links()) == (0, 0)
        assert left(gateway).links == {"shared": 1, "own": 1, "web": 1}


# ---- for real --------------------------------------------------------------------------------------------------------


@contextmanager
def real_gateway(folder: Path) -> Iterator[GatewayProcess]:
    """A gateway over a shared child, one child per session, and a server over HTTP; sessions and links go quickly."""
    timeout = f"{slowness():.1f}s"
    child = {"command": sys.executable, "args": ["-m", "mcpgateway.testing.fixture_server"], "timeout": timeout}
    links = {"min": 1, "max": 64, "idle_timeout": "1s"}
    web = subprocess.Popen(
        [sys.executable, "-m", "tests.soak.web"], stdout=subprocess.PIPE, text=True, env=environment()
    )
    assert web.stdout is not None
    try:
        config = {
            "listen": {"limits": {"session_idle_timeout": "2s"}},
            "servers": {
                "shared": {**child, "links": {**links, "max": 16}},
                "own": {**child, "args": [*child["args"], "--era", "legacy"], "isolation": "session", "links": links},
                "web": {"url": web.stdout.readline().strip(), "timeout": timeout, "links": {"idle_timeout": "1s"}},
            },
            "startup_wait": "60s",
        }
        with configured(folder, config) as running:
            yield running
    finally:
        web.kill()
        web.wait()
        web.stdout.close()


@attrs.frozen
class Process:
    """All that clients could leave behind in a process."""

    children: int
    descriptors: int
    held: dict[str, int]
    links: dict[str, int]

    @classmethod
    def of(cls, pid: int, health: dict[str, Any]) -> Process:
        held = {rule: bound["held"] for rule, bound in health["clients"].items()}
        links = {name: server["links"] for name, server in health["servers"].items()}
        return cls(len(children_of(pid)), descriptors(pid), held, links)

    def is_at_rest(self) -> bool:
        held = {rule: count for rule, count in self.held.items() if count}
        return held == {"connections": 1} and set(self.links.values()) == {1} and self.children == CHILDREN


REAL_PLACES: Final = [
    *[Place("/mcp/shared"), Place("/mcp/web", legacy_only=True), Place("/mcp", "shared_")] * 3,
    Place("/mcp/own", legacy_only=True),
]
"""A child for each session takes its time, so there are fewer of these."""


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are counted in /proc")
@pytest.mark.requirement("4.shows.leaks")
async def test_for_real_a_thousand_clients_leave_nothing_behind(tmp_path: Path) -> None:
    """Compared are the process before and after `MANY` clients, each time at rest, after twice as many to warm it up:
    then the arenas of its memory are as large as its busiest moment needs."""
    with real_gateway(tmp_path) as running:
        pid, port = running.process.pid, int(running.url.rpartition(":")[2])

        async def dial() -> Client:
            return Client(await trio.open_tcp_stream("127.0.0.1", port), f"127.0.0.1:{port}")

        async def health() -> dict[str, Any]:
            async with await dial() as client:
                shown: dict[str, Any] = (await client.ask("GET", "/health")).json
                return shown

        async def reached(rule: str) -> None:
            with trio.move_on_after(OVER):
                while not (await health())["clients"][rule]["held"]:
                    await trio.lowlevel.checkpoint()

        async def rest() -> Process:
            """What there is once there is nothing more of any client, but for the one that asks."""
            with trio.move_on_after(SETTLING):
                while True:
                    now = Process.of(pid, await health())
                    if now.is_at_rest():
                        break
                    await trio.sleep(0.1)
            return now

        await run(REAL_PLACES, 2 * MANY, dial, reached)
        before, memory = await rest(), [resident_mb(pid)]
        assert before.is_at_rest(), before
        for _ in range(THOUSANDS):
            await run(REAL_PLACES, MANY, dial, reached)
            after = await rest()
            assert after.is_at_rest(), after
            memory.append(resident_mb(pid))
            if memory[-1] - memory[-2] < GROWTH_MB:
                break

        assert abs(after.descriptors - before.descriptors) <= POOLED
        assert memory[-1] - memory[-2] < GROWTH_MB, f"{memory} MB after {MANY} clients each"
        print(f"{after}; {memory} MB")
