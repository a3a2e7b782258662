"""Calls counted: how many of each kind, how they ended, how long they took. Pure.

The number of kinds is bounded, because each is a time series to whoever reads them: methods are those of MCP, tools are
those that servers list or that have answered, and beyond `KINDS` of these, as all other names, they count as `OTHER`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

import attrs

from mcpgateway.protocol.methods import REQUESTS
from mcpgateway.recording.events import CallEvent
from mcpgateway.recording.outcomes import Outcome

OTHER: Final = "(other)"
"""Stands for all names that are not told apart. No tool of a merged namespace has such a name."""
KINDS: Final = 1000
"""Tools of servers in namespaces that are told apart."""
BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds, in seconds, of the buckets into which durations fall; one more has no bound. From a local call's
millisecond, past the 10 s at which clouds give up, to what only progress keeps alive."""

_NAME: Final = 200
_TOOLS_CALL: Final = "tools/call"
_METHODS: Final = frozenset[str]().union(*REQUESTS.values())


@attrs.define(eq=False)
class ToolCalls:
    """The calls of one tool."""

    outcomes: dict[Outcome, int] = attrs.field(factory=dict)
    buckets: list[int] = attrs.field(factory=lambda: [0] * (len(BOUNDS) + 1))
    """How many took how long: not cumulative, the last without bound."""
    seconds: float = 0.0
    """What they took together."""

    def copy(self) -> ToolCalls:
        return ToolCalls(dict(self.outcomes), list(self.buckets), self.seconds)


class Tally:
    """Counts call events. What it holds only grows."""

    def __init__(self, kinds: int = KINDS) -> None:
        self._limit = kinds
        self.tools: dict[tuple[str, str, str], ToolCalls] = {}
        """By namespace, server and tool."""
        self._others: dict[tuple[str, str, Outcome], int] = {}

    def take(self, events: Sequence[CallEvent]) -> None:
        """Count events; a `mcpgateway.recording.events.Sink`. 0.5 µs each."""
        tools, others = self.tools, self._others
        for event in events:
            outcome, seconds = event.outcome, event.seconds
            if event.method != _TOOLS_CALL:
                other = (event.namespace, event.method if event.method in _METHODS else OTHER, outcome)
                others[other] = others.get(other, 0) + 1
                continue
            calls = tools.get((event.namespace, event.server, event.tool))
            if calls is None:
                calls = self._calls(event)
            outcomes = calls.outcomes
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
            calls.buckets[bisect_left(BOUNDS, seconds)] += 1
            calls.seconds += seconds

    def _calls(self, event: CallEvent) -> ToolCalls:
        """Where the calls of a tool are counted of which there were none so far."""
        known = event.listed or event.outcome is Outcome.OK
        key = (event.namespace, event.server, event.tool[:_NAME] if known else OTHER)
        if key not in self.tools and len(self.tools) >= self._limit:
            key = (event.namespace, event.server, OTHER)
        return self.tools.setdefault(key, ToolCalls())

    def copy(self) -> Tally:
        """What was counted so far, by itself."""
        copied = Tally(self._limit)
        copied.tools = {key: calls.copy() for key, calls in self.tools.items()}
        copied._others = dict(self._others)
        return copied

    def requests(self) -> dict[tuple[str, str, Outcome], int]:
        """Requests by namespace, method and outcome, those for tools included."""
        found = dict(self._others)
        for (namespace, _, _), calls in self.tools.items():
            for outcome, count in calls.outcomes.items():
                key = (namespace, _TOOLS_CALL, outcome)
                found[key] = found.get(key, 0) + count
        return found
