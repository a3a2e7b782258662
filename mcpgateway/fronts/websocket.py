"""The WebSocket front: one channel for each accepted connection, one message for each text frame.

MCP has no WebSocket transport (SEP-1288 is a draft), so this is the framing of stdio with frames for lines, as the
clients have it that there are: subprotocol ``mcp`` where it is offered. A client that closes has gone, and its calls
with it.

It is the dialling side that pings. A client from which nothing has come for ``idle_timeout`` is asked by one ping
whether it is still there, and dropped if nothing comes within ``write_timeout`` either. Nothing here waits for a pong
to be sent, so that two ends that ping each other with full buffers go on.
"""

from __future__ import annotations

from mcpgateway.config.limits import Limits
from mcpgateway.errors import UnknownNamespace
from mcpgateway.fronts.channel import Commons
from mcpgateway.fronts.websocket_channel import Pace, Silent, WebSocketChannel
from mcpgateway.wire.http1.exchange import Exchange
from mcpgateway.wire.http1.requests import HttpRequest
from mcpgateway.wire.transport import Transport
from mcpgateway.wire.websocket_server import Frames, accept


class WebSocketFront:
    """Answers handshakes on the paths of WebSockets."""

    def __init__(self, commons: Commons, limits: Limits) -> None:
        self._commons = commons
        self.limits = limits

    async def serve(self, request: HttpRequest, exchange: Exchange, name: str) -> None:
        """A channel, for as long as the connection lasts.

        :raises UnknownNamespace: there is none of that name
        :raises mcpgateway.wire.websocket_server.NotWebSocket: the request is no handshake
        :raises TooBusy: there are as many streams as there may be
        """
        commons = self._commons
        if commons.find(name) is None:
            raise UnknownNamespace(f"there is no namespace or server {name[:100]!r} here")
        head = accept(request.headers)
        commons.bounds.streams.take(request.address)
        try:
            transport, beyond = await exchange.switch(head)
            await _Accepted(commons, self.limits, transport, request.address).run(name, beyond)
        finally:
            commons.bounds.streams.release(request.address)


class _Accepted(WebSocketChannel):
    """A WebSocket that was accepted."""

    def __init__(self, commons: Commons, limits: Limits, transport: Transport, address: str) -> None:
        pace = Pace(limits.write_timeout, limits.write_rate)
        super().__init__(commons, transport, address, Frames(limits.body_bytes), pace)
        self._limits = limits

    async def _next(self) -> bytes:
        """The next bytes. A client that is silent is asked once whether it is there."""
        try:
            return await self._bytes_within(self._limits.idle_timeout)
        except Silent:
            self._out.put(self._frames.ping())
            return await self._bytes_within(self._limits.write_timeout)
