"""What impatient clients get: replies that fit, and deadlines kept by one task."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from trio.testing import MockClock

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Reply
from mcpgateway.calls.impatient import Impatience, Terms
from mcpgateway.errors import CallOverdue
from mcpgateway.jsonrpc import Message, members_of, value_of
from mcpgateway.protocol.revisions import Era
from mcpgateway.sessions.caller import Caller
from mcpgateway.wire.waiting import Wait

CALLER = Caller(Era.LEGACY, "2024-11-05", Raw(b"{}"))
LISTING = jsonrpc.request(b"1", "tools/list")


def fitted(limit: int, result: object, message: Message = LISTING) -> Message:
    impatience = Impatience(Terms("upstream 'u'", reply_bytes=limit))
    return impatience.fitting(CALLER, message, Reply(jsonrpc.result(message.id or b"", result))).message


def tools(message: Message) -> Any:
    """The tools of a listing; Any, for they are JSON."""
    return value_of(members_of(message.result)["tools"])


@pytest.mark.requirement("6.impatient")
@given(st.integers(200, 3000), st.lists(st.text(max_size=60), max_size=60))
def test_a_listing_is_never_longer_than_the_client_takes_and_loses_only_its_end(limit: int, names: list[str]) -> None:
    listed = [{"name": name, "inputSchema": {"type": "object"}} for name in names]
    message = fitted(limit, {"tools": listed, "nextCursor": "c"})
    if message.error is not None:
        assert len(jsonrpc.encode({"tools": listed[:1], "nextCursor": "c"})) > limit - 100
        return
    assert len(message.encode()) <= limit
    kept = tools(message)
    assert kept == listed[: len(kept)]
    assert value_of(members_of(message.result)["nextCursor"]) == "c"
    if len(kept) < len(listed):  # as many as fit
        longer = jsonrpc.result(b"1", {"tools": listed[: len(kept) + 1], "nextCursor": "c"})
        assert len(longer.encode()) > limit


@pytest.mark.requirement("6.impatient")
@pytest.mark.parametrize(
    "result", [{"tools": [{"name": "x" * 1000}]}, {"tools": "x" * 1000}, {"other": "x" * 1000}, ["x" * 1000]]
)
def test_what_cannot_be_made_shorter_becomes_an_error(result: object) -> None:
    message = fitted(500, result)
    assert message.error is not None
    error = value_of(message.error)
    assert isinstance(error, dict)
    assert "and upstream 'u' takes 500 (reply_bytes)" in str(error["message"])


def test_the_tools_that_are_left_out_are_named_whatever_they_are(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    message = fitted(430, {"tools": [{"name": "a"}, {"name": "b" * 400}, {"name": 7}, "odd" * 20]})
    assert tools(message) == [{"name": "a"}]
    assert f": {'b' * 100}, one without a name, one without a name" in caplog.text


@pytest.mark.requirement("6.impatient")
async def test_one_task_keeps_the_deadline_of_every_call(autojump_clock: MockClock) -> None:
    impatience = Impatience(Terms("upstream 'u'", deadline=10.0))
    ended: dict[float, float] = {}

    async def fly(begin: float, last: float) -> None:
        await trio.sleep(begin)
        wait = Wait()
        impatience.enter(wait, LISTING)
        wait.wake = lambda: ended.setdefault(begin, trio.current_time())  # type: ignore[assignment]  # gives something
        await trio.sleep(last)
        impatience.leave(wait)
        assert isinstance(wait.ended, CallOverdue) == (last > 10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(impatience.keep)
        async with trio.open_nursery() as calls:
            began = trio.current_time()
            for begin, last in ((0.0, 3.0), (0.1, 20.0), (4.0, 5.0), (9.9, 11.0), (30.0, 11.0), (95.5, 12.0)):
                calls.start_soon(fly, begin, last)
        nursery.cancel_scope.cancel(reason="the test is over")
    assert {begin: at - began for begin, at in ended.items()} == {
        begin: pytest.approx(begin + 10) for begin in (0.1, 9.9, 30.0, 95.5)
    }
    assert (impatience.calls, impatience.overdue, impatience.flying) == (6, 4, {})
