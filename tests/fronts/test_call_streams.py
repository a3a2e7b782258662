"""The stream of a call and the connection that it began on, which breaks at any moment, or is stuck."""

from __future__ import annotations

from typing import cast

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Event, Reply
from mcpgateway.config.limits import Limits
from mcpgateway.config.model import Config, InProcessServer, Listen
from mcpgateway.errors import CallCancelled, GatewayError
from mcpgateway.fronts.replies import HttpBack
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.revisions import Era
from mcpgateway.sessions.caller import Caller
from mcpgateway.sessions.outbox import Outboxes
from mcpgateway.sessions.store import Session
from mcpgateway.sessions.streams import Stream, UnknownEvent
from mcpgateway.wire.bounds import Bounds
from mcpgateway.wire.http1.exchange import Exchange
from mcpgateway.wire.sse import Frame, Parser
from mcpgateway.wire.transport import TransportBroken
from mcpgateway.wire.waiting import Wait
from tests.calls.doubles import gateway_of, space
from tests.calls.seminar import FORM, opened, seminar

REPLY = jsonrpc.result(b"1", {})


def note(number: int) -> Message:
    return jsonrpc.notification("notifications/message", {"data": number})


class Breaks:
    """A connection that takes so many writes and breaks in the next."""

    def __init__(self, after: int = 1_000_000) -> None:
        self.started = False
        self.ended = False
        self.data = b""
        self._left = after

    def stream(self, status: int, headers: bytes, *, beat: bytes = b"") -> None:
        self.started = True

    async def write(self, data: bytes, *, last: bool = False) -> None:
        await trio.lowlevel.checkpoint()
        if not self._left:
            raise TransportBroken("the peer has gone")
        self._left -= 1
        self.data += data
        self.ended = last

    def break_off(self, reason: str) -> None:
        self._left = 0

    async def finish(self) -> None:
        if not self.ended:
            await self.write(b"", last=True)

    @property
    def frames(self) -> list[Frame]:
        return Parser().feed(self.data)


class Stuck(Breaks):
    """One that hangs in the next instead, until it is told to break."""

    def __init__(self, after: int) -> None:
        super().__init__(after)
        self.stuck, self.breaks = trio.Event(), trio.Event()

    async def write(self, data: bytes, *, last: bool = False) -> None:
        if not self._left:
            self.stuck.set()
            await self.breaks.wait()
        await super().write(data, last=last)

    def break_off(self, reason: str) -> None:
        super().break_off(reason)
        self.breaks.set()


def back_on(connection: Breaks, session: Session) -> HttpBack:
    return HttpBack(cast(Exchange, connection), b"", outlived=True, owner=session)


def session() -> Session:
    return Session("s", "", Caller(Era.LEGACY, "2025-11-25", Raw(b"{}")), "", Outboxes(Bounds(Limits())))


class Reader:
    def __init__(self) -> None:
        self.events: list[Event] = []

    async def send(self, event: Event) -> None:
        await trio.lowlevel.checkpoint()
        if event.message is not None:
            self.events.append(event)

    @property
    def messages(self) -> list[bytes]:
        return [event.message.encode() for event in self.events if event.message is not None]


async def resumed(stream: Stream, last_event: bytes) -> list[bytes]:
    """What a client gets that comes back, to the end of the stream."""
    reader, wait = Reader(), Wait()
    stream.attach(wait, last_event)
    await stream.drain(wait, reader)
    stream.detach(wait)
    return reader.messages


@given(breaks=st.integers(1, 9), arrives=st.integers(0, 9), events=st.integers(1, 6))
def test_wherever_a_connection_breaks_its_client_gets_everything_once_and_in_order(
    breaks: int, arrives: int, events: int
) -> None:
    """The last of what was written may never have arrived."""

    async def play() -> None:
        mine, connection = session(), Breaks(breaks)
        back = back_on(connection, mine)
        messages = [note(number) for number in range(events)]
        for message in messages:
            await back.send(Event(message))
        try:
            await back.reply(Reply(REPLY), b"1", Era.LEGACY)
        except TransportBroken:
            assert breaks <= events
        prime, *came = connection.frames
        had = came[:arrives]
        last = [prime, *had][-1].id
        assert last is not None
        rest = await resumed(mine.outbox.find(last), last)
        assert [*(frame.data for frame in had), *rest] == [message.encode() for message in (*messages, REPLY)]

    trio.run(play)


