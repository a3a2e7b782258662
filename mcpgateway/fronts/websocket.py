"""The WebSocket front: one channel for each accepted connection, one message for each text frame.

MCP has no WebSocket transport (SEP-1288 is a draft), so this is the framing of stdio with frames for lines, as the
clients have it that there are: subprotocol ``mcp`` where it is offered. A client that closes has gone, and its calls
with it.

It is the dialling side that pings. A client from which nothing has come for ``idle_timeout`` is asked by one ping
whether it is still there, and dropped if nothing comes within ``write_timeout`` either. Nothing here waits for a pong
to be sent, so that two ends that ping each other with full buffers go on.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import trio

from mcpgateway.config.model import Limits
from mcpgateway.errors import ClientGone, GatewayError, TooBusy, UnknownNamespace
from mcpgateway.fronts.channel import Channel, Commons, open_channel
from mcpgateway.wire.http1.exchange import Exchange
from mcpgateway.wire.http1.requests import HttpRequest
from mcpgateway.wire.outgoing import Outgoing
from mcpgateway.wire.transport import Transport, TransportBroken
from mcpgateway.wire.waiting import Wait
from mcpgateway.wire.websocket_server import GOING_AWAY, Closed, Frames, Part, Reply, Text, accept

COURTESY: Final = 2.0
"""Seconds for a client to answer our goodbye."""


class WebSocketFront:
    """Answers handshakes on the paths of WebSockets."""

    def __init__(self, commons: Commons, limits: Limits) -> None:
        self._commons = commons
        self.limits = limits

    async def serve(self, request: HttpRequest, exchange: Exchange, name: str) -> None:
        """A channel, for as long as the connection lasts.

        :raises UnknownNamespace: there is none of that name
        :raises mcpgateway.wire.websocket_server.NotWebSocket: the request is no handshake
        :raises TooBusy: there are as many streams as there may be
        """
        commons = self._commons
        if commons.find(name) is None:
            raise UnknownNamespace(f"there is no namespace or server {name[:100]!r} here")
        head = accept(request.headers)
        commons.bounds.streams.take(request.address)
        try:
            transport, beyond = await exchange.switch(head)
            await _Connection(commons, self.limits, transport, request.address).run(name, beyond)
        finally:
            commons.bounds.streams.release(request.address)


class _Silent(Exception):
    """Nothing has come for too long."""


class _Connection:
    """One WebSocket: its channel, the task that reads and the one that writes."""

    def __init__(self, commons: Commons, limits: Limits, transport: Transport, address: str) -> None:
        self._commons = commons
        self._limits = limits
        self._transport = transport
        self._address = address
        self._frames = Frames(limits.body_bytes)
        self._writing = Wait()
        self._out = Outgoing(commons.bounds.replies, address, self._writing)
        self._receiving = 0
        """Bytes of a message that is not whole yet, as they are counted."""
        self._lingers = False
        """The client has to read a goodbye that it does not expect."""
        self._read = trio.Event()
        """Set when nothing more will be read."""

    async def run(self, name: str, beyond: bytes) -> None:
        """Serve until either side closes; ``beyond`` was read from the transport already."""
        self._commons.sweeper.add(self._writing)
        try:
            async with open_channel(
                self._commons, name, self._address, self._out, self._frames.text, self._say_goodbye
            ) as (channel, nursery):
                nursery.start_soon(self._receive, channel, beyond)
                try:
                    await self._out.drain(self._write)
                    with trio.move_on_after(COURTESY):
                        await self._read.wait()
                except (TransportBroken, ClientGone):
                    pass
        finally:
            self._commons.sweeper.discard(self._writing)
            self._count(0)

    # ---- coming in ---------------------------------------------------------------------------------------------------

    async def _receive(self, channel: Channel, data: bytes) -> None:
        """Take what comes, until there will be no more. Never waits for anything but that."""
        try:
            while self._take(channel, data):
                data = await self._next()
                if not data:
                    self._writing.end(ClientGone("the client closed its connection"))
                    break
                await trio.lowlevel.checkpoint()
            if self._lingers:
                await self._linger()
        except (TransportBroken, _Silent) as problem:
            self._writing.end(ClientGone(f"the client has gone: {problem}"))
        finally:
            self._read.set()

    async def _linger(self) -> None:
        """Read on until the client has read our goodbye: closing on unread bytes would reset it away."""
        while True:
            data = await self._bytes_within(COURTESY)
            if not data or self._frames.parted(data):
                return
            await trio.lowlevel.checkpoint()

    async def _next(self) -> bytes:
        """The next bytes. A client that is silent is asked once whether it is there."""
        try:
            return await self._bytes_within(self._limits.idle_timeout)
        except _Silent:
            self._out.put(self._frames.ping())
            return await self._bytes_within(self._limits.write_timeout)

    async def _bytes_within(self, seconds: float) -> bytes:
        wait = Wait(trio.current_time() + seconds, partial(_Silent, f"nothing came for {seconds:g} s"))
        self._commons.sweeper.add(wait)
        try:
            return await self._transport.receive(wait)
        finally:
            self._commons.sweeper.discard(wait)

    def _take(self, channel: Channel, data: bytes) -> bool:
        """Take what some bytes bring; whether there may be more to come."""
        for event in self._frames.received(data):
            match event:
                case Text():
                    self._count(0)
                    try:
                        channel.received(event.data)
                    except GatewayError as problem:
                        channel.complain(problem)
                case Part():
                    self._count(event.size)
                case Reply():
                    self._out.put(event.data)
                case Closed():
                    self._out.put(event.data)
                    self._out.close()
                    self._lingers = event.broken
                    return False
        return True

    def _count(self, size: int) -> None:
        """Count so many bytes of a message that is being received; a client that sends too much is dropped."""
        bodies = self._commons.bounds.bodies
        if self._receiving:
            bodies.release(self._address, self._receiving)
            self._receiving = 0
        if size:
            try:
                bodies.take(self._address, size)
            except TooBusy as problem:
                self._writing.end(ClientGone(problem.message))
            else:
                self._receiving = size

    # ---- going out ---------------------------------------------------------------------------------------------------

    async def _write(self, data: bytes) -> None:
        """Write some bytes; a client that does not take them in time is dropped.

        The time is fixed beforehand, as `mcpgateway.wire.http1.connection` does: who takes a byte now and then would
        renew any other deadline.
        """
        transport, limits = self._transport, self._limits
        transport.put(data)
        if not transport.stuck:
            return
        unsent = transport.unsent
        replies = self._commons.bounds.replies
        try:
            replies.take(self._address, unsent)
        except TooBusy as problem:
            raise TransportBroken(problem.message) from None
        wait = Wait(
            trio.current_time() + limits.write_timeout + unsent / limits.write_rate,
            partial(TransportBroken, "the client does not read"),
        )
        self._commons.sweeper.add(wait)
        try:
            await transport.flushed(wait)
        finally:
            self._commons.sweeper.discard(wait)
            replies.release(self._address, unsent)

    def _say_goodbye(self) -> None:
        """The gateway has nothing more to say."""
        self._out.put(self._frames.close(GOING_AWAY))
        self._out.close()
