"""Clients of the legacy era over Streamable HTTP: handshake, sessions, calls, streams, cancellation."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from mcpgateway.config.model import Listen
from mcpgateway.errors import INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND
from mcpgateway.protocol.revisions import Era
from tests.fronts.site import LEGACY, POST, Client, adapters, call, events, notification, request, site, text

PATHS = ["/mcp/one", "/mcp", "/stream", "/stream/one", "/mcp/", "/mcp/one/"]


def exposed(path: str, tool: str) -> str:
    """The name of a tool of server ``one`` on a path."""
    return tool if "one" in path else f"one_{tool}"


# ---- handshake and sessions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("revision", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_the_handshake_in_every_revision(path: str, revision: str) -> None:
    async with site() as gateway:
        client = await gateway.dial()
        session = await client.initialize(path, revision=revision)

        assert session.result["protocolVersion"] == revision
        assert "tools" in session.result["capabilities"]
        assert (await session.post(client, request(1, "ping"))).json == {"jsonrpc": "2.0", "id": 1, "result": {}}
        assert text(await session.post(client, call(2, exposed(path, "echo"), {"text": "hi"}))) == "hi"


@pytest.mark.parametrize("revision", ["2026-07-28", "1999-01-01", ""])
async def test_an_unknown_revision_gets_the_latest_as_a_counter_offer(revision: str) -> None:
    async with site() as gateway:
        session = await (await gateway.dial()).initialize("/mcp", revision=revision)

        assert session.result["protocolVersion"] == LEGACY


@pytest.mark.parametrize("params", [{}, {"protocolVersion": 7}, {"protocolVersion": None, "capabilities": {}}])
async def test_a_handshake_without_a_revision_is_refused(params: dict[str, Any]) -> None:
    async with site() as gateway:
        answer = await (await gateway.dial()).post("/mcp", request("a", "initialize", params))

        assert (answer.json["id"], answer.json["error"]["code"]) == ("a", INVALID_PARAMS)
        assert "mcp-session-id" not in answer.headers


async def test_session_ids_are_unguessable_visible_ascii() -> None:
    async with site() as gateway:
        client = await gateway.dial()
        ids = {(await client.initialize("/mcp")).id for _ in range(10)}

        assert len(ids) == 10
        assert all(len(id) >= 32 and id.isascii() and id.isprintable() for id in ids)


async def test_delete_ends_a_session() -> None:
    async with site() as gateway:
        client = await gateway.dial()
        session = await client.initialize("/mcp/one")

        assert (await client.ask("DELETE", "/mcp/one", headers=session.headers)).status == 200
        after = await session.post(client, request(1, "ping"))
        assert (after.status, after.json["id"], after.json["error"]["code"]) == (404, 1, INVALID_REQUEST)
        assert (await client.ask("DELETE", "/mcp/one", headers=session.headers)).status == 404
        assert (await client.ask("DELETE", "/mcp/one")).status == 400


async def test_delete_ends_the_calls_of_its_session() -> None:
    async with site() as gateway:
        caller, client = await gateway.dial(), await gateway.dial()
        session = await client.initialize("/mcp/one")
        other = await client.initialize("/mcp/one")
        await session.start(caller, call(1, "slow", {"name": "s"}))
        await other.post(client, call(1, "waiting", {"count": 1}))

        await client.ask("DELETE", "/mcp/one", headers=session.headers)

        assert (await caller.answer()).status in (200, 404)
        counted = await other.post(client, call(2, "cancelled", {"count": 1}))
        assert counted.json["result"]["structuredContent"] == {"values": ["s"]}


async def test_two_sessions_do_not_meet() -> None:
    """The same ids, at the same time, on the same server."""
    async with site() as gateway:
        clients = [await gateway.dial() for _ in range(2)]
        sessions = [await client.initialize("/mcp/one") for client in clients]
        for client, session in zip(clients, sessions, strict=True):
            await session.start(client, call(1, "slow", {"name": session.id}))
        third = await gateway.dial()
        await sessions[0].post(third, call(9, "waiting", {"count": 2}))
        await sessions[0].post(third, call(9, "release"))

        for client, session in zip(clients, sessions, strict=True):
            assert text(await client.answer()) == session.id


async def test_notifications_and_answers_get_202() -> None:
    async with site() as gateway:
        client = await gateway.dial()
        session = await client.initialize("/mcp/one")
        for message in (
            notification("notifications/roots/list_changed"),
            notification("notifications/cancelled", {"requestId": 77}),
            notification("notifications/of-no-revision", {"x": 1}),
            {"jsonrpc": "2.0", "id": 5, "result": {}},
            {"jsonrpc": "2.0", "id": "x", "error": {"code": 1, "message": "m"}},
        ):
            answer = await session.post(client, message)
            assert (answer.status, answer.body) == (202, b"")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "HEAD"])
async def test_other_methods_get_405(method: str) -> None:
    async with site() as gateway:
        client = await gateway.dial()
        await client.start(method, "/mcp", headers={"Accept": "text/event-stream"})
        while not client._answers.status:
            await client.more()

        assert client._answers.status == 405
        assert "POST" in client._answers._headers["allow"]


async def test_a_session_works_without_the_version_header() -> None:
    async with site() as gateway:
        client = await gateway.dial()
        session = await client.initialize("/mcp", revision="2025-03-26")

        answer = await client.post("/mcp", request(1, "ping"), {"Mcp-Session-Id": session.id})
        assert answer.status == 200


# ---- calls -----------------------------------------------------------------------------------------------------------

IDS = [
    "0",
    "-1",
    "1",
    "1.0",
    "1e2",
    "9007199254740993",
    "1" * 40,
    '""',
    '"1"',
    '"gr\\u00f6\\u00dfe"',
    '"größe"',
    '"a\\nb"',
]


@pytest.mark.parametrize("path", ["/mcp/one", "/mcp"])
async def test_ids_of_every_type_are_echoed_to_the_byte(path: str) -> None:
    async with site() as gateway:
        client = await gateway.dial()
        session = await client.initialize(path)
        for id in IDS:
            for method, params in (
                ("ping", "{}"),
                ("tools/call", f'{{"name":"{exposed(path, "echo")}"}}'),
                ("tools/call", f'{{"name":"{exposed(path, "fail")}"}}'),
                ("tools/call", '{"name":"nope"}'),
                ("nope", "{}"),
            ):
                body = f'{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}'.encode()
                answer = await session.post(client, body)
                assert f'"id":{id}'.encode() in answer.body, (id, method, answer)


@pytest.mark.parametrize("path", ["/mcp/one", "/mcp"])
async def test_json_stays_json_and_unknown_members_survive(path: str) -> None:
    async with site() as gateway:
        client = await gateway.dial()
        session = await client.initialize(path)
        answer = await session.post(client, call(1, exposed(path, "unknown"), {"big": 10**30}))

        assert answer.headers["content-type"] == "application/json"
        assert b'"x-top":123456789012345678901234567890' in answer.body
        assert b'"x-part":{"deep":[1.0,null]}' in answer.body
        assert answer.json["result"]["_meta"]["vendor.example/x"] == 1.0
        assert answer.json["result"]["received"]["arguments"] == {"big": 10**30}


@pytest.mark.parametrize("path", ["/mcp/one", "/mcp"])
async def test_progress_comes_before_the_reply_on_one_stream(path: str) -> None:
    async with site() as gateway:
        client = await gateway.dial()
        session = await client.initialize(path)
        asked = call(7, exposed(path, "progress"), {"n": 3}, _meta={"progressToken": "tok"})
        answer = await session.post(client, asked)

        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["x-accel-buffering"] == "no"
        *told, reply = events(answer)
        assert [(note["params"]["progressToken"], note["params"]["progress"]) for note in told] == [
            ("tok", 1),
            ("tok", 2),
            ("tok", 3),
        ]
        assert reply["id"] == 7
        assert reply["result"]["content"][0]["text"] == "3 steps"
        assert (await session.post(client, request(8, "ping"))).status == 200


async def test_progress_comes_as_it_is_made() -> None:
    """The stream begins with the first event, and not with the reply."""
    async with site() as gateway:
        client, other = await gateway.dial(), await gateway.dial()
        session = await client.initialize("/mcp/one")
        link = gateway.adapters["one"].links[-1]
        link.hold()
        await session.start(client, call(7, "progress", {"n": 2}, _meta={"progressToken": 1}))
        while not link._held:
            await trio.testing.wait_all_tasks_blocked(0.001)
        held = link._held
        link._held = None
        link.send(held[0])
        assert len(await client.until(1)) == 1
        for message in held[1:]:
            link.send(message)

        assert len(events(await client.answer())) == 3
        assert (await session.post(other, request(1, "ping"))).status == 200


@pytest.mark.parametrize("path", ["/mcp/one", "/mcp"])
async def test_a_question_of_the_server_reaches_its_client_and_is_answered(path: str) -> None:
    async with site() as gateway:
        client, other = await gateway.dial(), await gateway.dial()
        session = await client.initialize(path, {"elicitation": {}})
        await session.start(client, call(1, exposed(path, "ask")))
        (question,) = await client.until(1)
        assert question["method"] == "elicitation/create"
        assert question["params"]["message"] == "Who are you?"

        said = {"action": "accept", "content": {"name": "Ada"}}
        answered = await session.post(other, {"jsonrpc": "2.0", "id": question["id"], "result": said})

        assert answered.status == 202
        _, reply = events(await client.answer())
        assert reply["result"]["structuredContent"]["result"] == said


async def test_only_the_session_that_was_asked_may_answer() -> None:
    async with site() as gateway:
        client, other = await gateway.dial(), await gateway.dial()
        session = await client.initialize("/mcp/one", {"elicitation": {}})
        stranger = await other.initialize("/mcp/one", {"elicitation": {}})
        await session.start(client, call(1, "ask"))
        (question,) = await client.until(1)

        wrong = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "cancel"}}
        right = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}}
        await stranger.post(other, wrong)
        await session.post(other, right)

        _, reply = events(await client.answer())
        assert reply["result"]["structuredContent"]["result"] == {"action": "decline"}


async def test_a_client_without_the_capability_is_not_asked() -> None:
    async with site() as gateway:
        client = await gateway.dial()
        session = await client.initialize("/mcp/one")
        answer = await session.post(client, call(1, "ask"))

        assert answer.json["result"]["structuredContent"]["error"]["code"] == METHOD_NOT_FOUND


@pytest.mark.parametrize("path", ["/mcp/one", "/mcp"])
async def test_a_cancelled_call_reaches_the_server_and_gets_no_reply(path: str) -> None:
    async with site() as gateway:
        client, other = await gateway.dial(), await gateway.dial()
        session = await client.initialize(path)
        await session.start(client, call("c", exposed(path, "slow"), {"name": "s"}))
        await session.post(other, call(1, exposed(path, "waiting"), {"count": 1}))

        assert (await session.post(other, notification("notifications/cancelled", {"requestId": "c"}))).status == 202

        answer = await client.answer()
        assert (answer.status, events(answer)) == (200, [])
        counted = await session.post(other, call(2, exposed(path, "cancelled"), {"count": 1}))
        assert counted.json["result"]["structuredContent"] == {"values": ["s"]}


async def test_cancelling_another_id_leaves_a_call_alone() -> None:
    async with site() as gateway:
        client, other = await gateway.dial(), await gateway.dial()
        session = await client.initialize("/mcp/one")
        await session.start(client, call(7, "slow", {"name": "s"}))
        await session.post(other, call(1, "waiting", {"count": 1}))
        for id in ("7", 8, 7.5, None):
            await session.post(other, notification("notifications/cancelled", {"requestId": id}))
        await session.post(other, call(2, "release"))

        assert text(await client.answer()) == "s"


async def test_a_legacy_call_outlives_its_connection() -> None:
    """Legacy: disconnecting is not cancelling."""
    async with site() as gateway:
        client, other = await gateway.dial(), await gateway.dial()
        session = await client.initialize("/mcp/one")
        await session.start(client, call(7, "slow", {"name": "s"}))
        await session.post(other, call(1, "waiting", {"count": 1}))
        await client.aclose()
        for _ in range(3):
            await session.post(other, request(2, "ping"))

        waiting = await session.post(other, call(3, "waiting", {"count": 1}))
        assert waiting.json["result"]["structuredContent"] == {"values": ["s"]}
        await session.post(other, call(4, "release"))
        await gateway.idle()


async def test_the_reply_of_a_large_call_passes_whole() -> None:
    async with site() as gateway:
        client = await gateway.dial()
        session = await client.initialize("/mcp/one")

        assert len(text(await session.post(client, call(1, "big", {"kib": 2048})))) == 2 << 20


# ---- merged ----------------------------------------------------------------------------------------------------------


async def test_a_merged_list_names_each_tool_by_its_server_and_in_order() -> None:
    async with site(adapters("one", "two")) as gateway:
        client = await gateway.dial()
        session = await client.initialize("/mcp")
        names = [
            tool["name"] for tool in (await session.post(client, request(1, "tools/list"))).json["result"]["tools"]
        ]
        half = len(names) // 2

        assert names[:half] == [f"one_{name[4:]}" for name in names[half:]]
        assert all(name.startswith("two_") for name in names[half:])
        answer = await session.post(client, call(2, "two_echo", {"text": "hi"}))
        assert text(answer) == "hi"
        assert answer.json["result"]["_meta"]["io.github.mcpgateway/server"] == "two"


async def test_a_dead_server_is_named_and_the_others_listed() -> None:
    servers = adapters("one", "two")
    servers["two"].dead = True
    async with site(servers) as gateway:
        client = await gateway.dial()
        session = await client.initialize("/mcp")
        result = (await session.post(client, request(1, "tools/list"))).json["result"]

        assert {tool["name"].partition("_")[0] for tool in result["tools"]} == {"one"}
        assert list(result["_meta"]["io.github.mcpgateway/missing"]) == ["two"]
        gone = await client.post("/mcp/two", request("i", "initialize", {"protocolVersion": LEGACY}))
        assert (gone.status, gone.json["id"]) == (502, "i")
        assert "two" in gone.json["error"]["message"]


# ---- eras ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/mcp/one", "/mcp"])
async def test_a_client_of_a_modern_server_has_a_session_here_and_is_asked_on_the_stream_of_its_call(path: str) -> None:
    async with site(adapters("one", eras=frozenset({Era.MODERN}))) as gateway:
        client, second = await gateway.dial(), await gateway.dial()
        session = await client.initialize(path, capabilities={"elicitation": {}})
        echo, ask = (tool if path == "/mcp/one" else f"one_{tool}" for tool in ("echo", "ask"))
        assert text(await session.post(client, call(1, echo, {"text": "hello"}))) == "hello"
        await session.start(client, call(2, ask))
        (question,) = await client.until(1)
        content = {"action": "accept", "content": {"name": "Ada"}}
        answered = {"jsonrpc": "2.0", "id": question["id"], "result": content}
        assert (await session.post(second, answered)).status == 202
        answer = await client.answer()

        assert question["method"] == "elicitation/create"
        assert events(answer)[-1]["id"] == 2
        result = events(answer)[-1]["result"]
        assert result["structuredContent"]["inputResponses"] == {"name": content}
        assert "resultType" not in result


async def test_a_call_outlives_the_client_that_leaves_while_it_is_asked_and_ends_with_its_session() -> None:
    async with site(adapters("one", eras=frozenset({Era.MODERN}))) as gateway:
        first, leaving, other = [await gateway.dial() for _ in range(3)]
        session = await other.initialize("/mcp/one", {"elicitation": {}})
        for client, id in ((first, 1), (leaving, 2)):
            await session.start(client, call(id, "ask"))
            await client.until(1)
        await leaving.aclose()
        (kept,) = gateway.gateway.sessions
        assert len(kept.questions) == 2
        deleted = await other.ask("DELETE", "/mcp/one", headers=session.headers)
        await first.answer()

        assert deleted.status == 200
        assert kept.questions == {}
        assert kept.calls == {}


async def test_a_batch_of_a_client_of_a_modern_server_may_be_asked() -> None:
    async with site(adapters("one", eras=frozenset({Era.MODERN}))) as gateway:
        client, other = await gateway.dial(), await gateway.dial()
        session = await client.initialize("/mcp/one", {"elicitation": {}}, "2025-03-26")
        await session.start(client, [call(1, "ask"), call(2, "echo", {"text": "hi"})])
        while not (questions := [each for each in await client.until(1) if each.get("method")]):
            await client.more()
        said = {"jsonrpc": "2.0", "id": questions[0]["id"], "result": {"action": "decline"}}
        await session.post(other, said)
        replies = [each for each in events(await client.answer()) if "result" in each]

        assert sorted(reply["id"] for reply in replies) == [1, 2]


# ---- pages -----------------------------------------------------------------------------------------------------------


async def test_a_page_of_an_allowed_origin_may_read_everything() -> None:
    origin = {"Origin": "https://app.test"}
    async with site(listen=Listen(cors=("https://app.test",))) as gateway:
        client = await gateway.dial()
        preflight = await client.ask("OPTIONS", "/mcp", headers={**origin, "Access-Control-Request-Method": "POST"})
        answer = await client.post("/mcp", request(0, "initialize", {"protocolVersion": LEGACY}), origin)
        unknown = await client.post("/mcp", request(1, "ping"), {**origin, "Mcp-Session-Id": "x"})

        assert preflight.status == 204
        assert "Mcp-Session-Id" in preflight.headers["access-control-allow-headers"]
        assert "POST" in preflight.headers["access-control-allow-methods"]
        assert "Mcp-Session-Id" in answer.headers["access-control-expose-headers"]
        assert unknown.status == 404
        for reply in (preflight, answer, unknown):
            assert reply.headers["access-control-allow-origin"] == "https://app.test"
            assert reply.headers["vary"] == "Origin"


async def test_a_page_of_another_origin_gets_no_preflight() -> None:
    async with site() as gateway:
        client = await gateway.dial()
        for origin in ("https://evil.test", "null", "http://localhost:3000"):
            answer = await client.ask("OPTIONS", "/mcp", headers={"Origin": origin})
            assert answer.status == 403
            assert "access-control-allow-origin" not in answer.headers


async def test_every_accepted_shape_of_headers_is_accepted() -> None:
    async with site() as gateway:
        client = await gateway.dial()
        session = await client.initialize("/mcp")
        for headers in (
            {"Content-Type": "application/json; charset=utf-8"},
            {"Content-Type": "Application/JSON"},
            {"Accept": "*/*"},
            {"Accept": "text/event-stream;q=0.5, application/json;q=0.1"},
            {"Accept": "application/*, text/*"},
            {"MCP-Protocol-Version": f"  {LEGACY} "},
        ):
            answer = await client.post("/mcp", request(1, "ping"), {**session.headers, **headers})
            assert answer.status == 200, headers


async def test_a_client_that_names_no_accept_is_served() -> None:
    async with site() as gateway:
        client = await gateway.dial()
        session = await client.initialize("/mcp")
        headers = {"Content-Type": POST["Content-Type"], **session.headers}

        assert (await client.ask("POST", "/mcp", request(1, "ping"), headers)).status == 200


async def test_many_clients_at_once_each_get_their_own() -> None:
    async with site(adapters("one", "two")) as gateway, trio.open_nursery() as nursery:

        async def talk(n: int) -> None:
            client: Client = await gateway.dial()
            session = await client.initialize("/mcp" if n % 2 else "/mcp/one")
            tool = "two_echo" if n % 2 else "echo"
            for turn in range(5):
                answer = await session.post(client, call(turn, tool, {"text": f"{n}.{turn}"}))
                assert json.loads(answer.body)["id"] == turn
                assert text(answer) == f"{n}.{turn}"

        for n in range(20):
            nursery.start_soon(talk, n)
