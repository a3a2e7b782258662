"""WebSocket links against the ``websockets`` library, which shares no code with the one that makes our frames."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from mcpgateway.adapters.websocket import WebSocketAdapter
from mcpgateway.config.model import Keepalive, WebSocketServer
from mcpgateway.errors import ServerUnavailable
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing import AdapterUnderTest, check_adapter
from mcpgateway.testing.client import open_client, structured, text_of
from mcpgateway.testing.contract import CHECKS
from tests.adapters.websockets_server import MESSAGES, SIZE
from tests.processes import free_port, running, wait_for_port

pytestmark = pytest.mark.real

ENOUGH = 240.0
"""Seconds after which what is to finish has not."""
AT_ONCE = 40
"""Calls at a time: all of them are more than may wait to be sent."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port, log = free_port(), tmp_path_factory.mktemp("websockets") / "log"
    command = [sys.executable, "-m", "tests.adapters.websockets_server", str(port)]
    with running(command, log, cwd=Path(__file__).parents[2]) as process:
        wait_for_port(port, process, log)
        yield f"ws://127.0.0.1:{port}"


def reach(url: str, **options: object) -> WebSocketAdapter:
    return WebSocketAdapter(WebSocketServer("fixture", url=url, **options))  # type: ignore[arg-type]  # as the tests give


@asynccontextmanager
async def subject(url: str) -> AsyncIterator[AdapterUnderTest]:
    yield AdapterUnderTest(
        reach(f"{url}/dual"),
        dead=reach(f"ws://127.0.0.1:{free_port()}"),
        silent=reach(f"{url}/silent"),
        only={era: reach(f"{url}/{era.value}") for era in Era},
        last_words="boom",
    )


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.requirement("5.adapters")
async def test_the_adapter_keeps_the_contract(check: str, url: str) -> None:
    await check_adapter(partial(subject, url), only=check)


@pytest.mark.requirement("5.shows.websocket")
async def test_200_messages_of_500_kilobytes_both_ways_at_once_with_pings_from_both_ends_finish(url: str) -> None:
    filling = "x" * SIZE
    replies: list[object] = []
    limiter = trio.CapacityLimiter(AT_ONCE)
    adapter = reach(f"{url}/flood", keepalive=Keepalive(interval=0.005, timeout=ENOUGH))
    with trio.fail_after(ENOUGH):
        async with open_client(adapter, Era.LEGACY) as client:

            async def call() -> None:
                async with limiter:
                    replies.append(structured(await client.call("t", {"filling": filling}))["length"])

            async with trio.open_nursery() as nursery:
                for _ in range(MESSAGES):
                    nursery.start_soon(call)
            for number in range(MESSAGES):
                heard = await client.received.next()
                assert f'"x:{number}"'.encode() in bytes(heard.params or b"")
                assert len(bytes(heard.params or b"")) > SIZE
            answered = structured(await client.call("t"))["answered"]
    assert len(replies) == MESSAGES
    assert all(isinstance(length, int) and length > SIZE for length in replies)
    assert isinstance(answered, int)
    assert answered > 10


@pytest.mark.requirement("5.shows.websocket")
async def test_a_peer_that_stops_reading_is_dropped_within_its_deadline(url: str) -> None:
    adapter = reach(f"{url}/deaf", keepalive=Keepalive(interval=3600.0, timeout=1.0))
    with trio.fail_after(ENOUGH):
        async with open_client(adapter, Era.LEGACY) as client, trio.open_nursery() as nursery:
            calls = [client.start(nursery, "t", {"filling": "x" * SIZE}) for _ in range(100)]
            began = time.monotonic()
            problems = [await call.problem() for call in calls]
            assert 1.0 <= time.monotonic() - began < ENOUGH
    assert {str(problem) for problem in problems if isinstance(problem, ServerUnavailable)} == {
        "server 'fixture': has read nothing for 1 s although messages are waiting"
    }


async def test_a_link_serves_beside_one_that_is_dropped(url: str) -> None:
    async with open_client(reach(f"{url}/dual"), Era.MODERN) as client:
        assert text_of(await client.call("echo", {"text": "here"})) == "here"
