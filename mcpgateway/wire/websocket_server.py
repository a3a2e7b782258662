"""The accepting side of a WebSocket, sans-IO: the handshake, and the frames of one connection.

wsproto does the work. One message is one text frame, or several (SEP-1288 has no binary ones); what breaks the rules
is answered with the close code that says so. Compression is not offered: messages are small, or have long been
compressed (images).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar, Final

import attrs
from h11 import ProtocolError as HttpProtocolError
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError

from mcpgateway.errors import InvalidRequest

SUBPROTOCOL: Final = "mcp"
NORMAL: Final = 1000
GOING_AWAY: Final = 1001
NO_BINARY: Final = 1003
TOO_LARGE: Final = 1009

_TEXT: Final = 0x81
"""A frame that is a whole text message (RFC 6455, 5.2)."""
_HANDSHAKE: Final = (b"connection", b"upgrade")


class NotWebSocket(InvalidRequest):
    """A request on the path of a WebSocket that asks for none, or wrongly; ``fields`` belong to the answer."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status  # type: ignore[misc]  # a constant of every other class
        self.fields = b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" if status == 426 else b""


def accept(headers: Mapping[bytes, bytes]) -> bytes:
    """The head of the response that accepts a handshake; the subprotocol is `SUBPROTOCOL` where it is offered.

    Host and path are whoever routes requests' to look at.

    :raises NotWebSocket: the request is no handshake
    """
    if headers.get(b"upgrade", b"").lower() != b"websocket":
        raise NotWebSocket("this path is a WebSocket's", 426)
    handshake = H11Handshake(ConnectionType.SERVER)
    asked = [
        (name, value) for name, value in headers.items() if name in _HANDSHAKE or name.startswith(b"sec-websocket-")
    ]
    try:
        handshake.initiate_upgrade_connection([(b"host", b"-"), *asked], b"/")
        (request,) = handshake.events()
    except (RemoteProtocolError, HttpProtocolError, UnicodeError) as problem:
        hint = getattr(problem, "event_hint", None)
        status = hint.status_code if isinstance(hint, RejectConnection) and hint.status_code == 426 else 400
        raise NotWebSocket(f"not a WebSocket handshake: {problem}", status) from None
    assert isinstance(request, Request)
    return handshake.send(AcceptConnection(subprotocol=SUBPROTOCOL if SUBPROTOCOL in request.subprotocols else None))


@attrs.frozen
class Text:
    """A message, whole."""

    data: bytes


@attrs.frozen
class Part:
    """A message of which so many bytes have come, and not yet all."""

    size: int


@attrs.frozen
class Reply:
    """Bytes that are due for something that came; for some things, none."""

    data: bytes


@attrs.frozen
class Passed:
    """A message that is none of MCP's, and was passed over."""

    what: str


@attrs.frozen
class Closed:
    """The end: nothing more will come. ``data`` are the last bytes due, if any.

    ``broken`` says that it is ours: the peer broke the rules, and may go on for a while until it has read so. ``code``
    and ``reason`` are those of whoever said goodbye.
    """

    data: bytes
    broken: bool = False
    code: int = NORMAL
    reason: str = ""


class Frames:
    """The frames of one accepted connection, both ways. Messages may have ``limit`` bytes."""

    passes_binary: ClassVar[bool] = False
    """Whether binary messages are passed over; otherwise they break the rules."""

    def __init__(self, limit: int) -> None:
        self.ponged: Callable[[], None] = lambda: None
        """Called when a pong has come."""
        self._limit = limit
        self._socket = Connection(ConnectionType.SERVER)
        self._part = bytearray()
        """What has come of a message; its pieces may be of no length, and without number."""
        self._over = False

    def received(self, data: bytes) -> Iterator[Text | Part | Passed | Reply | Closed]:
        """What some bytes bring, in order, each frame something; nothing follows a `Closed`."""
        if self._over:
            return
        self._socket.receive_data(data)
        for event in self._socket.events():
            if isinstance(event, TextMessage):
                whole = self._text(event)
                if whole is None:
                    yield self._broken(TOO_LARGE, f"a message may have {self._limit} bytes")
                    return
                yield whole
            elif isinstance(event, Ping):
                yield Reply(self._socket.send(event.response()) if self._socket.state is ConnectionState.OPEN else b"")
            elif isinstance(event, Pong):
                self.ponged()
                yield Reply(b"")
            elif isinstance(event, BytesMessage) and self.passes_binary:
                yield Passed("a binary message") if event.message_finished else Reply(b"")
            elif isinstance(event, BytesMessage):
                yield self._broken(NO_BINARY, "messages are text")
                return
            elif isinstance(event, CloseConnection):
                yield self._farewell(event)
                return

    def _broken(self, code: int, reason: str) -> Closed:
        self._over = True
        return Closed(self.close(code, reason), True, code, reason)

    def _text(self, event: TextMessage) -> Text | Part | None:
        """What a piece of a message makes; ``None`` for one piece too many."""
        data = str(event.data).encode()
        if self._part or not event.message_finished:
            self._part += data
            data = b""
        if len(self._part) + len(data) > self._limit:
            return None
        if not event.message_finished:
            return Part(len(self._part))
        if self._part:
            data, self._part = bytes(self._part), bytearray()
        return Text(data)

    def _farewell(self, event: CloseConnection) -> Closed:
        """The peer's goodbye has an answer, unless it is one; for frames that are none, it is ours to say goodbye."""
        if self._socket.state not in (ConnectionState.CLOSED, ConnectionState.REMOTE_CLOSING):
            return self._broken(event.code, event.reason or "")
        self._over = True
        last = b"" if self._socket.state is ConnectionState.CLOSED else self._socket.send(event.response())
        return Closed(last, code=event.code, reason=event.reason or "")

    def parted(self, data: bytes) -> bool:
        """Whether some bytes, after a goodbye of ours, bring the peer's, or nothing that can be read any more."""
        self._socket.receive_data(data)
        return any(isinstance(event, CloseConnection) for event in self._socket.events())

    def text(self, data: bytes) -> bytes:
        """A message, which is UTF-8, as bytes to be sent; none once the connection is being closed.

        It is one frame, and made here: the library takes 5 µs for it, and 12 for one that is masked.
        """
        if self._socket.state is not ConnectionState.OPEN:
            return b""
        return text_frame(data, masked=self._socket.client)

    def ping(self) -> bytes:
        """A ping, as bytes to be sent."""
        return self._socket.send(Ping()) if self._socket.state is ConnectionState.OPEN else b""

    def close(self, code: int, reason: str = "") -> bytes:
        """Our goodbye, as bytes to be sent; none if it was said."""
        if self._socket.state is not ConnectionState.OPEN:
            return b""
        return self._socket.send(CloseConnection(code=code, reason=reason))


def text_frame(data: bytes, *, masked: bool) -> bytes:
    """A text message as one frame (RFC 6455, 5.2); those of whoever has dialled are ``masked``."""
    size, bit = len(data), 0x80 if masked else 0
    if size < 126:
        head = struct.pack("!BB", _TEXT, bit | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", _TEXT, bit | 126, size)
    else:
        head = struct.pack("!BBQ", _TEXT, bit | 127, size)
    return head + _masked(data) if masked else head + data


def _masked(data: bytes) -> bytes:
    """A fresh key, and the data under it; as two numbers, because nothing else in Python is as fast."""
    key = os.urandom(4)
    pad = (key * (len(data) // 4 + 1))[: len(data)]
    covered = int.from_bytes(data, "little") ^ int.from_bytes(pad, "little")
    return key + covered.to_bytes(len(data), "little")
