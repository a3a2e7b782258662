"""HTTP+SSE as HTTP: what its paths answer, what they announce, and who may use whose stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from mcpgateway.config.limits import Limits
from mcpgateway.config.model import Listen
from mcpgateway.errors import INVALID_REQUEST, PARSE_ERROR
from tests.fronts.channels import ChannelClient, SseWire, connected
from tests.fronts.site import LEGACY, POST, Site, adapters, call, gone, notification, request, site, text

STREAM = {"Accept": "text/event-stream"}
JSON = {"Content-Type": "application/json"}


@asynccontextmanager
async def opened(gateway: Site, name: str = "") -> AsyncIterator[tuple[ChannelClient, SseWire]]:
    async with connected("sse", gateway, name) as client:
        assert isinstance(client.wire, SseWire)
        yield client, client.wire


@pytest.mark.requirement("5.fronts", "feature.8", "feature.9", "feature.18")
@pytest.mark.parametrize(
    ("path", "endpoint"), [("/sse", "/messages"), ("/sse/", "/messages"), ("/one/sse", "/one/message")]
)
async def test_a_stream_begins_with_where_to_post(path: str, endpoint: str) -> None:
    async with site() as gateway:
        stream = await gateway.dial()
        await stream.start("GET", path, headers=STREAM)
        while b"\n\n" not in stream._answers.body:
            await stream.more()
        begun = bytes(stream._answers.body).decode()
        headers = stream._answers._headers

        assert headers["content-type"] == "text/event-stream"
        assert headers["cache-control"] == "no-cache, no-transform"
        assert headers["x-accel-buffering"] == "no"
        assert begun.startswith(f"event: endpoint\ndata: {endpoint}?sessionId=")
        id = begun.rpartition("=")[2].strip()
        assert len(id) >= 32
        assert "mcp-session-id" not in headers


async def test_the_name_in_an_endpoint_is_one_of_urls() -> None:
    async with site(adapters("a.b-c")) as gateway, opened(gateway, "a.b-c") as (client, wire):
        assert wire.endpoint.startswith("/a.b-c/message?sessionId=")
        await client.initialize()


@pytest.mark.requirement("feature.8")
@pytest.mark.parametrize("path", ["/messages", "/message", "/sse"])
async def test_a_message_is_taken_on_each_path(path: str) -> None:
    async with site() as gateway, opened(gateway) as (client, wire):
        wire.endpoint = f"{path}?{wire.endpoint.partition('?')[2]}"
        await client.initialize()
        assert (await client.ask(call(1, "one_echo", {"text": "hi"})))["result"]["content"][0]["text"] == "hi"


async def test_a_session_may_be_named_by_a_header() -> None:
    async with site() as gateway, opened(gateway) as (client, wire):
        id = wire.endpoint.partition("=")[2]
        for path in ("/messages", "/sse"):
            answer = await wire.poster.post(path, request(path, "ping"), {"Mcp-Session-Id": id})
            assert (answer.status, answer.body, answer.headers["content-type"]) == (202, b"Accepted", "text/plain")
            assert (await client.answer(path))["result"] == {}


@pytest.mark.parametrize("path", ["/messages", "/message", "/one/message", "/one/messages"])
async def test_a_message_for_no_stream_is_refused(path: str) -> None:
    async with site() as gateway, opened(gateway):
        poster = await gateway.dial()
        for query, status, said in (
            ("", 400, "Missing sessionId parameter"),
            ("?sessionId=", 400, "Missing sessionId parameter"),
            ("?sessionId=nope", 404, "Session not found"),
            ("?sessionid=nope", 400, "Missing sessionId parameter"),
        ):
            answer = await poster.post(path + query, request(7, "ping"))
            assert (answer.status, answer.json["error"]["message"]) == (status, said)
        assert (await poster.ask("PUT", path)).status == 405


async def test_a_stream_of_one_namespace_is_no_other_namespaces() -> None:
    async with site(adapters("one", "two")) as gateway, opened(gateway, "one") as (_, wire):
        query = wire.endpoint.partition("?")[2]
        for path in ("/messages", "/message", "/two/message", "/sse"):
            answer = await wire.poster.post(f"{path}?{query}", request(1, "ping"))
            assert (answer.status, answer.json["error"]["code"]) == (404, INVALID_REQUEST)
        assert (await wire.poster.post(f"/one/messages?{query}", request(1, "ping"))).status == 202


async def test_a_stream_that_was_closed_takes_no_message() -> None:
    async with site() as gateway, opened(gateway) as (client, wire):
        await client.initialize()
        await wire.stream.aclose()
        while gateway.gateway.bounds.streams.held:
            await trio.testing.wait_all_tasks_blocked(0.001)
        assert (await wire.poster.post(wire.endpoint, request(1, "ping"))).status == 404
        assert len(gateway.gateway.sessions) == 0


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"{", JSON, 400, PARSE_ERROR),
        (b"[]", JSON, 400, INVALID_REQUEST),
        (b"{}", JSON, 400, INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"}', {"Content-Type": "text/plain"}, 415, PARSE_ERROR),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping"}', {}, 415, PARSE_ERROR),
        (b" " * 70_000, JSON, 413, INVALID_REQUEST),
    ],
)
async def test_what_is_no_message_is_refused_where_it_is_posted(
    body: bytes, headers: Mapping[str, str], status: int, code: int
) -> None:
    async with site(listen=Listen(limits=Limits(body_bytes=60_000))) as gateway, opened(gateway) as (client, wire):
        answer = await wire.poster.ask("POST", wire.endpoint, body, headers)
        assert (answer.status, answer.json["error"]["code"]) == (status, code)
        wire.poster = await gateway.dial()
        assert (await client.ask(request(1, "ping")))["result"] == {}


@pytest.mark.requirement("feature.12")
async def test_a_post_to_the_path_of_a_stream_is_streamable_http() -> None:
    async with site() as gateway:
        client = await gateway.dial()
        for path in ("/sse", "/one/sse"):
            session = await client.initialize(path)
            assert (
                text(await session.post(client, call(1, "echo" if "one" in path else "one_echo", {"text": "hi"})))
                == "hi"
            )
            stream = await gateway.dial()
            await stream.start("GET", path, headers={**STREAM, **session.headers})
            while not [held for held in gateway.gateway.sessions if held.streams]:
                await trio.testing.wait_all_tasks_blocked(0.001)
            assert (await client.ask("DELETE", path, headers=session.headers)).status == 200
            unknown = await client.post(f"{path}?sessionId=nope", request(1, "ping"))
            assert (unknown.status, unknown.json["error"]["message"]) == (404, "Session not found")


@pytest.mark.requirement("feature.16")
@pytest.mark.parametrize("path", ["/one", "/one/"])
async def test_a_server_has_a_path_of_its_own(path: str) -> None:
    async with site() as gateway:
        client = await gateway.dial()
        session = await client.initialize(path)
        assert text(await session.post(client, call(1, "echo", {"text": "hi"}))) == "hi"
        assert text(await client.modern(path, call(1, "echo", {"text": "hi"}))) == "hi"
        assert (await client.post("/none", request(1, "ping"))).status == 404
        assert (await client.ask("GET", "/none/sse", headers=STREAM)).status == 404


async def test_a_stream_is_no_session_of_streamable_http() -> None:
    async with site() as gateway, opened(gateway) as (client, wire):
        await client.initialize()
        id = wire.endpoint.partition("=")[2]
        headers = {"Mcp-Session-Id": id, "MCP-Protocol-Version": LEGACY}
        assert (await wire.poster.post("/mcp", request(1, "ping"), headers)).status == 404
        assert (await wire.poster.ask("DELETE", "/mcp", headers=headers)).status == 404
        (session,) = gateway.gateway.sessions
        assert (await wire.poster.post(f"/messages?sessionId={session.id}", request(1, "ping"))).status == 404


async def test_foreign_pages_and_hosts_are_refused_and_friends_told_so() -> None:
    listen = Listen(cors=("https://friend.example",))
    async with site(listen=listen) as gateway, opened(gateway) as (_, wire):
        foreign = {"Origin": "https://evil.example"}
        friend = {"Origin": "https://friend.example"}
        client = wire.poster
        for method, path, headers in (("GET", "/sse", STREAM), ("POST", wire.endpoint, POST), ("POST", "/sse", POST)):
            body: Any = request(1, "ping") if method == "POST" else b""
            assert (await client.ask(method, path, body, {**headers, **foreign})).status == 403
            assert (await client.ask(method, path, body, {**headers, "Host": "evil.example"})).status == 403
        taken = await client.post(wire.endpoint, notification("x"), friend)
        assert taken.headers["access-control-allow-origin"] == "https://friend.example"
        asked = await client.ask("OPTIONS", "/messages", headers=friend)
        assert (asked.status, asked.headers["access-control-allow-origin"]) == (204, "https://friend.example")
        assert (await client.ask("OPTIONS", "/messages", headers={"Origin": "http://localhost:1"})).status == 403


async def test_only_who_takes_events_gets_a_stream() -> None:
    async with site() as gateway:
        client = await gateway.dial()
        assert (await client.ask("GET", "/sse", headers={"Accept": "application/json"})).status == 406
        assert (await client.ask("DELETE", "/messages")).status == 405
        assert (await client.ask("PUT", "/sse")).status == 405


async def test_streams_are_bounded() -> None:
    async with site(listen=Listen(limits=Limits(streams=1, streams_per_address=1))) as gateway, opened(gateway):
        refused = await (await gateway.dial()).ask("GET", "/sse", headers=STREAM)
        assert (refused.status, refused.headers["retry-after"]) == (503, "5")
        refused = await (await gateway.dial()).ask(
            "GET",
            "/ws",
            headers={
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            },
        )
        assert refused.status == 503


async def test_a_silent_stream_is_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcpgateway.fronts.listener.BEAT", 0.01)
    async with site() as gateway, opened(gateway) as (client, wire):
        while b"\n:\n\n" not in wire.stream._answers.body:
            await wire.stream.more()
        assert (await client.ask(request(1, "ping")))["result"] == {}


async def test_a_client_that_stops_reading_is_dropped_and_nobody_else_disturbed() -> None:
    listen = Listen(limits=Limits(write_timeout=0.1, write_rate=1 << 30))
    async with site(listen=listen) as gateway, opened(gateway, "one") as (client, wire):
        await client.initialize()
        for n in range(40):
            await wire.poster.post(wire.endpoint, call(n, "big", {"kib": 1024}))  # 404 once it has been dropped
        await gone(gateway)
        async with connected("sse", gateway) as other:
            assert (await other.ask(request(1, "ping")))["result"] == {}
