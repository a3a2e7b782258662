"""Links to servers of the ``mcp`` SDK over real HTTP+SSE, in both eras."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from mcpgateway.adapters.sse import SseAdapter
from mcpgateway.config.model import SseServer
from mcpgateway.errors import ServerUnavailable
from mcpgateway.jsonrpc import members_of
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.client import Collector, make_offer, open_client, structured, text_of
from mcpgateway.wire.readiness import Poller
from tests.processes import free_port, running, wait_for_port

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port, log = free_port(), tmp_path_factory.mktemp("sdk") / "log"
    command = [sys.executable, "-m", "tests.adapters.sdk_http_server", str(port), "--sse"]
    with running(command, log, cwd=Path(__file__).parents[2]) as process:
        wait_for_port(port, process, log)
        yield f"http://127.0.0.1:{port}/sse"


@pytest.fixture
def poller(nursery: trio.Nursery) -> Poller:
    poller = Poller()
    nursery.start_soon(poller.run)
    return poller


@pytest.mark.parametrize("era", [None, *Era])
@pytest.mark.requirement("5.adapters")
async def test_it_is_called_side_by_side(era: Era | None, url: str, poller: Poller) -> None:
    adapter = SseAdapter(SseServer("sdk", url=url), poller)
    async with open_client(adapter, era) as client, trio.open_nursery() as nursery:
        agreed = client.link.negotiated
        assert (agreed.name, agreed.version) == ("sdk-over-http", "7")
        assert agreed.era is (era or Era.MODERN)
        calls = [client.start(nursery, "add", {"a": a, "b": 1}) for a in range(50)]
        assert [structured(await call.outcome())["result"] for call in calls] == list(range(1, 51))
        assert bytes(members_of((await client.call("fail")).message.result)["isError"]) == b"true"
    assert not adapter.open_connections


@pytest.mark.parametrize("era", Era)
@pytest.mark.requirement("5.adapters")
async def test_its_progress_comes_before_the_reply(era: Era, url: str, poller: Poller) -> None:
    adapter = SseAdapter(SseServer("sdk", url=url), poller)
    async with open_client(adapter, era) as client, trio.open_nursery() as nursery:
        back = Collector()
        started = client.start(nursery, "report", token=b'"t"', back=back)
        assert text_of(await started.outcome()) == "done"
        (progress,) = back.messages
        assert bytes(members_of(progress.params)["progressToken"]) == b'"t"'


async def test_the_path_of_the_other_transport_is_told_from_it(url: str, poller: Poller) -> None:
    adapter = SseAdapter(SseServer("sdk", url=url.replace("/sse", "/mcp")), poller)
    async with trio.open_nursery() as nursery:
        with pytest.raises(ServerUnavailable, match=r"check the path of its URL, and that it speaks HTTP\+SSE"):
            await adapter.connect(nursery, make_offer(None), lambda message: None)
