"""What servers say outside calls, brought to the legacy sessions that it concerns, and to no other.

`mcpgateway.servers.server.Server` hands over what its links hear, together with the key of the link, which says whose
link it is: one session's, or that of all sessions with the same capabilities. What is for a session goes to its outbox,
which its standing stream drains. (Sessions that pass through to one HTTP server one to one have that server's stream.)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Final, TypeAlias

import attrs
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Link
from mcpgateway.calls.interests import Channel, Interests, Soon
from mcpgateway.calls.keys import key_for
from mcpgateway.calls.listener import Listener
from mcpgateway.calls.namespace import Namespace, StreamBack, speaks
from mcpgateway.calls.relay import LOG, may_ask
from mcpgateway.calls.renewals import KINDS, Renewals
from mcpgateway.calls.targets import level_of, named
from mcpgateway.calls.watches import Watches
from mcpgateway.errors import GatewayError, InvalidParams, Reconfigured, TooBusy
from mcpgateway.jsonrpc import Message, members_of, raw_of, value_of
from mcpgateway.protocol.revisions import Era
from mcpgateway.protocol.translation.subscriptions import CHANGES, Interest
from mcpgateway.servers.ledger import LinkKey
from mcpgateway.servers.server import Server
from mcpgateway.sessions.store import Asker, Session, SessionStore
from mcpgateway.wire.waiting import Wait

log = logging.getLogger("mcpgateway.server")

_CAPABILITY: Final = {
    "notifications/tools/list_changed": "tools",
    "notifications/prompts/list_changed": "prompts",
    "notifications/resources/list_changed": "resources",
}
_UPDATED: Final = "notifications/resources/updated"
_CANCELLED: Final = "notifications/cancelled"

_Told: TypeAlias = "Iterator[tuple[Session, Message]]"


@attrs.frozen
class ChangesStatistics:
    """What is being brought to legacy sessions outside calls, at one moment."""

    subscriptions: int
    """Resource subscriptions of all sessions."""
    listening: int
    """Modern servers that are listened to for them."""
    waiting: int
    """Messages that wait for their clients."""
    dropped: int
    """Messages that outboxes had no room for, so far."""


@attrs.frozen
class Shown:
    """What a namespace was to its sessions, to be remembered when another takes its place."""

    servers: frozenset[Server]
    verbatim: bool
    passes_through: bool
    tells: tuple[str, ...]
    """The notifications of changed lists that its servers had promised."""

    @classmethod
    def by(cls, namespace: Namespace) -> Shown:
        tells = dict.fromkeys(method for server in namespace.servers for method in telling(server))
        return cls(frozenset(namespace.servers), namespace.verbatim, namespace.passes_through, tuple(tells))


class Changes:
    """Brings messages of servers to sessions. ``find`` looks a namespace up by name; ``soon`` runs tasks."""

    def __init__(
        self,
        sessions: SessionStore,
        find: Callable[[str], Namespace | None],
        interests: Interests,
        watches: Watches,
        soon: Soon,
    ) -> None:
        self._sessions = sessions
        self.outboxes = sessions.outboxes
        self.outboxes.lost = self._lost
        self._find = find
        self.renewals = Renewals(sessions, find, soon)
        self.interests = interests
        self._watches = watches
        watches.heard, watches.missed = self._news, self._missed
        self.soon = soon
        """Runs an errand of the gateway's."""
        self.listeners: set[Listener] = set()
        """Modern clients that listen to legacy servers."""
        self._dropped = 0

    def statistics(self) -> ChangesStatistics:
        waiting = sum(len(session.outbox) for session in self._sessions)
        return ChangesStatistics(len(self.interests.subscriptions), len(self._watches), waiting, self._dropped)

    def ended(self, session: Session) -> None:
        """A session has ended, and with it what it alone wanted."""
        self.interests.ended(session)
        self._watches.ended(session)

    # ---- towards the client ------------------------------------------------------------------------------------------

    async def listen(
        self, namespace: Namespace, session: Session, last_event: bytes | None, wait: Wait, back: StreamBack
    ) -> None:
        """Bring a session its messages until ``wait`` is ended; see `mcpgateway.calls.namespace.Namespace.listen`."""
        stream = session.outbox.standing
        stream.attach(wait, last_event)
        try:
            channels = _channels(namespace, session)
            self.interests.listen(session, channels)
            for channel in channels:
                self._watches.listen(session, channel)
            await back.open()
            await stream.drain(wait, back)
        finally:
            if stream.detach(wait):
                self.interests.listen(session, ())

    def _lost(self, session: Session | None, message: Message) -> None:
        """There was no room for a message to a session."""
        self._dropped += 1
        if session is not None and message.method is not None and message.id is not None:
            self._take_back(session, message.id)

    def _take_back(self, session: Session, own: bytes) -> None:
        """A client will not see a request of a server: refuse it in its place."""
        link, id = session.questions.pop(own, (None, b""))
        if link is not None:
            refusal = jsonrpc.error(id, TooBusy("the client does not take what servers ask it"))
            self.soon(partial(_answer, link, refusal))

    @contextmanager
    def listening(self, listener: Listener, key: LinkKey) -> Iterator[None]:
        """Have a modern client hear of a server, on whose link of this key its calls are made."""
        self.listeners.add(listener)
        self.interests.listen(listener, [(listener.server, key)])
        try:
            yield
        finally:
            self.listeners.discard(listener)
            listener.ended = True
            listener.outbox.clear()
            self.interests.listen(listener, ())
            self.interests.ended(listener)

    # ---- from the servers --------------------------------------------------------------------------------------------

    def heard(self, server: Server, key: LinkKey, link: Link, message: Message) -> bool:
        """Take what a link received outside calls; see `mcpgateway.servers.server.Heard`."""
        if key.era is not Era.LEGACY or message.is_response:
            return False
        if message.is_request:
            return self._asked(server, key, link, message)
        if message.method in KINDS:
            self.renewals.stale(server, key, message.method)
            self.spread(server, key, message)
            return True
        try:
            for session, told in self._told(server, key, link, message):
                session.outbox.put(told)
        except InvalidParams as problem:
            log.info("server %r sent a malformed %s: %s", server.name, message.method, problem.message)
        return True

    def _told(self, server: Server, key: LinkKey, link: Link, message: Message) -> _Told:
        """Whom a notification concerns, and how it reads for each."""
        channel = (server, key)
        owner = self._sessions.get(key.owner) if key.owner else None
        if message.method == _UPDATED:
            updated = list(self._updated(channel, message))
            if not updated and owner is not None and self._passes_through(owner):
                updated = [(owner, message)]
            yield from updated
        elif owner is not None:
            told = _of_client(owner, link, message) if message.method == _CANCELLED else message
            if told is not None:
                yield owner, told
        elif message.method == LOG:
            if link.statistics().in_flight and len(list(self.renewals.concerned(server, key))) > 1:
                log.debug("server %r: a log that belongs to one of several calls is nobody's to read", server.name)
                return
            for session in self.interests.levels.hearing(channel, level_of(message)):
                yield session, message
        else:
            log.debug("server %r: %s on a shared link concerns nobody in particular", server.name, message.method)

    def _updated(self, channel: Channel, message: Message) -> _Told:
        """Who subscribed to what an update is about."""
        uri = named(message, "uri")
        for session, shown in self.interests.subscriptions.hearing(channel, uri):
            yield session, message if shown == uri else _about(message, shown)

    def _news(self, channel: Channel, message: Message) -> None:
        """Take what a modern server tells those who listen to it."""
        if message.method in KINDS:
            self.renewals.stale(*channel, message.method)
        elif message.method == _UPDATED:
            for session, told in list(self._updated(channel, message)):
                session.outbox.put(told)
        else:
            log.debug("server %r: nobody listens to %s", channel[0].name, message.method)

    def _missed(self, channel: Channel, interest: Interest) -> None:
        """A modern server was not listened to for a while: whatever it tells of may have changed."""
        for change in interest.changes:
            self._news(channel, jsonrpc.notification(CHANGES[change][1]))
        for uri in interest.uris:
            self._news(channel, jsonrpc.notification(_UPDATED, {"uri": uri}))

    def heard_in_call(self, server: Server, key: LinkKey, message: Message) -> None:
        """Take what a server said during a modern client's call that no call's stream carries in that era."""
        if message.method in KINDS:
            self.renewals.stale(server, key, message.method)
            self.spread(server, key, message)
            return
        try:
            for session, told in self._updated((server, key), message):
                session.outbox.put(told)
        except InvalidParams as problem:
            log.info("server %r sent a malformed %s: %s", server.name, message.method, problem.message)

    def _passes_through(self, session: Session) -> bool:
        """Whether a session's subscriptions are its server's own business, so that no book of them is kept here."""
        namespace = self._find(session.namespace)
        return namespace is not None and namespace.passes_through

    def _asked(self, server: Server, key: LinkKey, link: Link, message: Message) -> bool:
        """Bring a server's request to the one client whose link it came on; false where there is no such client."""
        method, id = message.method, message.id
        assert method is not None
        assert id is not None
        if method == "ping":
            server.answer_soon(link, jsonrpc.result(id, {}))
            return True
        session = self._sessions.get(key.owner) if key.owner else None
        if session is None or not may_ask(session.caller, method):
            return False
        try:
            own = session.ask(link, id)
        except TooBusy as problem:
            server.answer_soon(link, jsonrpc.error(id, problem))
        else:
            session.outbox.put(message.replace(id=Raw(own)))
        return True

    # ---- listings that change ----------------------------------------------------------------------------------------

    def relinked(self, server: Server, key: LinkKey) -> None:
        """A server that is listened to is there anew: what it lists may have changed, and it knows of no wishes."""
        self.interests.relinked((server, key))
        if key.era is Era.LEGACY:  # modern ones are listened to in so many words, and missed likewise
            for method in telling(server):
                self.renewals.stale(server, key, method)
                self.spread(server, key, jsonrpc.notification(method))

    def spread(self, server: Server, key: LinkKey, message: Message) -> None:
        """Tell modern clients that listen to a server what it said on one of its links."""
        for listener in self.listeners:
            if listener.hears(server, key, message):
                listener.outbox.put(message)

    # ---- another configuration ---------------------------------------------------------------------------------------

    def reconfigured(self, before: Mapping[str, Shown], changed: Collection[Server]) -> None:
        """Namespaces are other ones now, found anew by name; ``before`` is what those showed whose place they take.

        ``changed`` are servers that are reached in another way.
        """
        self.interests.reconfigured(self._sees)
        self._watches.reconfigured(self._sees, changed)
        for session in self.interests.listeners:
            if isinstance(session, Listener):
                continue  # its namespace ends it, if it is concerned
            namespace = self._find(session.namespace)
            channels = [] if namespace is None else _channels(namespace, session)
            self.interests.listen(session, channels)
            for channel in channels:
                self._watches.listen(session, channel)
        groups: dict[tuple[str, bytes], None] = {}
        for session in self._sessions:
            was, now = before.get(session.namespace), self._find(session.namespace)
            if was is None or now is None:
                continue
            if was.verbatim or now.verbatim:
                self._tell_unseen(session, was, now, changed)
            else:
                groups[session.namespace, session.caller.capability_set] = None
        for name, capability_set in groups:
            self.renewals.look(name, capability_set)

    def _sees(self, session: Session, server: Server) -> bool:
        if isinstance(session, Listener):
            return session.server is server
        namespace = self._find(session.namespace)
        return namespace is not None and server in namespace.servers

    def _tell_unseen(self, session: Session, was: Shown, now: Namespace, changed: Collection[Server]) -> None:
        """Tell a session that everything may have changed: what it saw, nobody here knows."""
        for method in was.tells:
            session.outbox.put(jsonrpc.notification(method))
        if was.passes_through:
            # Its stream is one of its server's: the client opens another, which begins with what it is to be told.
            session.moved = not was.servers.isdisjoint(changed) or not now.passes_through
            for wait in session.streams:
                wait.end(Reconfigured("the configuration of the server has changed"))


