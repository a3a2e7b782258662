"""Clients on channels, for tests that hold for HTTP+SSE, WebSocket and stdio alike."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket

from mcpgateway.fronts.stdio import StdioFront
from mcpgateway.wire.sse import Frame, Parser
from tests.fronts.site import LEGACY, POST, Client, Site, modern, notification, request

KINDS: Final = ("sse", "ws", "stdio")


class Wire(Protocol):
    """The far side of a channel: one message at a time, as bytes."""

    async def send(self, data: bytes) -> None: ...

    async def receive(self) -> bytes:
        """The next message; `trio.EndOfChannel` once the gateway has ended the channel."""

    async def aclose(self) -> None:
        """Leave, without a word to the gateway beyond what the wire says by itself."""


class SseWire:
    """A stream, and a connection to post on."""

    def __init__(self, stream: Client, poster: Client) -> None:
        self.stream = stream
        self.poster = poster
        self.endpoint = ""
        self._parser = Parser()
        self._fed = 0
        self._frames: deque[Frame] = deque()

    async def frame(self) -> Frame:
        while not self._frames:
            answers = self.stream._answers
            body = bytes(answers.body)
            if self.stream._unread:
                raise trio.EndOfChannel
            if len(body) > self._fed:
                self._frames += self._parser.feed(body[self._fed :])
                self._fed = len(body)
            else:
                await self.stream.more()
                if self.stream._unread:  # the last of it came together with the end
                    self._frames += self._parser.feed(self.stream._unread[0].body[self._fed :])
        return self._frames.popleft()

    async def send(self, data: bytes) -> None:
        answer = await self.poster.post(self.endpoint, data)
        assert (answer.status, answer.body) in ((202, b"Accepted"), (400, answer.body)), answer
        if answer.status == 400:
            self._frames.append(Frame(answer.body))

    async def receive(self) -> bytes:
        frame = await self.frame()
        assert frame.event == b"message"
        return frame.data

    async def aclose(self) -> None:
        await self.stream.aclose()


class WebSocketWire:
    def __init__(self, socket: WebSocketConnection) -> None:
        self.socket = socket

    async def send(self, data: bytes) -> None:
        await self.socket.send_message(data.decode())

    async def receive(self) -> bytes:
        try:
            message = await self.socket.get_message()
        except ConnectionClosed:
            raise trio.EndOfChannel from None
        assert isinstance(message, str)
        return message.encode()

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self.socket._stream)


class StdioWire:
    def __init__(self, send: int, receive: int) -> None:
        self._out = trio.lowlevel.FdStream(send)
        self._in = trio.lowlevel.FdStream(receive)
        self._rest = b""

    async def send(self, data: bytes) -> None:
        assert b"\n" not in data
        await self._out.send_all(data + b"\n")

    async def receive(self) -> bytes:
        while b"\n" not in self._rest:
            data = await self._in.receive_some()
            if not data:
                raise trio.EndOfChannel
            self._rest += bytes(data)
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    async def end(self) -> None:
        """Say no more, but read on."""
        await self._out.aclose()

    async def aclose(self) -> None:
        await self._out.aclose()
        await self._in.aclose()


class ChannelClient:
    """A client on a channel; ``told`` is what came beside the answers that were asked for."""

    def __init__(self, wire: Wire, stop: trio.Event) -> None:
        self.wire = wire
        self.stop = stop
        """Set it to have the gateway drain the channel."""
        self.told: list[Any] = []

    async def send(self, message: object) -> None:
        await self.wire.send(message if isinstance(message, bytes) else json.dumps(message).encode())

    async def receive(self) -> Any:
        return json.loads(await self.wire.receive())

    async def answer(self, id: object) -> Any:
        """The response with this id; what comes before it is told."""
        while True:
            message = await self.receive()
            if isinstance(message, dict) and message.get("id") == id and "method" not in message:
                return message
            self.told.append(message)

    async def ask(self, message: dict[str, Any]) -> Any:
        await self.send(message)
        return await self.answer(message["id"])

    async def modern(self, message: dict[str, Any]) -> Any:
        """Ask in the modern era."""
        return await self.ask(modern(message)[0])

    async def initialize(
        self, capabilities: Mapping[str, object] | None = None, revision: str = LEGACY
    ) -> dict[str, Any]:
        """Open the legacy session."""
        params = {"protocolVersion": revision, "capabilities": capabilities or {}, "clientInfo": {"name": "t"}}
        answer = await self.ask(request("init", "initialize", params))
        await self.send(notification("notifications/initialized"))
        result: dict[str, Any] = answer["result"]
        return result


@asynccontextmanager
async def connected(kind: str, gateway: Site, name: str = "one") -> AsyncIterator[ChannelClient]:
    """A client of a namespace on a channel of that kind."""
    if kind == "sse":
        sse = SseWire(await gateway.dial(), await gateway.dial())
        path = f"/{name}/sse" if name else "/sse"
        await sse.stream.start("GET", path, headers={"Accept": "text/event-stream"})
        announced = await sse.frame()
        assert announced.event == b"endpoint"
        sse.endpoint = announced.data.decode()
        yield ChannelClient(sse, gateway.stop)
    elif kind == "ws":
        path = f"/ws/{name}" if name else "/ws"
        async with open_websocket(
            "127.0.0.1", gateway.port, path, use_ssl=False, subprotocols=["mcp"], message_queue_size=64
        ) as socket:
            assert socket.subprotocol == "mcp"
            wire = WebSocketWire(socket)
            try:
                yield ChannelClient(wire, gateway.stop)
            finally:
                await wire.aclose()
    else:
        (theirs, to), (back, ours) = os.pipe(), os.pipe()
        stop = trio.Event()
        front = StdioFront(gateway.gateway, name)
        stdio = StdioWire(to, back)

        async def run() -> None:
            try:
                await front.run(theirs, ours, stop=stop)
            finally:
                os.close(theirs)
                os.close(ours)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            try:
                yield ChannelClient(stdio, stop)
            finally:
                await stdio.aclose()
                nursery.cancel_scope.cancel(reason="the client is done")


__all__ = ["KINDS", "POST", "ChannelClient", "SseWire", "StdioWire", "WebSocketWire", "connected"]
