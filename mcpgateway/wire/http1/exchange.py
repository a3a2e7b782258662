"""The answer to one request, whole or as a stream, by a task or without one."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from mcpgateway.wire.http1.requests import HttpRequest
from mcpgateway.wire.transport import Transport, TransportBroken

if TYPE_CHECKING:
    from mcpgateway.wire.http1.connection import Connection

_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class Exchange:
    """The answer to one request. Answer exactly once: `respond`, or `stream`, `write` … `finish`."""

    __slots__ = ("_beat", "_chunked", "_connection", "_head", "finished", "request", "started")

    def __init__(self, connection: Connection, request: HttpRequest) -> None:
        self._connection = connection
        self.request = request
        self.started = False
        self.finished = False
        self._head = b""
        self._beat = b""
        self._chunked = True

    async def respond(
        self, status: int, body: bytes = b"", headers: bytes = b"Content-Type: application/json\r\n"
    ) -> None:
        """Send a whole response; ``headers`` are ready lines, each with its CRLF."""
        await self._connection.send(self._whole(status, body, headers))

    def respond_now(self, status: int, body: bytes, headers: bytes) -> None:
        """`respond` without a task, for a request that ``begin`` took. Never raises: who is gone is gone."""
        connection = self._connection
        try:
            connection.transport.put(self._whole(status, body, headers))
        except TransportBroken:
            connection.aborted(self)
        else:
            connection.completed(self)

    def stream_now(self, headers: bytes, data: bytes) -> None:
        """A whole streamed response (200) without a task, as `respond_now`."""
        self.stream(200, headers)
        head, self._head = self._head, b""
        self.finished = True
        framed = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if self._chunked else data
        connection = self._connection
        try:
            connection.transport.put(head + framed)
        except TransportBroken:
            connection.aborted(self)
        else:
            connection.completed(self)

    def continue_with(self, continuation: Callable[[], Awaitable[None]]) -> None:
        """Let the connection's task answer after all, with this function: for a request that ``begin`` took."""
        self._connection.continued(self, continuation)

    def abort(self) -> None:
        """Close the connection without an answer: for a request that ``begin`` took."""
        self._connection.aborted(self)

    def _whole(self, status: int, body: bytes, headers: bytes) -> bytes:
        self.started = self.finished = True
        request = self.request
        tail = self._connection.tail(request)
        if status == 204 or status == 304:
            return b"".join((_status_line(status), _date(), headers, tail))
        length = b"Content-Length: %d\r\n" % len(body)
        if request.method == b"HEAD":
            body = b""
        return b"".join((_status_line(status), _date(), headers, length, tail, body))

    def stream(self, status: int, headers: bytes, *, beat: bytes = b"") -> None:
        """Begin a response whose end is not known; its head goes out with the first `write`.

        ``beat`` is sent whenever the server's heart beats (`HttpServer.beat`), so that nobody on the way takes a
        silent stream for a dead one.
        """
        self.started = True
        if beat:
            self._beat = beat
            self._connection.streaming = self
        request = self.request
        self._chunked = request.version == "1.1"
        if not self._chunked:
            request.keep_alive = False
        framing = b"Transfer-Encoding: chunked\r\n" if self._chunked else b""
        self._head = b"".join((_status_line(status), _date(), headers, framing, self._connection.tail(request)))

    def open(self, headers: bytes, data: bytes, *, beat: bytes) -> None:
        """`stream` and the first `write`, from beside whoever is to answer and has nothing to say yet.

        Never waits or raises: that nobody is there any more is found by whoever writes next.
        """
        self.stream(200, headers, beat=beat)
        head, self._head = self._head, b""
        self._connection.slip(head + self._piece(data))

    def _piece(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked and data else data

    async def write(self, data: bytes, *, last: bool = False) -> None:
        """Send a piece, and with ``last`` the end of the response in the same ``send``."""
        head, self._head = self._head, b""
        if self.request.method == b"HEAD":
            data, piece = b"", b""
        else:
            piece = self._piece(data)
            if last and self._chunked:
                piece += b"0\r\n\r\n"
        if last:
            self.finished = True
            self._connection.streaming = None
        if head or piece:
            await self._connection.send(head + piece)

    def beat(self) -> None:
        """Send the beat of a stream that has begun."""
        transport = self._connection.transport
        if self._head or self.finished:
            return
        try:
            transport.put(self._piece(self._beat))
        except TransportBroken:
            pass  # whoever writes next is told

    async def finish(self) -> None:
        """End a streamed response; idempotent."""
        if not self.finished:
            await self.write(b"", last=True)

    async def switch(self, head: bytes) -> tuple[Transport, bytes]:
        """Go on with another protocol: send the head of a response with status 101, whole.

        The transport is the caller's until its handler returns, which closes it; the bytes were read from it already.
        Only for a request that asked for a WebSocket.
        """
        self.started = self.finished = True
        await self._connection.send(head)
        return self._connection.transport, self._connection.beyond()

    def break_off(self, reason: str) -> None:
        """Have whoever sends here stop, with a `TransportBroken`; the connection closes when its handler returns."""
        self._connection.wait.end(TransportBroken(reason))

    def client_gone(self) -> bool:
        """Whether the client has closed its side of the connection."""
        return self._connection.transport.peer_closed()


def _status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status


_date_cache: tuple[int, bytes] = (0, b"")


def _date() -> bytes:
    """The ``Date`` header (RFC 9110, 6.6.1), formatted once a second."""
    global _date_cache
    now = int(time.time())
    if _date_cache[0] != now:
        _date_cache = now, time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n", time.gmtime(now)).encode()
    return _date_cache[1]
