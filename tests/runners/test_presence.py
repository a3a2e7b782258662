"""The state file follows a service: soon, whatever happens, and without being written all the time."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from mcpgateway.config.model import Keepalive, Reconnect
from mcpgateway.fronts.dialling import State as Upstream
from runners import presence
from runners.presence import CALM, Presence
from runners.statefile import Dialled, State, StateFile, read
from tests.fronts.cloud import TOKEN, Bridge, bridge, cloud
from tests.fronts.test_upstream import until

QUIET = Keepalive(interval=1e6)


class Counted(StateFile):
    """Remembers when it was written; ``during`` is called in the midst of it."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.times: list[float] = []
        self.during: Callable[[], None] = lambda: None

    def write(self, state: State) -> None:
        self.times.append(trio.current_time())
        self.during()
        super().write(state)


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtual time does not wait for them."""

    async def at_once(function: Callable[[], None]) -> None:
        await trio.lowlevel.checkpoint()
        function()

    monkeypatch.setattr(presence, "in_thread", at_once)


@asynccontextmanager
async def present(near: Bridge, directory: Path) -> AsyncIterator[Counted]:
    """The file of a service, which is kept."""
    file = Counted(directory)
    kept = Presence(near.service, file)
    near.service.moved = kept.changed
    async with trio.open_nursery() as keeping:
        keeping.start_soon(kept.keep)
        await trio.testing.wait_all_tasks_blocked()
        await kept.tell()
        yield file
        keeping.cancel_scope.cancel(reason="the test is over")


def upstreams(directory: Path) -> dict[str, Dialled]:
    state = read(directory)
    assert state is not None
    return dict(state.upstreams)


@pytest.mark.requirement("6.service")
async def test_a_bridge_that_does_not_listen_tells_how_its_upstreams_are(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with cloud() as far, bridge(far.upstream(keepalive=QUIET)) as near:
        async with present(near, tmp_path):
            socket = await far.next()
            await until(lambda: upstreams(tmp_path) == {"cloud": Dialled("connected")})
            await trio.sleep(Reconnect().stable + CALM)
            assert upstreams(tmp_path) == {"cloud": Dialled("stable")}
            await socket.close(4004, f"bad {TOKEN}")
            await until(lambda: upstreams(tmp_path)["cloud"].state == "waiting")
            found = read(tmp_path)
    assert found is not None
    assert (found.pid, found.url, found.metrics, found.config) == (os.getpid(), "", "", None)
    assert found.upstreams["cloud"].reason.startswith("closed the WebSocket with code 4004: 'bad ***'")
    assert TOKEN not in str(found)


async def test_an_upstream_that_comes_and_goes_is_told_once_in_a_while(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """And what was so last is told, too."""
    eager = Reconnect(initial=0.05, maximum=0.05)
    async with (
        cloud() as far,
        bridge(far.upstream(keepalive=QUIET, reconnect=eager)) as near,
        present(near, tmp_path) as file,
    ):
        began = trio.current_time()
        for _ in range(60):
            await (await far.next()).cut()
        busy = trio.current_time() - began
        await far.next()
        await trio.sleep(2 * CALM)
        assert (near.upstream().state, near.upstream().reconnects) == (Upstream.CONNECTED, 60)
        assert upstreams(tmp_path)["cloud"].state == "connected"
        assert busy > 2 * CALM
        assert all(after - before >= CALM for before, after in pairwise(file.times[1:]))

        file.times.clear()
        await trio.sleep(3600)
        assert len(file.times) == 1, "nothing happens but that it has lasted"


async def test_what_changes_while_the_file_is_written_is_told_later(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with cloud() as far, bridge(far.upstream(keepalive=QUIET, reconnect=Reconnect(stable=1e6))) as near:
        await far.next()
        async with present(near, tmp_path) as file:
            await trio.sleep(2 * CALM)
            file.times.clear()
            file.during = near.service.moved
            near.service.moved()
            await trio.sleep(3.5 * CALM)
            assert len(file.times) == 4
            file.during = lambda: None
            await trio.sleep(10 * CALM)
            assert len(file.times) == 5