async def test_a_client_that_comes_back_while_its_connection_is_stuck_gets_everything_once() -> None:
    mine, connection = session(), Stuck(1)
    back = back_on(connection, mine)
    await back.send(Event(note(0)))
    last = connection.frames[-1].id
    assert last is not None
    got: list[bytes] = []

    async def come_back() -> None:
        got.extend(await resumed(mine.outbox.find(last), last))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(back.send, Event(note(1)))
        await connection.stuck.wait()
        nursery.start_soon(come_back)
        await trio.testing.wait_all_tasks_blocked()
        await back.send(Event(note(2)))
        with pytest.raises(TransportBroken):
            await back.reply(Reply(REPLY), b"1", Era.LEGACY)
    assert got == [note(1).encode(), note(2).encode(), REPLY.encode()]
    assert len(mine.outbox) == 0


async def test_an_error_is_kept_like_a_reply() -> None:
    mine, connection = session(), Breaks(1)
    back = back_on(connection, mine)
    for number in range(2):
        await back.send(Event(note(number)))
    assert len(mine.outbox) == 1  # the other was sent
    with pytest.raises(TransportBroken):
        await back.fail(GatewayError("no"), b"1", Era.LEGACY)
    *_, last = await resumed(mine.outbox.find(b"1-0"), b"1-0")
    assert jsonrpc.error_code(jsonrpc.decode(last)) == -32603


@pytest.mark.parametrize("how", ["cancelled", "crashed"])
async def test_a_call_that_has_no_reply_ends_its_stream_all_the_same(how: str) -> None:
    mine, connection = session(), Breaks()
    back = back_on(connection, mine)
    await back.send(Event(note(0)))
    stream = mine.outbox.find(b"1-0")
    if how == "cancelled":
        await back.fail(CallCancelled("by the client"), b"1", Era.LEGACY)
        assert connection.ended
    back.abandon()
    assert await resumed(stream, b"1-1") == []


# ---- in virtual time -------------------------------------------------------------------------------------------------


@pytest.mark.requirement("bridge.resumability.legacy-to-modern")
async def test_a_client_that_stays_away_is_told_that_it_was_too_late_until_its_session_ends(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It is cut off in a question, comes back after the call has timed out, and then no more."""
    adapter = seminar("a", {"inputRequests": {"one": FORM}})
    patient = InProcessServer("a", module="m:s", timeout=10.0)
    config = Config(listen=Listen(limits=Limits(session_idle_timeout=1000.0)))
    async with gateway_of(adapter, configs={"a": patient}, config=config) as gateway:
        caller = await opened(gateway, space(gateway, "a"), b'{"elicitation":{}}')
        mine = caller.session
        assert mine is not None
        connection = Breaks(1)
        back = back_on(connection, mine)
        message = jsonrpc.request(b"1", "tools/call", {"name": "ask", "arguments": {}})
        reply = await space(gateway, "a").serve(caller, message, Wait(), back)
        with pytest.raises(TransportBroken):
            await back.reply(reply, b"1", Era.LEGACY)
        assert 10 <= trio.current_time() < 13

        await trio.sleep(900)
        prime = connection.frames[0]
        assert prime.id is not None
        got = [jsonrpc.decode(data) for data in await resumed(mine.outbox.find(prime.id), prime.id)]
        assert [each.method for each in got] == ["elicitation/create", "notifications/cancelled", None]
        assert b"did not answer what it was asked" in bytes(got[-1].result or b"")
        assert gateway.bounds.outboxes.held > 0

        await trio.sleep(2000)
        assert (len(gateway.sessions), gateway.bounds.outboxes.held) == (0, 0)
        with pytest.raises(UnknownEvent):
            mine.outbox.find(prime.id)


async def test_a_question_that_finds_no_room_is_refused_in_the_place_of_a_client_that_is_away(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = seminar("a", {"inputRequests": {"one": FORM}})
    config = Config(listen=Listen(limits=Limits(outbox_events_per_session=1)))
    async with gateway_of(adapter, config=config) as gateway:
        caller = await opened(gateway, space(gateway, "a"), b'{"elicitation":{}}')
        mine = caller.session
        assert mine is not None
        replies: list[Reply] = []

        async def ask() -> None:
            message = jsonrpc.request(b"1", "tools/call", {"name": "ask", "arguments": {}})
            replies.append(await space(gateway, "a").serve(caller, message, Wait(), back_on(Breaks(0), mine)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            assert len(mine.questions) == 1
            mine.outbox.put(note(1))
        assert b"does not take what servers ask it" in bytes(replies[0].message.result or b"")
        assert (trio.current_time(), mine.questions) == (0, {})


async def test_a_reload_changes_what_may_be_kept() -> None:
    mine = session()
    bounds = mine.outbox._all.bounds
    bounds.change(Limits(outbox_events_per_session=1))
    for number in range(3):
        mine.outbox.put(note(number))
    assert len(mine.outbox) == 1
