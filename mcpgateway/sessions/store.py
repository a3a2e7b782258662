"""Legacy client sessions: data, bound to a principal and a namespace; their number and idle time have bounds.

A session has no task. Its streams are connections of the front, its calls run in connection tasks, and its links live
with their servers; ending a session ends what is in flight and names the links to close.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

import trio

from mcpgateway.errors import CallCancelled, ClientGone, InvalidRequest, TooBusy, UnknownSession
from mcpgateway.sessions.outbox import Outbox, Outboxes
from mcpgateway.wire.bounds import Bounds, Places
from mcpgateway.wire.waiting import Wait

if TYPE_CHECKING:
    from mcpgateway.jsonrpc import Message
    from mcpgateway.sessions.caller import Caller

ID_BYTES: Final = 1024
"""What a request id may have in a session, which remembers ids."""

QUESTIONS: Final = 100
"""Requests of servers that one client may have open."""

USES: Final = 1.0
"""Seconds in which all uses of a session are one, where the order of last use is kept: a call is to cost nothing."""


class Asker(Protocol):
    """Who asked a client something, and gets the answer: a `mcpgateway.adapters.base.Link`, for one."""

    @property
    def closed(self) -> trio.Event:
        """Set when nobody waits for an answer any more."""

    async def notify(self, message: Message) -> None:
        """Take the client's response, under the id that the question came with."""


class Session:
    """One client's session with one namespace, opened from ``address``."""

    __slots__ = (
        *("_asked", "_retired", "_told", "address", "caller", "calls", "ended", "id", "last_used"),
        *("level", "lost", "moved", "namespace", "outbox", "places", "questions", "seen", "streams"),
    )

    def __init__(
        self, id: str, namespace: str, caller: Caller, address: str = "", outboxes: Outboxes | None = None
    ) -> None:
        self.id = id
        self.address = address
        self.namespace = namespace
        self.caller = caller
        caller.session = self
        self.calls: dict[bytes, Wait] = {}
        """Calls in flight, by the client's raw id."""
        self.questions: dict[bytes, tuple[Asker, bytes]] = {}
        """Requests of servers that this client has not answered yet, by our raw id: who asked, and the id."""
        self.streams: set[Wait] = set()
        """Streams that are open for what servers say outside calls."""
        self.outbox = Outbox(outboxes, self)
        """What its streams are to bring, where they are not those of a server, passed through."""
        self.level: str | None = None
        """The log level that its client set, where the server's is shared with others."""
        self.seen: dict[str, int] = {}
        """What its client was last shown of each listing, or told has changed: a fingerprint by the listing's name."""
        self.places: Places[Session] | None = None
        """Where it has its place; the store's to set."""
        self.last_used = self._told = trio.current_time()
        self.ended = False
        self.lost = False
        """The server has lost its half of a session that passed through to it: the client has to initialise again."""
        self.moved = False
        """It passes through to a server that is another one since: what its client remembers of events is of no use."""
        self._asked = 0
        self._retired: Callable[[], None] | None = None

    def begin(self, id: bytes, wait: Wait) -> None:
        """Note a call in flight.

        :raises InvalidRequest: its id is in use
        """
        if len(id) > ID_BYTES:
            raise InvalidRequest(f"a request id may have {ID_BYTES} bytes")
        if id in self.calls:
            raise InvalidRequest("a request with this id is already in flight in this session")
        self.calls[id] = wait

    def end(self, id: bytes, wait: Wait) -> None:
        """Note that a call is over, unless it is not in flight or its id is another's by now."""
        if self.calls.get(id) is wait:
            del self.calls[id]
            if not self.calls:  # else it is busy, which counts more
                self._used()
                if self._retired is not None:
                    self._retired()

    def retire(self, idle: Callable[[], None]) -> None:
        """Nobody will call in it any more: end its streams, and run ``idle`` once its calls are over."""
        for wait in self.streams:
            wait.end(ClientGone("the client has shaken hands again"))
        if self.calls:
            self._retired = idle
        else:
            idle()

    def _used(self) -> None:
        now = self.last_used = trio.current_time()
        if now - self._told >= USES and self.places is not None and not self.ended:
            self._told = now
            self.places.used(self.address, self)

    @property
    def busy(self) -> bool:
        """Whether its client is there: waits for a reply, or listens."""
        return bool(self.calls or self.streams)

    @contextmanager
    def listening(self, wait: Wait) -> Iterator[None]:
        """Note a stream, which ends with the session."""
        self.streams.add(wait)
        try:
            yield
        finally:
            self.streams.discard(wait)
            self._used()

    def cancel(self, id: bytes, reason: str) -> bool:
        """End a call in flight, as its client asks; false if there is none of that id."""
        wait = self.calls.get(id)
        if wait is None:
            return False
        wait.end(CallCancelled(reason))
        return True

    def ask(self, asker: Asker, id: bytes) -> bytes:
        """Note a server's request and give the id under which the client gets it.

        :raises TooBusy: the client has left too many unanswered
        """
        if len(self.questions) >= QUESTIONS:
            self.questions = {own: asked for own, asked in self.questions.items() if not asked[0].closed.is_set()}
        if len(self.questions) >= QUESTIONS:
            raise TooBusy(f"the client has {QUESTIONS} requests of servers to answer")
        self._asked += 1
        own = b'"gateway-%d"' % self._asked
        self.questions[own] = (asker, id)
        return own

    def asked_as(self, asker: Asker, id: bytes) -> bytes | None:
        """The id under which the client knows a server's request; ``None`` once it has answered."""
        return next((own for own, asked in self.questions.items() if asked == (asker, id)), None)

    def __repr__(self) -> str:
        return f"<Session {self.namespace or '/'} {self.caller!r} {len(self.calls)} calls>"


