"""Responses, from bytes: one connection to a peer, and the response that is coming on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import httptools

from mcpgateway.wire.http1.requests import MAX_HEADERS
from mcpgateway.wire.http_client import Done, HttpError, advised, is_json
from mcpgateway.wire.readiness import EdgeTransport
from mcpgateway.wire.transport import Transport, TransportBroken
from mcpgateway.wire.waiting import Wait

if TYPE_CHECKING:
    from mcpgateway.wire.http1.client import Pool

MAX_HEAD: Final = 64 * 1024


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


class ClientConnection:
    """One connection. ``deadlines`` are those of the request that it is used for."""

    __slots__ = (
        *("_done", "_wait"),
        *("builder", "deadlines", "head", "idle_since", "pool", "transport", "unfinished"),
    )

    def __init__(self, transport: Transport, pool: Pool) -> None:
        self.transport = transport
        self.pool = pool
        self.deadlines = pool.deadlines
        self.builder = _Builder()
        self.idle_since = 0.0
        self.unfinished = False
        self.head = 0
        """Bytes of the head of the response so far."""
        self._done: Done | None = None
        self._wait: Wait | None = None

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
        ready = builder.complete and builder.keep_alive and not builder.surplus
        builder.reset()
        self.head = 0
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
            except (httptools.HttpParserError, httptools.HttpParserUpgrade) as problem:
                if not builder.complete:
                    if isinstance(problem, httptools.HttpParserUpgrade):
                        raise HttpError("the peer switched protocols unasked") from None
                    raise HttpError(f"not a valid HTTP/1.1 response: {problem}") from None
                builder.surplus = True  # the response is whole; what follows it costs the connection only
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

    def broken(self, problem: TransportBroken) -> HttpError:
        """What the end of the transport means for the request on it."""
        where = "within its response" if self.builder.headers_complete else "without a response"
        reason = advised(problem.strerror or str(problem))
        return HttpError(f"the connection broke {where}: {reason}", unsent=problem.unsent)

    # ---- without a task ----------------------------------------------------------------------------------------------

    def watch(self, transport: EdgeTransport, wait: Wait, done: Done) -> None:
        """Read the response where its bytes arrive, and call ``done`` with it."""
        self._done = done
        self._wait = wait
        transport.watcher = self._readable

    def _readable(self) -> None:
        """Bytes have come: a whole response, an event stream that begins, or more of either."""
        builder = self.builder
        try:
            while True:
                data = self.transport.try_receive()
                if data is None:
                    if builder.headers_complete and self._wait is not None:
                        self._wait.phase = self.deadlines.silence(builder.headers)
                    return
                self.take_in(data)
                if builder.complete or (builder.headers_complete and not is_json(builder.headers)):
                    break
                if builder.size > self.pool.limit:
                    raise HttpError(f"the response is larger than {self.pool.limit} bytes")
        except TransportBroken as problem:
            self._fail(self.broken(problem))
        except HttpError as problem:
            self._fail(problem)
        else:
            done = self._unwatched()
            if done is not None:
                done(Response(self.pool, self))

    def _fail(self, problem: HttpError) -> None:
        done = self._unwatched()
        self.pool.discard(self)
        if done is not None:
            done(problem)

    def abandon(self) -> None:
        """Nobody waits any more: close."""
        self._unwatched()
        self.pool.discard(self)

    def _unwatched(self) -> Done | None:
        """Stop watching. Gives who is to be told, once; the phases of their wait are over."""
        done, self._done = self._done, None
        wait, self._wait = self._wait, None
        if wait is not None and wait.phase is not None:
            wait.phase = None
        if isinstance(self.transport, EdgeTransport):
            self.transport.watcher = None
        return done


class Response:
    """See `mcpgateway.wire.http_client.Response`, and `Arrived`."""

    __slots__ = ("_connection", "_pool", "headers", "status")

    def __init__(self, pool: Pool, connection: ClientConnection) -> None:
        self._pool = pool
        self._connection: ClientConnection | None = connection
        self.status = connection.builder.status
        self.headers = connection.builder.headers

    async def read(self, wait: Wait, limit: int) -> bytes:
        """See `mcpgateway.wire.http_client.Response.read`."""
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
        """See `mcpgateway.wire.http_client.Arrived.whole`."""
        connection = self._connection
        if connection is None or not connection.builder.complete:
            return None
        chunks = connection.builder.chunks
        self._connection = None
        self._pool.give_back(connection)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def piece(self) -> bytes:
        """See `mcpgateway.wire.http_client.Arrived.piece`."""
        connection = self._connection
        if connection is None:
            return b""
        chunks, connection.builder.chunks = connection.builder.chunks, []
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def more(self, wait: Wait) -> bytes:
        """See `mcpgateway.wire.http_client.Response.more`."""
        connection = self._connection
        if connection is None:
            return b""
        builder = connection.builder
        try:
            while not builder.chunks and not builder.complete:
                wait.phase = connection.deadlines.silence(self.headers)
                await connection.receive(wait)
        except TransportBroken as problem:
            self.close()
            raise connection.broken(problem) from None
        except BaseException:
            self.close()
            raise
        finally:
            wait.phase = None
        chunks, builder.chunks = builder.chunks, []
        if builder.complete:
            self._release()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.give_back(connection)

    def leave(self) -> None:
        """See `mcpgateway.wire.http_client.Response.leave`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.keep_unfinished(connection)

    async def aclose(self) -> None:
        """See `mcpgateway.wire.http_client.Response.aclose`. No checkpoint."""
        self.close()

    def close(self) -> None:
        """Close the connection of a response that is not wanted any more; idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.discard(connection)
