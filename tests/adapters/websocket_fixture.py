"""The fixture server over WebSockets, by trio-websocket: the far side of WebSocket links in tests."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import attrs
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from mcpgateway import jsonrpc
from mcpgateway.demo.server import BOTH
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.fixture_server import Crashed, FixtureServer


@attrs.define
class WebSocketFixture:
    """A listener; attributes say what came."""

    eras: Collection[Era] = BOTH
    silent: bool = False
    url: str = ""
    requests: list[WebSocketRequest] = attrs.Factory(list)
    open: int = 0
    """Connections that are open."""

    async def handle(self, request: WebSocketRequest) -> None:
        self.requests.append(request)
        socket = await request.accept(subprotocol="mcp")
        self.open += 1
        try:
            await self._serve(socket)
        except ConnectionClosed:
            pass
        finally:
            self.open -= 1

    async def _serve(self, socket: WebSocketConnection) -> None:
        server = FixtureServer(eras=self.eras)
        while True:
            data = await socket.get_message()
            if self.silent:
                continue
            assert isinstance(data, str)
            try:
                caused = server.handle(jsonrpc.decode(data.encode()))
            except Crashed as crash:
                await socket.aclose(1011, str(crash))
                return
            for message in caused:
                await socket.send_message(message.encode().decode())


@asynccontextmanager
async def serve_websocket_fixture(
    *, eras: Collection[Era] = BOTH, silent: bool = False, tls: ssl.SSLContext | None = None
) -> AsyncIterator[WebSocketFixture]:
    """Serve on a free port of 127.0.0.1 while the block runs; each connection has a server object of its own."""
    fixture = WebSocketFixture(eras, silent)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, fixture.handle, "127.0.0.1", 0, tls)
        fixture.url = f"{'ws' if tls is None else 'wss'}://127.0.0.1:{server.port}/mcp"
        yield fixture
        nursery.cancel_scope.cancel(reason="the fixture is not needed any more")
