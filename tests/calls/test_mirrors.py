"""Mirrored arguments: compared where no server can, and tools with bad marks not shown where one would refuse them."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import pytest
import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import NoBack
from mcpgateway.calls import listing
from mcpgateway.config.model import HttpServer
from mcpgateway.demo.server import Tool
from mcpgateway.errors import JSON, HeaderMismatch
from mcpgateway.gateway import Gateway
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol import envelope
from mcpgateway.protocol.headers import request_headers
from mcpgateway.protocol.revisions import LATEST_MODERN, Era
from mcpgateway.wire.waiting import Wait
from tests.calls.doubles import Library, ask, gateway_of, host, legacy, modern, names, result, space
from tests.servers.doubles import Counting


def marked(mark: str, kind: str = "string") -> Mapping[str, JSON]:
    return {"inputSchema": {"type": "object", "properties": {"text": {"type": kind, "x-mcp-header": mark}}}}


class Marked(Library):
    """Wants the argument of ``echo`` mirrored as ``Mcp-Param-Text``, and has a tool with a bad mark."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]  # passed on
        self.tools["echo"] = Tool(marked("Text"), lambda arguments: {})
        self.tools["bad"] = Tool(marked("not a token"), lambda arguments: {})


def server(name: str) -> Counting:
    return Counting(name, type(name, (Marked,), {"name": name}), eras={Era.MODERN})


async def call(gateway: Gateway, path: str, tool: str, text: str | None, **headers: str) -> JSON:
    """Call a tool with headers of our own; the text that came back."""
    arguments: dict[str, JSON] = {} if text is None else {"text": text}
    message = jsonrpc.request(b"1", "tools/call", {"name": tool, "arguments": arguments})
    message = message.replace(
        params=envelope.stamp(message.params, revision=LATEST_MODERN, capabilities=jsonrpc.raw_of({}))
    )
    given = {name.replace("_", "-").lower().encode(): value.encode() for name, value in headers.items()}
    reply = await space(gateway, path).serve(modern(), message, Wait(), NoBack(), {**request_headers(message), **given})
    return result(reply)["content"]


SAID: list[JSON] = [{"type": "text", "text": "hi"}]
PATHS = [("a", "echo"), ("", "a_echo")]


@pytest.mark.requirement("3.param-headers")
@pytest.mark.parametrize(("path", "tool"), PATHS)
async def test_headers_must_mirror_their_arguments(
    path: str, tool: str, autojump_clock: trio.testing.MockClock
) -> None:
    one = server("a")
    async with gateway_of(one) as gateway:
        assert await call(gateway, path, tool, "hi", mcp_param_text="hi", mcp_param_other="1") == SAID
        for text, headers in (("hi", {}), ("hi", {"mcp_param_text": "ho"}), (None, {"mcp_param_text": "hi"})):
            with pytest.raises(HeaderMismatch, match="mcp-param-text") as refused:
                await call(gateway, path, tool, text, **headers)
            assert refused.value.code == -32020
        assert len(host(one).asked("tools/call")) == 1


@pytest.mark.parametrize(("path", "tool"), PATHS)
async def test_a_schema_that_changed_is_read_again_before_anything_is_refused(
    path: str, tool: str, autojump_clock: trio.testing.MockClock
) -> None:
    one = server("a")
    async with gateway_of(one) as gateway:
        await call(gateway, path, tool, "hi", mcp_param_text="hi")
        host(one).tools["echo"] = Tool(marked("New"), lambda arguments: {})
        assert await call(gateway, path, tool, "hi", mcp_param_new="hi") == SAID
        lists = len(host(one).asked("tools/list"))
        assert await call(gateway, path, tool, "hi", mcp_param_new="hi") == SAID
        assert len(host(one).asked("tools/list")) == lists


async def test_another_spelling_of_the_name_escapes_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway_of(server("a")) as gateway:
        with pytest.raises(HeaderMismatch):
            await call(gateway, "a", "echo", "hi", mcp_name="=?base64?ZWNobw==?=")


async def test_tools_without_marks_list_once_and_unknown_ones_are_the_servers_to_refuse(
    autojump_clock: trio.testing.MockClock,
) -> None:
    one = server("a")
    async with gateway_of(one) as gateway:
        for _ in range(3):
            await call(gateway, "a", "release", None)
        assert len(host(one).asked("tools/list")) == 1
        with pytest.raises(AssertionError, match="no tool"):
            await call(gateway, "a", "never", None)


async def test_over_http_the_server_compares_and_bad_marks_are_not_shown(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    configs = {"http": HttpServer("http", url="http://127.0.0.1:9/mcp")}
    listing._bad_mark.cache_clear()  # another test may have had the same tool, and each is logged once
    with caplog.at_level(logging.WARNING, "mcpgateway.server"):
        async with gateway_of(server("http"), server("pipe"), configs=configs) as gateway:
            for _ in range(2):
                shown = names(await ask(space(gateway), modern(), "tools/list"))
            assert await call(gateway, "", "http_echo", "hi", mcp_param_text="ho") == SAID

    assert "http_bad" not in shown
    assert {"http_echo", "pipe_bad", "pipe_echo"} <= set(shown)
    told = [record.getMessage() for record in caplog.records if "not shown" in record.getMessage()]
    assert told == ["server 'http': tool 'bad' is not shown: x-mcp-header of property 'text' is not a header token"]


class Late(Marked):
    """Says which tools it has when it is asked a second time."""

    def handle(self, message: Message) -> list[Message]:
        first = message.method == "tools/list" and not self.asked("tools/list")
        answers = super().handle(message)
        return [] if first else answers


async def test_a_client_that_gives_up_does_not_spare_the_next_one_the_comparison(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with gateway_of(Counting("a", Late, eras={Era.MODERN})) as gateway:
        with trio.move_on_after(1) as given_up:
            await call(gateway, "a", "echo", "hi", mcp_param_text="ho")
        assert given_up.cancelled_caught
        with pytest.raises(HeaderMismatch):
            await call(gateway, "a", "echo", "hi", mcp_param_text="ho")


class Huge(Marked):
    """Has a tool whose schema is JSON that nobody can hold."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        schema = Raw(b'{"maximum":1e999,"properties":{"text":{"type":"string","x-mcp-header":"Text"}}}')
        self.tools["huge"] = Tool({"inputSchema": schema}, lambda arguments: {})  # type: ignore[dict-item]  # no JSON


async def test_a_schema_that_cannot_be_read_costs_its_tool_only(autojump_clock: trio.testing.MockClock) -> None:
    configs = {"http": HttpServer("http", url="http://127.0.0.1:9/mcp")}
    http = Counting("http", Huge, eras={Era.MODERN})
    async with gateway_of(http, server("pipe"), configs=configs) as gateway:
        shown = names(await ask(space(gateway), modern(), "tools/list"))

    assert "http_huge" not in shown
    assert {"http_echo", "pipe_echo"} <= set(shown)


async def test_legacy_clients_mirror_nothing(autojump_clock: trio.testing.MockClock) -> None:
    one = Counting("a", type("a", (Marked,), {"name": "a"}))
    async with gateway_of(one) as gateway:
        reply = await ask(space(gateway, "a"), legacy(), "tools/call", {"name": "echo", "arguments": {"text": "hi"}})
        assert result(reply)["content"] == SAID
