"""Calls from Python: what `Client` gives and what it raises, over servers of either era."""

from __future__ import annotations

import pytest
import trio

from mcpgateway import jsonrpc
from mcpgateway.demo.server import BOTH
from mcpgateway.errors import JSON, ErrorReply, InvalidParams, UnknownNamespace
from mcpgateway.gateway import Gateway
from mcpgateway.jsonrpc import Message, members_of
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.fixture_server import FixtureServer
from tests.calls.doubles import gateway_of, host, library
from tests.servers.doubles import Counting

ERAS = [{Era.LEGACY}, {Era.MODERN}, BOTH]


def named(entries: list[JSON], key: str = "name") -> list[str]:
    return [str(entry[key]) for entry in entries if isinstance(entry, dict)]


@pytest.mark.parametrize("eras", ERAS, ids=["legacy", "modern", "both"])
async def test_everything_can_be_listed_and_used_in_any_era(
    eras: set[Era], autojump_clock: trio.testing.MockClock
) -> None:
    async with gateway_of(library("a", eras=eras), library("b", eras=eras)) as gateway:
        client = gateway.client()
        assert named(await client.list_tools())[0] == "a_echo"
        assert named(await client.list_prompts()) == ["a_greet", "b_greet"]
        assert named(await client.list_resources(), "uri") == ["book://a/1", "book://b/1"]
        assert named(await client.list_resource_templates(), "uriTemplate") == ["shelf://a/{n}", "shelf://b/{n}"]
        assert (await client.call_tool("b_echo", {"text": "x"}))["content"] == [{"type": "text", "text": "x"}]
        assert (await client.get_prompt("b_greet"))["description"] == "greet of b"
        assert "contents" in await client.read_resource("book://b/1")
        assert (await gateway.client("a").call_tool("echo", {"text": "y"}))["content"] == [
            {"type": "text", "text": "y"}
        ]


async def test_servers_of_both_eras_and_one_that_was_not_started_yet_are_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    servers = [library(name, eras=eras) for name, eras in zip("abc", ERAS, strict=True)]
    async with gateway_of(*servers, ready=False) as gateway:
        gateway.servers["b"].lazy = True
        client = gateway.client()
        assert {name[0] for name in named(await client.list_tools())} == {"a", "b", "c"}
        for name in "abc":
            assert "content" in await client.call_tool(f"{name}_echo")


@pytest.mark.parametrize("eras", ERAS[:2], ids=str)
async def test_progress_comes_in_order_before_the_reply(eras: set[Era], autojump_clock: trio.testing.MockClock) -> None:
    steps: list[dict[str, JSON]] = []

    async def on_progress(params: dict[str, JSON]) -> None:
        await trio.sleep(1)
        steps.append(params)

    async with gateway_of(library("a", eras=eras)) as gateway:
        got = await gateway.call_tool("progress", {"n": 3}, namespace="a", on_progress=on_progress)

    assert got["content"] == [{"type": "text", "text": "3 steps"}]
    assert steps == [{"progressToken": 1, "progress": step, "total": 3} for step in (1, 2, 3)]


@pytest.mark.parametrize("eras", ERAS[:2], ids=str)
async def test_a_call_past_its_timeout_is_cancelled_at_the_server(
    eras: set[Era], autojump_clock: trio.testing.MockClock
) -> None:
    adapter = library("a", eras=eras)
    async with gateway_of(adapter) as gateway:
        began = trio.current_time()
        with pytest.raises(trio.TooSlowError):
            await gateway.call_tool("slow", {"name": "x"}, namespace="a", timeout=3)
        assert trio.current_time() - began == 3
        assert host(adapter).cancelled == ["x"]
        assert gateway.statistics().waits == 0


async def test_a_cancelled_call_is_cancelled_at_the_server_and_no_other_is(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = library("a")
    async with gateway_of(adapter) as gateway, trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def one(scope: trio.CancelScope, name: str) -> None:
            with scope:
                await gateway.call_tool("slow", {"name": name}, namespace="a")

        nursery.start_soon(one, scope, "x")
        nursery.start_soon(one, trio.CancelScope(), "y")
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel(reason="not needed")
        await trio.testing.wait_all_tasks_blocked()

        assert host(adapter).cancelled == ["x"]
        await gateway.call_tool("release", namespace="a")


async def test_a_servers_error_is_raised_with_its_code_and_data(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway_of(library("a")) as gateway:
        with pytest.raises(ErrorReply, match="failed as asked") as failed:
            await gateway.call_tool("fail", namespace="a")
        assert (failed.value.reply_code, failed.value.reply_data) == (1234, {"why": "asked"})
        assert (await gateway.call_tool("tool_error", namespace="a"))["isError"] is True
        with pytest.raises(InvalidParams, match="Unknown tool: nothing"):
            await gateway.call_tool("nothing")
        with pytest.raises(UnknownNamespace, match="'nowhere'"):
            await gateway.list_tools(namespace="nowhere")


async def test_a_caller_in_python_cannot_be_asked(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway_of(library("a", eras={Era.LEGACY})) as gateway:
        answer = (await _ask_of_a_lone_link(gateway)).get("structuredContent")

    assert isinstance(answer, dict)
    assert "-32601" in str(answer["error"])


async def _ask_of_a_lone_link(gateway: Gateway) -> dict[str, JSON]:
    """The fixture's question, which on a pipe reaches nobody: there is no call that it could belong to."""
    return await gateway.client("a").call_tool("ask", timeout=5)


async def test_pages_of_a_raw_namespace_are_followed_to_the_end(autojump_clock: trio.testing.MockClock) -> None:
    class Pages(FixtureServer):
        def handle(self, message: Message) -> list[Message]:
            if message.method != "tools/list":
                return super().handle(message)
            cursor = members_of(message.params).get("cursor")
            page: dict[str, object] = {"tools": [1, 2], "nextCursor": "x"} if cursor is None else {"tools": [3]}
            return [jsonrpc.result(message.id or b"", page)]

    async with gateway_of(Counting("a", Pages)) as gateway:
        assert await gateway.list_tools(namespace="a") == [1, 2, 3]
