"""Stories in which servers fail and clients misbehave, drawn by Hypothesis and told in virtual time.

A story is a list of operations, each with a seed for what it leaves to chance. A failure prints the smallest story that
Hypothesis found, and what happened in it. The unit part tells the same ones every time; ``CHAOS_EXAMPLES`` tells as
many, and others each time (``nox -s chaos``).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from random import Random
from typing import Final

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.chaos.clients import FRAGILE, SERVERS, Client
from tests.chaos.faults import FAULTS, Fault, Moment
from tests.chaos.operations import CLOUDY, OPERATIONS, Operation, call, fail, restart, wait
from tests.chaos.resumers import resume
from tests.chaos.world import IDLE, LONGEST, World, a_world, footprint

EXAMPLES: Final = int(os.environ.get("CHAOS_EXAMPLES", "50"))
CLOUDLESS: Final = 10
"""How many stories without clouds are told for one with them, or with clients that come back."""
LENGTH: Final = 25
"""Operations of the longest story."""


def stories(weights: Mapping[Operation, int]) -> st.SearchStrategy[list[tuple[Operation, int]]]:
    operations = st.sampled_from([operation for operation, weight in weights.items() for _ in range(weight)])
    return st.integers(3, LENGTH).flatmap(
        lambda length: st.lists(st.tuples(operations, st.integers(0, 2**16)), min_size=length, max_size=length)
    )


async def tell(story: list[tuple[Operation, int]]) -> None:
    told: list[str] = []
    try:
        async with a_world() as world:
            await world.settle()
            before = footprint(world)
            for operation, seed in story:
                told.append(f"{trio.current_time():8.2f}  {await operation(world, Random(seed))}")
                await world.settle()
            await world.finish(before)
    except BaseException as problem:
        problem.add_note("\n".join(["what happened:", *told]))
        raise


def settled(examples: int) -> settings:
    return settings(
        max_examples=examples,
        derandomize="CHAOS_EXAMPLES" not in os.environ,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


def run(story: list[tuple[Operation, int]]) -> None:
    logging.getLogger("mcpgateway").setLevel(logging.CRITICAL)  # a story is full of warnings, and a failure of stories
    try:
        trio.run(tell, story, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        logging.getLogger("mcpgateway").setLevel(logging.NOTSET)


@pytest.mark.requirement("4.chaos")
@settled(EXAMPLES)
@given(stories(OPERATIONS))
def test_whatever_happens_only_those_suffer_whom_it_concerns(story: list[tuple[Operation, int]]) -> None:
    run(story)


@pytest.mark.requirement("4.chaos", "6.bad", "6.drop", "6.reconnect")
@settled(EXAMPLES // CLOUDLESS)
@given(stories(CLOUDY))
def test_whatever_clouds_do_only_they_suffer(story: list[tuple[Operation, int]]) -> None:
    run(story)


@pytest.mark.requirement("4.chaos")
@settled(EXAMPLES // CLOUDLESS)
@given(stories({resume: 6, **{operation: OPERATIONS[operation] // 2 for operation in (call, fail, restart, wait)}}))
def test_whoever_comes_back_to_a_stream_gets_the_rest_of_it_once(story: list[tuple[Operation, int]]) -> None:
    run(story)


# ---- each fault by itself --------------------------------------------------------------------------------------------


@pytest.mark.requirement("4.chaos")
@pytest.mark.parametrize("fault", FAULTS, ids=str)
@pytest.mark.parametrize("server", FRAGILE)
async def test_one_fault_of_one_server_is_survived(
    server: str, fault: Fault, autojump_clock: trio.testing.MockClock
) -> None:
    async with a_world() as world:
        await world.settle()
        before = footprint(world)
        clients = [Client(number, path, era, askable=False) for number, (path, era) in enumerate(_places(server))]
        world.clients += clients
        for client in clients:
            await world.open(client)
        world.failing[server].arm(fault, 1)
        if fault.moment is Moment.CONNECT:
            world.kill(server)
        await _call_everything(world, clients)
        await trio.sleep(LONGEST)
        await world.settle()
        for client in clients:
            await world.delete(client)
        await trio.sleep(2 * IDLE)

        assert world.failing[server].fired[fault] == 1
        assert world.seen["echo answered"] >= 2 * len(SERVERS) - 2
        await world.finish(before)


def _places(server: str) -> list[tuple[str, bool]]:
    return [(path, era) for path in (server, "") for era in (False, True)]


async def _call_everything(world: World, clients: list[Client]) -> None:
    for client in clients:
        for name in client.servers:
            await world.start(client, "echo", name)
            await world.start(client, "progress", name)
        await world.start(client, "list", client.servers[0])


# ---- the suite itself ------------------------------------------------------------------------------------------------


async def test_a_wrong_answer_is_noticed(autojump_clock: trio.testing.MockClock) -> None:
    async with a_world() as world:
        client = Client(0, "safe", True, askable=False)
        await world.start(client, "hold", "safe")
        await trio.testing.wait_all_tasks_blocked()
        (made,) = world.calls
        made.replies.append({"jsonrpc": "2.0", "id": 99, "result": {}})
        world.drop(made)
        with pytest.raises(AssertionError, match="client 0, call 1 on safe was answered with"):
            await world.settle()


async def test_a_failure_of_a_server_that_is_well_is_noticed(autojump_clock: trio.testing.MockClock) -> None:
    async with a_world() as world:
        client = Client(0, "web", True, askable=False)
        await world.start(client, "hold", "web")
        await trio.testing.wait_all_tasks_blocked()
        world.webs["web"].restart()  # behind the world's back
        with pytest.raises(AssertionError, match="failed although"):
            await world.settle()


async def test_what_is_left_is_noticed(autojump_clock: trio.testing.MockClock) -> None:
    async with a_world() as world:
        await world.settle()
        before = footprint(world)
        world.nursery.start_soon(trio.sleep_forever)
        descriptor = os.open(os.devnull, os.O_RDONLY)
        with pytest.raises(AssertionError, match=r"left: 1 tasks trio\.sleep_forever, 1 descriptors"):
            await world.finish(before)
        os.close(descriptor)
