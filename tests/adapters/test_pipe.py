"""Calls that meet on one stream: order, bounds, ends."""

from __future__ import annotations

import json
import logging
import random
from typing import Any

import pytest
import trio
import trio.testing

from mcpgateway import jsonrpc
from mcpgateway.adapters import pipe
from mcpgateway.adapters.base import Event, NoBack, Reply, Request
from mcpgateway.adapters.pipe import BATCH_BYTES, PipeLink
from mcpgateway.errors import (
    CallCancelled,
    ServerMisbehaved,
    ServerTimeout,
    ServerUnavailable,
    TooBusy,
)
from mcpgateway.jsonrpc import Message
from mcpgateway.wire.waiting import Wait
from tests.adapters.pipe_server import Server


class Recorder:
    """A back-channel that records; ``gate`` holds it up."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.gate = trio.Event()
        self.gate.set()

    async def send(self, event: Event) -> None:
        await self.gate.wait()
        assert event.message is not None
        self.events.append(json.loads(event.message.encode()))


def a_request(wait: Wait | None = None, *, token: object = None, id: bytes = b'"c"', alone: bool = False) -> Request:
    params = {} if token is None else {"_meta": {"progressToken": token}}
    return Request(jsonrpc.request(id, "tools/call", params), wait or Wait(), alone=alone)


def text_of(reply: Reply) -> object:
    return json.loads(reply.message.encode())["result"]["text"]


class Calling:
    """A call in a task of its own, and how it ended."""

    def __init__(self, nursery: trio.Nursery, link: PipeLink, request: Request, back: Recorder | None = None) -> None:
        self.back = back or Recorder()
        self.reply: Reply | None = None
        self.problem: BaseException | None = None
        self.over = trio.Event()
        nursery.start_soon(self._run, link, request)

    async def _run(self, link: PipeLink, request: Request) -> None:
        try:
            self.reply = await link.call(request, self.back)
        except Exception as problem:
            self.problem = problem
        self.over.set()


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_replies_find_their_calls_in_any_order() -> None:
    server = Server()
    async with trio.open_nursery() as nursery:
        calls = [Calling(nursery, server.link, a_request()) for _ in range(64)]
        await settled()
        assert server.link.statistics().in_flight == 64
        wires = {message["id"] for message in server.sent}
        order = sorted(wires)
        random.Random(1).shuffle(order)
        for wire in order:
            server.replies(wire, wire)
    replies = [call.reply for call in calls]
    assert {text_of(reply) for reply in replies if reply is not None} == wires
    assert len(wires) == 64
    assert server.link.statistics().in_flight == 0
    assert server.link.statistics().calls == 64
    assert server.link.statistics().pid == 7


async def test_events_come_in_order_before_the_reply() -> None:
    server = Server()
    async with trio.open_nursery() as nursery:
        call = Calling(nursery, server.link, a_request(token="t"))
        await settled()
        for amount in range(3):
            server.progress(1, amount)
        server.replies(1)
        server.progress(1, 9)
    assert [event["params"]["progress"] for event in call.back.events] == [0, 1, 2]
    assert {event["params"]["progressToken"] for event in call.back.events} == {"t"}
    assert call.reply is not None


async def test_progress_renews_the_deadline_of_its_call(mock_clock: trio.testing.MockClock) -> None:
    server = Server()
    began = trio.current_time()
    busy, idle = (Wait(began + 10, patience=10, latest=began + 15) for _ in range(2))
    async with trio.open_nursery() as nursery:
        for wait in (busy, idle):
            Calling(nursery, server.link, a_request(wait, token="t"))
            await settled()
        for passed, deadline in ((4, 14), (4, 15)):
            mock_clock.jump(passed)
            server.progress(1, passed)
            assert busy.deadline == began + deadline
        server.says(method="notifications/message", params={})
        assert idle.deadline == began + 10
        server.replies(1)
        server.replies(2)


async def test_a_slow_client_holds_up_its_own_call_only() -> None:
    server = Server()
    async with trio.open_nursery() as nursery:
        slow = Calling(nursery, server.link, a_request(token=1))
        slow.back.gate = trio.Event()
        await settled()
        other = Calling(nursery, server.link, a_request())
        await settled()
        server.progress(1, 1)
        server.replies(1)
        server.replies(2)
        await settled()
        assert other.over.is_set()
        assert not slow.over.is_set()
        slow.back.gate.set()
    assert len(slow.back.events) == 1


@pytest.mark.parametrize("bound", ["INBOX_EVENTS", "INBOX_BYTES"])
async def test_a_client_that_takes_nothing_loses_its_call(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipe, bound, 3 if bound == "INBOX_EVENTS" else 300)
    server = Server()
    async with trio.open_nursery() as nursery:
        call = Calling(nursery, server.link, a_request(token=1))
        call.back.gate = trio.Event()
        await settled()
        for amount in range(10):
            server.progress(1, amount)
        call.back.gate.set()
    assert isinstance(call.problem, TooBusy)
    assert server.sent[-1]["params"]["requestId"] == 1


async def test_an_exclusive_call_is_asked_and_answers() -> None:
    server = Server()
    async with trio.open_nursery() as nursery:
        call = Calling(nursery, server.link, a_request(alone=True))
        await settled()
        server.says(id=1, method="elicitation/create", params={})
        server.replies(1)
        await call.over.wait()
        await server.link.notify(jsonrpc.result(b"1", {"action": "accept"}))
    assert [event["method"] for event in call.back.events] == ["elicitation/create"]
    assert server.sent[-1] == {"jsonrpc": "2.0", "id": 1, "result": {"action": "accept"}}
    assert server.outside == []


# ---- ends ------------------------------------------------------------------------------------------------------------


async def test_ending_the_wait_ends_the_call_and_tells_the_server() -> None:
    server = Server()
    wait = Wait()
    async with trio.open_nursery() as nursery:
        call = Calling(nursery, server.link, a_request(wait))
        await settled()
        wait.end(ServerTimeout("s", "did not answer within 60 s"))
        await call.over.wait()
        assert isinstance(call.problem, ServerTimeout)
        server.replies(1)
        server.replies(1)
    assert server.methods() == ["tools/call", "notifications/cancelled"]
    assert server.sent[1]["params"] == {"requestId": 1, "reason": "server 's': did not answer within 60 s"}
    assert server.link.junk == 1, "the late reply is none, the second one is"
    assert wait.wake is None


async def test_a_wait_that_ends_while_the_client_is_sent_to_ends_the_call_too() -> None:
    server = Server()
    wait = Wait()
    async with trio.open_nursery() as nursery:
        call = Calling(nursery, server.link, a_request(wait, token=1))
        call.back.gate = trio.Event()
        await settled()
        server.progress(1, 1)
        await settled()
        wait.end(CallCancelled("as asked"))
        call.back.gate.set()
    assert isinstance(call.problem, CallCancelled)
    assert server.methods()[-1] == "notifications/cancelled"


async def test_a_wait_that_has_ended_sends_nothing() -> None:
    server = Server()
    wait = Wait()
    wait.end(CallCancelled("before it began"))
    with pytest.raises(CallCancelled):
        await server.link.call(a_request(wait), NoBack())
    assert server.sent == []


async def test_a_cancelled_task_tells_the_server_and_leaves_nothing() -> None:
    server = Server()
    async with trio.open_nursery() as nursery:
        Calling(nursery, server.link, a_request())
        await settled()
        nursery.cancel_scope.cancel(reason="test")
    assert server.methods() == ["tools/call", "notifications/cancelled"]
    assert server.link.statistics().in_flight == 0
    server.replies(1)
    assert server.link.junk == 0


async def test_a_reply_in_the_same_tick_wins_over_the_end_of_the_wait() -> None:
    server = Server()
    wait = Wait()
    async with trio.open_nursery() as nursery:
        call = Calling(nursery, server.link, a_request(wait))
        await settled()
        server.replies(1)
        wait.end(CallCancelled("too late"))
    assert call.reply is not None
    assert server.methods() == ["tools/call"]


async def test_a_broken_transport_fails_all_calls_at_once_with_the_reason() -> None:
    server = Server()
    async with trio.open_nursery() as nursery:
        calls = [Calling(nursery, server.link, a_request()) for _ in range(3)]
        await settled()
        server.link.broken("exited with status 3")
        server.link.broken("something else")
    for call in calls:
        assert isinstance(call.problem, ServerUnavailable)
        assert call.problem.message == "server 's': exited with status 3"
        assert not call.problem.unsent
    assert server.link.closed.is_set()
    assert server.link.failure == "exited with status 3"
    assert server.methods() == ["tools/call"] * 3, "nobody is left to tell"
    for attempt in (server.link.call(a_request(), NoBack()), server.link.notify(jsonrpc.notification("x"))):
        with pytest.raises(ServerUnavailable, match="status 3") as caught:
            await attempt
        assert caught.value.unsent


async def test_closing_fails_what_is_in_flight_and_may_be_repeated() -> None:
    server = Server()
    async with trio.open_nursery() as nursery:
        call = Calling(nursery, server.link, a_request())
        await settled()
        await server.link.aclose()
        await server.link.aclose()
    assert isinstance(call.problem, ServerUnavailable)
    assert server.closed == 2
    server.replies(1)
    assert server.link.junk == 1


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (TooBusy("full"), TooBusy),
        (trio.BrokenResourceError("its input is closed"), ServerUnavailable),
        (trio.ClosedResourceError(), ServerUnavailable),
    ],
)
async def test_what_cannot_be_sent_fails_the_call(problem: Exception, expected: type[Exception]) -> None:
    server = Server()
    server.broken = problem
    with pytest.raises(expected) as caught:
        await server.link.call(a_request(), NoBack())
    assert getattr(caught.value, "unsent", True), "it may be sent again"
    assert server.link.statistics().in_flight == 0


@pytest.mark.parametrize("known", [False, True])
async def test_what_turns_out_not_to_be_delivered_fails_its_call(known: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server = Server()
    problem = ServerUnavailable("s", "HTTP 500")
    async with trio.open_nursery() as nursery:
        lost = Calling(nursery, server.link, a_request())
        await settled()
        other = Calling(nursery, server.link, a_request())
        await settled()
        server.link.undelivered(jsonrpc.request(b"1", "tools/call", {}).encode(), problem, known=known)
        server.link.undelivered(jsonrpc.result(b"2", {}).encode(), problem, known=known)
        server.link.undelivered(jsonrpc.request(b"9", "tools/call", {}).encode(), problem, known=known)
        server.replies(2)
    assert (lost.problem, other.problem) == (problem, None)
    assert server.methods() == ["tools/call"] * 2 + ["notifications/cancelled"] * known
    assert "a response was not delivered: server 's': HTTP 500" in caplog.text
    assert server.link.statistics().in_flight == 0


async def test_a_broken_reply_fails_its_call() -> None:
    server = Server()
    async with trio.open_nursery() as nursery:
        call = Calling(nursery, server.link, a_request())
        await settled()
        server.says(id=1, result={}, error={})
    assert isinstance(call.problem, ServerMisbehaved)
    assert server.methods() == ["tools/call"]


# ---- outside a call --------------------------------------------------------------------------------------------------


async def test_pings_are_answered_and_the_rest_is_handed_on() -> None:
    server = Server()
    server.says(id="p", method="ping")
    server.says(method="notifications/tools/list_changed")
    server.says(id=1, method="roots/list")
    assert server.sent == [{"jsonrpc": "2.0", "id": "p", "result": {}}]
    assert [message.method for message in server.outside] == ["notifications/tools/list_changed", "roots/list"]
    server.broken = TooBusy("full")
    server.says(id="p", method="ping")


async def test_a_batch_is_taken_apart() -> None:
    server = Server()
    async with trio.open_nursery() as nursery:
        calls = [Calling(nursery, server.link, a_request()) for _ in range(2)]
        await settled()
        server.link.received(
            b'[{"jsonrpc":"2.0","id":2,"result":{"text":"b"}}, 7, {"jsonrpc":"2.0","id":1,"result":{"text":"a"}}]'
        )
    assert sorted(str(text_of(call.reply)) for call in calls if call.reply is not None) == ["a", "b"]
    server.link.received(b"[")
    assert server.link.junk == 2


@pytest.mark.requirement("4.children.junk")
@pytest.mark.parametrize(
    "line",
    [
        b"text",
        b"\xff\xfe",
        b"7",
        b"null",
        b"{",
        b"{}",
        b'{"jsonrpc":"2.0","id":1,"result":"\x00"}',
        b"[]",
        b"[" * 100_000,
        b'{"jsonrpc":"2.0","result":' + b"[" * 100_000,
        b"[" + b"1," * 100 + b"1]",
        b"[" + b"1," * (BATCH_BYTES // 2) + b"1]",
    ],
    ids=lambda line: repr(line[:20]),
)
async def test_junk_counts_once_and_harms_nothing(line: bytes) -> None:
    server = Server()
    async with trio.open_nursery() as nursery:
        call = Calling(nursery, server.link, a_request())
        await settled()
        server.link.received(line)
        assert server.link.junk == 1
        server.replies(1)
    assert call.reply is not None


async def test_a_faulty_receiver_does_not_end_the_link(caplog: pytest.LogCaptureFixture) -> None:
    def faulty(message: Message) -> None:
        raise ValueError

    link = PipeLink("s", Server(), faulty)
    link.received(b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}')
    assert "could not be handled" in caplog.text


async def test_line_breaks_in_what_is_passed_on_are_removed() -> None:
    sent: list[bytes] = []
    server = Server()
    server.put = sent.append  # type: ignore[method-assign,assignment]  # the bytes themselves are wanted
    await server.link.notify(jsonrpc.decode(b'{"jsonrpc":"2.0","method":"m","params":{\n"a": "b\\n"}}'))
    assert sent == [b'{"jsonrpc":"2.0","method":"m","params":{"a":"b\\n"}}']
