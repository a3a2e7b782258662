"""A namespace that shows one server as it is.

Names are the server's own, unknown members, methods and cursors pass to the byte; only filters and new names, where
there are any, make the gateway look at tools. An unknown tool is the server's to refuse.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import trio
from msgspec import Raw

from mcpgateway.adapters.base import Back, Done, Reply
from mcpgateway.calls.call import Dispatcher
from mcpgateway.calls.namespace import NoStream, StreamBack, forwarded
from mcpgateway.calls.targets import named, unknown, with_name
from mcpgateway.catalog.direct import direct
from mcpgateway.catalog.items import Kind, read
from mcpgateway.catalog.rules import Naming, NamingMode, ServerView, ToolRules
from mcpgateway.catalog.table import build
from mcpgateway.config.model import Isolation
from mcpgateway.errors import ErrorReply, InvalidParams, ServerUnavailable
from mcpgateway.jsonrpc import Message, members_of, raw_of
from mcpgateway.protocol.answers import requested_revision
from mcpgateway.protocol.negotiated import Negotiated
from mcpgateway.protocol.revisions import LEGACY_REVISIONS, Era
from mcpgateway.servers.ledger import LinkKey
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller
from mcpgateway.wire.waiting import Wait

_decode_list = msgspec.json.Decoder(list[Raw]).decode


class Refused(ErrorReply):
    """The server's error to a client's handshake: the client's answer, and for HTTP an answer like any other."""

    status = 200

    def __init__(self, reply: ErrorReply) -> None:
        super().__init__(reply.reply_code, reply.message, reply.reply_data)
        self.code = reply.reply_code  # type: ignore[misc]  # a constant of every other class


class RawNamespace:
    """One server under its own names. ``view`` holds its rules; see `mcpgateway.calls.namespace.Namespace`."""

    def __init__(
        self, name: str, server: Server, view: ServerView, dispatcher: Dispatcher, *, startup_wait: float
    ) -> None:
        self.name = name
        self.servers = (server,)
        self._server = server
        self._view = view
        self._dispatcher = dispatcher
        self._startup_wait = startup_wait
        ruled = any(rule != ToolRules() for rule in view.rules)
        self._direct = direct(server.name, view) if ruled else None

    @property
    def keeps_sessions(self) -> bool:
        if self._server.isolation(Era.LEGACY) is not Isolation.SESSION:
            return True
        negotiated = self._server.spoken.get(Era.LEGACY)
        return negotiated is None or negotiated.stateful

    async def initialize(self, caller: Caller, params: Raw, session: str) -> tuple[Raw, bool]:
        server = self._server
        await server.known(self._startup_wait)
        if server.isolation(Era.LEGACY) is not Isolation.SESSION:
            negotiated = await self._negotiated(LinkKey(Era.LEGACY, caller.capability_set), None)
            return _offered(negotiated.result, params, negotiated.revision), True
        try:
            negotiated = await self._negotiated(LinkKey(Era.LEGACY, caller.capability_set, session), params)
        except BaseException:
            server.end_owner(session)  # there will be none
            raise
        if negotiated.stateful:
            caller.handshake = params
        else:
            server.end_owner(session)  # it keeps no session, so neither do we
        return negotiated.result, negotiated.stateful

    async def _negotiated(self, key: LinkKey, params: Raw | None) -> Negotiated:
        try:
            slot = await self._server.acquire(key, initialize=params)
        except ServerUnavailable as problem:
            if isinstance(problem.__cause__, ErrorReply):
                raise Refused(problem.__cause__) from None
            raise
        self._server.release(slot)
        assert slot.link is not None
        return slot.link.negotiated

    async def serve(
        self, caller: Caller, message: Message, wait: Wait, back: Back, headers: Mapping[bytes, bytes] | None = None
    ) -> Reply:
        server = self._server
        if not server.tried.is_set():
            await server.known(self._startup_wait)
        along: Mapping[bytes, bytes] | None = forwarded(headers) if headers is not None else None
        if self._direct is not None:
            if message.method == "tools/call":
                name = named(message, "name")
                target = self._direct.route(name)
                if target is None:
                    raise unknown("tool", name)
                message, along = with_name(message, "name", target.original, along)
            elif message.method == "tools/list":
                reply = await self._dispatcher.call(server, caller, message, wait, back, along)
                return self._filtered(reply)
        return await self._dispatcher.call(server, caller, message, wait, back, along)

    def begin(
        self, caller: Caller, message: Message, wait: Wait, headers: Mapping[bytes, bytes] | None, done: Done
    ) -> bool:
        server = self._server
        if self._direct is not None or not server.tried.is_set():
            return False
        along = forwarded(headers) if headers is not None else None
        return self._dispatcher.begin(server, caller, message, wait, along, done)

    def _filtered(self, reply: Reply) -> Reply:
        """One page of a listing with the rules applied; its cursor stays the server's."""
        if reply.message.result is None:
            return reply
        try:
            members = members_of(reply.message.result)
            items = read(Kind.TOOLS, _decode_list(members["tools"]))
        except (InvalidParams, KeyError, msgspec.DecodeError):
            return reply
        views = {self._server.name: self._view}
        table = build(Kind.TOOLS, views, {self._server.name: items}, Naming(), NamingMode.RAW)
        members["tools"] = raw_of(table.items)
        return Reply(reply.message.replace(result=raw_of(members)), reply.status, reply.event)

    async def listen(self, caller: Caller, last_event: bytes | None, wait: Wait, back: StreamBack) -> None:
        await trio.lowlevel.checkpoint()
        raise NoStream("the server has nothing to say outside calls")

    async def notify(self, caller: Caller, message: Message) -> None:
        if message.method != "notifications/initialized":  # the link said so when it was made
            await self._dispatcher.tell(self._server, caller, message)


def _offered(result: Raw, params: Raw, spoken: str) -> Raw:
    """A kept ``InitializeResult`` for another client: in the revision it asked for, where the server knows that."""
    requested = requested_revision(params)
    if requested == spoken or requested not in LEGACY_REVISIONS or requested > spoken:
        return result
    members = members_of(result)
    members["protocolVersion"] = raw_of(requested)
    return raw_of(members)
