"""Modern clients over HTTP in front of legacy servers, over HTTP and in memory: what they get byte by byte."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from mcpgateway.adapters.base import Done
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.revisions import Era
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller
from mcpgateway.testing.http import serve_fixture
from mcpgateway.wire.waiting import Wait
from tests.fronts.channels import KINDS, connected
from tests.fronts.site import POST, Client, Site, adapters, call, events, modern, request, site

LEGACY_ONLY = frozenset({Era.LEGACY})
META: dict[str, object] = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}
ADA = {"action": "accept", "content": {"name": "Ada"}}
BEHIND = pytest.mark.parametrize("over_http", [True, False], ids=["http", "memory"])


@asynccontextmanager
async def legacy_site(*, over_http: bool) -> AsyncIterator[Site]:
    """A gateway in front of one legacy server."""
    if not over_http:
        async with site(adapters("one", eras=LEGACY_ONLY)) as gateway:
            yield gateway
        return
    async with serve_fixture(eras=LEGACY_ONLY) as fixture, site(urls={"one": fixture.url}) as gateway:
        yield gateway


def asking(id: object, **retry: object) -> dict[str, Any]:
    return call(id, "ask", None, _meta=META, **retry)


def health(gateway: Site) -> tuple[int, int]:
    parking = gateway.gateway.statistics().parking
    return parking.parked, parking.running


@pytest.mark.requirement("bridge.asks.modern-to-legacy")
@BEHIND
@pytest.mark.parametrize("path", ["/mcp/one", "/mcp"])
async def test_a_question_is_a_result_and_its_answer_another_request(path: str, over_http: bool) -> None:
    async with legacy_site(over_http=over_http) as gateway:
        client = await gateway.dial()
        name = "ask" if path == "/mcp/one" else "one_ask"
        asked = await client.modern(path, call("a", name, None, _meta=META))
        result = asked.json["result"]
        shown = (await client.ask("GET", "/health")).json["parking"]
        retry = {"requestState": result["requestState"], "inputResponses": {"name": ADA}}
        answered = await (await gateway.dial()).modern(path, call("b", name, None, _meta=META, **retry))
        again = await client.modern(path, call("c", name, None, _meta=META, **retry))

        assert (asked.status, asked.json["id"], result["resultType"]) == (200, "a", "input_required")
        assert result["inputRequests"]["name"]["method"] == "elicitation/create"
        assert (shown["parked"], shown["limit"]) == (1, 1000)
        assert (answered.status, answered.json["id"]) == (200, "b")
        assert answered.json["result"]["structuredContent"]["result"] == ADA
        assert (again.status, again.json["id"], again.json["error"]["code"]) == (400, "c", -32602)
        assert health(gateway) == (0, 0)


@pytest.mark.requirement("bridge.cancel.modern-to-legacy", "5.bad")
@BEHIND
async def test_a_client_that_closes_its_connection_cancels_but_not_while_its_call_is_parked(over_http: bool) -> None:
    async with legacy_site(over_http=over_http) as gateway:
        client = await gateway.dial()
        state = (await client.modern("/mcp/one", asking(1))).json["result"]["requestState"]
        await client.aclose()
        caller = await gateway.dial()
        message, headers = modern(call(2, "slow", {"name": "mine"}, _meta=META))
        await caller.start("POST", "/mcp/one", message, {**POST, **headers})
        while health(gateway) != (1, 2):
            await trio.testing.wait_all_tasks_blocked(0.001)
        await caller.aclose()
        while health(gateway) != (1, 1):
            await trio.testing.wait_all_tasks_blocked(0.001)
        retry = asking(3, requestState=state, inputResponses={"name": ADA})
        answered = await (await gateway.dial()).modern("/mcp/one", retry)

        assert answered.json["result"]["structuredContent"]["result"] == ADA


@BEHIND
async def test_a_gateway_that_ends_does_not_wait_for_parked_calls(over_http: bool) -> None:
    async with legacy_site(over_http=over_http) as gateway:
        client: Client = await gateway.dial()
        await client.modern("/mcp/one", asking(1))
        assert health(gateway) == (1, 1)
    assert health(gateway)[1] == 0


@pytest.mark.requirement("bridge.errors.modern-to-legacy")
@BEHIND
@pytest.mark.parametrize(
    ("message", "status", "code"),
    [
        (request(1, "ping"), 404, -32601),
        (request(1, "x/unknown"), 404, -32601),
        (call(1, "none such"), 400, -32602),
        (call(1, "fail"), 200, 1234),
        (call(1, "echo", None, _meta={"io.modelcontextprotocol/logLevel": "loud"}), 400, -32602),
    ],
    ids=["removed", "unknown method", "unknown tool", "the server's own", "log level"],
)
async def test_errors_have_the_status_of_the_clients_era(
    over_http: bool, message: dict[str, Any], status: int, code: int
) -> None:
    async with legacy_site(over_http=over_http) as gateway:
        answer = await (await gateway.dial()).modern("/mcp/one", message)

        assert (answer.status, answer.json["id"], answer.json["error"]["code"]) == (status, 1, code)


@pytest.mark.requirement("bridge.asks.modern-to-legacy")
@pytest.mark.parametrize("kind", KINDS)
async def test_on_every_channel_the_answer_may_come_on_another(kind: str) -> None:
    async with legacy_site(over_http=False) as gateway:
        async with connected(kind, gateway) as client:
            result = (await client.modern(asking("a")))["result"]
        retry = {"requestState": result["requestState"], "inputResponses": {"name": ADA}}
        answered = await (await gateway.dial()).modern("/mcp/one", asking("b", **retry))

        assert result["resultType"] == "input_required"
        assert answered.json["result"]["structuredContent"]["result"] == ADA
        assert health(gateway) == (0, 0)


async def test_plain_calls_need_no_task_and_cross_all_the_same() -> None:
    async with legacy_site(over_http=True) as gateway:
        client = await gateway.dial()
        begun: list[str] = []
        dispatcher = gateway.gateway.dispatcher
        begin = dispatcher.crossings_begun[Era.MODERN]

        def noting(server: Server, caller: Caller, message: Message, wait: Wait, done: Done) -> bool:
            taken = begin(server, caller, message, wait, done)
            begun.append(f"{message.method} {taken}")
            return taken

        dispatcher.crossings_begun[Era.MODERN] = noting
        await client.modern("/mcp/one", call(0, "echo"))  # which has the link made
        begun.clear()
        plain = await client.modern("/mcp/one", call(1, "echo", {"text": "hi"}))
        steps = await client.modern("/mcp/one", call(2, "progress", {"n": 2}, _meta={"progressToken": "t"}))
        failed = await client.modern("/mcp/one", call(3, "fail"))
        retried = await client.modern("/mcp/one", call(4, "echo", requestState="made up"))
        leveled = await client.modern(
            "/mcp/one", call(5, "echo", None, _meta={"io.modelcontextprotocol/logLevel": "info"})
        )
        ping = await client.modern("/mcp/one", request(6, "ping"))

        assert begun == ["tools/call True"] * 3 + ["tools/call False"] * 2 + ["ping False"]
        assert plain.json["result"]["resultType"] == "complete"
        told = events(steps)
        assert [each.get("method") for each in told] == ["notifications/progress", "notifications/progress", None]
        assert {each["params"]["progressToken"] for each in told[:2]} == {"t"}
        assert (told[-1]["id"], told[-1]["result"]["resultType"]) == (2, "complete")
        assert (failed.status, failed.json["error"]["code"]) == (200, 1234)
        assert (retried.status, retried.json["error"]["code"]) == (400, -32602)
        assert leveled.status == 200
        assert ping.status == 404
