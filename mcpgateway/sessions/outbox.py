"""What waits for a legacy session's GET stream: what its servers said outside calls, in order, within bounds.

It is kept while no stream is attached, so that a client that comes back misses nothing that the bounds let stand.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from mcpgateway.adapters.base import Back, Event
from mcpgateway.errors import InvalidRequest
from mcpgateway.jsonrpc import Message
from mcpgateway.wire.waiting import Wait

MAX_MESSAGES: Final = 256
MAX_BYTES: Final = 1024 * 1024
"""Bytes of JSON in one outbox; a message that is larger alone is dropped itself."""

_LISTS: Final = ("tools", "prompts", "resources")
CHANGED: Final = frozenset(f"notifications/{listing}/list_changed" for listing in _LISTS)
"""What says the same when it is said twice: one that waits stands for all."""


class Outbox:
    """The messages for one client, and the one stream that may take them."""

    __slots__ = ("_bytes", "_messages", "_stream")

    def __init__(self) -> None:
        self._messages: deque[tuple[Message, int]] = deque()
        self._bytes = 0
        self._stream: Wait | None = None

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: Message) -> list[Message]:
        """Add a message; the oldest make room. Returns those that were dropped for it, which may be itself."""
        if message.method in CHANGED and any(message.method == waiting.method for waiting, _ in self._messages):
            return []
        size = len(message.encode())
        self._messages.append((message, size))
        self._bytes += size
        dropped = []
        while len(self._messages) > MAX_MESSAGES or self._bytes > MAX_BYTES:
            dropped.append(self._pop()[0])
        if self._stream is not None:
            self._stream.resume()
        return dropped

    def _pop(self) -> tuple[Message, int]:
        oldest = self._messages.popleft()
        self._bytes -= oldest[1]
        return oldest

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
                    self._bytes += size
                    raise
                wait.check()
            await wait.park()


class SecondStream(InvalidRequest):
    """A session has one stream at a time here."""

    status = 409
