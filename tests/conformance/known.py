"""Differences between conformance direct and through the gateway that are understood, each with its reason.

An entry that no longer differs fails the run, so the list stays true. For servers of both eras over HTTP it has to stay
empty.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.conformance.compare import Cell, Known
from tests.conformance.legs import LEGACY_HTTP, LEGACY_STDIO, MOCK, MODERN_HTTP, MODERN_STDIO, STDIO

NO_STREAMS = (
    "stdio has no event streams: nothing to prime, to leave or to resume, and a reply that nothing precedes is JSON"
)
NOTHING_TO_RESUME = (
    "a modern server has no streams that a client leaves and resumes, so its tool does not cut this one off; what it "
    "logged meanwhile would be an event, and the suite sets no log level"
)
JSON_REPLY = "a modern server answers a call that nothing precedes with JSON"
NO_KEY = (
    "the suite wants the key that a modern server chooses for its question, and a legacy server gives none: the "
    "gateway names it after the one value that it asks for"
)
NO_PROMISE = "the legacy server does not promise to tell of such changes, so neither does the gateway"
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


def _across(cell: Cell) -> Iterator[Known]:
    """Modern clients of a legacy server."""
    elicitation = "input-required-result-basic-elicitation"
    yield from _entries(cell, NO_KEY, elicitation, "sep-2322-elicitation-complete", "sep-2322-elicitation-incomplete")
    yield from _entries(cell, NO_KEY, "input-required-result-ignore-extra-params", "sep-2322-ignore-unexpected-params")
    yield from _entries(
        cell,
        NO_PROMISE,
        "server-stateless",
        "sep-2575-server-sends-prompts-list-changed-on-subscription",
        "sep-2575-server-sends-tools-list-changed-on-subscription",
    )


KNOWN: tuple[Known, ...] = (
    *_across(Cell(LEGACY_HTTP, "s2607")),
    *_across(Cell(LEGACY_STDIO, "s2607")),
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
