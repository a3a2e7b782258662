"""What a server asks and tells its client, with npm's everything server: over stdio, over HTTP, and merged with others.

The clients are the SDK's, in the legacy era, which is all that this server speaks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import mcp_types as types
import pytest
import trio
from mcp import Client
from mcp.client import ClientRequestContext
from pydantic import FileUrl

from tests.real.gateways import GatewayProcess

pytestmark = [
    pytest.mark.real,
    # The SDK's client leaves the generators of an event stream to the garbage collector.
    pytest.mark.filterwarnings("ignore:Async generator '(httpx2|httpcore2):ResourceWarning"),
    # Sampling, roots and logging are what these tests are about.
    pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning"),
]

PATIENCE: Final = 60.0
PLACES: Final = [("/mcp/everything", ""), ("/mcp/remote", ""), ("/mcp", "everything_"), ("/mcp", "remote_")]
"""Paths, and what stands before the names of the server's tools there."""

everywhere = pytest.mark.parametrize(("path", "prefix"), PLACES, ids=["stdio", "http", "merged-stdio", "merged-http"])


class Person:
    """Who sits before a client: answers whatever is asked, and keeps what is told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[str] = []
        self.logs: list[types.LoggingMessageNotificationParams] = []
        self.told: list[Any] = []
        self._news = trio.Event()

    async def sample(
        self, context: ClientRequestContext, params: types.CreateMessageRequestParams
    ) -> types.CreateMessageResult:
        self.asked.append("sampling")
        content = types.TextContent(type="text", text=f"{self.name} thinks")
        return types.CreateMessageResult(role="assistant", content=content, model="none")

    async def elicit(self, context: ClientRequestContext, params: types.ElicitRequestParams) -> types.ElicitResult:
        self.asked.append("elicitation")
        return types.ElicitResult(action="accept", content={"name": self.name, "check": True})

    async def roots(self, context: ClientRequestContext) -> types.ListRootsResult:
        self.asked.append("roots")
        return types.ListRootsResult(roots=[types.Root(uri=FileUrl(f"file:///{self.name}"), name=self.name)])

    async def log(self, params: types.LoggingMessageNotificationParams) -> None:
        self.logs.append(params)
        self._news.set()

    async def hear(self, message: Any) -> None:
        self.told.append(message)
        self._news.set()

    async def until(self, kind: type, count: int = 1) -> list[Any]:
        """What was told of one kind, once there is so much."""
        while len(found := [each for each in [*self.told, *self.logs] if isinstance(each, kind)]) < count:
            self._news = trio.Event()
            await self._news.wait()
        return found


@asynccontextmanager
async def client(gateway: GatewayProcess, path: str, person: Person, **callbacks: Any) -> AsyncIterator[Client]:
    with trio.fail_after(PATIENCE):
        async with Client(
            gateway.url + path, mode="legacy", logging_callback=person.log, message_handler=person.hear, **callbacks
        ) as connected:
            yield connected


def text_of(result: types.CallToolResult) -> str:
    assert not result.is_error, result
    return "".join(part.text for part in result.content if isinstance(part, types.TextContent))


@everywhere
async def test_sampling(path: str, prefix: str, through: GatewayProcess) -> None:
    person = Person("ada")
    async with client(through, path, person, sampling_callback=person.sample) as connected:
        result = await connected.call_tool(f"{prefix}trigger-sampling-request", {"prompt": "why?"})

    assert "ada thinks" in text_of(result)
    assert person.asked == ["sampling"]


@everywhere
async def test_elicitation(path: str, prefix: str, through: GatewayProcess) -> None:
    person = Person("ada")
    async with client(through, path, person, elicitation_callback=person.elicit) as connected:
        result = await connected.call_tool(f"{prefix}trigger-elicitation-request", {})

    assert "ada" in text_of(result)
    assert person.asked == ["elicitation"]


@everywhere
async def test_two_clients_are_asked_each_their_own_question(path: str, prefix: str, through: GatewayProcess) -> None:
    async def one(name: str) -> None:
        person = Person(name)
        async with client(through, path, person, elicitation_callback=person.elicit) as connected:
            for _ in range(3):
                assert name in text_of(await connected.call_tool(f"{prefix}trigger-elicitation-request", {}))
        assert person.asked == ["elicitation"] * 3

    async with trio.open_nursery() as clients:
        for name in ("ada", "grace", "barbara"):
            clients.start_soon(one, name)


@everywhere
async def test_progress_and_its_reply(path: str, prefix: str, through: GatewayProcess) -> None:
    heard: list[tuple[float, float | None]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total))

    async with client(through, path, Person("ada")) as connected:
        result = await connected.call_tool(
            f"{prefix}trigger-long-running-operation", {"duration": 0.2, "steps": 5}, progress_callback=on_progress
        )

    assert "completed" in text_of(result)
    assert heard == [(step, 5) for step in range(1, 6)]


@pytest.mark.parametrize(("path", "prefix"), PLACES[:3])
async def test_the_roots_of_a_client(path: str, prefix: str, through: GatewayProcess) -> None:
    person = Person("ada")
    async with client(through, path, person, list_roots_callback=person.roots) as connected:
        result = await connected.call_tool(f"{prefix}get-roots-list", {})

    assert "ada" in text_of(result)  # a child that is shared may remember what an earlier client with roots said


@everywhere
async def test_logs_at_the_level_that_was_set(path: str, prefix: str, through: GatewayProcess) -> None:
    person = Person("ada")
    async with client(through, path, person) as connected:
        await connected.set_logging_level("debug")
        await connected.call_tool(f"{prefix}toggle-simulated-logging", {})
        (log, *_) = await person.until(types.LoggingMessageNotificationParams)
        await connected.call_tool(f"{prefix}toggle-simulated-logging", {})

    assert "message" in str(log.data)


@pytest.mark.parametrize(("path", "prefix"), PLACES[:3])  # of two servers with one URI, the first has it
async def test_updates_of_a_resource_that_was_subscribed_to(path: str, prefix: str, through: GatewayProcess) -> None:
    person, uri = Person("ada"), "demo://resource/dynamic/text/1"
    async with client(through, path, person) as connected:
        await connected.subscribe_resource(uri)
        await connected.call_tool(f"{prefix}toggle-subscriber-updates", {})
        (update, *_) = await person.until(types.ResourceUpdatedNotification)
        await connected.call_tool(f"{prefix}toggle-subscriber-updates", {})
        await connected.unsubscribe_resource(uri)

    assert update.params.uri == uri
