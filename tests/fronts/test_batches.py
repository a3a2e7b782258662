"""Batches of revision 2025-03-26, and everybody else who sends an array."""

from __future__ import annotations

from typing import Any, cast

import pytest
import trio
import trio.testing

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Event, Reply
from mcpgateway.fronts.batches import LIMIT, BatchBack
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.fixture_server import FixtureServer
from mcpgateway.testing.memory import MemoryAdapter
from mcpgateway.wire.http1.exchange import Exchange
from tests.fronts.site import Client, Session, Site, adapters, call, events, modern, notification, request, site, text
from tests.wire.http1.peers import Answer

BATCHES = "2025-03-26"
PATHS = ("/mcp", "/mcp/one")


def echo(path: str) -> str:
    return "echo" if path == "/mcp/one" else "one_echo"


async def begin(
    gateway: Site, path: str = "/mcp/one", capabilities: dict[str, Any] | None = None
) -> tuple[Client, Session]:
    client = await gateway.dial()
    return client, await client.initialize(path, capabilities, BATCHES)


def by_id(answer: Answer) -> dict[object, Any]:
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    return {message["id"]: message for message in answer.json}


@pytest.mark.parametrize("path", PATHS)
async def test_requests_are_answered_as_one_array(path: str) -> None:
    async with site() as gateway:
        client, session = await begin(gateway, path)
        answers = by_id(
            await session.post(
                client,
                [call(1, echo(path), {"text": "a"}), call("1", echo(path), {"text": "b"}), request(2, "no/such")],
            )
        )
        assert [answers[id]["result"]["content"][0]["text"] for id in (1, "1")] == ["a", "b"]
        assert answers[2]["error"]["code"] == -32601
        assert len(answers) == 3


async def test_the_header_of_the_revision_may_be_absent() -> None:
    async with site() as gateway:
        client, session = await begin(gateway)
        answer = await client.post("/mcp/one", [request(1, "ping")], {"Mcp-Session-Id": session.id})
        assert by_id(answer) == {1: {"jsonrpc": "2.0", "id": 1, "result": {}}}


async def test_requests_are_served_side_by_side() -> None:
    """One is answered only while the other waits."""
    async with site() as gateway:
        client, session = await begin(gateway)
        other = await gateway.dial()
        await session.start(client, [call(1, "slow", {"name": "s"}), call(2, "waiting", {"count": 1})])
        await session.post(other, call(3, "waiting", {"count": 1}))
        await session.post(other, call(4, "release"))
        answers = by_id(await client.answer())
        assert answers[1]["result"]["content"][0]["text"] == "s"
        assert answers[2]["result"]["structuredContent"] == {"values": ["s"]}


async def test_what_comes_before_a_response_makes_it_a_stream() -> None:
    async with site() as gateway:
        client, session = await begin(gateway)
        steps = call(1, "progress", {"n": 2}, _meta={"progressToken": "p"})
        answer = await session.post(client, [call(3, "echo", {"text": "a"}), steps, {"jsonrpc": "2.0"}])
        assert answer.headers["content-type"] == "text/event-stream"
        messages = events(answer)
        progress = [message["params"]["progress"] for message in messages if "method" in message]
        assert progress == [1, 2]
        assert {message["id"] for message in messages if "id" in message} == {1, 3, None}
        own = [message.get("id") for message in messages if message.get("id") == 1 or "method" in message]
        assert own == [None, None, 1]


async def test_a_server_may_ask_within_a_batch() -> None:
    async with site() as gateway:
        client, session = await begin(gateway, capabilities={"elicitation": {}})
        other = await gateway.dial()
        await session.start(client, [call(1, "ask"), call(2, "echo", {"text": "a"})])
        question = next(message for message in await client.until(1) if "method" in message)
        given = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}}
        assert (await session.post(other, [given])).status == 202
        replies = {message["id"]: message for message in events(await client.answer()) if "result" in message}
        assert set(replies) == {1, 2}
        assert replies[1]["result"]["structuredContent"]["result"] == {"action": "decline"}


async def test_messages_without_a_response_are_accepted() -> None:
    async with site() as gateway:
        client, session = await begin(gateway)
        foreign = {"jsonrpc": "2.0", "id": "nobody-asked", "result": {}}
        answer = await session.post(client, [notification("notifications/roots/list_changed"), foreign])
        assert (answer.status, answer.body) == (202, b"")
        heard = await session.post(client, call(1, "heard", {"count": 2}))
        assert heard.json["result"]["structuredContent"]["values"][-1] == "notifications/roots/list_changed"


async def test_a_call_may_be_cancelled_in_the_batch_that_makes_it() -> None:
    async with site() as gateway:
        client, session = await begin(gateway)
        cancel = notification("notifications/cancelled", {"requestId": 1})
        answer = await session.post(client, [call(1, "slow"), cancel])
        assert (answer.status, events(answer)) == (200, [])
        await gateway.idle()


