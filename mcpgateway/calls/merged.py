"""A namespace that shows several servers as one: tables of what they list, and answers of the gateway's own.

What one client sees depends on its era and capabilities (servers list differently), so tables are kept per both. A
listing is always fetched anew and replaces the table; a call looks its name up, and lists once if it finds nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Back, Continuation, Done, Outcome, Reply
from mcpgateway.calls.call import Dispatcher
from mcpgateway.calls.listing import fetch_all
from mcpgateway.calls.namespace import NoStream, StreamBack, forwarded, speaks
from mcpgateway.calls.targets import named, text_of, unknown, with_name
from mcpgateway.catalog.items import SERVER_META, Item, Kind
from mcpgateway.catalog.naming import Target
from mcpgateway.catalog.rules import Naming, NamingMode, ServerView
from mcpgateway.catalog.table import Table, build
from mcpgateway.catalog.templates import template_routes
from mcpgateway.errors import GatewayError, InvalidParams, MethodNotFound, ServerError, UnsupportedVersion
from mcpgateway.jsonrpc import Message, members_of, raw_of
from mcpgateway.protocol.answers import answer_initialize, discover_result
from mcpgateway.protocol.capabilities import merge_capabilities
from mcpgateway.protocol.envelope import with_meta
from mcpgateway.protocol.negotiated import Negotiated
from mcpgateway.protocol.revisions import Era, revisions_of
from mcpgateway.servers.ledger import LinkKey
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller
from mcpgateway.wire.waiting import Wait

MISSING_META = "io.github.mcpgateway/missing"
"""The member of a listing's ``_meta`` that names the servers it lacks, each with the reason."""

_LISTED = {
    "tools/list": Kind.TOOLS,
    "prompts/list": Kind.PROMPTS,
    "resources/list": Kind.RESOURCES,
    "resources/templates/list": Kind.TEMPLATES,
}
_MAX_VIEWS = 64
"""Capability sets whose tables are kept at a time."""

Answer = Callable[[Caller, Message, Wait, Back, "Mapping[bytes, bytes] | None"], Awaitable[Reply]]


