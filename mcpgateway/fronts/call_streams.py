"""The event stream of a legacy client's call where it is the gateway's own: sent as long as the client is there, and
kept for it to come back to (`mcpgateway.sessions.streams`)."""

from __future__ import annotations

from functools import partial

import trio

from mcpgateway.jsonrpc import Message
from mcpgateway.sessions.streams import Kept, Stream
from mcpgateway.wire import sse
from mcpgateway.wire.http1.exchange import Exchange
from mcpgateway.wire.transport import TransportBroken
from mcpgateway.wire.waiting import Wait


class CallStream:
    """The stream of a call, and the connection that the call came on; made as soon as there is something to send.

    The connection has the stream until it breaks, or until the client takes the stream up on another.
    """

    __slots__ = ("_exchange", "_fields", "_hold", "_stream")

    def __init__(self, exchange: Exchange, fields: bytes, stream: Stream) -> None:
        self._exchange = exchange
        self._fields = fields
        self._stream = stream
        self._hold = Wait()
        """What its connection has the stream by."""
        self._hold.wake = partial(exchange.break_off, "the client has gone on with its call on another connection")
        stream.attach(self._hold)

    def open(self) -> None:
        """Begin the stream before there is anything to send, from beside the task that will."""
        self._exchange.open(sse.HEADERS + self._fields, self._opening(), beat=sse.COMMENT)

    async def send(self, message: Message | None) -> None:
        """Send a message, or keep it for a client that has left; ``None`` only begins the stream."""
        if self._hold.ended is None and (message is not None or not self._exchange.started):
            await self._write(message)
            return
        if message is not None:
            self._stream.put(message)
        await trio.lowlevel.checkpoint()

    async def answer(self, message: Message) -> None:
        """Send the reply of the call likewise, and end the stream.

        :raises TransportBroken: the connection broke, here or before
        """
        if self._hold.ended is None:
            await self._write(message, last=True)
        else:
            self._stream.put(message, last=True)
        await self.end()

    async def end(self) -> None:
        """End the stream, wherever the client has it, and the response.

        :raises TransportBroken: the connection broke
        """
        self.abandon()
        if isinstance(self._hold.ended, TransportBroken):
            raise self._hold.ended
        await self._exchange.finish()

    def abandon(self) -> None:
        """End the stream, whatever became of its call; idempotent."""
        self._stream.finish()
        self._stream.detach(self._hold)

    async def _write(self, message: Message | None, *, last: bool = False) -> None:
        """Send on this connection, and leave it if it is broken."""
        exchange, data, kept = self._exchange, b"", None
        if not exchange.started:
            exchange.stream(200, sse.HEADERS + self._fields, beat=sse.COMMENT)
            data = self._opening()
        if message is not None:
            kept, frame = self._frame(message, last=last)
            data += frame
        try:
            await exchange.write(data, last=last)
        except TransportBroken as problem:
            if kept is not None:
                self._stream.unsent(self._hold, kept)
            self._stream.detach(self._hold)
            self._hold.wake = None
            self._hold.end(problem)

    def _opening(self) -> bytes:
        prime = self._stream.prime
        return b"" if prime is None else sse.encode(b"", id=prime.id, retry=prime.retry)

    def _frame(self, message: Message, *, last: bool) -> tuple[Kept, bytes]:
        data = message.encode()
        kept = self._stream.sending(message, len(data), last=last)
        return kept, sse.encode(data, id=kept.id)
