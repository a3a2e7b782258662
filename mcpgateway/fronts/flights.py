"""A call on its way through the HTTP front: noted while it is in flight, and answered without a task if it can be.

A call that is silent for long gets its event stream before there is an event. Comments keep that alive, while on the
way of a response that has not begun somebody may lose patience (proxies after 30 s and more, of silence); and its first
event is the one to which a legacy client comes back that has lost its connection all the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeAlias

import trio

from mcpgateway.adapters.base import Outcome, Reply
from mcpgateway.calls.namespace import Namespace
from mcpgateway.errors import GatewayError
from mcpgateway.fronts.batches import BatchBack
from mcpgateway.fronts.in_flight import go_on
from mcpgateway.fronts.replies import JSON_FIELDS, HttpBack, status_of_reply, tail
from mcpgateway.protocol.revisions import Era
from mcpgateway.sessions.store import Session
from mcpgateway.wire import sse
from mcpgateway.wire.bounds import Bound
from mcpgateway.wire.http1.exchange import Exchange
from mcpgateway.wire.waiting import Wait

Answer: TypeAlias = Callable[[Awaitable[Reply], HttpBack, bytes, Era, Callable[[], None]], Awaitable[None]]
"""Awaits what serves a call and answers with it; the last argument is called when the call itself is over."""


LOOKS: Final = 4
"""How often the calls in flight are looked at in the time after which their streams begin."""


class Flight:
    """One call in flight: ``calls`` and ``bound`` hold it while it is, and ``answer`` brings its client what a task has
    to bring. ``back`` is the back-channel of a call that has a task."""

    __slots__ = (
        "_answer",
        "_back",
        "_bound",
        "_calls",
        "_exchange",
        "_fields",
        "_id",
        "_namespace",
        "_session",
        "_wait",
    )

    def __init__(
        self,
        calls: dict[Wait, Flight],
        bound: Bound,
        answer: Answer,
        exchange: Exchange,
        wait: Wait,
        namespace: Namespace,
        session: Session | None,
        id: bytes,
        fields: bytes,
        back: HttpBack | BatchBack | None = None,
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
        self._back = back
        """Without a task there is one from when the stream begins, or from when a task goes on with the call."""

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
        self._calls[self._wait] = self

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
        if not isinstance(outcome, Reply) or self._back is not None:
            self._exchange.continue_with(partial(self._go_on, outcome))
            return
        self.over()
        if outcome.event is None or owner_of(self._namespace, self._session) is not None:
            era = Era.MODERN if self._session is None else Era.LEGACY
            data = outcome.message.encode_as(self._id)
            self._exchange.respond_now(status_of_reply(outcome, era), data, JSON_FIELDS + self._fields)
        else:
            self._exchange.stream_now(sse.HEADERS + self._fields, tail(outcome, self._id))

    async def _go_on(self, outcome: Outcome) -> None:
        era = Era.MODERN if self._session is None else Era.LEGACY
        self._back = back = self._back if isinstance(self._back, HttpBack) else self._back_channel()
        await self._answer(go_on(outcome, back), back, self._id, era, self.over)

    def _back_channel(self) -> HttpBack:
        """That of a call without a task."""
        owner = owner_of(self._namespace, self._session)
        return HttpBack(self._exchange, self._fields, outlived=self._session is not None, owner=owner)

    def open(self) -> None:
        """Begin the event stream of the response, if that has not begun, and if the client says that it reads some."""
        exchange = self._exchange
        if exchange.started or b"text/event-stream" not in exchange.request.headers.get(b"accept", b"").lower():
            return
        if self._back is None:
            self._back = self._back_channel()
        self._back.open_now()


async def open_silent(calls: dict[Wait, Flight], after: Callable[[], float | None]) -> None:
    """Begin the streams of calls that are silent for so many seconds, and up to a quarter longer; for ever.

    What a call pays for this is nothing: those that were in flight at one look and are still there some looks later
    are old.
    """
    looks: deque[list[Wait]] = deque([[]] * LOOKS, maxlen=LOOKS)
    while True:
        seconds = after()
        await trio.sleep((seconds or 60.0) / LOOKS)
        for wait in looks[0]:
            flight = calls.get(wait)
            if flight is not None and seconds is not None:
                flight.open()
        looks.append([*calls])


def owner_of(namespace: Namespace, session: Session | None) -> Session | None:
    """The session whose streams are the gateway's own; ``None`` where they are a server's, or there is no session."""
    return None if session is None or namespace.passes_streams(session.caller) else session
