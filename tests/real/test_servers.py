"""Real servers and real clients: the SDK's client of either era, through ``/mcp`` and ``/mcp/{name}``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import mcp_types as types
import pytest
import trio
from mcp import Client
from mcp.shared.exceptions import MCPError

from mcpgateway.protocol.revisions import LATEST_LEGACY, LATEST_MODERN
from tests.real.conftest import Servers
from tests.real.gateways import GatewayProcess, environment

pytestmark = [
    pytest.mark.real,
    # The SDK's client leaves the generators of an event stream to the garbage collector.
    pytest.mark.filterwarnings("ignore:Async generator '(httpx2|httpcore2):ResourceWarning"),
]

PATIENCE: Final = 60.0
MODES: Final = ("legacy", "auto", LATEST_MODERN)
Example: TypeAlias = tuple[str, dict[str, Any], str]

BOTH_ERAS: Final[dict[str, Example]] = {
    "time": ("convert_time", {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}, "21:00"),
    "sdk": ("add", {"a": 20, "b": 22}, "42"),
    "mine": ("add", {"a": 20, "b": 22}, "42"),
}
"""Servers that speak both eras: a tool, its arguments, and what is in its answer."""
LEGACY_ONLY: Final[dict[str, Example]] = {
    "everything": ("echo", {"message": "hé"}, "Echo: hé"),
    "remote": ("echo", {"message": "hé"}, "Echo: hé"),
}
STRICT: Final[dict[str, Example]] = {"strict": ("echo", {"message": "hé"}, "Echo: hé")}
"""Speaks the legacy era, and is spoken to in its clients' (``era: mirror``)."""
ALL: Final = {**BOTH_ERAS, **LEGACY_ONLY, **STRICT}


@asynccontextmanager
async def client(gateway: GatewayProcess, path: str, mode: str) -> AsyncIterator[Client]:
    with trio.fail_after(PATIENCE):
        async with Client(gateway.url + path, mode=mode) as connected:
            yield connected


def revision(mode: str, server: str) -> str:
    return LATEST_LEGACY if mode == "legacy" or server in STRICT else LATEST_MODERN


def text_of(result: types.CallToolResult) -> str:
    assert not result.is_error, result
    return "".join(part.text for part in result.content if isinstance(part, types.TextContent))


def cases() -> list[tuple[str, str]]:
    """Every server with every mode that it can be used in."""
    return [(server, mode) for server in ALL for mode in MODES if server not in STRICT or mode != LATEST_MODERN]


@pytest.mark.requirement("2.shows.real-servers")
@pytest.mark.parametrize(("server", "mode"), cases())
async def test_a_server_by_itself_is_just_as_it_is(server: str, mode: str, through: GatewayProcess) -> None:
    tool, arguments, answer = ALL[server]
    async with client(through, f"/mcp/{server}", mode) as connected:
        names = [each.name for each in (await connected.list_tools()).tools]
        result = await connected.call_tool(tool, arguments)

        assert connected.protocol_version == revision(mode, server)
        assert tool in names
        assert answer in text_of(result)


@pytest.mark.requirement("2.shows.real-servers")
@pytest.mark.parametrize("mode", MODES)
async def test_merged_with_others_it_answers_under_its_prefix(mode: str, through: GatewayProcess) -> None:
    """``/mcp`` speaks both eras, and shows to each client every server that can be spoken to for it."""
    expected = ALL if mode == "legacy" else {**BOTH_ERAS, **LEGACY_ONLY}
    async with client(through, "/mcp", mode) as connected:
        names = [each.name for each in (await connected.list_tools()).tools]

        assert connected.protocol_version == (LATEST_LEGACY if mode == "legacy" else LATEST_MODERN)
        assert {name.partition("_")[0] for name in names} == set(expected)
        for server, (tool, arguments, answer) in expected.items():
            assert f"{server}_{tool}" in names
            assert answer in text_of(await connected.call_tool(f"{server}_{tool}", arguments))


