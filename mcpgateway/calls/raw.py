"""A namespace that shows one server as it is.

Names are the server's own, unknown members, methods and cursors pass to the byte; only filters and new names, where
there are any, make the gateway look at tools. An unknown tool is the server's to refuse.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import msgspec
import trio
from msgspec import Raw

from mcpgateway.adapters.base import Back, Done, Event, NoStream, Reply
from mcpgateway.calls.call import Dispatcher
from mcpgateway.calls.changes import Changes
from mcpgateway.calls.counterparts import introduced
from mcpgateway.calls.eras import choose
from mcpgateway.calls.interests import LASTING
from mcpgateway.calls.keys import era_for, key_for
from mcpgateway.calls.listing import note_tools
from mcpgateway.calls.mirrors import Mirrors
from mcpgateway.calls.namespace import StreamBack, forwarded
from mcpgateway.calls.outcomes import complete, then
from mcpgateway.calls.subscriptions import ended
from mcpgateway.calls.targets import named, unknown, with_name
from mcpgateway.catalog.direct import direct
from mcpgateway.catalog.items import Kind, read
from mcpgateway.catalog.naming import Target
from mcpgateway.catalog.rules import Naming, NamingMode, ServerView, ToolRules
from mcpgateway.catalog.table import build
from mcpgateway.config.model import Isolation
from mcpgateway.errors import (
    EraMismatch,
    ErrorReply,
    InvalidParams,
    MethodNotFound,
    Reconfigured,
    ServerUnavailable,
    ShuttingDown,
)
from mcpgateway.jsonrpc import Message, members_of, raw_of
from mcpgateway.protocol.answers import requested_revision
from mcpgateway.protocol.negotiated import Negotiated
from mcpgateway.protocol.revisions import LEGACY_REVISIONS, Era
from mcpgateway.protocol.translation.handshakes import initialize_result
from mcpgateway.protocol.translation.subscriptions import LISTEN
from mcpgateway.servers.ledger import LinkKey
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller
from mcpgateway.sessions.outbox import Outbox
from mcpgateway.wire.waiting import Wait, interruptible

_LOOKED_AT = LASTING | {"tools/list"}
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
        self,
        name: str,
        server: Server,
        view: ServerView,
        dispatcher: Dispatcher,
        changes: Changes,
        *,
        startup_wait: float,
    ) -> None:
        self.name = name
        self.servers = (server,)
        self._subscribed: set[Wait] = set()
        """Subscriptions of modern clients."""
        self._server = server
        self._view = view
        self._dispatcher = dispatcher
        self._changes = changes
        self._startup_wait = startup_wait
        self._mirrors = Mirrors(dispatcher)
        ruled = any(rule != ToolRules() for rule in view.rules)
        self._direct = direct(server.name, view) if ruled else None

    @property
    def keeps_sessions(self) -> bool:
        if self._server.isolation(Era.LEGACY) is not Isolation.SESSION:
            return True
        negotiated = self._server.spoken.get(Era.LEGACY)
        return negotiated is None or negotiated.stateful

    @property
    def passes_through(self) -> bool:
        server = self._server
        if server.isolation(Era.LEGACY) is not Isolation.SESSION:
            return False
        crossings = self._dispatcher.crossings.keys()
        policy = server.config.era
        return (
            choose(Era.LEGACY, askable=False, policy=policy, spoken=server.presumed, crossings=crossings) is Era.LEGACY
        )

    @property
    def verbatim(self) -> bool:
        return True

    async def initialize(self, caller: Caller, params: Raw, session: str) -> tuple[Raw, bool]:
        server = self._server
        await server.known(self._startup_wait)
        if era_for(caller, server) is Era.LEGACY:
            try:
                result, keep = await self._mirrored(caller, params, session)
            except EraMismatch:  # of a server that was not known well enough; it is now
                if era_for(caller, server) is Era.LEGACY:
                    raise
            else:
                if keep or era_for(caller, server) is Era.LEGACY:
                    return result, keep
        negotiated = await self._negotiated(key_for(caller, server), None)
        introduced(caller, params)
        return initialize_result(negotiated.result, params, server=server.name), True

    async def _mirrored(self, caller: Caller, params: Raw, session: str) -> tuple[Raw, bool]:
        """`initialize` at a server that is spoken to in the client's own era."""
        server = self._server
        if server.isolation(Era.LEGACY) is not Isolation.SESSION:
            negotiated = await self._negotiated(LinkKey(Era.LEGACY, caller.capability_set), None)
            return _offered(negotiated.result, params, negotiated.revision), True
        try:
            key = LinkKey(Era.LEGACY, caller.capability_set, session)
            negotiated = await self._negotiated(key, params, hears=not caller.resumes)
        except BaseException:
            server.end_owner(session)  # there will be none
            raise
        if negotiated.stateful:
            caller.handshake = params
            caller.keys[server.name] = key
        else:
            server.end_owner(session)  # it keeps no session, so neither do we
        return negotiated.result, negotiated.stateful

    async def _negotiated(self, key: LinkKey, params: Raw | None, *, hears: bool = True) -> Negotiated:
        try:
            slot = await self._server.acquire(key, initialize=params, hears=hears)
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
        if message.method == "initialize":  # of a modern client; on a pipe it would change the era for all
            raise MethodNotFound("Method not found: initialize")
        if not server.tried.is_set():
            with interruptible(wait):
                await server.known(self._startup_wait)
        if message.method in LASTING and caller.session is not None and self._shares(caller):
            return await self._changes.interests.serve(server, caller.session, message, wait, back)
        along: Mapping[bytes, bytes] | None = forwarded(headers) if headers is not None else None
        if message.method == LISTEN:
            return await self._subscribe(caller, message, wait, back, along)
        if self._direct is not None:
            if message.method == "tools/call":
                name = named(message, "name")
                target = self._direct.route(name)
                if target is None:
                    raise unknown("tool", name)
                message, along = with_name(message, "name", target.original, along)
            elif message.method == "tools/list":
                return self._filtered(await self._whole(caller, message, wait, back, along))
        if message.method == "tools/call" and not self._mirrors.clear(server, along):
            with interruptible(wait):
                await self._mirrors.check(server, caller, message, along)
        return await self._whole(caller, message, wait, back, along)

    def _shares(self, caller: Caller) -> bool:
        """Whether what a session asks for to last is kept here: its server hears of all sessions on one link."""
        return not self.passes_through or key_for(caller, self._server).era is Era.MODERN

    async def _whole(
        self, caller: Caller, message: Message, wait: Wait, back: Back, along: Mapping[bytes, bytes] | None
    ) -> Reply:
        """The server's reply, with what the client's era requires of every result."""
        reply = await self._dispatcher.call(self._server, caller, message, wait, back, along)
        if message.method == "tools/list":
            self._seen(reply)
        return complete(message.method or "", reply) if caller.era is Era.MODERN else reply

    async def _subscribe(
        self, caller: Caller, message: Message, wait: Wait, back: Back, along: Mapping[bytes, bytes] | None
    ) -> Reply:
        """``subscriptions/listen`` (2026-07-28), which ends gracefully when it is the gateway that ends it."""
        self._subscribed.add(wait)
        try:
            return await self._whole(caller, message, wait, back, along)
        except (ShuttingDown, Reconfigured):
            return ended(message)
        finally:
            self._subscribed.discard(wait)

    def retire(self) -> None:
        for wait in list(self._subscribed):
            wait.end(Reconfigured(f"the configuration of server {self._server.name!r} has changed"))

    def begin(
        self, caller: Caller, message: Message, wait: Wait, headers: Mapping[bytes, bytes] | None, done: Done
    ) -> bool:
        server = self._server
        if self._direct is not None or not server.tried.is_set() or message.method in _LOOKED_AT:
            return False
        if caller.era is Era.MODERN:
            if message.method == "tools/call" and not self._mirrors.clear(server, headers):
                return False
            done = then(partial(complete, message.method or ""), done)
        along = forwarded(headers) if headers is not None else None
        return self._dispatcher.begin(server, caller, message, wait, along, done)

    def owner(self, caller: Caller, tool: str) -> Target | None:
        if self._direct is not None:
            target = self._direct.route(tool)
            return None if target is None else self._server.tools.get(target.original)
        return self._server.tools.get(tool)

    def _seen(self, reply: Reply) -> None:
        """Look at a page of tools that passes."""
        try:
            note_tools(self._server, read(Kind.TOOLS, _decode_list(members_of(reply.message.result)["tools"])))
        except (InvalidParams, KeyError, msgspec.DecodeError):
            pass  # the client's to see

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
        session = caller.session
        if self.passes_streams(caller):
            if session is not None:
                back = _Prefaced(back, session.outbox)
            await self._dispatcher.listen(self._server, caller, last_event, wait, back)
            return
        if session is None:
            await trio.lowlevel.checkpoint()
            raise NoStream("there is a stream in sessions only")
        await self._changes.listen(self, session, last_event, wait, back)

    async def renew(self, caller: Caller, kind: Kind) -> int | None:
        await trio.lowlevel.checkpoint()
        return None  # what the server lists passes through, unseen

    def passes_streams(self, caller: Caller) -> bool:
        return caller.resumes and caller.handshake is not None and not self._server.pipe

    async def notify(self, caller: Caller, message: Message) -> None:
        if message.method == "notifications/cancelled" and not self.passes_streams(caller):
            return  # on a wire in common the client's ids mean nothing, or somebody else's call
        if message.method != "notifications/initialized":  # the link said so when it was made
            await self._dispatcher.tell(self._server, caller, message)


class _Prefaced:
    """The way to a client whose stream is a server's own, and begins with what the gateway has to say."""

    def __init__(self, back: StreamBack, outbox: Outbox) -> None:
        self._back = back
        self._outbox = outbox
        self.send = back.send

    async def open(self) -> None:
        await self._back.open()
        while (message := self._outbox.take()) is not None:
            await self._back.send(Event(message))


def _offered(result: Raw, params: Raw, spoken: str) -> Raw:
    """A kept ``InitializeResult`` for another client: in the revision it asked for, where the server knows that."""
    requested = requested_revision(params)
    if requested == spoken or requested not in LEGACY_REVISIONS or requested > spoken:
        return result
    members = members_of(result)
    members["protocolVersion"] = raw_of(requested)
    return raw_of(members)
