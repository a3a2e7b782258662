"""JSON-RPC batches, which revision 2025-03-26 has and no other: an array of messages in one POST.

The requests of a batch are served side by side. Their responses come as one JSON array, in the order in which they are
ready, or as events of one stream once a server has sent something before a response (2025-03-26, transports).
"""

from __future__ import annotations

from typing import Final

import trio

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Event, Reply
from mcpgateway.errors import GatewayError, InvalidRequest
from mcpgateway.fronts.replies import JSON_FIELDS, HttpBack
from mcpgateway.jsonrpc import Message
from mcpgateway.sessions.store import Session
from mcpgateway.wire.http1.exchange import Exchange

REVISION: Final = "2025-03-26"
LIMIT: Final = 100
"""Messages in a batch."""


def read_batch(body: bytes) -> list[Message | GatewayError]:
    """The messages of a batch; an entry that is none is the error that it is answered with.

    :raises ParseError: not a JSON array
    :raises InvalidRequest: empty, too long, or with an ``initialize`` in it, which has to come alone
    """
    raw = jsonrpc.decode_batch(body)
    if len(raw) > LIMIT:
        raise InvalidRequest(f"a batch has at most {LIMIT} messages, not {len(raw)}")
    entries = [_entry(each) for each in raw]
    if any(isinstance(entry, Message) and entry.method == "initialize" for entry in entries):
        raise InvalidRequest("initialize must not be part of a batch")
    return entries


def _entry(data: bytes) -> Message | GatewayError:
    try:
        return jsonrpc.decode(data)
    except GatewayError as problem:
        return problem


class BatchBack:
    """The back-channel of all calls of one batch, and the way of their responses."""

    def __init__(self, exchange: Exchange, fields: bytes, owner: Session | None = None) -> None:
        self._exchange = exchange
        self._fields = fields
        self._back = HttpBack(exchange, fields, outlived=True, owner=owner)
        self._turn = trio.Lock()
        """Held while one call writes: a stream takes one event at a time."""
        self._ready: list[Reply] = []

    def open_now(self) -> None:
        """See `mcpgateway.fronts.replies.HttpBack.open_now`."""
        self._back.open_now()

    async def send(self, event: Event) -> None:
        async with self._turn:
            await self._back.send(event)

    async def answer(self, reply: Reply) -> None:
        """Give one response, whose id is the client's: at once where a stream was begun."""
        if not self._exchange.started:
            self._ready.append(reply)
            return
        event = reply.event or Event(None)
        await self.send(Event(reply.message, event.id, event.retry))

    def abandon(self) -> None:
        """The batch is over, whatever became of it."""
        self._back.abandon()

    async def finish(self, *, due: bool) -> None:
        """End the response; all calls are over. ``due`` says whether there were requests, or errors, to answer."""
        if not due:
            await self._exchange.respond(202, b"", self._fields)
        elif self._exchange.started or not self._ready:
            ready, self._ready = self._ready, []
            for reply in ready:
                await self.answer(reply)
            await self._back.end()
        else:
            body = b"[%b]" % b",".join(reply.message.encode() for reply in self._ready)
            await self._exchange.respond(200, body, JSON_FIELDS + self._fields)
