"""What waits for a legacy session's GET stream: what its servers said outside calls, in order, within bounds.

It is kept while no stream is attached, so that a client that comes back misses nothing that the bounds let stand: those
of each outbox, and one on the bytes of all of them together.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, TypeAlias

from mcpgateway.adapters.base import Back, Event
from mcpgateway.errors import InvalidRequest
from mcpgateway.jsonrpc import Message
from mcpgateway.wire.bounds import Bound
from mcpgateway.wire.waiting import Wait

if TYPE_CHECKING:
    from mcpgateway.sessions.store import Session

MAX_MESSAGES: Final = 256
MAX_BYTES: Final = 1024 * 1024
"""Bytes of JSON in one outbox; a message that is larger alone is dropped itself."""

_LISTS: Final = ("tools", "prompts", "resources")
CHANGED: Final = frozenset(f"notifications/{listing}/list_changed" for listing in _LISTS)
"""What says the same when it is said twice: one that waits stands for all."""


Dropped: TypeAlias = "tuple[Session | None, Message]"
"""A message that its session will not see."""


class Outboxes:
    """What all outboxes of a gateway hold together, in bytes."""

    def __init__(self, bound: Bound) -> None:
        self.bound = bound
        self._waiting: dict[Outbox, None] = {}
        """Those that hold something, in the order in which they began to."""

    def changed(self, outbox: Outbox, bytes: int) -> None:
        """Count what came to an outbox, or went from it (negative)."""
        if bytes < 0:
            self.bound.release("", -bytes)
        else:
            self.bound.add("", bytes)
        if outbox:
            self._waiting[outbox] = None
        else:
            self._waiting.pop(outbox, None)

    def trim(self) -> list[Dropped]:
        """Drop what is too much: the oldest messages of whoever has been away for longest."""
        dropped: list[Dropped] = []
        while self.bound.held > self.bound.limit:
            dropped.append(next(iter(self._waiting)).drop())
            self.bound.displaced += 1
        return dropped


class Outbox:
    """The messages for one client, and the one stream that may take them."""

    __slots__ = ("_all", "_bytes", "_messages", "_session", "_stream")

    def __init__(self, all: Outboxes | None = None, session: Session | None = None) -> None:
        self._all = all or Outboxes(Bound("outbox_bytes", "bytes of messages waiting", MAX_BYTES))
        self._session = session
        self._messages: deque[tuple[Message, int]] = deque()
        self._bytes = 0
        self._stream: Wait | None = None

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: Message) -> list[Dropped]:
        """Add a message; the oldest make room. Returns those that were dropped for it, which may be itself, or another
        client's."""
        if message.method in CHANGED and any(message.method == waiting.method for waiting, _ in self._messages):
            return []
        size = len(message.encode())
        self._messages.append((message, size))
        self._count(size)
        dropped = []
        while len(self._messages) > MAX_MESSAGES or self._bytes > MAX_BYTES:
            dropped.append(self.drop())
        dropped += self._all.trim()
        if self._stream is not None:
            self._stream.resume()
        return dropped

    def drop(self) -> Dropped:
        """Take the oldest message out."""
        return self._session, self._pop()[0]

    def clear(self) -> None:
        """Take all messages out."""
        while self._messages:
            self._pop()

    def _pop(self) -> tuple[Message, int]:
        oldest = self._messages.popleft()
        self._count(-oldest[1])
        return oldest

    def _count(self, size: int) -> None:
        self._bytes += size
        self._all.changed(self, size)

    def take(self) -> Message | None:
        """The oldest message, if there is one; it is the caller's to deliver."""
        return self._pop()[0] if self._messages else None

    def attach(self, wait: Wait) -> None:
        """Note that a stream begins; `drain` it, and `detach` it at its end.

        :raises InvalidRequest: there is one already (HTTP 409)
        """
        if self._stream is not None:
            raise SecondStream("the session has a stream open already")
        self._stream = wait

    def detach(self) -> None:
        self._stream = None

    async def drain(self, wait: Wait, back: Back) -> None:
        """Hand on what waits and what comes, in order, until ``wait`` is ended. What could not be sent stays."""
        while True:
            while self._messages:
                message, size = self._pop()
                try:
                    await back.send(Event(message))
                except BaseException:
                    self._messages.appendleft((message, size))
                    self._count(size)
                    raise
                wait.check()
            await wait.park()


class SecondStream(InvalidRequest):
    """A session has one stream at a time here."""

    status = 409
