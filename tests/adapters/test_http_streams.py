"""Streams of legacy servers over HTTP: passed through to the client of a session, or listened to by the link itself."""

from __future__ import annotations

import json
import logging
from contextlib import AbstractAsyncContextManager
from itertools import pairwise

import pytest
import trio
import trio.testing

from mcpgateway import jsonrpc
from mcpgateway.adapters import http_link, http_streams
from mcpgateway.adapters.base import Event, NoStream, Request, StreamEnded
from mcpgateway.adapters.http_link import StreamableHttpLink
from mcpgateway.adapters.http_replies import EventReader
from mcpgateway.adapters.http_streams import IN_VAIN, Streams
from mcpgateway.errors import ServerError, ServerMisbehaved, ServerTimeout, ServerUnavailable
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.client import Client, open_client
from mcpgateway.wire.http1.responses import Response
from mcpgateway.wire.waiting import Wait
from tests.adapters.http_peer import (
    INITIALIZED,
    OK,
    REPLY,
    SOON,
    Answer,
    Asked,
    Peer,
    Reach,
    Recorder,
    a_request,
    call,
    http,
    raw,
    result,
    stream_of,
    text_of,
)

CHANGED = b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'
PROGRESS = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}'
OPEN = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
CUT_OFF = stream_of(b"id: e1\nretry: 500\ndata:\n\n")
"""A stream that the server leaves after its priming event."""


