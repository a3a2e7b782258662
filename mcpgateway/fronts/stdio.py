"""The stdio front: the one client that has started this process, one message for each line (MCP, transports, stdio)."""

from __future__ import annotations

import logging
import os
from typing import Final

import trio

from mcpgateway.errors import ClientGone, GatewayError, InvalidRequest, ShuttingDown
from mcpgateway.fronts.channel import Channel, Commons, open_channel
from mcpgateway.gateway import Gateway
from mcpgateway.protocol.correlator import one_line
from mcpgateway.wire.lines import STALL, LineReader, write
from mcpgateway.wire.outgoing import Outgoing
from mcpgateway.wire.waiting import Wait

log = logging.getLogger("mcpgateway.channel")

ADDRESS: Final = "stdio"
"""What its client counts as."""
LAST_WORDS: Final = 0.3
"""Seconds at the end for what calls are answered that were ended."""


class StdioFront:
    """Serves the namespace ``name`` of a gateway to one client."""

    def __init__(self, gateway: Gateway, name: str) -> None:
        self._gateway = gateway
        self._name = name
        self._ending = trio.Event()
        self._commons = Commons(gateway.namespace, gateway.sessions, gateway.callers, gateway.sweeper, gateway.bounds)

    async def run(self, stdin: int, stdout: int, *, stop: trio.Event) -> None:
        """Serve, once, until the client closes its end or ``stop`` is set; then calls in flight have
        ``shutdown_timeout``.

        Both file descriptors stay the caller's, and are non-blocking from now on. A client that has gone, or reads
        nothing for 30 s although there is something, ends it at once.
        """
        gateway, wait = self._gateway, Wait()
        limit = gateway.config.listen.limits.body_bytes
        out = Outgoing(gateway.bounds.replies, ADDRESS, wait)
        reader = LineReader(stdin, limit)
        os.set_blocking(stdout, False)

        async def write_out(data: bytes) -> None:
            await write(stdout, data, STALL)

        async with open_channel(self._commons, self._name, ADDRESS, out, _line) as (channel, nursery):
            nursery.start_soon(self._receive, reader, channel, limit)
            nursery.start_soon(self._stop, channel, stop)
            nursery.start_soon(self._limit, channel, out)
            try:
                await out.drain(write_out)
            except (OSError, trio.TooSlowError, ClientGone) as problem:
                log.warning("the client does not read any more: %s", problem)

    async def _receive(self, reader: LineReader, channel: Channel, limit: int) -> None:
        dropped = 0
        while (lines := await reader.receive()) is not None:
            for line in lines:
                try:
                    channel.received(line)
                except GatewayError as problem:
                    channel.complain(problem)
            while dropped < reader.dropped:
                dropped += 1
                channel.complain(
                    InvalidRequest(f"a message of more than {limit} bytes was dropped (listen.limits.body_bytes)")
                )
        channel.end(ShuttingDown("the client has nothing more to say"))
        self._ending.set()

    async def _stop(self, channel: Channel, stop: trio.Event) -> None:
        await stop.wait()
        channel.drain(ShuttingDown("the gateway is shutting down"))
        self._ending.set()

    async def _limit(self, channel: Channel, out: Outgoing) -> None:
        """Give calls in flight their time, once the end has begun."""
        await self._ending.wait()
        await trio.sleep(self._gateway.config.shutdown_timeout)
        channel.end_calls(ShuttingDown("the gateway is shutting down"))
        await trio.sleep(LAST_WORDS)
        out.close()


def _line(data: bytes) -> bytes:
    return one_line(data) + b"\n"
