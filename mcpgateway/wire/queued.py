"""A stream on which sending never waits: `QueuedStream`.

Whoever reads may then send as well (pongs, the answer to a close) and still read on. A reader that waits until its pong
has gone out stops reading, and so does its peer if it does the same: with both buffers full neither goes on, ever. And
a task that is cancelled while it sends leaves no half a frame behind, for the bytes that it queued belong to whoever
flushes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

PIECE: Final = 65536
"""Bytes that are sent with one system call, and within one deadline."""


class QueuedStream(trio.abc.Stream):
    """Sends to another stream what was queued, when its owner says `flush`; reads from it as ever.

    ``limit`` is how many bytes may wait to be sent, ``stall`` the seconds that a peer may take to accept the next
    `PIECE`. ``moved`` is called whenever bytes came, or went. The stream below belongs to this one, but closing this
    one does not close it: its owner does, after a last `flush`.
    """

    def __init__(
        self, stream: trio.abc.Stream, *, limit: int, stall: float, moved: Callable[[], None] = lambda: None
    ) -> None:
        self.queued = 0
        """Bytes that wait to be sent."""
        self.failure = ""
        """What was wrong when something could not be queued."""
        self.last = b""
        """The first byte of what was queued last."""
        self.closing = False
        """Nothing more is to be sent."""
        self.ended = trio.Event()
        """Set when nothing more will be read."""
        self._stream = stream
        self._limit = limit
        self._stall = stall
        self._moved = moved
        self._parts: list[bytes] = []
        self._poked = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Queue some bytes.

        :raises trio.BrokenResourceError: more would wait than may
        :raises trio.ClosedResourceError: after `aclose`
        """
        if self.closing:
            raise trio.ClosedResourceError
        if self.queued + len(data) > self._limit:
            self.failure = f"{self.queued} bytes are waiting for a peer that does not read them"
            raise trio.BrokenResourceError(self.failure)
        self.queued += len(data)
        self.last = bytes(data[:1])
        self._parts.append(bytes(data))
        self.poke()
        await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        """See `trio.abc.SendStream`; nothing here ever blocks."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """See `trio.abc.ReceiveStream`."""
        try:
            data = bytes(await self._stream.receive_some(max_bytes))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.ended.set()
            raise
        if data:
            self._moved()
        else:
            self.ended.set()
        return data

    async def aclose(self) -> None:
        """Take nothing more; what is queued is still sent by the next `flush`. Idempotent."""
        self.closing = True
        self.ended.set()
        self.poke()
        await trio.lowlevel.checkpoint()

    # ---- for the owner -----------------------------------------------------------------------------------------------

    def poke(self) -> None:
        """Wake the task in `poked`: there is something to send, or the end."""
        self._poked.set()

    async def poked(self) -> None:
        """Wait until there may be something to send, or the end."""
        await self._poked.wait()
        self._poked = trio.Event()

    async def flush(self) -> None:
        """Send all that is queued. Only ever one task at a time; one that is cancelled here leaves the stream broken.

        :raises trio.TooSlowError: the peer accepted nothing for ``stall`` seconds
        :raises trio.BrokenResourceError: the connection is broken
        """
        while self._parts:
            rest = memoryview(b"".join(self._parts))
            self._parts.clear()
            while rest:
                piece, rest = rest[:PIECE], rest[PIECE:]
                with trio.fail_after(self._stall):
                    await self._stream.send_all(piece)
                self.queued -= len(piece)
                self._moved()
