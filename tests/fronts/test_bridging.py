"""What crosses the eras over Streamable HTTP, on the wires of both ends: rows of the bridging table that show there."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from mcpgateway.protocol.revisions import Era
from tests.adapters.http_peer import DISCOVERED, INITIALIZED, OK, Answer, Asked, Peer, error, http, result, stream_of
from tests.fronts.site import (
    LEGACY,
    MODERN,
    POST,
    Client,
    Site,
    adapters,
    call,
    events,
    gone,
    modern,
    notification,
    request,
    site,
    text,
)
from tests.wire.http1.peers import Answer as Answered

PATH = "/mcp/one"
OPEN = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
INFO = "io.modelcontextprotocol/serverInfo"
PATHS = pytest.mark.parametrize(("path", "prefix"), [(PATH, ""), ("/mcp", "one_")], ids=["alone", "merged"])


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "inputSchema": {"type": "object"}, **more}


@asynccontextmanager
async def before(era: Era, **answers: Answer) -> AsyncIterator[tuple[Peer, Site]]:
    """A gateway before a scripted server of one era; in the names of its answers, ``_`` stands for ``/``."""
    peer = Peer()
    if era is Era.LEGACY:
        peer.answers["server/discover"] = error(-32601)
        peer.answers["GET"] = http(405)
    else:
        told = {**DISCOVERED, "_meta": {INFO: {"name": "p", "version": "1"}}}
        peer.answers["server/discover"] = result(told)
        peer.answers["initialize"] = error(-32022, 400, data={"supported": [MODERN], "requested": LEGACY})
    peer.answers["tools/list"] = result({"tools": [tool("t")]})
    peer.answers |= {name.replace("_", "/"): answer for name, answer in answers.items()}
    async with trio.open_nursery() as nursery:
        await nursery.start(peer.serve)
        async with site(urls={"one": peer.url}) as gateway:
            yield peer, gateway
        nursery.cancel_scope.cancel(reason="the test is over")


def in_turn(*answers: Answer) -> Answer:
    """One answer after the other, and the last again and again."""
    left = list(answers)

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(asked, stream)

    return answer


# ---- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("bridge.headers.legacy-to-modern", "bridge.envelope.legacy-to-modern")
@PATHS
async def test_a_modern_server_gets_an_envelope_and_the_headers_that_repeat_it(path: str, prefix: str) -> None:
    def marked(header: str) -> dict[str, Any]:
        return {"type": "object", "properties": {"where": {"type": "string", "x-mcp-header": header}}}

    tools = [tool("t", inputSchema=marked("Where")), tool("bad", inputSchema=marked("no token"))]
    async with before(Era.MODERN, tools_list=result({"tools": tools})) as (peer, gateway):
        client = await gateway.dial()
        session = await client.initialize(path, {"elicitation": {}, "roots": {"listChanged": True}, "tasks": {}})
        listed = (await session.post(client, request(1, "tools/list"))).json["result"]["tools"]
        assert [each["name"] for each in listed] == [prefix + "t"]
        asked = call("mine", prefix + "t", {"where": "é"}, _meta={"vendor/x": 1, "progressToken": "p"})
        assert text(await session.post(client, asked)) == "ok"
        came = await peer.until_asked("tools/call")
    params = came.message["params"]
    meta = params["_meta"]
    assert (meta.pop("vendor/x"), params["name"], params["arguments"]) == (1, "t", {"where": "é"})
    assert meta["io.modelcontextprotocol/clientCapabilities"] == {"elicitation": {}, "roots": {}}
    assert meta["io.modelcontextprotocol/protocolVersion"] == MODERN
    assert came.headers["mcp-protocol-version"] == MODERN
    assert (came.headers["mcp-method"], came.headers["mcp-name"]) == ("tools/call", "t")
    assert came.headers["mcp-param-where"] == "=?base64?w6k=?="
    assert "mcp-session-id" not in came.headers
    assert came.message["id"] != "mine"


@pytest.mark.requirement("bridge.headers.modern-to-legacy", "bridge.envelope.modern-to-legacy")
@PATHS
async def test_a_legacy_server_gets_its_session_and_nothing_of_the_envelope(path: str, prefix: str) -> None:
    async with before(Era.LEGACY) as (peer, gateway):
        client = await gateway.dial()
        asked = call("mine", prefix + "t", {"x": 1}, _meta={"vendor/x": 1, "traceparent": "00-1"})
        answer = await client.modern(path, asked, {"Mcp-Param-Odd": "1"})
        came = await peer.until_asked("tools/call")
        (opened,) = [asked for asked in peer.asked if asked.method == "initialize"][-1:]
    assert text(answer) == "ok"
    assert came.message["params"] == {
        "name": "t",
        "arguments": {"x": 1},
        "_meta": {"vendor/x": 1, "traceparent": "00-1"},
    }
    assert (came.headers["mcp-session-id"], came.headers["mcp-protocol-version"]) == ("s1", LEGACY)
    assert not [name for name in came.headers if name.startswith("mcp-param")]
    assert opened.message["params"]["capabilities"] == {}


# ---- results and errors ----------------------------------------------------------------------------------------------


@pytest.mark.requirement("bridge.result.legacy-to-modern")
@PATHS
async def test_a_legacy_client_reads_what_only_the_modern_era_can_say(path: str, prefix: str) -> None:
    tools = [tool("t", outputSchema={"type": "array"}), tool("u", outputSchema={"type": "object", "x": 1.0})]
    hints = {"resultType": "complete", "ttlMs": 9, "cacheScope": "public", "_meta": {INFO: {"name": "p"}, "v/x": 1}}
    done = {**OK, "structuredContent": [1.0, 2], "resultType": "complete", "_meta": {INFO: {"name": "p"}, "v/x": 1}}
    answers = {"tools_list": result({"tools": tools, **hints}), "tools_call": result(done)}
    async with before(Era.MODERN, **answers) as (_, gateway):
        client = await gateway.dial()
        session = await client.initialize(path)
        listed = (await session.post(client, request(1, "tools/list"))).json["result"]
        called = (await session.post(client, call(2, prefix + "t"))).json["result"]
    assert [each.get("outputSchema") for each in listed["tools"]] == [None, {"type": "object", "x": 1.0}]
    assert not listed.keys() & {"resultType", "ttlMs", "cacheScope"}
    assert called["structuredContent"] == {"result": [1.0, 2]}
    assert "resultType" not in called
    assert called["_meta"]["v/x"] == 1
    assert INFO not in called["_meta"]


CACHEABLE: dict[str, dict[str, list[object]]] = {
    "tools/list": {"tools": []},
    "prompts/list": {"prompts": []},
    "resources/list": {"resources": []},
    "resources/templates/list": {"resourceTemplates": []},
    "resources/read": {"contents": []},
}


@pytest.mark.requirement("bridge.result.modern-to-legacy")
@pytest.mark.parametrize("method", CACHEABLE)
@pytest.mark.parametrize("path", [PATH, "/mcp"])
async def test_a_modern_client_is_told_to_keep_nothing_of_a_legacy_server(path: str, method: str) -> None:
    everything = {**INITIALIZED, "capabilities": {"tools": {}, "prompts": {}, "resources": {}}}
    answers = {
        "initialize": result(everything, Mcp_Session_Id="s1"),
        **{name.replace("/", "_"): result(value) for name, value in CACHEABLE.items()},
        "resources_list": result({"resources": [{"uri": "x:/1", "name": "x"}]}),
    }
    async with before(Era.LEGACY, **answers) as (_, gateway):
        params = {"uri": "x:/1"} if method == "resources/read" else {}
        found = (await (await gateway.dial()).modern(path, request(1, method, params))).json["result"]
    assert (found["resultType"], found["ttlMs"], found["cacheScope"]) == ("complete", 0, "private")
    assert path != PATH or found["_meta"][INFO]["name"] == "p"


@pytest.mark.requirement("bridge.errors.legacy-to-modern")
@pytest.mark.parametrize(
    ("code", "data", "shown"),
    [
        (-32602, {"uri": "x:/1"}, -32002),
        (-32020, None, -32603),
        (-32021, {"requiredCapabilities": {"roots": {}}}, -32602),
    ],
    ids=["not found", "headers", "capability"],
)
async def test_a_legacy_client_is_told_of_errors_in_its_own_codes(code: int, data: object, shown: int) -> None:
    async with before(Era.MODERN, resources_read=error(code, 400, data=data)) as (_, gateway):
        client = await gateway.dial()
        session = await client.initialize(PATH)
        answer = await session.post(client, request(7, "resources/read", {"uri": "x:/1"}))
    assert (answer.status, answer.json["id"], answer.json["error"]["code"]) == (200, 7, shown)


@pytest.mark.requirement("bridge.errors.modern-to-legacy")
async def test_a_modern_client_is_told_that_a_resource_is_unknown_in_its_own_code() -> None:
    async with before(Era.LEGACY, resources_read=error(-32002, data={"uri": "x:/1"})) as (_, gateway):
        answer = await (await gateway.dial()).modern(PATH, request(7, "resources/read", {"uri": "x:/1"}))
    assert (answer.status, answer.json["error"]["code"]) == (400, -32602)
    assert answer.json["error"]["data"] == {"uri": "x:/1"}


@pytest.mark.requirement("bridge.errors.modern-to-legacy")
async def test_a_modern_client_sees_nothing_of_a_session_that_its_server_has_lost() -> None:
    async with before(Era.LEGACY, tools_call=in_turn(http(404), result(OK))) as (peer, gateway):
        assert text(await (await gateway.dial()).modern(PATH, call(1, "t"))) == "ok"
        assert peer.methods().count("tools/call") == 2
        lost, again = [at for at, method in enumerate(peer.methods()) if method == "tools/call"]
        assert peer.methods()[lost:again].count("initialize") == 1


@pytest.mark.requirement("bridge.paging.legacy-to-modern", "bridge.paging.modern-to-legacy")
@pytest.mark.parametrize("era", Era)
async def test_cursors_are_the_servers_own_across_the_eras(era: Era) -> None:
    """``era`` is the server's."""
    page = result({"tools": [tool("t")], "nextCursor": "é 2", "resultType": "complete"})
    async with before(era, tools_list=page) as (peer, gateway):
        client, message = await gateway.dial(), request(1, "tools/list", {"cursor": "é 1"})
        if era is Era.LEGACY:
            answer = await client.modern(PATH, message)
        else:
            answer = await (await client.initialize(PATH)).post(client, message)
        assert answer.json["result"]["nextCursor"] == "é 2"
        assert peer.asked[-1].message["params"]["cursor"] == "é 1"


