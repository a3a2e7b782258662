"""A small client for tests of links: makes requests in the link's era, collects what comes back out of turn."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Adapter, Back, Event, Link, NoBack, Offer, Reply, Request
from mcpgateway.errors import JSON
from mcpgateway.jsonrpc import Message, members_of, raw_of, value_of
from mcpgateway.protocol import envelope
from mcpgateway.protocol.handshake import initialize_params
from mcpgateway.protocol.headers import request_headers
from mcpgateway.protocol.revisions import LATEST_LEGACY, Era
from mcpgateway.wire.waiting import Wait

CAPABILITIES: Final = Raw(b'{"elicitation":{}}')
_INFO: Final = Raw(b'{"name":"test","version":"0"}')


def expect(holds: bool, otherwise: str) -> None:
    """Raise `AssertionError` unless something holds; unlike ``assert``, under ``python -O`` too."""
    if not holds:
        raise AssertionError(otherwise)


def make_offer(era: Era | None, *, hears: bool = False) -> Offer:
    """An offer of a client that may be asked something."""
    return Offer(era, initialize_params(LATEST_LEGACY, CAPABILITIES, _INFO), CAPABILITIES, hears)


def params_of(link: Link, tool: str, arguments: Mapping[str, JSON], token: bytes | None = None) -> Raw:
    """The params of a ``tools/call``, with an envelope where the link's era has one."""
    params: dict[str, object] = {"name": tool, "arguments": arguments}
    if token is not None:
        params["_meta"] = {"progressToken": Raw(token)}
    return _stamped(link, raw_of(params))


def _stamped(link: Link, params: Raw) -> Raw:
    agreed = link.negotiated
    if agreed.era is Era.LEGACY:
        return params
    return envelope.stamp(params, revision=agreed.revision, capabilities=CAPABILITIES, client_info=_INFO)


def text_of(reply: Reply) -> str:
    """The text of a tool result's first content block; `AssertionError` for anything else."""
    return str(value_of(members_of(_contents(reply)[0])["text"]))


def _contents(reply: Reply) -> list[Raw]:
    expect(reply.message.result is not None, f"expected a result, got {reply.message.encode()[:300]!r}")
    return [raw_of(part) for part in _list(members_of(reply.message.result)["content"])]


def _list(raw: Raw) -> list[JSON]:
    value = value_of(raw)
    return value if isinstance(value, list) else []


def structured(reply: Reply) -> dict[str, JSON]:
    """The structured content of a tool result, decoded; `AssertionError` for anything else."""
    raw = None if reply.message.result is None else members_of(reply.message.result).get("structuredContent")
    expect(raw is not None, f"expected structured content, got {reply.message.encode()[:300]!r}")
    return {name: value_of(value) for name, value in members_of(raw).items()}


class Collector:
    """A back-channel, or a `Receive` callback, that keeps what it gets."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._unread: deque[Message] = deque()
        self._came = trio.Event()

    async def send(self, event: Event) -> None:
        await trio.lowlevel.checkpoint()
        if event.message is not None:
            self(event.message)

    def __call__(self, message: Message) -> None:
        self.messages.append(message)
        self._unread.append(message)
        self._came.set()

    async def next(self) -> Message:
        """The next message that was not returned yet; waits for it."""
        while not self._unread:
            self._came = trio.Event()
            await self._came.wait()
        return self._unread.popleft()


class Started:
    """A call that runs in a task of its own."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.done = trio.Event()
        self._reply: Reply | None = None
        self._problem: Exception | None = None

    async def run(self, link: Link, request: Request, back: Back) -> None:
        """Run the call; in the nursery of whoever started it."""
        try:
            with self.scope:
                self._reply = await link.call(request, back)
        except Exception as problem:  # whatever it is, it is what the test asks for
            self._problem = problem
        finally:
            self.done.set()

    async def outcome(self) -> Reply:
        """The reply, once it is there; raises what the call raised."""
        await self.done.wait()
        if self._problem is not None:
            raise self._problem
        if self._reply is None:
            raise AssertionError("the call was cancelled")
        return self._reply

    async def problem(self) -> Exception:
        """What the call raised; `AssertionError` where it was answered."""
        await self.done.wait()
        if self._problem is None:
            raise AssertionError(f"the call should have failed: {self._reply and self._reply.message.encode()[:300]!r}")
        return self._problem


class Client:
    """A link, the nursery that it lives in, and what it received outside calls."""

    def __init__(self, link: Link, nursery: trio.Nursery, received: Collector) -> None:
        self.link = link
        self.nursery = nursery
        self.received = received

    def stamped(self, params: Mapping[str, object]) -> Raw:
        """Params with an envelope where the link's era has one."""
        return _stamped(self.link, raw_of(params))

    async def call(self, tool: str, arguments: Mapping[str, JSON] | None = None, *, id: bytes = b"1") -> Reply:
        """Call a tool and wait for the reply."""
        return await self.request("tools/call", params_of(self.link, tool, arguments or {}), id=id)

    async def request(self, method: str, params: Raw, *, id: bytes = b"1") -> Reply:
        """Send a request, with these very params, and wait for the reply."""
        return await self.link.call(_request(self.link, method, params, id, Wait()), NoBack())

    def start(
        self,
        nursery: trio.Nursery,
        tool: str,
        arguments: Mapping[str, JSON] | None = None,
        *,
        token: bytes | None = None,
        back: Back | None = None,
        wait: Wait | None = None,
        alone: bool = False,
    ) -> Started:
        """Call a tool in a task of its own. Every call has the id ``1``: clients do not know of each other's ids."""
        params = params_of(self.link, tool, arguments or {}, token)
        return self.start_request(nursery, "tools/call", params, back=back, wait=wait, alone=alone)

    def start_request(
        self,
        nursery: trio.Nursery,
        method: str,
        params: Raw,
        *,
        id: bytes = b"1",
        back: Back | None = None,
        wait: Wait | None = None,
        alone: bool = False,
    ) -> Started:
        """Send a request in a task of its own."""
        started = Started()
        request = _request(self.link, method, params, id, wait or Wait(), alone=alone)
        nursery.start_soon(started.run, self.link, request, back or NoBack(), name=f"{method} under test")
        return started


def _request(link: Link, method: str, params: Raw, id: bytes, wait: Wait, *, alone: bool = False) -> Request:
    message = jsonrpc.request(id, method, params)
    headers = request_headers(message) if link.negotiated.era is Era.MODERN else None
    return Request(message, wait, headers, alone=alone)


@asynccontextmanager
async def open_client(adapter: Adapter, era: Era | None, *, hears: bool = False) -> AsyncIterator[Client]:
    """A client on a link of its own, with nothing but the link's tasks in the nursery; ``hears`` as in the `Offer`."""
    received = Collector()
    async with trio.open_nursery() as nursery:
        link = await adapter.connect(nursery, make_offer(era, hears=hears), received)
        try:
            yield Client(link, nursery, received)
        finally:
            await link.aclose()
            nursery.cancel_scope.cancel(reason="the link is closed")