@pytest.fixture(autouse=True)
def in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most servers here never answer the GET of a link that hears for itself; in life a link waits a second for it."""
    monkeypatch.setattr(http_link, "ATTENTION", 0.01)


def answering(id: int) -> Answer:
    """The stream that brings the reply of the call of that id (on the wire)."""
    return stream_of(b"id: e2\ndata: " + REPLY.replace(b"$id", b"%d" % id) + b"\n\n")


def in_turn(*answers: Answer) -> Answer:
    """One answer after the other, and the last again and again."""
    left = list(answers)

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(asked, stream)

    return answer


class Opened:
    """Whether the stream was known to be there, and after how many events."""

    def __init__(self, back: Recorder) -> None:
        self.after: list[int] = []
        self._back = back

    async def __call__(self) -> None:
        await trio.lowlevel.checkpoint()
        self.after.append(len(self._back.events))


def link_of(client: Client) -> StreamableHttpLink:
    assert isinstance(client.link, StreamableHttpLink)
    return client.link


async def listen(client: Client, last_event: bytes | None = None, wait: Wait | None = None) -> list[Event]:
    """The events of one stream, to its end."""
    back = Recorder()
    opened = Opened(back)
    with trio.fail_after(SOON):
        await link_of(client).listen(last_event, wait or Wait(), back, opened)
    assert opened.after == [0]
    return back.events


def sent(event: Event) -> tuple[bytes | None, bytes | None, bytes | None]:
    return event.id, event.retry, None if event.message is None else event.message.encode()


# ---- for the client whose session it is ------------------------------------------------------------------------------


async def test_a_stream_passes_with_its_ids_and_is_asked_for_in_the_session(peer: Peer, reach: Reach) -> None:
    peer.answers["GET"] = stream_of(b"retry: 700\nid: 1\ndata:\n\n", b": quiet\n\nid: 2\ndata: " + CHANGED + b"\n\n")
    async with open_client(reach(headers={}), Era.LEGACY) as client:
        events = await listen(client, b"e-0")
        assert client.link.statistics().in_flight == 0
    assert [sent(event) for event in events] == [(b"1", b"700", None), (b"2", None, CHANGED)]
    asked = await peer.until_asked("GET")
    names = ("mcp-session-id", "mcp-protocol-version", "last-event-id")
    assert [asked.headers[name] for name in names] == ["s1", "2025-11-25", "e-0"]
    assert "text/event-stream" in asked.headers["accept"]


async def test_a_stream_that_is_not_resumed_names_no_event(peer: Peer, reach: Reach) -> None:
    peer.answers["GET"] = stream_of()
    async with open_client(reach(), Era.LEGACY) as client:
        assert await listen(client) == []
    assert "last-event-id" not in (await peer.until_asked("GET")).headers


@pytest.mark.parametrize("status", [400, 404, 405, 406, 409, 410, 429])
async def test_a_refusal_is_the_servers_own_and_ends_nothing(status: int, peer: Peer, reach: Reach) -> None:
    peer.answers["GET"] = http(status, "text/plain", b"no")
    async with open_client(reach(), Era.LEGACY) as client:
        with pytest.raises(NoStream) as caught:
            await listen(client)
        assert caught.value.status == status
        assert text_of(await call(client.link)) == "ok"


NO_STREAMS: dict[str, tuple[Answer, type[ServerError]]] = {
    "accepted": (http(202), ServerMisbehaved),
    "no content": (http(204), ServerMisbehaved),
    "redirect": (http(302, Location="/elsewhere"), ServerMisbehaved),
    "not authenticated": (http(401), ServerUnavailable),
    "crashed": (http(500, "text/html", b"<html>"), ServerUnavailable),
    "HTML": (http(200, "text/html", b"<html>"), ServerMisbehaved),
    "JSON": (result(OK), ServerMisbehaved),
    "gone": (raw(b"", close=True), ServerUnavailable),
    "a stream that breaks": (raw(OPEN, close=True), ServerUnavailable),
}


@pytest.mark.parametrize(("answer", "kind"), NO_STREAMS.values(), ids=NO_STREAMS)
async def test_what_is_no_stream_is_the_servers_fault(
    answer: Answer, kind: type[ServerError], peer: Peer, reach: Reach
) -> None:
    peer.answers["GET"] = answer
    async with open_client(reach(), Era.LEGACY) as client:
        with pytest.raises(kind):
            await listen(client)
        assert text_of(await call(client.link)) == "ok"


async def test_a_modern_link_has_no_stream(peer: Peer, reach: Reach) -> None:
    async with open_client(reach(), Era.MODERN) as client:
        with pytest.raises(NoStream) as caught:
            await listen(client)
    assert caught.value.status == 405
    assert "GET" not in peer.methods()


@pytest.mark.parametrize("by", ["the client", "the end of the link"])
async def test_a_stream_that_is_left_is_closed_at_the_server(by: str, peer: Peer, reach: Reach) -> None:
    peer.answers["GET"] = peer.hang(OPEN)
    adapter, wait, why = reach(), Wait(), ServerTimeout("s", "enough")
    async with open_client(adapter, Era.LEGACY) as client, trio.open_nursery() as nursery:
        problems: list[ServerError] = []

        async def listening() -> None:
            try:
                await listen(client, wait=wait)
            except ServerError as problem:
                problems.append(problem)

        nursery.start_soon(listening)
        await peer.until_asked("GET")
        await trio.testing.wait_all_tasks_blocked()
        if by == "the client":
            wait.end(why)
        else:
            await client.link.aclose()
        await peer.gone.wait()
    assert [type(problem) for problem in problems] == [ServerTimeout if by == "the client" else ServerUnavailable]
    assert not adapter.client.open_connections


# ---- calls that are cut off, for the client --------------------------------------------------------------------------


async def test_a_client_that_resumes_a_stream_which_is_still_read_gets_the_reply_there(
    peer: Peer, reach: Reach
) -> None:
    """It has lost its own connection only: the server's to us is whole, and silent from then on."""
    async with open_client(reach(), Era.LEGACY) as client, trio.open_nursery() as nursery:
        await call(client.link)
        peer.answers["tools/call"] = peer.hang(OPEN + b"f\r\nid: e1\ndata: \n\n\r\n")
        ended: list[StreamEnded] = []

        async def calling() -> None:
            try:
                await call(client.link)
            except StreamEnded as problem:
                ended.append(problem)

        nursery.start_soon(calling)
        await peer.until_asked("tools/call", 2)
        await trio.testing.wait_all_tasks_blocked(0.01)
        peer.answers["GET"] = answering(2)
        (event,) = await listen(client, b"e1")
        assert event.message is not None
        assert event.message.id == b'"client"'
        await peer.gone.wait()
    assert ["the stream that the client resumed" in problem.message for problem in ended] == [True]
    assert "notifications/cancelled" not in peer.methods()


