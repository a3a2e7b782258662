"""Listings that have changed, made anew once for all sessions that see the same, and those of them told that do not.

A session is told of a change only if its client was shown something else: what it saw is kept as a fingerprint.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Final, TypeAlias

import attrs

from mcpgateway import jsonrpc
from mcpgateway.calls.interests import Soon
from mcpgateway.calls.keys import key_for
from mcpgateway.calls.namespace import Namespace
from mcpgateway.catalog.items import Kind
from mcpgateway.protocol.revisions import Era
from mcpgateway.servers.ledger import LinkKey
from mcpgateway.servers.server import Server
from mcpgateway.sessions.store import Session, SessionStore

KINDS: Final = {
    "notifications/tools/list_changed": (Kind.TOOLS,),
    "notifications/prompts/list_changed": (Kind.PROMPTS,),
    "notifications/resources/list_changed": (Kind.RESOURCES, Kind.TEMPLATES),
}
"""The listings that a notification says to have changed."""


@attrs.frozen
class _Renewal:
    """A listing to be made anew for all sessions of a namespace that have the same links to a server."""

    server: Server
    key: LinkKey
    namespace: str
    method: str


_View: TypeAlias = "tuple[str, bytes]"
"""A namespace, by name, as clients with a capability set see it."""


class Renewals:
    """Renews listings. ``find`` looks a namespace up by name; ``soon`` runs tasks."""

    def __init__(self, sessions: SessionStore, find: Callable[[str], Namespace | None], soon: Soon) -> None:
        self._sessions = sessions
        self._find = find
        self._soon = soon
        self._due: dict[_Renewal | _View, bool] = {}
        """What is being listed anew, and whether it has to be once more."""

    def stale(self, server: Server, key: LinkKey, method: str) -> None:
        """Have listings made anew, once for all that see the same, and their sessions told."""
        for name in {session.namespace for session in self.concerned(server, key)}:
            renewal = _Renewal(server, key, name, method)
            self._once_more(renewal, partial(self._renew, renewal))

    def concerned(self, server: Server, key: LinkKey) -> Iterator[Session]:
        """The sessions whose calls to a server use the links of a key."""
        if key.owner and key.era is Era.LEGACY:
            owner = self._sessions.get(key.owner)
            if owner is not None:
                yield owner
            return
        for session in self._sessions:
            namespace = self._find(session.namespace)
            if namespace is not None and server in namespace.servers and key_for(session.caller, server) == key:
                yield session

    def renewed(self, namespace: str, capability_set: bytes, kind: Kind, fingerprint: int) -> None:
        """A merged listing was made anew because a server came late: tell the sessions that have seen another."""
        method = next(method for method, kinds in KINDS.items() if kind in kinds)
        for session in self._sessions:
            concerned = session.namespace == namespace and session.caller.capability_set == capability_set
            if concerned and session.seen.get(kind.value, fingerprint) != fingerprint:
                session.seen[kind.value] = fingerprint
                session.outbox.put(jsonrpc.notification(method))

    def arrived(self, server: Server) -> None:
        """A server that listings lacked has a link: have the sessions told that were shown one of those."""
        views = dict.fromkeys(
            (session.namespace, session.caller.capability_set) for session in self._sessions if session.seen
        )
        for name, capability_set in views:
            namespace = self._find(name)
            if namespace is not None and server in namespace.servers:
                self.look(name, capability_set)

    def look(self, name: str, capability_set: bytes) -> None:
        """Have the sessions of a namespace with these capabilities told what they would see otherwise now."""
        view = (name, capability_set)
        self._once_more(view, partial(self._look, *view))

    async def _look(self, name: str, capability_set: bytes) -> None:
        for method in KINDS:
            namespace = self._find(name)
            if namespace is not None:
                await self._tell(namespace, method, partial(self._that_saw, name, capability_set, method))

    def _that_saw(self, name: str, capability_set: bytes, method: str) -> list[Session]:
        """The sessions of a namespace with these capabilities that were shown what a notification is about."""
        return [
            session
            for session in self._sessions
            if session.namespace == name
            and session.caller.capability_set == capability_set
            and any(kind.value in session.seen for kind in KINDS[method])
        ]

    async def _renew(self, renewal: _Renewal) -> None:
        namespace = self._find(renewal.namespace)
        if namespace is not None:
            await self._tell(namespace, renewal.method, partial(self._of_namespace, renewal))

    def _once_more(self, what: _Renewal | _View, work: Callable[[], Awaitable[None]]) -> None:
        """Have something listed anew by a task; by the one that is at it, when it is done, where there is one."""
        if what not in self._due:
            self._soon(partial(self._list, what, work))
        self._due[what] = what in self._due

    async def _list(self, what: _Renewal | _View, work: Callable[[], Awaitable[None]]) -> None:
        try:
            self._due[what] = True
            while self._due[what]:
                self._due[what] = False
                await work()
        finally:
            self._due.pop(what, None)

    async def _tell(self, namespace: Namespace, method: str, sessions: Callable[[], list[Session]]) -> None:
        """Make what a namespace lists anew, then tell the sessions that have seen something else."""
        first = next(iter(sessions()), None)
        if first is None:
            return
        prints = {kind: await namespace.renew(first.caller, kind) for kind in KINDS[method]}
        for session in sessions():
            seen = [kind for kind in prints if kind.value in session.seen]
            if seen and all(session.seen[kind.value] == prints[kind] for kind in seen):
                continue
            session.seen |= {kind.value: mark for kind in seen if (mark := prints[kind]) is not None}
            session.outbox.put(jsonrpc.notification(method))

    def _of_namespace(self, renewal: _Renewal) -> list[Session]:
        concerned = self.concerned(renewal.server, renewal.key)
        return [session for session in concerned if session.namespace == renewal.namespace]
