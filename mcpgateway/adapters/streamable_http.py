"""The ``streamable-http`` adapter: servers behind an HTTP URL, in both eras, over the connections of one pool.

A link is a negotiation, and in the legacy era a session; it has no socket and no task of its own. Each call is one
POST, sent and read by the calling task; plain JSON and event streams are read alike. Closing the connection cancels a
modern call (2026-07-28, transports); a legacy server is told with ``notifications/cancelled``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import trio

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Back, Event, LinkStatistics, Offer, Receive, Reply, Request
from mcpgateway.config.model import HttpServer
from mcpgateway.errors import (
    EraMismatch,
    GatewayError,
    ServerError,
    ServerMisbehaved,
    ServerSessionLost,
    ServerTimeout,
    ServerUnavailable,
)
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.envelope import stamp
from mcpgateway.protocol.handshake import judge_probe, read_discover, read_initialize
from mcpgateway.protocol.headers import request_headers
from mcpgateway.protocol.negotiated import Negotiated
from mcpgateway.protocol.revisions import LATEST_MODERN, Era
from mcpgateway.wire import sse
from mcpgateway.wire.http1.client import HttpError, Pool, Response
from mcpgateway.wire.readiness import Poller
from mcpgateway.wire.waiting import Wait

log = logging.getLogger("mcpgateway.server")

MAX_REPLY: Final = 64 * 1024 * 1024
"""Bytes of one JSON reply, and of one event."""
COURTESY: Final = 2.0
"""Seconds for what a server is only told: cancellations, the end of a session."""
PROBE_TIMEOUT: Final = 10.0
"""Seconds for the answer to ``server/discover`` before a server is taken to be legacy (as the SDKs have it)."""


class StreamableHttpAdapter:
    """Reaches one server over Streamable HTTP. Owns the pool of connections to it, shared by its links."""

    def __init__(self, config: HttpServer, poller: Poller) -> None:
        self.server = config.name
        self._config = config
        self.pool = Pool(config.url, poller, connect_timeout=config.connect_timeout)
        parts = urlsplit(config.url)
        self._target = ((parts.path or "/") + (f"?{parts.query}" if parts.query else "")).encode()
        self._fields = _fields(self.pool, parts.netloc, config.headers)
        self.links = 0

    async def connect(self, nursery: trio.Nursery, offer: Offer, receive: Receive) -> StreamableHttpLink:
        try:
            with trio.fail_after(self._config.startup_timeout):
                return await self._negotiate(nursery, offer)
        except trio.TooSlowError:
            raise ServerUnavailable(self.server, f"no handshake within {self._config.startup_timeout:g} s") from None

    async def _negotiate(self, nursery: trio.Nursery, offer: Offer) -> StreamableHttpLink:
        if offer.era is not Era.LEGACY:
            negotiated = await self._discover(offer)
            if negotiated is not None:
                return StreamableHttpLink(self, negotiated, nursery, None)
            if offer.era is Era.MODERN:
                raise EraMismatch(self.server, client=Era.MODERN.value, server_era=Era.LEGACY.value)
        return await self._initialize(nursery, offer)

    async def _discover(self, offer: Offer) -> Negotiated | None:
        """Probe for the modern era; ``None`` if the server does not speak it."""
        revision = LATEST_MODERN
        for _ in range(2):
            params = stamp(None, revision=revision, capabilities=offer.capabilities)
            message = jsonrpc.request(b"0", "server/discover", params)
            with trio.move_on_after(PROBE_TIMEOUT):
                answer, status, _ = await self._ask(message, request_headers(message))
                verdict = judge_probe(answer, status)
                if not verdict.modern:
                    return None
                if answer is not None and answer.result is not None:
                    return read_discover(answer.result, server=self.server)
                if verdict.retry is None:
                    raise ServerMisbehaved(self.server, "speaks the modern era but refuses server/discover")
                revision = verdict.retry
                continue
            return None
        raise ServerMisbehaved(self.server, "refuses every protocol version that it offers")

    async def _initialize(self, nursery: trio.Nursery, offer: Offer) -> StreamableHttpLink:
        message = jsonrpc.request(b"0", "initialize", offer.initialize)
        answer, status, headers = await self._ask(message, {})
        if answer is None:
            raise ServerUnavailable(self.server, _not_mcp(status, headers, "initialize"))
        if answer.result is None:
            if judge_probe(answer, status).modern:
                raise EraMismatch(self.server, client=Era.LEGACY.value, server_era=Era.MODERN.value)
            raise ServerUnavailable(self.server, f"refused initialize: {_said(answer)}")
        session = headers.get(b"mcp-session-id")
        negotiated = read_initialize(answer.result, server=self.server, stateful=session is not None)
        link = StreamableHttpLink(self, negotiated, nursery, session)
        await link.notify(jsonrpc.notification("notifications/initialized"))
        return link

    async def _ask(
        self, message: Message, headers: Mapping[bytes, bytes]
    ) -> tuple[Message | None, int, Mapping[bytes, bytes]]:
        """One exchange outside any session: the JSON-RPC answer if there is one, the status and the headers."""
        wait = Wait()
        try:
            response = await self.post(self.fields(headers), message.encode(), wait)
            try:
                body = await _only_message(response, wait)
            finally:
                response.close()
        except HttpError as problem:
            raise ServerUnavailable(self.server, str(problem)) from None
        if body is None:
            return None, response.status, response.headers
        try:
            answer = jsonrpc.decode(body)
        except GatewayError:
            return None, response.status, response.headers
        return (answer if answer.is_response else None), response.status, response.headers

    def fields(self, more: Mapping[bytes, bytes]) -> bytes:
        """The header lines of a request, without its length."""
        return self._fields + b"".join(b"%b: %b\r\n" % item for item in more.items())

    async def post(self, fields: bytes, body: bytes, wait: Wait) -> Response:
        head = b"POST %b HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n" % (self._target, fields, len(body))
        return await self.pool.exchange(head + body, wait)

    async def delete(self, fields: bytes, wait: Wait) -> Response:
        return await self.pool.exchange(b"DELETE %b HTTP/1.1\r\n%b\r\n" % (self._target, fields), wait)


class StreamableHttpLink:
    """One negotiation with a server, and its session where it keeps one."""

    def __init__(
        self, adapter: StreamableHttpAdapter, negotiated: Negotiated, nursery: trio.Nursery, session: bytes | None
    ) -> None:
        self._adapter = adapter
        self._nursery = nursery
        self._session = session
        self._negotiated = negotiated
        self._closed = trio.Event()
        self._failure = ""
        self._waits: set[Wait] = set()
        self._calls = 0
        own: dict[bytes, bytes] = {}
        if negotiated.era is Era.LEGACY:
            own[b"MCP-Protocol-Version"] = negotiated.revision.encode()
            if session is not None:
                own[b"Mcp-Session-Id"] = session
        self._fields = adapter.fields(own)
        adapter.links += 1

    @property
    def negotiated(self) -> Negotiated:
        return self._negotiated

    @property
    def closed(self) -> trio.Event:
        return self._closed

    @property
    def failure(self) -> str:
        return self._failure

    def statistics(self) -> LinkStatistics:
        return LinkStatistics(len(self._waits), self._calls, connections=self._adapter.pool.open_connections)

    async def call(self, request: Request, back: Back) -> Reply:
        self._calls += 1
        id = b"%d" % self._calls
        wait = request.wait
        fields = self._fields
        if request.headers:
            fields += b"".join([b"%b: %b\r\n" % item for item in request.headers.items()])
        self._waits.add(wait)
        try:
            if self._closed.is_set():
                raise ServerUnavailable(self._adapter.server, f"the link is closed: {self._failure}")
            response = await self._adapter.post(fields, request.message.encode_as(id), wait)
            return await self._reply(response, id, wait, back)
        except HttpError as problem:
            raise ServerUnavailable(self._adapter.server, str(problem)) from None
        except ServerTimeout:
            self._cancel(id)
            raise
        except ServerError:
            raise
        except BaseException:
            self._cancel(id)
            raise
        finally:
            self._waits.discard(wait)

    async def _reply(self, response: Response, id: bytes, wait: Wait, back: Back) -> Reply:
        kind = response.headers.get(b"content-type", b"")
        if kind.startswith(b"application/json"):
            return self._json(response, await response.read(wait, MAX_REPLY), id)
        if response.status == 200 and kind.startswith(b"text/event-stream"):
            try:
                return await self._stream(response, id, wait, back)
            finally:
                response.close()
        response.close()
        raise self._refused(response)

    def _json(self, response: Response, body: bytes, id: bytes) -> Reply:
        if self._lost(response.status):
            raise self._refused(response)
        try:
            message = jsonrpc.decode(body)
        except GatewayError as problem:
            if response.status != 200:
                raise self._refused(response) from None
            raise ServerMisbehaved(self._adapter.server, f"its reply is not JSON-RPC: {problem.message}") from None
        # Servers that refuse a request before they have read it cannot know its id.
        if not message.is_response or (message.id != id and (message.error is None or response.status == 200)):
            raise ServerMisbehaved(self._adapter.server, "its reply does not belong to the request")
        return Reply(message, response.status)

    async def _stream(self, response: Response, id: bytes, wait: Wait, back: Back) -> Reply:
        parser = sse.Parser(MAX_REPLY)
        while piece := await response.more(wait):
            try:
                frames = parser.feed(piece)
            except sse.EventTooLarge as problem:
                raise ServerMisbehaved(self._adapter.server, str(problem)) from None
            for frame in frames:
                event = self._event(frame)
                if event is None:
                    continue
                message = event.message
                if message is not None and message.is_response:
                    if message.id == id:
                        response.leave()
                        return Reply(message, 200, event)
                    log.warning("server %r: dropped a reply that belongs to no request", self._adapter.server)
                    continue
                if message is not None and message.method == "notifications/progress":
                    wait.renew()
                await back.send(event)
        raise ServerMisbehaved(self._adapter.server, "ended its event stream without a reply")

    def _event(self, frame: sse.Frame) -> Event | None:
        if not frame.data:
            return Event(None, frame.id, frame.retry)
        try:
            return Event(jsonrpc.decode(frame.data), frame.id, frame.retry)
        except GatewayError as problem:
            log.warning("server %r: dropped an event that is not JSON-RPC: %s", self._adapter.server, problem.message)
            return None

    def _lost(self, status: int) -> bool:
        return status == 404 and self._session is not None

    def _refused(self, response: Response) -> ServerError:
        """What a response that is no reply says about the server."""
        server = self._adapter.server
        if self._lost(response.status):
            self._close("the server no longer knows the session")
            return ServerSessionLost(server, "no longer knows the session; initialise again")
        text = _not_mcp(response.status, response.headers, "the request")
        return (ServerUnavailable if response.status >= 400 else ServerMisbehaved)(server, text)

    def _cancel(self, id: bytes) -> None:
        """Tell a legacy server that a call was given up; a modern one was told by the closed connection."""
        if self._negotiated.era is Era.LEGACY and not self._nursery.cancel_scope.cancel_called:
            raw = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%b}}' % id
            self._nursery.start_soon(self._tell, raw)

    async def _tell(self, body: bytes) -> None:
        wait = Wait()
        with trio.move_on_after(COURTESY):
            try:
                response = await self._adapter.post(self._fields, body, wait)
                response.close() if response.status >= 400 else await response.read(wait, MAX_REPLY)
            except HttpError as problem:
                log.info("server %r could not be told: %s", self._adapter.server, problem)

    async def notify(self, message: Message) -> None:
        wait = Wait()
        try:
            with trio.fail_after(self._adapter._config.timeout):
                response = await self._adapter.post(self._fields, message.encode(), wait)
                await response.read(wait, MAX_REPLY)
        except HttpError as problem:
            raise ServerUnavailable(self._adapter.server, str(problem)) from None
        except trio.TooSlowError:
            raise ServerTimeout(self._adapter.server, "did not take a notification in time") from None
        if response.status >= 300:
            raise self._refused(response)

    def _close(self, why: str) -> None:
        if not self._closed.is_set():
            self._failure = why
            self._closed.set()
            self._adapter.links -= 1

    async def aclose(self) -> None:
        already = self._closed.is_set()
        self._close("closed by the gateway")
        for wait in list(self._waits):
            wait.end(ServerUnavailable(self._adapter.server, "the link was closed"))
        if self._session is not None and not already:
            with trio.move_on_after(COURTESY):
                try:
                    (await self._adapter.delete(self._fields, Wait())).close()
                except HttpError as problem:
                    log.info("server %r: its session was not ended: %s", self._adapter.server, problem)
        if not self._adapter.links:
            self._adapter.pool.close_idle()


def _fields(pool: Pool, netloc: str, headers: Mapping[str, str]) -> bytes:
    """The header lines that every request to a server has; configured ones win."""
    fields = {
        b"host": netloc.rpartition("@")[2].encode("idna" if not netloc.isascii() else "ascii"),
        b"content-type": b"application/json",
        b"accept": b"application/json, text/event-stream",
        b"user-agent": b"mcpgateway",
    }
    for name, value in headers.items():
        fields[name.lower().encode()] = str.__str__(value).encode("latin-1")
    return b"".join(b"%b: %b\r\n" % item for item in fields.items())


async def _only_message(response: Response, wait: Wait) -> bytes | None:
    """The one JSON-RPC response in a body, plain or an event stream; ``None`` if there is none."""
    kind = response.headers.get(b"content-type", b"")
    if kind.startswith(b"text/event-stream"):
        parser = sse.Parser(MAX_REPLY)
        while piece := await response.more(wait):
            for frame in parser.feed(piece):
                if b'"result"' in frame.data or b'"error"' in frame.data:
                    response.leave()
                    return frame.data
        return None
    body = await response.read(wait, MAX_REPLY)
    return body if kind.startswith(b"application/json") else None


def _not_mcp(status: int, headers: Mapping[bytes, bytes], what: str) -> str:
    """What to say of an answer that is not MCP. Its body is not quoted: it may hold anything."""
    kind = headers.get(b"content-type", b"").partition(b";")[0].decode("latin-1")
    if 300 <= status < 400:
        return f"answered {what} with HTTP {status}, a redirect; configure the URL that it leads to"
    if status in (401, 403):
        return f"answered {what} with HTTP {status}; check the credentials in its headers"
    if status == 404:
        return f"answered {what} with HTTP 404; check the path of its URL"
    return f"answered {what} with HTTP {status} and {kind or 'no content'}"


def _said(answer: Message) -> str:
    """A server's error in its own words, bounded."""
    error = jsonrpc.members_of(answer.error)
    text = jsonrpc.value_of(error["message"]) if "message" in error else ""
    return f"error {jsonrpc.error_code(answer)}, {str(text)[:200]!r}"
