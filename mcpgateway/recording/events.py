"""Call events, and their way to whoever makes something of them.

A call costs one `Recorder.record`, which is a list append. Events wait in that list until somebody wants them (a
scrape) or there are `WAITING`; then each sink gets all of them at once. A sink that has slow work to do keeps what it
was given and does it in a task of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import msgspec

from mcpgateway.recording.outcomes import Outcome

log = logging.getLogger("mcpgateway.recording")

WAITING: Final = 100
"""Events that wait for their sinks. More would fit no cache of the processor's by the time that they are counted."""


class CallEvent(msgspec.Struct, frozen=True, gc=False):
    """One call of a client that has ended. No attrs class, because one is made for every call: 0.1 µs."""

    namespace: str
    """As in its path; empty for ``/mcp``."""
    method: str
    server: str
    """The server that it was for; empty where several could be meant, or none."""
    tool: str
    """Of a ``tools/call``: the server's own name of the tool where it is known, else what the client wrote."""
    listed: bool
    """The tool is one that the server has; others may be anything."""
    outcome: Outcome
    seconds: float
    """From the request to its answer, or its end."""


Sink: TypeAlias = Callable[[Sequence[CallEvent]], None]
"""Takes events, in the order in which the calls ended. Must not block."""


class Recorder:
    """Takes call events, and hands them on to its sinks."""

    def __init__(self, *sinks: Sink, waiting: int = WAITING) -> None:
        self._sinks = sinks
        self._limit = waiting
        self._events: list[CallEvent] = []

    def record(self, event: CallEvent) -> None:
        """Take an event. Never raises."""
        events = self._events
        events.append(event)
        if len(events) >= self._limit:
            self.flush()

    def flush(self) -> None:
        """Hand on what waits. A sink that fails loses these events, and is no other sink's concern, nor a call's."""
        events, self._events = self._events, []
        for sink in self._sinks:
            try:
                sink(events)
            except Exception:
                log.exception("%d call events were lost", len(events))