@pytest.mark.requirement("bridge.paging.legacy-to-modern", "bridge.paging.modern-to-legacy")
@pytest.mark.parametrize("era", Era)
async def test_a_merged_listing_follows_the_cursors_of_servers_of_the_other_era(era: Era) -> None:
    pages = (result({"tools": [tool("t")], "nextCursor": "2"}), result({"tools": [tool("u")]}))
    async with before(era, tools_list=in_turn(*pages)) as (peer, gateway):
        client, message = await gateway.dial(), request(1, "tools/list")
        if era is Era.LEGACY:
            answer = await client.modern("/mcp", message)
        else:
            answer = await (await client.initialize("/mcp")).post(client, message)
        assert [each["name"] for each in answer.json["result"]["tools"]] == ["one_t", "one_u"]
        cursors = [
            asked.message.get("params", {}).get("cursor") for asked in peer.asked if asked.method == "tools/list"
        ]
        assert cursors == [None, "2"]


# ---- the end of calls, sessions and streams --------------------------------------------------------------------------


@pytest.mark.requirement("bridge.cancel.legacy-to-modern")
async def test_a_cancelled_call_closes_the_request_at_a_modern_server() -> None:
    async with before(Era.MODERN) as (peer, gateway):
        client, caller = await gateway.dial(), await gateway.dial()
        session = await client.initialize(PATH)
        peer.answers["tools/call"] = peer.hang()
        await session.start(caller, call("mine", "t"))
        await peer.until_asked("tools/call")
        await session.post(client, notification("notifications/cancelled", {"requestId": "mine"}))
        assert events(await caller.answer()) == []
        await peer.gone.wait()
        assert "notifications/cancelled" not in peer.methods()
        await gone(gateway)


