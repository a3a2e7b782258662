"""What the targets share: how an input is cut into pieces, who says them, and what a documented error is."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeVar

import trio

from mcpgateway import jsonrpc
from mcpgateway.errors import GatewayError
from mcpgateway.wire.waiting import Wait

T = TypeVar("T")


def cuts(data: bytes) -> list[bytes]:
    """The input behind its first byte, in the pieces that this byte asks for: from single bytes to long ones."""
    if not data:
        return []
    random, rest, pieces = Random(data[0]), data[1:], []
    while rest:
        length = random.randint(1, 1 + data[0])
        pieces.append(rest[:length])
        rest = rest[length:]
    return pieces


def with_gaps(data: bytes) -> list[bytes]:
    """The pieces with nothing between them, which must not mean anything either."""
    return [part for piece in cuts(data) for part in (piece, b"")]


def documented(errors: type[Exception] | tuple[type[Exception], ...], run: Callable[[], T]) -> T | None:
    """The result, or ``None`` for a documented error, which has a message and can be shown."""
    try:
        return run()
    except errors as problem:
        str(problem).encode("utf-8", "surrogatepass")
        if isinstance(problem, GatewayError):
            jsonrpc.error(None, problem).encode()
        return None


class Played:
    """A transport whose peer says these pieces and closes; it takes everything."""

    disturbed = True
    stuck = False
    unsent = 0

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = iter(pieces)
        self.sent = bytearray()
        self.closed = False

    async def receive(self, wait: Wait) -> bytes:
        await trio.lowlevel.checkpoint()
        return next(self.pieces, b"")

    def try_receive(self) -> bytes | None:
        return next(self.pieces, None)

    def put(self, data: bytes) -> None:
        self.sent += data

    async def flushed(self, wait: Wait) -> None:
        await trio.lowlevel.checkpoint()

    def peer_closed(self) -> bool:
        return False

    async def end(self) -> None:
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        self.closed = True
