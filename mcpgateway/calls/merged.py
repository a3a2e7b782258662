"""A namespace that shows several servers as one: who answers each method, the gateway itself included."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec
import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Back, Done, NoStream, Reply
from mcpgateway.calls.call import Dispatcher
from mcpgateway.calls.changes import Changes
from mcpgateway.calls.counterparts import introduced
from mcpgateway.calls.cursors import Cursors, invalid, page
from mcpgateway.calls.introduction import instructions, offered, reach
from mcpgateway.calls.keys import era_for
from mcpgateway.calls.listing import gather, pages
from mcpgateway.calls.mirrors import Mirrors
from mcpgateway.calls.namespace import StreamBack, forwarded, speaks
from mcpgateway.calls.outcomes import then
from mcpgateway.calls.subscriptions import Subscription, parts, targeted
from mcpgateway.calls.tables import Tables
from mcpgateway.calls.targets import named, text_of, with_name
from mcpgateway.calls.tasks import METHODS as TASK_METHODS
from mcpgateway.calls.tasks import Tasks
from mcpgateway.catalog.items import SERVER_META, Kind
from mcpgateway.catalog.naming import Target
from mcpgateway.config.plan import Plan
from mcpgateway.errors import JSON, GatewayError, InvalidParams, MethodNotFound, Reconfigured, ServerError
from mcpgateway.jsonrpc import Message, members_of, raw_of, value_of
from mcpgateway.protocol.answers import answer_initialize, discover_result
from mcpgateway.protocol.capabilities import declared, merge_capabilities
from mcpgateway.protocol.methods import REQUESTS
from mcpgateway.protocol.negotiated import Negotiated
from mcpgateway.protocol.results import fill
from mcpgateway.protocol.revisions import Era
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller
from mcpgateway.sessions.sealing import Sealer
from mcpgateway.sessions.store import Session
from mcpgateway.wire.waiting import Sweeper, Wait, interruptible

NOTHING: Final = 0
"""The fingerprint of what was shown to a client that has asked, and has no answer yet."""

MISSING_META = "io.github.mcpgateway/missing"
"""The member of a listing's ``_meta`` that names the servers it lacks, each with the reason."""

_LISTED = {
    "tools/list": Kind.TOOLS,
    "prompts/list": Kind.PROMPTS,
    "resources/list": Kind.RESOURCES,
    "resources/templates/list": Kind.TEMPLATES,
}


class _Asked(msgspec.Struct, frozen=True):
    """A request, with the arguments of `mcpgateway.calls.namespace.Namespace.serve`."""

    caller: Caller
    message: Message
    wait: Wait
    back: Back
    headers: Mapping[bytes, bytes] | None

    @property
    def method(self) -> str:
        return self.message.method or ""

    def session(self) -> Session:
        """The session that a method needs which there is in legacy sessions only.

        :raises MethodNotFound: there is none
        """
        if self.caller.session is None:
            raise MethodNotFound(f"Method not found: {self.method}")
        return self.caller.session

    def of_era(self, era: Era) -> Caller:
        """Who asks for what there is in one era only; a caller that takes any may, too.

        :raises MethodNotFound: it is a client of the other one
        """
        if self.caller.era not in (era, None):
            raise MethodNotFound(f"Method not found: {self.method}")
        return self.caller

    def about(self, member: str, target: Target) -> _Asked:
        """The same about the name that a thing has at its server."""
        message, headers = with_name(self.message, member, target.original, self.headers)
        return _Asked(self.caller, message, self.wait, self.back, headers)

    def reply(self, result: object) -> Reply:
        return Reply(jsonrpc.result(self.message.id or b"null", result))