async def test_entries_that_are_no_message_get_their_own_errors() -> None:
    async with site() as gateway:
        client, session = await begin(gateway)
        wrong: list[object] = [1, {}, {"jsonrpc": "1.0", "id": 7, "method": "ping"}, [], request(1, "ping")]
        answer = await session.post(client, wrong)
        assert sorted((str(entry["id"]), entry.get("error", {}).get("code")) for entry in answer.json) == [
            ("1", None),
            ("7", -32600),
            ("None", -32600),
            ("None", -32600),
            ("None", -32600),
        ]


async def test_an_id_that_is_there_twice_is_refused_the_second_time() -> None:
    async with site() as gateway:
        client, session = await begin(gateway)
        answer = await session.post(client, [call(1, "echo", {"text": "a"}), call(1, "echo", {"text": "b"})])
        assert sorted("error" in entry for entry in answer.json) == [False, True]
        assert text(await session.post(client, call(1, "echo", {"text": "c"}))) == "c"


REFUSED = {
    "empty": [],
    "too long": [request(n, "ping") for n in range(LIMIT + 1)],
    "initialize": [request(1, "ping"), request(2, "initialize", {"protocolVersion": BATCHES})],
}


@pytest.mark.parametrize("batch", REFUSED.values(), ids=REFUSED)
async def test_a_batch_that_is_none_is_refused_whole(batch: list[Any]) -> None:
    async with site() as gateway:
        client, session = await begin(gateway)
        answer = await session.post(client, batch)
        assert (answer.status, answer.json["error"]["code"], answer.json["id"]) == (400, -32600, None)


async def test_a_batch_that_is_no_json_is_refused_as_such() -> None:
    async with site() as gateway:
        client, session = await begin(gateway)
        answer = await session.post(client, b' [{"jsonrpc":"2.0"')
        assert (answer.status, answer.json["error"]["code"]) == (400, -32700)


async def test_as_many_as_the_limit_are_served() -> None:
    async with site() as gateway:
        client, session = await begin(gateway)
        batch = [call(n, "echo", {"text": str(n)}) for n in range(LIMIT)]
        answers = by_id(await session.post(client, batch))
        assert [answers[n]["result"]["content"][0]["text"] for n in range(LIMIT)] == [str(n) for n in range(LIMIT)]


@pytest.mark.parametrize("revision", ["2025-06-18", "2025-11-25"])
@pytest.mark.parametrize("header", [True, False])
async def test_later_revisions_have_no_batches(revision: str, header: bool) -> None:
    async with site() as gateway:
        client = await gateway.dial()
        session = await client.initialize("/mcp/one", revision=revision)
        headers = session.headers if header else {"Mcp-Session-Id": session.id}
        answer = await client.post("/mcp/one", [request(1, "ping")], headers)
        assert (answer.status, answer.json["error"]["code"]) == (400, -32600)


async def test_the_modern_era_has_no_batches() -> None:
    async with site() as gateway:
        client = await gateway.dial()
        message, headers = modern(request(1, "tools/list"))
        answer = await client.post("/mcp/one", [message], headers)
        assert (answer.status, answer.json["error"]["code"]) == (400, -32600)


@pytest.mark.parametrize("id", ["unknown", None])
async def test_a_batch_needs_a_session_like_any_message(id: str | None) -> None:
    async with site() as gateway:
        client = await gateway.dial()
        answer = await client.post("/mcp/one", [request(1, "ping")], {"Mcp-Session-Id": id} if id else {})
        assert answer.status == (404 if id else 400)


async def test_a_batch_outlives_its_connection() -> None:
    async with site() as gateway:
        client, session = await begin(gateway)
        other = await gateway.dial()
        await session.start(client, [call(1, "slow", {"name": "s"}), call(2, "slow", {"name": "t"})])
        await session.post(other, call(3, "waiting", {"count": 2}))
        await client.aclose()
        await session.post(other, call(4, "release"))
        await gateway.idle()


async def test_delete_ends_the_calls_of_a_batch() -> None:
    async with site() as gateway:
        client, session = await begin(gateway)
        other = await gateway.dial()
        await session.start(client, [call(1, "slow", {"name": "s"}), call(2, "slow", {"name": "t"})])
        await session.post(other, call(3, "waiting", {"count": 2}))
        await other.ask("DELETE", "/mcp/one", b"", session.headers)
        assert events(await client.answer()) == []


# ---- at modern servers -----------------------------------------------------------------------------------------------

SAID = {"action": "accept", "content": {"name": "Ada"}}


def modern_server() -> dict[str, MemoryAdapter]:
    return adapters("one", eras=frozenset({Era.MODERN}))


