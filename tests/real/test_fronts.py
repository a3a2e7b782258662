"""Real clients on channels: those of the SDK over HTTP+SSE and stdio, and of the ``websockets`` library."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters

from tests.real.gateways import ENDING, GatewayProcess, configured, environment

pytestmark = [
    pytest.mark.real,
    # The SDK's client leaves the generators of an event stream to the garbage collector.
    pytest.mark.filterwarnings("ignore:Async generator '(httpx2|httpcore2):ResourceWarning"),
]

FIXTURE = {"one": {"command": sys.executable, "args": ["-m", "mcpgateway.testing.fixture_server"]}}
PATIENCE = 60.0


@pytest.fixture
def running(tmp_path: Path) -> Iterator[GatewayProcess]:
    with configured(tmp_path, {"state_dir": str(tmp_path / "state"), "servers": FIXTURE}) as made:
        yield made


def server(kind: str, gateway: GatewayProcess, name: str) -> Any:
    """What the SDK's client takes for a server; Any, because it takes so much."""
    below = f"/{name}" if name else ""
    if kind == "sse":
        return sse_client(f"{gateway.url}{below}/sse")
    arguments = ["-m", "runners.stdio", "--url", f"{gateway.url}/mcp{below}"]
    return StdioServerParameters(command=sys.executable, args=arguments, env=environment())


@pytest.mark.requirement("5.fronts", "feature.8", "feature.9", "feature.18", "feature.23")
@pytest.mark.parametrize("name", ["", "one"])
@pytest.mark.parametrize("mode", ["legacy", "auto", "2026-07-28"])
@pytest.mark.parametrize("kind", ["sse", "stdio"])
async def test_the_sdks_client_calls_hears_of_progress_and_is_asked(
    kind: str, mode: str, name: str, running: GatewayProcess
) -> None:
    told: list[float] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)

    with trio.fail_after(PATIENCE):
        async with Client(server(kind, running, name), mode=mode) as client:
            prefix = "" if name else "one_"
            tools = [tool.name for tool in (await client.list_tools()).tools]
            echoed = await client.call_tool(f"{prefix}echo", {"text": "hé"})
            await client.call_tool(f"{prefix}progress", {"n": 3}, progress_callback=hear)

            assert client.protocol_version == ("2025-11-25" if mode == "legacy" else "2026-07-28")
            assert f"{prefix}echo" in tools
            assert [part.model_dump()["text"] for part in echoed.content] == ["hé"]
            assert told == [1, 2, 3]


@pytest.mark.requirement("5.fronts", "5.shows.websocket")
async def test_a_flood_both_ways_with_pings_finishes(running: GatewayProcess) -> None:
    url = running.url.replace("http", "ws") + "/ws/one"
    script = Path(__file__).with_name("websockets_client.py")
    with trio.fail_after(2 * ENDING):
        done = await trio.run_process(
            [sys.executable, str(script), url], capture_stdout=True, stderr=subprocess.STDOUT, check=False
        )
    assert done.returncode == 0, done.stdout.decode()
    told = json.loads(done.stdout)
    assert told["right"] == 200
    assert told["pings"] > 0
    assert told["code"] == 1000
