"""What waits to be written to one client, and the one way in which it is written.

Many tasks put pieces, none of them ever waits to do so, and one task writes. A reader can therefore answer what it
reads (pings, refusals) and read on, whatever the client does with its answers, and a task that is cancelled leaves no
half a piece behind. Who makes a lot of pieces awaits `Outgoing.room` in between.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from mcpgateway.errors import TooBusy
from mcpgateway.wire.bounds import Bound
from mcpgateway.wire.transport import TransportBroken
from mcpgateway.wire.waiting import Wait

ROOM: Final = 64 * 1024
"""Bytes that may wait before whoever makes more of them waits too."""


class Outgoing:
    """Pieces on their way to a client, which counts as ``address`` in ``bound``.

    ``wait`` is what the writing task waits under; ending it ends the writing.
    """

    def __init__(self, bound: Bound, address: str, wait: Wait) -> None:
        self.wait = wait
        self.closed = False
        """Nothing more is taken."""
        self._bound = bound
        self._address = address
        self._pieces: list[bytes] = []
        self._size = 0
        self._roomy = trio.Event()

    def put(self, piece: bytes) -> None:
        """Take a piece, whole, to be written after those before it; never waits. After `close` it is dropped.

        A client for which more waits than may is one that does not read: its writer ends with `TransportBroken`.
        """
        if not piece or self.closed or self.wait.ended is not None:
            return
        try:
            self._bound.take(self._address, len(piece))
        except TooBusy as problem:
            self.wait.end(TransportBroken(problem.message))
            return
        self._size += len(piece)
        self._pieces.append(piece)
        self.wait.resume()

    @property
    def roomy(self) -> bool:
        """Whether little is waiting, so that whoever makes more need not wait."""
        return self._size <= ROOM

    async def room(self) -> None:
        """Wait until little is waiting, or nothing will be written any more. A checkpoint only if it waits."""
        while self._size > ROOM:
            if self._roomy.is_set():
                self._roomy = trio.Event()
            await self._roomy.wait()

    def close(self) -> None:
        """Take nothing more; what there is will be written. Idempotent."""
        self.closed = True
        self.wait.resume()

    async def drain(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Write what was put and what comes, until `close`; for one task. What was put in one go is written in one.

        Drops what could not be written, if ``write`` raises or the ``wait`` is ended.
        """
        try:
            while True:
                self.wait.check()
                while self._pieces:
                    data = b"".join(self._pieces)
                    self._empty()
                    await write(data)
                    self.wait.check()
                if self.closed:
                    return
                await self.wait.park()
        finally:
            self.closed = True
            self._empty()

    def _empty(self) -> None:
        self._pieces.clear()
        if self._size:
            self._bound.release(self._address, self._size)
            self._size = 0
        self._roomy.set()
