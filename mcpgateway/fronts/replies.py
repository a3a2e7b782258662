"""How the HTTP front answers: JSON, an event stream, or an error, with the status that each era wants."""

from __future__ import annotations

from typing import Final

import trio

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Event, Reply
from mcpgateway.errors import CallCancelled, GatewayError, InvalidParams, MethodNotFound, TooBusy
from mcpgateway.protocol.methods import http_status
from mcpgateway.protocol.revisions import Era
from mcpgateway.wire import sse
from mcpgateway.wire.http1.exchange import Exchange
from mcpgateway.wire.transport import TransportBroken

JSON_FIELDS: Final = b"Content-Type: application/json\r\n"


class HttpBack:
    """The back-channel of one call over HTTP: its first event turns the response into an event stream.

    ``outlived`` says that the call runs on after its client has gone (legacy): then events are dropped, and the reply
    raises `TransportBroken` as it would have.
    """

    __slots__ = ("_exchange", "_fields", "_gone", "_outlived")

    def __init__(self, exchange: Exchange, fields: bytes, *, outlived: bool = False) -> None:
        self._exchange = exchange
        self._fields = fields
        self._outlived = outlived
        self._gone: TransportBroken | None = None

    async def open(self) -> None:
        """Begin the event stream now, before there is an event."""
        if not self._exchange.started:
            self._begin()
            await self._exchange.write(b"")

    async def send(self, event: Event) -> None:
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
        self._check()
        if not self._exchange.started:
            self._exchange.stream(200, sse.HEADERS + self._fields)
        await self._exchange.finish()

    def _check(self) -> None:
        if self._gone is not None:
            raise self._gone

    def _begin(self) -> None:
        self._exchange.stream(200, sse.HEADERS + self._fields, beat=sse.COMMENT)

    async def reply(self, reply: Reply, id: bytes, era: Era) -> None:
        """Answer the call: in the stream where there is one or the server used one, as JSON otherwise."""
        self._check()
        data = reply.message.encode_as(id)
        exchange = self._exchange
        if reply.event is None and not exchange.started:
            await exchange.respond(status_of_reply(reply, era), data, JSON_FIELDS + self._fields)
            return
        if not exchange.started:
            self._begin()
        event = reply.event
        tail = sse.encode(data) if event is None else sse.encode(data, id=event.id, retry=event.retry)
        await exchange.write(tail, last=True)

    async def fail(self, problem: GatewayError, id: bytes | None, era: Era) -> None:
        """Answer a call that has no reply."""
        if isinstance(problem, CallCancelled):
            await self.end()  # no reply is due; over HTTP the response must end all the same
            return
        self._check()
        exchange = self._exchange
        data = jsonrpc.error(id, problem).encode()
        if exchange.started:
            await exchange.write(sse.encode(data), last=True)
        else:
            await exchange.respond(status_of(problem, era), data, error_fields(problem) + self._fields)


def error_fields(problem: GatewayError) -> bytes:
    """The header fields of an error's response."""
    if isinstance(problem, TooBusy):
        return JSON_FIELDS + b"Retry-After: %d\r\n" % problem.retry_after
    return JSON_FIELDS


def frame(event: Event) -> bytes:
    """An event as bytes, with what its SSE frame said on the server's side."""
    data = b"" if event.message is None else event.message.encode()
    return sse.encode(data, id=event.id, retry=event.retry)


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
