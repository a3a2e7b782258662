"""Links over HTTP+SSE, and servers that do everything that servers do."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from mcpgateway import jsonrpc
from mcpgateway.adapters import sse_posts
from mcpgateway.adapters.sse import SseAdapter, endpoint_of
from mcpgateway.config.model import Secret, SseServer
from mcpgateway.errors import NotStarted, ServerError, ServerSessionLost, ServerUnavailable, TooBusy
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.client import Collector, make_offer, open_client
from mcpgateway.wire.readiness import Poller
from tests.adapters.http_peer import OK, Answer, Asked, error, http, plain_json, raw, text_of
from tests.adapters.sse_peer import ACCEPTED, ENDPOINT, STREAM, SsePeer, event

Reach = Callable[..., SseAdapter]


@pytest.fixture
async def peer(nursery: trio.Nursery) -> SsePeer:
    peer = SsePeer()
    await nursery.start(peer.serve)
    return peer


@pytest.fixture
async def reach(nursery: trio.Nursery, peer: SsePeer) -> Reach:
    poller = Poller()
    nursery.start_soon(poller.run)

    def reach(**options: Any) -> SseAdapter:
        return SseAdapter(SseServer("s", **{"url": peer.url, **options}), poller)

    return reach


@pytest.fixture
def clock() -> MockClock:
    """Time that passes as it does, and can be moved on."""
    return MockClock(rate=1.0)


async def failure(
    adapter: SseAdapter, era: Era | None = Era.LEGACY, kind: type[ServerUnavailable] = ServerUnavailable
) -> str:
    """What connecting fails with; nothing is left of it."""
    async with trio.open_nursery() as links:
        with pytest.raises(kind) as caught:
            await adapter.connect(links, make_offer(era), lambda message: None)
        await wait_all_tasks_blocked()
        assert not links.child_tasks
    assert adapter.open_connections == 0
    return caught.value.reason


# ---- the endpoint ----------------------------------------------------------------------------------------------------

URL = "https://example.com:8443/base/sse?key=k"
ENDPOINTS = {
    "/messages?session=1": "https://example.com:8443/messages?session=1",
    "messages": "https://example.com:8443/base/messages",
    "../up?x=1#fragment": "https://example.com:8443/up?x=1",
    "?session=1": "https://example.com:8443/base/sse?session=1",
    "https://example.com:8443/there": "https://example.com:8443/there",
    "HTTPS://EXAMPLE.com:8443/there": "https://EXAMPLE.com:8443/there",
    "//example.com:8443/there": "https://example.com:8443/there",
}


@pytest.mark.parametrize("announced", ENDPOINTS)
@pytest.mark.requirement("feature.28")
def test_an_endpoint_is_relative_or_absolute(announced: str) -> None:
    assert endpoint_of(URL, announced.encode()) == ENDPOINTS[announced]


def test_the_port_of_a_scheme_need_not_be_named() -> None:
    assert endpoint_of("https://example.com/sse", b"https://example.com:443/m") == "https://example.com:443/m"
    assert endpoint_of("http://example.com:80/sse", b"http://example.com/m") == "http://example.com/m"


OTHERS = {
    "https://evil.example/x?token=hidden": "https://evil.example:443",
    "//evil.example/x": "https://evil.example:443",
    "http://example.com:8443/x": "http://example.com:8443",
    "https://example.com/x": "https://example.com:443",
    "https://sub.example.com:8443/x": "https://sub.example.com:8443",
}


@pytest.mark.parametrize("announced", OTHERS)
@pytest.mark.requirement("feature.28")
def test_an_endpoint_of_another_origin_is_refused(announced: str) -> None:
    with pytest.raises(ValueError, match="of another origin") as caught:
        endpoint_of(URL, announced.encode())
    assert OTHERS[announced] + ", which is refused" in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("announced", [b"", b"\xff", b"file:///etc/passwd", b"https://user:pw@example.com:8443/x"])
def test_an_endpoint_that_is_none_is_refused(announced: bytes) -> None:
    with pytest.raises(ValueError, match="announced an endpoint that"):
        endpoint_of(URL, announced)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_whatever_is_announced_is_of_this_origin_or_refused(announced: bytes) -> None:
    try:
        found = endpoint_of(URL, announced)
    except ValueError:
        return
    assert found.lower().startswith("https://example.com:8443/")


# ---- making a link ---------------------------------------------------------------------------------------------------


@pytest.mark.requirement("feature.28")
async def test_headers_go_with_the_stream_and_with_every_message(peer: SsePeer, reach: Reach) -> None:
    adapter = reach(headers={"Authorization": Secret("Bearer t"), "Accept": Secret("x/y")})
    async with open_client(adapter, Era.LEGACY) as client:
        await client.call("t")
    get, *posts = peer.asked
    assert (get.verb, get.headers["accept"], get.body) == ("GET", "text/event-stream", b"")
    assert "content-type" not in get.headers
    assert [post.method for post in posts] == ["initialize", "notifications/initialized", "tools/call"]
    assert {post.target for post in posts} == {"/messages?session=1"}
    assert {post.headers["content-type"] for post in posts} == {"application/json"}
    assert {asked.headers["authorization"] for asked in peer.asked} == {"Bearer t"}


async def test_the_stream_may_be_of_any_form(peer: SsePeer, reach: Reach) -> None:
    """Byte order mark, comments, other line ends, events of its own, ids, several lines of data, cut anywhere."""
    stream = (
        b"\xef\xbb\xbf: hello\n\nevent: heartbeat\ndata: 1\n\nretry: 5\n\nid: 7\r\nevent:endpoint\r\ndata:/messages\r\n"
        b'\r\ndata: {"jsonrpc":"2.0","method":\rdata: "notifications/tools/list_changed"}\r\rdata: no JSON\n\ndata:\n\n'
    )
    peer.first = tuple(bytes([byte]) for byte in stream)
    received = Collector()
    async with trio.open_nursery() as nursery:
        link = await reach().connect(nursery, make_offer(Era.LEGACY), received)
        assert (await received.next()).method == "notifications/tools/list_changed"
        await link.aclose()


STREAMS: dict[str, tuple[Answer, str]] = {
    "HTTP 401": (http(401), "answered with HTTP 401; check the credentials in its headers"),
    "HTTP 404": (
        http(404),
        "answered with HTTP 404; check the path of its URL, and that it speaks HTTP+SSE (type: sse)",
    ),
    "HTTP 405": (
        http(405),
        "answered with HTTP 405; check the path of its URL, and that it speaks HTTP+SSE (type: sse)",
    ),
    "a redirect": (
        http(307, location="https://x"),
        "answered with HTTP 307, a redirect; configure the URL that it leads to",
    ),
    "HTTP 500": (http(500, "text/plain", b"x"), "answered with HTTP 500 and text/plain"),
    "a page": (http(200, "text/html", b"<html>"), "answered with HTTP 200 and text/html"),
    "the end": (raw(b"", close=True), "the peer closed the connection without a response"),
    "no endpoint": (raw(STREAM, close=True), "ended its event stream before it announced an endpoint"),
    "half an event": (
        raw(STREAM + ENDPOINT[:20], close=True),
        "ended its event stream before it announced an endpoint",
    ),
    "a message first": (
        raw(STREAM + event({"method": "x"}) + ENDPOINT),
        "sent a message before it announced an endpoint; does it speak Streamable HTTP?",
    ),
    "another origin": (
        raw(STREAM + b"event: endpoint\ndata: http://evil.example/hidden\n\n"),
        "announced an endpoint of another origin, http://evil.example:80, which is refused; it should announce ",
    ),
    "an empty endpoint": (raw(STREAM + b"event: endpoint\ndata:\n\n"), "announced an endpoint that is no URL"),
}


@pytest.mark.parametrize("case", STREAMS)
@pytest.mark.parametrize("era", [None, Era.LEGACY])
@pytest.mark.requirement("5.bad.sse")
async def test_a_stream_that_is_none(peer: SsePeer, reach: Reach, case: str, era: Era | None) -> None:
    peer.answers["GET"], expected = STREAMS[case]
    assert (await failure(reach(), era, NotStarted)).startswith(expected)


async def test_no_endpoint_in_time(peer: SsePeer, reach: Reach, autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = 0.02
    peer.first = (b": wait\n\n",)
    assert await failure(reach(startup_timeout=3.0), kind=NotStarted) == "announced no endpoint within 3 s"
    await peer.gone.wait()


async def test_no_handshake_in_time(peer: SsePeer, reach: Reach, autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = 0.02
    peer.answers["initialize"] = ACCEPTED
    assert await failure(reach(startup_timeout=3.0)) == "did not shake hands within 3 s"
    await peer.gone.wait()


HANDSHAKES: dict[str, tuple[Answer, str]] = {
    "HTTP 400": (http(400, "text/plain", b"Bad"), "answered with HTTP 400 and text/plain"),
    "HTTP 503": (http(503), "answered with HTTP 503 and no content"),
    "session lost": (http(404), "no longer knows the session; initialise again"),
}


@pytest.mark.parametrize("case", HANDSHAKES)
async def test_a_handshake_that_is_refused(peer: SsePeer, reach: Reach, case: str) -> None:
    peer.answers["initialize"], expected = HANDSHAKES[case]
    assert await failure(reach()) == expected


async def test_a_server_that_refuses_what_it_does_not_know_is_asked_what_it_does(peer: SsePeer, reach: Reach) -> None:
    peer.answers["server/discover"] = error(-32601, 400)
    async with open_client(reach(), None) as client:
        assert client.link.negotiated.era is Era.LEGACY
    assert peer.methods()[1:3] == ["server/discover", "initialize"]


# ---- the stream ends, and so does the link ---------------------------------------------------------------------------


async def broken(peer: SsePeer, reach: Reach, *last: bytes) -> str:
    """Why a link ends whose stream ends while a call runs; the call fails with that."""
    peer.answers["tools/call"] = ACCEPTED
    async with open_client(reach(), Era.LEGACY) as client, trio.open_nursery() as nursery:
        call = client.start(nursery, "t")
        await peer.until_asked("tools/call")
        for data in last:
            await peer.say(data)
        await peer.end()
        problem = await call.problem()
        assert isinstance(problem, ServerUnavailable)
        await client.link.closed.wait()
        assert problem.reason == client.link.failure
        return client.link.failure


@pytest.mark.parametrize(
    "last", [(), (b"event: message\ndata: {",), (b": bye\n\n",), (event({"id": 99, "result": {}}),)]
)
@pytest.mark.requirement("5.bad.sse")
async def test_a_stream_that_ends(peer: SsePeer, reach: Reach, last: tuple[bytes, ...]) -> None:
    assert await broken(peer, reach, *last) == "ended its event stream"


async def test_a_stream_that_breaks(peer: SsePeer, reach: Reach) -> None:
    async def chunked(asked: Asked, stream: trio.SocketStream) -> None:
        peer.streams.append(stream)
        head = STREAM.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")
        await stream.send_all(head + b"%x\r\n%b\r\n" % (len(ENDPOINT), ENDPOINT))
        await stream.receive_some()

    peer.answers["GET"] = chunked
    peer.answers["initialize"] = raw(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_break_when_asked, peer)
        reason = await failure(reach())
    assert reason.startswith("its event stream broke: ")


async def _break_when_asked(peer: SsePeer) -> None:
    await peer.until_asked("initialize")
    await peer.say(b"no chunk\r\n")


async def test_a_stream_that_is_silent_for_too_long(peer: SsePeer, reach: Reach, clock: MockClock) -> None:
    async with open_client(reach(stall_timeout=20.0), Era.LEGACY) as client:
        for _ in range(3):
            await wait_all_tasks_blocked(0.005)
            clock.jump(15.0)
            await peer.say(b": still here\n\n")
            await client.call("t")
            await wait_all_tasks_blocked(0.005)
        clock.jump(21.0)
        await client.link.closed.wait()
        assert client.link.failure == "said nothing for 20 s (stall_timeout)"


async def test_an_event_that_is_too_large(peer: SsePeer, reach: Reach, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcpgateway.adapters.sse.MAX_REPLY", 2000)
    reason = await broken(peer, reach, b"data: " + b"x" * 3000)
    assert reason == "its event stream cannot be read on: an event is larger than 2000 bytes"


async def test_another_endpoint_is_not_followed(peer: SsePeer, reach: Reach, caplog: pytest.LogCaptureFixture) -> None:
    async with open_client(reach(), Era.LEGACY) as client:
        for data in ENDPOINT, b"event: endpoint\ndata: /other\n\n", b"event: endpoint\ndata: http://evil/\n\n":
            await peer.say(data)
        await client.call("t")
        assert getattr(client.link, "junk", None) == 2
    assert {asked.target for asked in peer.asked if asked.verb == "POST"} == {"/messages?session=1"}
    assert "another endpoint than the one that it had announced" in caplog.text


async def test_a_reply_to_a_cancelled_call_is_dropped(peer: SsePeer, reach: Reach) -> None:
    peer.answers["tools/call"] = ACCEPTED
    async with open_client(reach(), Era.LEGACY) as client, trio.open_nursery() as nursery:
        call = client.start(nursery, "t")
        asked = await peer.until_asked("tools/call")
        call.scope.cancel(reason="enough")
        cancelled = await peer.until_asked("notifications/cancelled")
        assert cancelled.message["params"]["requestId"] == asked.message["id"]
        await peer.reply(asked, OK)
        peer.answers["tools/call"] = peer.taken(OK)
        assert text_of(await client.call("t")) == "ok"
        assert getattr(client.link, "junk", None) == 0


# ---- messages that are not taken -------------------------------------------------------------------------------------

REFUSALS: dict[str, tuple[Answer, str]] = {
    "HTTP 400": (http(400, "text/plain", b"Could not parse"), "answered with HTTP 400 and text/plain"),
    "HTTP 401": (http(401), "answered with HTTP 401; check the credentials in its headers"),
    "HTTP 413": (http(413), "answered with HTTP 413 and no content"),
    "HTTP 500": (plain_json("{}", 500), "answered with HTTP 500 and application/json"),
    "a broken connection": (raw(b"HTTP/1.1 20", close=True), "the peer closed the connection without a response"),
}


@pytest.mark.parametrize("case", REFUSALS)
@pytest.mark.requirement("5.bad.sse")
async def test_a_message_that_is_refused_fails_its_call_and_no_other(peer: SsePeer, reach: Reach, case: str) -> None:
    answer, expected = REFUSALS[case]
    async with open_client(reach(), Era.LEGACY) as client, trio.open_nursery() as nursery:
        peer.answers["tools/call"] = ACCEPTED
        other = client.start(nursery, "t")
        asked = await peer.until_asked("tools/call")
        peer.answers["tools/call"] = answer
        problem = await client.start(nursery, "t").problem()
        assert isinstance(problem, ServerUnavailable)
        assert problem.reason.startswith(expected)
        assert not client.link.closed.is_set()
        await peer.reply(asked, OK)
        assert text_of(await other.outcome()) == "ok"


LOST: dict[str, Answer] = {
    "HTTP 404": http(404, "text/plain", b"Could not find session"),
    "HTTP 400": http(400, "text/plain", b"No active session with this id"),
}


@pytest.mark.parametrize("case", LOST)
@pytest.mark.requirement("5.bad.sse")
async def test_a_session_that_is_lost_ends_the_link(peer: SsePeer, reach: Reach, case: str) -> None:
    async with open_client(reach(), Era.LEGACY) as client, trio.open_nursery() as nursery:
        peer.answers["tools/call"] = ACCEPTED
        other = client.start(nursery, "t")
        await peer.until_asked("tools/call")
        peer.answers["tools/call"] = LOST[case]
        assert isinstance(await client.start(nursery, "t").problem(), ServerSessionLost)
        assert isinstance(await other.problem(), ServerUnavailable)
        assert client.link.failure == "no longer knows the session; initialise again"
        await peer.gone.wait()


async def test_a_notification_that_is_refused_is_logged(
    peer: SsePeer, reach: Reach, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    peer.answers["notifications/progress"] = http(500)
    async with open_client(reach(), Era.LEGACY) as client:
        await client.link.notify(jsonrpc.notification("notifications/progress", {}))
        await client.link.notify(jsonrpc.result(b"7", {}))
        assert text_of(await client.call("t")) == "ok"
    assert "a notifications/progress was not delivered: server 's': answered with HTTP 500" in caplog.text


async def test_a_server_that_answers_a_post_when_the_call_is_done(peer: SsePeer, reach: Reach) -> None:
    """What it asks meanwhile is answered before, and other calls go on."""

    async def at_the_end(asked: Asked, stream: trio.SocketStream) -> None:
        await peer.say(event({"id": 1, "method": "elicitation/create", "params": {}}))
        await peer.until_asked("response")
        await peer.reply(asked, OK)
        await ACCEPTED(asked, stream)

    async with open_client(reach(), Era.LEGACY) as client, trio.open_nursery() as nursery:
        peer.answers["tools/call"] = at_the_end
        back = Collector()
        call = client.start(nursery, "t", back=back, alone=True)
        question = await back.next()
        peer.answers["tools/call"] = peer.taken(OK)
        assert text_of(await client.call("t")) == "ok"
        await client.link.notify(jsonrpc.result(question.id or b"", {"action": "decline"}))
        assert text_of(await call.outcome()) == "ok"


@pytest.mark.parametrize("patience", [{"timeout": 50.0}, {"timeout": 100.0, "first_byte_timeout": 50.0}])
async def test_a_post_that_is_never_answered_costs_its_call_nothing(
    peer: SsePeer, reach: Reach, clock: MockClock, patience: dict[str, float]
) -> None:
    async with open_client(reach(**patience), Era.LEGACY) as client, trio.open_nursery() as nursery:
        peer.answers["tools/call"] = peer.hang()
        call = client.start(nursery, "t")
        asked = await peer.until_asked("tools/call")
        await wait_all_tasks_blocked(0.01)
        clock.jump(51.0)
        await peer.gone.wait()
        await peer.reply(asked, OK)
        assert text_of(await call.outcome()) == "ok"


async def test_a_cancellation_goes_after_its_request_though_that_is_never_answered(
    peer: SsePeer, reach: Reach, clock: MockClock
) -> None:
    async with open_client(reach(), Era.LEGACY) as client, trio.open_nursery() as nursery:
        peer.answers["tools/call"] = peer.hang()
        call = client.start(nursery, "t")
        await peer.until_asked("tools/call")
        call.scope.cancel(reason="enough")
        await wait_all_tasks_blocked(0.01)
        assert "notifications/cancelled" not in peer.methods()
        clock.jump(sse_posts.ATTENTION)
        await peer.until_asked("notifications/cancelled")
        before = trio.current_time()
        await client.link.notify(jsonrpc.notification("notifications/cancelled", {"requestId": 99}))
        await peer.until_asked("notifications/cancelled", 2)
        assert trio.current_time() - before < sse_posts.ATTENTION, "what was late once delays nothing any more"


async def test_more_than_may_be_under_way_is_refused(
    peer: SsePeer, reach: Reach, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_client(reach(), Era.LEGACY) as client, trio.open_nursery() as nursery:
        await client.call("t")
        monkeypatch.setattr(sse_posts, "QUEUE_LIMIT", 1500)
        peer.answers["tools/call"] = peer.hang()
        call = client.start(nursery, "t", {"x": "x" * 1000})
        await peer.until_asked("tools/call", 2)
        with pytest.raises(TooBusy, match="bytes are waiting for a server that does not take them"):
            await client.call("t", {"x": "x" * 1000})
        call.scope.cancel(reason="enough")


async def test_the_end_of_a_link_ends_what_is_under_way(peer: SsePeer, reach: Reach) -> None:
    adapter = reach()
    async with open_client(adapter, Era.LEGACY) as client, trio.open_nursery() as nursery:
        peer.answers["tools/call"] = peer.hang()
        call = client.start(nursery, "t")
        await peer.until_asked("tools/call")
        await client.link.aclose()
        assert isinstance(await call.problem(), ServerError)
        assert adapter.open_connections == 0
        await client.link.aclose()
        with pytest.raises(ServerUnavailable, match="the link was closed"):
            await client.link.notify(jsonrpc.notification("x"))
