"""A call on its way through the HTTP front: noted while it is in flight, and answered without a task if it can be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

from mcpgateway.adapters.base import Continuation, Outcome, Reply
from mcpgateway.calls.namespace import Namespace
from mcpgateway.errors import GatewayError
from mcpgateway.fronts.replies import JSON_FIELDS, HttpBack, status_of_reply, tail
from mcpgateway.protocol.revisions import Era
from mcpgateway.sessions.store import Session
from mcpgateway.wire import sse
from mcpgateway.wire.bounds import Bound
from mcpgateway.wire.http1.exchange import Exchange
from mcpgateway.wire.waiting import Wait

Answer: TypeAlias = Callable[[Awaitable[Reply], HttpBack, bytes, Era, Callable[[], None]], Awaitable[None]]
"""Awaits what serves a call and answers with it; the last argument is called when the call itself is over."""


class Flight:
    """One call in flight: ``calls`` and ``bound`` hold it while it is, and ``answer`` brings its client what a task has
    to bring."""

    __slots__ = ("_answer", "_bound", "_calls", "_exchange", "_fields", "_id", "_namespace", "_session", "_wait")

    def __init__(
        self,
        calls: dict[Wait, None],
        bound: Bound,
        answer: Answer,
        exchange: Exchange,
        wait: Wait,
        namespace: Namespace,
        session: Session | None,
        id: bytes,
        fields: bytes,
    ) -> None:
        self._calls = calls
        self._bound = bound
        self._answer = answer
        self._exchange = exchange
        self._wait = wait
        self._namespace = namespace
        self._session = session
        self._id = id
        self._fields = fields

    def enter(self) -> None:
        """Note the call as in flight.

        :raises InvalidRequest: its id is in use
        :raises TooBusy: there are too many
        """
        self._bound.take(self._exchange.request.address)
        try:
            if self._session is not None:
                self._session.begin(self._id, self._wait)
        except GatewayError:
            self._bound.release(self._exchange.request.address)
            raise
        self._calls[self._wait] = None

    def over(self) -> None:
        """Note that it no longer is; idempotent."""
        if self._wait not in self._calls:
            return
        del self._calls[self._wait]
        self._bound.release(self._exchange.request.address)
        if self._session is not None:
            self._session.end(self._id, self._wait)

    def settled(self, outcome: Outcome) -> None:
        """Answer, here and now where it is a reply; anything else is for the connection's task."""
        if not isinstance(outcome, Reply):
            self._exchange.continue_with(partial(self._go_on, outcome))
            return
        self.over()
        if outcome.event is None or owner_of(self._namespace, self._session) is not None:
            era = Era.MODERN if self._session is None else Era.LEGACY
            data = outcome.message.encode_as(self._id)
            self._exchange.respond_now(status_of_reply(outcome, era), data, JSON_FIELDS + self._fields)
        else:
            self._exchange.stream_now(sse.HEADERS + self._fields, tail(outcome, self._id))

    async def _go_on(self, outcome: Exception | Continuation) -> None:
        era = Era.MODERN if self._session is None else Era.LEGACY
        owner = owner_of(self._namespace, self._session)
        back = HttpBack(self._exchange, self._fields, outlived=era is Era.LEGACY, owner=owner)

        async def reply() -> Reply:
            if isinstance(outcome, Exception):
                raise outcome
            return await outcome(back)

        await self._answer(reply(), back, self._id, era, self.over)


def owner_of(namespace: Namespace, session: Session | None) -> Session | None:
    """The session whose streams are the gateway's own; ``None`` where they are a server's, or there is no session."""
    return None if session is None or namespace.passes_streams(session.caller) else session
