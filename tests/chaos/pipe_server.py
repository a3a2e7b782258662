"""A server on pipes that fails at the moment it is told to: like a child process, but a task of this one.

The gateway's end is what the stdio adapter has: the real reader and the real writer of lines, on real pipes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final

import trio

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Link, Offer, Receive
from mcpgateway.adapters.pipe import PipeLink
from mcpgateway.adapters.pipe_handshake import negotiate
from mcpgateway.errors import GatewayError, ServerUnavailable
from mcpgateway.testing.fixture_server import FixtureServer
from mcpgateway.wire.lines import LineReader, LineSplitter, LineWriter
from tests.chaos.faults import Failing, Fault, Moment, Way

STARTUP: Final = 3.0
"""Seconds for a handshake."""
GRACE: Final = 1.0
"""Seconds that the far end has to go after its input was closed."""


class PipeDouble:
    """An `Adapter`: every link has a far end of its own."""

    def __init__(self, failing: Failing) -> None:
        self.failing = failing
        self.server = failing.name
        self.ends: dict[_End, None] = {}
        """The far ends that live."""

    @property
    def holding(self) -> int:
        """Calls that wait for ever, and that nobody has cancelled."""
        return sum(len(end.host.slow) for end in self.ends)

    def restart(self) -> None:
        """Kill every far end."""
        for end in self.ends:
            end.scope.cancel(reason="the server is restarted")

    async def connect(self, nursery: trio.Nursery, offer: Offer, receive: Receive) -> Link:
        await trio.lowlevel.checkpoint()
        fault = self.failing.take(Moment.CONNECT)
        if fault is not None and fault.way is Way.FAILS:
            raise ServerUnavailable(self.server, "could not be started")
        end = _End(self, deaf=fault is not None)
        link = PipeLink(self.server, end, receive)
        nursery.start_soon(end.writer.run)
        nursery.start_soon(end.live)
        nursery.start_soon(_listen, end, link)
        try:
            with trio.move_on_after(STARTUP) as startup:
                await negotiate(link, offer)
            if startup.cancelled_caught:
                raise ServerUnavailable(self.server, f"did not shake hands within {STARTUP:g} s")
        except GatewayError:
            await link.aclose()
            raise
        except BaseException:
            link.broken("the connection attempt was cancelled")
            end.kill()
            raise
        return link


async def _listen(end: _End, link: PipeLink) -> None:
    try:
        while (lines := await end.reader.receive()) is not None:
            for line in lines:
                link.received(line)
    finally:
        end.reader.close()
        end.kill()
        link.broken("its far end has gone")


class _End:
    """The far end of one link, and (as its `Wire`) the way to it."""

    def __init__(self, double: PipeDouble, *, deaf: bool) -> None:
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        self.writer = LineWriter(ours_out)
        self.reader = LineReader(ours_in)
        self.put = self.writer.put
        self.scope = trio.CancelScope()
        self._gone = trio.Event()
        self._double = double
        self._deaf = deaf
        self._in = trio.lowlevel.FdStream(theirs_in)
        self._out = trio.lowlevel.FdStream(theirs_out)
        self.host = FixtureServer()

    def kill(self) -> None:
        self.writer.close()
        self.scope.cancel(reason="the gateway kills the server")

    async def aclose(self) -> None:
        self.writer.close()
        with trio.move_on_after(GRACE):
            await self._gone.wait()
        self.kill()
        await self._gone.wait()

    async def live(self) -> None:
        self._double.ends[self] = None
        try:
            with self.scope:
                if self._deaf:
                    await trio.sleep_forever()
                await self._serve()
                fault = self._double.failing.take(Moment.CLOSE)
                if fault is not None and fault.way is Way.HANGS:
                    await trio.sleep_forever()
        finally:
            del self._double.ends[self]
            await trio.aclose_forcefully(self._in)
            await trio.aclose_forcefully(self._out)
            self._gone.set()

    async def _serve(self) -> None:
        splitter = LineSplitter()
        try:
            while data := await self._in.receive_some():
                for line in splitter.feed(bytes(data)):
                    if not await self._take(line):
                        return
        except trio.BrokenResourceError:
            pass

    async def _take(self, line: bytes) -> bool:
        """Take a message, and send what it causes; false if the server ends with it."""
        message = jsonrpc.decode(line)
        if message.is_request and (fault := self._double.failing.take(Moment.BEFORE)):
            return await _break(fault)
        for caused in self.host.handle(message):
            data = caused.encode() + b"\n"
            fault = self._double.failing.take(*_SENT) if caused.is_response else None
            if fault is None:
                await self._out.send_all(data)
                continue
            sent = data[: _SENT[fault.moment](len(data))]
            if sent:
                await self._out.send_all(sent)
            return await _break(fault)
        return True


_SENT: Final[Mapping[Moment, Callable[[int], int]]] = {
    Moment.HEADERS: lambda length: 1,
    Moment.BODY: lambda length: length // 2,
    Moment.LINE: lambda length: length - 1,
    Moment.AFTER: lambda length: length,
}


async def _break(fault: Fault) -> bool:
    if fault.way is Way.HANGS:
        await trio.sleep_forever()
    return False