BREAKS = {
    "ended": CUT_OFF,
    "broken": raw(OPEN + b"f\r\nid: e1\ndata: \n\n\r\n", close=True),
    "broken within an event": raw(OPEN + b"16\r\nid: e1\ndata: \n\ndata: {\r\n", close=True),
}


@pytest.mark.parametrize("answer", BREAKS.values(), ids=BREAKS)
async def test_the_reply_of_a_call_that_was_cut_off_comes_under_the_clients_id(
    answer: Answer, peer: Peer, reach: Reach
) -> None:
    async with open_client(reach(), Era.LEGACY) as client:
        await call(client.link)  # so that the ids on the wire are not by chance the client's
        peer.answers["tools/call"] = answer
        with pytest.raises(StreamEnded):
            await call(client.link)
        peer.answers["GET"] = answering(2)
        (event,) = await listen(client, b"e1")
        assert event.message is not None
        assert (event.id, event.message.id) == (b"e2", b'"client"')
        assert json.loads(event.message.encode())["result"] == OK
    assert "notifications/cancelled" not in peer.methods()
    assert (await peer.until_asked("GET")).headers["last-event-id"] == "e1"


async def test_a_stream_without_ids_cannot_be_resumed(peer: Peer, reach: Reach) -> None:
    peer.answers["tools/call"] = stream_of(b"data: " + PROGRESS + b"\n\n")
    async with open_client(reach(), Era.LEGACY) as client:
        with pytest.raises(ServerMisbehaved, match="without a reply") as caught:
            await call(client.link)
        assert not isinstance(caught.value, StreamEnded)
        await peer.until_asked("notifications/cancelled")


async def test_a_modern_stream_cannot_be_resumed(peer: Peer, reach: Reach) -> None:
    peer.answers["tools/call"] = CUT_OFF
    async with open_client(reach(), Era.MODERN) as client:
        with pytest.raises(ServerMisbehaved) as caught:
            await call(client.link)
        assert not isinstance(caught.value, StreamEnded)


async def test_a_reply_that_was_given_already_can_be_fetched_again(peer: Peer, reach: Reach) -> None:
    """Its client may have gone before it was sent on."""
    peer.answers["tools/call"] = stream_of(b"id: e1\ndata:\n\n", b"id: e2\ndata: " + REPLY + b"\n\n")
    peer.answers["GET"] = answering(1)
    async with open_client(reach(), Era.LEGACY) as client:
        assert text_of(await call(client.link)) == "ok"
        (event,) = await listen(client, b"e1")
        assert event.message is not None
        assert event.message.id == b'"client"'


async def test_a_response_to_nothing_is_dropped_from_a_stream(peer: Peer, reach: Reach) -> None:
    peer.answers["GET"] = answering(7)
    async with open_client(reach(), Era.LEGACY) as client:
        (event,) = await listen(client)
    assert sent(event) == (b"e2", None, None)


async def test_a_call_that_was_cut_off_is_cancelled_under_the_id_that_the_server_knows(
    peer: Peer, reach: Reach
) -> None:
    async with open_client(reach(), Era.LEGACY) as client:
        await call(client.link)
        peer.answers["tools/call"] = CUT_OFF
        with pytest.raises(StreamEnded):
            await call(client.link)
        for id in ("another", "client"):
            await client.link.notify(jsonrpc.notification("notifications/cancelled", {"requestId": id, "reason": "x"}))
    (told,) = [asked.message["params"] for asked in peer.asked if asked.method == "notifications/cancelled"]
    assert told == {"requestId": 2, "reason": "x"}


def test_the_oldest_of_many_calls_is_forgotten() -> None:
    async def get(last_event: bytes | None, wait: Wait) -> Response:
        raise AssertionError

    streams = Streams("s", get, lambda: 0.0, stateful=True)
    for number in range(http_streams.NOTED + 1):
        streams.note(b"%d" % number, b'"c%d"' % number)
    first, last = (streams.under_the_clients_id(jsonrpc.result(b"%d" % n, {})) for n in (0, http_streams.NOTED))
    assert first is None
    assert last is not None


# ---- calls that are cut off, for the link ----------------------------------------------------------------------------


