"""Servers that have something to say outside calls, and clients that listen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import trio
import trio.testing

from mcpgateway import jsonrpc
from mcpgateway.calls.namespace import Namespace
from mcpgateway.demo.server import BOTH
from mcpgateway.errors import JSON, CallCancelled, InvalidParams
from mcpgateway.gateway import Gateway
from mcpgateway.jsonrpc import Message, members_of, value_of
from mcpgateway.protocol.revisions import Era
from mcpgateway.sessions.caller import Caller
from mcpgateway.testing.memory import MemoryLink
from mcpgateway.wire.waiting import Wait
from tests.calls.doubles import Collecting, Library
from tests.servers.doubles import Counting

LEGACY_ONLY = {Era.LEGACY}


class Newsroom(Library):
    """A library whose listings change, whose resources can be subscribed to, and that knows of log levels."""

    notifies = ("tools", "prompts", "resources")  # type: ignore[assignment]  # of a longer tuple
    refuses = False
    """Whether it refuses subscriptions and levels."""

    def __init__(self, *, eras: Collection[Era] = BOTH) -> None:
        super().__init__(eras=eras)
        self.answers: list[Message] = []

    def handle(self, message: Message) -> list[Message]:
        if message.method not in ("resources/subscribe", "resources/unsubscribe", "logging/setLevel"):
            return super().handle(message)
        self.seen.append(message)
        if self.refuses:
            return [jsonrpc.error(message.id, InvalidParams("not here"))]
        return [jsonrpc.result(message.id or b"", {})]

    def answered(self, message: Message) -> list[Message]:
        self.answers.append(message)
        return super().answered(message)

    def _capabilities(self) -> dict[str, JSON]:
        capabilities = super()._capabilities()
        return {**capabilities, "resources": {"listChanged": True, "subscribe": True}}

    def asked_for(self, method: str, member: str = "uri") -> list[JSON]:
        """What each request of a method named."""
        return [value_of(members_of(message.params)[member]) for message in self.asked(method)]


class Stream(Collecting):
    """The GET stream of a client."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = trio.Event()

    async def open(self) -> None:
        await trio.lowlevel.checkpoint()
        self.opened.set()

    @property
    def methods(self) -> list[str]:
        return [(message.method or "").removeprefix("notifications/") for message in self.messages]

    def params(self, member: str) -> list[JSON]:
        return [value_of(members_of(message.params)[member]) for message in self.messages]


def newsroom(name: str, *, eras: Collection[Era] = frozenset(LEGACY_ONLY)) -> Counting:
    """An adapter to a `Newsroom` of this name."""
    return Counting(name, type(name, (Newsroom,), {"name": name}), eras=eras)


def room(adapter: Counting, link: int = -1) -> Newsroom:
    """The server behind a link."""
    host = adapter.links[link].host
    assert isinstance(host, Newsroom)
    return host


@asynccontextmanager
async def listening(gateway: Gateway, namespace: Namespace, caller: Caller) -> AsyncIterator[Stream]:
    """A client with its stream open; ended with the block, as by a client that closes it."""
    stream, wait = Stream(), Wait()
    session = caller.session
    assert session is not None

    async def listen() -> None:
        try:
            with session.listening(wait):
                await namespace.listen(caller, None, wait, stream)
        except CallCancelled:
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await stream.opened.wait()
        await trio.testing.wait_all_tasks_blocked()
        yield stream
        wait.end(CallCancelled("the client closed its stream"))


async def says(link: MemoryLink, method: str, **params: object) -> None:
    """Have a server say something outside any call, and wait until it has gone where it goes."""
    link.send(jsonrpc.notification(f"notifications/{method}", params))
    await trio.testing.wait_all_tasks_blocked()


async def asks(link: MemoryLink, id: bytes, method: str) -> None:
    link.send(jsonrpc.request(id, method, {}))
    await trio.testing.wait_all_tasks_blocked()
