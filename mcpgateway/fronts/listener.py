"""An address that is listened on, and what is served there over HTTP: what every HTTP front has in common."""

from __future__ import annotations

import socket
import ssl
from typing import Final

import trio

from mcpgateway import jsonrpc
from mcpgateway.access.browsers import BrowserPolicy
from mcpgateway.config.model import Listen
from mcpgateway.errors import GatewayError, InvalidRequest
from mcpgateway.wire.http1.connection import Handler
from mcpgateway.wire.http1.exchange import Exchange
from mcpgateway.wire.http1.requests import HttpRequest
from mcpgateway.wire.http1.server import HttpServer, accept, bind
from mcpgateway.wire.readiness import Poller
from mcpgateway.wire.tls import server_context
from mcpgateway.wire.transport import TlsTransport
from mcpgateway.wire.waiting import Sweeper

BEAT: Final = 15.0
"""Seconds between two comments on a silent event stream: proxies cut streams after 30 and more."""


class Listener:
    """The listeners of one address, and their connections, all of which `run` owns.

    Whoever builds on it sets ``server``, which answers.

    :raises OSError: a file of ``listen.tls`` cannot be used
    """

    server: HttpServer

    def __init__(self, listen: Listen, poller: Poller, cold: Handler) -> None:
        self.policy = policy_of(listen)
        self._listen = listen
        self._tls = tls_context(listen)
        self._poller = poller
        self._cold = cold
        self._listeners: list[socket.socket] = []
        self._accepting = trio.CancelScope()

    def bind(self, beside: Listener | None = None) -> None:
        """Open the listeners; connections wait in them until `run`.

        Those of another front of this process may have the same port, on another of the machine's addresses or on all
        of them.

        :raises OSError: the address cannot be listened on; no socket is left open
        """
        others = beside._listeners if beside is not None else ()
        self._listeners = bind(self._listen.host, self._listen.port, beside=others)

    def take_over(self, former: Listener) -> None:
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
                        accepting.start_soon(self.keep)
                        for listener in self._listeners:
                            accepting.start_soon(accept, listener, connections, self._serve)
        finally:
            self.close()

    async def keep(self) -> None:
        """Keep alive what is silent, for as long as connections are accepted."""
        await self.server.beat(BEAT)

    async def drain(self, timeout: float) -> None:
        """Stop accepting, end idle connections, give requests ``timeout`` seconds, then end all."""
        self.close()
        self.server.drain()
        with trio.move_on_after(timeout):
            await self.server.emptied()
        self._end()

    def _end(self) -> None:
        if self.server.nursery is not None:
            self.server.nursery.cancel_scope.cancel(reason="the front has been drained")

    async def _serve(self, sock: socket.socket) -> None:
        peer = _peer(sock)
        if self._tls is None:
            await self.server.serve(self._poller.transport(sock), peer)
        else:
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
            secured = trio.SSLStream(stream, self._tls, server_side=True, https_compatible=True)
            await self.server.serve(TlsTransport(secured), peer, secure=True)

    async def _elsewhere(self, request: HttpRequest, exchange: Exchange) -> None:
        """Have a request answered that is no MCP, if it comes from where it may."""
        try:
            self.policy.check(request.headers.get(b"host"), request.headers.get(b"origin"))
        except GatewayError as problem:
            await exchange.respond(problem.status, jsonrpc.error(None, problem).encode())
            return
        await self._cold(request, exchange)

    @property
    def url(self) -> str:
        """Where it listens, from `bind` to `close`; empty otherwise."""
        if not self._listeners:
            return ""
        listener = self._listeners[0]
        scheme = "http" if self._tls is None else "https"
        host, port = self._listen.host, listener.getsockname()[1]
        if host in ("", "0.0.0.0", "::"):  # what it says, not what it binds
            host = "127.0.0.1" if listener.family == socket.AF_INET else "::1"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


class ColdListener(Listener):
    """Where nobody but ``cold`` answers. It counts its connections itself."""

    def __init__(self, listen: Listen, poller: Poller, cold: Handler, sweeper: Sweeper) -> None:
        super().__init__(listen, poller, cold)
        self.server = HttpServer(self._elsewhere, refusal, sweeper, listen.limits)

    def allow(self, listen: Listen) -> None:
        """Serve by other rules for hosts and origins from now on."""
        self.policy = policy_of(listen)


def tls_context(listen: Listen) -> ssl.SSLContext | None:
    """The TLS of a listener, from its files as they are now; ``None`` where it has none.

    :raises OSError: see `mcpgateway.wire.tls.server_context`
    """
    return None if listen.tls is None else server_context(listen.tls.cert, listen.tls.key)


def policy_of(listen: Listen) -> BrowserPolicy:
    return BrowserPolicy(listen.host, allowed_hosts=listen.allowed_hosts, cors=listen.cors)


def refusal(status: int, reason: str) -> bytes:
    """The body of a response to what is no HTTP request, or one too many."""
    problem = InvalidRequest(reason) if status < 500 else GatewayError(reason)
    return jsonrpc.error(None, problem).encode()


def _peer(sock: socket.socket) -> str:
    try:
        address = sock.getpeername()
    except OSError:
        return ""
    return str(address[0]) if isinstance(address, tuple) and address else ""
