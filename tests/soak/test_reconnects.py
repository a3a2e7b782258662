"""Clouds that drop and are dialled again leave nothing behind, however often and however they do it."""

from __future__ import annotations

import gc
import logging
import os
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import attrs
import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock
from wsproto.events import TextMessage

from mcpgateway.config.model import HttpServer, Reconnect
from mcpgateway.fronts.kept_sessions import MOST
from mcpgateway.protocol.revisions import LEGACY_REVISIONS, Era
from mcpgateway.testing.fixture_server import FixtureServer
from mcpgateway.testing.memory import MemoryAdapter
from tests.fronts.cloud import Bridge, Socket, bridge, cloud
from tests.fronts.site import call, modern, request
from tests.fronts.test_upstream import until

WARM_UP: Final = 18
FEW: Final = 6
MANY: Final = 1000
GROWTH: Final = 50_000
"""Bytes that Python may hold more after many reconnects: what keeps the last of anything varies."""
DEADLINES: Final = 1000 * 300
"""Bytes of scopes that are over: trio forgets a thousand of their deadlines at a time."""
SOON: Final = Reconnect(initial=0.1, maximum=0.1)


# ---- how they go -----------------------------------------------------------------------------------------------------


async def cuts(socket: Socket, number: int) -> None:
    await socket.cut()


async def says_goodbye(socket: Socket, number: int) -> None:
    await socket.close(1000)


async def cuts_in_a_call(socket: Socket, number: int) -> None:
    await socket.send(call("s", "slow", {"name": "x"}))
    await socket.ask(request("p", "ping"))
    await socket.cut()


async def cuts_in_a_message(socket: Socket, number: int) -> None:
    await socket.say(TextMessage(data='{"jsonrpc":', message_finished=False))
    await socket.cut()


async def cuts_in_a_modern_call(socket: Socket, number: int) -> None:
    await socket.send(modern(call("s", "slow", {"name": "x"}))[0])
    await socket.send(modern(request("l", "subscriptions/listen", {"notifications": {"toolsListChanged": True}}))[0])
    await socket.ask(request("p", "ping"))
    await socket.cut()


async def breaks_the_rules(socket: Socket, number: int) -> None:
    await socket.stream.send_all(b"\xf1\x01x")
    await socket.code()
    await socket.stream.aclose()


WAYS: Final[tuple[Callable[[Socket, int], Awaitable[None]], ...]] = (
    *(cuts, says_goodbye, cuts_in_a_call, cuts_in_a_message, cuts_in_a_modern_call, breaks_the_rules),
)


def forget(made: dict[str, MemoryAdapter]) -> None:
    """Have the doubles keep nothing of what is over, nor links what may come late for calls that were cancelled, of
    which they remember so many at most."""
    for adapter in made.values():
        adapter.links[:] = [link for link in adapter.links if not link.closed.is_set()]
        for link in adapter.links:
            assert isinstance(link.host, FixtureServer)
            for kept in (link.host.ids, link.host.heard, link.host.cancelled):
                kept.clear()
            link._correlator._cancelled.clear()


@attrs.frozen
class Left:
    """All that reconnects could leave behind."""

    tasks: int
    descriptors: int
    sessions: int
    waits: int
    links: int
    held: dict[str, int]


def left(near: Bridge) -> Left:
    now = near.gateway.statistics()
    return Left(
        trio.lowlevel.current_statistics().tasks_living,
        len(os.listdir("/proc/self/fd")),
        now.sessions,
        now.waits,
        sum(len(server.links) for server in now.servers),
        {rule: bound.held for rule, bound in now.clients.items()},
    )


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are counted in /proc")
@pytest.mark.requirement("6.drop", "6.upstreams")
@pytest.mark.parametrize("cycles", [FEW, pytest.param(MANY, marks=pytest.mark.real)])
async def test_reconnects_leave_nothing_behind(
    cycles: int, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Among servers is one with a session for each client, and clients shake hands in more words than are kept."""
    caplog.set_level(logging.CRITICAL, "mcpgateway")  # pytest keeps what is logged
    own = MemoryAdapter("own", eras={Era.LEGACY})
    servers = {"own": HttpServer("own", url="http://own.example/mcp")}
    made = {"own": own, "shared": MemoryAdapter("shared")}
    async with cloud() as first, cloud() as second:
        upstreams = (
            first.upstream("first", "own", reconnect=SOON),
            second.upstream("second", "shared", reconnect=SOON),
        )
        async with bridge(*upstreams, adapters=made, servers=servers) as near:

            async def cycle(number: int) -> None:
                for far in (first, second):
                    socket = await far.next()
                    name, revision = f"agent {number % (MOST + 3)}", LEGACY_REVISIONS[number % 3]
                    params = {"protocolVersion": revision, "capabilities": {}, "clientInfo": {"name": name}}
                    await socket.ask(request("i", "initialize", params))
                    assert "result" in await socket.ask(call(1, "echo", {"text": "x"}))
                    await WAYS[(number // (MOST + 3) + number) % len(WAYS)](socket, number)
                    far.sockets.clear()
                await until(lambda: not any(near.upstream(name).in_flight for name in ("first", "second")))
                forget(made)

            async def rest() -> tuple[Left, int]:
                """What there is, and what Python holds for it, when both are there and nothing is going on: links of
                sessions that have ended are closed by now, and so are connections."""
                sockets = [await first.next(), await second.next()]
                await trio.sleep(1)
                gc.collect()
                now = left(near), tracemalloc.get_traced_memory()[0]
                for socket in sockets:
                    await socket.cut()
                return now

            for number in range(WARM_UP):
                await cycle(number)
            before, _ = await rest()
            tracemalloc.start(1)
            try:
                for number in range(cycles):
                    await cycle(number)
                _, base = await rest()
                for number in range(cycles):
                    await cycle(number)
                after, held = await rest()
            finally:
                tracemalloc.stop()
            grown = held - base
            assert (after.sessions, after.held) == (before.sessions, before.held)
            assert max(after.tasks - before.tasks, after.descriptors - before.descriptors) <= 0
            assert max(after.waits - before.waits, after.links - before.links) <= 0  # idle ones may have ended
            assert after.sessions == 2 * MOST
            print(f"{after}; {grown} bytes more after {cycles} reconnects")
            assert grown < GROWTH + DEADLINES, f"{grown} bytes more after {cycles} reconnects of each"
            assert near.upstream("first").reconnects >= 2 * cycles
