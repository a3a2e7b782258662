"""The ``websocket`` adapter: subprotocol ``mcp``, one JSON-RPC message per text frame.

No revision of MCP describes it; it is what version 1 of the Python SDK did. It is stdio without lines: all messages of
a link share one stream, both eras are spoken on it, and a call is cancelled with ``notifications/cancelled``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

import trio

from mcpgateway.adapters.base import Link, Offer, Receive
from mcpgateway.adapters.http_replies import explain
from mcpgateway.adapters.pipe import PipeLink
from mcpgateway.adapters.pipe_handshake import negotiate
from mcpgateway.config.model import WebSocketServer
from mcpgateway.errors import GatewayError, NotStarted, ServerUnavailable
from mcpgateway.wire.shield import shielded
from mcpgateway.wire.tls import client_context
from mcpgateway.wire.websocket import COURTESY, CannotConnect, HandshakeRefused, Terms, WebSocket, dial

_FRAMING: Final = frozenset({"host", "connection", "upgrade", "content-length", "transfer-encoding"})


class WebSocketAdapter:
    """Dials a WebSocket per link; nothing is shared between links."""

    def __init__(self, config: WebSocketServer) -> None:
        own = config.tls.client_cert
        self._config = config
        self._tls = partial(client_context, ca=config.tls.ca, identity=None if own is None else (own.cert, own.key))
        self._terms = Terms(_fields(config), config.keepalive.interval, config.keepalive.timeout)

    @property
    def server(self) -> str:
        return self._config.name

    async def connect(self, nursery: trio.Nursery, offer: Offer, receive: Receive) -> Link:
        """Dial and shake hands, in ``startup_timeout`` seconds; see `mcpgateway.adapters.base.Adapter`."""
        limit = self._config.startup_timeout
        try:
            with trio.fail_after(limit):
                return await self._connect(nursery, offer, receive)
        except trio.TooSlowError:
            raise ServerUnavailable(self.server, f"did not shake hands within {limit:g} s") from None
        except HandshakeRefused as refused:
            text = explain(refused.status, refused.headers, speaks="WebSocket")
            raise NotStarted(self.server, text) from None
        except CannotConnect as problem:
            raise NotStarted(self.server, str(problem)) from None

    async def _connect(self, nursery: trio.Nursery, offer: Offer, receive: Receive) -> Link:
        config = self._config
        stream = await dial(config.url, self._tls, config.connect_timeout)
        socket = WebSocket(config.url, stream, self._terms)
        link = PipeLink(self.server, socket, receive)
        await nursery.start(_listen, socket, link, name=f"link {self.server}")
        try:
            await negotiate(link, offer)
        except GatewayError:
            await link.aclose()
            raise
        except BaseException:
            link.broken("the connection attempt was given up")
            with shielded(COURTESY):
                await socket.aclose()
            raise
        return link


async def _listen(  # noqa: ASYNC128  # the WebSocket does, when it is open
    socket: WebSocket, link: PipeLink, *, task_status: trio.TaskStatus[None]
) -> None:
    """Feed a link from its WebSocket until that ends; then say why."""
    reason = "the gateway gave it up"
    try:
        reason = await socket.run(link.received, link.drop, task_status=task_status)
    finally:
        link.broken(reason)


def _fields(config: WebSocketServer) -> Sequence[tuple[bytes, bytes]]:
    """The header fields of the handshake that are the configuration's."""
    fields = {"user-agent": "mcpgateway", **{name.lower(): value.reveal() for name, value in config.headers.items()}}
    return [
        (name.encode(), value.encode())
        for name, value in fields.items()
        if name not in _FRAMING and not name.startswith("sec-websocket-")
    ]
