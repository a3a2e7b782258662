"""The dialling side of a WebSocket, for one that carries clients' calls: `open_websocket`.

What comes of it is a `Transport` and its frames, as they are of a connection that was accepted: no task of their own,
and nothing between the socket and whoever reads. (Links to servers are `mcpgateway.wire.websocket.WebSocket`.)
"""

from __future__ import annotations

import math
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

import trio
from h11 import ProtocolError as HttpProtocolError
from wsproto.connection import Connection, ConnectionType
from wsproto.events import AcceptConnection, RejectConnection, Request
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError

from mcpgateway.wire.http_client import target_of
from mcpgateway.wire.readiness import Poller
from mcpgateway.wire.transport import TlsTransport, Transport, TransportBroken
from mcpgateway.wire.waiting import Wait
from mcpgateway.wire.websocket import CannotConnect, HandshakeRefused, dial
from mcpgateway.wire.websocket_server import Frames

_SUBPROTOCOL: Final = b"sec-websocket-protocol"


class DialledFrames(Frames):
    """The frames of a connection that was dialled; its handshake may have brought the first of them already."""

    passes_binary = True

    def __init__(self, limit: int, socket: Connection) -> None:
        super().__init__(limit)
        self._socket = socket


async def open_websocket(
    url: str,
    fields: Sequence[tuple[bytes, bytes]],
    poller: Poller,
    tls: Callable[[], ssl.SSLContext],
    timeout: float,
    limit: int,
) -> tuple[Transport, Frames]:
    """A WebSocket to a ``ws://`` or ``wss://`` URL, in ``timeout`` seconds for all of it; the transport is the caller's
    to close.

    ``fields`` are header fields of the handshake beside its own, under lower-case names. No subprotocol is offered but
    what is among them. A message from the peer may have ``limit`` bytes.

    :raises CannotConnect: there is none (`HandshakeRefused`: the peer answered with HTTP)
    """
    try:
        with trio.fail_after(timeout):
            transport = transport_of(await dial(url, tls, math.inf), poller)
            try:
                return transport, DialledFrames(limit, await shake_hands(transport, url, fields))
            except BaseException:
                transport.close()
                raise
    except trio.TooSlowError:
        raise CannotConnect(f"no WebSocket within {timeout:g} s (connect_timeout)") from None


def transport_of(stream: trio.abc.Stream, poller: Poller) -> Transport:
    """What `dial` gives, as a transport, which owns it."""
    if isinstance(stream, trio.SocketStream):
        return poller.transport(socket.socket(fileno=stream.socket.detach()))
    assert isinstance(stream, trio.SSLStream)
    return TlsTransport(stream)


async def shake_hands(transport: Transport, url: str, fields: Sequence[tuple[bytes, bytes]]) -> Connection:
    """Open a WebSocket on a transport; as `open_websocket`, without an end to the patience."""
    handshake, wait = H11Handshake(ConnectionType.CLIENT), Wait()
    offered = [value.decode("latin-1") for name, value in fields if name == _SUBPROTOCOL]
    request = Request(
        host=urlsplit(url).netloc.rpartition("@")[2],
        target=target_of(url).decode(),
        subprotocols=[name.strip() for value in offered for name in value.split(",")],
        extra_headers=[field for field in fields if field[0] != _SUBPROTOCOL],
    )
    try:
        transport.put(handshake.send(request))
        await transport.flushed(wait)
        while True:
            data = await transport.receive(wait)
            if not data:
                raise CannotConnect("closed the connection during the WebSocket handshake")
            garbled: Exception | None = None
            try:
                handshake.receive_data(data)
            except (RemoteProtocolError, HttpProtocolError, UnicodeError) as problem:
                garbled = problem  # which may be the body of a refusal
            for event in handshake.events():
                if isinstance(event, RejectConnection):
                    raise HandshakeRefused(event.status_code or 0, dict(event.headers or ()))
                if isinstance(event, AcceptConnection) and handshake.connection is not None:
                    return handshake.connection
            if garbled is not None:
                raise garbled
            await trio.lowlevel.checkpoint()
    except (RemoteProtocolError, HttpProtocolError, UnicodeError):
        raise CannotConnect("answered the WebSocket handshake with something else") from None
    except TransportBroken as problem:
        raise CannotConnect(f"the connection broke during the WebSocket handshake: {problem}") from None