def resuming(peer: Peer, reach: Reach) -> AbstractAsyncContextManager[Client]:
    """A client on a link that resumes calls itself, and without a session hears nothing else."""
    peer.answers["initialize"] = result(INITIALIZED)
    return open_client(reach(), Era.LEGACY, hears=True)


async def pass_time(clock: trio.testing.MockClock, done: trio.Event, step: float = 0.05) -> None:
    """Let time pass whenever everybody waits, until ``done``."""
    while not done.is_set():
        await trio.testing.wait_all_tasks_blocked(0.001)
        if not done.is_set():
            clock.jump(step)


async def resumed(client: Client, clock: trio.testing.MockClock, wait: Wait | None = None) -> Recorder:
    """Make a call whose stream is cut off, in as much time as it takes."""
    back, done = Recorder(), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pass_time, clock, done)
        try:
            reply = await client.link.call(a_request(client.link, wait), back)
            assert text_of(reply) == "ok"
        finally:
            done.set()
    return back


@pytest.mark.requirement("bridge.resumability.modern-to-legacy")
@pytest.mark.requirement("4.http.pool")
@pytest.mark.parametrize("answer", BREAKS.values(), ids=BREAKS)
async def test_a_link_that_hears_resumes_a_call_itself(
    answer: Answer, peer: Peer, reach: Reach, mock_clock: trio.testing.MockClock
) -> None:
    async with resuming(peer, reach) as client:
        peer.answers["tools/call"] = answer
        peer.answers["GET"] = stream_of(
            b"id: e2\ndata: " + PROGRESS + b"\n\n", b"data: " + REPLY.replace(b"$id", b"1") + b"\n\n"
        )
        began = trio.current_time()
        back = await resumed(client, mock_clock)
        wanted = 0.5 if answer is CUT_OFF else http_streams.RETRY
        assert wanted <= trio.current_time() - began < wanted + 0.2
    assert [event.id for event in back.events] == [b"e1", b"e2"]
    assert (await peer.until_asked("GET")).headers["last-event-id"] == "e1"
    assert "notifications/cancelled" not in peer.methods()


async def test_a_stream_is_resumed_as_often_as_it_brings_something(
    peer: Peer, reach: Reach, mock_clock: trio.testing.MockClock
) -> None:
    rounds = [stream_of(b"id: r%d\ndata:\n\n" % n) for n in range(2 * IN_VAIN)]
    async with resuming(peer, reach) as client:
        peer.answers["tools/call"] = CUT_OFF
        peer.answers["GET"] = in_turn(*rounds, raw(b"", close=True), answering(1))
        await resumed(client, mock_clock)
    asked = [asked.headers["last-event-id"] for asked in peer.asked if asked.method == "GET"]
    assert asked == ["e1", *(f"r{n}" for n in range(2 * IN_VAIN)), f"r{2 * IN_VAIN - 1}"]


@pytest.mark.parametrize(
    ("answer", "times"),
    [(http(404), 1), (http(405), 1), (stream_of(b": nothing\n\n"), IN_VAIN), (raw(b"", close=True), IN_VAIN)],
    ids=["forgotten", "not allowed", "nothing comes", "gone"],
)
async def test_a_stream_that_cannot_be_resumed_fails_its_call_and_the_server_is_told(
    answer: Answer, times: int, peer: Peer, reach: Reach, mock_clock: trio.testing.MockClock
) -> None:
    async with resuming(peer, reach) as client:
        peer.answers["tools/call"] = CUT_OFF
        peer.answers["GET"] = answer
        with pytest.raises(ExceptionGroup) as caught:
            await resumed(client, mock_clock)
        assert caught.group_contains(ServerMisbehaved, match="cut off and cannot be resumed")
        await peer.until_asked("notifications/cancelled")
        peer.answers["tools/call"] = result(OK)
        assert text_of(await call(client.link)) == "ok"
    assert peer.methods().count("GET") == times