def _channels(namespace: Namespace, session: Session) -> list[Channel]:
    """What the client of a session listens to."""
    servers = [server for server in namespace.servers if speaks(server, Era.LEGACY)]
    return [(server, key_for(session.caller, server)) for server in servers]


def telling(server: Server) -> tuple[str, ...]:
    """The notifications of changed lists that a server has promised its legacy clients, as far as is known."""
    negotiated = server.spoken.get(Era.LEGACY) or server.spoken.get(Era.MODERN)
    if negotiated is None:
        return ()
    return tuple(method for method, name in _CAPABILITY.items() if _announces(negotiated.capabilities, name))


def _announces(capabilities: Raw, name: str) -> bool:
    """Whether a server says that it will tell of changes; one that cannot be understood does not."""
    try:
        value = value_of(members_of(capabilities).get(name, jsonrpc.NULL))
    except InvalidParams:
        return False
    return isinstance(value, dict) and bool(value.get("listChanged"))


def _about(message: Message, uri: str) -> Message:
    members = members_of(message.params)
    return message.replace(params=raw_of({**members, "uri": uri}))


def _of_client(session: Session, link: Link, message: Message) -> Message | None:
    """A server's cancellation of its own request, under the id that the client knows; ``None`` if there is none."""
    params = members_of(message.params)
    own = session.asked_as(link, bytes(params.get("requestId", b"")))
    if own is None:
        return None
    del session.questions[own]
    return message.replace(params=raw_of({**params, "requestId": Raw(own)}))


async def _answer(link: Asker, message: Message) -> None:
    try:
        await link.notify(message)
    except GatewayError as problem:
        log.info("%s", problem.message)
