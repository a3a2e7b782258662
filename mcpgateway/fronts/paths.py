"""Which part of the HTTP front answers which path, and for which namespace. Pure."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote

import attrs

from mcpgateway.config.checks import RESERVED


class Part(enum.Enum):
    """What a path is for."""

    STREAMABLE = "Streamable HTTP"
    STREAM = "the stream of HTTP+SSE"
    MESSAGES = "where clients of HTTP+SSE post"
    WEBSOCKET = "WebSocket"


@attrs.frozen
class Place:
    """A part, and the namespace that it is to serve; the empty name is that of the whole gateway."""

    part: Part
    name: str = ""


_WHOLE: Final = {
    "mcp": Part.STREAMABLE,
    "stream": Part.STREAMABLE,
    "sse": Part.STREAM,
    "messages": Part.MESSAGES,
    "message": Part.MESSAGES,
    "ws": Part.WEBSOCKET,
}
_NAMED: Final = frozenset({"mcp", "stream", "ws"})
"""Behind which a name may follow."""
_OF_SERVER: Final = {"sse": Part.STREAM, "message": Part.MESSAGES, "messages": Part.MESSAGES}
"""What may follow a name."""


def place_of(path: bytes, exists: Callable[[str], bool]) -> Place | None:
    """What a path of a request is for; ``None`` if it is not an MCP path.

    ``/{name}`` and below it is for namespaces that there are, and that the gateway has no path of its own for.
    """
    first, *rest = path.decode("latin-1").removeprefix("/").removesuffix("/").split("/")
    if first in _WHOLE:
        if not rest:
            return Place(_WHOLE[first])
        return Place(_WHOLE[first], _name(rest[0])) if first in _NAMED and len(rest) == 1 and rest[0] else None
    name = _name(first)
    if not name or name in RESERVED or not exists(name):
        return None
    if not rest:
        return Place(Part.STREAMABLE, name)
    return Place(_OF_SERVER[rest[0]], name) if len(rest) == 1 and rest[0] in _OF_SERVER else None


def _name(segment: str) -> str:
    return unquote(segment, errors="replace")