async def test_a_call_is_not_resumed_past_its_end(peer: Peer, reach: Reach, mock_clock: trio.testing.MockClock) -> None:
    wait = Wait()
    async with resuming(peer, reach) as client, trio.open_nursery() as nursery:
        peer.answers["tools/call"] = CUT_OFF
        started = client.start(nursery, "t", wait=wait)
        await peer.until_asked("tools/call")
        await trio.testing.wait_all_tasks_blocked(0.01)
        wait.end(why := ServerTimeout("s", "enough"))
        assert await started.problem() is why
        await peer.until_asked("notifications/cancelled")
    assert "GET" not in peer.methods()


# ---- what the link hears ---------------------------------------------------------------------------------------------


@pytest.mark.requirement("4.http.pool")
async def test_what_comes_outside_calls_is_handed_over_and_the_stream_resumed(
    peer: Peer, reach: Reach, mock_clock: trio.testing.MockClock
) -> None:
    first = stream_of(
        b"retry: 300\nid: 1\ndata: " + CHANGED + b"\n\n", b"data: " + REPLY.replace(b"$id", b"9") + b"\n\n"
    )
    peer.answers["GET"] = in_turn(first, peer.hang(OPEN + b"%x\r\ndata: %b\n\n\r\n" % (len(CHANGED) + 8, CHANGED)))
    adapter = reach()
    async with open_client(adapter, Era.LEGACY, hears=True) as client, trio.open_nursery() as nursery:
        done = trio.Event()
        nursery.start_soon(pass_time, mock_clock, done)
        for _ in range(2):
            assert (await client.received.next()).method == "notifications/tools/list_changed"
        done.set()
        assert trio.current_time() < 0.5
        assert len(client.received.messages) == 2
    await peer.gone.wait()
    asked = [asked.headers.get("last-event-id") for asked in peer.asked if asked.method == "GET"]
    assert asked == [None, "1"]
    assert peer.methods()[:4] == ["initialize", "notifications/initialized", "GET", "GET"]
    assert not adapter.client.open_connections