@pytest.mark.requirement("2.shows.real-servers", "2.front.eras")
@pytest.mark.parametrize("server", STRICT)
async def test_where_the_eras_differ_the_error_names_both(server: str, through: GatewayProcess) -> None:
    tool, arguments, _ = STRICT[server]
    async with client(through, f"/mcp/{server}", LATEST_MODERN) as connected:
        with pytest.raises(MCPError) as refused:
            await connected.call_tool(tool, arguments)

    assert f"server '{server}'" in refused.value.message
    assert "legacy era" in refused.value.message
    assert "modern era" in refused.value.message


async def test_a_merged_listing_names_the_servers_of_the_other_era(through: GatewayProcess) -> None:
    async with client(through, "/mcp", LATEST_MODERN) as connected:
        listing = await connected.list_tools()

    missing = (listing.meta or {})["io.github.mcpgateway/missing"]
    assert set(missing) == set(STRICT)
    assert all("era" in reason for reason in missing.values())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("server", ["sdk", "mine"])
async def test_resources_and_prompts_pass_too(server: str, mode: str, through: GatewayProcess) -> None:
    async with client(through, f"/mcp/{server}", mode) as connected:
        resources = (await connected.list_resources()).resources
        prompts = (await connected.list_prompts()).prompts
        (content,) = (await connected.read_resource(resources[0].uri)).contents
        (message,) = (await connected.get_prompt("ask", {"what": "MCP"})).messages

    assert [resource.uri for resource in resources] == ["greeting://world"]
    assert [prompt.name for prompt in prompts] == ["ask"]
    assert isinstance(content, types.TextResourceContents)
    assert content.text == "hello, world"
    assert isinstance(message.content, types.TextContent)
    assert message.content.text == "What is MCP?"


async def test_progress_of_a_real_server_arrives_in_order(through: GatewayProcess) -> None:
    heard: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        heard.append(progress)

    async with client(through, "/mcp/everything", "legacy") as connected:
        result = await connected.call_tool(
            "trigger-long-running-operation", {"duration": 0.4, "steps": 4}, progress_callback=on_progress
        )

    assert "completed" in text_of(result)
    assert heard == [1, 2, 3, 4]


async def test_many_calls_at_once_each_get_their_own_answer(through: GatewayProcess) -> None:
    """Several clients, several calls each, two servers that are child processes: nothing is mixed up."""
    answers: dict[str, str] = {}

    async def ask(connected: Client, word: str) -> None:
        answers[word] = text_of(await connected.call_tool("everything_echo", {"message": word}))

    async def one(number: int) -> None:
        async with client(through, "/mcp", "legacy") as connected:
            async with trio.open_nursery() as calls:
                for call in range(5):
                    calls.start_soon(ask, connected, f"{number}-{call}")

    async with trio.open_nursery() as clients:
        for number in range(4):
            clients.start_soon(one, number)

    assert len(answers) == 20
    assert all(answer == f"Echo: {word}" for word, answer in answers.items())


@pytest.mark.requirement("2.runner.check")
def test_check_tells_what_all_of_them_are(servers: Servers, tmp_path: Path) -> None:
    file = tmp_path / "mcp-gateway.json"
    file.write_text(json.dumps({"servers": {**servers.config, "off": {"command": "x", "enabled": False}}}))

    done = subprocess.run(
        [sys.executable, "-m", "runners.check", "--config", str(file), "--output", "json", "--strict"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    found = {each["name"]: each for each in json.loads(done.stdout)["servers"]}
    assert list(found) == [*servers.config, "off"]
    assert {name: tuple(each["eras"]) for name, each in found.items()} == {
        **dict.fromkeys(BOTH_ERAS, ("modern", "legacy")),
        **dict.fromkeys({**LEGACY_ONLY, **STRICT}, ("legacy",)),
        "off": (),
    }
    assert all(tool in found[name]["tools"] for name, (tool, _, _) in ALL.items())
    assert (found["sdk"]["server_name"], found["sdk"]["server_version"]) == ("sdk", "3.2.1")
    assert (found["mine"]["prompts"], found["mine"]["resources"]) == (1, 1)
