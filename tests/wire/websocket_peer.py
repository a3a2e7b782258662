"""The far end of a `WebSocket` in memory, that a test tells what to do: frames by wsproto, or any bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import attrs
import trio
from trio.testing import MemoryReceiveStream, lockstep_stream_pair, memory_stream_pair
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Event, Ping, Pong, Request, TextMessage

from mcpgateway.wire.websocket import CannotConnect, Terms, WebSocket

URL = "ws://example.com/mcp?key=k"


class Peer:
    """A server on one end of a stream. It does nothing by itself; `obliging` answers pings and closes."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.protocol = WSConnection(ConnectionType.SERVER)
        self.request: Request | None = None
        self.events: list[Event] = []
        """What came and was not returned by `next`."""

    async def next(self) -> Event:
        """The next event."""
        while not self.events:
            data = await self.stream.receive_some(65536)
            self.protocol.receive_data(bytes(data) or None)
            self.events += self.protocol.events()
        return self.events.pop(0)

    async def accept(self, subprotocol: str | None = "mcp") -> None:
        request = await self.next()
        assert isinstance(request, Request)
        self.request = request
        await self.send(AcceptConnection(subprotocol=subprotocol))

    async def send(self, event: Event) -> None:
        await self.stream.send_all(self.protocol.send(event))

    async def say(self, text: str) -> None:
        await self.send(TextMessage(data=text))

    async def message(self) -> str:
        """The next text message; pings and pongs are passed over."""
        parts = []
        while True:
            event = await self.next()
            if isinstance(event, TextMessage):
                parts.append(event.data)
                if event.message_finished:
                    return "".join(parts)
            assert isinstance(event, TextMessage | Ping | Pong), event

    async def oblige(self) -> None:
        """Answer pings, and a close."""
        while True:
            event = await self.next()
            if isinstance(event, Ping):
                await self.send(event.response())
            elif isinstance(event, CloseConnection):
                if event.code != 1006:
                    await self.send(event.response())
                return


@attrs.define
class Opened:
    """A WebSocket and its peer, and what came of it."""

    socket: WebSocket
    peer: Peer
    received: list[bytes] = attrs.Factory(list)
    dropped: list[str] = attrs.Factory(list)
    reason: str = ""
    """Why it ended; empty before."""
    ended: trio.Event = attrs.Factory(trio.Event)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        try:
            self.reason = await self.socket.run(self.received.append, self.dropped.append, task_status=task_status)
        finally:
            self.ended.set()

    async def outcome(self) -> str:
        await self.ended.wait()
        return self.reason


def make(terms: Terms | None = None, *, lockstep: bool = False) -> Opened:
    """A WebSocket that has not shaken hands; ``lockstep`` is a stream on which sending waits for the reader."""
    ours, theirs = lockstep_stream_pair() if lockstep else memory_stream_pair()
    return Opened(WebSocket(URL, ours, terms or Terms()), Peer(theirs))


@asynccontextmanager
async def opened(terms: Terms | None = None, *, lockstep: bool = False) -> AsyncIterator[Opened]:
    """A WebSocket that has shaken hands; ended with the block."""
    found = make(terms, lockstep=lockstep)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(found.peer.accept)
        await nursery.start(found.run)
        yield found
        nursery.cancel_scope.cancel(reason="the test is over")


Act = Callable[[Peer], Awaitable[None]]


async def refused(act: Act) -> CannotConnect:
    """What a handshake fails with that a peer does something else to."""
    found = make()
    problems: list[CannotConnect] = []

    async def run() -> None:
        try:
            await found.run()
        except CannotConnect as problem:
            problems.append(problem)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await found.peer.next()
        await act(found.peer)
    (problem,) = problems
    return problem


def break_writing(stream: trio.abc.Stream) -> None:
    """Let whoever writes to a stream in memory find it broken, while what was said on it can still be read."""
    assert isinstance(stream, trio.StapledStream)
    receiving = stream.receive_stream
    assert isinstance(receiving, MemoryReceiveStream)
    receiving.close()
