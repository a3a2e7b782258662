"""Calls of which nothing is known for long: their responses begin as event streams that are kept alive and resumed."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcpgateway.config.model import Listen
from mcpgateway.fronts.listener import BEAT
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.http import serve_fixture
from mcpgateway.wire.sse import COMMENT, Frame, Parser
from tests.adapters.http_peer import OK, Asked, Peer, error, result
from tests.fronts.site import POST, Client, Session, Site, adapters, call, events, gone, modern, notification, site
from tests.wire.http1.peers import Answer

PATH = "/mcp/one"
AFTER = 10.0
LEGACY, MODERN = frozenset({Era.LEGACY}), frozenset({Era.MODERN})
SLOW = call(1, "slow", {"name": "s"})


@attrs.frozen
class Place:
    """A gateway with one server, and time that goes by when it is told to."""

    gateway: Site
    clock: MockClock

    async def begin(self, revision: str = "2025-11-25") -> Session:
        return await (await self.gateway.dial()).initialize(PATH, revision=revision)

    async def slow(self, session: Session | None, message: object = SLOW, accept: str = POST["Accept"]) -> Client:
        """A call that its server does not answer yet; without a session it is a modern one."""
        await self.say(session, call(98, "echo", {"text": "known"}))  # what is known can be called without a task
        client = await self.gateway.dial()
        headers = {**POST, "Accept": accept}
        if session is None:
            message, own = modern(SLOW)
            headers |= own
        else:
            headers |= session.headers
        await client.start("POST", PATH, message, headers)
        while not any(link.in_flight for server in self.gateway.gateway.statistics().servers for link in server.links):
            await wait_all_tasks_blocked(0.001)
        return client

    async def release(self, session: Session | None) -> None:
        await self.say(session, call(99, "release"))

    async def say(self, session: Session | None, message: dict[str, object]) -> None:
        client = await self.gateway.dial()
        await (client.modern(PATH, message) if session is None else session.post(client, message))

    async def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds * 2)):
            await wait_all_tasks_blocked()
            self.clock.jump(0.5)
        await wait_all_tasks_blocked()


@asynccontextmanager
async def place(
    clock: MockClock, eras: frozenset[Era], *, http: bool, stream_after: float | None = AFTER
) -> AsyncIterator[Place]:
    """``http`` servers are called without a task where that can be."""
    async with AsyncExitStack() as stack:
        listen = Listen(stream_after=stream_after)
        if http:
            fixture = await stack.enter_async_context(serve_fixture(eras=eras))
            serving = partial(site, urls={"one": fixture.url})
        else:
            serving = partial(site, adapters("one", eras=eras))
        gateway = await stack.enter_async_context(serving(listen=listen, shutdown_timeout=0.1, guard=math.inf))
        yield Place(gateway, clock)


def received(client: Client) -> bytes:
    """What there is of the body that a client receives, without waiting for more."""
    return bytes(client._answers.body)


async def frames(client: Client, count: int) -> list[Frame]:
    while len(found := Parser().feed(received(client))) < count:
        await client.more()
    return found


def message(answer: Answer) -> dict[str, object]:
    (found,) = events(answer)
    assert isinstance(found, dict)
    return found


OWN = pytest.mark.parametrize(
    ("eras", "http"),
    [(LEGACY, False), (MODERN, False), (MODERN, True)],
    ids=["a pipe", "across the eras", "across the eras, without a task"],
)
"""Servers in front of which a legacy client's streams are the gateway's."""
ANY = pytest.mark.parametrize("http", [False, True], ids=["with a task", "without a task"])


@pytest.mark.requirement("bridge.resumability.legacy-to-modern")
@OWN
async def test_a_legacy_client_whose_connection_breaks_in_a_silent_call_comes_back_for_the_reply(
    eras: frozenset[Era], http: bool, mock_clock: MockClock
) -> None:
    async with place(mock_clock, eras, http=http) as at:
        session = await at.begin()
        client = await at.slow(session)
        await at.pass_time(AFTER - 0.5)
        assert received(client) == b""
        await at.pass_time(AFTER / 4 + 0.5)
        (prime,) = await frames(client, 1)
        assert (prime.data, prime.retry) == (b"", b"1000")
        assert prime.id is not None
        await client.aclose()

        again = await at.gateway.dial()
        resuming = {"Accept": "text/event-stream", "Last-Event-ID": prime.id.decode(), **session.headers}
        await again.start("GET", PATH, b"", resuming)
        await frames(again, 1)
        await at.release(session)
        reply = message(await again.answer())
        assert (reply["id"], "result" in reply) == (1, True)
        await gone(at.gateway)


@OWN
async def test_a_reply_that_a_client_was_cut_off_from_waits_for_it(
    eras: frozenset[Era], http: bool, mock_clock: MockClock
) -> None:
    async with place(mock_clock, eras, http=http) as at:
        session = await at.begin()
        client = await at.slow(session)
        await at.pass_time(AFTER * 1.5)
        (prime,) = await frames(client, 1)
        assert prime.id is not None
        await client.aclose()
        await at.release(session)
        await at.gateway.idle()

        again = await at.gateway.dial()
        resuming = {"Accept": "text/event-stream", "Last-Event-ID": prime.id.decode(), **session.headers}
        assert message(await again.ask("GET", PATH, b"", resuming))["id"] == 1


@pytest.mark.parametrize(
    ("era", "eras", "http"),
    [
        (Era.LEGACY, LEGACY, False),
        (Era.LEGACY, LEGACY, True),
        (Era.LEGACY, MODERN, True),
        (Era.MODERN, MODERN, False),
        (Era.MODERN, MODERN, True),
        (Era.MODERN, LEGACY, True),
    ],
)
async def test_comments_keep_the_stream_of_a_silent_call_alive_until_its_reply(
    era: Era, eras: frozenset[Era], http: bool, mock_clock: MockClock
) -> None:
    async with place(mock_clock, eras, http=http) as at:
        session = await at.begin("2025-06-18") if era is Era.LEGACY else None
        client = await at.slow(session)
        await at.pass_time(AFTER * 1.5 + 2 * BEAT)
        await at.release(session)
        answer = await client.answer()
        assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
        assert answer.headers["x-accel-buffering"] == "no"
        assert answer.body.startswith(COMMENT * 2)
        reply = message(answer)
        assert (reply["id"], "result" in reply) == (1, True)
        await client.start("POST", PATH, b"{}", POST)
        assert (await client.answer()).status == 400  # the connection goes on


@ANY
async def test_a_stream_that_passes_is_the_servers_own_and_begins_without_an_id(
    http: bool, mock_clock: MockClock
) -> None:
    async with place(mock_clock, LEGACY if http else MODERN, http=http) as at:
        session = await at.begin() if http else None
        client = await at.slow(session)
        await at.pass_time(AFTER * 1.25)
        assert received(client) == b""
        assert at.gateway.gateway.bounds.outboxes.held == 0
        await at.release(session)
        assert message(await client.answer())["id"] == 1


@ANY
@pytest.mark.parametrize("accept", ["application/json, */*", "*/*"])
async def test_a_client_that_does_not_name_event_streams_gets_json_however_long_it_takes(
    accept: str, http: bool, mock_clock: MockClock
) -> None:
    async with place(mock_clock, MODERN, http=http) as at:
        session = await at.begin()
        client = await at.slow(session, accept=accept)
        await at.pass_time(AFTER * 2)
        await at.release(session)
        answer = await client.answer()
        assert (answer.headers["content-type"], answer.json["id"]) == ("application/json", 1)


@ANY
async def test_it_can_be_switched_off_and_on_again(http: bool, mock_clock: MockClock) -> None:
    async with place(mock_clock, MODERN, http=http, stream_after=None) as at:
        session = await at.begin()
        client = await at.slow(session)
        await at.pass_time(30)
        at.gateway.reload(stream_after=1.0)
        await at.pass_time(20)
        await frames(client, 1)
        at.gateway.reload(stream_after=None)
        await at.release(session)
        assert message(await client.answer())["id"] == 1


@ANY
async def test_a_silent_call_that_fails_says_so_on_its_stream(http: bool, mock_clock: MockClock) -> None:
    async with place(mock_clock, MODERN, http=http) as at:
        session = await at.begin()
        client = await at.slow(session)
        await at.pass_time(61)  # the server's timeout
        failed = message(await client.answer())
        assert failed["id"] == 1
        assert "did not answer within 60 s" in json.dumps(failed["error"])


@ANY
async def test_a_silent_call_that_its_client_cancels_ends_without_a_reply(http: bool, mock_clock: MockClock) -> None:
    async with place(mock_clock, MODERN, http=http) as at:
        session = await at.begin()
        client = await at.slow(session)
        await at.pass_time(AFTER * 1.5)
        cancelled = notification("notifications/cancelled", {"requestId": 1})
        await session.post(await at.gateway.dial(), cancelled)
        answer = await client.answer()
        assert (answer.status, events(answer)) == (200, [])
        await gone(at.gateway)


@ANY
async def test_a_modern_client_that_closes_such_a_stream_has_cancelled_its_call(
    http: bool, mock_clock: MockClock
) -> None:
    async with place(mock_clock, MODERN, http=http) as at:
        client = await at.slow(None)
        await at.pass_time(AFTER * 1.5)
        await client.aclose()
        await at.pass_time(1)
        await at.gateway.idle()
        await gone(at.gateway)


@ANY
async def test_a_legacy_client_that_had_left_before_leaves_nothing_to_keep(http: bool, mock_clock: MockClock) -> None:
    """It never learned of an event that it could come back to."""
    async with place(mock_clock, MODERN, http=http) as at:
        session = await at.begin()
        client = await at.slow(session)
        await client.aclose()
        await at.pass_time(AFTER * 1.5)
        await at.release(session)
        await at.gateway.idle()
        await gone(at.gateway)
        assert at.gateway.gateway.bounds.outboxes.held == 0


async def test_a_batch_with_a_silent_call_becomes_a_stream_of_all_its_replies(mock_clock: MockClock) -> None:
    async with place(mock_clock, MODERN, http=False) as at:
        session = await at.begin("2025-03-26")
        client = await at.slow(session, [call(2, "echo", {"text": "a"}), SLOW])
        await at.pass_time(AFTER * 1.5)
        await at.release(session)
        answer = await client.answer()
        assert answer.headers["content-type"] == "text/event-stream"
        assert sorted(message["id"] for message in events(answer)) == [1, 2]


@pytest.mark.parametrize("eras", [LEGACY, MODERN], ids=["passed through", "across the eras"])
async def test_a_server_that_has_begun_its_own_stream_and_says_nothing_on_it_is_as_silent(
    eras: frozenset[Era], mock_clock: MockClock
) -> None:
    peer, release = Peer(), trio.Event()

    async def silent(asked: Asked, stream: trio.SocketStream) -> None:
        if asked.message["params"]["name"] != "slow":
            await result(OK)(asked, stream)
            return
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        await release.wait()
        reply = {"jsonrpc": "2.0", "id": asked.message["id"], "result": OK}
        await stream.send_all(b"data: " + json.dumps(reply).encode() + b"\n\n")
        await stream.aclose()

    peer.answers["tools/call"] = silent
    if eras is LEGACY:
        peer.answers["server/discover"] = error(-32601)
    else:
        peer.answers["initialize"] = error(-32022, 400, data={"supported": ["2026-07-28"], "requested": "2025-11-25"})
    peer.answers["tools/list"] = result({"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]})
    async with trio.open_nursery() as nursery:
        await nursery.start(peer.serve)
        async with site(urls={"one": peer.url}, shutdown_timeout=0.1, guard=math.inf) as gateway:
            at = Place(gateway, mock_clock)
            session = await at.begin()
            client = await at.slow(session)
            await at.pass_time(AFTER * 1.5)
            release.set()
            answer = await client.answer()
            assert message(answer)["id"] == 1
            own = eras is MODERN
            assert [frame.id is not None for frame in Parser().feed(answer.body)] == ([True, True] if own else [False])
            (kept,) = gateway.gateway.sessions
            assert list(kept.outbox._streams) == ([0, 1] if own else [0])  # one that its client may come back to
            kept.outbox.clear()
        nursery.cancel_scope.cancel(reason="the test is over")
