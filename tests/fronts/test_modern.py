"""Clients of the modern era over Streamable HTTP: the ladder of headers, calls, streams, disconnecting."""

from __future__ import annotations

from typing import Any

import pytest

from mcpgateway.errors import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    UNSUPPORTED_VERSION,
)
from mcpgateway.protocol.revisions import Era
from tests.fronts.site import ENVELOPE, MODERN, POST, adapters, call, events, modern, notification, request, site, text


def exposed(path: str, tool: str) -> str:
    return tool if "one" in path else f"one_{tool}"


@pytest.mark.parametrize("path", ["/mcp/one", "/mcp"])
async def test_a_call_needs_no_handshake(path: str) -> None:
    async with site() as gateway:
        answer = await (await gateway.dial()).modern(path, call("a", exposed(path, "echo"), {"text": "hi"}))

        assert (answer.status, answer.json["id"], text(answer)) == (200, "a", "hi")
        assert answer.json["result"]["resultType"] == "complete"
        assert "mcp-session-id" not in answer.headers


@pytest.mark.parametrize("path", ["/mcp/one", "/mcp"])
async def test_discover_and_lists(path: str) -> None:
    async with site() as gateway:
        client = await gateway.dial()
        discovered = (await client.modern(path, request(1, "server/discover"))).json["result"]
        listed = (await client.modern(path, request(2, "tools/list"))).json["result"]

        assert MODERN in discovered["supportedVersions"]
        assert "tools" in discovered["capabilities"]
        assert exposed(path, "echo") in [tool["name"] for tool in listed["tools"]]
        for result in (discovered, listed):
            assert result["resultType"] == "complete"
            assert result["ttlMs"] == 0
            assert result["cacheScope"] == "private"


@pytest.mark.parametrize("path", ["/mcp/one", "/mcp"])
async def test_progress_comes_before_the_reply_on_one_stream(path: str) -> None:
    async with site() as gateway:
        asked = call(7, exposed(path, "progress"), {"n": 2}, _meta={"progressToken": 5})
        answer = await (await gateway.dial()).modern(path, asked)

        *told, reply = events(answer)
        assert answer.headers["content-type"] == "text/event-stream"
        assert [note["params"]["progressToken"] for note in told] == [5, 5]
        assert reply["id"] == 7


@pytest.mark.parametrize("path", ["/mcp/one", "/mcp"])
async def test_a_client_that_disconnects_cancels_its_call_and_no_other(path: str) -> None:
    async with site() as gateway:
        client, stays, other = [await gateway.dial() for _ in range(3)]
        for n, caller in enumerate((client, stays)):
            message, headers = modern(call("c", exposed(path, "slow"), {"name": f"s{n}"}))
            await caller.start("POST", path, message, {**POST, **headers})
        await other.modern(path, call(1, exposed(path, "waiting"), {"count": 2}))

        await client.aclose()

        counted = await other.modern(path, call(2, exposed(path, "cancelled"), {"count": 1}))
        assert counted.json["result"]["structuredContent"] == {"values": ["s0"]}
        await other.modern(path, call(3, exposed(path, "release")))
        assert text(await stays.answer()) == "s1"


async def test_a_question_is_a_result() -> None:
    async with site() as gateway:
        client = await gateway.dial()
        asked = call(1, "ask")
        asked["params"]["_meta"] = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}
        question = (await client.modern("/mcp/one", asked)).json["result"]

        assert question["resultType"] == "input_required"
        assert question["inputRequests"]["name"]["method"] == "elicitation/create"


async def test_notifications_get_202() -> None:
    async with site() as gateway:
        answer = await (await gateway.dial()).modern("/mcp", notification("notifications/cancelled", {"requestId": 1}))

        assert (answer.status, answer.body) == (202, b"")


async def test_the_same_ids_in_flight_of_two_clients_do_not_meet() -> None:
    async with site() as gateway:
        clients = [await gateway.dial() for _ in range(3)]
        for n, client in enumerate(clients):
            message, headers = modern(call(1, "slow", {"name": f"s{n}"}))
            await client.start("POST", "/mcp/one", message, {**POST, **headers})
        other = await gateway.dial()
        await other.modern("/mcp/one", call(1, "waiting", {"count": 3}))
        await other.modern("/mcp/one", call(1, "release"))

        assert [text(await client.answer()) for client in clients] == ["s0", "s1", "s2"]


# ---- the ladder ------------------------------------------------------------------------------------------------------

