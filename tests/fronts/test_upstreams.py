"""All upstreams of a gateway: those that go and come again, reloads in a row, and ends at any moment."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from mcpgateway.app import ENDING
from mcpgateway.config.model import Listen, Reconnect, Secret, UpstreamConfig
from mcpgateway.fronts.dialling import State
from tests.fronts.cloud import TOKEN, Bridge, Cloud, Socket, bridge, cloud
from tests.fronts.site import call, request
from tests.fronts.test_upstream import until, until_called

PATIENCE = 30.0
IMPOSSIBLE = Reconnect(initial=2.0, maximum=1.0)
"""Terms that no check lets through, and with which the next pause cannot be told."""


@pytest.fixture(autouse=True)
def keeps_the_secret(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    yield
    assert TOKEN not in caplog.text


async def nobody_dials(far: Cloud, seconds: float) -> None:
    with trio.move_on_after(seconds) as waited:
        await far.dialled()
    assert waited.cancelled_caught


async def calling(far: Cloud, near: Bridge) -> Socket:
    """The next connection, with a call in flight that nobody answers."""
    socket = await far.next()
    await socket.initialize()
    await socket.send(call(1, "slow", {"name": "x"}))
    await until_called(near)
    return socket


# ---- reloads ---------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("6.reload")
async def test_one_that_goes_and_comes_again_is_dialled_when_its_former_connection_has_ended(
    autojump_clock: MockClock,
) -> None:
    async with cloud() as far, bridge(far.upstream(), shutdown_timeout=PATIENCE) as near:
        socket = await calling(far, near)
        near.reload(upstreams=())
        assert near.service.upstreams() == ()
        await nobody_dials(far, 1)
        near.reload(upstreams=(far.upstream(),))
        assert near.upstream().state is State.CONNECTED
        await nobody_dials(far, PATIENCE - 2)
        assert "is being ended" in (await socket.answer(1))["error"]["message"]
        assert await socket.code() == 1001
        await (await far.next()).initialize()
        assert (near.upstream_count, near.upstream().state) == (1, State.CONNECTED)


@pytest.mark.requirement("6.reload")
async def test_of_many_reloads_in_a_row_the_last_one_counts(autojump_clock: MockClock) -> None:
    async with cloud() as far, cloud() as other, bridge(far.upstream()) as near:
        socket = await far.next()
        await socket.initialize()
        for number in range(50):
            endpoint = f"{(far, other)[number % 2].endpoint}&n={number}"
            near.reload(upstreams=(UpstreamConfig("cloud", Secret(endpoint), "one"),) if number % 5 else ())
            if number % 10 == 7:
                await trio.sleep(0.01)
        assert await socket.code() == 1001
        found = await other.next()
        assert found.request is not None
        assert found.request.target.endswith("&n=49")
        await found.initialize()
        await nobody_dials(far, 60)
        assert (len(far.sockets), len(other.sockets), near.upstream_count) == (1, 1, 1)


async def test_they_are_shown_in_the_order_of_their_configuration(autojump_clock: MockClock) -> None:
    async with cloud() as far, bridge(far.upstream("b")) as near:
        await far.next()
        near.reload(upstreams=(far.upstream("a"), far.upstream("b")))
        await far.next()
        assert [each.name for each in near.service.upstreams()] == ["a", "b"]


async def test_two_with_one_endpoint_are_two(autojump_clock: MockClock) -> None:
    """A cloud that takes but one drops the other; neither makes a busy loop of it."""
    async with cloud() as far, bridge(far.upstream("a"), far.upstream("b")) as near:
        former = await far.next()
        times: list[float] = []
        while len(times) < 20:
            socket = await far.next()
            times.append(socket.at)
            await former.cut()
            former = socket
        assert times[-1] - times[0] > 500
        assert {each.state for each in near.service.upstreams()} <= {State.CONNECTED, State.WAITING}


async def test_one_that_fails_ends_alone_and_is_dialled_at_the_next_reload(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A mistake of ours."""
    async with cloud() as far, bridge(far.upstream("bad", reconnect=IMPOSSIBLE), far.upstream("good")) as near:
        sockets = [await far.next(), await far.next()]
        for socket in sockets:
            await socket.cut()
        await (await far.next()).initialize()
        assert near.upstream("bad").state is State.ENDED
        assert "upstream 'bad' has failed, and is not dialled before a reload" in caplog.text
        near.reload(upstreams=(far.upstream("bad"), far.upstream("good")))
        await (await far.next()).initialize()
        assert near.upstream("bad").state is State.CONNECTED


