"""The fixture server over Streamable HTTP, in both eras: the far side of HTTP links in tests.

    async with serve_fixture(stateful=True, json=False) as fixture:
        adapter = StreamableHttpAdapter(HttpServer("fixture", url=fixture.url), poller)

The tools are those of `mcpgateway.testing.fixture_server`. Every handshake gets a server object of its own, as over
pipes; a session names it where there are sessions, and the last one made is meant where there are none. What a server
sends goes on the stream of the request that it belongs to; what belongs to none waits for a GET stream of its session.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Final

import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.demo.server import BOTH, MiniServer
from mcpgateway.errors import (
    METHOD_NOT_FOUND,
    CallEnded,
    ClientGone,
    GatewayError,
    InvalidRequest,
    MethodNotFound,
    UnknownSession,
)
from mcpgateway.jsonrpc import Message, members_of
from mcpgateway.protocol import envelope, headers
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.fixture_server import Crashed, FixtureServer
from mcpgateway.wire import sse
from mcpgateway.wire.http1.exchange import Exchange
from mcpgateway.wire.http1.requests import HttpRequest
from mcpgateway.wire.http1.server import HttpServer, accept, bind
from mcpgateway.wire.readiness import Poller
from mcpgateway.wire.waiting import Sweeper, Wait

_JSON: Final = b"Content-Type: application/json\r\n"
_SESSION: Final = b"mcp-session-id"


class HttpFixture:
    """One HTTP server that is being served; a test may look at its attributes."""

    def __init__(
        self,
        make: Callable[..., MiniServer],
        eras: Collection[Era],
        *,
        stateful: bool,
        json: bool,
        silent: bool,
        port: int,
    ) -> None:
        self.url = ""
        self._port = port
        self.hosts: list[_Host] = []
        """One for each handshake that was made, the last one last."""
        self.sessions: dict[bytes, _Host] = {}
        """The sessions that are open."""
        self.requests: list[HttpRequest] = []
        """All requests, as they came."""
        self._make = make
        self._eras = eras
        self._stateful = stateful
        self._json = json
        self._silent = silent
        self._sweeper = Sweeper()
        self._scope = trio.CancelScope()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve until the caller cancels it or a tool crashes it; then every connection is closed."""
        poller = Poller()
        server = HttpServer(self._handle, lambda status, reason: reason.encode(), self._sweeper)
        (listener,) = bind("127.0.0.1", self._port)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
        listener.setblocking(False)

        async def serve(connected: socket.socket) -> None:
            await server.serve(poller.transport(connected))

        with listener, self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(poller.run)
                nursery.start_soon(self._sweeper.run)
                nursery.start_soon(accept, listener, nursery, serve)
                task_status.started()

    # ---- one request ------------------------------------------------------------------------------------------------

    async def _handle(self, request: HttpRequest, exchange: Exchange) -> None:
        self.requests.append(request)
        if self._silent:
            await self._until_gone(exchange, Wait())
            return
        id = None
        try:
            if request.method == b"DELETE" and self._stateful:
                self._session(request)
                del self.sessions[request.headers[_SESSION]]
                await exchange.respond(200)
            elif request.method == b"GET" and self._stateful:
                await self._stream(self._session(request), exchange)
            elif request.method != b"POST":
                await exchange.respond(405, b"", b"Allow: POST\r\n")
            else:
                message = jsonrpc.decode(request.body)
                id = message.id
                await self._post(request, message, exchange)
        except GatewayError as problem:
            if not exchange.started:
                await exchange.respond(problem.status, jsonrpc.error(id, problem).encode(), _JSON)
        except Crashed:
            self._scope.cancel(reason="a tool crashed the server")
            await trio.lowlevel.checkpoint()

    async def _stream(self, host: _Host, exchange: Exchange) -> None:
        """Send what belongs to no request until the client has gone."""
        if host.streamed:
            raise _Streamed("the session has a stream already")
        host.streamed = True
        stream = host.outside
        stream.wait = Wait()
        exchange.stream(200, sse.HEADERS)
        try:
            await exchange.write(b"")
            while True:
                while stream.messages:
                    await exchange.write(sse.encode(stream.messages.popleft().encode()))
                await self._until_gone(exchange, stream.wait)
        except ClientGone:
            await exchange.finish()
        finally:
            host.streamed = False
            self._sweeper.discard(stream.wait)

    async def _post(self, request: HttpRequest, message: Message, exchange: Exchange) -> None:
        modern = Era.MODERN in self._eras and envelope.read(message.params) is not None
        if modern:
            headers.check(request.headers, request.duplicates, message)
        begins = message.method == ("server/discover" if modern else "initialize")
        host = self._host(request, modern=modern, begins=begins)
        if message.id is None or message.method is None:
            host.take(message)
            await exchange.respond(202, b"", b"")
            return
        stream = host.open(message)
        fields = self._begin(host) if begins and not modern and self._stateful else b""
        wait = stream.wait
        try:
            await self._answer(stream, exchange, fields, modern=modern)
        except CallEnded:
            if modern:
                host.take(jsonrpc.notification("notifications/cancelled", {"requestId": Raw(message.id)}))
        finally:
            host.streams.pop(message.id, None)
            self._sweeper.discard(wait)

    def _host(self, request: HttpRequest, *, modern: bool, begins: bool) -> _Host:
        if not begins and self._stateful and not modern:
            return self._session(request)
        if not begins and not modern and not self.hosts:
            raise InvalidRequest("shake hands first")
        if begins or not self.hosts:  # the modern era has no handshake, and a server may have been started again
            self.hosts.append(_Host(self._make(eras=self._eras)))
        return self.hosts[-1]

    def _session(self, request: HttpRequest) -> _Host:
        name = request.headers.get(_SESSION)
        if name is None:
            raise InvalidRequest("Missing session ID")
        if b"mcp-protocol-version" not in request.headers:
            raise InvalidRequest("the header MCP-Protocol-Version is missing")
        host = self.sessions.get(name)
        if host is None:
            raise UnknownSession("Session not found")
        return host

    def _begin(self, host: _Host) -> bytes:
        name = b"session-%d" % len(self.hosts)
        self.sessions[name] = host
        return b"Mcp-Session-Id: %b\r\n" % name

    async def _answer(self, stream: _Stream, exchange: Exchange, fields: bytes, *, modern: bool) -> None:
        """Send what comes for a request, up to its response."""
        wait = stream.wait
        while True:
            while not stream.messages:
                await self._until_gone(exchange, wait)
            message = stream.messages.popleft()
            last = message.is_response
            status = _status(message) if modern and not exchange.started else 200
            if last and (self._json or status != 200):
                await exchange.respond(status, message.encode(), _JSON + fields)
                return
            if self._json:
                continue
            if not exchange.started:
                exchange.stream(200, sse.HEADERS + fields)
            await exchange.write(sse.encode(message.encode()), last=last)
            if last:
                return

    async def _until_gone(self, exchange: Exchange, wait: Wait) -> None:
        """Park; raises `ClientGone` when the client closes the connection."""
        wait.probe = lambda: ClientGone("the client has gone") if exchange.client_gone() else None
        self._sweeper.add(wait)
        await wait.park()


