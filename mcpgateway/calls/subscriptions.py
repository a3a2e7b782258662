"""``subscriptions/listen`` over several servers (MCP 2026-07-28, subscriptions).

The client's one subscription is one at each server that it concerns. It is acknowledged once, with all that the servers
honour; what they tell comes under the client's names and its subscription id. A server that ends its part ends no
other's; one that is lost is listened to again as soon as it is back, and since nobody knows what it would have told
meanwhile, the client is told that what it listens to has changed. The subscription ends when all parts have, when the
client goes, or with the gateway or its namespace: gracefully then.

What goes to whom, and what comes back, are pure functions; `Subscription` is the I/O around them.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Final

import attrs
import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Back, Event, Reply
from mcpgateway.backoff import Backoff
from mcpgateway.catalog.items import Kind
from mcpgateway.catalog.naming import Target
from mcpgateway.errors import JSON, EraMismatch, GatewayError, InvalidParams, Reconfigured, ServerError, ShuttingDown
from mcpgateway.jsonrpc import Message, members_of, raw_of, value_of
from mcpgateway.protocol.envelope import SUBSCRIPTION_ID
from mcpgateway.protocol.translation.subscriptions import ACKNOWLEDGED, UPDATED
from mcpgateway.wire.waiting import Sweeper, Wait, interruptible

CHANGES: Final[Mapping[str, tuple[str, str]]] = {
    "toolsListChanged": ("tools", "listChanged"),
    "promptsListChanged": ("prompts", "listChanged"),
    "resourcesListChanged": ("resources", "listChanged"),
}
"""What may be listened to, with the capability of a server that tells of it."""
CHANGED: Final[Mapping[str, tuple[Kind, ...]]] = {
    "notifications/tools/list_changed": (Kind.TOOLS,),
    "notifications/prompts/list_changed": (Kind.PROMPTS,),
    "notifications/resources/list_changed": (Kind.RESOURCES, Kind.TEMPLATES),
}
"""What a notification makes stale."""
TOLD: Final[Mapping[str, str]] = {
    "toolsListChanged": "notifications/tools/list_changed",
    "promptsListChanged": "notifications/prompts/list_changed",
    "resourcesListChanged": "notifications/resources/list_changed",
}
"""What may be listened to, with the notification that tells of it."""
_BACKOFF: Final = Backoff(initial=1.0, maximum=60.0)
TARGETED: Final = ("resourceSubscriptions", "taskIds")
"""What may be listened to by name, which is one server's."""


@attrs.frozen
class Part:
    """One server's part of a subscription. ``names`` are the exposed names (URIs, task ids) of its own ones."""

    wanted: Mapping[str, JSON]
    names: Mapping[str, str] = attrs.field(factory=dict)

    def shown(self, name: str) -> str:
        """The client's name for what a server tells of: itself, or what lies below something subscribed to."""
        whole = self.names.get(name)
        if whole is not None:
            return whole
        above = max((known for known in self.names if name.startswith(known)), key=len, default="")
        return self.names[above] + name[len(above) :] if above else name


def parts(
    wanted: Mapping[str, JSON],
    capabilities: Mapping[str, Mapping[str, JSON] | None],
    targets: Mapping[tuple[str, str], Target],
) -> dict[str, Part]:
    """What each server is asked for; servers that it does not concern are absent.

    ``wanted`` are the client's ``notifications``; ``capabilities`` those of every server in question, or ``None`` where
    they are not known; ``targets`` say whose each URI and task is, by member and name: one that is nobody's is asked of
    nobody. Members that this gateway does not know go to every server.
    """
    found: dict[str, Part] = {}
    for server, offers in capabilities.items():
        asked: dict[str, JSON] = {}
        names: dict[str, str] = {}
        for member, value in wanted.items():
            if member in TARGETED:
                own = {
                    target.original: name
                    for name in texts(value)
                    if (target := targets.get((member, name))) is not None and target.server == server
                }
                if own:
                    asked[member] = list(own)
                    names |= own
            elif member not in CHANGES or offers is None or _offers(offers, *CHANGES[member]):
                asked[member] = value
        if asked:
            found[server] = Part(asked, names)
    return found


def united(honoured: Iterable[tuple[Part, Mapping[str, JSON]]]) -> dict[str, JSON]:
    """What all servers together honour, under the client's names: booleans by *or*, lists one after the other."""
    union: dict[str, JSON] = {}
    for part, members in honoured:
        for member, value in members.items():
            if member in TARGETED:
                value = [part.shown(name) for name in texts(value)]
            before = union.get(member)
            if isinstance(before, list) and isinstance(value, list):
                union[member] = [*before, *(entry for entry in value if entry not in before)]
            else:
                union[member] = before or value
    return union


def _offers(capabilities: Mapping[str, JSON], kind: str, what: str) -> bool:
    offered = capabilities.get(kind)
    return isinstance(offered, dict) and offered.get(what) is True


def texts(value: JSON) -> list[str]:
    """The strings in a list; none in anything else."""
    return [entry for entry in value if isinstance(entry, str)] if isinstance(value, list) else []


async def targeted(
    wanted: Mapping[str, JSON], reader: Callable[[str], Awaitable[Target]], task: Callable[[str], Target]
) -> dict[tuple[str, str], Target]:
    """Whose each resource and task is that a subscription names; what is unknown is absent."""
    found: dict[tuple[str, str], Target] = {}
    for member in TARGETED:
        for name in texts(wanted.get(member)):
            try:
                found[member, name] = task(name) if member == "taskIds" else await reader(name)
            except InvalidParams:
                continue
    return found


def with_wanted(message: Message, part: Part) -> Message:
    """The request for one server."""
    return message.replace(params=raw_of({**members_of(message.params), "notifications": part.wanted}))


