"""One event stream that the gateway makes for a legacy session, and the connections that have it one after another.

Every event has an id, by which a client that lost its connection says what it got (2025-11-25, transports: resumability
and redelivery). What is kept for it is the business of the session's `mcpgateway.sessions.outbox`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from mcpgateway.adapters.base import Back, Event
from mcpgateway.errors import InvalidRequest
from mcpgateway.jsonrpc import Message
from mcpgateway.wire.waiting import Wait

if TYPE_CHECKING:
    from mcpgateway.sessions.outbox import Outbox

RETRY: Final = b"1000"
"""Milliseconds after which a client is to come back; the SDKs take as long where nothing is said."""

_ID: Final = re.compile(rb"(\d{1,18})-(\d{1,18})")
"""Of an event: its stream, and the place of it among all events of the session. Nobody else's business."""


class UnknownEvent(InvalidRequest):
    """A client wants to go on after an event that is not known, or whose stream is kept no longer.

    HTTP 400, for 404 would say that the session is over (2025-11-25, transports: session management).
    """


class SecondStream(InvalidRequest):
    """A session has one standing stream at a time here."""

    status = 409


class Displaced(InvalidRequest):
    """The client goes on with this stream on another connection."""

    status = 409


class Kept:
    """One event: a message on a stream, ``size`` bytes of JSON."""

    __slots__ = ("message", "number", "size", "stream")

    def __init__(self, stream: Stream, number: int, message: Message, size: int) -> None:
        self.stream = stream
        self.number = number
        self.message = message
        self.size = size

    @property
    def id(self) -> bytes:
        return b"%d-%d" % (self.stream.number, self.number)


class Stream:
    """One event stream of a session, and the one connection that may have it. It ends with its call or its session."""

    __slots__ = ("_outbox", "_reader", "events", "final", "number", "waiting")

    def __init__(self, outbox: Outbox, number: int) -> None:
        self._outbox = outbox
        self._reader: Wait | None = None
        self.number = number
        self.events = 0
        """How many of its events are kept."""
        self.final = False
        """Nothing more will be put on it."""
        self.waiting: dict[int, Kept] = {}
        """What was not sent yet, by number, the oldest first."""

    @property
    def is_read(self) -> bool:
        return self._reader is not None

    def attach(self, wait: Wait, last_event: bytes | None = None) -> None:
        """Note that a connection has the stream; `drain` it, and `detach` it at its end.

        A client that comes back, with the id of its ``last_event``, takes the stream from the connection that it had
        before, if that has not been found to be broken yet: its wait ends with `Displaced`.

        :raises SecondStream: there is a connection already, and the client does not come back
        """
        if last_event is None and self._reader is not None:
            raise SecondStream("the session has a stream open already")
        if self._reader is not None:
            self._reader.end(Displaced("the client goes on with this stream on another connection"))
        self._reader = wait
        if last_event is not None:
            self._outbox.rewind(self, place_of(last_event)[1])

    def detach(self, wait: Wait) -> bool:
        """Note that a connection has the stream no longer; false if another had it already."""
        if self._reader is not wait:
            return False
        self._reader = None
        self._outbox.settle(self)
        return True

    @property
    def prime(self) -> Event | None:
        """What a connection is to begin with: the place up to which its client has everything; ``None`` if nothing."""
        if not self._outbox.primes:
            return None
        reached = next(iter(self.waiting)) - 1 if self.waiting else self._outbox.number
        return Event(None, b"%d-%d" % (self.number, reached), RETRY)

    def put(self, message: Message, *, last: bool = False) -> None:
        """Add a message for whoever reads the stream, now or later; the ``last`` one ends it."""
        self.final = self.final or last
        self._outbox.add(self, message, len(message.encode()), sent=False)
        self._wake()

    def sending(self, message: Message, size: int, *, last: bool = False) -> Kept:
        """Add a message that whoever has the stream is about to send; `unsent` if that fails."""
        self.final = self.final or last
        return self._outbox.add(self, message, size, sent=True)

    def unsent(self, wait: Wait, kept: Kept) -> None:
        """A connection could not send an event: it waits for the next one, unless that has taken over already."""
        if self._reader is wait:
            self._outbox.unsent(kept)

    def finish(self) -> None:
        """Nothing more will be put on the stream: who reads it comes to its end."""
        self.final = True
        self._wake()
        self._outbox.settle(self)

    def _wake(self) -> None:
        if self._reader is not None:
            self._reader.resume()

    async def drain(self, wait: Wait, back: Back) -> None:
        """Hand on what waits and what comes, in order, to the end of the stream or until ``wait`` is ended.

        What could not be sent stays.
        """
        outbox = self._outbox
        if (prime := self.prime) is not None:
            await back.send(prime)
        while True:
            wait.check()
            while self.waiting:
                kept = next(iter(self.waiting.values()))
                outbox.sending(kept)
                try:
                    await back.send(Event(kept.message, kept.id))
                except BaseException:
                    self.unsent(wait, kept)
                    raise
                if not outbox.keeps:
                    outbox.forget(kept)
                wait.check()
            if self.final:
                return
            await wait.park()


def place_of(id: bytes) -> tuple[int, int]:
    """The stream of an event, and its number; a stream that there is not, where it is no id of ours."""
    found = _ID.fullmatch(id)
    return (-1, 0) if found is None else (int(found[1]), int(found[2]))
