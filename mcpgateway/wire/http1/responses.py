"""Responses, from bytes: one connection to a peer, and the response that is coming on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

import httptools

from mcpgateway.wire.http1.requests import MAX_HEADERS
from mcpgateway.wire.readiness import EdgeTransport
from mcpgateway.wire.transport import Transport, TransportBroken
from mcpgateway.wire.waiting import Wait

if TYPE_CHECKING:
    from mcpgateway.wire.http1.client import Pool

MAX_HEAD: Final = 64 * 1024


class HttpError(Exception):
    """The peer did not answer as HTTP/1.1 says, or not at all.

    ``unsent`` is true where no byte of the request can have been acted upon, so that it may be sent again.
    """

    def __init__(self, message: str, *, unsent: bool = False) -> None:
        super().__init__(message)
        self.unsent = unsent


class _Builder:
    """What httptools calls while it parses a response."""

    __slots__ = (
        "chunks",
        "complete",
        "headers",
        "headers_complete",
        "keep_alive",
        "parser",
        "size",
        "status",
        "surplus",
    )

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.reset()

    def reset(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.chunks: list[bytes] = []
        self.size = 0
        self.headers_complete = False
        self.keep_alive = False
        self.complete = False
        self.surplus = False

    def on_message_begin(self) -> None:
        self.surplus = self.complete

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.surplus or self.headers_complete:
            return  # of a message that nobody asked for, or a trailer
        name = name.lower()
        headers = self.headers
        headers[name] = headers[name] + b", " + value if name in headers else value

    def on_headers_complete(self) -> None:
        if self.surplus:
            return
        self.status = self.parser.get_status_code()
        self.keep_alive = self.parser.should_keep_alive()
        self.headers_complete = True

    def on_body(self, body: bytes) -> None:
        if not self.surplus:
            self.chunks.append(body)
            self.size += len(body)

    def on_message_complete(self) -> None:
        if self.status < 200:
            self.reset()  # an interim response (RFC 9110, 15.2); the real one follows
        else:
            self.complete = True


Done: TypeAlias = "Callable[[Response | HttpError], None]"
Abandon: TypeAlias = "Callable[[], None]"


class ClientConnection:
    __slots__ = ("_done", "builder", "head", "idle_since", "pool", "transport", "unfinished")

    def __init__(self, transport: Transport, pool: Pool) -> None:
        self.transport = transport
        self.pool = pool
        self.builder = _Builder()
        self.idle_since = 0.0
        self.unfinished = False
        self.head = 0
        self._done: Done | None = None

    def finish(self) -> bool:
        """Take in the rest of a response that was left; whether the connection is ready for the next."""
        if not self.unfinished:
            return True
        self.unfinished = False
        builder = self.builder
        try:
            while not builder.complete and (data := self.transport.try_receive()):
                builder.parser.feed_data(data)
        except (TransportBroken, httptools.HttpParserError):
            return False
        ready = builder.complete and builder.keep_alive
        builder.reset()
        return ready

    async def receive(self, wait: Wait) -> None:
        """Read once and parse; see `take_in`."""
        self.take_in(await self.transport.receive(wait))

    def take_in(self, data: bytes) -> None:
        """Parse what was received. The end of the stream ends a body that runs until then.

        :raises HttpError: it is no response, or not a whole one
        """
        builder = self.builder
        if data:
            try:
                builder.parser.feed_data(data)
            except httptools.HttpParserUpgrade:
                raise HttpError("the peer switched protocols unasked") from None
            except httptools.HttpParserError as problem:
                raise HttpError(f"not a valid HTTP/1.1 response: {problem}") from None
            if not builder.headers_complete:
                self.head += len(data)
            if len(builder.headers) > MAX_HEADERS:
                raise HttpError("the response has too many header fields")
            if self.head > MAX_HEAD:
                raise HttpError("the head of the response is too large")
            return
        until_end = b"content-length" not in builder.headers and b"transfer-encoding" not in builder.headers
        if builder.headers_complete and until_end:
            builder.complete = True
            return
        what = "within its response" if builder.headers_complete else "without a response"
        raise HttpError(f"the peer closed the connection {what}")

    # ---- without a task ----------------------------------------------------------------------------------------------

    def watch(self, transport: EdgeTransport, done: Done) -> None:
        """Read the response where its bytes arrive, and call ``done`` with it."""
        self._done = done
        transport.watcher = self._readable

    def _readable(self) -> None:
        """Bytes have come: a whole response, an event stream that begins, or more of either."""
        builder = self.builder
        try:
            while True:
                data = self.transport.try_receive()
                if data is None:
                    return
                self.take_in(data)
                if builder.complete or (builder.headers_complete and not _is_json(builder.headers)):
                    break
                if builder.size > self.pool.limit:
                    raise HttpError(f"the response is larger than {self.pool.limit} bytes")
        except TransportBroken as problem:
            self._fail(HttpError(f"the connection broke: {problem.strerror or problem}", unsent=problem.unsent))
        except HttpError as problem:
            self._fail(problem)
        else:
            self.settle(Response(self.pool, self))

    def _fail(self, problem: HttpError) -> None:
        done = self._done  # closing settles, so that nobody else can
        self._done = None
        self.pool.discard(self)
        if done is not None:
            done(problem)

    def settle(self, outcome: Response | HttpError) -> None:
        """Stop watching and tell who waits, if somebody still does."""
        done, self._done = self._done, None
        if isinstance(self.transport, EdgeTransport):
            self.transport.watcher = None
        if done is not None:
            done(outcome)

    def abandon(self) -> None:
        """Nobody waits any more: close."""
        self._done = None
        self.pool.discard(self)


def _is_json(headers: dict[bytes, bytes]) -> bool:
    return headers.get(b"content-type", b"").startswith(b"application/json")


class Response:
    """A response whose head is here and whose body may still be coming.

    Take all of it with `read`, or piece by piece with `more` until ``b""``; then the connection is reused by itself.
    `close` gives up what is left. Forgetting to do either costs the connection.
    """

    __slots__ = ("_connection", "_pool", "headers", "status")

    def __init__(self, pool: Pool, connection: ClientConnection) -> None:
        self._pool = pool
        self._connection: ClientConnection | None = connection
        self.status = connection.builder.status
        self.headers = connection.builder.headers

    async def read(self, wait: Wait, limit: int) -> bytes:
        """The whole body.

        :raises HttpError: it is larger than ``limit`` bytes, cut short or malformed
        """
        connection = self._connection
        if connection is not None and connection.builder.size > limit:
            self.close()
            raise HttpError(f"the response is larger than {limit} bytes")
        if (body := self.whole()) is not None:
            return body
        size = 0
        chunks: list[bytes] = []
        while piece := await self.more(wait):
            chunks.append(piece)
            size += len(piece)
            if size > limit:
                self.close()
                raise HttpError(f"the response is larger than {limit} bytes")
        return b"".join(chunks)

    def whole(self) -> bytes | None:
        """The whole body if it is here; ``None`` if more is to come."""
        connection = self._connection
        if connection is None or not connection.builder.complete:
            return None
        chunks = connection.builder.chunks
        self._release()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def piece(self) -> bytes:
        """What has come of the body and was not taken yet; never waits."""
        connection = self._connection
        if connection is None:
            return b""
        chunks, connection.builder.chunks = connection.builder.chunks, []
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def more(self, wait: Wait) -> bytes:
        """The next piece of the body; ``b""`` at its end."""
        connection = self._connection
        if connection is None:
            return b""
        builder = connection.builder
        try:
            while not builder.chunks and not builder.complete:
                await connection.receive(wait)
        except TransportBroken as problem:
            self.close()
            raise HttpError(f"the connection broke within the response: {problem}") from None
        except BaseException:
            self.close()
            raise
        chunks, builder.chunks = builder.chunks, []
        if builder.complete:
            self._release()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.give_back(connection)

    def leave(self) -> None:
        """Nothing more is wanted of a response that is all but over (an event stream after its last event).

        What is left of it may still be on its way; the connection is reused if it has come by the time it is needed.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.keep_unfinished(connection)

    def close(self) -> None:
        """Close the connection of a response that is not wanted any more; idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.discard(connection)
