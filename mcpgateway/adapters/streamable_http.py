"""The ``streamable-http`` adapter: servers behind an HTTP URL, in both eras, over the connections of one pool.

A link is a negotiation, and in the legacy era a session; it has no socket of its own. Each call is one POST, sent and
read by the calling task (`mcpgateway.adapters.http_replies`). Closing the connection cancels a modern call
(2026-07-28, transports); a legacy server is told with ``notifications/cancelled``.

What comes on the streams that legacy servers are asked for with GET, and how a stream that was cut off is resumed, is
the business of `mcpgateway.adapters.http_streams`.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final
from urllib.parse import quote, urlsplit

import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import (
    Back,
    Continuation,
    Done,
    LinkStatistics,
    NoBack,
    NoStream,
    Offer,
    Receive,
    Reply,
    Request,
    StreamEnded,
)
from mcpgateway.adapters.http_replies import (
    MAX_REPLY,
    EventReader,
    Refused,
    Subscription,
    from_json,
    go_on,
    is_json,
    is_stream,
    read_reply,
    refusal,
    under_own_id,
)
from mcpgateway.adapters.http_streams import Streams
from mcpgateway.config.model import HttpServer
from mcpgateway.errors import (
    EraMismatch,
    ServerError,
    ServerMisbehaved,
    ServerSessionLost,
    ServerTimeout,
    ServerUnavailable,
)
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.envelope import stamp
from mcpgateway.protocol.handshake import is_modern_only, judge_probe, read_discover, read_initialize, refused
from mcpgateway.protocol.headers import request_headers
from mcpgateway.protocol.negotiated import Negotiated
from mcpgateway.protocol.revisions import LATEST_MODERN, Era
from mcpgateway.wire.http1.client import Pool
from mcpgateway.wire.http1.responses import HttpError, Response
from mcpgateway.wire.readiness import Poller
from mcpgateway.wire.shield import shielded
from mcpgateway.wire.waiting import Wait

log = logging.getLogger("mcpgateway.server")

COURTESY: Final = 2.0
"""Seconds for what a server is only told: cancellations, the end of a session."""
ATTENTION: Final = 1.0
"""Seconds for a server to answer the GET of a new link before the link is used all the same."""
PROBE_TIMEOUT: Final = 10.0
"""Seconds for the answer to ``server/discover`` before a server is taken to be legacy (as the SDKs have it)."""

_SESSION: Final = b"mcp-session-id"
_LISTEN: Final = "subscriptions/listen"
_FRAMING: Final = frozenset({"connection", "content-length", "transfer-encoding"})
_DOES_NOT_KNOW: Final = frozenset({400, 404, 405, 406, 415})
"""The HTTP errors of servers that do not know a request, and not of those that cannot serve it just now."""


class StreamableHttpAdapter:
    """Reaches one server over Streamable HTTP. Owns the pool of connections to it, shared by its links."""

    def __init__(self, config: HttpServer, poller: Poller, *, chance: Callable[[], float] = random.random) -> None:
        self.server = config.name
        self.chance = chance
        self.timeout = config.timeout
        self.pool = Pool(config.url, poller, connect_timeout=config.connect_timeout)
        self.links = 0
        """Links that are open."""
        self._startup_timeout = config.startup_timeout
        self._target, self._fields = _target(config.url), _fields(config)

    async def connect(self, nursery: trio.Nursery, offer: Offer, receive: Receive) -> StreamableHttpLink:
        """Shake hands, in ``startup_timeout`` seconds; see `mcpgateway.adapters.base.Adapter`.

        ``receive`` is called on legacy links with a session whose ``offer.hears``.
        """
        try:
            with trio.fail_after(self._startup_timeout):
                link = await self._negotiate(nursery, offer)
            await link.hear(receive)
            return link
        except trio.TooSlowError:
            raise ServerUnavailable(self.server, f"no handshake within {self._startup_timeout:g} s") from None
        except ServerMisbehaved as problem:
            raise ServerUnavailable(self.server, problem.reason) from problem
        finally:
            self.tidy()

    async def _negotiate(self, nursery: trio.Nursery, offer: Offer) -> StreamableHttpLink:
        if offer.era is Era.LEGACY:
            return await self._initialize(nursery, offer)
        with trio.move_on_after(PROBE_TIMEOUT if offer.era is None else math.inf) as probe:
            negotiated = await self._discover(offer)
            if negotiated is not None:
                return StreamableHttpLink(self, negotiated, nursery, None, offer)
        if offer.era is Era.MODERN:
            raise EraMismatch(self.server, client=Era.MODERN.value, server_era=Era.LEGACY.value)
        try:
            return await self._initialize(nursery, offer)
        except EraMismatch:
            # A modern server that was slow to start has seen the probe too late.
            negotiated = await self._discover(offer) if probe.cancelled_caught else None
        if negotiated is None:
            raise ServerUnavailable(self.server, "speaks neither era of MCP")
        return StreamableHttpLink(self, negotiated, nursery, None, offer)

    async def _discover(self, offer: Offer) -> Negotiated | None:
        """Probe for the modern era; ``None`` if the server does not speak it."""
        revision = LATEST_MODERN
        info = jsonrpc.members_of(offer.initialize).get("clientInfo")
        for _ in range(2):
            params = stamp(None, revision=revision, capabilities=offer.capabilities, client_info=info)
            message = jsonrpc.request(b"0", "server/discover", params)
            try:
                reply, _ = await self._ask(message, request_headers(message))
            except Refused as problem:
                if offer.era is Era.MODERN and problem.answered not in _DOES_NOT_KNOW:
                    raise
                return None
            except ServerMisbehaved:
                return None
            verdict = judge_probe(reply.message, reply.status)
            if not verdict.modern:
                return None
            if reply.message.result is not None:
                return read_discover(reply.message.result, server=self.server)
            if verdict.retry is None:
                raise refused(self.server, "server/discover", reply.message)
            revision = verdict.retry
        raise ServerUnavailable(self.server, "refuses every protocol version that it offers")

    async def _initialize(self, nursery: trio.Nursery, offer: Offer) -> StreamableHttpLink:
        reply, headers = await self._ask(jsonrpc.request(b"0", "initialize", offer.initialize), {})
        result = reply.message.result
        if result is None:
            if is_modern_only(reply.message, reply.status):
                raise EraMismatch(self.server, client=Era.LEGACY.value, server_era=Era.MODERN.value)
            raise refused(self.server, "initialize", reply.message)
        session = headers.get(_SESSION)
        try:
            negotiated = read_initialize(result, server=self.server, stateful=session is not None)
            link = StreamableHttpLink(self, negotiated, nursery, session, offer)
        except ServerMisbehaved:
            with shielded(COURTESY):
                await self.end_session({_SESSION: session})
            raise
        try:
            await link.notify(jsonrpc.notification("notifications/initialized"))
        except BaseException:
            with shielded(COURTESY):
                await link.aclose()
            raise
        return link

    async def _ask(self, message: Message, headers: Mapping[bytes, bytes]) -> tuple[Reply, Mapping[bytes, bytes]]:
        """One exchange outside any link: the JSON-RPC answer, and the headers that it came with."""
        wait = Wait()
        try:
            response = await self.pool.exchange(framed(self.head(b"POST", headers), message.encode()), wait)
            return await read_reply(self.server, response, b"0", wait, NoBack()), response.headers
        except HttpError as problem:
            raise ServerUnavailable(self.server, str(problem)) from None

    async def end_session(self, fields: Mapping[bytes, bytes | None]) -> None:
        """Tell the server that a session is over; ``fields`` name it. Bounded by `COURTESY`; failures are logged."""
        if fields.get(_SESSION) is None:
            return
        with trio.move_on_after(COURTESY):
            try:
                response = await self.pool.exchange(self.head(b"DELETE", fields) + b"\r\n", Wait())
                response.close()
            except HttpError as problem:
                log.info("server %r: its session was not ended: %s", self.server, problem)

    def head(self, verb: bytes, fields: Mapping[bytes, bytes | None]) -> bytes:
        """The head of a request, without its length and its end."""
        return b"%b %b HTTP/1.1\r\n%b%b" % (verb, self._target, self._fields, lines(fields))

    def tidy(self) -> None:
        """Keep no connection once there is no link."""
        if not self.links:
            self.pool.close_idle()


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
        self._pool = adapter.pool
        self._server = adapter.server
        self._nursery = nursery
        self._legacy = negotiated.era is Era.LEGACY
        self._stateful = session is not None
        revision = negotiated.revision.encode() if self._legacy else None
        self._own = {b"mcp-protocol-version": revision, _SESSION: session}
        self._head = adapter.head(b"POST", self._own)
        self._waits: set[Wait] = set()
        self._hears = offer.hears
        self._streams = Streams(self._server, self._get, adapter.chance)
        self._listening: set[Wait] = set()
        """Streams that the client listens to; no calls."""
        self._hearing = trio.CancelScope()
        self._calls = 0
        adapter.links += 1
        nursery.start_soon(self._live, name=f"link {self._server}")

    async def _live(self) -> None:
        """The link's task: ends with it, and ends it when the nursery is cancelled."""
        try:
            await self.closed.wait()
        finally:
            self._end("the server is being stopped")
            self._adapter.tidy()

    def statistics(self) -> LinkStatistics:
        return LinkStatistics(in_flight=len(self._waits), calls=self._calls)

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
        head = self._head + lines(request.headers) if request.headers else self._head
        if message.method == _LISTEN:
            back = Subscription(back, message)
        reply = await self._followed(wait, id, self._exchange(framed(head, message.encode_as(id)), id, request, back))
        if message.method == _LISTEN:
            return Reply(under_own_id(reply.message, message), reply.status, reply.event)
        return reply

    async def _exchange(self, data: bytes, id: bytes, request: Request, back: Back) -> Reply:
        response = await self._pool.exchange(data, request.wait)
        if is_stream(response):
            return await self._read_on(response, self._reader(response, id), id, request, back)
        return await read_reply(self._server, response, id, request.wait, back, stateful=self._stateful)

    def _reader(self, response: Response, id: bytes) -> EventReader:
        return EventReader(self._server, response.status, id, resumes=self._legacy)

    async def _read_on(self, response: Response, reader: EventReader, id: bytes, request: Request, back: Back) -> Reply:
        """Read a stream to the reply in it, which may come on another one that resumes it."""
        try:
            reply = await go_on(response, reader, request.wait, back)
        except StreamEnded:
            if not self._hears:
                self._note(reader, id, request)
                raise
            response.close()
            return await self._streams.resume(reader, request.wait, back)
        finally:
            response.close()
        self._note(reader, id, request)
        return reply

    def _note(self, reader: EventReader, id: bytes, request: Request) -> None:
        """Remember whose call it was, where its client may resume the stream: it may have gone meanwhile."""
        if reader.resumable and not self._hears:
            self._streams.note(id, request.message.id or b"null")

    async def _followed(self, wait: Wait, id: bytes, reading: Awaitable[Reply]) -> Reply:
        """Await the reply of a call that is under way; however that fails, see to what the server has to know."""
        self._waits.add(wait)
        try:
            reply = await reading
        except HttpError as problem:
            self._give_up(wait, id, problem)
            raise ServerUnavailable(self._server, str(problem)) from None
        except BaseException as problem:
            self._give_up(wait, id, problem)
            raise
        self._waits.discard(wait)
        return reply

    def begin(self, request: Request, done: Done) -> bool:
        """See `mcpgateway.adapters.base.Begins`."""
        wait, message = request.wait, request.message
        if self.failure or message.method == _LISTEN or wait.ended is not None:
            return False
        id = b"%d" % (self._calls + 1)
        head = self._head + lines(request.headers) if request.headers else self._head
        flight = _Flight(self, request, id, done)
        abandon = self._pool.begin(framed(head, message.encode_as(id)), flight.arrived)
        if abandon is None:
            return False
        self._calls += 1
        flight.abandon = abandon
        wait.wake = flight.ended
        self._waits.add(wait)
        return True

    def _give_up(self, wait: Wait, id: bytes, problem: BaseException) -> None:
        """A call ended without its reply: tell the server, unless it knows, or cannot know of the call.

        A modern server is told by the closed connection.
        """
        self._waits.discard(wait)  # first: the wait may serve for another attempt, and must not end with the link
        if isinstance(problem, ServerSessionLost):
            self._end(problem.reason)
        over = isinstance(problem, Refused | StreamEnded) or (isinstance(problem, HttpError) and problem.unsent)
        if self._legacy and not over and not self.closed.is_set():
            cancelled = jsonrpc.notification("notifications/cancelled", {"requestId": Raw(id)})
            self._nursery.start_soon(self._tell, cancelled, name=f"cancellation for {self._server}")

    async def _tell(self, message: Message) -> None:
        """Send what nobody waits for."""
        with trio.move_on_after(COURTESY):
            try:
                await self._deliver(message)
            except (HttpError, ServerUnavailable, ServerMisbehaved, ServerSessionLost) as problem:
                log.info("server %r could not be told: %s", self._server, problem)
        self._adapter.tidy()

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
            raise ServerUnavailable(self._server, str(problem)) from None
        except ServerSessionLost as problem:
            self._end(problem.reason)
            raise
        except trio.TooSlowError:
            raise ServerTimeout(self._server, "did not take a notification in time") from None

    async def _deliver(self, message: Message) -> None:
        """POST a message that has no reply; `ServerError` where it is refused."""
        wait = Wait()
        response = await self._pool.exchange(framed(self._head, message.encode()), wait)
        body = await response.read(wait, MAX_REPLY)
        if response.status >= 300:
            raise refusal(self._server, response, body, stateful=self._stateful)

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
            raise ServerUnavailable(self._server, str(problem)) from None
        finally:
            self._listening.discard(wait)

    async def hear(self, receive: Receive) -> None:
        """Begin to hand over what comes outside calls, if that is this link's to do.

        Returns when the server has answered, so that nothing is lost which it asks during the first call; but after
        `ATTENTION` at the latest, because some answer with their first event only.
        """
        if self._hears and self._stateful:
            self._nursery.start_soon(self._hear, receive, name=f"stream of {self._server}")
            with trio.move_on_after(ATTENTION):
                await self._streams.answered.wait()

    async def _hear(self, receive: Receive) -> None:
        with self._hearing:
            try:
                await self._streams.hear(receive)
            except ServerSessionLost as problem:
                self._end(problem.reason)
        self._streams.answered.set()
        self._adapter.tidy()

    async def _get(self, last_event: bytes | None, wait: Wait) -> Response:
        fields = {**self._own, b"last-event-id": last_event}
        return await self._pool.exchange(self._adapter.head(b"GET", fields) + b"\r\n", wait)

    # ---- the end -----------------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self.closed.is_set():
            raise ServerUnavailable(self._server, self.failure)

    def _end(self, why: str) -> None:
        """Close the link and fail its calls; the first reason counts."""
        if self.closed.is_set():
            return
        self.failure = why
        self.closed.set()
        self._adapter.links -= 1
        self._hearing.cancel(reason=why)
        for wait in [*self._waits, *self._listening]:
            wait.end(ServerUnavailable(self._server, why))

    async def aclose(self) -> None:
        """See `mcpgateway.adapters.base.Link.aclose`: ends the session too, in `COURTESY` seconds."""
        if self.closed.is_set():
            return
        self._end("the link was closed")
        await self._adapter.end_session(self._own)
        self._adapter.tidy()


