"""A server of HTTP+SSE that says what a test tells it to say, well-formed or not: the far end of `SseAdapter`."""

from __future__ import annotations

import json
from typing import Any

import trio

from tests.adapters.http_peer import DISCOVERED, INITIALIZED, OK, Answer, Asked, Peer, http

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
ENDPOINT = b"event: endpoint\ndata: /messages?session=1\n\n"
ACCEPTED = http(202, "text/plain", b"Accepted")


def event(message: dict[str, Any]) -> bytes:
    return b"event: message\r\ndata: " + json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\r\n\r\n"


class SsePeer(Peer):
    """A server of both eras, until ``answers`` (by JSON-RPC method, or HTTP method) say otherwise.

    A GET is answered with a stream that begins with ``first``; what `taken` answers goes there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first: tuple[bytes, ...] = (ENDPOINT,)
        self.streams: list[trio.SocketStream] = []
        self._turn = trio.Lock()
        self.answers = {
            "GET": self.open,
            "initialize": self.taken(INITIALIZED),
            "server/discover": self.taken(DISCOVERED),
            "notifications/initialized": ACCEPTED,
            "notifications/cancelled": ACCEPTED,
            "response": ACCEPTED,
            "tools/call": self.taken(OK),
        }

    async def open(self, asked: Asked, stream: trio.SocketStream) -> None:
        """Begin a stream, and keep it until the client has gone."""
        self.streams.append(stream)
        async with self._turn:
            for data in STREAM, *self.first:
                await stream.send_all(data)
        try:
            await stream.receive_some()
        finally:
            self.gone.set()

    def taken(self, result: object) -> Answer:
        """202, and a result on the stream."""

        async def answer(asked: Asked, stream: trio.SocketStream) -> None:
            await ACCEPTED(asked, stream)
            await self.reply(asked, result)

        return answer

    async def reply(self, asked: Asked, result: object) -> None:
        await self.say(event({"id": asked.message["id"], "result": result}))

    async def say(self, data: bytes) -> None:
        """Something on the stream, whatever it is."""
        async with self._turn:
            await self.streams[-1].send_all(data)

    async def end(self) -> None:
        """End the stream."""
        await self.streams[-1].send_eof()
