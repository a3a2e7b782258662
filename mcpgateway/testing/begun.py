"""Holds `Begins.begin` to the contract of `Link.call`: an adapter whose links begin every call that they can.

    check_adapter(...) with AdapterUnderTest(Begun(adapter), ...)

What a front does with a call that was begun is done here in the simplest way: wait for what becomes of it, and go on
with it in the same task if it turns out to be more than one reply.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from mcpgateway.adapters.base import Adapter, Back, Done, Link, LinkStatistics, Offer, Outcome, Receive, Reply, Request
from mcpgateway.errors import CallCancelled
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.negotiated import Negotiated


class Begun:
    """An adapter like the one that it wraps. ``begun`` counts the calls that were begun, by all its links."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter
        self.begun = 0

    @property
    def server(self) -> str:
        return self._adapter.server

    async def connect(self, nursery: trio.Nursery, offer: Offer, receive: Receive) -> Link:
        return _BegunLink(self, await self._adapter.connect(nursery, offer, receive))


class _BegunLink:
    def __init__(self, adapter: Begun, link: Link) -> None:
        self._adapter = adapter
        self._link = link
        self._begin: Callable[[Request, Done], bool] | None = getattr(link, "begin", None)

    @property
    def negotiated(self) -> Negotiated:
        return self._link.negotiated

    @property
    def closed(self) -> trio.Event:
        return self._link.closed

    @property
    def failure(self) -> str:
        return self._link.failure

    async def call(self, request: Request, back: Back) -> Reply:
        outcomes: list[Outcome] = []
        settled = trio.Event()

        def done(outcome: Outcome) -> None:
            outcomes.append(outcome)
            settled.set()

        if self._begin is None or not self._begin(request, done):
            return await self._link.call(request, back)
        self._adapter.begun += 1
        try:
            await settled.wait()
        except trio.Cancelled:
            request.wait.end(CallCancelled("the caller was cancelled"))
            raise
        (outcome,) = outcomes
        if isinstance(outcome, Reply):
            return outcome
        if isinstance(outcome, Exception):
            raise outcome
        return await outcome(back)

    async def notify(self, message: Message) -> None:
        await self._link.notify(message)

    async def aclose(self) -> None:
        await self._link.aclose()

    def statistics(self) -> LinkStatistics:
        return self._link.statistics()
