"""What is on the event streams that the gateway makes for one legacy session, kept for its client to come back to.

A session has one *standing* stream, which GET opens, for what its servers say outside calls; and one for each call that
is told something before its reply. Every event has an id, unique in the session. Connections come and go: what nobody
takes waits on its stream, and what was sent is kept as well, for a client does not say what it got until it comes back
with the id of the last (2025-11-25, transports: resumability and redelivery). What followed that waits anew then.

Only data, within bounds: so many events and bytes of each session, so many bytes of all together. At a bound goes first
what was sent, then what waits, the oldest first, and of all sessions from the one that has held such for longest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mcpgateway import jsonrpc
from mcpgateway.config.limits import Limits
from mcpgateway.errors import TooBusy
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.revisions import PRIMED_SINCE
from mcpgateway.sessions.streams import Kept, Stream, UnknownEvent, place_of
from mcpgateway.wire.bounds import Bounds

if TYPE_CHECKING:
    from mcpgateway.sessions.store import Session

_LISTS: Final = ("tools", "prompts", "resources")
CHANGED: Final = frozenset(f"notifications/{listing}/list_changed" for listing in _LISTS)
"""What says the same when it is said twice: one that waits stands for all."""

_TOO_LARGE: Final = (
    "the reply is too large to be kept while the client is away (listen.limits.outbox_bytes_per_session)"
)


class Outboxes:
    """What all outboxes of a gateway hold together.

    ``lost`` is told of each message that its session will not see, because there was no room for it.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.lost: Callable[[Session | None, Message], None] = lambda session, message: None
        self._sent: dict[Outbox, None] = {}
        self._waiting: dict[Outbox, None] = {}
        """Those that hold such events, in the order in which they began to."""

    def changed(self, outbox: Outbox, bytes: int = 0) -> None:
        """Count what came to an outbox, or went from it (negative), and note what it holds now."""
        bound = self.bounds.outboxes
        if bytes < 0:
            bound.release("", -bytes)
        elif bytes:
            bound.add("", bytes)
        for holds, holders in (outbox.sent, self._sent), (len(outbox), self._waiting):
            if holds:
                holders[outbox] = None
            else:
                holders.pop(outbox, None)

    def trim(self) -> None:
        """Drop what is too much."""
        bound = self.bounds.outboxes
        while bound.held > bound.limit:
            bound.displaced += not self._sent
            next(iter(self._sent or self._waiting)).drop()


