"""An `HttpServer` on socket pairs, with a handler whose every answer a test can foresee."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import trio
from trio.testing import wait_all_tasks_blocked

from mcpgateway.config.limits import Limits
from mcpgateway.wire import readiness
from mcpgateway.wire.http1.connection import Handler
from mcpgateway.wire.http1.exchange import Exchange
from mcpgateway.wire.http1.requests import HttpRequest
from mcpgateway.wire.http1.server import HttpServer
from mcpgateway.wire.readiness import Poller
from mcpgateway.wire.transport import SocketTransport, TlsTransport, Transport
from mcpgateway.wire.waiting import Sweeper
from tests.wire.http1 import certificates
from tests.wire.http1.peers import Peer

KINDS: Final = ("begun", "edge", "plain", "tls") if readiness.AVAILABLE else ("plain", "tls")
"""Ways in which bytes reach the server; ``begun`` is ``edge`` with requests that are answered without a task."""

BIG: Final = b"x" * (4 << 20)
"""More than the buffers of a socket pair hold."""


class Script:
    """A handler that answers by path, and remembers.

    ``/echo`` says back what came; ``/held`` answers once it is let go; ``/big`` answers `BIG`; ``/stream`` sends two
    pieces and an end; ``/boom`` raises, ``/boom/late`` in the middle of its answer; ``/mute`` never answers.
    """

    def __init__(self) -> None:
        self.seen: list[HttpRequest] = []
        self.gone: list[str] = []
        """The exceptions that ended handlers."""
        self._released = trio.Event()
        self._held: list[Exchange] = []

    def let_go(self) -> None:
        """Answer what is held."""
        self._released.set()
        held, self._held = self._held, []
        for exchange in held:
            exchange.respond_now(200, b"held", b"")

    async def __call__(self, request: HttpRequest, exchange: Exchange) -> None:
        self.seen.append(request)
        await self._watched(request, exchange)

    async def _watched(self, request: HttpRequest, exchange: Exchange) -> None:
        try:
            await self._answer(request, exchange)
        except BaseException as problem:
            self.gone.append(type(problem).__name__)
            raise

    def begin(self, request: HttpRequest, exchange: Exchange) -> bool:
        """The same without a task, each path in another of the ways that there are."""
        if request.path in (b"/boom", b"/empty"):
            return False
        self.seen.append(request)
        match request.path:
            case b"/held" if not self._released.is_set():
                self._held.append(exchange)
            case b"/big":
                exchange.respond_now(200, BIG, b"")
            case b"/mute":
                exchange.abort()
            case b"/stream" | b"/boom/late" | b"/held":
                exchange.continue_with(partial(self._watched, request, exchange))
            case _:
                exchange.respond_now(200, _said(request), b"Content-Type: text/plain\r\n")
        return True

    async def _answer(self, request: HttpRequest, exchange: Exchange) -> None:
        match request.path:
            case b"/held":
                await self._released.wait()
                await exchange.respond(200, b"held")
            case b"/big":
                await exchange.respond(200, BIG)
            case b"/stream":
                exchange.stream(200, b"Content-Type: text/plain\r\n")
                await exchange.write(b"one,")
                await exchange.write(b"two")
                await exchange.finish()
            case b"/boom":
                raise RuntimeError("as asked")
            case b"/boom/late":
                exchange.stream(200, b"Content-Type: text/plain\r\n")
                await exchange.write(b"one,")
                raise RuntimeError("as asked")
            case b"/mute":
                pass
            case b"/empty":
                await exchange.respond(204)
            case _:
                await exchange.respond(200, _said(request), b"Content-Type: text/plain\r\n")


def _said(request: HttpRequest) -> bytes:
    return b" ".join((request.method, request.path, request.query, request.body))


def refusal(status: int, reason: str) -> bytes:
    return reason.encode()


class Site:
    """A server at work, and the peers that talk to it."""

    def __init__(self, kind: str, handler: Handler, limits: Limits, nursery: trio.Nursery) -> None:
        self.sweeper = Sweeper()
        self.poller = Poller()
        begin = handler.begin if kind == "begun" and isinstance(handler, Script) else None
        self.server = HttpServer(handler, refusal, self.sweeper, limits, begin=begin)
        self.server.nursery = nursery
        self._kind = kind
        self.nursery = nursery
        self._peers: list[Peer] = []

    async def dial(self, address: str = "peer", *, shake_hands: bool = True) -> Peer:
        """A new connection to the server, from this address."""
        ours, theirs = socket.socketpair()
        peer = Peer(theirs, certificates.trusting() if self._kind == "tls" else None)
        self._peers.append(peer)
        make: dict[str, Callable[[], Transport]] = {
            "begun": lambda: self.poller.transport(ours),
            "edge": lambda: self.poller.transport(ours),
            "plain": lambda: SocketTransport(ours),
            "tls": lambda: TlsTransport(_server_side(ours)),
        }
        self.nursery.start_soon(partial(self.server.serve, make[self._kind](), address, secure=self._kind == "tls"))
        if shake_hands:
            await peer.shake_hands()
        await wait_all_tasks_blocked()
        return peer

    async def ask(self, data: bytes, address: str = "peer") -> bytes:
        """What a new connection from this address gets for some bytes."""
        return await (await self.dial(address)).ask(data)

    def close(self) -> None:
        for peer in self._peers:
            peer.close()


def _server_side(sock: socket.socket) -> trio.SSLStream[trio.SocketStream]:
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
    return trio.SSLStream(stream, certificates.listening(), server_side=True, https_compatible=True)


@asynccontextmanager
async def serving(kind: str, handler: Handler | None = None, limits: Limits | None = None) -> AsyncIterator[Site]:
    """A server for the time of the block; afterwards no connection may be left in it."""
    async with trio.open_nursery() as nursery:
        site = Site(kind, handler or Script(), limits or Limits(), nursery)
        nursery.start_soon(site.sweeper.run)
        nursery.start_soon(site.poller.run)
        try:
            yield site
        finally:
            site.close()
            nursery.cancel_scope.cancel(reason="the test is over")
    assert not site.server.connections
    assert {bound.held for bound in site.server.bounds.statistics().values()} == {0}
    assert not len(site.sweeper)
