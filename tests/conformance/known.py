"""Differences between conformance direct and through the gateway that are understood, each with its reason.

An entry that no longer differs fails the run, so the list stays true. For servers over HTTP it has to stay empty.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.conformance.compare import Cell, Known
from tests.conformance.legs import MOCK, STDIO

NO_STREAMS = (
    "stdio has no event streams: nothing to prime, to leave or to resume, and a reply that nothing precedes is JSON"
)
OWN_SESSION = "the suite counts what its server receives, and the gateway shakes hands for itself too, to learn the era"


def _entries(cell: Cell, reason: str, scenario: str, *checks: str) -> Iterator[Known]:
    for check in checks:
        yield Known(cell, scenario, check, reason)


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
