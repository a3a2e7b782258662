"""What is particular to servers inside the process; the rest is the contract's."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import mcp_types as types
import pytest
import trio
from mcp.server import Server
from mcp.server.mcpserver import Context, MCPServer

from mcpgateway import jsonrpc
from mcpgateway.adapters import in_process
from mcpgateway.adapters.in_process import InProcessAdapter
from mcpgateway.adapters.pipe import PipeLink
from mcpgateway.errors import NotStarted, ServerUnavailable, TooBusy
from mcpgateway.protocol.envelope import SERVER_INFO
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.client import Collector, make_offer, open_client, structured, text_of
from tests.adapters import sdk_server


def high_level() -> MCPServer:
    server = MCPServer("high-level", version="3")

    @server.tool()
    def add(a: int, b: int) -> int:
        return a + b

    @server.tool()
    async def report(context: Context) -> str:
        await context.report_progress(1, 2, "half")
        return "done"

    return server


A_SERVER = high_level()


@pytest.mark.parametrize("era", Era)
@pytest.mark.parametrize("target", [A_SERVER, high_level, f"{__name__}:A_SERVER", f"{__name__}:high_level"])
async def test_any_way_of_naming_a_server_will_do(target: object, era: Era, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    async with open_client(InProcessAdapter("s", target), era) as client, trio.open_nursery() as nursery:
        assert (client.link.negotiated.name, client.link.negotiated.version) == ("high-level", "3")
        assert structured(await client.call("add", {"a": 2, "b": 3})) == {"result": 5}
        back = Collector()
        done = client.start(nursery, "report", token=b'"t"', back=back)
        assert text_of(await done.outcome()) == "done"
        (progress,) = back.messages
        assert b'"progressToken":"t"' in progress.encode()


async def test_links_of_both_eras_share_one_object() -> None:
    adapter = InProcessAdapter("s", A_SERVER)
    async with open_client(adapter, Era.LEGACY) as legacy, open_client(adapter, Era.MODERN) as modern:
        for client, stamped in ((legacy, False), (modern, True)):
            reply = await client.call("add", {"a": 1, "b": 1})
            assert (SERVER_INFO.encode() in reply.message.encode()) is stamped


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("no.such.module:server", "ModuleNotFoundError"),
        ("tests.adapters.sdk_server:nothing", "AttributeError"),
        ("tests.adapters.sdk_server", "ValueError|AttributeError"),
        (object(), "not a server of the mcp SDK but a object"),
    ],
)
async def test_what_is_no_server_is_refused(target: object, said: str) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(NotStarted, match=said)):
        async with open_client(InProcessAdapter("s", target), None):
            pass


def broken_lifespan(server: Server[Any]) -> AbstractAsyncContextManager[None]:
    raise RuntimeError("the password is hunter2")


async def test_a_server_that_does_not_start_is_named_and_its_words_go_to_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        async with trio.open_nursery() as nursery:
            adapter = InProcessAdapter("s", Server("broken", lifespan=broken_lifespan))
            with pytest.raises(ServerUnavailable, match=r"'s': crashed with RuntimeError") as caught:
                await adapter.connect(nursery, make_offer(Era.LEGACY), Collector())

    assert "hunter2" not in str(caught.value)
    assert "hunter2" in caplog.text


async def test_a_server_that_is_not_ready_in_time_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        adapter = InProcessAdapter("s", sdk_server.make_silent, startup_timeout=7)
        with pytest.raises(ServerUnavailable, match="within 7 s"):
            await adapter.connect(nursery, make_offer(Era.LEGACY), Collector())

    assert trio.current_time() == pytest.approx(7 + in_process.GRACE, abs=0.01)


@asynccontextmanager
async def stubborn_lifespan(server: Server[Any]) -> AsyncIterator[None]:
    yield
    await trio.sleep(1000)


async def test_a_server_that_does_not_stop_is_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    async with open_client(InProcessAdapter("s", Server("stubborn", lifespan=stubborn_lifespan)), Era.LEGACY) as client:
        before = trio.current_time()
        await client.link.aclose()

        assert trio.current_time() - before == pytest.approx(in_process.GRACE)
        assert not client.nursery.child_tasks


async def test_a_server_that_does_not_read_gets_no_endless_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_process, "BACKLOG", 4)
    async with open_client(InProcessAdapter("s", sdk_server.make), Era.LEGACY) as client:
        assert isinstance(client.link, PipeLink)
        link, message = client.link, b'{"jsonrpc":"2.0","method":"notifications/x"}'
        for _ in range(4):
            link._put(message)  # synchronous: the server has no chance to read
        with pytest.raises(TooBusy, match="4 messages wait"):
            link._put(message)


async def test_an_error_of_a_handler_with_the_code_of_a_farewell_is_passed_on() -> None:
    async def call_tool(context: object, params: types.CallToolRequestParams) -> types.CallToolResult:
        from mcp.shared.exceptions import MCPError

        raise MCPError(code=-32000, message="Connection closed")

    server = Server("s", on_call_tool=call_tool)
    for era in Era:
        async with open_client(InProcessAdapter("s", server), era) as client:
            reply = await client.call("x")

            assert jsonrpc.error_code(reply.message) == -32000
            assert not client.link.closed.is_set()


def test_the_sdk_is_not_imported_before_it_is_needed() -> None:
    program = "import sys, mcpgateway.adapters.in_process; sys.exit('mcp' in sys.modules or 'mcp_types' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=300).returncode == 0
