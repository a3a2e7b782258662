"""What can be seen of upstreams: metrics on a listener of their own, and verbose entries of the log that name them."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock
from wsproto.events import Pong

from mcpgateway.catalog.rules import ToolRules
from mcpgateway.config.model import InProcessServer, Keepalive, Logging, Metrics
from mcpgateway.recording.tally import Tally
from mcpgateway.web.metrics import exposition
from tests.fronts.cloud import TOKEN, Bridge, bridge, cloud
from tests.fronts.site import call


def metrics(gateway: Bridge) -> bytes:
    return exposition(gateway.gateway.statistics(), Tally(), gateway.service.upstreams())


@pytest.mark.requirement("6.metrics")
async def test_metrics_tell_how_upstreams_are(autojump_clock: MockClock) -> None:
    async with cloud() as far, bridge(far.upstream(call_deadline=5.0)) as gateway:
        socket = await far.next()
        await socket.initialize()
        await socket.ask(call(1, "echo"))
        late = await socket.ask(call(2, "slow", {"name": "x"}))
        assert late["result"]["isError"]
        before = metrics(gateway)
        await socket.cut()
        await (await far.next()).initialize()
        after = metrics(gateway)

    assert b'mcpgateway_upstream_state{state="connected",upstream="cloud"} 1.0' in before
    assert b'mcpgateway_upstream_overdue_total{upstream="cloud"} 1.0' in before
    assert b'mcpgateway_upstream_reconnects_total{upstream="cloud"} 0.0' in before
    assert b'mcpgateway_upstream_reconnects_total{upstream="cloud"} 1.0' in after
    assert TOKEN.encode() not in before + after


async def test_calls_of_upstreams_are_counted_as_they_ended(autojump_clock: MockClock) -> None:
    keys: dict[str, Any] = {"metrics": Metrics(enabled=True)}
    async with cloud() as far, bridge(far.upstream(call_deadline=5.0), **keys) as gateway:
        socket = await far.next()
        await socket.initialize()
        await socket.ask(call(1, "echo"))
        await socket.ask(call(2, "slow", {"name": "x"}))
        gateway.gateway.recorder.flush()
        counted = gateway.gateway.tally.requests()

    assert {outcome.value: count for (_, method, outcome), count in counted.items() if method == "tools/call"} == {
        "ok": 1,
        "timeout": 1,
    }


@pytest.mark.requirement("6.drop")
@pytest.mark.parametrize(
    "keys", [{"metrics": Metrics(enabled=True)}, {"logging": Logging(verbose=True)}], ids=["metrics", "verbose"]
)
async def test_a_session_survives_a_reload_and_a_drop_while_calls_are_watched(
    keys: dict[str, Any], autojump_clock: MockClock
) -> None:
    async with cloud() as far, bridge(far.upstream(), **keys) as gateway:
        socket = await far.next()
        await socket.initialize()
        (session,) = gateway.gateway.sessions
        gateway.reload(shutdown_timeout=2.0)
        await socket.cut()
        socket = await far.next()
        await socket.initialize()
        assert list(gateway.gateway.sessions) == [session]
        gateway.reload(servers={"one": InProcessServer("one", module="object:given", tools=ToolRules(deny=("slow",)))})
        await socket.cut()
        await (await far.next()).initialize()
        assert list(gateway.gateway.sessions) != [session]


async def test_the_time_from_a_ping_to_its_pong_is_told(autojump_clock: MockClock) -> None:
    async with cloud() as far, bridge(far.upstream(keepalive=Keepalive(30.0, 10.0))) as gateway:
        socket = await far.next()
        socket.obliging = False
        async with trio.open_nursery() as reading:
            reading.start_soon(socket.event)
            await trio.sleep(32)
            before = gateway.upstream().round_trip
            await socket.say(Pong())
            await socket.say(Pong())
            await trio.testing.wait_all_tasks_blocked()
            after = gateway.upstream().round_trip
            reading.cancel_scope.cancel(reason="the test is over")

    assert before is None
    assert after == pytest.approx(2, abs=0.1)


@pytest.mark.requirement("6.logs")
async def test_verbose_names_the_upstream_and_never_its_token(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with cloud() as far, bridge(far.upstream(), logging=Logging(verbose=True)):
        socket = await far.next()
        await socket.initialize()
        await socket.ask(call(1, "echo", {"text": f"it is {TOKEN}"}))

    entries = [record.fields for record in caplog.records if record.name == "mcpgateway.calls"]  # type: ignore[attr-defined]
    assert [(entry["upstream"], entry["tool"]) for entry in entries] == [("cloud", "echo")] * 2
    assert '"it is ***"' in entries[0]["arguments"]
    assert TOKEN not in caplog.text
    assert TOKEN not in str(entries)
