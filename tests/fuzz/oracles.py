"""What the targets share: how an input is cut into pieces, and what a documented error is."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeVar

from mcpgateway import jsonrpc
from mcpgateway.errors import GatewayError

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
