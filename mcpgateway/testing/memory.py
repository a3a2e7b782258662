"""An adapter whose server lives in the same process and answers at once: the fast substrate for tests of what is above.

It keeps every rule of `mcpgateway.adapters.base` without a transport, and lets a test make the bad moments happen:
a server that is dead or silent, replies held back, a crash, a message out of the blue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from typing import Final

import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Back, Event, Link, LinkStatistics, Offer, Receive, Reply, Request
from mcpgateway.demo.server import BOTH, MiniServer
from mcpgateway.errors import EraMismatch, ServerError, ServerMisbehaved, ServerUnavailable
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol import correlator, envelope
from mcpgateway.protocol.correlator import Correlator, Pending
from mcpgateway.protocol.handshake import read_discover, read_initialize
from mcpgateway.protocol.negotiated import Negotiated
from mcpgateway.protocol.revisions import LATEST_MODERN, Era
from mcpgateway.testing.fixture_server import Crashed, FixtureServer

_INITIALIZED: Final = jsonrpc.notification("notifications/initialized")


class MemoryAdapter:
    """Reaches a fresh `MiniServer` (by default a `FixtureServer`) with every link.

    Set ``dead`` to refuse links and ``silent`` to never answer the handshake; ``links`` are all that were made.
    ``link_class`` lets a test put in a link with a fault of its own.
    """

    link_class: type[MemoryLink]

    def __init__(
        self, server: str, make: Callable[..., MiniServer] = FixtureServer, *, eras: Collection[Era] = BOTH
    ) -> None:
        self._server = server
        self._make = make
        self._eras = eras
        self.dead = False
        self.silent = False
        self.links: list[MemoryLink] = []

    @property
    def server(self) -> str:
        return self._server

    async def connect(self, nursery: trio.Nursery, offer: Offer, receive: Receive) -> Link:
        await trio.lowlevel.checkpoint()
        if self.silent:
            await trio.sleep_forever()
        if self.dead:
            raise ServerUnavailable(self._server, "is dead")
        host = self._make(eras=self._eras)
        link = self.link_class(self._server, host, self._shake(host, offer), receive)
        self.links.append(link)
        nursery.start_soon(link.live, name=f"memory link to {self._server}")
        return link

    def _shake(self, host: MiniServer, offer: Offer) -> Negotiated:
        era = offer.era or (Era.MODERN if Era.MODERN in self._eras else Era.LEGACY)
        if era not in self._eras:
            (only,) = self._eras
            raise EraMismatch(self._server, client=era.value, server_era=only.value)
        if era is Era.MODERN:
            params = envelope.stamp(None, revision=LATEST_MODERN, capabilities=offer.capabilities)
            return read_discover(_result(host, "server/discover", params), server=self._server)
        negotiated = read_initialize(_result(host, "initialize", offer.initialize), server=self._server, stateful=True)
        host.handle(_INITIALIZED)
        return negotiated


def _result(host: MiniServer, method: str, params: Raw) -> Raw:
    (answer,) = host.handle(jsonrpc.request(b'"handshake"', method, params))
    return answer.result or Raw(b"null")


class MemoryLink:
    """A link to a server object; ``host`` is that object. Nothing is written, so nothing needs a writer."""

    def __init__(self, server: str, host: MiniServer, negotiated: Negotiated, receive: Receive) -> None:
        self.host = host
        self._server = server
        self._negotiated = negotiated
        self._receive = receive
        self._correlator = Correlator()
        self._inboxes: dict[Pending, _Inbox] = {}
        self._held: list[Message] | None = None
        self._scope = trio.CancelScope()
        self._failure = ""
        self._closed = trio.Event()

    @property
    def negotiated(self) -> Negotiated:
        return self._negotiated

    @property
    def closed(self) -> trio.Event:
        return self._closed

    @property
    def failure(self) -> str:
        return self._failure

    async def live(self) -> None:
        """The task of the link: it ends with the link, and the link with it."""
        try:
            with self._scope:
                await trio.sleep_forever()
        finally:
            self.crash("the nursery of the link ended")

    async def call(self, request: Request, back: Back) -> Reply:
        await trio.lowlevel.checkpoint()
        request.wait.check()
        self._check_open()
        pending, data = self._correlator.begin(request.message, alone=request.alone)
        inbox = self._inboxes[pending] = _Inbox()
        try:
            self._to_server(jsonrpc.decode(data))
            return await inbox.reply(request, back)
        finally:
            del self._inboxes[pending]
            self._give_up(pending)

    def _give_up(self, pending: Pending) -> None:
        told = self._correlator.cancel(pending, "the call ended")
        if told is not None and not self._closed.is_set():
            self._to_server(jsonrpc.decode(told))

    async def notify(self, message: Message) -> None:
        await trio.lowlevel.checkpoint()
        self._check_open()
        self._to_server(message)

    async def aclose(self) -> None:
        self.crash("closed")
        await trio.lowlevel.checkpoint()

    def statistics(self) -> LinkStatistics:
        return LinkStatistics(in_flight=len(self._correlator), calls=self._correlator.begun)

    # ---- for the test -----------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Keep back whatever the server sends, until `let_go`."""
        self._held = []

    def let_go(self) -> None:
        """Deliver what was kept back, and keep back no more."""
        held, self._held = self._held or [], None
        for message in held:
            self.send(message)

    def send(self, message: Message) -> None:
        """Deliver a message as if the server had sent it."""
        if self._held is not None:
            self._held.append(message)
        else:
            self._deliver(self._correlator.received(message.encode()))

    def crash(self, reason: str) -> None:
        """Break the link; every call in flight fails with `ServerUnavailable`. The first reason counts."""
        if self._closed.is_set():
            return
        self._failure = reason
        self._closed.set()
        self._scope.cancel(reason=reason)
        for pending in self._correlator.fail_all():
            self._inboxes[pending].put(ServerUnavailable(self._server, reason))

    # ---- the way of a message ---------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise ServerUnavailable(self._server, self._failure)

    def _to_server(self, message: Message) -> None:
        try:
            answers = self.host.handle(message)
        except Crashed as problem:
            self.crash(str(problem))
            return
        for answer in answers:
            self.send(answer)

    def _deliver(self, delivery: correlator.Delivery) -> None:
        match delivery:
            case correlator.Reply(pending, message):
                self._inboxes[pending].put(Reply(message))
            case correlator.ToCall(pending, message):
                self._inboxes[pending].put(Event(message))
            case correlator.NoReply(pending, reason):
                self._inboxes[pending].put(ServerMisbehaved(self._server, reason))
            case correlator.Outside(message):
                self._receive(message)
            case _:
                pass  # late, or junk


MemoryAdapter.link_class = MemoryLink


class _Inbox:
    """What has come for one call, and how its task waits for more."""

    def __init__(self) -> None:
        self._items: deque[Event | Reply | ServerError] = deque()
        self._woken = trio.Event()

    def put(self, item: Event | Reply | ServerError) -> None:
        self._items.append(item)
        self.wake()

    def wake(self) -> None:
        self._woken.set()

    async def reply(self, request: Request, back: Back) -> Reply:
        """Hand events to ``back`` until the reply is there; raises what ends the call instead."""
        wait = request.wait
        wait.wake = self.wake
        try:
            while True:
                wait.check()
                if not self._items:
                    self._woken = trio.Event()
                    await self._woken.wait()
                    continue
                item = self._items.popleft()
                if isinstance(item, ServerError):
                    raise item
                if isinstance(item, Reply):
                    return item
                await back.send(item)
        finally:
            wait.wake = None