class _Flight:
    """A call that was begun without a task."""

    __slots__ = ("_done", "_id", "_link", "_request", "abandon")

    def __init__(self, link: StreamableHttpLink, request: Request, id: bytes, done: Done) -> None:
        self._link = link
        self._request = request
        self._id = id
        self._done = done
        self.abandon: Callable[[], None] | None = None

    def arrived(self, outcome: Response | HttpError) -> None:
        """The response is here: whole if it is JSON, begun if it is not. Or there will be none."""
        self._request.wait.wake = None
        if isinstance(outcome, HttpError):
            if outcome.unsent:
                self._hand_on(self._again)
            else:
                self._fail(outcome)
            return
        try:
            reply = self._reply(outcome)
        except ServerError as problem:
            outcome.close()
            self._fail(problem)
        else:
            if reply is not None:
                self._link._waits.discard(self._request.wait)
                self._done(reply)

    def _reply(self, response: Response) -> Reply | None:
        """The reply, if it is here; if not, the call goes on in a task."""
        link = self._link
        if is_json(response):
            body = response.whole()
            assert body is not None
            return from_json(link._server, response, body, self._id, stateful=link._stateful)
        if not is_stream(response):
            self._hand_on(partial(self._read, response))
            return None
        reader = link._reader(response, self._id)
        reader.feed(response.piece())
        if reader.reply is not None and not reader.waiting:
            response.leave()
            link._note(reader, self._id, self._request)
            return reader.reply
        self._hand_on(partial(self._go_on, response, reader))
        return None

    def ended(self) -> None:
        """The wait of the request was ended."""
        wait = self._request.wait
        if self.abandon is not None:
            self.abandon()
        assert wait.ended is not None
        self._fail(wait.ended)

    def _fail(self, problem: Exception) -> None:
        link = self._link
        link._give_up(self._request.wait, self._id, problem)
        self._done(ServerUnavailable(link._server, str(problem)) if isinstance(problem, HttpError) else problem)

    def _hand_on(self, continuation: Continuation) -> None:
        self._link._waits.discard(self._request.wait)
        self._done(continuation)

    async def _again(self, back: Back) -> Reply:
        return await self._link.call(self._request, back)

    async def _read(self, response: Response, back: Back) -> Reply:
        link = self._link
        return await link._followed(
            self._request.wait,
            self._id,
            read_reply(link._server, response, self._id, self._request.wait, back, stateful=link._stateful),
        )

    async def _go_on(self, response: Response, reader: EventReader, back: Back) -> Reply:
        link, request = self._link, self._request
        reading = link._read_on(response, reader, self._id, request, back)
        return await link._followed(request.wait, self._id, reading)


def framed(head: bytes, body: bytes) -> bytes:
    """A request: the head that `StreamableHttpAdapter.head` began, and its body."""
    return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


def lines(fields: Mapping[bytes, bytes | None]) -> bytes:
    """Header fields as lines; ``None`` for none."""
    return b"".join([b"%b: %b\r\n" % (name, value) for name, value in fields.items() if value is not None])


def _target(url: str) -> bytes:
    """What stands in the request line."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return quote(target, safe="/?%:@!$&'()*+,;=-._~").encode()


def _fields(config: HttpServer) -> bytes:
    """The header lines that every request to a server has; configured ones win, but for those that frame it."""
    host = urlsplit(config.url).netloc
    fields: dict[bytes, bytes | None] = {
        b"host": host.encode("ascii" if host.isascii() else "idna"),
        b"content-type": b"application/json",
        b"accept": b"application/json, text/event-stream",
        b"user-agent": b"mcpgateway",
    }
    for name, value in config.headers.items():
        if name.lower() not in _FRAMING:
            fields[name.lower().encode()] = value.reveal().encode()
    return lines(fields)
