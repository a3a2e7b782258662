"""What tests of HTTP links share: a scripted peer, and adapters that reach it."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from mcpgateway.adapters.streamable_http import StreamableHttpAdapter
from mcpgateway.config.model import HttpServer
from mcpgateway.wire.readiness import Poller
from tests.adapters.http_peer import Peer, Reach


@pytest.fixture
async def peer(nursery: trio.Nursery) -> Peer:
    peer = Peer()
    await nursery.start(peer.serve)
    return peer


@pytest.fixture
async def reach(nursery: trio.Nursery, peer: Peer) -> Reach:
    poller = Poller()
    nursery.start_soon(poller.run)

    def reach(url: str = "", **options: Any) -> StreamableHttpAdapter:
        return StreamableHttpAdapter(HttpServer("s", url=url or peer.url, **options), poller)

    return reach