@pytest.mark.requirement("bridge.cancel.legacy-to-modern")
async def test_a_legacy_client_that_leaves_cancels_nothing_at_a_modern_server() -> None:
    release = trio.Event()
    async with before(Era.MODERN, tools_call=_late(release)) as (peer, gateway):
        client, caller = await gateway.dial(), await gateway.dial()
        session = await client.initialize(PATH)
        await session.start(caller, call(1, "t"))
        await peer.until_asked("tools/call")
        await trio.aclose_forcefully(caller)
        assert (await session.post(client, request(2, "ping"))).json["result"] == {}
        assert gateway.gateway.bounds.calls.held == 1
        assert not peer.gone.is_set()
        release.set()
        await gone(gateway)


@pytest.mark.requirement("bridge.cancel.modern-to-legacy")
async def test_a_modern_client_that_leaves_has_its_call_cancelled_at_a_legacy_server() -> None:
    async with before(Era.LEGACY) as (peer, gateway):
        peer.answers["tools/call"] = peer.hang(OPEN)
        caller = await gateway.dial()
        message, headers = modern(call(1, "t"))
        await caller.start("POST", PATH, message, {**POST, **headers})
        called = await peer.until_asked("tools/call")
        await caller.aclose()
        cancelled = await peer.until_asked("notifications/cancelled")
        assert cancelled.message["params"]["requestId"] == called.message["id"]
        await gone(gateway)


