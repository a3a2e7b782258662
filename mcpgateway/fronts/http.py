"""The HTTP front: which part of the gateway answers which path.

MCP paths are served here and now; everything else goes to one cold handler (the app of `mcpgateway.web`).
"""

from __future__ import annotations

import logging
import ssl
from typing import Final

import trio

from mcpgateway import jsonrpc
from mcpgateway.config.model import Listen
from mcpgateway.errors import GatewayError, ShuttingDown
from mcpgateway.fronts import cors
from mcpgateway.fronts.channel import Commons
from mcpgateway.fronts.listener import Listener, policy_of, refusal
from mcpgateway.fronts.paths import Part, place_of
from mcpgateway.fronts.replies import error_fields
from mcpgateway.fronts.sse import HttpSse
from mcpgateway.fronts.streamable import StreamableHttp
from mcpgateway.fronts.streams import NotAllowed
from mcpgateway.fronts.websocket import WebSocketFront
from mcpgateway.gateway import Gateway
from mcpgateway.wire.http1.connection import Handler
from mcpgateway.wire.http1.exchange import Exchange
from mcpgateway.wire.http1.requests import HttpRequest
from mcpgateway.wire.http1.server import HttpServer
from mcpgateway.wire.websocket_server import NotWebSocket

log = logging.getLogger("mcpgateway.http")

LAST_WORDS: Final = 0.3
"""Seconds at the end of a drain for what calls are answered that were ended."""

_REMEMBERED: Final = 1024


class HttpFront(Listener):
    """Serves a gateway over HTTP; see `mcpgateway.fronts.listener.Listener`."""

    def __init__(self, gateway: Gateway, listen: Listen, cold: Handler) -> None:
        super().__init__(listen, gateway.poller, cold)
        self._gateway = gateway
        self.streamable = StreamableHttp(
            gateway.namespace,
            gateway.sessions,
            gateway.callers,
            self.policy,
            gateway.sweeper,
            gateway.bounds,
            listen.stream_after,
        )
        self._channels = Commons(gateway.namespace, gateway.sessions, gateway.callers, gateway.sweeper, gateway.bounds)
        self._sse = HttpSse(self._channels)
        self._websocket = WebSocketFront(self._channels, listen.limits)
        self.server = HttpServer(
            self._handle, refusal, gateway.sweeper, listen.limits, begin=self._begin, bounds=gateway.bounds
        )
        self._names: dict[bytes, str] = {}

    def reconfigure(self, listen: Listen, tls: ssl.SSLContext | None) -> None:
        """Serve by other rules at the same address. Connections keep the limits that they began with."""
        self._listen, self._tls = listen, tls
        self.server.limits = self._websocket.limits = listen.limits
        self.policy = self.streamable.policy = policy_of(listen)
        self.streamable.stream_after = listen.stream_after

    async def keep(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(super().keep)
            nursery.start_soon(self.streamable.open_silent)

    async def drain(self, timeout: float) -> None:
        """Stop accepting, end idle connections and streams, give calls in flight ``timeout`` seconds, then end them.

        Takes up to `LAST_WORDS` longer, for clients to read that their calls have ended.
        """
        self.close()
        self.server.drain()
        problem = ShuttingDown("the gateway is shutting down")
        self.streamable.end_streams(problem)
        self._channels.drain(problem)
        with trio.move_on_after(timeout):
            await self.server.emptied()
        self.streamable.end_calls(problem)
        self._channels.end_calls(problem)
        with trio.move_on_after(LAST_WORDS):
            await self.server.emptied()
        self._end()

    def _begin(self, request: HttpRequest, exchange: Exchange) -> bool:
        name = self._names.get(request.path)
        return name is not None and self.streamable.begin(request, exchange, name)

    async def _handle(self, request: HttpRequest, exchange: Exchange) -> None:
        name = self._names.get(request.path)
        if name is None:
            place = place_of(request.path, lambda name: self._gateway.namespace(name) is not None)
            if place is None:
                await self._elsewhere(request, exchange)
                return
            name = place.name
            if place.part is not Part.STREAMABLE:
                await self._channel(place.part, request, exchange, name)
                return
            if len(self._names) >= _REMEMBERED:
                self._names.clear()
            self._names[request.path] = name
        await self.streamable.handle(request, exchange, name)

    async def _channel(self, part: Part, request: HttpRequest, exchange: Exchange, name: str) -> None:
        """Answer a request on a path of HTTP+SSE or of a WebSocket."""
        fields = b""
        try:
            origin = request.headers.get(b"origin")
            self.policy.check(request.headers.get(b"host"), origin)
            fields = b"" if origin is None else cors.fields(self.policy, origin)
            if request.method == b"OPTIONS":
                await cors.preflight(exchange, fields)
            elif part is Part.WEBSOCKET:
                await self._websocket.serve(request, exchange, name)
            elif part is Part.STREAM and self._is_streamable(request, name):
                await self.streamable.handle(request, exchange, name)
            elif part is Part.STREAM and request.method == b"GET":
                await self._sse.open(request, exchange, name, fields)
            elif request.method == b"POST":
                await self._sse.post(request, exchange, name, fields)
            else:
                raise NotAllowed("GET opens a stream, POST sends a message")
        except GatewayError as problem:
            body = jsonrpc.error(None, problem).encode()
            more = problem.fields if isinstance(problem, NotWebSocket) else b""
            await exchange.respond(problem.status, body, error_fields(problem) + fields + more)

    def _is_streamable(self, request: HttpRequest, name: str) -> bool:
        """Whether a request for a stream is one of Streamable HTTP: of a session there, or a POST of no stream here."""
        if request.method == b"GET":
            return b"mcp-session-id" in request.headers
        return request.method == b"DELETE" or (request.method == b"POST" and self._sse.find(request, name) is None)
