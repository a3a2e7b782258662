"""Paths, and what they are for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpgateway.config.checks import RESERVED
from mcpgateway.fronts.paths import Part, Place, place_of

PATHS = {
    "/mcp": Place(Part.STREAMABLE),
    "/mcp/": Place(Part.STREAMABLE),
    "/mcp/one": Place(Part.STREAMABLE, "one"),
    "/mcp/one/": Place(Part.STREAMABLE, "one"),
    "/mcp/none": Place(Part.STREAMABLE, "none"),
    "/mcp/a%20b": Place(Part.STREAMABLE, "a b"),
    "/mcp/gr%C3%B6%C3%9Fe": Place(Part.STREAMABLE, "größe"),
    "/mcp/%ff": Place(Part.STREAMABLE, "\ufffd"),
    "/stream/one": Place(Part.STREAMABLE, "one"),
    "/one": Place(Part.STREAMABLE, "one"),
    "/one/": Place(Part.STREAMABLE, "one"),
    "/sse": Place(Part.STREAM),
    "/one/sse": Place(Part.STREAM, "one"),
    "/messages": Place(Part.MESSAGES),
    "/message": Place(Part.MESSAGES),
    "/one/message": Place(Part.MESSAGES, "one"),
    "/one/messages": Place(Part.MESSAGES, "one"),
    "/ws": Place(Part.WEBSOCKET),
    "/ws/one": Place(Part.WEBSOCKET, "one"),
    "/": None,
    "": None,
    "*": None,
    "/mcp/one/more": None,
    "/mcp//": None,
    "/sse/one": None,
    "/messages/one": None,
    "/health": None,
    "/health/sse": None,
    "/none": None,
    "/none/sse": None,
    "/one/sse/more": None,
    "/one/ws": None,
    "//one": None,
    "/mcpx": None,
}


@pytest.mark.parametrize("path", PATHS)
def test_what_a_path_is_for(path: str) -> None:
    assert place_of(path.encode(), {"", "one", "health"}.__contains__) == PATHS[path]


@given(st.binary(max_size=60))
def test_a_server_hides_no_path_of_the_gateway(path: bytes) -> None:
    place = place_of(path, lambda name: True)
    first = path.decode("latin-1").strip("/").split("/")[0]
    if first in RESERVED - {"mcp", "stream", "sse", "messages", "message", "ws"}:
        assert place is None
    if place is not None and place.part is Part.STREAMABLE:
        assert place.name not in RESERVED or first in ("mcp", "stream")