class _Streamed(InvalidRequest):
    status = 409


def _status(message: Message) -> int:
    """The HTTP status of a modern response (2026-07-28, transports)."""
    code = jsonrpc.error_code(message)
    if code == METHOD_NOT_FOUND:
        return MethodNotFound.status
    return 400 if code is not None and code < -32000 and code != -32603 else 200


class _Stream:
    """What waits to be sent on the response to one request."""

    def __init__(self) -> None:
        self.messages: deque[Message] = deque()
        self.wait = Wait()

    def put(self, message: Message) -> None:
        self.messages.append(message)
        self.wait.resume()


class _Host:
    """A server object, and the streams of the requests that it has not answered."""

    def __init__(self, server: MiniServer) -> None:
        self.server = server
        self.streams: dict[bytes, _Stream] = {}
        self.outside = _Stream()
        """What belongs to no request."""
        self.streamed = False
        """Whether a client listens to it."""

    def open(self, message: Message) -> _Stream:
        """Take a request; what it causes comes on the stream."""
        assert message.id is not None
        stream = self.streams[message.id] = _Stream()
        self.take(message)
        return stream

    def take(self, message: Message) -> None:
        """Take a message, and put what it causes on the streams that it belongs to."""
        current = self.streams.get(message.id or b"") if message.is_request else None
        for caused in self.server.handle(message):
            stream = self._stream_of(caused, current)
            if stream is not None:
                stream.put(caused)

    def _stream_of(self, message: Message, current: _Stream | None) -> _Stream | None:
        if message.is_response:
            return self.streams.get(message.id or b"")
        subscription = members_of(members_of(message.params).get("_meta")).get(envelope.SUBSCRIPTION_ID)
        if subscription is not None:
            return self.streams.get(bytes(subscription))
        return self.outside if message.method and message.method.endswith("/list_changed") else current


@asynccontextmanager
async def serve_fixture(
    make: Callable[..., MiniServer] = FixtureServer,
    *,
    eras: Collection[Era] = BOTH,
    stateful: bool = True,
    json: bool = False,
    silent: bool = False,
    port: int = 0,
) -> AsyncIterator[HttpFixture]:
    """Serve on a port of 127.0.0.1, by default any free one, while the block runs.

    ``stateful`` gives each legacy handshake a session id and asks for it afterwards; ``json`` answers with plain JSON
    and drops what cannot go with it; ``silent`` reads every request and answers none.
    """
    fixture = HttpFixture(make, eras, stateful=stateful, json=json, silent=silent, port=port)
    async with trio.open_nursery() as nursery:
        await nursery.start(fixture.run)
        yield fixture
        nursery.cancel_scope.cancel(reason="the fixture is not needed any more")
