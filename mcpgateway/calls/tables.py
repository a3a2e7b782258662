"""What a merged namespace shows, and whose each thing is: the tables of each kind of client.

What one client sees depends on its era and capabilities (servers list differently), so tables are kept per both. A
listing is always fetched anew and replaces the table; a call looks its name up, and lists once if it finds nothing.

A server whose listing is known and that takes its time is not waited for to the end: what it listed last is shown, it
is named as missing, and its listing is made in the background. If that turns out to be another, clients are told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, TypeAlias

import attrs
import trio

from mcpgateway.calls.call import Dispatcher
from mcpgateway.calls.interests import Soon
from mcpgateway.calls.listing import Listing, fetch, gather
from mcpgateway.calls.targets import unknown
from mcpgateway.catalog.items import Item, Kind
from mcpgateway.catalog.naming import Target
from mcpgateway.catalog.rules import Naming, NamingMode, ServerView
from mcpgateway.catalog.table import Table, build
from mcpgateway.catalog.templates import template_routes
from mcpgateway.protocol.results import UNKEPT, Hints, strictest
from mcpgateway.protocol.revisions import Era
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller
from mcpgateway.wire.waiting import Wait, interruptible

_MAX_VIEWS = 64
"""Capability sets whose tables are kept at a time."""

LEAST_INTERVAL = 1.0
"""Seconds between two listings for names that are not found: nobody keeps the servers busy with made-up ones."""

_WHAT: Final = {
    Kind.TOOLS: "tool",
    Kind.PROMPTS: "prompt",
    Kind.RESOURCES: "resource",
    Kind.TEMPLATES: "resource template",
}

_View: TypeAlias = "tuple[Era | None, bytes]"


@attrs.frozen
class Listed:
    """A listing of all servers, as it was just made."""

    table: Table
    missing: Mapping[str, str]
    """The servers that it lacks, each with the reason."""
    hints: Hints
    """Nobody may keep a listing that lacks a server."""


_NONE: dict[Kind, Listed] = {}


class Tables:
    """The tables of one namespace. ``views`` are in config order."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        servers: Sequence[Server],
        views: Mapping[str, ServerView],
        *,
        naming: Naming,
        mode: NamingMode,
        startup_wait: float,
        list_timeout: float,
        soon: Soon,
        changed: Callable[[bytes, Kind, int], None],
    ) -> None:
        self._dispatcher = dispatcher
        self._servers = servers
        self._views = views
        self._naming = naming
        self._mode = mode
        self._startup_wait = startup_wait
        self._list_timeout = list_timeout
        self._soon = soon
        self._changed = changed
        self._tables: dict[_View, dict[Kind, Listed]] = {}
        self._locks: dict[tuple[Era | None, bytes, Kind], trio.Lock] = {}
        """One listing at a time for calls that look for a name: the others take what it found."""
        self._looked: dict[tuple[Era | None, bytes, Kind], float] = {}
        """When a listing was last made for a name that was not found."""
        self._listings: dict[tuple[Era | None, bytes, Kind], dict[str, tuple[Item, ...]]] = {}
        """What each server last listed: what a server that is away for a moment still shows."""
        self._late: set[tuple[Era | None, bytes, Kind, str]] = set()
        """Listings that are being made in the background."""

    def inherit(self, before: Tables) -> None:
        """Begin with what the servers here last listed for another namespace, as far as they are the same ones."""
        names = [server.name for server in self._servers if server in before._servers]
        for (era, capability_set, kind), listings in before._listings.items():
            kept = {name: listings[name] for name in names if name in listings}
            missing = {server.name: "was not asked yet" for server in self._servers if server.name not in kept}
            table = build(kind, self._views, kept, self._naming, self._mode)
            self._listings[era, capability_set, kind] = kept
            self._tables.setdefault((era, capability_set), {})[kind] = Listed(table, missing, UNKEPT)

    def known(self, caller: Caller, kind: Kind) -> Table | None:
        """The table as it was last made for such a caller."""
        listed = self._tables.get((caller.era, caller.capability_set), _NONE).get(kind)
        return None if listed is None else listed.table

    def missing(self, caller: Caller, kind: Kind) -> Iterable[str]:
        """The servers that such a caller's table lacks."""
        listed = self._tables.get((caller.era, caller.capability_set), _NONE).get(kind)
        return () if listed is None else listed.missing

    async def listed(self, caller: Caller, kind: Kind) -> Listed:
        """The listing as it was last made for such a caller; made now if there is none."""
        listed = self._tables.get((caller.era, caller.capability_set), _NONE).get(kind)
        return await self.refresh(caller, kind) if listed is None else listed

    async def refresh(self, caller: Caller, kind: Kind) -> Listed:
        """List all servers anew for such a caller."""
        view = (caller.era, caller.capability_set)
        gathered = await gather(
            self._servers,
            lambda server: fetch(self._dispatcher, server, caller, kind),
            startup_wait=self._startup_wait,
            list_timeout=self._list_timeout,
            hurried=self._listings.get((*view, kind), {}),
        )
        if view not in self._tables and len(self._tables) >= _MAX_VIEWS:
            self._forget(next(iter(self._tables)))
        hints = UNKEPT if gathered.missing else strictest(each.hints for each in gathered.found.values() if each)
        for server in self._servers:
            if server.name in gathered.late and (*view, kind, server.name) not in self._late:
                self._late.add((*view, kind, server.name))
                self._soon(partial(self._catch_up, caller, kind, server))
        return self._note(view, kind, gathered.found, gathered.missing, hints)

    def _note(
        self,
        view: _View,
        kind: Kind,
        listings: Mapping[str, Listing | None],
        missing: Mapping[str, str],
        hints: Hints,
    ) -> Listed:
        """Make a table of what was just listed, and of what those listed last that are missing."""
        last = self._listings.setdefault((*view, kind), {})
        last.update({server: listing.items if listing else () for server, listing in listings.items()})
        table = build(kind, self._views, last, self._naming, self._mode)
        listed = self._tables.setdefault(view, {})[kind] = Listed(table, missing, hints)
        return listed

    async def _catch_up(self, caller: Caller, kind: Kind, server: Server) -> None:
        """Make the listing of a server that was not waited for."""
        view = (caller.era, caller.capability_set)
        try:
            gathered = await gather(
                [server],
                lambda server: fetch(self._dispatcher, server, caller, kind),
                startup_wait=0.0,
                list_timeout=self._list_timeout,
            )
        finally:
            self._late.discard((*view, kind, server.name))
        before = self._tables.get(view, _NONE).get(kind)
        if before is None or gathered.missing:
            return
        missing = {name: reason for name, reason in before.missing.items() if name != server.name}
        listed = self._note(view, kind, gathered.found, missing, UNKEPT)
        if listed.table.fingerprint != before.table.fingerprint:
            self._changed(caller.capability_set, kind, listed.table.fingerprint)

    def _forget(self, view: _View) -> None:
        del self._tables[view]
        self._listings = {key: value for key, value in self._listings.items() if key[:2] != view}
        self._locks = {key: value for key, value in self._locks.items() if key[:2] != view}
        self._looked = {key: value for key, value in self._looked.items() if key[:2] != view}

    async def find(
        self, caller: Caller, kind: Kind, find: Callable[[Table], Target | None], wait: Wait
    ) -> Target | None:
        """Look something up in the table, and once more in a new one where it is not there, unless the wait ends."""
        seen = self.known(caller, kind)
        target = find(seen) if seen is not None else None
        if target is not None:
            return target
        with interruptible(wait):
            table = await self._another(caller, kind, seen)
        return find(table)

    async def _another(self, caller: Caller, kind: Kind, seen: Table | None) -> Table:
        """A table that is newer than one, where it may have changed since."""
        view = (caller.era, caller.capability_set, kind)
        async with self._locks.setdefault(view, trio.Lock()):
            table = self.known(caller, kind)
            lately = trio.current_time() < self._looked.get(view, -math.inf) + LEAST_INTERVAL
            if table is None or (table is seen and not lately):
                table = (await self.refresh(caller, kind)).table
                self._looked[view] = trio.current_time()
            return table

    async def owner(self, caller: Caller, kind: Kind, name: str, wait: Wait) -> Target:
        """Whose a tool, a prompt or a resource template is.

        :raises InvalidParams: nobody's here
        """
        target = await self.find(caller, kind, lambda table: table.route(name), wait)
        if target is None:
            raise unknown(_WHAT[kind], name, self.missing(caller, kind))
        return target

    async def reader(self, caller: Caller, uri: str, wait: Wait) -> Target:
        """Who reads a URI: who lists it, else whose template it fits.

        :raises InvalidParams: nobody here
        """

        def route(table: Table) -> Target | None:
            return table.route(uri)

        listed = self.known(caller, Kind.RESOURCES)
        target = await self.find(caller, Kind.RESOURCES, route, wait) if listed is None else listed.route(uri)
        if target is None:
            target = await self.find(caller, Kind.TEMPLATES, lambda table: template_routes(table).route(uri), wait)
        if target is None and listed is not None:
            target = await self.find(caller, Kind.RESOURCES, route, wait)
        if target is None:
            raise unknown(_WHAT[Kind.RESOURCES], uri, self.missing(caller, Kind.RESOURCES))
        return target
