"""Differences between conformance direct and through the gateway that are understood, each with its reason.

An entry that no longer differs fails the run, so the list stays true. For servers of both eras over HTTP it has to stay
empty.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.conformance.compare import Cell, Known
from tests.conformance.legs import BOTH, HTTP, LEGACY, MOCK, MODERN, SERVERS, Behind

NO_STREAMS = (
    "all messages of the server travel on one connection: there are no event streams of calls that it could leave, and "
    "a reply that nothing precedes is JSON"
)
NOTHING_TO_RESUME = (
    "a modern server has no streams that a client leaves and resumes, so its tool does not cut this one off; what it "
    "logged meanwhile would be an event, and the suite sets no log level"
)
JSON_REPLY = "a modern server answers a call that nothing precedes with JSON"
EARLY = (
    "the suite answers what it has not been asked yet, without the state of any call; the gateway knows a call that "
    "goes on by its state, so this one is new to it and asks"
)
NO_CODE = (
    "legacy servers have no code for what the client did not declare, so a modern server's refusal has become invalid "
    "params on its way through the other era"
)
NO_KEY = (
    "the suite wants the key that a modern server chooses for its question, and a legacy server gives none: the "
    "gateway names it after the one value that it asks for"
)
NO_PROMISE = "the legacy server does not promise to tell of such changes, so neither does the gateway"
OWN_SESSION = "the suite counts what its server receives, and the gateway shakes hands for itself too, to learn the era"


def _entries(cell: Cell, reason: str, scenario: str, *checks: str) -> Iterator[Known]:
    for check in checks:
        yield Known(cell, scenario, check, reason)


def _bridged(cell: Cell) -> Iterator[Known]:
    """A legacy client of what is spoken to in 2026-07-28."""
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


def _on_one_connection(cell: Cell) -> Iterator[Known]:
    """A legacy client of a legacy server whose transport has no streams of calls."""
    yield from _entries(
        cell,
        NO_STREAMS,
        "server-sse-polling",
        "incoming-response",
        "outgoing-request",
        "server-sse-disconnect-resume",
    )
    yield from _entries(cell, NO_STREAMS, "server-sse-multiple-streams", "server-sse-streams-functional")


def _across(cell: Cell) -> Iterator[Known]:
    """A modern client of a legacy server."""
    elicitation = "input-required-result-basic-elicitation"
    yield from _entries(cell, NO_KEY, elicitation, "sep-2322-elicitation-complete", "sep-2322-elicitation-incomplete")
    yield from _entries(cell, EARLY, "input-required-result-ignore-extra-params", "sep-2322-ignore-unexpected-params")
    yield from _entries(
        cell,
        NO_PROMISE,
        "server-stateless",
        "sep-2575-server-sends-prompts-list-changed-on-subscription",
        "sep-2575-server-sends-tools-list-changed-on-subscription",
    )


def _there_and_back(cell: Cell) -> Iterator[Known]:
    """A modern client of a modern server, with the other era in between."""
    yield from _entries(cell, EARLY, "input-required-result-ignore-extra-params", "sep-2322-ignore-unexpected-params")
    yield from _entries(
        cell,
        NO_CODE,
        "server-stateless",
        "sep-2575-missing-capability-http-400",
        "sep-2575-server-rejects-undeclared-capability",
    )


def _of(behind: Behind) -> Iterator[Known]:
    if behind.met == MODERN:
        yield from _bridged(Cell(behind.name, "s2511"))
    elif behind.met == LEGACY and behind.era == MODERN:
        yield from _there_and_back(Cell(behind.name, "s2607"))
    elif behind.met == LEGACY:
        yield from _across(Cell(behind.name, "s2607"))
    elif behind.met == BOTH and behind.transport != HTTP:
        yield from _on_one_connection(Cell(behind.name, "s2511"))


def _own_sessions(cell: Cell) -> Iterator[Known]:
    """Clients whose mock server is spoken to in the legacy era."""
    for scenario in ("elicitation-sep1034-client-defaults", "sse-retry"):
        yield from _entries(cell, OWN_SESSION, scenario, "incoming-request", "outgoing-response")


KNOWN: tuple[Known, ...] = (
    *(entry for behind in SERVERS.values() for entry in _of(behind)),
    *(
        entry
        for cell in (Cell(MOCK, "c2506"), Cell(MOCK, "c2511"), Cell("legacy-mock", "c2607"))
        for entry in _entries(cell, OWN_SESSION, "initialize", "mcp-client-initialization", "server-info")
    ),
    *(entry for cell in (Cell(MOCK, "c2511"), Cell("legacy-mock", "c2607")) for entry in _own_sessions(cell)),
)
