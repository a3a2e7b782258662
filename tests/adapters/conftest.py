"""What tests of HTTP links share: a scripted peer, and adapters that reach it."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from mcpgateway.adapters.streamable_http import StreamableHttpAdapter
from mcpgateway.config.model import HttpServer
from mcpgateway.wire.httpx_client import HttpxClient
from mcpgateway.wire.readiness import Poller
from tests.adapters.http_peer import Peer, Reach


@pytest.fixture
async def peer(nursery: trio.Nursery) -> Peer:
    peer = Peer()
    await nursery.start(peer.serve)
    return peer


@pytest.fixture(params=["Pool", "HttpxClient"])
def client(request: pytest.FixtureRequest) -> str:
    """The HTTP client under the adapter."""
    return str(request.param)


@pytest.fixture
async def reach(nursery: trio.Nursery, peer: Peer, client: str) -> Reach:
    """Adapters over each of the clients, which nobody above can tell apart."""
    poller = Poller()
    nursery.start_soon(poller.run)

    def reach(url: str = "", **options: Any) -> StreamableHttpAdapter:
        adapter = StreamableHttpAdapter(HttpServer("s", url=url or peer.url, **options), poller)
        if client == "HttpxClient":
            adapter.client = HttpxClient(url or peer.url, deadlines=adapter.client.deadlines)
        return adapter

    return reach
