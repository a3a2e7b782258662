"""Links to servers behind an HTTP URL, in both eras, over the connections of one client.

A link is a negotiation, and in the legacy era a session; it has no socket of its own. Each call is one POST, sent and
read by the calling task, or begun without one (`mcpgateway.adapters.http_flights`). Closing the connection, or
resetting the stream on it, cancels a modern call (2026-07-28, transports); a legacy server is told with
``notifications/cancelled``.

What the responses mean is the business of `mcpgateway.adapters.http_replies`; what comes on the streams that legacy
servers are asked for with GET, and how a stream that was cut off is resumed, is that of
`mcpgateway.adapters.http_streams`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Back, Done, LinkStatistics, NoStream, Offer, Receive, Reply, Request, StreamEnded
from mcpgateway.adapters.http_flights import Flight
from mcpgateway.adapters.http_replies import (
    MAX_REPLY,
    EventReader,
    Refused,
    Subscription,
    go_on,
    is_stream,
    read_reply,
    refusal,
    under_own_id,
)
from mcpgateway.adapters.http_streams import Streams
from mcpgateway.errors import ServerMisbehaved, ServerSessionLost, ServerTimeout, ServerUnavailable
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.negotiated import Negotiated
from mcpgateway.protocol.revisions import Era
from mcpgateway.wire.http_client import HttpError, Prepared, Response
from mcpgateway.wire.waiting import Wait

if TYPE_CHECKING:
    from mcpgateway.adapters.streamable_http import StreamableHttpAdapter

log = logging.getLogger("mcpgateway.server")

COURTESY: Final = 2.0
"""Seconds for what a server is only told: cancellations, the end of a session."""
ATTENTION: Final = 1.0
"""Seconds for a server to answer the GET of a new link before the link is used all the same."""

SESSION: Final = b"mcp-session-id"
_LISTEN: Final = "subscriptions/listen"


class StreamableHttpLink:
    """One negotiation with a server, and its session where it keeps one. See `mcpgateway.adapters.base.Link`."""

    def __init__(
        self,
        adapter: StreamableHttpAdapter,
        negotiated: Negotiated,
        nursery: trio.Nursery,
        session: bytes | None,
        offer: Offer,
    ) -> None:
        self.negotiated = negotiated
        self.closed = trio.Event()
        self.failure = ""
        """Empty exactly while the link is open."""
        self._adapter = adapter
        self.server = adapter.server
        self._nursery = nursery
        self._legacy = negotiated.era is Era.LEGACY
        self.stateful = session is not None
        revision = negotiated.revision.encode() if self._legacy else None
        self._own = {**adapter.fields, b"mcp-protocol-version": revision, SESSION: session}
        self._client = adapter.client
        self._post = self._client.prepare(b"POST", self._own)
        self._subscribe = self._client.prepare(b"POST", self._own, patient=True)
        self.waits: set[Wait] = set()
        """Calls under way."""
        self._settled = trio.lowlevel.ParkingLot()
        self._hears = offer.hears
        self._streams = Streams(self.server, self._get, adapter.chance, stateful=self.stateful)
        self._listening: set[Wait] = set()
        """Streams that the client listens to; no calls."""
        self._hearing = trio.CancelScope()
        self._calls = 0
        adapter.links += 1
        nursery.start_soon(self._live, name=f"link {self.server}")

    async def _live(self) -> None:
        """The link's task: ends with it and its calls, and ends both when the nursery is cancelled."""
        try:
            await self.closed.wait()
            while self.waits:
                await self._settled.park()
        finally:
            self._end("the server is being stopped")
            self._fail_calls("the server is being stopped")
            await self._adapter.tidy()

    def statistics(self) -> LinkStatistics:
        return LinkStatistics(in_flight=len(self.waits), calls=self._calls)

    async def call(self, request: Request, back: Back) -> Reply:
        """See `mcpgateway.adapters.base.Link.call`. Costs 2 µs beside the pool's exchange, the codec included."""
        if not (request.alone and self._hears):
            return await self._call(request, back)
        with self._streams.alone(back) as shared:
            return await self._call(request, shared)

    async def _call(self, request: Request, back: Back) -> Reply:
        wait, message = request.wait, request.message
        wait.check()
        if self.failure:
            self._check_open()
        self._calls += 1
        id = b"%d" % self._calls
        if message.method != _LISTEN:
            return await self.followed(wait, id, self._exchange(self._post, id, request, back))
        exchange = self._exchange(self._subscribe, id, request, Subscription(back, message))
        reply = await self.followed(wait, id, exchange)
        return Reply(under_own_id(reply.message, message), reply.status, reply.event)

    async def _exchange(self, prepared: Prepared, id: bytes, request: Request, back: Back) -> Reply:
        response = await prepared.exchange(request.wait, request.message.encode_as(id), request.headers)
        if is_stream(response):
            return await self.read_on(response, self.reader(response, id), id, request, back)
        return await read_reply(self.server, response, id, request.wait, back, stateful=self.stateful)

    def reader(self, response: Response, id: bytes) -> EventReader:
        return EventReader(self.server, response.status, id, resumes=self._legacy)

    async def read_on(self, response: Response, reader: EventReader, id: bytes, request: Request, back: Back) -> Reply:
        """Read a stream to the reply in it, which may come on another one that resumes it."""
        if self._legacy and not self._hears:
            self._streams.reads(id, request.message.id or b"null", request.wait)
        try:
            reply = await go_on(response, reader, request.wait, back)
        except StreamEnded:
            if not self._hears:
                self.note(reader, id, request)
                raise
            await response.aclose()
            return await self._resume(reader, request.wait, back)
        finally:
            self._streams.left(id)
            await response.aclose()
        self.note(reader, id, request)
        return reply

    async def _resume(self, reader: EventReader, wait: Wait, back: Back) -> Reply:
        try:
            return await self._streams.resume(reader, wait, back)
        except ServerSessionLost as problem:
            # Whoever is told that the session was lost makes the call once more; but this one had begun.
            self.over(wait)
            self._end(problem.reason)
            raise ServerUnavailable(self.server, "lost the session in the middle of the call") from None

    def note(self, reader: EventReader, id: bytes, request: Request) -> None:
        """Remember whose call it was, where its client may resume the stream: it may have gone meanwhile."""
        if reader.resumable and not self._hears:
            self._streams.note(id, request.message.id or b"null")

    async def followed(self, wait: Wait, id: bytes, reading: Awaitable[Reply]) -> Reply:
        """Await the reply of a call that is under way; however that fails, see to what the server has to know."""
        self.waits.add(wait)
        try:
            reply = await reading
        except HttpError as problem:
            self.give_up(wait, id, problem)
            raise ServerUnavailable(self.server, str(problem), unsent=problem.unsent) from None
        except BaseException as problem:
            self.give_up(wait, id, problem)
            raise
        self.over(wait)
        if self.failure:
            await self._adapter.tidy()
        return reply

    def begin(self, request: Request, done: Done) -> bool:
        """See `mcpgateway.adapters.base.Begins`."""
        wait, message = request.wait, request.message
        if self.failure or message.method == _LISTEN or wait.ended is not None:
            return False
        id = b"%d" % (self._calls + 1)
        flight = Flight(self, request, id, done)
        abandon = self._post.begin(request.headers, message.encode_as(id), wait, flight.arrived)
        if abandon is None:
            return False
        self._calls += 1
        flight.abandon = abandon
        wait.wake = flight.ended
        self.waits.add(wait)
        return True

    def over(self, wait: Wait) -> None:
        """A call is not under way any more, whatever became of it."""
        self.waits.discard(wait)
        if self.failure:
            self._settled.unpark_all()

    def give_up(self, wait: Wait, id: bytes, problem: BaseException) -> None:
        """A call ended without its reply: tell the server, unless it knows, or cannot know of the call.

        A modern server is told by the closed connection.
        """
        self.over(wait)  # first: the wait may serve for another attempt, and must not end with the link
        if isinstance(problem, ServerSessionLost):
            self._lose(problem.reason)
        over = isinstance(problem, Refused | StreamEnded) or (isinstance(problem, HttpError) and problem.unsent)
        if self._legacy and not over and not self.closed.is_set():
            cancelled = jsonrpc.notification("notifications/cancelled", {"requestId": Raw(id)})
            self._nursery.start_soon(self._tell, cancelled, name=f"cancellation for {self.server}")

    async def _tell(self, message: Message) -> None:
        """Send what nobody waits for."""
        with trio.move_on_after(COURTESY):
            try:
                await self._deliver(message)
            except (HttpError, ServerUnavailable, ServerMisbehaved) as problem:
                log.info("server %r could not be told: %s", self.server, problem)
            except ServerSessionLost as problem:
                self._lose(problem.reason)
        await self._adapter.tidy()

    async def notify(self, message: Message) -> None:
        """See `mcpgateway.adapters.base.Link.notify`; takes up to the server's ``timeout``.

        On a modern link it does nothing: 2026-07-28 has no notifications of a client over HTTP. A cancellation names
        a call whose stream was cut off by the client's id; the server gets the id that it knows.
        """
        self._check_open()
        known = self._streams.cancellation(message) if message.method == "notifications/cancelled" else message
        if not self._legacy or known is None:
            await trio.lowlevel.checkpoint()
            return
        try:
            with trio.fail_after(self._adapter.timeout):
                await self._deliver(known)
        except HttpError as problem:
            raise ServerUnavailable(self.server, str(problem), unsent=problem.unsent) from None
        except ServerSessionLost as problem:
            self._lose(problem.reason)
            raise
        except trio.TooSlowError:
            raise ServerTimeout(self.server, "did not take a notification in time") from None

    async def _deliver(self, message: Message) -> None:
        """POST a message that has no reply; `ServerError` where it is refused."""
        wait = Wait()
        response = await self._post.exchange(wait, message.encode())
        body = await response.read(wait, MAX_REPLY)
        if response.status >= 300:
            raise refusal(self.server, response, body, stateful=self.stateful)

    # ---- GET ---------------------------------------------------------------------------------------------------------

    async def listen(
        self, last_event: bytes | None, wait: Wait, back: Back, opened: Callable[[], Awaitable[None]]
    ) -> None:
        """See `mcpgateway.adapters.base.Listens`."""
        self._check_open()
        if not self._legacy:
            raise NoStream("this revision has no GET; use subscriptions/listen")
        self._listening.add(wait)
        try:
            await self._streams.relay(last_event, wait, back, opened)
        except HttpError as problem:
            raise ServerUnavailable(self.server, str(problem), unsent=problem.unsent) from None
        finally:
            self._listening.discard(wait)

    async def hear(self, receive: Receive) -> None:
        """Begin to hand over what comes outside calls, if that is this link's to do.

        Returns when the server has answered, so that nothing is lost which it asks during the first call; but after
        `ATTENTION` at the latest, because some answer with their first event only.
        """
        if self._hears and self.stateful:
            self._nursery.start_soon(self._hear, receive, name=f"stream of {self.server}")
            with trio.move_on_after(ATTENTION):
                await self._streams.answered.wait()

    async def _hear(self, receive: Receive) -> None:
        with self._hearing:
            try:
                await self._streams.hear(receive)
            except ServerSessionLost as problem:
                self._lose(problem.reason)
        self._streams.answered.set()
        await self._adapter.tidy()

    async def _get(self, last_event: bytes | None, wait: Wait) -> Response:
        fields = {**self._own, b"last-event-id": last_event}
        return await self._client.prepare(b"GET", fields, patient=True).exchange(wait)

    # ---- the end -----------------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self.closed.is_set():
            raise ServerUnavailable(self.server, self.failure, unsent=True)

    def _lose(self, why: str) -> None:
        """The server does not know the session any more. Calls that it has begun it may still answer."""
        if self.closed.is_set():
            return
        self.failure = why
        self.closed.set()
        self._adapter.links -= 1
        self._hearing.cancel(reason=why)
        for wait in list(self._listening):
            wait.end(ServerUnavailable(self.server, why))

    def _end(self, why: str) -> None:
        """Close the link and fail its calls; the first reason counts."""
        if not self.closed.is_set():
            self._lose(why)
            self._fail_calls(why)

    def _fail_calls(self, why: str) -> None:
        for wait in list(self.waits):
            wait.end(ServerUnavailable(self.server, why))

    async def aclose(self) -> None:
        """See `mcpgateway.adapters.base.Link.aclose`: ends the session too, in `COURTESY` seconds."""
        if self.closed.is_set():
            return
        self._end("the link was closed")
        await self._adapter.end_session(self._own)
        await self._adapter.tidy()