GOOD, HEADERS = modern(call(1, "echo", {"text": "hi"}))
LADDER: dict[str, tuple[Any, dict[str, str], int, int]] = {
    "not JSON": (b"{", HEADERS, 400, PARSE_ERROR),
    "a batch": ([GOOD], HEADERS, 400, INVALID_REQUEST),
    "a response": ({"jsonrpc": "2.0", "id": 1, "result": {}}, HEADERS, 400, INVALID_REQUEST),
    "no envelope": (call(1, "echo"), HEADERS, 400, INVALID_PARAMS),
    "half an envelope": (
        call(1, "echo", _meta={"io.modelcontextprotocol/protocolVersion": MODERN}),
        HEADERS,
        400,
        INVALID_PARAMS,
    ),
    "capabilities that are none": (
        call(1, "echo", _meta={**ENVELOPE, "io.modelcontextprotocol/clientCapabilities": []}),
        HEADERS,
        400,
        INVALID_PARAMS,
    ),
    "another revision in the header": (GOOD, {**HEADERS, "MCP-Protocol-Version": "2027-01-01"}, 400, HEADER_MISMATCH),
    "another method": (GOOD, {**HEADERS, "Mcp-Method": "tools/list"}, 400, HEADER_MISMATCH),
    "no method": (GOOD, {"MCP-Protocol-Version": MODERN, "Mcp-Name": "echo"}, 400, HEADER_MISMATCH),
    "another name": (GOOD, {**HEADERS, "Mcp-Name": "ECHO"}, 400, HEADER_MISMATCH),
    "no name": (GOOD, {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call"}, 400, HEADER_MISMATCH),
    "no version": (GOOD, {"Mcp-Method": "tools/call", "Mcp-Name": "echo"}, 400, HEADER_MISMATCH),
    "a revision of tomorrow": (
        call(1, "echo", _meta={**ENVELOPE, "io.modelcontextprotocol/protocolVersion": "2027-01-01"}),
        {**HEADERS, "MCP-Protocol-Version": "2027-01-01"},
        400,
        UNSUPPORTED_VERSION,
    ),
    "an unknown method": (
        modern(request(1, "tools/fly"))[0],
        modern(request(1, "tools/fly"))[1],
        404,
        METHOD_NOT_FOUND,
    ),
    "a method of the other era": (modern(request(1, "ping"))[0], modern(request(1, "ping"))[1], 404, METHOD_NOT_FOUND),
    "an unknown tool": (modern(call(1, "fly"))[0], modern(call(1, "fly"))[1], 400, INVALID_PARAMS),
}


@pytest.mark.parametrize("path", ["/mcp/one", "/mcp"])
@pytest.mark.parametrize("case", LADDER)
async def test_the_ladder_of_refusals(path: str, case: str) -> None:
    body, headers, status, code = LADDER[case]
    async with site() as gateway:
        client = await gateway.dial()
        answer = await client.post(path, body, headers)

        assert (answer.status, answer.json["error"]["code"]) == (status, code)
        assert answer.json["id"] == (None if case in ("not JSON", "a batch", "a response") else 1)
        again = await client.modern(path, call(2, exposed(path, "echo"), {"text": "still here"}))
        assert text(again) == "still here"


async def test_a_header_twice_is_refused() -> None:
    async with site() as gateway:
        client = await gateway.dial()
        message, headers = modern(call(1, "echo"))
        answer = await client.post("/mcp/one", message, {**headers, "mcp-method": "tools/call"})

        assert (answer.status, answer.json["error"]["code"], answer.json["id"]) == (400, HEADER_MISMATCH, 1)


async def test_an_unknown_revision_is_told_those_that_are_served() -> None:
    async with site() as gateway:
        body, headers, _, _ = LADDER["a revision of tomorrow"]
        problem = (await (await gateway.dial()).post("/mcp", body, headers)).json["error"]

        assert problem["data"] == {"supported": [MODERN], "requested": "2027-01-01"}


@pytest.mark.requirement("bridge.handshake.modern-to-legacy")
@pytest.mark.parametrize("path", ["/mcp/one", "/mcp"])
async def test_a_modern_client_discovers_a_legacy_server(path: str) -> None:
    async with site(adapters("one", eras=frozenset({Era.LEGACY}))) as gateway:
        answer = await (await gateway.dial()).modern(path, request("d", "server/discover"))

        found = answer.json["result"]
        assert (answer.status, answer.json["id"]) == (200, "d")
        assert (found["resultType"], found["supportedVersions"]) == ("complete", [MODERN])
        assert (found["ttlMs"], found["cacheScope"]) == (0, "private")
        assert found["capabilities"]["tools"] == {"listChanged": True}
        assert found["_meta"]["io.modelcontextprotocol/serverInfo"]["name"]


async def test_sessions_are_ignored() -> None:
    async with site() as gateway:
        client = await gateway.dial()
        asked = call(1, "echo", {"text": "hi"})

        assert text(await client.modern("/mcp/one", asked, {"Mcp-Session-Id": "none such"})) == "hi"
        deleted = await client.ask("DELETE", "/mcp", headers={"MCP-Protocol-Version": MODERN, "Mcp-Session-Id": "x"})
        assert (deleted.status, deleted.headers["allow"]) == (405, "POST")


async def test_a_server_that_dies_is_named_and_nobody_else_disturbed() -> None:
    async with site(adapters("one", "two")) as gateway:
        client, other = await gateway.dial(), await gateway.dial()
        answer = await client.modern("/mcp/one", call(1, "crash"))

        assert (answer.status, answer.json["id"]) == (502, 1)
        assert answer.json["error"]["data"]["server"] == "one"
        assert "boom" in answer.json["error"]["message"]
        assert text(await other.modern("/mcp/two", call(1, "echo", {"text": "hi"}))) == "hi"