@pytest.mark.parametrize(
    "answer",
    [http(405), http(404), http(401), http(302), http(200, "text/html", b"<html>")],
    ids=["405", "404", "401", "302", "HTML"],
)
async def test_a_server_that_offers_no_stream_is_asked_once_and_quietly(
    answer: Answer,
    peer: Peer,
    reach: Reach,
    mock_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    peer.answers["GET"] = answer
    async with open_client(reach(), Era.LEGACY, hears=True) as client:
        await peer.until_asked("GET")
        await trio.testing.wait_all_tasks_blocked(0.01)
        mock_clock.jump(3600)
        assert text_of(await call(client.link)) == "ok"
    assert peer.methods().count("GET") == 1
    assert {record.levelno for record in caplog.records} == {logging.INFO}


async def test_a_session_that_is_lost_between_two_streams_ends_the_link(
    peer: Peer, reach: Reach, mock_clock: trio.testing.MockClock
) -> None:
    peer.answers["GET"] = in_turn(stream_of(), http(404))
    async with open_client(reach(), Era.LEGACY, hears=True) as client, trio.open_nursery() as nursery:
        nursery.start_soon(pass_time, mock_clock, client.link.closed)
        await client.link.closed.wait()
        assert "no longer knows the session" in client.link.failure


async def test_a_stream_that_fails_is_asked_for_less_and_less_often(
    peer: Peer, reach: Reach, mock_clock: trio.testing.MockClock
) -> None:
    times: list[float] = []

    async def note(asked: Asked, stream: trio.SocketStream) -> None:
        times.append(trio.current_time())
        await (http(503) if len(times) < 6 else peer.hang(OPEN))(asked, stream)

    peer.answers["GET"] = note
    adapter = reach()
    adapter.chance = lambda: 0.0
    async with open_client(adapter, Era.LEGACY, hears=True), trio.open_nursery() as nursery:
        done = trio.Event()
        nursery.start_soon(pass_time, mock_clock, done, 0.2)
        await peer.until_asked("GET", 6)
        done.set()
    pauses = [after - before for before, after in pairwise(times)]
    assert pauses == pytest.approx([2, 4, 8, 16, 32], rel=0.2, abs=0.4)


async def test_a_server_without_sessions_is_not_asked_for_a_stream(peer: Peer, reach: Reach) -> None:
    peer.answers["initialize"] = result(INITIALIZED)
    async with open_client(reach(), Era.LEGACY, hears=True) as client:
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert text_of(await call(client.link)) == "ok"
    assert "GET" not in peer.methods()


async def test_what_is_no_message_in_a_stream_is_dropped(peer: Peer, reach: Reach) -> None:
    peer.answers["GET"] = stream_of(b"data: {\n\n", b"event: ping\ndata: {}\n\n", b"data: " + CHANGED + b"\n\n")
    async with open_client(reach(), Era.LEGACY) as client:
        (event,) = await listen(client)
    assert sent(event) == (None, None, CHANGED)


@pytest.mark.parametrize(("retry", "seconds"), [(b"0", 0.05), (b"1500", 1.5), (b"9" * 5000, 60.0)])
async def test_a_retry_is_kept_within_bounds(retry: bytes, seconds: float) -> None:
    reader = EventReader("s", 200, b"1")
    reader.feed(b"retry: " + retry + b"\n\n")
    assert reader.retry == seconds


async def test_an_event_without_an_id_leaves_the_last_one_and_an_empty_one_takes_it_back() -> None:
    reader = EventReader("s", 200, b"1", resumes=True)
    seen = []
    for piece in (b"data: x\n\n", b"id: a\ndata:\n\n", b"data: " + CHANGED + b"\n\n", b"id:\ndata:\n\n"):
        reader.feed(piece)
        seen.append(reader.resumable)
    assert seen == [False, True, True, False]


# ---- what the server asks outside the stream of a call ---------------------------------------------------------------

ASKS = b'{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"?"}}'


class Asking:
    """A server that asks on its stream outside calls, once so many calls wait, and answers them when told."""

    def __init__(self, peer: Peer, calls: int) -> None:
        self.answered = trio.Event()
        self._peer, self._calls = peer, calls
        peer.answers["tools/call"] = self._call
        peer.answers["GET"] = self._stream

    async def _call(self, asked: Asked, stream: trio.SocketStream) -> None:
        await self.answered.wait()
        await result(OK)(asked, stream)

    async def _stream(self, asked: Asked, stream: trio.SocketStream) -> None:
        await self._peer.until_asked("tools/call", self._calls)
        await self._peer.hang(OPEN + b"%x\r\nid: 5\ndata: %b\n\n\r\n" % (len(ASKS) + 14, ASKS))(asked, stream)


class Answering:
    """The back-channel of a client that is asked: it lets the server answer the call."""

    def __init__(self, server: Asking, fails: bool = False) -> None:
        self.events: list[Event] = []
        self._server, self._fails = server, fails

    async def send(self, event: Event) -> None:
        await trio.lowlevel.checkpoint()
        self.events.append(event)
        self._server.answered.set()
        if self._fails:
            raise ConnectionResetError


def alone(client: Client) -> Request:
    request = a_request(client.link)
    return Request(request.message, request.wait, request.headers, alone=True)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_call_that_is_alone_gets_what_the_server_asks_on_another_stream(
    fails: bool, peer: Peer, reach: Reach
) -> None:
    server = Asking(peer, 1)
    back = Answering(server, fails)
    async with open_client(reach(), Era.LEGACY, hears=True) as client:
        with trio.fail_after(SOON):
            assert text_of(await client.link.call(alone(client), back)) == "ok"
        assert client.received.messages == []
        assert not client.link.closed.is_set()
    assert [sent(event) for event in back.events] == [(None, None, ASKS)]


@pytest.mark.parametrize("calls", [1, 2])
async def test_a_question_that_may_be_about_any_call_is_nobodys(calls: int, peer: Peer, reach: Reach) -> None:
    """One call that shares the link, or two that were each told that they do not."""
    server = Asking(peer, calls)
    async with open_client(reach(), Era.LEGACY, hears=True) as client, trio.open_nursery() as nursery:
        backs = [Recorder() for _ in range(calls)]
        for back in backs:
            request = a_request(client.link) if calls == 1 else alone(client)
            nursery.start_soon(client.link.call, request, back)
        with trio.fail_after(SOON):
            assert (await client.received.next()).encode() == ASKS
        server.answered.set()
    assert [back.events for back in backs] == [[]] * calls
