"""The Streamable HTTP front: every revision from 2025-03-26, legacy sessions and modern envelopes, on one path.

The header ``MCP-Protocol-Version`` says which: absent or legacy, and a session (or its absence) tells who is calling;
anything else, and the modern ladder of headers and envelope does. What this module spends on a plain call is 6 µs.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.access.browsers import BrowserPolicy
from mcpgateway.adapters.base import Reply, StreamEnded
from mcpgateway.calls.namespace import Namespace
from mcpgateway.calls.relay import answer
from mcpgateway.errors import (
    CallCancelled,
    ClientGone,
    GatewayError,
    HeaderMismatch,
    InvalidRequest,
    MethodNotFound,
    UnknownNamespace,
)
from mcpgateway.fronts import cors
from mcpgateway.fronts.batches import REVISION as BATCH_REVISION
from mcpgateway.fronts.batches import BatchBack, read_batch
from mcpgateway.fronts.flights import Flight, open_silent, owner_of
from mcpgateway.fronts.handshakes import EMPTY, LEGACY_HEADERS, read_handshake
from mcpgateway.fronts.media import check_media
from mcpgateway.fronts.replies import JSON_FIELDS, HttpBack, error_fields
from mcpgateway.fronts.streams import Streams
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.envelope import PROTOCOL_VERSION
from mcpgateway.protocol.envelope import read as read_envelope
from mcpgateway.protocol.headers import check
from mcpgateway.protocol.revisions import REVISION_WITHOUT_HEADER, Era
from mcpgateway.sessions.caller import ANONYMOUS, Caller, ModernCallers
from mcpgateway.sessions.store import Session, SessionStore
from mcpgateway.wire.bounds import Bounds
from mcpgateway.wire.http1.exchange import Exchange
from mcpgateway.wire.http1.requests import HttpRequest
from mcpgateway.wire.transport import TransportBroken
from mcpgateway.wire.waiting import Sweeper, Wait

log = logging.getLogger("mcpgateway.http")


class StreamableHttp:
    """Answers requests on MCP paths. ``find`` looks a namespace up by the part of the path behind ``/mcp/``."""

    def __init__(
        self,
        find: Callable[[str], Namespace | None],
        sessions: SessionStore,
        callers: ModernCallers,
        policy: BrowserPolicy,
        sweeper: Sweeper,
        bounds: Bounds,
        stream_after: float | None,
    ) -> None:
        self.stream_after = stream_after
        """See `mcpgateway.config.model.Listen`."""
        self._find = find
        self._sessions = sessions
        self.policy = policy
        self._bounds = bounds
        self._callers = callers
        self._calls: dict[Wait, Flight] = {}
        """Calls in flight, for the drain."""
        self._lasting: dict[Wait, None] = {}
        """Subscriptions, which have nothing to finish."""
        self._streams = Streams(sessions, sweeper, bounds)

    async def handle(self, request: HttpRequest, exchange: Exchange, name: str) -> None:
        """Answer one request on the path of the namespace ``name``."""
        headers = request.headers
        fields = b""
        try:
            origin = headers.get(b"origin")
            self.policy.check(headers.get(b"host"), origin)
            fields = b"" if origin is None else cors.fields(self.policy, origin)
            namespace = self._find(name)
            if namespace is None:
                raise UnknownNamespace(f"there is no namespace or server {name[:100]!r} here")
            method = request.method
            if method == b"POST":
                await self._post(namespace, request, exchange, fields)
            elif method == b"GET":
                await self._streams.listen(namespace, request, exchange, fields)
            elif method == b"DELETE":
                await self._delete(namespace, request, exchange, fields)
            elif method == b"OPTIONS":
                await cors.preflight(exchange, fields)
            else:
                await exchange.respond(405, _error_body(MethodNotFound("use POST")), JSON_FIELDS + fields + _ALLOW)
        except GatewayError as problem:
            body = _error_body(problem) if request.method != b"HEAD" else b""
            allow = _ALLOW if problem.status == 405 else b""
            await exchange.respond(problem.status, body, error_fields(problem) + fields + allow)

    def begin(self, request: HttpRequest, exchange: Exchange, name: str) -> bool:
        """Take a plain call without a task, if this is one: no other request, and nothing wrong with it.

        Whatever is unusual is left to `handle`, which sees it anew; see `mcpgateway.wire.http1.server.Begin`.
        """
        if request.method != b"POST":
            return False
        headers = request.headers
        try:
            origin = headers.get(b"origin")
            self.policy.check(headers.get(b"host"), origin)
            namespace = self._find(name)
            if namespace is None:
                return False
            check_media(headers)
            message = jsonrpc.decode(request.body)
            id, method = message.id, message.method
            version = headers.get(b"mcp-protocol-version")
            if id is None or method is None or method == "initialize" or version is None:
                return False
            calls = self._bounds.calls
            if not calls.room(request.address):
                return False
            wait = Wait()
            session: Session | None = None
            if version in LEGACY_HEADERS:
                session_id = headers.get(b"mcp-session-id")
                if session_id is None:
                    return False
                session = self._sessions.find(session_id.decode("latin-1"), namespace.name, ANONYMOUS)
                caller = session.caller
                session.begin(id, wait)
                along = None
            else:
                envelope = check(headers, request.duplicates, message)
                caller = self._callers.of(envelope)
                along = headers
                wait.probe = lambda: ClientGone("the client closed the connection") if exchange.client_gone() else None
        except GatewayError:
            return False
        fields = b"" if origin is None else cors.fields(self.policy, origin)
        flight = Flight(self._calls, calls, self._answer, exchange, wait, namespace, session, id, fields)
        self._calls[wait] = flight
        calls.add(request.address)
        taken = False
        try:
            taken = namespace.begin(caller, message, wait, along, flight.settled)
        finally:
            if not taken:
                flight.over()
        return taken

    # ---- POST --------------------------------------------------------------------------------------------------------

    async def _post(self, namespace: Namespace, request: HttpRequest, exchange: Exchange, fields: bytes) -> None:
        headers = request.headers
        check_media(headers)
        version = headers.get(b"mcp-protocol-version")
        if version is not None:
            version = version.strip()
        if version is None or version in LEGACY_HEADERS:
            await self._legacy(namespace, request, exchange, fields, version)
        else:
            await self._modern(namespace, request, exchange, fields)

    async def _legacy(
        self, namespace: Namespace, request: HttpRequest, exchange: Exchange, fields: bytes, version: bytes | None
    ) -> None:
        body = request.body
        if body.lstrip()[:1] == b"[":
            await self._batch(namespace, request, exchange, fields, version)
            return
        message = jsonrpc.decode(body)
        looks_modern = version is None and message.method != "initialize" and PROTOCOL_VERSION.encode() in body
        if looks_modern and read_envelope(message.params) is not None:
            raise _for(message, HeaderMismatch("the header MCP-Protocol-Version is missing"))
        session_id = request.headers.get(b"mcp-session-id")
        if message.method == "initialize" and message.id is not None:
            await self._initialize(namespace, message, request.address, exchange, fields)
            return
        try:
            caller = self._caller(namespace, session_id, version)
        except GatewayError as problem:
            problem.request_id = message.id
            raise
        if message.method is None or message.id is None:
            await self._one_way(namespace, caller, message)
            await exchange.respond(202, b"", fields)
            return
        await self._call(namespace, caller, message, exchange, fields, None)

    def _caller(self, namespace: Namespace, session_id: bytes | None, version: bytes | None) -> Caller:
        """Who sends a legacy request: a session, or a client of servers that keep none."""
        if session_id is not None:
            return self._sessions.find(session_id.decode("latin-1"), namespace.name, ANONYMOUS).caller
        revision = REVISION_WITHOUT_HEADER if version is None else version.decode()
        if namespace.keeps_sessions:
            raise InvalidRequest("the header Mcp-Session-Id is missing; initialise first")
        return Caller(Era.LEGACY, revision, EMPTY)

    async def _initialize(
        self, namespace: Namespace, message: Message, address: str, exchange: Exchange, fields: bytes
    ) -> None:
        back = HttpBack(exchange, fields)
        try:
            caller = read_handshake(message)
            id = self._sessions.new_id()
            result, keep = await namespace.initialize(caller, message.params or EMPTY, id)
            if keep:
                self._sessions.open(id, namespace.name, caller, address)
                fields += b"Mcp-Session-Id: %b\r\n" % id.encode()
            assert message.id is not None
            body = message.replace(method=None, params=None, result=result).encode()
            await exchange.respond(200, body, JSON_FIELDS + fields)
        except GatewayError as problem:
            await back.fail(problem, message.id, Era.LEGACY)

    async def _one_way(self, namespace: Namespace, caller: Caller, message: Message) -> None:
        """A notification, or the answer to a server's request."""
        if message.method is None:
            if not await answer(caller, message):
                log.info("dropped the answer to a question that nobody asked")
        elif message.method == "notifications/cancelled" and caller.session is not None:
            params = jsonrpc.members_of(message.params)
            id = params.get("requestId")
            if id is not None and not caller.session.cancel(bytes(id), "cancelled by the client"):
                await namespace.notify(caller, message)  # of a call whose stream was cut off, perhaps
        else:
            await namespace.notify(caller, message)

    async def _modern(self, namespace: Namespace, request: HttpRequest, exchange: Exchange, fields: bytes) -> None:
        message = jsonrpc.decode(request.body)
        if message.method is None:
            raise InvalidRequest("in this revision a client sends requests only")
        if message.id is None:
            await exchange.respond(202, b"", fields)  # 2026-07-28 defines none over HTTP
            return
        try:
            envelope = check(request.headers, request.duplicates, message)
        except GatewayError as problem:
            problem.request_id = message.id
            raise
        if message.method == "initialize":  # on a pipe it would be taken for the beginning of the other era
            raise _for(message, MethodNotFound("Method not found: initialize"))
        caller = self._callers.of(envelope)
        await self._call(namespace, caller, message, exchange, fields, request.headers)

    async def _call(
        self,
        namespace: Namespace,
        caller: Caller,
        message: Message,
        exchange: Exchange,
        fields: bytes,
        headers: Mapping[bytes, bytes] | None,
    ) -> None:
        """Have a request answered, and answer it here. Runs in the task of the connection.

        In the legacy era a call outlives its connection: nobody watches, and a client that has gone can resume the
        stream of its call, if there was one. In the modern era closing the connection cancels, so a call that lasts is
        watched.
        """
        id = message.id
        assert id is not None
        wait = Wait()
        session = caller.session
        back = HttpBack(exchange, fields, outlived=headers is None, owner=owner_of(namespace, session))
        if headers is not None:
            wait.probe = lambda: ClientGone("the client closed the connection") if exchange.client_gone() else None
        era = Era.LEGACY if headers is None else Era.MODERN
        lasting = message.method == "subscriptions/listen"
        bound = self._bounds.streams if lasting else self._bounds.calls
        flight = Flight(self._calls, bound, self._answer, exchange, wait, namespace, session, id, fields, back)
        try:
            flight.enter()
        except GatewayError as problem:
            await back.fail(problem, id, era)
            return
        if lasting:
            self._lasting[wait] = None
        try:
            await self._answer(namespace.serve(caller, message, wait, back, headers), back, id, era, flight.over)
        finally:
            self._lasting.pop(wait, None)

    async def _answer(
        self, serving: Awaitable[Reply], back: HttpBack, id: bytes, era: Era, over: Callable[[], None]
    ) -> None:
        """Await what serves a call, and answer with it; ``over`` is called when the call itself is over."""
        try:
            try:
                reply = await serving
            finally:
                over()
        except ClientGone:
            raise TransportBroken("the client closed the connection during its call") from None
        except StreamEnded:
            await back.end()
        except GatewayError as problem:
            await back.fail(problem, id, era)
        else:
            await back.reply(reply, id, era)
        finally:
            back.abandon()

    # ---- batches -----------------------------------------------------------------------------------------------------

    async def _batch(
        self, namespace: Namespace, request: HttpRequest, exchange: Exchange, fields: bytes, version: bytes | None
    ) -> None:
        """Answer a batch: its requests are served side by side, the rest in the order in which it stands there."""
        caller = self._caller(namespace, request.headers.get(b"mcp-session-id"), version)
        if caller.revision != BATCH_REVISION or version not in (None, BATCH_REVISION.encode()):
            raise InvalidRequest(f"batches exist in revision {BATCH_REVISION} only; send one message per request")
        entries = read_batch(request.body)
        back = BatchBack(exchange, fields, owner_of(namespace, caller.session))
        try:
            async with trio.open_nursery() as nursery:
                for entry in entries:
                    await self._take_entry(namespace, caller, entry, back, exchange, nursery)
            due = any(not isinstance(entry, Message) or entry.is_request for entry in entries)
            await back.finish(due=due)
        finally:
            back.abandon()

    async def _take_entry(
        self,
        namespace: Namespace,
        caller: Caller,
        entry: Message | GatewayError,
        back: BatchBack,
        exchange: Exchange,
        nursery: trio.Nursery,
    ) -> None:
        if isinstance(entry, GatewayError):
            await back.answer(Reply(jsonrpc.error(None, entry)))
            return
        if entry.method is None or entry.id is None:
            await self._try_one_way(namespace, caller, entry)
            return
        wait = Wait()
        calls, session, id = self._bounds.calls, caller.session, entry.id
        flight = Flight(self._calls, calls, self._answer, exchange, wait, namespace, session, id, b"", back)
        try:
            flight.enter()
        except GatewayError as problem:
            await back.answer(Reply(jsonrpc.error(id, problem)))
        else:
            serve = partial(namespace.serve, caller, entry, wait, back)
            nursery.start_soon(self._answer_entry, serve, back, id, flight.over)

    async def _answer_entry(
        self, serve: Callable[[], Awaitable[Reply]], back: BatchBack, id: bytes, over: Callable[[], None]
    ) -> None:
        try:
            try:
                reply = await serve()
            finally:
                over()
        except (CallCancelled, StreamEnded):
            pass  # no reply is due, or none here
        except GatewayError as problem:
            await back.answer(Reply(jsonrpc.error(id, problem)))
        else:
            await back.answer(Reply(reply.message.replace(id=Raw(id)), reply.status, reply.event))

    async def _try_one_way(self, namespace: Namespace, caller: Caller, message: Message) -> None:
        try:
            await self._one_way(namespace, caller, message)
        except GatewayError as problem:
            log.info("a %s of a batch was not delivered: %s", message.method or "response", problem.message)

    # ---- other methods -----------------------------------------------------------------------------------------------

    async def _delete(self, namespace: Namespace, request: HttpRequest, exchange: Exchange, fields: bytes) -> None:
        id = request.headers.get(b"mcp-session-id")
        version = request.headers.get(b"mcp-protocol-version", b"2025-11-25").strip()
        if version not in LEGACY_HEADERS:
            await exchange.respond(
                405, _error_body(MethodNotFound("use POST")), JSON_FIELDS + fields + b"Allow: POST\r\n"
            )
            return
        if id is None:
            raise InvalidRequest("the header Mcp-Session-Id is missing")
        self._sessions.close(self._sessions.find(id.decode("latin-1"), namespace.name, ANONYMOUS))
        await exchange.respond(200, b"", fields)

    async def open_silent(self) -> None:
        """Begin the event streams of calls that are silent for ``stream_after`` seconds; for ever."""
        await open_silent(self._calls, lambda: self.stream_after)

    def end_streams(self, problem: GatewayError) -> None:
        """End every stream of what servers say outside calls, and every subscription."""
        self._streams.end(problem)
        for wait in list(self._lasting):
            wait.end(problem)

    def end_calls(self, problem: GatewayError) -> None:
        """End every call in flight; their clients get the problem as an error."""
        for wait in list(self._calls):
            wait.end(problem)


_ALLOW: Final = b"Allow: POST, GET, DELETE\r\n"


def _error_body(problem: GatewayError) -> bytes:
    return jsonrpc.error(None, problem).encode()


def _for(message: Message, problem: GatewayError) -> GatewayError:
    problem.request_id = message.id
    return problem