class SessionStore:
    """All client sessions of a gateway, oldest use first to go when there are too many.

    ``node`` begins every id, so that a front of several nodes can tell whose session it is. ``ended`` is told of each
    session that is over, with what its servers have to be told still undone.
    """

    def __init__(self, *, node: str, bounds: Bounds, idle_timeout: float, ended: Callable[[Session], None]) -> None:
        self._node = node
        self.idle_timeout = idle_timeout
        self._ended = ended
        self._sessions: dict[str, Session] = {}
        self._places = Places[Session](bounds.sessions)
        self.outboxes = Outboxes(bounds)
        """What is kept on the streams of all sessions."""

    def __len__(self) -> int:
        return len(self._sessions)

    def new_id(self) -> str:
        """An id for a session that is about to be opened: 192 random bits behind the node's name."""
        return f"{self._node}.{secrets.token_urlsafe(24)}"

    def open(self, id: str, namespace: str, caller: Caller, address: str = "") -> Session:
        """Keep a session from now on; ``address`` is what its client counts as.

        At a bound the one idle for longest makes room: of this address at its own, of the address that has most at the
        bound of all.

        :raises TooBusy: every session that could go is in use; what was opened for this one is told to close
        """
        session = Session(id, namespace, caller, address, self.outboxes)
        try:
            idle = self._places.make_room(address, _is_idle)
        except TooBusy:
            self._ended(session)
            raise
        if idle is not None:
            self.close(idle)
        self._places.add(address, session)
        session.places = self._places
        self._sessions[id] = session
        return session

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    def get(self, id: str) -> Session | None:
        """The session of that id, whoever asks: for what its own servers say."""
        return self._sessions.get(id)

    def find(self, id: str, namespace: str, principal: str) -> Session:
        """The session of that id, if it is this principal's, on this namespace.

        :raises UnknownSession: otherwise; whose it is instead is nobody's business
        """
        session = self._sessions.get(id)
        if session is not None and session.lost:
            self.close(session)
            session = None
        if session is None or session.namespace != namespace or session.caller.principal != principal:
            raise UnknownSession("unknown session; it has ended or never was: initialise again")
        return session

    def close(self, session: Session) -> None:
        """End a session and all that is in flight in it; idempotent."""
        if session.ended:
            return
        session.ended = True
        del self._sessions[session.id]
        self._places.remove(session.address, session)
        session.outbox.clear()
        for wait in [*session.calls.values(), *session.streams]:
            wait.end(CallCancelled("the session has ended"))
        session.questions.clear()
        self._ended(session)

    def close_all(self) -> None:
        for session in list(self._sessions.values()):
            self.close(session)

    async def reap(self) -> None:
        """Close sessions that have been idle for ``idle_timeout``; run it in the gateway's nursery."""
        while True:
            await trio.sleep(max(self.idle_timeout / 8, 1.0))
            self._reap(trio.current_time() - self.idle_timeout)

    def _reap(self, before: float) -> None:
        for session in list(self._sessions.values()):
            if not session.busy and session.last_used < before:
                self.close(session)


def _is_idle(session: Session) -> bool:
    return not session.busy
