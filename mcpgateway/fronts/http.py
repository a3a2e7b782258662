"""The HTTP front: listeners, and which part of the gateway answers which path.

MCP paths are served here and now; everything else goes to one cold handler (the app of `mcpgateway.web`).
"""

from __future__ import annotations

import logging
import socket
import ssl
from typing import Final

import trio

from mcpgateway import jsonrpc
from mcpgateway.access.browsers import BrowserPolicy
from mcpgateway.config.model import Listen
from mcpgateway.errors import GatewayError, InvalidRequest, ShuttingDown
from mcpgateway.fronts import cors
from mcpgateway.fronts.channel import Commons
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
from mcpgateway.wire.http1.server import HttpServer, accept, bind
from mcpgateway.wire.tls import server_context
from mcpgateway.wire.transport import TlsTransport
from mcpgateway.wire.websocket_server import NotWebSocket

log = logging.getLogger("mcpgateway.http")

BEAT: Final = 15.0
"""Seconds between two comments on a silent event stream: proxies cut streams after 30 and more."""

LAST_WORDS: Final = 0.3
"""Seconds at the end of a drain for what calls are answered that were ended."""

_REMEMBERED: Final = 1024


def tls_context(listen: Listen) -> ssl.SSLContext | None:
    """The TLS of a listener, from its files as they are now; ``None`` where it has none.

    :raises OSError: see `mcpgateway.wire.tls.server_context`
    """
    return None if listen.tls is None else server_context(listen.tls.cert, listen.tls.key)


class HttpFront:
    """Serves a gateway over HTTP. `run` owns the listeners and every connection.

    :raises OSError: a file of ``listen.tls`` cannot be used
    """

    def __init__(self, gateway: Gateway, listen: Listen, cold: Handler) -> None:
        self._gateway = gateway
        self._listen = listen
        self._cold = cold
        self._tls = tls_context(listen)
        self._listeners: list[socket.socket] = []
        self.policy = _policy(listen)
        self.streamable = StreamableHttp(
            gateway.namespace, gateway.sessions, gateway.callers, self.policy, gateway.sweeper, gateway.bounds
        )
        self._channels = Commons(gateway.namespace, gateway.sessions, gateway.callers, gateway.sweeper, gateway.bounds)
        self._sse = HttpSse(self._channels)
        self._websocket = WebSocketFront(self._channels, listen.limits)
        self.server = HttpServer(
            self._handle, _refusal, gateway.sweeper, listen.limits, begin=self._begin, bounds=gateway.bounds
        )
        self._names: dict[bytes, str] = {}
        self._accepting = trio.CancelScope()

    def bind(self, beside: HttpFront | None = None) -> None:
        """Open the listeners; connections wait in them until `run`.

        Those of another front of this process may have the same port, on another of the machine's addresses or on all
        of them.

        :raises OSError: the address cannot be listened on; no socket is left open
        """
        others = beside._listeners if beside is not None else ()
        self._listeners = bind(self._listen.host, self._listen.port, beside=others)

    def take_over(self, former: HttpFront) -> None:
        """Accept what comes to the listeners of another front, in the place of `bind`; that one accepts no more."""
        former._accepting.cancel(reason="another front accepts now")
        self._listeners, former._listeners = former._listeners, []

    def close(self) -> None:
        """Stop accepting, and close the listeners; connections are served on."""
        self._accepting.cancel(reason="the listeners are closed")
        for listener in self._listeners:
            listener.close()
        self._listeners = []

    async def run(self) -> None:
        """Serve until cancelled, or until a `drain` has ended the connections. `bind` first."""
        try:
            async with trio.open_nursery() as connections:
                self.server.nursery = connections
                with self._accepting:
                    async with trio.open_nursery() as accepting:
                        accepting.start_soon(self.server.beat, BEAT)
                        for listener in self._listeners:
                            accepting.start_soon(accept, listener, connections, self._serve)
        finally:
            self.close()

    def reconfigure(self, listen: Listen, tls: ssl.SSLContext | None) -> None:
        """Serve by other rules at the same address. Connections keep the limits that they began with."""
        self._listen, self._tls = listen, tls
        self.server.limits = self._websocket.limits = listen.limits
        self.policy = self.streamable.policy = _policy(listen)

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
        if self.server.nursery is not None:
            self.server.nursery.cancel_scope.cancel(reason="the front has been drained")

    async def _serve(self, sock: socket.socket) -> None:
        peer = _peer(sock)
        if self._tls is None:
            await self.server.serve(self._gateway.poller.transport(sock), peer)
        else:
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
            secured = trio.SSLStream(stream, self._tls, server_side=True, https_compatible=True)
            await self.server.serve(TlsTransport(secured), peer, secure=True)

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

    async def _elsewhere(self, request: HttpRequest, exchange: Exchange) -> None:
        try:
            self.policy.check(request.headers.get(b"host"), request.headers.get(b"origin"))
        except GatewayError as problem:
            await exchange.respond(problem.status, jsonrpc.error(None, problem).encode())
            return
        await self._cold(request, exchange)

    @property
    def url(self) -> str:
        """Where it listens, once it is bound."""
        listener = self._listeners[0]
        scheme = "http" if self._tls is None else "https"
        host, port = self._listen.host, listener.getsockname()[1]
        if host in ("", "0.0.0.0", "::"):  # what it says, not what it binds
            host = "127.0.0.1" if listener.family == socket.AF_INET else "::1"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _policy(listen: Listen) -> BrowserPolicy:
    return BrowserPolicy(listen.host, allowed_hosts=listen.allowed_hosts, cors=listen.cors)


def _peer(sock: socket.socket) -> str:
    try:
        address = sock.getpeername()
    except OSError:
        return ""
    return str(address[0]) if isinstance(address, tuple) and address else ""


def _refusal(status: int, reason: str) -> bytes:
    problem = InvalidRequest(reason) if status < 500 else GatewayError(reason)
    return jsonrpc.error(None, problem).encode()
