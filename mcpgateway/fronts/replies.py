"""How the HTTP front answers: JSON, an event stream, or an error, with the status that each era wants."""

from __future__ import annotations

from typing import Final

import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Event, Reply
from mcpgateway.errors import CallCancelled, GatewayError, InvalidParams, MethodNotFound, TooBusy
from mcpgateway.fronts.call_streams import CallStream
from mcpgateway.protocol.methods import http_status
from mcpgateway.protocol.revisions import Era
from mcpgateway.sessions.store import Session
from mcpgateway.wire import sse
from mcpgateway.wire.http1.exchange import Exchange
from mcpgateway.wire.transport import TransportBroken

JSON_FIELDS: Final = b"Content-Type: application/json\r\n"


class HttpBack:
    """The back-channel of one call over HTTP: its first event turns the response into an event stream.

    ``outlived`` says that the call runs on after its client has gone (legacy): then what is sent goes to the outbox of
    ``owner``, the session that the stream is of, for the client to come back to. Where there is none, because the
    session and its streams are a server's, passed through, it is dropped, and the reply raises `TransportBroken` as it
    would have.
    """

    __slots__ = ("_exchange", "_fields", "_gone", "_outlived", "_own", "_owner")

    def __init__(
        self, exchange: Exchange, fields: bytes, *, outlived: bool = False, owner: Session | None = None
    ) -> None:
        self._exchange = exchange
        self._fields = fields
        self._outlived = outlived
        self._owner = owner
        self._own: CallStream | None = None
        """The stream, once it has begun, where it is the gateway's."""
        self._gone: TransportBroken | None = None

    async def open(self) -> None:
        """Begin the event stream now, before there is an event."""
        if not self._exchange.started:
            self._begin()
            await self._exchange.write(b"")

    def open_now(self) -> None:
        """`open` from beside the task that serves the call, if that has sent nothing; never waits."""
        exchange = self._exchange
        if exchange.started or exchange.client_gone():
            return
        if self._owner is not None:
            self._stream(self._owner).open()
        else:
            exchange.open(sse.HEADERS + self._fields, b"", beat=sse.COMMENT)

    async def send(self, event: Event) -> None:
        if self._owner is not None:
            await self._stream(self._owner).send(event.message)
            return
        if self._gone is not None:
            await trio.lowlevel.checkpoint()
            return
        if not self._exchange.started:
            self._begin()
        try:
            await self._exchange.write(frame(event))
        except TransportBroken as problem:
            if not self._outlived:
                raise
            self._gone = problem

    async def end(self) -> None:
        """End the response without a reply: an event stream, empty if nothing was sent."""
        if self._own is not None:
            await self._own.end()
            return
        self._check()
        if not self._exchange.started:
            self._exchange.stream(200, sse.HEADERS + self._fields)
        await self._exchange.finish()

    def abandon(self) -> None:
        """The call is over, whatever became of it: nobody waits for more of its stream; idempotent."""
        if self._own is not None:
            self._own.abandon()

    def _check(self) -> None:
        if self._gone is not None:
            raise self._gone

    def _begin(self) -> None:
        self._exchange.stream(200, sse.HEADERS + self._fields, beat=sse.COMMENT)

    def _stream(self, owner: Session) -> CallStream:
        if self._own is None:
            self._own = CallStream(self._exchange, self._fields, owner.outbox.begin())
        return self._own

    async def reply(self, reply: Reply, id: bytes, era: Era) -> None:
        """Answer the call: in the stream where there is one, or where it is the server's to choose and it did; else as
        JSON."""
        self._check()
        exchange = self._exchange
        if self._own is not None:
            await self._own.answer(reply.message.replace(id=Raw(id)))
        elif exchange.started or (reply.event is not None and self._owner is None):
            if not exchange.started:
                self._begin()
            await exchange.write(tail(reply, id), last=True)
        else:
            data = reply.message.encode_as(id)
            await exchange.respond(status_of_reply(reply, era), data, JSON_FIELDS + self._fields)

    async def fail(self, problem: GatewayError, id: bytes | None, era: Era) -> None:
        """Answer a call that has no reply."""
        if isinstance(problem, CallCancelled):
            await self.end()  # no reply is due; over HTTP the response must end all the same
            return
        self._check()
        exchange = self._exchange
        message = jsonrpc.error(id, problem)
        if self._own is not None:
            await self._own.answer(message)
        elif exchange.started:
            await exchange.write(sse.encode(message.encode()), last=True)
        else:
            await exchange.respond(status_of(problem, era), message.encode(), error_fields(problem) + self._fields)


def error_fields(problem: GatewayError) -> bytes:
    """The header fields of an error's response."""
    if isinstance(problem, TooBusy):
        return JSON_FIELDS + b"Retry-After: %d\r\n" % problem.retry_after
    return JSON_FIELDS


def frame(event: Event) -> bytes:
    """An event as bytes, with what its SSE frame said on the server's side."""
    data = b"" if event.message is None else event.message.encode()
    return sse.encode(data, id=event.id, retry=event.retry)


def tail(reply: Reply, id: bytes) -> bytes:
    """The last event of a call's stream, with what its SSE frame said on the server's side."""
    data, event = reply.message.encode_as(id), reply.event
    return sse.encode(data) if event is None else sse.encode(data, id=event.id, retry=event.retry)


def status_of_reply(reply: Reply, era: Era) -> int:
    """The HTTP status of a server's answer: its own, or for an error from a pipe the one that its era wants."""
    if era is Era.LEGACY or reply.message.error is None or reply.status != 200:
        return reply.status
    return http_status(jsonrpc.error_code(reply.message), era)


def status_of(problem: GatewayError, era: Era) -> int:
    """The HTTP status of an error.

    In the legacy era an error about the call itself is an answer like any other, with status 200; what concerns the
    transport, or a server that could not be reached, has a status of its own. Modern clients get one for all of them.
    """
    if era is Era.LEGACY and isinstance(problem, InvalidParams | MethodNotFound):
        return 200
    return problem.status
