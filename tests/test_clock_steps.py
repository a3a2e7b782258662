"""The wall clock jumps, forwards and backwards: nothing that waits, and nothing that lasts, goes by it."""

from __future__ import annotations

import ast
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
import trio
import trio.testing

from mcpgateway.config.model import Config, InProcessServer
from mcpgateway.errors import InvalidParams, ServerTimeout
from mcpgateway.wire.http1 import exchange
from tests.calls.doubles import ask, gateway_of, legacy, library, names, result, session_of, space, use
from tests.fronts.site import site

pytestmark = pytest.mark.requirement("4.life.files")

DAY = 86_400.0
STEPS = (DAY, -DAY, 3650 * DAY, -3650 * DAY)

READERS = {
    "demo/clock.py": "tells the time: it is a clock",
    "sessions/sealing.py": "seals outlive the process",
    "web/routes.py": "/health tells the time",
    "wire/http1/exchange.py": "the Date header",
}
"""The modules that read the wall clock, each with the reason. Whatever waits or lasts goes by trio's clock."""


class WallClock:
    """A wall clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    clock = WallClock()
    monkeypatch.setattr(time, "time", clock)
    return clock


def test_few_modules_read_the_wall_clock() -> None:
    package = Path(exchange.__file__).parents[2]
    found = {str(path.relative_to(package)) for path in package.rglob("*.py") if _reads_wall_time(path)}
    assert found == set(READERS)


def _reads_wall_time(path: Path) -> bool:
    """Whether a module has ``time.time``, ``datetime.now`` or the like in it."""
    reading = {
        ("time", "time"),
        ("time", "time_ns"),
        ("datetime", "now"),
        ("datetime", "today"),
        ("datetime", "utcnow"),
    }
    return any(
        isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and (node.value.id, node.attr) in reading
        for node in ast.walk(ast.parse(path.read_text()))
    )


@pytest.mark.parametrize("step", STEPS)
async def test_calls_sessions_and_links_do_not_notice(
    step: float, wall: WallClock, autojump_clock: trio.testing.MockClock
) -> None:
    adapter = library("a")
    configs = {"a": InProcessServer("a", module="m:s", timeout=60.0)}
    async with gateway_of(adapter, configs=configs) as gateway:
        caller = session_of(gateway, space(gateway, "a"), legacy())
        await use(space(gateway, "a"), caller, "echo")
        links, began = list(adapter.open), trio.current_time()

        async def jump() -> None:
            await trio.sleep(10)
            wall.now += step

        async with trio.open_nursery() as nursery:
            nursery.start_soon(jump)
            with pytest.raises(ServerTimeout):
                await use(space(gateway, "a"), caller, "slow", name="x")
            assert trio.current_time() - began == pytest.approx(60, abs=1)
        assert adapter.open == links
        assert [session.id for session in gateway.sessions] == ["session"]
        await trio.sleep(5000)
        assert len(gateway.sessions) == 0


@pytest.mark.parametrize("step", STEPS)
async def test_a_cursor_opens_after_a_step_back_and_is_expired_after_one_forward(
    step: float, wall: WallClock, autojump_clock: trio.testing.MockClock
) -> None:
    async with gateway_of(library("a"), library("b"), config=Config(page_size=5)) as gateway:
        gateway.sealer._clock = wall
        gateway.sealer._ring = {b"abcd": bytes(32)}
        await gateway.ready()
        caller = session_of(gateway, space(gateway), legacy())
        cursor = result(await ask(space(gateway), caller, "tools/list"))["nextCursor"]
        began = trio.current_time()
        wall.now += step
        if step < 0:
            assert len(names(await ask(space(gateway), caller, "tools/list", {"cursor": cursor}))) == 5
        else:
            with pytest.raises(InvalidParams, match="Invalid cursor"):
                await ask(space(gateway), caller, "tools/list", {"cursor": cursor})
        fresh = result(await ask(space(gateway), caller, "tools/list"))["nextCursor"]
        assert len(names(await ask(space(gateway), caller, "tools/list", {"cursor": fresh}))) == 5
        assert trio.current_time() == began


@pytest.mark.parametrize("step", STEPS)
async def test_what_tells_the_time_tells_the_new_one(step: float, wall: WallClock) -> None:
    async with site() as gateway:
        client = await gateway.dial()
        for _ in range(2):
            answer = await client.ask("GET", "/health")
            assert answer.status == 200
            assert parsedate_to_datetime(answer.headers["date"]) == datetime.fromtimestamp(wall.now, UTC)
            assert 0 <= answer.json["uptime"] < 60
            wall.now += step
