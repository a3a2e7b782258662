"""Embedding a gateway: what `open_gateway` takes, and how it and `serve` end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import trio
from mcp.server.mcpserver import Context, MCPServer

import mcpgateway
from mcpgateway.app import serve
from mcpgateway.config.model import Config, Listen
from mcpgateway.errors import JSON, ConfigError, ServerUnavailable
from mcpgateway.gateway import Gateway
from mcpgateway.protocol.revisions import Era
from tests.adapters.sse_fixture import serve_sse_fixture
from tests.adapters.websocket_fixture import serve_websocket_fixture
from tests.calls.doubles import library


def clock() -> MCPServer:
    server = MCPServer("clock", version="1")

    @server.tool()
    def add(a: int, b: int) -> int:
        return a + b

    @server.tool()
    async def count(to: int, context: Context) -> str:
        for step in range(1, to + 1):
            await context.report_progress(step, to)
        return "counted"

    return server


@pytest.mark.requirement("2.embedding")
async def test_server_objects_of_the_sdk_are_embedded_by_name() -> None:
    steps: list[JSON] = []

    async def on_progress(params: dict[str, JSON]) -> None:
        steps.append(params["progress"])

    async with mcpgateway.open_gateway(servers={"mine": clock(), "made": clock}) as gateway:
        listed = await gateway.list_tools()
        assert [tool["name"] for tool in listed if isinstance(tool, dict)] == [
            *("mine_add", "mine_count", "made_add", "made_count")
        ]
        assert (await gateway.call_tool("mine_add", {"a": 2, "b": 3}))["structuredContent"] == {"result": 5}
        await gateway.call_tool("count", {"to": 3}, namespace="made", on_progress=on_progress)
        assert steps == [1, 2, 3]
        assert (await gateway.call_tool("add", {"a": 2}, namespace="mine"))["isError"] is True


async def test_adapters_are_embedded_as_they_are_and_are_gone_at_the_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = library("x")
    async with mcpgateway.open_gateway(servers={"mine": adapter}) as gateway:
        assert "content" in await gateway.call_tool("mine_echo")
    assert adapter.open == []
    assert [server.state for server in gateway.statistics().servers] == ["stopped"]


@pytest.mark.requirement("5.adapters")
@pytest.mark.requirement("feature.28")
async def test_servers_over_websocket_and_sse_are_merged_and_reached_again_after_a_crash() -> None:
    async with serve_websocket_fixture() as socket, serve_sse_fixture(eras={Era.LEGACY}) as stream:
        servers = {"socket": {"url": socket.url}, "stream": {"type": "sse", "url": stream.url}}
        recovery = {"recovery": {"initial": "10ms"}}
        config = {"servers": {name: keys | recovery for name, keys in servers.items()}}
        async with mcpgateway.open_gateway(config) as gateway:
            for server in servers:
                for _ in range(2):
                    reply = await gateway.call_tool(f"{server}_echo", {"text": "hello"})
                    assert reply["content"] == [{"type": "text", "text": "hello"}]
                    with pytest.raises(ServerUnavailable):
                        await gateway.call_tool(f"{server}_crash")
            eras = {server.name: server.eras for server in gateway.statistics().servers}
            assert eras == {"socket": ("modern",), "stream": ("legacy",)}
        await stream.until_left()
        assert socket.open == 0


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
async def test_what_the_body_raises_comes_out_as_it_is(
    kind: type[BaseException], autojump_clock: trio.testing.MockClock
) -> None:
    adapter = library("x")

    async def body() -> None:
        async with mcpgateway.open_gateway(servers={"mine": adapter}) as gateway:
            await gateway.ready()
            raise kind("mine")

    with pytest.raises(kind) as raised:
        await body()
    assert raised.type is kind
    assert adapter.open == []


async def test_a_gateway_ends_when_its_surroundings_are_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    adapter = library("x")
    with trio.move_on_after(3) as scope:
        async with mcpgateway.open_gateway(servers={"mine": adapter}) as gateway:
            await gateway.ready()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert adapter.open == []


async def test_a_configuration_may_be_a_mapping_a_file_or_a_value(tmp_path: Path) -> None:
    file = tmp_path / "mcp-gateway.yaml"
    file.write_text("list_timeout: 3s\n")
    for config in ({"list_timeout": "3s"}, file, str(file), Config(list_timeout=3.0)):
        async with mcpgateway.open_gateway(config) as gateway:
            assert gateway.config.list_timeout == 3
            assert await gateway.list_tools() == []
    with pytest.raises(ConfigError, match="list_timeuot"):
        async with mcpgateway.open_gateway({"list_timeuot": "3s"}):
            pass


async def test_serving_says_where_and_ends_when_told() -> None:
    adapter = library("x")
    config = Config(listen=Listen(port=0), servers={})
    stop = trio.Event()
    gateway = Gateway(config)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            url = await nursery.start(lambda task_status: serve(gateway, stop=stop, task_status=task_status))
            assert url.startswith("http://127.0.0.1:")
            stop.set()
    assert adapter.open == []


async def test_an_address_that_is_taken_is_an_error() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        gateway = Gateway(Config(listen=Listen(port=port)))
        with pytest.RaisesGroup(OSError, flatten_subgroups=True):
            await serve(gateway, stop=trio.Event())


@pytest.mark.requirement("4.children.path", "feature.33")
async def test_children_are_found_and_run_with_the_path_of_the_login_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    program = "-m mcpgateway.testing.fixture_server"
    script(folder / "only-there", f'case "$PATH" in *:{folder}) exec {sys.executable} {program};; esac')
    script(tmp_path / "shell", f'shift 3; echo hello; PATH=$PATH:{folder}; export PATH; eval "$1"')
    monkeypatch.setenv("SHELL", str(tmp_path / "shell"))
    config = {"servers": {name: {"command": "only-there"} for name in "ab"}, "login_shell": {"mode": "always"}}
    async with mcpgateway.open_gateway(config) as gateway:
        names = {tool["name"] for tool in await gateway.list_tools() if isinstance(tool, dict)}
    assert {"a_echo", "b_echo"} <= names


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
