"""The fixture server over HTTP+SSE (2024-11-05): the far side of SSE links in tests."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from urllib.parse import parse_qs

import trio

from mcpgateway import jsonrpc
from mcpgateway.demo.server import BOTH
from mcpgateway.errors import ClientGone
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.fixture_server import Crashed, FixtureServer
from mcpgateway.wire import sse
from mcpgateway.wire.http1.exchange import Exchange
from mcpgateway.wire.http1.requests import HttpRequest
from mcpgateway.wire.http1.server import HttpServer, accept, bind
from mcpgateway.wire.readiness import Poller
from mcpgateway.wire.waiting import Sweeper, Wait


class _Session:
    def __init__(self, eras: Collection[Era]) -> None:
        self.server = FixtureServer(eras=eras)
        self.frames: deque[bytes] = deque()
        self.wait = Wait()
        self.crashed = False


class SseFixture:
    """One HTTP server; attributes say what came."""

    def __init__(self, eras: Collection[Era], *, silent: bool, absolute: bool) -> None:
        self.url = ""
        self.requests: list[HttpRequest] = []
        self.sessions: dict[str, _Session] = {}
        """Those whose stream is open."""
        self._eras = eras
        self._ended = trio.Event()
        self._silent = silent
        self._absolute = absolute
        self._sweeper = Sweeper()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        poller = Poller()
        server = HttpServer(self._handle, lambda status, reason: reason.encode(), self._sweeper)
        (listener,) = bind("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/sse?key=k"
        listener.setblocking(False)

        async def serve(connected: socket.socket) -> None:
            await server.serve(poller.transport(connected))

        with listener:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(poller.run)
                nursery.start_soon(self._sweeper.run)
                nursery.start_soon(accept, listener, nursery, serve)
                task_status.started()

    async def _handle(self, request: HttpRequest, exchange: Exchange) -> None:
        self.requests.append(request)
        if request.method == b"GET":
            await self._stream(exchange)
        else:
            await self._take(request, exchange)

    async def _stream(self, exchange: Exchange) -> None:
        name = f"s{len(self.requests)}"
        session = self.sessions[name] = _Session(self._eras)
        base = self.url.partition("sse?")[0] if self._absolute else ""
        exchange.stream(200, sse.HEADERS)
        try:
            await exchange.write(sse.encode(f"{base}messages?session={name}".encode(), event=b"endpoint"))
            while not session.crashed:
                while session.frames:
                    await exchange.write(session.frames.popleft())
                session.wait.probe = lambda: ClientGone("gone") if exchange.client_gone() else None
                self._sweeper.add(session.wait)
                if not session.crashed:
                    await session.wait.park()
        except ClientGone:
            pass
        finally:
            self._sweeper.discard(session.wait)
            del self.sessions[name]
            self._ended.set()
        await exchange.finish()

    async def until_left(self) -> None:
        """Wait until no stream is open."""
        while self.sessions:
            self._ended = trio.Event()
            await self._ended.wait()

    async def _take(self, request: HttpRequest, exchange: Exchange) -> None:
        query = parse_qs(request.query.decode())
        session = self.sessions.get(query["session"][0])
        if session is None:
            await exchange.respond(404, b"Session not found")
            return
        await exchange.respond(202, b"Accepted")
        if self._silent:
            return
        try:
            caused = session.server.handle(jsonrpc.decode(request.body))
        except Crashed:
            session.crashed = True
        else:
            session.frames += [sse.encode(message.encode()) for message in caused]
        session.wait.resume()


@asynccontextmanager
async def serve_sse_fixture(
    *, eras: Collection[Era] = BOTH, silent: bool = False, absolute: bool = False
) -> AsyncIterator[SseFixture]:
    """Serve on a free port of 127.0.0.1 while the block runs; each stream has a server object of its own."""
    fixture = SseFixture(eras, silent=silent, absolute=absolute)
    async with trio.open_nursery() as nursery:
        await nursery.start(fixture.run)
        yield fixture
        nursery.cancel_scope.cancel(reason="the fixture is not needed any more")
