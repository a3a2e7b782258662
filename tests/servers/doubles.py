"""Servers with one bad moment each, and the frame in which a `Server` is tested: in this process, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager

import attrs
import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Adapter, Link, NoBack, Offer, Receive, Request
from mcpgateway.config.model import HttpServer, InProcessServer, Isolation, Links, ServerConfig
from mcpgateway.demo.server import BOTH, MiniServer
from mcpgateway.errors import JSON, ErrorReply, ServerUnavailable
from mcpgateway.protocol.handshake import initialize_params
from mcpgateway.protocol.revisions import LATEST_LEGACY, Era
from mcpgateway.servers.ledger import LinkKey, Slot
from mcpgateway.servers.server import Server
from mcpgateway.testing import MemoryAdapter
from mcpgateway.testing.fixture_server import FixtureServer
from mcpgateway.testing.memory import MemoryLink
from mcpgateway.wire.waiting import Wait

LEGACY = LinkKey(Era.LEGACY, b"{}")
MODERN = LinkKey(Era.MODERN)
INFO = Raw(b'{"name":"gateway under test","version":"0"}')


class Counting(MemoryAdapter):
    """Notes when it was asked for a link and with which offer, and how many links were open at a time at most."""

    def __init__(
        self, name: str = "s", make: Callable[..., MiniServer] = FixtureServer, *, eras: Collection[Era] = BOTH
    ) -> None:
        super().__init__(name, make, eras=eras)
        self.delay = 0.0
        """Seconds that making a link takes."""
        self.stateful = True
        """Whether its server keeps sessions, as a server over HTTP may not."""
        self.times: list[float] = []
        self.offers: list[Offer] = []
        self.most = 0

    async def connect(self, nursery: trio.Nursery, offer: Offer, receive: Receive) -> Link:
        self.times.append(trio.current_time())
        self.offers.append(offer)
        await trio.sleep(self.delay)
        link = await super().connect(nursery, offer, receive)
        if not self.stateful:
            made = self.links[-1]
            made._negotiated = attrs.evolve(made.negotiated, stateful=False)
        self.most = max(self.most, len(self.open))
        return link

    @property
    def open(self) -> list[MemoryLink]:
        return [link for link in self.links if not link.closed.is_set()]

    @property
    def host(self) -> FixtureServer:
        """The server behind the newest link."""
        host = self.links[-1].host
        assert isinstance(host, FixtureServer)
        return host


class FailsAtFirst(Counting):
    """Cannot be reached for the first so many attempts."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self._left = failures

    async def connect(self, nursery: trio.Nursery, offer: Offer, receive: Receive) -> Link:
        self.dead = self._left > 0
        self._left -= 1
        return await super().connect(nursery, offer, receive)


class TakesItsTime(Counting):
    """Needs ``delay`` seconds to make a link, and may be asked for many at a time."""

    def __init__(self, delay: float = 3.0, *, eras: Collection[Era] = BOTH) -> None:
        super().__init__(eras=eras)
        self.delay = delay


class AcceptsThenCloses(Counting):
    """Shakes hands, and is gone ``life`` seconds later."""

    def __init__(self, life: float) -> None:
        super().__init__()
        self._life = life

    async def connect(self, nursery: trio.Nursery, offer: Offer, receive: Receive) -> Link:
        link = await super().connect(nursery, offer, receive)
        nursery.start_soon(self._end, self.links[-1])
        return link

    async def _end(self, link: MemoryLink) -> None:
        await trio.sleep(self._life)
        link.crash("went away")


class HasABug(Counting):
    """An adapter that raises what no adapter may raise."""

    async def connect(self, nursery: trio.Nursery, offer: Offer, receive: Receive) -> Link:
        raise KeyError("oops")


class Refuses(Counting):
    """Answers the handshake of a client that calls itself ``guest`` with a JSON-RPC error."""

    async def connect(self, nursery: trio.Nursery, offer: Offer, receive: Receive) -> Link:
        if offer.era is Era.LEGACY and b'"guest"' in bytes(offer.initialize):
            raise ServerUnavailable(self.server, "refused initialize") from ErrorReply(
                -32001, "go away", {"why": "you"}
            )
        return await super().connect(nursery, offer, receive)


class SlowToClose(MemoryLink):
    """A link that takes two seconds to close."""

    async def aclose(self) -> None:
        self.crash("closed")
        await trio.sleep(2)


def pipe_config(isolation: Isolation = Isolation.AUTO, **links: object) -> InProcessServer:
    return InProcessServer("s", isolation=isolation, links=Links(**links), module="m:s")  # type: ignore[arg-type]  # as given


def http_config(isolation: Isolation = Isolation.AUTO, **links: object) -> HttpServer:
    return HttpServer("s", isolation=isolation, links=Links(**links), url="http://s/mcp")  # type: ignore[arg-type]  # as given


@asynccontextmanager
async def running(adapter: Adapter, config: ServerConfig | None = None, *, lazy: bool = False) -> AsyncIterator[Server]:
    """A server that has been tried."""
    server = Server(config or pipe_config(), adapter, client_info=INFO, random=lambda: 0.0, lazy=lazy)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        await server.tried.wait()
        yield server
        await server.stop()
        nursery.cancel_scope.cancel(reason="the test is over")


async def call(slot: Slot, tool: str, arguments: Mapping[str, JSON] | None = None, wait: Wait | None = None) -> Raw:
    """Call a tool on a leased legacy link; the raw result."""
    assert slot.link is not None
    message = jsonrpc.request(b"1", "tools/call", {"name": tool, "arguments": arguments or {}})
    reply = await slot.link.call(Request(message, wait or Wait()), NoBack())
    assert reply.message.result is not None
    return reply.message.result


def handshake(name: str) -> Raw:
    """The params of a client's own ``initialize``."""
    return initialize_params(LATEST_LEGACY, Raw(b"{}"), jsonrpc.raw_of({"name": name, "version": "1"}))