class MergedNamespace:
    """Several servers as one. ``views`` are in config order; see `mcpgateway.calls.namespace.Namespace`."""

    def __init__(
        self,
        name: str,
        servers: Sequence[Server],
        views: Mapping[str, ServerView],
        dispatcher: Dispatcher,
        *,
        naming: Naming,
        mode: NamingMode,
        server_info: Raw,
        startup_wait: float,
        list_timeout: float,
    ) -> None:
        self.name = name
        self.servers = tuple(servers)
        self._by_name = {server.name: server for server in servers}
        self._views = views
        self._dispatcher = dispatcher
        self._naming = naming
        self._mode = mode
        self._server_info = server_info
        self._startup_wait = startup_wait
        self._list_timeout = list_timeout
        self._tables: dict[tuple[Era | None, bytes], dict[Kind, Table]] = {}
        self._locks: dict[tuple[Era | None, bytes, Kind], trio.Lock] = {}
        """One listing at a time for calls that look for a name: the others take what it found."""
        self._listings: dict[tuple[Era | None, bytes, Kind], dict[str, tuple[Item, ...]]] = {}
        """What each server last listed: what a server that is away for a moment still shows."""
        self._answers: dict[str, Answer] = {
            "completion/complete": self._complete,
            "logging/setLevel": self._set_level,
            "ping": self._ping,
            "prompts/get": self._call_prompt,
            "resources/read": self._call_resource,
            "server/discover": self._discover,
            "tools/call": self._call_tool,
            **dict.fromkeys(_LISTED, self._list),
        }

    @property
    def keeps_sessions(self) -> bool:
        return True

    # ---- what the gateway is asked itself ----------------------------------------------------------------------------

    async def initialize(self, caller: Caller, params: Raw, session: str) -> tuple[Raw, bool]:
        known = await self._known(caller, Era.LEGACY)
        result = answer_initialize(
            params,
            capabilities=_offered(known),
            server_info=self._server_info,
            instructions=_instructions(known),
        )
        return raw_of(result), True

    async def _discover(
        self, caller: Caller, message: Message, wait: Wait, back: Back, headers: Mapping[bytes, bytes] | None
    ) -> Reply:
        if caller.era is Era.LEGACY:
            raise MethodNotFound("Method not found: server/discover")
        known = await self._known(caller, Era.MODERN)
        return _reply(
            message,
            discover_result(
                capabilities=_offered(known), server_info=self._server_info, instructions=_instructions(known)
            ),
        )

    async def _known(self, caller: Caller, era: Era) -> dict[str, Negotiated | None]:
        """What was negotiated with the servers that speak, or may speak, an era; ``None`` where none was reached yet.

        :raises UnsupportedVersion: there are servers, and none does
        """
        modern = era is Era.MODERN
        with trio.move_on_after(self._startup_wait):
            for server in self.servers:
                await server.tried.wait()
        async with trio.open_nursery() as nursery:
            for server in self.servers:
                if server.spoken and era not in server.spoken:
                    nursery.start_soon(self._try_era, server, LinkKey(era, b"" if modern else caller.capability_set))
        speaking = [server for server in self.servers if speaks(server, era)]
        if self.servers and not speaking:
            other = Era.LEGACY if modern else Era.MODERN
            raise UnsupportedVersion(
                f"the servers here speak only the {other.value} era of MCP, the client the {era.value} era; "
                "this gateway does not translate between them yet",
                data={"supported": list(revisions_of(other)), "client_era": era.value, "server_era": other.value},
            )
        return {
            server.name: server.spoken.get(era) or next(filter(None, server.spoken.values()), None)
            for server in speaking
        }

    async def _try_era(self, server: Server, key: LinkKey) -> None:
        """Find out whether a server that speaks one era speaks the other too."""
        with trio.move_on_after(self._list_timeout):
            try:
                server.release(await server.acquire(key))
            except GatewayError:
                return

    async def _ping(
        self, caller: Caller, message: Message, wait: Wait, back: Back, headers: Mapping[bytes, bytes] | None
    ) -> Reply:
        if caller.era is Era.MODERN:
            raise MethodNotFound("Method not found: ping")
        await trio.lowlevel.checkpoint()
        return _reply(message, {})

    async def _set_level(
        self, caller: Caller, message: Message, wait: Wait, back: Back, headers: Mapping[bytes, bytes] | None
    ) -> Reply:
        """Set every server's level that has one; the first that refuses the level answers for all."""
        if caller.era is Era.MODERN:
            raise MethodNotFound("Method not found: logging/setLevel")
        reply = _reply(message, {})
        for server in self._speaking(caller):
            negotiated = server.spoken.get(Era.LEGACY)
            if negotiated is None or "logging" not in members_of(negotiated.capabilities):
                continue
            try:
                answer = await self._dispatcher.call(server, caller, message, wait, back)
            except ServerError:
                continue
            if answer.message.error is not None:
                return answer
        return reply

    # ---- lists -------------------------------------------------------------------------------------------------------

    async def _list(
        self, caller: Caller, message: Message, wait: Wait, back: Back, headers: Mapping[bytes, bytes] | None
    ) -> Reply:
        kind = _LISTED[message.method or ""]
        cursor = members_of(message.params).get("cursor")
        if cursor is not None and cursor != jsonrpc.NULL:
            raise InvalidParams("Invalid cursor: this listing has one page")
        table, missing = await self.refresh(caller, kind)
        result: dict[str, object] = {kind.value: table.items}
        if caller.era is Era.MODERN:
            result |= {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        if missing:
            result["_meta"] = {MISSING_META: missing}
        return _reply(message, result)

    async def refresh(self, caller: Caller, kind: Kind) -> tuple[Table, dict[str, str]]:
        """List all servers anew for such a caller; the table, and the servers that are missing, with reasons."""
        listings, missing = await fetch_all(
            self._dispatcher,
            self.servers,
            caller,
            kind,
            startup_wait=self._startup_wait,
            list_timeout=self._list_timeout,
        )
        view = (caller.era, caller.capability_set)
        if view not in self._tables and len(self._tables) >= _MAX_VIEWS:
            oldest = next(iter(self._tables))
            del self._tables[oldest]
            self._listings = {key: value for key, value in self._listings.items() if key[:2] != oldest}
            self._locks = {key: value for key, value in self._locks.items() if key[:2] != oldest}
        last = self._listings.setdefault((*view, kind), {})
        last.update(listings)
        table = build(kind, self._views, last, self._naming, self._mode)
        self._tables.setdefault(view, {})[kind] = table
        return table, missing

    def _speaking(self, caller: Caller) -> list[Server]:
        return [server for server in self.servers if speaks(server, caller.era)]

    def _table(self, caller: Caller, kind: Kind) -> Table | None:
        return self._tables.get((caller.era, caller.capability_set), {}).get(kind)

    async def _find(self, caller: Caller, kind: Kind, find: Callable[[Table], Target | None]) -> Target | None:
        """Look something up in the table, and once more in a new one where it is not there."""
        seen = self._table(caller, kind)
        target = find(seen) if seen is not None else None
        if target is not None:
            return target
        async with self._locks.setdefault((caller.era, caller.capability_set, kind), trio.Lock()):
            table = self._table(caller, kind)
            if table is None or table is seen:
                table, _ = await self.refresh(caller, kind)
        return find(table)

    # ---- calls -------------------------------------------------------------------------------------------------------

    async def serve(
        self, caller: Caller, message: Message, wait: Wait, back: Back, headers: Mapping[bytes, bytes] | None = None
    ) -> Reply:
        answer = self._answers.get(message.method or "")
        if answer is None:
            raise MethodNotFound(f"Method not found: {(message.method or '')[:200]}")
        return await answer(caller, message, wait, back, headers)

    def begin(
        self, caller: Caller, message: Message, wait: Wait, headers: Mapping[bytes, bytes] | None, done: Done
    ) -> bool:
        if message.method != "tools/call" or (table := self._table(caller, Kind.TOOLS)) is None:
            return False
        try:
            target = table.route(named(message, "name"))
        except InvalidParams:
            return False
        if target is None:
            return False
        message, headers = with_name(message, "name", target.original, headers)
        along = forwarded(headers) if headers is not None else None

        def stamped(outcome: Outcome) -> None:
            if isinstance(outcome, Reply):
                done(_stamped(outcome, target.server))
            elif isinstance(outcome, Exception):
                done(outcome)
            else:
                done(partial(_stamp_later, outcome, target.server))

        return self._dispatcher.begin(self._by_name[target.server], caller, message, wait, along, stamped)

    async def _call_tool(
        self, caller: Caller, message: Message, wait: Wait, back: Back, headers: Mapping[bytes, bytes] | None
    ) -> Reply:
        name = named(message, "name")
        target = await self._find(caller, Kind.TOOLS, lambda table: table.route(name))
        if target is None:
            raise unknown("tool", name)
        return await self._call(target, "name", caller, message, wait, back, headers)

    async def _call_prompt(
        self, caller: Caller, message: Message, wait: Wait, back: Back, headers: Mapping[bytes, bytes] | None
    ) -> Reply:
        name = named(message, "name")
        target = await self._find(caller, Kind.PROMPTS, lambda table: table.route(name))
        if target is None:
            raise unknown("prompt", name)
        return await self._call(target, "name", caller, message, wait, back, headers)

    async def _call_resource(
        self, caller: Caller, message: Message, wait: Wait, back: Back, headers: Mapping[bytes, bytes] | None
    ) -> Reply:
        uri = named(message, "uri")
        target = await self._resource(caller, uri)
        return await self._call(target, "uri", caller, message, wait, back, headers)

    async def _resource(self, caller: Caller, uri: str) -> Target:
        """Who reads a URI: who lists it, else whose template it fits."""
        listed = self._table(caller, Kind.RESOURCES)
        target = (
            listed.route(uri)
            if listed is not None
            else await self._find(caller, Kind.RESOURCES, lambda table: table.route(uri))
        )
        if target is None:
            target = await self._find(caller, Kind.TEMPLATES, lambda table: template_routes(table).route(uri))
        if target is None and listed is not None:
            target = await self._find(caller, Kind.RESOURCES, lambda table: table.route(uri))
        if target is None:
            raise unknown("resource", uri)
        return target

    async def _complete(
        self, caller: Caller, message: Message, wait: Wait, back: Back, headers: Mapping[bytes, bytes] | None
    ) -> Reply:
        """``completion/complete``: of a prompt's argument, or of a resource template's variable."""
        params = members_of(message.params)
        reference = members_of(params.get("ref"))
        member, kind = ("uri", Kind.TEMPLATES) if "uri" in reference else ("name", Kind.PROMPTS)
        name = text_of(reference.get(member), f"params.ref.{member}")
        target = await self._find(caller, kind, lambda table: table.route(name))
        if target is None:
            raise unknown("resource template" if member == "uri" else "prompt", name)
        params["ref"] = raw_of({**reference, member: target.original})
        message = message.replace(params=raw_of(params))
        return await self._dispatch(target.server, caller, message, wait, back, headers)

    async def _call(
        self,
        target: Target,
        member: str,
        caller: Caller,
        message: Message,
        wait: Wait,
        back: Back,
        headers: Mapping[bytes, bytes] | None,
    ) -> Reply:
        message, headers = with_name(message, member, target.original, headers)
        return await self._dispatch(target.server, caller, message, wait, back, headers)

    async def _dispatch(
        self,
        name: str,
        caller: Caller,
        message: Message,
        wait: Wait,
        back: Back,
        headers: Mapping[bytes, bytes] | None,
    ) -> Reply:
        server = self._by_name[name]
        along = forwarded(headers) if headers is not None else None
        reply = await self._dispatcher.call(server, caller, message, wait, back, along)
        return _stamped(reply, name)

    async def listen(self, caller: Caller, last_event: bytes | None, wait: Wait, back: StreamBack) -> None:
        await trio.lowlevel.checkpoint()
        raise NoStream("the servers have nothing to say outside calls")

    async def notify(self, caller: Caller, message: Message) -> None:
        if message.method == "notifications/roots/list_changed":
            for server in self._speaking(caller):
                try:
                    await self._dispatcher.tell(server, caller, message)
                except GatewayError:
                    continue


def _stamped(reply: Reply, server: str) -> Reply:
    """A reply whose result names its server."""
    result = reply.message.result
    if result is None:
        return reply
    try:
        stamped = with_meta(result, {SERVER_META: server})
    except InvalidParams:
        return reply  # not an object: the server's mistake, and the client's to see
    return Reply(reply.message.replace(result=stamped), reply.status, reply.event)


async def _stamp_later(continuation: Continuation, server: str, back: Back) -> Reply:
    return _stamped(await continuation(back), server)


def _reply(message: Message, result: object) -> Reply:
    return Reply(jsonrpc.result(message.id or b"null", result))


_UNREACHED = Raw(b'{"tools":{},"prompts":{},"resources":{}}')
"""What a server may turn out to offer that was not reached yet: whoever is not told never asks."""


def _offered(known: Mapping[str, Negotiated | None]) -> dict[str, object]:
    """The servers' capabilities united, without what the gateway does not carry in merged namespaces yet."""
    merged = merge_capabilities(
        _UNREACHED if negotiated is None else negotiated.capabilities for negotiated in known.values()
    )
    offered: dict[str, object] = {}
    for name in ("tools", "prompts", "resources", "completions", "logging"):
        value = merged.get(name)
        if isinstance(value, dict):
            offered[name] = {key: entry for key, entry in value.items() if key not in ("listChanged", "subscribe")}
    return offered


def _instructions(known: Mapping[str, Negotiated | None]) -> str | None:
    """What the servers tell their clients, each under its name."""
    parts: list[str] = []
    for name, negotiated in known.items():
        raw = None if negotiated is None else members_of(negotiated.result).get("instructions")
        if raw is not None and raw != jsonrpc.NULL:
            parts.append(f"# {name}\n\n{text_of(raw, 'instructions')}")
    return "\n\n".join(parts) or None