class Outbox:
    """The streams of one session, and what is kept of them. ``len`` is how many events wait."""

    __slots__ = ("_all", "_begun", "_bytes", "_closed", "_events", "_session", "_streams", "number", "sent", "standing")

    def __init__(self, all: Outboxes | None = None, session: Session | None = None) -> None:
        self._all = all or Outboxes(Bounds(Limits()))
        self._session = session
        self.number = 0
        """Of the last event."""
        self._events = self._bytes = self._begun = 0
        self._closed = False
        self.sent: dict[int, Kept] = {}
        """What was sent, or is being sent, by number, the oldest first."""
        self.standing = Stream(self, 0)
        self._streams = {0: self.standing}

    def __len__(self) -> int:
        return self._events - len(self.sent)

    @property
    def keeps(self) -> bool:
        """Whether there is a reason to keep what was sent."""
        return self._session is None or self._session.caller.resumes

    @property
    def primes(self) -> bool:
        """Whether the client takes events without data, by which it learns an id before there is a message."""
        return self._session is not None and self.keeps and self._session.caller.revision >= PRIMED_SINCE

    def put(self, message: Message) -> None:
        """Add a message to the standing stream, for whoever reads it, now or later."""
        waiting = self.standing.waiting.values()
        if message.method not in CHANGED or all(message.method != kept.message.method for kept in waiting):
            self.standing.put(message)

    def take(self) -> Message | None:
        """The oldest message that waits on the standing stream, if there is one; it is the caller's to deliver."""
        kept = next(iter(self.standing.waiting.values()), None)
        if kept is None:
            return None
        self.forget(kept)
        return kept.message

    def begin(self) -> Stream:
        """A stream for a call."""
        self._begun += 1
        stream = Stream(self, self._begun)
        if not self._closed:
            self._streams[stream.number] = stream
        return stream

    def find(self, last_event: bytes) -> Stream:
        """The stream on which a client got an event.

        :raises UnknownEvent: there was none of that id, or nothing is left of its stream
        """
        stream, number = place_of(last_event)
        found = self._streams.get(stream)
        if found is None or number > self.number:
            raise UnknownEvent("the stream of this event (Last-Event-ID) has ended and is not kept, or never was")
        return found

    def clear(self) -> None:
        """End all streams, and keep nothing from now on."""
        self._closed = True
        for stream in list(self._streams.values()):
            for kept in [*stream.waiting.values()]:
                self.forget(kept)
            stream.finish()
        for kept in [*self.sent.values()]:
            self.forget(kept)
        self._streams.clear()

    # ---- for streams -------------------------------------------------------------------------------------------------

    def add(self, stream: Stream, message: Message, size: int, *, sent: bool) -> Kept:
        """Keep a message, within the bounds."""
        self.number += 1
        kept = Kept(stream, self.number, message, size)
        if self._closed or (self._too_large(kept) and (sent or not stream.is_read)):
            if not sent:
                self._lost(kept)
            self.settle(stream)
            return kept
        (self.sent if sent else stream.waiting)[kept.number] = kept
        self._streams[stream.number] = stream
        stream.events += 1
        self._events += 1
        self._bytes += size
        self._all.changed(self, size)
        if not self._too_large(kept):  # which pushes nothing else out, if it is on its way
            self._fit()
        self._all.trim()
        return kept

    def _too_large(self, kept: Kept) -> bool:
        """Whether there is no room for an event even alone: it reaches its client only if that is there."""
        return kept.size > self._all.bounds.of_outbox.bytes

    def _fit(self) -> None:
        bounds = self._all.bounds.of_outbox
        while self._events > bounds.events or self._bytes > bounds.bytes:
            self.drop()

    def drop(self) -> None:
        """Drop one event: of those that were sent if there are any, and otherwise it is lost."""
        if self.sent:
            self.forget(next(iter(self.sent.values())))
            return
        waiting = [next(iter(each.waiting.values())) for each in self._streams.values() if each.waiting]
        oldest = min(waiting, key=lambda kept: kept.number)
        self.forget(oldest)
        self._lost(oldest)

    def _lost(self, kept: Kept) -> None:
        """The client will not get an event; in the place of a reply that is too large it gets an error."""
        if self._closed:
            return
        message = kept.message
        self._all.lost(self._session, message)
        if message.result is not None and self._too_large(kept):
            kept.stream.put(jsonrpc.error(message.id, TooBusy(_TOO_LARGE)))

    def forget(self, kept: Kept) -> None:
        """Keep an event no longer."""
        if self.sent.pop(kept.number, None) is None and kept.stream.waiting.pop(kept.number, None) is None:
            return
        kept.stream.events -= 1
        self._events -= 1
        self._bytes -= kept.size
        self._all.changed(self, -kept.size)
        self.settle(kept.stream)

    def sending(self, kept: Kept) -> None:
        """Note an event that waits as sent."""
        del kept.stream.waiting[kept.number]
        self.sent[kept.number] = kept
        self._all.changed(self)
        if self._too_large(kept):
            self.forget(kept)

    def unsent(self, kept: Kept) -> None:
        """Note an event that was sent as the first that waits on its stream; it is lost if it is not kept any more."""
        if self.sent.pop(kept.number, None) is not None:
            kept.stream.waiting = {kept.number: kept, **kept.stream.waiting}
            self._all.changed(self)
        else:
            self._lost(kept)

    def rewind(self, stream: Stream, number: int) -> None:
        """A client has what is on a stream up to this number; what follows waits anew."""
        mine = [kept for kept in self.sent.values() if kept.stream is stream]
        again = stream.waiting
        for kept in mine:
            del self.sent[kept.number]
            again[kept.number] = kept
        stream.waiting = dict(sorted(again.items()))
        self._all.changed(self)
        for kept in [kept for kept in stream.waiting.values() if kept.number <= number]:
            self.forget(kept)

    def settle(self, stream: Stream) -> None:
        """Forget a stream of which nothing will come any more."""
        if stream.final and not stream.events and not stream.is_read:
            self._streams.pop(stream.number, None)
