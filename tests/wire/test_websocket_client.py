"""Dialling a WebSocket over real sockets: TCP, TLS, and whatever is wrong with either."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request, TextMessage
from wsproto.utilities import RemoteProtocolError

from mcpgateway.wire.readiness import Poller
from mcpgateway.wire.tls import client_context
from mcpgateway.wire.transport import TlsTransport
from mcpgateway.wire.websocket import CannotConnect, HandshakeRefused
from mcpgateway.wire.websocket_client import open_websocket
from mcpgateway.wire.websocket_server import Text
from tests.wire.http1.certificates import issued

HELLO = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


class Far:
    """Where to dial: takes one connection, and says hello with its handshake, in the same bytes."""

    def __init__(self, listener: trio.SocketListener, tls: ssl.SSLContext | None) -> None:
        self.listener = listener
        self.port: int = listener.socket.getsockname()[1]
        self.request: Request | None = None
        self.subprotocol: str | None = None
        self._tls = tls

    async def run(self) -> None:
        stream: trio.abc.Stream = await self.listener.accept()
        async with stream:
            if self._tls is not None:
                stream = trio.SSLStream(stream, self._tls, server_side=True)
            protocol = WSConnection(ConnectionType.SERVER)
            try:
                protocol.receive_data(bytes(await stream.receive_some()))
                (event,) = protocol.events()
                assert isinstance(event, Request)
                self.request = event
                said = protocol.send(AcceptConnection(subprotocol=self.subprotocol))
                await stream.send_all(said + protocol.send(TextMessage(data=HELLO.decode())))
                await stream.receive_some()
            except (trio.BrokenResourceError, RemoteProtocolError):
                pass  # it was not trusted, or took us for another


@asynccontextmanager
async def far(tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[Far, Poller]]:
    poller = Poller()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            async with listener:
                made = Far(listener, tls)
                nursery.start_soon(poller.run)
                nursery.start_soon(made.run)
                yield made, poller
                nursery.cancel_scope.cancel(reason="the test is over")


Tls = Callable[[], ssl.SSLContext]


@pytest.mark.requirement("6.upstreams", "feature.3")
@pytest.mark.parametrize("secure", [False, True])
async def test_what_comes_with_the_handshake_is_not_lost(secure: bool, tmp_path: Path) -> None:
    cert, key = issued().write(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(cert, key)
    async with far(tls if secure else None) as (there, poller):
        url = f"{'wss' if secure else 'ws'}://localhost:{there.port}/mcp/?token=a/b%20c"
        context: Tls = partial(client_context, ca=tmp_path / "ca.pem")
        transport, frames = await open_websocket(url, [(b"x-key", b"k")], poller, context, 5.0, 1000)
        try:
            assert isinstance(transport, TlsTransport) == secure
            assert list(frames.received(b"")) == [Text(HELLO)]
            assert there.request is not None
            assert there.request.host == f"localhost:{there.port}"
            assert there.request.target == "/mcp/?token=a/b%20c"
            assert (b"x-key", b"k") in there.request.extra_headers
        finally:
            transport.close()


async def test_a_subprotocol_is_offered_where_a_header_says_so() -> None:
    async with far() as (there, poller):
        there.subprotocol = "mcp"
        fields = [(b"sec-websocket-protocol", b"v1, mcp")]
        url = f"ws://127.0.0.1:{there.port}/"
        transport, _ = await open_websocket(url, fields, poller, client_context, 5.0, 1000)
        transport.close()
        assert there.request is not None
        assert there.request.subprotocols == ["v1", "mcp"]


@pytest.mark.requirement("6.bad")
async def test_a_certificate_that_is_not_trusted(tmp_path: Path) -> None:
    cert, key = issued().write(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(cert, key)
    async with far(tls) as (there, poller):
        with pytest.raises(CannotConnect, match=r"^cannot connect: TLS failed \(can 'tls\.ca' name .*certificate"):
            await open_websocket(f"wss://localhost:{there.port}/?token=t", [], poller, client_context, 5.0, 1000)


@pytest.mark.requirement("6.bad")
async def test_tls_where_there_is_none() -> None:
    async with far() as (there, poller):
        with pytest.raises(CannotConnect, match=r"^cannot connect: TLS failed \(is it ws://, without TLS\?\): .*SSL"):
            await open_websocket(f"wss://127.0.0.1:{there.port}/?token=t", [], poller, client_context, 5.0, 1000)


@pytest.mark.requirement("6.bad")
async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(CannotConnect, match=r"^cannot connect: Connection refused$"):
        await open_websocket(f"ws://127.0.0.1:{port}/?token=t", [], Poller(), client_context, 5.0, 1000)


@pytest.mark.requirement("6.bad")
async def test_a_refusal_is_http() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    poller = Poller()

    async def refuse() -> None:
        async with await listener.accept() as stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\nContent-Length: 2\r\n\r\nno")

    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        nursery.start_soon(refuse)
        url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/"
        with pytest.raises(HandshakeRefused) as caught:
            await open_websocket(url, [], poller, client_context, 5.0, 1000)
        assert (caught.value.status, caught.value.headers[b"retry-after"]) == (429, b"3")
        nursery.cancel_scope.cancel(reason="the test is over")
