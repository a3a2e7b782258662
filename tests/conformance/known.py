"""Differences between conformance direct and through the gateway that are understood, each with its reason.

An entry that no longer differs fails the run, so the list stays true. For servers over HTTP it has to stay empty.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.conformance.compare import Cell, Known
from tests.conformance.legs import MOCK, MODERN_HTTP, MODERN_STDIO, STDIO

NO_STREAMS = (
    "stdio has no event streams: nothing to prime, to leave or to resume, and a reply that nothing precedes is JSON"
)
NOTHING_TO_RESUME = (
    "a modern server has no streams that a client leaves and resumes, so its tool does not cut this one off; what it "
    "logged meanwhile would be an event, and the suite sets no log level"
)
JSON_REPLY = "a modern server answers a call that nothing precedes with JSON"
OWN_SESSION = "the suite counts what its server receives, and the gateway shakes hands for itself too, to learn the era"


def _entries(cell: Cell, reason: str, scenario: str, *checks: str) -> Iterator[Known]:
    for check in checks:
        yield Known(cell, scenario, check, reason)


def _bridged(server: str) -> Iterator[Known]:
    """A legacy client in front of a server that only speaks 2026-07-28."""
    cell = Cell(server, "s2511")
    yield from _entries(
        cell,
        NOTHING_TO_RESUME,
        "server-sse-polling",
        "incoming-response",
        "incoming-sse-event",
        "outgoing-request",
        "server-sse-content-type",
        "server-sse-disconnect-resume",
        "server-sse-priming-event",
        "server-sse-retry-field",
        "stream-closed",
    )
    yield from _entries(cell, JSON_REPLY, "server-sse-multiple-streams", "server-sse-streams-functional")


KNOWN: tuple[Known, ...] = (
    *_entries(
        Cell(STDIO, "s2511"),
        NO_STREAMS,
        "server-sse-polling",
        "incoming-response",
        "incoming-sse-event",
        "outgoing-request",
        "server-sse-disconnect-resume",
        "server-sse-priming-event",
        "server-sse-retry-field",
    ),
    *_entries(Cell(STDIO, "s2511"), NO_STREAMS, "server-sse-multiple-streams", "server-sse-streams-functional"),
    *(entry for server in (MODERN_HTTP, MODERN_STDIO) for entry in _bridged(server)),
    *_entries(Cell(MOCK, "c2506"), OWN_SESSION, "initialize", "mcp-client-initialization", "server-info"),
    *_entries(Cell(MOCK, "c2511"), OWN_SESSION, "initialize", "mcp-client-initialization", "server-info"),
    *_entries(
        Cell(MOCK, "c2511"),
        OWN_SESSION,
        "elicitation-sep1034-client-defaults",
        "incoming-request",
        "outgoing-response",
    ),
    *_entries(Cell(MOCK, "c2511"), OWN_SESSION, "sse-retry", "incoming-request", "outgoing-response"),
)
