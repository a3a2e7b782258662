"""Links to servers of the ``mcp`` SDK over real HTTP, in both eras."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from mcpgateway import jsonrpc
from mcpgateway.adapters.streamable_http import StreamableHttpAdapter
from mcpgateway.config.model import HttpServer
from mcpgateway.errors import ServerSessionLost
from mcpgateway.jsonrpc import members_of
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.client import Collector, open_client, structured, text_of
from mcpgateway.wire.readiness import Poller
from tests.processes import free_port, running, wait_for_port

pytestmark = pytest.mark.real

FLAGS: dict[str, tuple[str, ...]] = {"sessions, SSE": (), "sessions, JSON": ("--json",), "stateless": ("--stateless",)}


@pytest.fixture(params=FLAGS.values(), ids=list(FLAGS), scope="module")
def flags(request: pytest.FixtureRequest) -> tuple[str, ...]:
    flags: tuple[str, ...] = request.param
    return flags


@pytest.fixture(scope="module")
def url(flags: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port, log = free_port(), tmp_path_factory.mktemp("sdk") / "log"
    command = [sys.executable, "-m", "tests.adapters.sdk_http_server", str(port), *flags]
    with running(command, log, cwd=Path(__file__).parents[2]) as process:
        wait_for_port(port, process, log)
        yield f"http://127.0.0.1:{port}/mcp"


@pytest.fixture
def adapter(url: str, nursery: trio.Nursery) -> StreamableHttpAdapter:
    poller = Poller()
    nursery.start_soon(poller.run)
    return StreamableHttpAdapter(HttpServer("sdk", url=url), poller)


@pytest.mark.parametrize("era", Era)
async def test_it_is_listed_and_called(era: Era, adapter: StreamableHttpAdapter, flags: tuple[str, ...]) -> None:
    async with open_client(adapter, era) as client:
        agreed = client.link.negotiated
        assert (agreed.era, agreed.name, agreed.version) == (era, "sdk-over-http", "7")
        assert agreed.stateful is (era is Era.LEGACY and "--stateless" not in flags)
        listed = await client.request("tools/list", client.stamped({}))
        assert names_in(listed.message) == ["add", "report", "fail"]
        for a in range(20):
            assert structured(await client.call("add", {"a": a, "b": 1})) == {"result": a + 1}
        assert bytes(members_of((await client.call("fail")).message.result)["isError"]) == b"true"
    assert not adapter.client.open_connections


def names_in(listing: jsonrpc.Message) -> list[object]:
    return [tool["name"] for tool in json.loads(listing.encode())["result"]["tools"]]


async def test_its_era_is_found_out(adapter: StreamableHttpAdapter) -> None:
    async with open_client(adapter, None) as client:
        assert client.link.negotiated.era is Era.MODERN


@pytest.mark.parametrize("era", Era)
async def test_its_progress_comes_before_the_reply(
    era: Era, adapter: StreamableHttpAdapter, flags: tuple[str, ...]
) -> None:
    if "--json" in flags:
        pytest.skip("plain JSON has no room for progress")
    async with open_client(adapter, era) as client, trio.open_nursery() as nursery:
        back = Collector()
        started = client.start(nursery, "report", token=b'"t"', back=back)
        assert text_of(await started.outcome()) == "done"
        (progress,) = back.messages
        assert bytes(members_of(progress.params)["progressToken"]) == b'"t"'


async def test_a_session_that_it_has_ended_is_lost(adapter: StreamableHttpAdapter, flags: tuple[str, ...]) -> None:
    if "--stateless" in flags:
        pytest.skip("it keeps no session")
    async with open_client(adapter, Era.LEGACY) as client:
        await adapter.end_session(client.link._own)  # type: ignore[attr-defined]  # behind the link's back
        with pytest.raises(ServerSessionLost):
            await client.call("add", {"a": 1, "b": 1})
        assert client.link.closed.is_set()
