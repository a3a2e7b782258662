"""Streams through the gateway, one to one with a server's own: GET, what was cut off, and clients that leave."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from mcpgateway.config.model import HttpServer
from tests.adapters.http_peer import DISCOVERED, INITIALIZED, OK, Asked, Peer, error, http, result, stream_of
from tests.fronts.site import POST, Client, Session, Site, call, events, modern, notification, request, site, text
from tests.wire.http1.peers import Answer

PATH = "/mcp/one"
OPEN = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
CHANGED = b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'
DONE = b'{"jsonrpc":"2.0","id":%d,"result":' + json.dumps(OK).encode() + b"}"
ASKS = b'{"jsonrpc":"2.0","id":1,"method":"elicitation/create","params":{"message":"?"}}'


@asynccontextmanager
async def peer_and_site() -> AsyncIterator[tuple[Peer, Site]]:
    """A scripted legacy server, and a gateway before it."""
    peer = Peer()
    peer.answers["server/discover"] = error(-32601)
    async with trio.open_nursery() as nursery:
        await nursery.start(peer.serve)
        async with site(urls={"one": peer.url}) as gateway:
            yield peer, gateway
        nursery.cancel_scope.cancel(reason="the test is over")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(data: bytes, id: bytes) -> bytes:
    return b"id: %b\ndata: %b\n\n" % (id, data)


async def start_stream(client: Client, session: Session, **headers: str) -> None:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    await client.start("GET", PATH, b"", {"Accept": "text/event-stream", **session.headers, **fields})


async def stream(client: Client, session: Session, **headers: str) -> Answer:
    await start_stream(client, session, **headers)
    return await client.answer()


# ---- one to one ------------------------------------------------------------------------------------------------------


async def test_a_stream_passes_to_the_byte_and_is_resumed_where_the_client_says() -> None:
    async with peer_and_site() as (peer, gateway):
        peer.answers["GET"] = stream_of(b"id: 7\nretry: 700\ndata: \n\n", b"id: 8\ndata: " + CHANGED + b"\n\n")
        client = await gateway.dial()
        session = await client.initialize(PATH)
        answer = await stream(client, session, Last_Event_ID="6")
        asked = await peer.until_asked("GET")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    expected = b"event: message\nid: 7\nretry: 700\ndata: \n\nevent: message\nid: 8\ndata: " + CHANGED + b"\n\n"
    assert answer.body == expected
    assert (asked.headers["last-event-id"], asked.headers["mcp-session-id"]) == ("6", "s1")


@pytest.mark.parametrize("status", [400, 404, 405, 409])
async def test_a_refused_stream_is_refused_with_the_servers_status(status: int) -> None:
    async with peer_and_site() as (peer, gateway):
        peer.answers["GET"] = http(status, "text/plain", b"no")
        client = await gateway.dial()
        session = await client.initialize(PATH)
        answer = await stream(client, session)
        assert (answer.status, answer.json["error"]["code"]) == (status, -32601)
        assert text(await session.post(client, call(1, "t"))) == "ok"


async def test_a_stream_of_a_server_that_fails_is_a_502() -> None:
    async with peer_and_site() as (peer, gateway):
        peer.answers["GET"] = http(500, "text/html", b"<html>")
        client = await gateway.dial()
        answer = await stream(client, await client.initialize(PATH))
        assert (answer.status, answer.json["error"]["data"]) == (502, {"server": "one"})


async def test_the_gateway_opens_no_stream_of_its_own_in_a_clients_session() -> None:
    async with peer_and_site() as (peer, gateway):
        client = await gateway.dial()
        session = await client.initialize(PATH)
        assert text(await session.post(client, call(1, "t"))) == "ok"
        assert "GET" not in peer.methods()


async def test_a_client_that_leaves_its_stream_closes_the_servers() -> None:
    async with peer_and_site() as (peer, gateway):
        peer.answers["GET"] = peer.hang(OPEN + chunk(event(CHANGED, b"1")))
        listener, client = await gateway.dial(), await gateway.dial()
        session = await client.initialize(PATH)
        await start_stream(listener, session)
        assert await listener.until(1) == [json.loads(CHANGED)]
        await listener.aclose()
        await peer.gone.wait()
        assert text(await session.post(client, call(1, "t"))) == "ok"


async def test_a_question_on_the_stream_has_an_id_of_the_session_and_its_answer_goes_back() -> None:
    async with peer_and_site() as (peer, gateway):
        peer.answers["GET"] = peer.hang(OPEN + chunk(event(ASKS, b"1")))
        peer.answers["response"] = http(202)
        listener, client = await gateway.dial(), await gateway.dial()
        session = await client.initialize(PATH, {"elicitation": {}})
        await start_stream(listener, session)
        (question,) = await listener.until(1)
        assert (question["method"], question["id"]) == ("elicitation/create", "gateway-1")
        answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}}
        assert (await session.post(client, answer)).status == 202
        assert (await session.post(client, answer)).status == 202  # twice: to nobody
    sent = [asked.message for asked in peer.asked if asked.method == "response"]
    assert sent == [{**answer, "id": 1}]


async def test_a_question_that_the_client_did_not_declare_is_refused_for_it() -> None:
    async with peer_and_site() as (peer, gateway):
        peer.answers["GET"] = stream_of(event(ASKS, b"1"), event(CHANGED, b"2"))
        peer.answers["response"] = http(202)
        client = await gateway.dial()
        answer = await stream(client, await client.initialize(PATH))
        assert events(answer) == [json.loads(CHANGED)]
    (refusal,) = [asked.message for asked in peer.asked if asked.method == "response"]
    assert (refusal["id"], refusal["error"]["code"]) == (1, -32601)


@pytest.mark.requirement("4.life.reload")
async def test_a_reload_ends_the_stream_and_the_next_one_tells_and_is_the_new_servers() -> None:
    told = {**INITIALIZED, "capabilities": {"tools": {"listChanged": True}}}
    new = Peer()
    new.answers["server/discover"] = error(-32601)
    new.answers["GET"] = stream_of(event(ASKS, b"9"))
    async with trio.open_nursery() as nursery:
        await nursery.start(new.serve)
        async with peer_and_site() as (peer, gateway):
            peer.answers["initialize"] = result(told, Mcp_Session_Id="s1")
            peer.answers["GET"] = peer.hang(OPEN + chunk(event(CHANGED, b"6")))
            listener, client = await gateway.dial(), await gateway.dial()
            session = await client.initialize(PATH, {"elicitation": {}})
            await start_stream(listener, session)
            await listener.until(1)

            gateway.reload(servers={"one": HttpServer("one", url=new.url)})

            assert (await listener.answer()).status == 200
            changed, question = events(await stream(client, session, Last_Event_ID="6"))
            assert changed == json.loads(CHANGED)
            assert question["method"] == "elicitation/create"
            assert "last-event-id" not in (await new.until_asked("GET")).headers
            own = (await peer.until_asked("initialize", 2)).message["params"]
            assert own in [asked.message["params"] for asked in new.asked if asked.method == "initialize"]
            assert text(await session.post(client, call(1, "t"))) == "ok"
        nursery.cancel_scope.cancel(reason="the test is over")


# ---- calls that are cut off ------------------------------------------------------------------------------------------


async def cut_off(peer: Peer, client: Client, session: Session, id: object) -> Answer:
    """A call that the server leaves after a priming event."""
    peer.answers["tools/call"] = stream_of(b"id: e1\nretry: 500\ndata:\n\n")
    return await session.post(client, call(id, "t"))


async def test_a_call_that_the_server_cuts_off_ends_likewise_and_is_resumed_by_the_client() -> None:
    async with peer_and_site() as (peer, gateway):
        client = await gateway.dial()
        session = await client.initialize(PATH)
        await session.post(client, call(5, "t"))
        answer = await cut_off(peer, client, session, "mine")
        assert (answer.status, answer.body) == (200, b"event: message\nid: e1\nretry: 500\ndata: \n\n")
        peer.answers["GET"] = stream_of(event(DONE % 2, b"e2"))
        (reply,) = events(await stream(client, session, Last_Event_ID="e1"))
        assert reply == {"jsonrpc": "2.0", "id": "mine", "result": OK}
        assert "notifications/cancelled" not in peer.methods()
        await gateway.idle()


async def test_a_call_that_was_cut_off_can_be_cancelled_still() -> None:
    async with peer_and_site() as (peer, gateway):
        client = await gateway.dial()
        session = await client.initialize(PATH)
        await session.post(client, call(5, "t"))
        await cut_off(peer, client, session, "mine")
        for id in ("mine", "another"):
            cancelled = notification("notifications/cancelled", {"requestId": id})
            assert (await session.post(client, cancelled)).status == 202
    told = [asked.message["params"]["requestId"] for asked in peer.asked if asked.method == "notifications/cancelled"]
    assert told == [2]


async def test_a_question_of_a_call_that_was_cut_off_can_be_answered_still() -> None:
    async with peer_and_site() as (peer, gateway):
        peer.answers["tools/call"] = stream_of(event(ASKS, b"e1"))
        peer.answers["response"] = http(202)
        client = await gateway.dial()
        session = await client.initialize(PATH, {"elicitation": {}})
        (question,) = events(await session.post(client, call(1, "t")))
        await session.post(client, {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}})
        assert (await peer.until_asked("response")).message["id"] == 1


async def test_a_client_of_a_merged_namespace_sees_nothing_of_the_cut() -> None:
    async with peer_and_site() as (peer, gateway):
        peer.answers["initialize"] = result({**INITIALIZED, "capabilities": {"tools": {}}})
        peer.answers["tools/list"] = result({"tools": [{"name": "t", "inputSchema": {"type": "object"}}]})
        client = await gateway.dial()
        session = await client.initialize("/mcp")
        peer.answers["tools/call"] = stream_of(b"id: e1\nretry: 50\ndata:\n\n")

        async def reply(asked: Asked, stream: trio.SocketStream) -> None:
            last = next(asked for asked in reversed(peer.asked) if asked.method == "tools/call")
            await stream_of(event(DONE % last.message["id"], b"e2"))(asked, stream)

        peer.answers["GET"] = reply
        answer = await session.post(client, call(1, "one_t"))
        (message,) = events(answer)
        assert message["result"]["content"] == OK["content"]
        assert b"id: e1" not in answer.body  # the stream is the gateway's own, and so are its ids
        prime = answer.body.partition(b"\n\n")[0]
        assert prime.endswith(b"\nretry: 1000\ndata: ")


# ---- clients that leave ----------------------------------------------------------------------------------------------


async def test_a_legacy_call_runs_on_without_its_client_and_its_reply_can_be_fetched() -> None:
    """Even where the server goes on sending events to nobody."""
    release = trio.Event()
    progress = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":%d}}'

    async def long(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(OPEN + chunk(event(progress % 1, b"e1")))
        await release.wait()
        for step in range(2, 40):
            await stream.send_all(chunk(event(progress % step, b"e%d" % step)))
            await trio.lowlevel.checkpoint()
        await stream.send_all(chunk(event(DONE % asked.message["id"], b"e99")) + b"0\r\n\r\n")

    async with peer_and_site() as (peer, gateway):
        caller, client = await gateway.dial(), await gateway.dial()
        session = await client.initialize(PATH)
        peer.answers["tools/call"] = long
        await session.start(caller, call("mine", "t"))
        await caller.until(1)
        await trio.aclose_forcefully(caller)
        release.set()
        await gateway.idle()
        assert "notifications/cancelled" not in peer.methods()

        peer.answers["GET"] = stream_of(event(DONE % 1, b"e99"))
        (reply,) = events(await stream(client, session, Last_Event_ID="e1"))
        assert reply["id"] == "mine"


async def test_a_modern_call_ends_with_its_client() -> None:
    peer = Peer()
    async with trio.open_nursery() as nursery:
        await nursery.start(peer.serve)
        peer.answers["server/discover"] = result(DISCOVERED)
        async with site(urls={"one": peer.url}) as gateway:
            peer.answers["tools/call"] = peer.hang(OPEN + chunk(b": busy\n\n"))
            caller = await gateway.dial()
            message, headers = modern(call(1, "t"))
            await caller.start("POST", PATH, message, {**POST, **headers})
            await peer.until_asked("tools/call")
            await caller.aclose()
            await peer.gone.wait()
            assert "notifications/cancelled" not in peer.methods()
        nursery.cancel_scope.cancel(reason="the test is over")


async def test_streams_and_subscriptions_do_not_hold_up_the_end_of_the_gateway() -> None:
    async with site(shutdown_timeout=3600) as gateway:
        listener, subscriber, client = [await gateway.dial() for _ in range(3)]
        session = await client.initialize(PATH)
        await start_stream(listener, session)
        message, headers = modern(request(1, "subscriptions/listen", {"notifications": {"toolsListChanged": True}}))
        await subscriber.start("POST", PATH, message, {**POST, **headers})
        await subscriber.until(1)
        gateway.stop.set()
        assert (await listener.answer()).status == 200
        assert (await subscriber.answer()).status == 200
        assert await listener.ended()


async def test_delete_ends_the_stream_and_the_calls_of_its_session_and_no_other() -> None:
    async with peer_and_site() as (peer, gateway):
        listener, caller, client = [await gateway.dial() for _ in range(3)]
        session, other = await client.initialize(PATH), await client.initialize(PATH)
        peer.answers["GET"] = peer.hang(OPEN)
        await start_stream(listener, session)
        await peer.until_asked("GET")
        peer.answers["tools/call"] = peer.hang(OPEN)
        await session.start(caller, call(1, "t"))
        await peer.until_asked("tools/call")
        await client.ask("DELETE", PATH, b"", session.headers)
        assert (await listener.answer()).status == 200
        assert events(await caller.answer()) == []
        ended = await peer.until_asked("DELETE")
        assert ended.headers["mcp-session-id"] == "s1"
        peer.answers["tools/call"] = result(OK)
        assert text(await other.post(client, call(1, "t"))) == "ok"
        assert (await session.post(client, request(2, "ping"))).status == 404


async def test_a_cancellation_reaches_the_server_of_its_call_and_no_other() -> None:
    peers = [Peer(), Peer()]
    async with trio.open_nursery() as nursery:
        for peer in peers:
            peer.answers["server/discover"] = error(-32601)
            peer.answers["tools/list"] = result({"tools": [{"name": "t", "inputSchema": {"type": "object"}}]})
            peer.answers["tools/call"] = peer.hang()
            peer.answers["GET"] = http(405)
            await nursery.start(peer.serve)
        async with site(urls={"a": peers[0].url, "b": peers[1].url}) as gateway:
            client, caller, another = [await gateway.dial() for _ in range(3)]
            session = await client.initialize("/mcp")
            await session.post(client, request(0, "tools/list"))
            await session.start(caller, call(1, "a_t"))
            await session.start(another, call(2, "b_t"))
            for peer in peers:
                await peer.until_asked("tools/call")
            await session.post(client, notification("notifications/cancelled", {"requestId": 2}))
            await peers[1].until_asked("notifications/cancelled")
            await peers[1].gone.wait()
            assert not peers[0].gone.is_set()
            assert "notifications/cancelled" not in peers[0].methods()
            await session.post(client, notification("notifications/cancelled", {"requestId": 1}))
            await caller.answer()
        nursery.cancel_scope.cancel(reason="the test is over")