@pytest.mark.requirement("bridge.batch.legacy-to-modern")
@pytest.mark.parametrize("path", PATHS)
async def test_a_batch_at_a_modern_server_is_answered_as_one_array_in_legacy_words(path: str) -> None:
    async with site(modern_server()) as gateway:
        client, session = await begin(gateway, path)
        name = echo(path)
        answer = await session.post(
            client,
            [
                call(1, name, {"text": "a"}),
                notification("notifications/initialized"),
                call("1", name, {"text": "b"}),
                request(2, "no/such"),
                request(3, "tools/list"),
                {"jsonrpc": "2.0", "id": "nobody-asked", "result": {}},
                request(4, "ping"),
                {"jsonrpc": "2.0"},
            ],
        )
        answers = by_id(answer)
        echoed = [answers[id]["result"] for id in (1, "1")]
        assert [result["content"][0]["text"] for result in echoed] == ["a", "b"]
        assert (answers[2]["error"]["code"], answers[None]["error"]["code"]) == (-32601, -32600)
        assert name in [tool["name"] for tool in answers[3]["result"]["tools"]]
        assert not {"resultType", "ttlMs", "cacheScope"} & {*echoed[0], *answers[3]["result"]}
        assert answers[4]["result"] == {}
        assert len(answers) == 6
        (link,) = gateway.adapters["one"].links
        assert link.negotiated.era is Era.MODERN


@pytest.mark.requirement("bridge.batch.legacy-to-modern")
@pytest.mark.parametrize("path", PATHS)
async def test_a_modern_server_that_tells_something_or_asks_makes_the_answer_a_stream(path: str) -> None:
    """The client answers in a batch, too, along with another request."""
    prefix = echo(path).removesuffix("echo")
    async with site(modern_server()) as gateway:
        client, session = await begin(gateway, path, {"elicitation": {}})
        other = await gateway.dial()
        steps = call(2, f"{prefix}progress", {"n": 2}, _meta={"progressToken": "p"})
        await session.start(client, [call(1, f"{prefix}ask"), steps, call(3, f"{prefix}echo", {"text": "a"})])
        seen: list[Any] = []
        while not [message for message in seen if message.get("method") == "elicitation/create"]:
            seen = await client.until(len(seen) + 1)
        (question,) = [message for message in seen if message.get("method") == "elicitation/create"]

        given = {"jsonrpc": "2.0", "id": question["id"], "result": SAID}
        (pong,) = (await session.post(other, [given, request(9, "ping")])).json
        assert pong["id"] == 9
        answer = await client.answer()
        assert answer.headers["content-type"] == "text/event-stream"
        told = events(answer)
        replies = {message["id"]: message for message in told if "method" not in message}
        assert set(replies) == {1, 2, 3}
        assert replies[1]["result"]["structuredContent"]["inputResponses"] == {"name": SAID}
        of_steps = [m for m in told if m.get("method") == "notifications/progress" or m.get("id") == 2]
        assert [message.get("params", {}).get("progress") for message in of_steps] == [1, 2, None]
        assert {m["params"]["progressToken"] for m in of_steps[:2]} == {"p"}


@pytest.mark.requirement("bridge.batch.legacy-to-modern")
async def test_one_call_of_a_batch_at_a_modern_server_is_cancelled_and_the_others_are_answered() -> None:
    async with site(modern_server()) as gateway:
        client, session = await begin(gateway)
        other = await gateway.dial()
        await session.start(client, [call(1, "slow", {"name": "s"}), call(2, "slow", {"name": "t"})])
        await session.post(other, call(3, "waiting", {"count": 2}))
        cancel = notification("notifications/cancelled", {"requestId": 1})
        assert (await session.post(other, [cancel])).status == 202
        await session.post(other, call(4, "cancelled", {"count": 1}))
        await session.post(other, call(5, "release"))
        assert [message["id"] for message in (await client.answer()).json] == [2]


@pytest.mark.requirement("bridge.batch.legacy-to-modern")
async def test_initialize_in_a_batch_is_refused_before_a_modern_server_hears_of_it() -> None:
    async with site(modern_server()) as gateway:
        client, session = await begin(gateway)
        hello = request(2, "initialize", {"protocolVersion": BATCHES, "capabilities": {}, "clientInfo": {"name": "t"}})
        answer = await session.post(client, [call(1, "slow", {"name": "s"}), hello])
        assert (answer.status, answer.json["error"]["code"], answer.json["id"]) == (400, -32600, None)
        (link,) = gateway.adapters["one"].links
        assert isinstance(link.host, FixtureServer)
        assert not link.host.slow


class OneAtATime:
    """The response of a client that reads slowly: whoever writes waits, and nobody may write meanwhile."""

    def __init__(self) -> None:
        self.started = False
        self.writing = False
        self.written: list[bytes] = []

    def stream(self, status: int, headers: bytes, *, beat: bytes = b"") -> None:
        self.started = True

    async def write(self, data: bytes, *, last: bool = False) -> None:
        assert not self.writing
        self.writing = True
        await trio.testing.wait_all_tasks_blocked()
        self.writing = False
        self.written.append(data)


async def test_the_calls_of_a_batch_write_one_after_the_other() -> None:
    exchange = OneAtATime()
    back = BatchBack(cast(Exchange, exchange), b"")
    async with trio.open_nursery() as nursery:
        for number in range(3):
            message = jsonrpc.notification("notifications/message", {"data": number})
            nursery.start_soon(back.send, Event(message))
            nursery.start_soon(back.answer, Reply(jsonrpc.result(b"%d" % number, {})))
    messages = events(b"".join(exchange.written))
    assert sum("method" in message for message in messages) == 3