class MergedNamespace:
    """Several servers as one; see `mcpgateway.calls.namespace.Namespace`."""

    def __init__(
        self,
        plan: Plan,
        servers: Sequence[Server],
        dispatcher: Dispatcher,
        changes: Changes,
        *,
        server_info: Raw,
        sealer: Sealer,
        sweeper: Sweeper,
    ) -> None:
        self.name = plan.name
        self.servers = tuple(servers)
        self._by_name = {server.name: server for server in servers}
        self._dispatcher = dispatcher
        self._changes = changes
        self._interests = changes.interests
        self._server_info = server_info
        self._startup_wait = plan.startup_wait
        self._list_timeout = plan.list_timeout
        self._sweeper = sweeper
        self._page_size = plan.page_size
        self._subscribed: set[Wait] = set()
        """Subscriptions of modern clients."""
        self._cursors = Cursors(sealer, plan.name)
        self._tasks = Tasks()
        self._mirrors = Mirrors(dispatcher)
        self._tables = Tables(
            dispatcher,
            self.servers,
            plan.views,
            naming=plan.naming,
            mode=plan.mode,
            startup_wait=plan.startup_wait,
            list_timeout=plan.list_timeout,
            soon=changes.soon,
            changed=partial(changes.renewals.renewed, plan.name),
        )
        self._answers: dict[str, Callable[[_Asked], Awaitable[Reply]]] = {
            "completion/complete": self._complete,
            "logging/setLevel": self._set_level,
            "ping": self._ping,
            "prompts/get": self._call_prompt,
            "resources/read": self._call_resource,
            "resources/subscribe": self._subscribe_resource,
            "resources/unsubscribe": self._unsubscribe_resource,
            "server/discover": self._discover,
            "subscriptions/listen": self._subscribe,
            "tasks/list": self._list_tasks,
            "tools/call": self._call_tool,
            **dict.fromkeys(_LISTED, self._list),
            **dict.fromkeys(TASK_METHODS, self._task),
        }

    @property
    def keeps_sessions(self) -> bool:
        return True

    @property
    def passes_through(self) -> bool:
        return False

    @property
    def verbatim(self) -> bool:
        return False

    def succeed(self, before: MergedNamespace) -> None:
        """Take another's place: what it knew of tasks goes on, and what its servers listed stands until listed anew."""
        self._tasks = before._tasks
        self._tables.inherit(before._tables)

    def retire(self) -> None:
        for wait in list(self._subscribed):
            wait.end(Reconfigured("the configuration of the namespace has changed"))

    # ---- what the gateway is asked itself ----------------------------------------------------------------------------

    async def initialize(self, caller: Caller, params: Raw, session: str) -> tuple[Raw, bool]:
        known = await self._reach(caller, Era.LEGACY)
        introduced(caller, params)
        result = answer_initialize(
            params,
            capabilities=offered(known, Era.LEGACY),
            server_info=self._server_info,
            instructions=instructions(known),
        )
        return raw_of(result), True

    async def _discover(self, asked: _Asked) -> Reply:
        known = await self._reach(asked.of_era(Era.MODERN), Era.MODERN)
        capabilities, words = offered(known, Era.MODERN), instructions(known)
        return asked.reply(
            discover_result(capabilities=capabilities, server_info=self._server_info, instructions=words)
        )

    async def _reach(self, caller: Caller, era: Era) -> dict[str, Negotiated | None]:
        return await reach(self.servers, caller, era, startup_wait=self._startup_wait, list_timeout=self._list_timeout)

    async def _ping(self, asked: _Asked) -> Reply:
        asked.of_era(Era.LEGACY)
        await trio.lowlevel.checkpoint()
        return asked.reply({})

    async def _set_level(self, asked: _Asked) -> Reply:
        """Set every server's level that has one; the first that refuses the level answers for all."""
        caller, message = asked.of_era(Era.LEGACY), asked.message
        for server in self._speaking(caller):
            negotiated = server.spoken.get(era_for(caller, server))
            if negotiated is None or "logging" not in members_of(negotiated.capabilities):
                continue
            try:
                if caller.session is None:
                    answer = await self._dispatcher.call(server, caller, message, asked.wait, asked.back)
                else:
                    answer = await self._interests.serve(server, caller.session, message, asked.wait, asked.back)
            except ServerError:
                continue
            if answer.message.error is not None:
                return answer
        return asked.reply({})

    # ---- lists -------------------------------------------------------------------------------------------------------

    async def _list(self, asked: _Asked) -> Reply:
        caller, kind = asked.caller, _LISTED[asked.method]
        if caller.session is not None:
            caller.session.seen.setdefault(kind.value, NOTHING)  # should it give up, it is told when there is more
        cursor = members_of(asked.message.params).get("cursor")
        if cursor is None or cursor == jsonrpc.NULL:
            after = None
            with interruptible(asked.wait):
                listed = await self._tables.refresh(caller, kind)
        else:
            after = await self._cursors.open(caller, kind, text_of(cursor, "params.cursor"))
            listed = await self._tables.listed(caller, kind)
        shown, last = page(listed.table.entries, after, self._page_size)
        result: dict[str, object] = {kind.value: [entry.raw for entry in shown]}
        if last is not None:
            result["nextCursor"] = await self._cursors.seal(caller, kind, last)
        if caller.era is Era.MODERN:
            result |= {"resultType": "complete", **listed.hints.members()}
        if caller.session is not None:
            caller.session.seen[kind.value] = listed.table.fingerprint
        if listed.missing:
            result["_meta"] = {MISSING_META: listed.missing}
        return asked.reply(result)

    async def _list_tasks(self, asked: _Asked) -> Reply:
        """``tasks/list`` (2025-11-25): of all that the servers list, what they made for this principal."""
        caller = asked.of_era(Era.LEGACY)
        cursor = members_of(asked.message.params).get("cursor")
        if cursor is not None and cursor != jsonrpc.NULL:
            raise invalid("this listing has one page")
        keeping = [server for server in self._speaking(caller) if _declares(server, "tasks")]
        gathered = await gather(
            keeping,
            lambda server: pages(self._dispatcher, server, caller, "tasks/list", "tasks"),
            startup_wait=self._startup_wait,
            list_timeout=self._list_timeout,
        )
        tasks = [
            task
            for server in keeping
            if server.name in gathered.found
            for task in self._tasks.mine(caller.principal, server.name, gathered.found[server.name][0])
        ]
        missing = gathered.missing
        return asked.reply({"tasks": tasks, **({"_meta": {MISSING_META: missing}} if missing else {})})

    def _speaking(self, caller: Caller) -> list[Server]:
        return [server for server in self.servers if speaks(server, caller.era)]

    # ---- calls -------------------------------------------------------------------------------------------------------

    async def serve(
        self, caller: Caller, message: Message, wait: Wait, back: Back, headers: Mapping[bytes, bytes] | None = None
    ) -> Reply:
        asked = _Asked(caller, message, wait, back, headers)
        return await self._answers.get(asked.method, self._other)(asked)

    async def _other(self, asked: _Asked) -> Reply:
        """A method that no revision knows goes to the one server, if there is but one: nobody else could mean it."""
        method = asked.method
        if len(self.servers) != 1 or any(method in REQUESTS[era] for era in Era):
            raise MethodNotFound(f"Method not found: {method[:200]}")
        return await self._dispatch(self.servers[0].name, asked)

    def begin(
        self, caller: Caller, message: Message, wait: Wait, headers: Mapping[bytes, bytes] | None, done: Done
    ) -> bool:
        if message.method != "tools/call" or (table := self._tables.known(caller, Kind.TOOLS)) is None:
            return False
        try:
            target = table.route(named(message, "name"))
        except InvalidParams:
            return False
        if target is None:
            return False
        server, name = self._by_name[target.server], target.server
        message, headers = with_name(message, "name", target.original, headers)
        if not self._mirrors.clear(server, headers):
            return False
        along = forwarded(headers) if headers is not None else None
        finished = then(lambda reply: self._finished(caller, "tools/call", name, reply), done)
        return self._dispatcher.begin(server, caller, message, wait, along, finished)

    def owner(self, caller: Caller, tool: str) -> Target | None:
        table = self._tables.known(caller, Kind.TOOLS)
        return None if table is None else table.route(tool)

    async def _call_tool(self, asked: _Asked) -> Reply:
        name = named(asked.message, "name")
        target = await self._tables.owner(asked.caller, Kind.TOOLS, name, asked.wait)
        asked = asked.about("name", target)
        with interruptible(asked.wait):
            await self._mirrors.check(self._by_name[target.server], asked.caller, asked.message, asked.headers)
        return await self._dispatch(target.server, asked)

    async def _call_prompt(self, asked: _Asked) -> Reply:
        target = await self._tables.owner(asked.caller, Kind.PROMPTS, named(asked.message, "name"), asked.wait)
        return await self._dispatch(target.server, asked.about("name", target))

    async def _call_resource(self, asked: _Asked) -> Reply:
        target = await self._tables.reader(asked.caller, named(asked.message, "uri"), asked.wait)
        return await self._dispatch(target.server, asked.about("uri", target))

    async def _complete(self, asked: _Asked) -> Reply:
        """``completion/complete``: of a prompt's argument, or of a resource template's variable."""
        params = members_of(asked.message.params)
        reference = members_of(params.get("ref"))
        member, kind = ("uri", Kind.TEMPLATES) if "uri" in reference else ("name", Kind.PROMPTS)
        name = text_of(reference.get(member), f"params.ref.{member}")
        target = await self._tables.owner(asked.caller, kind, name, asked.wait)
        params["ref"] = raw_of({**reference, member: target.original})
        message = asked.message.replace(params=raw_of(params))
        return await self._dispatch(target.server, _Asked(asked.caller, message, asked.wait, asked.back, asked.headers))

    async def _dispatch(self, name: str, asked: _Asked) -> Reply:
        server, headers = self._by_name[name], asked.headers
        along = forwarded(headers) if headers is not None else None
        reply = await self._dispatcher.call(server, asked.caller, asked.message, asked.wait, asked.back, along)
        return self._finished(asked.caller, asked.method, name, reply)

    def _finished(self, caller: Caller, method: str, server: str, reply: Reply) -> Reply:
        """A reply as the client gets it: with its server named, and tasks under the ids that the client knows."""
        result = reply.message.result
        if result is None:
            return reply
        try:
            members = members_of(result)
            if "task" in members or "taskId" in members or method in TASK_METHODS:
                self._tasks.respell(caller.principal, server, members)
            meta = members_of(members.get("_meta"))
        except InvalidParams:
            return reply  # not an object: the server's mistake, and the client's to see
        meta[SERVER_META] = raw_of(server)
        members["_meta"] = raw_of(meta)
        if caller.era is Era.MODERN:
            fill(method, members)
        return Reply(reply.message.replace(result=raw_of(members)), reply.status, reply.event)

    async def _task(self, asked: _Asked) -> Reply:
        """What is asked about one task goes to the server that made it."""
        caller, method = asked.caller, asked.method
        if caller.era is not None and method not in REQUESTS[caller.era]:
            raise MethodNotFound(f"Method not found: {method}")
        target = self._tasks.find(caller.principal, named(asked.message, "taskId"))
        return await self._dispatch(target.server, asked.about("taskId", target))

    # ---- subscriptions -----------------------------------------------------------------------------------------------

    async def _subscribe_resource(self, asked: _Asked) -> Reply:
        """``resources/subscribe`` (legacy), at the server whose resource it is."""
        session, uri = asked.session(), named(asked.message, "uri")
        target = await self._tables.reader(asked.caller, uri, asked.wait)
        server, message = self._by_name[target.server], asked.about("uri", target).message
        reply = await self._interests.serve(server, session, message, asked.wait, asked.back, shown=uri)
        return self._finished(asked.caller, asked.method, target.server, reply)

    async def _unsubscribe_resource(self, asked: _Asked) -> Reply:
        """``resources/unsubscribe`` (legacy), also of a resource that is not listed any more."""
        session = asked.session()
        found = self._interests.subscriptions.known_as(session, named(asked.message, "uri"))
        if found is None:
            return asked.reply({})
        (server, _), original = found
        message, _ = with_name(asked.message, "uri", original, None)
        reply = await self._interests.serve(server, session, message, asked.wait, asked.back)
        return self._finished(asked.caller, asked.method, server.name, reply)

    async def _subscribe(self, asked: _Asked) -> Reply:
        """``subscriptions/listen`` (2026-07-28), at every server that it concerns."""
        caller, message, wait, headers = asked.caller, asked.message, asked.wait, asked.headers
        if caller.era is not Era.MODERN:
            raise MethodNotFound("Method not found: subscriptions/listen")
        raw = members_of(members_of(message.params).get("notifications"))
        wanted = {member: value_of(value) for member, value in raw.items()}
        along = forwarded(headers) if headers is not None else None

        async def listen(server: str, part: Message, back: Back) -> Reply:
            return await self._dispatcher.call(self._by_name[server], caller, part, Wait(), back, along)

        targets = await targeted(
            wanted, partial(self._tables.reader, caller, wait=wait), partial(self._tasks.find, caller.principal)
        )
        split = parts(wanted, self._offers(caller), targets)
        subscription = Subscription(message, split, asked.back, listen, partial(self._tables.refresh, caller))
        self._subscribed.add(wait)
        try:
            return await subscription.run(wait, self._sweeper, self._list_timeout)
        finally:
            self._subscribed.discard(wait)

    def _offers(self, caller: Caller) -> dict[str, Mapping[str, JSON] | None]:
        """The modern capabilities of all servers that may speak the era; ``None`` where they are not known yet."""
        found: dict[str, Mapping[str, JSON] | None] = {}
        for server in self._speaking(caller):
            negotiated = server.spoken.get(Era.MODERN)
            found[server.name] = None if negotiated is None else merge_capabilities([negotiated.capabilities])
        return found

    def passes_streams(self, caller: Caller) -> bool:
        return False

    async def listen(self, caller: Caller, last_event: bytes | None, wait: Wait, back: StreamBack) -> None:
        if caller.session is None:
            await trio.lowlevel.checkpoint()
            raise NoStream("there is a stream in sessions only")
        await self._changes.listen(self, caller.session, last_event, wait, back)

    async def renew(self, caller: Caller, kind: Kind) -> int | None:
        return (await self._tables.refresh(caller, kind)).table.fingerprint

    async def notify(self, caller: Caller, message: Message) -> None:
        if message.method == "notifications/roots/list_changed":
            for server in self._speaking(caller):
                try:
                    await self._dispatcher.tell(server, caller, message)
                except GatewayError:
                    continue


def _declares(server: Server, capability: str) -> bool:
    """Whether a server that was reached in the legacy era has a capability."""
    negotiated = server.spoken.get(Era.LEGACY)
    return negotiated is not None and declared(negotiated.capabilities, capability)
