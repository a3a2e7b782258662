"""Calls that are watched: each ends as one event, in whichever way it was made and ended, and may be logged whole."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
import trio.testing

from mcpgateway.adapters.base import Adapter, Back, Event, Reply
from mcpgateway.calls.namespace import Namespace
from mcpgateway.calls.observed import ObservedNamespace
from mcpgateway.config.model import Config, HttpServer, InProcessServer, Links, Logging, Metrics, Secret, ServerConfig
from mcpgateway.errors import (
    CallCancelled,
    InvalidParams,
    MethodNotFound,
    ServerTimeout,
    ServerUnavailable,
    TooBusy,
)
from mcpgateway.gateway import Gateway
from mcpgateway.protocol.revisions import Era
from mcpgateway.recording.events import CallEvent, Recorder
from mcpgateway.recording.outcomes import Outcome
from mcpgateway.sessions.caller import Caller
from mcpgateway.wire.waiting import Wait
from tests.calls.doubles import (
    CALLERS_OF_BOTH,
    Collecting,
    ask,
    gateway_of,
    legacy,
    library,
    modern,
    session_of,
    space,
    use,
)
from tests.calls.held import HeldLink, begin, begun
from tests.calls.inquirer import ACCEPTED, asking, form, inquirer, quiz
from tests.calls.test_begin import PROGRESS, one_server, reply

BOTH_ERAS = pytest.mark.parametrize("era", list(Era))
BOTH_SHAPES = pytest.mark.parametrize("path", ["a", ""], ids=["raw", "merged"])


@asynccontextmanager
async def watched(
    *adapters: Adapter, config: Config | None = None, configs: Mapping[str, ServerConfig] | None = None
) -> AsyncIterator[tuple[Gateway, list[CallEvent]]]:
    """A gateway with metrics, and the events as they come."""
    config = attrs.evolve(config or Config(), metrics=Metrics(enabled=True))
    events: list[CallEvent] = []
    async with gateway_of(*adapters, config=config, configs=configs) as gateway:
        gateway.recorder._sinks = (events.extend, gateway.tally.take)
        gateway.recorder._limit = 1
        yield gateway, events


def told(event: CallEvent) -> tuple[str, str, str, str, Outcome]:
    return event.namespace, event.method, event.server, event.tool, event.outcome


@BOTH_ERAS
@BOTH_SHAPES
async def test_calls_are_told_with_their_server_tool_and_outcome(
    era: Era, path: str, autojump_clock: trio.testing.MockClock
) -> None:
    prefix = "" if path else "a_"
    async with watched(library("a"), library("b")) as (gateway, events):
        namespace = space(gateway, path)
        caller = CALLERS_OF_BOTH[era]()
        await ask(namespace, caller, "tools/list")
        for tool in "echo", "tool_error", "fail":
            await ask(namespace, caller, "tools/call", {"name": prefix + tool})
        with pytest.raises(ServerUnavailable):
            await ask(namespace, caller, "tools/call", {"name": f"{prefix}crash"})

    assert [told(event) for event in events] == [
        (path, "tools/list", path, "", Outcome.OK),
        (path, "tools/call", "a", "echo", Outcome.OK),
        (path, "tools/call", "a", "tool_error", Outcome.TOOL_ERROR),
        (path, "tools/call", "a", "fail", Outcome.ERROR),
        (path, "tools/call", "a", "crash", Outcome.UNAVAILABLE),
    ]
    assert all(event.listed for event in events[1:])


@BOTH_ERAS
@BOTH_SHAPES
async def test_calls_that_take_too_long_or_are_given_up_are_told_so(
    era: Era, path: str, autojump_clock: trio.testing.MockClock
) -> None:
    slow = {"name": "slow" if path else "a_slow"}
    config = InProcessServer("a", module="m:s", timeout=5.0, max_calls=1)
    async with watched(library("a"), library("b"), configs={"a": config}) as (gateway, events):
        namespace = space(gateway, path)
        caller = CALLERS_OF_BOTH[era]()
        await ask(namespace, caller, "tools/list")
        with pytest.raises(ServerTimeout):
            await ask(namespace, caller, "tools/call", slow)
        wait = Wait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancelled, namespace, caller, slow, wait)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(TooBusy):
                await ask(namespace, caller, "tools/call", slow)
            wait.end(CallCancelled("cancelled by the client"))
        with trio.move_on_after(1):
            await ask(namespace, caller, "tools/call", slow)

    outcomes = [event.outcome for event in events[1:]]
    assert outcomes == [Outcome.TIMEOUT, Outcome.REFUSED, Outcome.CANCELLED, Outcome.CANCELLED]


async def _cancelled(namespace: Namespace, caller: Caller, params: Mapping[str, str], wait: Wait) -> None:
    with pytest.raises(CallCancelled):
        await ask(namespace, caller, "tools/call", params, wait=wait)


@BOTH_ERAS
async def test_what_does_not_exist_is_refused_and_is_no_tool_of_anybody(
    era: Era, autojump_clock: trio.testing.MockClock
) -> None:
    async with watched(library("a"), library("b")) as (gateway, events):
        namespace, caller = space(gateway), CALLERS_OF_BOTH[era]()
        with pytest.raises(InvalidParams):
            await ask(namespace, caller, "tools/call", {"name": "nothing"})
        with pytest.raises(InvalidParams):
            await ask(namespace, caller, "tools/call", {"name": 7})
        with pytest.raises(MethodNotFound):
            await ask(namespace, caller, "x/unknown")

    assert [(event.method, event.server, event.tool, event.listed, event.outcome) for event in events] == [
        ("tools/call", "", "nothing", False, Outcome.REFUSED),
        ("tools/call", "", "", False, Outcome.REFUSED),
        ("x/unknown", "", "", False, Outcome.REFUSED),
    ]


async def test_a_parked_call_is_told_at_each_visit(autojump_clock: trio.testing.MockClock) -> None:
    adapter = inquirer()
    config = HttpServer("a", url="http://a/mcp", links=Links(min=0))
    async with asking(adapter, configs={"a": config}) as gateway:
        events: list[CallEvent] = []
        namespace = ObservedNamespace(space(gateway, "a"), recorder=Recorder(events.extend, waiting=1), payloads=None)
        asked = quiz(namespace, [form("name")])
        await asked.send()
        await asked.send({"name": ACCEPTED})

    assert [event.outcome for event in events] == [Outcome.INPUT_REQUIRED, Outcome.OK]


async def test_the_time_is_from_the_request_to_its_end(autojump_clock: trio.testing.MockClock) -> None:
    events: list[CallEvent] = []
    async with gateway_of(library("a")) as gateway:
        namespace = ObservedNamespace(
            space(gateway, "a"), recorder=Recorder(events.extend, waiting=1), payloads=None, clock=trio.current_time
        )
        caller = legacy()
        await use(namespace, caller, "echo")
        with trio.move_on_after(7):
            await use(namespace, caller, "slow")

    assert [event.seconds for event in events] == [0.0, 7.0]


async def test_handshakes_are_told(autojump_clock: trio.testing.MockClock) -> None:
    async with watched(library("a")) as (gateway, events):
        namespace = space(gateway, "a")
        caller = session_of(gateway, namespace, legacy())
        await namespace.initialize(caller, caller.capabilities, "s")

    assert [told(event) for event in events] == [("a", "initialize", "a", "", Outcome.OK)]


async def test_python_code_that_calls_is_a_client_like_any_other(autojump_clock: trio.testing.MockClock) -> None:
    async with watched(library("a")) as (gateway, events):
        await gateway.call_tool("echo", {"text": "x"}, namespace="a")

    assert [event.tool for event in events] == ["echo"]


async def test_while_nobody_watches_clients_find_the_namespace_itself_and_a_reload_changes_that(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with gateway_of(library("a")) as gateway:
        plain = gateway.namespace("a")
        assert plain is gateway.namespaces["a"]

        gateway.reconfigure(attrs.evolve(gateway.config, metrics=Metrics(enabled=True)))
        await use(space(gateway, "a"), legacy(), "echo")
        on = gateway.namespace("a")
        assert isinstance(on, ObservedNamespace)
        assert gateway.namespace("a") is on
        assert gateway.namespace("nothing") is None

        gateway.reconfigure(attrs.evolve(gateway.config, metrics=Metrics()))
        await use(space(gateway, "a"), legacy(), "echo")
        gateway.reconfigure(attrs.evolve(gateway.config, metrics=Metrics(enabled=True)))
        await use(space(gateway, "a"), legacy(), "echo")
        gateway.recorder.flush()

    assert sum(gateway.tally.requests().values()) == 2


# ---- without a task --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def begins() -> AsyncIterator[tuple[ObservedNamespace, HeldLink, list[CallEvent]]]:
    """A namespace that is watched, whose one server has a link that begins calls."""
    events: list[CallEvent] = []
    async with one_server() as (gateway, link):
        await ask(space(gateway, "a"), legacy(), "tools/list")
        recorder = Recorder(events.extend, waiting=1)
        yield ObservedNamespace(space(gateway, "a"), recorder=recorder, payloads=None), link, events


async def test_calls_that_were_begun_are_told_when_they_are_settled(autojump_clock: trio.testing.MockClock) -> None:
    async with begins() as (namespace, link, events):
        settled = begun(namespace, legacy(), Wait())
        assert events == []
        _, done = link.held.pop()
        done(answer := reply("hi"))

        assert settled.only is answer
        assert [told(event) for event in events] == [("a", "tools/call", "a", "echo", Outcome.OK)]


async def test_calls_that_were_begun_and_go_on_in_a_task_are_told_at_their_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with begins() as (namespace, link, events):

        async def go_on(back: Back) -> Reply:
            await back.send(Event(PROGRESS))
            return reply("late")

        async def fail(back: Back) -> Reply:
            await trio.lowlevel.checkpoint()
            raise ServerTimeout("a", "did not answer")

        for continuation in go_on, fail:
            settled = begun(namespace, legacy(), Wait())
            _, done = link.held.pop()
            done(continuation)
            before = len(events)
            if continuation is go_on:
                await settled.go_on(Collecting())
            else:
                with pytest.raises(ServerTimeout):
                    await settled.go_on(Collecting())
            assert len(events) == before + 1

        assert [event.outcome for event in events] == [Outcome.OK, Outcome.TIMEOUT]


async def test_a_call_that_cannot_be_begun_is_not_told(autojump_clock: trio.testing.MockClock) -> None:
    async with begins() as (namespace, link, events):
        link.takes = False
        assert begin(namespace, legacy(), Wait()) is None
        assert events == []


# ---- payloads --------------------------------------------------------------------------------------------------------

SECRET = "hunter2hunter2"


def entries(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, object]]]:
    """What was logged of calls, without numbers and times."""
    found = []
    for record in caplog.records:
        if record.name == "mcpgateway.calls":
            fields = dict(record.fields)  # type: ignore[attr-defined]  # put there with ``extra``
            assert isinstance(fields.pop("call"), int)
            assert isinstance(fields.pop("seconds", 0.0), float)
            found.append((record.getMessage(), fields))
    return found


def verbose(payload: int = 2000) -> Config:
    return Config(logging=Logging(verbose=True, payload=payload))


@pytest.mark.requirement("feature.104", "6.logs")
@BOTH_ERAS
async def test_verbose_logs_what_tools_are_called_with_and_answer_without_secrets(
    era: Era, caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    caplog.set_level(logging.INFO)
    config = HttpServer("a", url="http://a/mcp", headers={"Authorization": Secret(f"Bearer {SECRET}")})
    async with gateway_of(library("a"), config=verbose(), configs={"a": config}) as gateway:
        namespace, caller = space(gateway, "a"), CALLERS_OF_BOTH[era]()
        await use(namespace, caller, "echo", text=f"line\n{SECRET}", token="t")
        await ask(namespace, caller, "tools/call", {"name": "fail"})
        with pytest.raises(ServerUnavailable):
            await use(namespace, caller, "crash")

    about = {"namespace": "a", "server": "a"}
    said = entries(caplog)
    assert [text for text, _ in said] == ["tool call", "tool response"] * 3
    assert said[0][1] == {**about, "tool": "echo", "arguments": '{"text":"line\\n***","token":"***"}'}
    assert said[1][1].items() >= {**about, "tool": "echo"}.items()
    assert "line\\n***" in str(said[1][1]["result"])
    assert said[3][1] == {**about, "tool": "fail", "error_code": 1234, "error_message": "failed as asked"}
    assert said[5][1]["error_code"] == -32603
    assert SECRET not in caplog.text


async def test_verbose_says_who_called_and_whose_tool_it_is(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    caplog.set_level(logging.INFO)
    async with gateway_of(library("a"), library("b"), config=verbose(payload=10)) as gateway:
        namespace = gateway.namespace("", upstream="cloud")
        assert namespace is not None
        await use(namespace, modern(), "b_echo", text="x" * 100)

    (_, called), (_, answered) = entries(caplog)
    assert called == {"upstream": "cloud", "tool": "b_echo", "arguments": '{"text":"x… (111 characters)'}
    assert answered.items() >= {"upstream": "cloud", "server": "b", "tool": "echo"}.items()


async def test_a_name_that_a_client_made_up_is_shown_without_secrets_and_cut(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    caplog.set_level(logging.INFO)
    async with gateway_of(library("a"), library("b"), config=verbose()) as gateway:
        with pytest.raises(InvalidParams):
            await use(space(gateway), legacy(), f"token={SECRET}\n" + "x" * 1000)

    (_, called), (_, answered) = entries(caplog)
    assert called["tool"] == f"token=***\n{'x' * 190}… (1010 characters)"
    assert "Unknown tool: token=***" in str(answered["error_message"])


async def test_nothing_is_read_while_the_level_of_the_log_is_above_it(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    caplog.set_level(logging.WARNING)
    async with gateway_of(library("a"), config=verbose()) as gateway:
        await use(space(gateway, "a"), legacy(), "echo", text="x")

    assert entries(caplog) == []


async def test_a_reload_switches_it_and_counts_go_on(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    caplog.set_level(logging.INFO)
    async with watched(library("a")) as (gateway, events):
        logged = []
        for on in False, True, False:
            gateway.reconfigure(attrs.evolve(gateway.config, logging=Logging(verbose=on)))
            await use(space(gateway, "a"), legacy(), "echo")
            logged.append(len(entries(caplog)))

    assert logged == [0, 2, 2]
    assert len(events) == 3


async def test_a_call_that_is_cancelled_is_logged_as_such(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    caplog.set_level(logging.INFO)
    async with gateway_of(library("a"), config=verbose()) as gateway:
        with trio.move_on_after(1):
            await use(space(gateway, "a"), legacy(), "slow")

    assert entries(caplog)[-1][1]["error_message"] == "cancelled"
