"""How long a server may take for each phase of a response, by peers that stop in one."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import NoBack, Outcome, Request
from mcpgateway.errors import ServerTimeout
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.client import Client, open_client
from mcpgateway.wire.waiting import LONGEST, QUANTUM, Sweeper, Wait
from tests.adapters.http_peer import HALF, OK, Peer, Reach, Recorder, a_request, call, result

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENT = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{}}\n\n'
LATE = LONGEST + QUANTUM
"""Seconds after its deadline within which a wait has ended."""


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@asynccontextmanager
async def under_way(client: Client, wait: Wait, request: Request | None = None) -> AsyncIterator[list[Exception]]:
    """A call beside the test; gives what it fails with."""
    sweeper = Sweeper()
    problems: list[Exception] = []

    async def run() -> None:
        sweeper.add(wait)
        try:
            await client.link.call(request or a_request(client.link, wait), NoBack())
        except ServerTimeout as problem:
            problems.append(problem)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sweeper.run)
        nursery.start_soon(run)
        yield problems
        nursery.cancel_scope.cancel(reason="the test is over")


async def passes(seconds: float, clock: MockClock) -> None:
    """Let time pass, and everybody act on it."""
    await wait_all_tasks_blocked(0.005)
    clock.jump(seconds)
    await wait_all_tasks_blocked(0.005)


PHASES: dict[str, tuple[dict[str, float], tuple[bytes, ...], float, str]] = {
    "no head": (
        {"first_byte_timeout": 5.0},
        (),
        5.0,
        "server 's': sent no first byte of its response within 5 s (first_byte_timeout)",
    ),
    "half a head": (
        {"first_byte_timeout": 5.0},
        (HALF[:30],),
        5.0,
        "server 's': sent no first byte of its response within 5 s (first_byte_timeout)",
    ),
    "half a body": ({}, (HALF,), 30.0, "server 's': stalled within its response for 30 s (stall_timeout)"),
    "half a body, in haste": (
        {"stall_timeout": 2.0, "first_byte_timeout": 50.0},
        (HALF,),
        2.0,
        "server 's': stalled within its response for 2 s (stall_timeout)",
    ),
    "between events": (
        {"stall_timeout": 120.0},
        (STREAM, chunk(EVENT)),
        120.0,
        "server 's': stalled within its response for 120 s (stall_timeout)",
    ),
    "within an event": (
        {"stall_timeout": 120.0},
        (STREAM, chunk(EVENT + EVENT[:10])),
        120.0,
        "server 's': stalled within its response for 120 s (stall_timeout)",
    ),
}


@pytest.mark.requirement("4.http.pool")
@pytest.mark.parametrize("phase", PHASES)
async def test_a_phase_that_takes_too_long_ends_the_call_and_names_its_key(
    phase: str, peer: Peer, reach: Reach, mock_clock: MockClock
) -> None:
    options, said, limit, told = PHASES[phase]
    adapter = reach(**options)
    async with open_client(adapter, Era.LEGACY) as client:
        peer.answers["tools/call"] = peer.hang(*said)
        async with under_way(client, Wait()) as problems:
            await peer.until_asked("tools/call")
            await passes(limit - 0.5, mock_clock)
            assert problems == []
            await passes(0.5 + LATE, mock_clock)

            assert [str(problem) for problem in problems] == [told]
            await peer.gone.wait()
            await peer.until_asked("notifications/cancelled")
            assert client.link.statistics().in_flight == 0
    assert adapter.client.open_connections == 0


SILENT = {
    "a head that is long in coming": ({}, ()),
    "an event stream": ({}, (STREAM, chunk(EVENT))),
    "a body that goes on in time": ({"stall_timeout": 120.0}, (HALF,)),
}


@pytest.mark.requirement("4.http.pool")
@pytest.mark.parametrize("case", SILENT)
async def test_otherwise_only_the_call_has_a_deadline(
    case: str, peer: Peer, reach: Reach, mock_clock: MockClock
) -> None:
    options, said = SILENT[case]
    async with open_client(reach(**options), Era.LEGACY) as client:
        peer.answers["tools/call"] = peer.hang(*said)
        late = ServerTimeout("s", "did not answer")
        wait = Wait(trio.current_time() + 100, lambda: late)
        async with under_way(client, wait) as problems:
            await peer.until_asked("tools/call")
            await passes(99, mock_clock)
            assert problems == []
            await passes(1 + LATE, mock_clock)
            assert problems == [late]


async def test_every_piece_begins_the_silence_anew(peer: Peer, reach: Reach, mock_clock: MockClock) -> None:
    more = trio.Event()

    async def slowly(asked: Any, stream: trio.SocketStream) -> None:
        for data in (STREAM, chunk(EVENT), chunk(EVENT)):
            await stream.send_all(data)
            await more.wait()

    async with open_client(reach(stall_timeout=10.0), Era.LEGACY) as client:
        peer.answers["tools/call"] = slowly
        async with under_way(client, Wait()) as problems:
            await peer.until_asked("tools/call")
            for _ in range(3):
                await passes(8, mock_clock)
                assert problems == []
                last, more = more, trio.Event()
                last.set()
            await passes(8, mock_clock)
            await passes(2 + LATE, mock_clock)
            assert len(problems) == 1


async def test_a_subscription_may_be_silent(peer: Peer, reach: Reach, mock_clock: MockClock) -> None:
    async with open_client(reach(first_byte_timeout=1.0, stall_timeout=1.0), Era.MODERN) as client:
        params = client.stamped({"notifications": {"toolsListChanged": True}})
        for said in ((), (STREAM,)):
            peer.answers["subscriptions/listen"] = peer.hang(*said)
            wait = Wait()
            message = jsonrpc.request(b"1", "subscriptions/listen", params)
            request = Request(message, wait, {b"mcp-method": b"subscriptions/listen"})
            async with under_way(client, wait, request) as problems:
                await peer.until_asked("subscriptions/listen", 1 + bool(said))
                await passes(300, mock_clock)
                assert problems == []


async def test_a_reply_that_comes_whole_leaves_no_deadline(peer: Peer, reach: Reach) -> None:
    async with open_client(reach(first_byte_timeout=60.0, stall_timeout=60.0), Era.LEGACY) as client:
        wait = Wait()
        await client.link.call(a_request(client.link, wait), Recorder())
        assert (wait.phase, wait.deadline) == (None, math.inf)


BEGUN = {
    "no head": ((), "sent no first byte of its response within 5 s (first_byte_timeout)"),
    "half a body": ((HALF,), "stalled within its response for 2 s (stall_timeout)"),
}


@pytest.mark.requirement("4.http.pool")
@pytest.mark.parametrize("client", ["Pool"])
@pytest.mark.parametrize("case", BEGUN)
async def test_a_call_that_was_begun_has_the_same_deadlines(
    case: str, peer: Peer, reach: Reach, mock_clock: MockClock
) -> None:
    said, told = BEGUN[case]
    async with open_client(reach(first_byte_timeout=5.0, stall_timeout=2.0), Era.LEGACY) as client:
        await call(client.link)
        peer.answers["tools/call"] = peer.hang(*said)
        wait, outcomes, sweeper = Wait(), list[Outcome](), Sweeper()
        sweeper.add(wait)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sweeper.run)
            assert client.link.begin(a_request(client.link, wait), outcomes.append)  # type: ignore[attr-defined]  # `Begins`
            await peer.until_asked("tools/call", 2)
            await passes(1, mock_clock)
            assert outcomes == []
            await passes(5 + LATE, mock_clock)

            assert [str(outcome) for outcome in outcomes] == [f"server 's': {told}"]
            assert wait.phase is None
            peer.answers["tools/call"] = result(OK)
            nursery.cancel_scope.cancel(reason="the test is over")


@pytest.mark.parametrize("client", ["Pool"])
async def test_a_reply_to_a_call_that_was_begun_leaves_no_deadline(peer: Peer, reach: Reach) -> None:
    async with open_client(reach(first_byte_timeout=60.0), Era.LEGACY) as client:
        await call(client.link)
        wait, outcomes = Wait(), list[Outcome]()
        assert client.link.begin(a_request(client.link, wait), outcomes.append)  # type: ignore[attr-defined]  # `Begins`
        phases = [wait.phase]
        while not outcomes:
            await wait_all_tasks_blocked(0.01)
        phases.append(wait.phase)

        assert len(outcomes) == 1
        assert [phase is not None for phase in phases] == [True, False]