@pytest.mark.requirement("6.upstreams")
async def test_nothing_is_left_to_do_once_all_have_come_to_their_end_by_themselves(autojump_clock: MockClock) -> None:
    """Not while one of them waits, is replaced, or is being stopped; and whoever wants to know is told."""
    last, told = Reconnect(enabled=False), list[bool]()

    def moved() -> None:
        told.append(near.service.is_over)

    async with cloud() as far, cloud() as other:
        async with bridge(far.upstream("a", reconnect=last), other.upstream("b", reconnect=last)) as near:
            near.service.moved = moved
            first, second = await far.next(), await other.next()
            await first.cut()
            await until(lambda: near.upstream("a").state is State.ENDED)
            assert told == [False] * len(told)
            near.reload(upstreams=(far.upstream("a", reconnect=last), other.upstream("b", reconnect=Reconnect())))
            await second.code()
            await second.stream.aclose()
            first, second = await far.next(), await other.next()
            await first.cut()
            await second.cut()
            await until(lambda: near.upstream("a").state is State.ENDED)
            await (await other.next()).initialize()
            assert not any(told)
            near.reload(upstreams=(far.upstream("a", reconnect=last),))
            await trio.sleep(1)
            assert not any(told)
            await (await far.next()).cut()
            await until(lambda: told[-1])
            near.reload(upstreams=(far.upstream("a"),))
            await far.next()
            told.clear()
        assert told
        assert not any(told), "it was stopped"


async def test_with_a_listener_there_is_something_left_to_do(autojump_clock: MockClock) -> None:
    upstream = partial(Cloud.upstream, reconnect=Reconnect(enabled=False))
    async with cloud() as far, bridge(upstream(far), listen=Listen(port=0)) as near:
        await (await far.next()).cut()
        await until(lambda: near.upstream().state is State.ENDED)
        assert not near.service.is_over


# ---- the end ---------------------------------------------------------------------------------------------------------


MOMENTS = ("dialling", "shaking hands", "connected", "in a call", "deaf", "waiting", "reloading", "failed")


@pytest.mark.requirement("6.drain")
@pytest.mark.parametrize("when", MOMENTS)
async def test_whenever_it_is_stopped_it_ends_in_time(when: str, autojump_clock: MockClock) -> None:
    timeout = 5.0
    terms = IMPOSSIBLE if when == "failed" else Reconnect()
    async with cloud() as far, bridge(far.upstream(reconnect=terms), shutdown_timeout=timeout) as near:
        if when == "shaking hands":
            await far.dialled()
        elif when in ("in a call", "reloading"):
            await calling(far, near)
        elif when != "dialling":
            socket = await far.next()
            if when == "deaf":
                await socket.initialize()
                for number in range(16):
                    await socket.send(call(number, "big", {"kib": 1024}))
                await trio.testing.wait_all_tasks_blocked()
            elif when != "connected":
                await socket.cut()
                await until(lambda: near.upstream().state in (State.WAITING, State.ENDED))
        if when == "reloading":
            near.reload(upstreams=(far.upstream(call_deadline=1.0),))
        began = trio.current_time()
        near.stop.set()
        await trio.testing.wait_all_tasks_blocked()
        if near.upstream_count:
            near.reload(upstreams=(far.upstream("late"),))
    assert trio.current_time() - began <= timeout + ENDING
    assert len(far.sockets) <= 1


@pytest.mark.requirement("6.drain")
async def test_of_two_patiences_the_shorter_one_counts(autojump_clock: MockClock) -> None:
    async with cloud() as far, bridge(far.upstream(), shutdown_timeout=300.0) as near:
        socket = await calling(far, near)
        near.reload(upstreams=(), shutdown_timeout=300.0)
        await trio.sleep(10)
        near.reload(shutdown_timeout=1.0)
        began = trio.current_time()
        near.stop.set()
        assert "is being ended" in (await socket.answer(1))["error"]["message"]
        assert trio.current_time() - began == pytest.approx(1, abs=0.1)


@pytest.mark.requirement("6.drain")
async def test_upstreams_that_are_stopped_at_once_have_never_been(autojump_clock: MockClock) -> None:
    async with cloud() as far:
        async with bridge(far.upstream(), waits=False) as near:
            near.stop.set()
        assert near.upstream_count == 0
        async with bridge(waits=False) as near:
            near.reload(upstreams=(far.upstream(),))
            near.reload(upstreams=())
            near.reload(upstreams=(far.upstream(),))
            near.stop.set()
        assert near.upstream_count == 0


async def test_what_was_asked_meanwhile_is_refused_and_not_forgotten(autojump_clock: MockClock) -> None:
    async with cloud() as far, bridge(far.upstream(), shutdown_timeout=PATIENCE) as near:
        socket = await calling(far, near)
        near.reload(upstreams=())
        for number in range(2, 20):
            answer = await socket.ask(request(number, "tools/list"))
            assert "is being ended" in answer["error"]["message"]