@pytest.mark.requirement("bridge.sessions.legacy-to-modern")
async def test_the_end_of_a_session_ends_what_it_has_at_a_modern_server_and_nothing_else() -> None:
    servers = adapters("one", eras=frozenset({Era.MODERN}))
    async with site(servers) as gateway:
        client, listener, caller = [await gateway.dial() for _ in range(3)]
        session, other = await client.initialize(PATH), await client.initialize(PATH)
        await listener.start("GET", PATH, b"", {"Accept": "text/event-stream", **session.headers})
        await session.start(caller, call(1, "slow", {"name": "s"}))
        await _until(client, other, call(2, "waiting", {"count": 1}))
        assert (await client.ask("DELETE", PATH, b"", session.headers)).status == 200
        assert (await listener.answer()).status == 200
        assert events(await caller.answer()) == []
        assert (await other.post(client, call(3, "cancelled", {"count": 1}))).json["result"]["structuredContent"] == {
            "values": ["s"]
        }
        assert gateway.gateway.statistics().changes.listening == 0
        assert (await session.post(client, request(4, "ping"))).status == 404


async def _until(client: Client, session: Any, message: dict[str, Any]) -> None:
    answer = await session.post(client, message)
    assert answer.json["result"]["structuredContent"]["values"]


@pytest.mark.requirement("bridge.resumability.modern-to-legacy")
async def test_a_modern_client_sees_nothing_of_a_stream_that_its_legacy_server_cut_off() -> None:
    async def resumed(asked: Asked, stream: trio.SocketStream) -> None:
        if asked.headers.get("last-event-id") != "e1":
            await http(405)(asked, stream)
            return
        last = next(asked for asked in reversed(peer.asked) if asked.method == "tools/call")
        reply = {"jsonrpc": "2.0", "id": last.message["id"], "result": OK}
        await stream_of(b"id: e2\ndata: " + json.dumps(reply).encode() + b"\n\n")(asked, stream)

    cut_off = stream_of(b"id: e1\nretry: 50\ndata:\n\n")
    async with before(Era.LEGACY, tools_call=cut_off, GET=resumed) as (peer, gateway):
        answer = await (await gateway.dial()).modern(PATH, call("mine", "t"))
    (reply,) = events(answer) if answer.headers["content-type"] != "application/json" else [answer.json]
    assert (reply["id"], reply["result"]["content"]) == ("mine", OK["content"])
    assert b"id: e" not in answer.body
    assert peer.methods().count("tools/call") == 1


# ---- bad input -------------------------------------------------------------------------------------------------------

MALFORMED = {
    "no JSON": stream_of(b"data: {\n\n"),
    "no UTF-8": stream_of(b'data: {"jsonrpc":"2.0","id":1,"result":{"x":"\xff"}}\n\n'),
    "half an event": stream_of(b'data: {"jsonrpc":"2.0","id":1,"result":{}}'),
    "no reply": stream_of(b": nothing\n\n"),
    "another's reply": stream_of(b'data: {"jsonrpc":"2.0","id":"other","result":{}}\n\n'),
    "half a body": http(200, "application/json", b'{"jsonrpc":"2.0"'),
    "another kind": http(200, "text/html", b"<html>"),
}


@pytest.mark.requirement("5.bad")
@pytest.mark.parametrize("era", Era)
@pytest.mark.parametrize("case", MALFORMED)
async def test_what_a_server_of_the_other_era_says_wrong_fails_its_call_and_no_other(era: Era, case: str) -> None:
    """``era`` is the server's."""
    async with before(era) as (peer, gateway):
        client, other, caller = [await gateway.dial() for _ in range(3)]
        session = None if era is Era.LEGACY else await client.initialize(PATH)

        async def say(client: Client, message: dict[str, Any]) -> Answered:
            return await (client.modern(PATH, message) if session is None else session.post(client, message))

        release = trio.Event()
        peer.answers["tools/call"] = _late(release)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_gets_its_answer, say, other)
            await peer.until_asked("tools/call")
            peer.answers["tools/call"] = MALFORMED[case]
            failed = (await say(caller, call("mine", "t"))).json
            assert failed["id"] == "mine"
            assert failed["error"]["code"] == -32603
            assert "'one'" in failed["error"]["message"]
            release.set()
        peer.answers["tools/call"] = result(OK)
        assert text(await say(caller, call(3, "t"))) == "ok"
        await gone(gateway)


def _late(release: trio.Event) -> Answer:
    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await release.wait()
        await result(OK)(asked, stream)

    return answer


async def _gets_its_answer(say: Callable[[Client, dict[str, Any]], Awaitable[Answered]], client: Client) -> None:
    assert text(await say(client, call(1, "t"))) == "ok"
