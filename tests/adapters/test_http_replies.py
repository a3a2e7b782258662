"""What may come back from a POST, in every form that servers give it, by peers that do."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType

import pytest
import trio
import trio.testing

from mcpgateway import jsonrpc
from mcpgateway.adapters import http_replies
from mcpgateway.adapters.base import Event, NoBack
from mcpgateway.adapters.http_replies import read_reply
from mcpgateway.errors import (
    ServerError,
    ServerMisbehaved,
    ServerTimeout,
    ServerUnavailable,
)
from mcpgateway.protocol.envelope import SUBSCRIPTION_ID
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.client import open_client
from mcpgateway.wire.waiting import Wait
from tests.adapters.http_peer import (
    HALF,
    INITIALIZED,
    OK,
    REPLY,
    Answer,
    Asked,
    Peer,
    Reach,
    Recorder,
    a_request,
    call,
    chunked,
    error,
    http,
    plain_json,
    raw,
    result,
    stream_of,
    text_of,
)

# ---- replies ---------------------------------------------------------------------------------------------------------

PRETTY = json.dumps({"jsonrpc": "2.0", "id": 1, "result": OK}, indent=2).encode()
REPLIES = {
    "JSON": result(OK),
    "JSON over several lines": http(200, "application/json", PRETTY.replace(b'"id": 1', b'"id": $id')),
    "JSON of an upper-case type with parameters": http(200, "Application/JSON; charset=utf-8", REPLY),
    "JSON up to the end of the connection": raw(
        b"HTTP/1.0 200 OK\r\ncontent-type:application/json\r\n\r\n" + REPLY.replace(b"$id", b"1"), close=True
    ),
    "JSON after an interim response": raw(
        b"HTTP/1.1 103 Early Hints\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        % len(REPLY.replace(b"$id", b"1"))
        + REPLY.replace(b"$id", b"1")
    ),
    "a stream": stream_of(b"event: message\ndata: " + REPLY + b"\n\n"),
    "a stream with CRLF": stream_of(b"event: message\r\ndata: " + REPLY + b"\r\n\r\n"),
    "a stream with CR": stream_of(b"event: message\rdata: " + REPLY + b"\r\r"),
    "a stream with LF and no space": stream_of(b"data:" + REPLY + b"\n\n"),
    "a stream that begins with a mark": stream_of(b"\xef\xbb\xbfdata: " + REPLY + b"\n\n"),
    "comments": stream_of(b": ping\n\n", b":\r\n\r\n", b"data: " + REPLY + b"\n\n"),
    "JSON over several data lines": stream_of(b"".join(b"data: %b\n" % line for line in PRETTY.split(b"\n")) + b"\n"),
    "events of other kinds": stream_of(b"event: ping\ndata: now\n\n", b"data:\n\n", b"data: " + REPLY + b"\n\n"),
    "events of no protocol": stream_of(b"data: [1]\n\n", b"data: \xff\n\n", b"data: " + REPLY + b"\n\n"),
    "somebody else's reply before": stream_of(
        b'data: {"jsonrpc":"2.0","id":"x","result":{}}\n\n', b"data: " + REPLY + b"\n\n"
    ),
    "events after the reply": stream_of(b"data: " + REPLY + b"\n\ndata: {}\n\n", b"data: " + REPLY + b"\n\n"),
    "a stream that does not end": stream_of(b"data: " + REPLY + b"\n\n", end=False),
}


@pytest.mark.parametrize("answer", REPLIES.values(), ids=REPLIES)
@pytest.mark.parametrize("era", Era)
async def test_a_reply_is_found_in_any_form(answer: Answer, era: Era, peer: Peer, reach: Reach) -> None:
    back = Recorder()
    async with open_client(reach(), era) as client:
        peer.answers["tools/call"] = answer
        assert text_of(await call(client.link, back)) == "ok"
        peer.answers["tools/call"] = result(OK)
        assert text_of(await call(client.link)) == "ok", "the link goes on"
    assert not back.events


async def test_text_may_be_cut_anywhere(peer: Peer, reach: Reach) -> None:
    reply = "data: {'jsonrpc':'2.0','id':1,'result':{'content':[{'type':'text','text':'ä€𝄞\u2028\u0085'}]}}\r\n\r\n"
    data = reply.replace("'", '"').encode()
    peer.answers["tools/call"] = stream_of(*(data[at : at + 1] for at in range(len(data))))
    async with open_client(reach(), Era.LEGACY) as client:
        assert text_of(await call(client.link)) == "ä€𝄞\u2028\u0085"


@pytest.mark.parametrize("wrap", [lambda body: plain_json(body), lambda body: stream_of(b"data: " + body + b"\n\n")])
async def test_a_reply_may_have_ten_megabytes(wrap: Callable[[bytes], Answer], peer: Peer, reach: Reach) -> None:
    peer.answers["tools/call"] = wrap(REPLY.replace(b"ok", b"x" * 10_000_000))
    async with open_client(reach(), Era.LEGACY) as client:
        assert len(text_of(await call(client.link))) == 10_000_000


@pytest.mark.parametrize("id", ["$id", "null", '"server-error"'])
async def test_errors_are_replies_whatever_their_id(id: str, peer: Peer, reach: Reach) -> None:
    async with open_client(reach(), Era.LEGACY) as client:
        peer.answers["tools/call"] = error(-32600, 400, id, "no such thing")
        reply = await call(client.link)
    assert (reply.status, jsonrpc.error_code(reply.message), reply.event) == (400, -32600, None)


async def test_an_error_without_an_id_ends_a_stream(peer: Peer, reach: Reach) -> None:
    peer.answers["tools/call"] = stream_of(
        b'data: {"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":""}}\n\n'
    )
    async with open_client(reach(), Era.LEGACY) as client:
        assert jsonrpc.error_code((await call(client.link)).message) == -32700


async def test_a_method_that_is_not_there_is_no_lost_session(peer: Peer, reach: Reach) -> None:
    peer.answers["tools/call"] = error(-32601, 404)
    peer.answers["initialize"] = result(INITIALIZED)
    for era in Era:
        async with open_client(reach(), era) as client:
            assert (await call(client.link)).status == 404
            assert not client.link.closed.is_set()


async def test_events_come_with_their_frames_before_the_reply(peer: Peer, reach: Reach) -> None:
    progress = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}'
    question = b'{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{}}'
    peer.answers["tools/call"] = stream_of(
        b"id: e1\nretry: 300\ndata:\n\n",
        b"id: e2\ndata: " + progress + b"\n\ndata: " + question + b"\n\n",
        b"id: e3\ndata: " + REPLY + b"\n\n",
    )
    back = Recorder()
    async with open_client(reach(), Era.LEGACY) as client:
        reply = await call(client.link, back)
    assert reply.event is not None
    assert reply.event.id == b"e3"
    primed, progressed, asked = back.events
    assert (primed.message, primed.id, primed.retry) == (None, b"e1", b"300")
    assert progressed.id == b"e2"
    assert progressed.message is not None
    assert progressed.message.encode() == progress
    assert asked.message is not None
    assert asked.message.encode() == question


@pytest.mark.parametrize("together", [True, False])
async def test_what_is_not_the_reply_or_follows_it_reaches_nobody(together: bool, peer: Peer, reach: Reach) -> None:
    progress = (
        b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":9}}\n\n'
    )
    unknown = b'data: {"jsonrpc":"2.0","id":77,"result":{}}\n\n'
    reply = b"data: " + REPLY + b"\n\n"
    again = reply.replace(b'"ok"', b'"twice"')
    pieces = (unknown, reply, again, progress, unknown)
    peer.answers["tools/call"] = stream_of(*((b"".join(pieces),) if together else pieces))
    back = Recorder()
    async with open_client(reach(), Era.LEGACY) as client:
        for _ in range(3):
            assert text_of(await call(client.link, back)) == "ok"
        assert client.link.statistics().in_flight == 0
    assert back.events == []


async def test_a_reply_after_the_cancel_reaches_nobody(peer: Peer, reach: Reach) -> None:
    async def late(asked: Asked, stream: trio.SocketStream) -> None:
        await peer.until_asked("notifications/cancelled")
        await result({"content": [{"type": "text", "text": "late"}]})(asked, stream)

    async with open_client(reach(), Era.LEGACY) as client, trio.open_nursery() as nursery:
        peer.answers["tools/call"] = late
        wait = Wait()
        started = client.start(nursery, "t", wait=wait)
        await peer.until_asked("tools/call")
        wait.end(why := ServerTimeout("s", "enough"))
        assert await started.problem() is why
        await peer.until_asked("notifications/cancelled")
        peer.answers["tools/call"] = result({"content": [{"type": "text", "text": "ok"}]})
        for _ in range(3):
            assert text_of(await call(client.link)) == "ok"
    assert peer.methods().count("notifications/cancelled") == 1


async def test_a_subscription_that_ends_is_answered_under_the_clients_id(peer: Peer, reach: Reach) -> None:
    peer.answers["subscriptions/listen"] = result({"_meta": {SUBSCRIPTION_ID: 1, "vendor.example/x": 1}})
    async with open_client(reach(), Era.MODERN) as client:
        reply = await client.request("subscriptions/listen", client.stamped({"notifications": {}}), id=b'"mine"')
    assert json.loads(reply.message.encode())["result"]["_meta"] == {SUBSCRIPTION_ID: "mine", "vendor.example/x": 1}


async def test_progress_renews_the_deadline(peer: Peer, reach: Reach, mock_clock: trio.testing.MockClock) -> None:
    progress = b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{}}\n\n'
    log = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{}}\n\n'
    seen: list[float] = []

    class Watching:
        async def send(self, event: Event) -> None:
            await trio.lowlevel.checkpoint()
            seen.append(wait.deadline - began)
            mock_clock.jump(4)

    began = trio.current_time()
    wait = Wait(began + 10, patience=10, latest=began + 15)
    peer.answers["tools/call"] = stream_of(log + progress + progress + progress + b"data: " + REPLY + b"\n\n")
    async with open_client(reach(), Era.LEGACY) as client:
        await client.link.call(a_request(client.link, wait), Watching())
    assert seen == [10, 14, 15, 15]


# ---- what is no reply ------------------------------------------------------------------------------------------------

NO_REPLIES: dict[str, tuple[Answer, type[ServerError], str]] = {
    "accepted": (http(202), ServerMisbehaved, "HTTP 202 and no content"),
    "no content": (http(204), ServerMisbehaved, "HTTP 204 and no content"),
    "redirect": (http(302, Location="https://elsewhere.example"), ServerMisbehaved, "HTTP 302, a redirect"),
    "not authenticated": (http(401), ServerUnavailable, "HTTP 401; check the credentials"),
    "forbidden": (http(403, "text/html", b"<html>"), ServerUnavailable, "HTTP 403; check the credentials"),
    "bad request": (http(400, "text/plain", b"Bad Request"), ServerUnavailable, "HTTP 400 and text/plain"),
    "crashed": (http(500, "text/html", b"<html>"), ServerUnavailable, "HTTP 500 and text/html"),
    "crashed, JSON": (plain_json('{"detail":"no"}', 500), ServerUnavailable, "HTTP 500 and application/json"),
    "HTML": (http(200, "text/html", b"<html>"), ServerMisbehaved, "HTTP 200 and text/html"),
    "empty": (http(200, "application/json"), ServerMisbehaved, "not JSON-RPC"),
    "no JSON": (plain_json("{"), ServerMisbehaved, "not valid JSON"),
    "no UTF-8": (plain_json(REPLY.replace(b"ok", b"\xff")), ServerMisbehaved, "not valid UTF-8"),
    "nested too deeply": (plain_json("[" * 100_000), ServerMisbehaved, "not JSON-RPC"),
    "a batch": (plain_json(b"[" + REPLY + b"]"), ServerMisbehaved, "batches"),
    "a wrong id": (plain_json('{"jsonrpc":"2.0","id":"1","result":{}}'), ServerMisbehaved, "does not belong"),
    "an error for another": (error(-32603, id="77"), ServerMisbehaved, "does not belong"),
    "a request": (plain_json('{"jsonrpc":"2.0","id":$id,"method":"ping"}'), ServerMisbehaved, "does not belong"),
    "a stream that ends": (stream_of(b"data:\nid: 1\n\n"), ServerMisbehaved, "ended its event stream without a reply"),
    "a stream that breaks": (
        raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n", close=True),
        ServerUnavailable,
        "closed the connection within its response",
    ),
    "a malformed reply in a stream": (
        stream_of(b'data: {"jsonrpc":"2.0","id":$id,"result":{},"error":{}}\n\n', end=False),
        ServerMisbehaved,
        "not JSON-RPC",
    ),
    "half a body": (raw(HALF, close=True), ServerUnavailable, "closed the connection within its response"),
    "half a head": (raw(HALF[:30], close=True), ServerUnavailable, "closed the connection without a response"),
    "no HTTP": (raw(b"hello\r\n\r\n", close=True), ServerUnavailable, "not a valid HTTP"),
}


@pytest.mark.parametrize(("answer", "kind", "said"), NO_REPLIES.values(), ids=NO_REPLIES)
async def test_what_is_no_reply_fails_its_call_only(
    answer: Answer, kind: type[ServerError], said: str, peer: Peer, reach: Reach
) -> None:
    async with open_client(reach(), Era.LEGACY) as client:
        peer.answers["tools/call"] = answer
        with pytest.raises(ServerError, match="server 's'") as caught:
            await call(client.link)
        assert isinstance(caught.value, kind)
        assert said in str(caught.value)
        peer.answers["tools/call"] = result(OK)
        assert text_of(await call(client.link)) == "ok"
        assert client.link.statistics().in_flight == 0


@pytest.mark.parametrize("answer", [chunked(REPLY[:40], REPLY[40:]), stream_of(b"data: " + REPLY[:40], end=False)])
async def test_a_reply_without_end_is_given_up(
    answer: Answer, peer: Peer, reach: Reach, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_client(reach(), Era.MODERN) as client:
        monkeypatch.setattr(http_replies, "MAX_REPLY", 30)
        peer.answers["tools/call"] = answer
        with pytest.raises(ServerError, match="larger than 30 bytes"):
            await call(client.link)


class Flood:
    """A response that always has one more comment ready."""

    status = 200
    headers: Mapping[bytes, bytes] = MappingProxyType({b"content-type": b"text/event-stream"})
    pieces = 0

    async def read(self, wait: Wait, limit: int) -> bytes:
        raise NotImplementedError

    async def more(self, wait: Wait) -> bytes:
        self.pieces += 1
        assert self.pieces < 1000, "the others never had a turn"
        return b":\n\n"

    def leave(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize("by", ["wait", "cancellation"])
async def test_a_flood_of_comments_starves_nobody_and_can_be_ended(by: str) -> None:
    wait, why = Wait(), ServerTimeout("s", "enough")
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            await read_reply("s", Flood(), b"1", wait, NoBack())

        async def end() -> None:
            await trio.lowlevel.checkpoint()
            if by == "wait":
                wait.end(why)
            else:
                scope.cancel(reason="test")

        nursery.start_soon(end)
        with trio.CancelScope() as scope:
            if by == "wait":
                with pytest.raises(ServerTimeout):
                    await read()
            else:
                await read()
        assert scope.cancelled_caught is (by == "cancellation")
