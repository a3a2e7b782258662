"""Calls of a cloud to which two things happen at one tick, and calls that ask a cloud something."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import chain, combinations
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from mcpgateway import jsonrpc
from mcpgateway.config.model import Reconnect
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.fixture_server import FixtureServer
from tests.fronts.cloud import Bridge, Socket, bridge, cloud
from tests.fronts.site import adapters, call, modern, notification, request
from tests.fronts.test_upstream import until

DEADLINE = 2.0
SOON = Reconnect(initial=0.1, maximum=0.1)
ROUNDS = 3
"""Tasks of one tick run in any order, so each is tried a few times."""
CALLS = range(1, 4)
ANSWER = {"action": "accept", "content": {"name": "Ada"}}
MODERN = "2026-07-28"
ERAS = pytest.mark.parametrize("era", Era)
REVISION = pytest.mark.parametrize("revision", ["2025-03-26", "2025-06-18", "2025-11-25", MODERN])


def hosts(near: Bridge) -> list[FixtureServer]:
    """The servers that live."""
    links = [link for link in near.adapters["one"].links if not link.closed.is_set()]
    return [link.host for link in links if isinstance(link.host, FixtureServer)]


def held(near: Bridge) -> int:
    """Calls that servers think are in flight."""
    return sum(len(host.slow) for host in hosts(near))


# ---- what may happen at the tick of the deadline ---------------------------------------------------------------------


async def reply(near: Bridge, socket: Socket) -> None:
    for link in near.adapters["one"].links:
        if isinstance(link.host, FixtureServer) and link.host.slow:
            for message in link.host.handle(jsonrpc.request(b"9", "tools/call", {"name": "release"}))[:-1]:
                link.send(message)


async def cancel(near: Bridge, socket: Socket) -> None:
    for id in CALLS:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await socket.send(notification("notifications/cancelled", {"requestId": id}))


async def drop(near: Bridge, socket: Socket) -> None:
    await socket.cut()


async def reload(near: Bridge, socket: Socket) -> None:
    """The same upstream, but for a number that says nothing."""
    (config,) = near.gateway.config.upstreams
    near.reload(upstreams=(attrs.evolve(config, message_bytes=config.message_bytes + 1),))


async def die(near: Bridge, socket: Socket) -> None:
    for link in near.adapters["one"].links:
        if not link.closed.is_set():
            link.crash("it died")


ACTS: dict[str, Callable[[Bridge, Socket], Awaitable[None]]] = {
    "reply": reply,
    "cancel": cancel,
    "drop": drop,
    "reload": reload,
    "die": die,
}
TOGETHER = [*chain.from_iterable(combinations(ACTS, n) for n in (0, 1, 2)), tuple(ACTS)]


@pytest.mark.requirement("6.impatient", "6.drop")
@ERAS
@pytest.mark.parametrize("acts", TOGETHER, ids="+".join)
async def test_whatever_happens_at_one_tick_a_call_is_answered_at_most_once(
    acts: tuple[str, ...], era: Era, autojump_clock: MockClock
) -> None:
    made = adapters("one", eras=frozenset({era}))
    terms: dict[str, Any] = {"call_deadline": DEADLINE, "reconnect": SOON}
    async with cloud() as far, bridge(far.upstream(**terms), adapters=made, shutdown_timeout=1.0) as near:
        for _ in range(ROUNDS):
            socket = await far.next()
            await socket.initialize()
            began = trio.current_time()
            for id in CALLS:
                await socket.send(call(id, "slow", {"name": str(id)}))
            await until(lambda: held(near) == len(CALLS))

            async def at_the_tick(act: str, socket: Socket = socket, tick: float = began + DEADLINE) -> None:
                await trio.sleep_until(tick)
                await ACTS[act](near, socket)

            async with trio.open_nursery() as nursery:
                for act in acts:
                    nursery.start_soon(at_the_tick, act)
            answers = await answered(socket)
            assert max(answers.values(), default=0) <= 1
            if not {"cancel", "drop"} & {*acts}:
                assert {*answers} >= {*CALLS}
            await socket.cut()
            await until(lambda: near.upstream().in_flight == 0)
            await trio.testing.wait_all_tasks_blocked()
            assert held(near) == 0


async def answered(socket: Socket) -> Counter[object]:
    """How often each call is answered until the connection ends, or for a while."""
    found = Counter[object]()
    with trio.move_on_after(3 * DEADLINE):
        try:
            while True:
                message = await socket.receive()
                if "method" not in message:
                    found[message["id"]] += 1
        except (AssertionError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # a goodbye, or the end
    return found


# ---- questions -------------------------------------------------------------------------------------------------------


def asking(id: object, revision: str, **retry: object) -> dict[str, Any]:
    """A call of a tool that asks its client something."""
    message = call(id, "ask", None, **retry)
    if revision != MODERN:
        return message
    stamped, _ = modern(message)
    stamped["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = {"elicitation": {}}
    return stamped


async def introduced(socket: Socket, revision: str) -> None:
    if revision != MODERN:
        params = {"protocolVersion": revision, "capabilities": {"elicitation": {}}, "clientInfo": {"name": "c"}}
        await socket.ask(request("init", "initialize", params))
        await socket.send(notification("notifications/initialized"))


async def until_asked(socket: Socket, id: object, revision: str) -> dict[str, Any]:
    """What to send so that the question of a call is answered."""
    if revision == MODERN:
        result = (await socket.answer(id))["result"]
        assert result["resultType"] == "input_required"
        (name,) = result["inputRequests"]
        return asking("again", revision, requestState=result["requestState"], inputResponses={name: ANSWER})
    question = await socket.receive()
    assert question["method"] == "elicitation/create"
    return {"jsonrpc": "2.0", "id": question["id"], "result": ANSWER}


@pytest.mark.requirement("6.upstreams", "6.impatient")
@ERAS
@REVISION
@pytest.mark.parametrize("late", [-0.5, 0.0, 0.5])
async def test_a_cloud_that_is_asked_something_answers_in_time_or_not(
    late: float, revision: str, era: Era, autojump_clock: MockClock
) -> None:
    """The deadline counts while a question is open; of a modern cloud a question is the end of the call."""
    made = adapters("one", eras=frozenset({era}))
    async with cloud() as far, bridge(far.upstream(call_deadline=DEADLINE), adapters=made) as near:
        socket = await far.next()
        await introduced(socket, revision)
        listing = request("list", "tools/list")
        await socket.ask(modern(listing)[0] if revision == MODERN else listing)
        began = trio.current_time()
        await socket.send(asking("first", revision))
        told = await until_asked(socket, "first", revision)
        await trio.sleep_until(began + DEADLINE + late)
        await socket.send(told)
        answer = await socket.answer("first" if revision != MODERN else "again")
        if revision == MODERN or late < 0:
            assert "Ada" in str(answer["result"]), answer
        elif late > 0:
            assert "call_deadline" in str(answer["result"])
        assert (await socket.ask(asking_nothing(revision)))["result"]
        assert near.upstream().in_flight == 0
        assert near.gateway.statistics().parking.running == 0
        # its link is closed with the call, and of another one nobody knows what it has not told
        assert {message["method"] for message in socket.told} <= {"notifications/tools/list_changed"}


def asking_nothing(revision: str) -> dict[str, Any]:
    message = call("echo", "echo", {"text": "x"})
    return modern(message)[0] if revision == MODERN else message


@pytest.mark.requirement("6.drop")
@ERAS
@REVISION
async def test_a_cloud_that_drops_while_it_is_asked_leaves_nothing_but_what_is_parked(
    revision: str, era: Era, autojump_clock: MockClock
) -> None:
    made = adapters("one", eras=frozenset({era}))
    async with cloud() as far, bridge(far.upstream(reconnect=SOON), adapters=made) as near:
        for _ in range(20):
            socket = await far.next()
            await introduced(socket, revision)
            await socket.send(asking("first", revision))
            told = await until_asked(socket, "first", revision)
            await socket.cut()
            await until(lambda: near.upstream().in_flight == 0)
        parking = near.gateway.statistics().parking
        assert bool(parking.parked) == ((revision, era) == (MODERN, Era.LEGACY))
        assert parking.running == parking.parked
        assert len(near.gateway.sessions) <= 1
        socket = await far.next()
        await introduced(socket, revision)
        await socket.send(told)  # on another connection: a parked call goes on, all else is an answer to nobody
        if revision == MODERN:
            assert "Ada" in str((await socket.answer("again"))["result"])
        assert (await socket.ask(asking_nothing(revision)))["result"]


@pytest.mark.requirement("6.impatient")
@ERAS
async def test_a_modern_cloud_that_can_be_asked_has_its_deadline_all_the_same(
    era: Era, autojump_clock: MockClock
) -> None:
    made = adapters("one", eras=frozenset({era}))
    async with cloud() as far, bridge(far.upstream(call_deadline=DEADLINE), adapters=made) as near:
        socket = await far.next()
        message, _ = modern(call(1, "slow", {"name": "x"}))
        message["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = {"elicitation": {}}
        began = trio.current_time()
        answer = await socket.ask(message)
        assert trio.current_time() - began == pytest.approx(DEADLINE, abs=0.001)
        assert "call_deadline" in str(answer["result"])
        await trio.testing.wait_all_tasks_blocked()
        assert (held(near), near.gateway.statistics().parking.running) == (0, 0)
