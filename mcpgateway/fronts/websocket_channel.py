"""A channel on a WebSocket, whichever side has dialled it: one task reads, one writes, neither waits for the other.

What differs between the two sides is what is done about a peer that is silent, and what is logged: `WebSocketChannel`
leaves that to its subclasses.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import attrs
import trio

from mcpgateway.errors import ClientGone, GatewayError, TooBusy
from mcpgateway.fronts.channel import Channel, Commons, open_channel
from mcpgateway.wire.outgoing import Outgoing
from mcpgateway.wire.transport import Transport, TransportBroken
from mcpgateway.wire.waiting import Wait
from mcpgateway.wire.websocket_server import GOING_AWAY, Closed, Frames, Part, Passed, Reply, Text

COURTESY: Final = 2.0
"""Seconds for a peer to answer our goodbye."""


FAIR: Final = 100
"""Frames after which it is others' turn: what one read brings may be 32,768 of them, which take a third of a second."""


class Silent(Exception):
    """Nothing has come for too long."""


@attrs.frozen
class Pace:
    """How soon a peer has to take what it is sent: n bytes have ``timeout`` and n / ``rate`` seconds."""

    timeout: float
    rate: int


@attrs.frozen
class End:
    """Why a channel on a WebSocket has ended; the peer's ``code``, if it said one."""

    reason: str
    code: int | None = None


class WebSocketChannel:
    """One WebSocket of a client that counts as ``address``. The transport stays its owner's."""

    def __init__(self, commons: Commons, transport: Transport, address: str, frames: Frames, pace: Pace) -> None:
        self._commons = commons
        self._pace = pace
        self._transport = transport
        self._address = address
        self._frames = frames
        self._writing = Wait()
        self._reading = Wait()
        self._out = Outgoing(commons.bounds.replies, address, self._writing)
        self._receiving = 0
        """Bytes of a message that is not whole yet, as they are counted."""
        self._flushing: Wait | None = None
        """What the task that writes waits under, while the peer does not take what it was sent."""
        self._lingers = False
        """The peer has to read a goodbye that it does not expect."""
        self._read = trio.Event()
        """Set when nothing more will be read."""
        self._end: End | None = None
        """The first reason counts."""

    async def run(self, name: str, beyond: bytes) -> End:
        """Serve the namespace ``name`` until either side closes; ``beyond`` was read from the transport already."""
        try:
            async with open_channel(self._commons, name, self._address, self._out, self._encode, self._say_goodbye) as (
                channel,
                nursery,
            ):
                nursery.start_soon(self._receive, channel, beyond)
                self._attend(channel, nursery)
                try:
                    await self._out.drain(self._write)
                    with trio.move_on_after(COURTESY):
                        await self._read.wait()
                except (TransportBroken, ClientGone) as problem:
                    self._ended(End(reason_of(problem)))
        finally:
            self._count(0)
        return self._end or End("the channel was closed")

    # ---- what differs ------------------------------------------------------------------------------------------------

    def _attend(self, channel: Channel, nursery: trio.Nursery) -> None:
        """Start what else the channel needs, once it is open."""

    async def _next(self) -> bytes:
        """The next bytes; ``b""`` at the end.

        :raises Silent: the peer counts as gone
        """
        return await self._transport.receive(self._reading)

    def _encode(self, data: bytes) -> bytes:
        """A message as it is written."""
        return self._frames.text(data)

    def _complain(self, channel: Channel, problem: GatewayError) -> None:
        """The peer has sent something that is no message."""
        channel.complain(problem)

    def _passed(self, what: str) -> None:
        """The peer has sent something that is none of ours, and was passed over."""

    # ---- coming in ---------------------------------------------------------------------------------------------------

    async def _receive(self, channel: Channel, data: bytes) -> None:
        """Take what comes, until there will be no more. Never waits for anything but that."""
        try:
            while await self._take(channel, data):
                data = await self._next()
                if not data:
                    self._gone("closed its connection without saying so")
                    break
                await trio.lowlevel.checkpoint()
            if self._lingers:
                await self._linger()
        except (TransportBroken, Silent) as problem:
            self._gone(reason_of(problem))
        finally:
            self._read.set()

    def _gone(self, reason: str) -> None:
        """The peer is not there any more; whoever writes need not."""
        self._ended(End(reason))
        problem = ClientGone(f"the client has gone: {reason}")
        self._writing.end(problem)
        if self._flushing is not None:
            self._flushing.end(problem)

    def _ended(self, end: End) -> None:
        self._end = self._end or end

    async def _linger(self) -> None:
        """Read on until the peer has read our goodbye: closing on unread bytes would reset it away."""
        while True:
            data = await self._bytes_within(COURTESY)
            if not data or self._frames.parted(data):
                return
            await trio.lowlevel.checkpoint()

    async def _bytes_within(self, seconds: float) -> bytes:
        wait = Wait(trio.current_time() + seconds, partial(Silent, f"nothing came for {seconds:g} s"))
        self._commons.sweeper.add(wait)
        try:
            return await self._transport.receive(wait)
        finally:
            self._commons.sweeper.discard(wait)

    async def _take(self, channel: Channel, data: bytes) -> bool:
        """Take what some bytes bring; whether there may be more to come. A checkpoint now and then."""
        for number, event in enumerate(self._frames.received(data), 1):
            if not number % FAIR:
                await trio.lowlevel.checkpoint()
            match event:
                case Text():
                    self._count(0)
                    try:
                        channel.received(event.data)
                    except GatewayError as problem:
                        self._complain(channel, problem)
                case Part():
                    self._count(event.size)
                case Reply():
                    self._out.put(event.data)
                case Passed():
                    self._passed(event.what)
                case Closed():
                    self._ended(_end_of(event))
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
                self._gone(problem.message)
            else:
                self._receiving = size

    # ---- going out ---------------------------------------------------------------------------------------------------

    async def _write(self, data: bytes) -> None:
        """Write some bytes; a client that does not take them in time is dropped.

        The time is fixed beforehand, as `mcpgateway.wire.http1.connection` does: who takes a byte now and then would
        renew any other deadline.
        """
        transport, pace = self._transport, self._pace
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
            trio.current_time() + pace.timeout + unsent / pace.rate,
            partial(TransportBroken, "does not read what it is sent"),
        )
        self._commons.sweeper.add(wait)
        self._flushing = wait
        try:
            await transport.flushed(wait)
        finally:
            self._flushing = None
            self._commons.sweeper.discard(wait)
            replies.release(self._address, unsent)

    def _say_goodbye(self) -> None:
        """The gateway has nothing more to say."""
        self._ended(End("the gateway closed the WebSocket"))
        self._out.put(self._frames.close(GOING_AWAY))
        self._out.close()


def reason_of(problem: Exception) -> str:
    """Why a connection ended, without the numbers of the system."""
    if isinstance(problem, ClientGone):
        return problem.message
    if isinstance(problem, OSError) and problem.strerror:
        return f"the connection broke: {problem.strerror}"
    return str(problem)


def _end_of(closed: Closed) -> End:
    said = f": {closed.reason[:200]!r}" if closed.reason else ""
    if closed.broken:
        return End(f"broke the rules (close code {closed.code}{said})")
    return End(f"closed the WebSocket with code {closed.code}{said}", closed.code)
