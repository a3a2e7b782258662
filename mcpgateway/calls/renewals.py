"""Listings that have changed, made anew once for all sessions that see the same, and those of them told that do not.

A session is told of a change only if its client was shown something else: what it saw is kept as a fingerprint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import attrs

from mcpgateway import jsonrpc
from mcpgateway.calls.call import key_for
from mcpgateway.calls.interests import Soon
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


class Renewals:
    """Renews listings. ``find`` looks a namespace up by name; ``soon`` runs tasks."""

    def __init__(self, sessions: SessionStore, find: Callable[[str], Namespace | None], soon: Soon) -> None:
        self._sessions = sessions
        self._find = find
        self._soon = soon
        self._due: dict[_Renewal, bool] = {}
        """Listings being made anew, and whether they have to be once more."""

    def stale(self, server: Server, key: LinkKey, method: str) -> None:
        """Have listings made anew, once for all that see the same, and their sessions told."""
        for name in {session.namespace for session in self.concerned(server, key)}:
            renewal = _Renewal(server, key, name, method)
            if renewal not in self._due:
                self._soon(partial(self._renew, renewal))
            self._due[renewal] = renewal in self._due

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

    async def tell_seen(self, name: str, capability_set: bytes) -> None:
        """Tell the sessions of a namespace what they would see otherwise now, and again once its servers are there."""
        starting = True
        while starting and (namespace := self._find(name)) is not None:
            starting = any(not server.tried.is_set() for server in namespace.servers)
            for method in KINDS:
                await self._tell(namespace, method, partial(self._that_saw, name, capability_set, method))
            for server in namespace.servers:
                await server.tried.wait()

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
        try:
            again = namespace is not None
            while again and namespace is not None:
                self._due[renewal] = False
                await self._tell(namespace, renewal.method, partial(self._of_namespace, renewal))
                again = self._due[renewal]
        finally:
            self._due.pop(renewal, None)

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