def respelled(message: Message, part: Part) -> Message:
    """A server's notification under the client's names."""
    member = "uri" if message.method == UPDATED else "taskId" if message.method == "notifications/tasks" else None
    if member is None or not part.names:
        return message
    try:
        params = members_of(message.params)
        name = value_of(params.get(member, jsonrpc.NULL))
    except InvalidParams:
        return message  # the server's mistake, and the client's to see
    if not isinstance(name, str) or part.shown(name) == name:
        return message
    params[member] = raw_of(part.shown(name))
    return message.replace(params=raw_of(params))


def ended(message: Message) -> Reply:
    """The graceful end of a subscription."""
    meta = {SUBSCRIPTION_ID: Raw(message.id or b"null")}
    return Reply(jsonrpc.result(message.id or b"null", {"resultType": "complete", "_meta": meta}))


class Subscription:
    """One client's subscription at several servers, served by `run` in the task of its call.

    ``listen`` asks one server, by name, for the part that a message holds, and returns when that has ended. ``stale``
    is awaited before the client is told that a listing changed.
    """

    def __init__(
        self,
        message: Message,
        parts: Mapping[str, Part],
        back: Back,
        listen: Callable[[str, Message, Back], Awaitable[Reply]],
        stale: Callable[[Kind], Awaitable[object]],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._message = message
        self._meta = {SUBSCRIPTION_ID: Raw(message.id or b"null")}
        self._parts = parts
        self._back = back
        self._listen = listen
        self._stale = stale
        self._chance = chance
        self._lost: dict[str, int] = {}
        """Servers that were lost, and how often in a row they were listened to in vain."""
        self._honoured: dict[str, Mapping[str, JSON]] = {}
        self._unheard = set(parts)
        """Servers that have neither acknowledged their part nor ended it."""
        self._heard = trio.Event()
        self._acknowledged = trio.Event()
        self._sending = trio.Lock()

    async def run(self, wait: Wait, sweeper: Sweeper, patience: float) -> Reply:
        """Serve until the end; servers have ``patience`` seconds to acknowledge their part before the client is told.

        :raises GatewayError: what the ``wait`` was ended with
        """
        sweeper.add(wait)
        try:
            with interruptible(wait):
                async with trio.open_nursery() as nursery:
                    for server, part in self._parts.items():
                        nursery.start_soon(self._one, server, part)
                    await self._acknowledge(patience)
                    if not self._parts:
                        await trio.sleep_forever()  # nothing to tell, and the client may well keep listening
        except ShuttingDown:
            pass
        except Reconfigured:
            await self._tell_all()
        finally:
            sweeper.discard(wait)
        return ended(self._message)

    async def _tell_all(self) -> None:
        """Whatever the client listens to may have changed."""
        if self._acknowledged.is_set():
            for member, method in TOLD.items():
                if any(honoured.get(member) is True for honoured in self._honoured.values()):
                    await self._tell(Event(jsonrpc.notification(method, {"_meta": self._meta})))

    async def _acknowledge(self, patience: float) -> None:
        if self._unheard:
            with trio.move_on_after(patience):
                await self._heard.wait()
        union = united(
            (self._parts[server], self._honoured[server]) for server in self._parts if server in self._honoured
        )
        await self._tell(Event(jsonrpc.notification(ACKNOWLEDGED, {"notifications": union, "_meta": self._meta})))
        self._acknowledged.set()

    async def _one(self, server: str, part: Part) -> None:
        """Listen to one server until it ends its part itself, or will not be listened to."""
        back = _PartBack(partial(self._event, server, part))
        while True:
            try:
                await self._listen(server, with_wanted(self._message, part), back)
                lost = False
            except GatewayError as problem:
                lost = isinstance(problem, ServerError) and not isinstance(problem, EraMismatch)
            self._note(server, {})
            if not lost:
                return
            attempt = self._lost.get(server, 0)
            self._lost[server] = attempt + 1
            await trio.sleep(_BACKOFF.delay(attempt, self._chance()))

    async def _resumed(self, server: str, honoured: Mapping[str, JSON]) -> None:
        """A server that was lost is listened to again: what it would have told meanwhile, nobody knows."""
        del self._lost[server]
        for member, method in TOLD.items():
            if honoured.get(member) is True:
                for kind in CHANGED[method]:
                    await self._stale(kind)
                await self._tell(Event(jsonrpc.notification(method, {"_meta": self._meta})))

    def _note(self, server: str, honoured: Mapping[str, JSON]) -> None:
        if server in self._unheard:
            self._unheard.discard(server)
            self._honoured[server] = honoured
            if not self._unheard:
                self._heard.set()

    async def _event(self, server: str, part: Part, event: Event) -> None:
        message = event.message
        if message is None:
            return
        if message.method == ACKNOWLEDGED:
            honoured = _notifications(message)
            self._note(server, honoured)
            if server in self._lost:
                await self._acknowledged.wait()
                await self._resumed(server, honoured)
            return
        await self._acknowledged.wait()
        for kind in CHANGED.get(message.method or "", ()):
            await self._stale(kind)
        await self._tell(attrs.evolve(event, message=respelled(message, part)))

    async def _tell(self, event: Event) -> None:
        async with self._sending:
            await self._back.send(event)


class _PartBack:
    """The back-channel of one server's part."""

    def __init__(self, event: Callable[[Event], Awaitable[None]]) -> None:
        self._event = event

    async def send(self, event: Event) -> None:
        await self._event(event)


def _notifications(message: Message) -> dict[str, JSON]:
    try:
        raw = members_of(members_of(message.params).get("notifications"))
        return {member: value_of(value) for member, value in raw.items()}
    except InvalidParams:
        return {}
