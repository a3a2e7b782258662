"""A client of the ``mcp`` SDK, in both eras, through the gateway to servers over WebSocket and HTTP+SSE."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from mcp import types
from mcp.client import Client
from mcp.client.client import ConnectMode

from mcpgateway.app import serve
from mcpgateway.config.loading import from_value
from mcpgateway.gateway import Gateway
from tests.adapters.sse_fixture import serve_sse_fixture
from tests.adapters.websocket_fixture import serve_websocket_fixture

pytestmark = [
    pytest.mark.real,
    # The SDK's client leaves the event streams that it has read to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    async with serve_websocket_fixture() as socket, serve_sse_fixture() as stream, trio.open_nursery() as nursery:
        servers = {"socket": {"url": socket.url}, "stream": {"type": "sse", "url": stream.url}}
        value = {"listen": {"port": 0}, "state_dir": str(tmp_path), "servers": servers}
        stop = trio.Event()

        async def run(*, task_status: trio.TaskStatus[str]) -> None:
            await serve(Gateway(from_value(value).config), stop=stop, task_status=task_status)

        yield await nursery.start(run)
        stop.set()


async def answer(context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
    return types.ElicitResult(action="accept", content={"name": "me"})


@pytest.mark.parametrize("mode", ["legacy", "auto"])
@pytest.mark.parametrize("server", ["socket", "stream"])
@pytest.mark.requirement("5.adapters")
async def test_a_client_calls_sees_progress_and_is_asked(url: str, server: str, mode: ConnectMode) -> None:
    steps: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    where = f"{url.removesuffix('/mcp')}/mcp/{server}"
    with trio.fail_after(60):
        async with Client(where, mode=mode, elicitation_callback=answer) as client:
            echo = await client.call_tool("echo", {"text": "hello"})
            assert [part.text for part in echo.content if isinstance(part, types.TextContent)] == ["hello"]
            await client.call_tool("progress", {"n": 3}, progress_callback=on_progress)
            assert steps == [1, 2, 3]
            asked = await client.call_tool("ask", {})
            heard = asked.structured_content
            assert isinstance(heard, dict)
            given = heard["result"] if mode == "legacy" else heard["inputResponses"]["name"]
            assert given == {"action": "accept", "content": {"name": "me"}}
