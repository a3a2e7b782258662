"""Calls counted."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpgateway.recording.events import CallEvent
from mcpgateway.recording.outcomes import Outcome
from mcpgateway.recording.tally import BOUNDS, OTHER, Tally

names = st.text(max_size=3)
events = st.lists(
    st.builds(
        CallEvent,
        namespace=names,
        method=st.sampled_from(["tools/call", "tools/call", "ping", "x/own", "tools/list"]),
        server=st.sampled_from(["a", "b", ""]),
        tool=names,
        listed=st.booleans(),
        outcome=st.sampled_from(list(Outcome)),
        seconds=st.floats(0, 1000),
    ),
    max_size=40,
)


def call(tool: str, outcome: Outcome = Outcome.OK, *, listed: bool = True, seconds: float = 0.1) -> CallEvent:
    return CallEvent("work", "tools/call", "time", tool, listed, outcome, seconds)


@given(events, st.integers(1, 6))
def test_every_call_is_counted_once_however_many_kinds_there_are(events: list[CallEvent], kinds: int) -> None:
    tally = Tally(kinds)
    tally.take(events[:10])
    tally.take(events[10:])

    calls = [event for event in events if event.method == "tools/call"]
    counted = Counter[Outcome]()
    for each in tally.tools.values():
        counted.update(each.outcomes)
        assert sum(each.buckets) == sum(each.outcomes.values())
    assert counted == Counter(event.outcome for event in calls)
    assert sum(tally.requests().values()) == len(events)
    assert len(tally.tools) <= kinds + len({(event.namespace, event.server) for event in calls})


@given(st.lists(st.floats(0, 1000), max_size=30))
def test_a_duration_is_in_the_first_bucket_that_holds_it(seconds: list[float]) -> None:
    tally = Tally()
    tally.take([call("now", seconds=each) for each in seconds])

    for calls in tally.tools.values():
        for index, bound in enumerate(BOUNDS):
            assert sum(calls.buckets[: index + 1]) == sum(each <= bound for each in seconds)
        assert calls.seconds == pytest.approx(sum(seconds))


def test_names_that_no_server_has_are_one_kind_until_a_call_succeeds() -> None:
    tally = Tally()
    tally.take([call(f"made up {n}", Outcome.ERROR, listed=False) for n in range(50)])
    tally.take([call("unlisted", Outcome.OK, listed=False), call("unlisted", Outcome.ERROR, listed=False)])
    tally.take([call("x" * 10_000, Outcome.OK, listed=False)])

    assert {tool: calls.outcomes for (_, _, tool), calls in tally.tools.items()} == {
        OTHER: {Outcome.ERROR: 50},
        "unlisted": {Outcome.OK: 1, Outcome.ERROR: 1},
        "x" * 200: {Outcome.OK: 1},
    }


def test_more_kinds_than_are_told_apart_are_one() -> None:
    tally = Tally(kinds=2)
    tally.take([call(f"tool {n}") for n in range(5)])

    assert {tool: sum(calls.buckets) for (_, _, tool), calls in tally.tools.items()} == {
        "tool 0": 1,
        "tool 1": 1,
        OTHER: 3,
    }


def test_methods_that_no_revision_knows_are_one() -> None:
    tally = Tally()
    tally.take([CallEvent("", f"x/{n}", "", "", False, Outcome.REFUSED, 0.0) for n in range(5)])

    assert tally.requests() == {("", OTHER, Outcome.REFUSED): 5}


def test_a_copy_stays_as_it_is() -> None:
    tally = Tally()
    tally.take([call("now")])
    copied = tally.copy()
    tally.take([call("now"), CallEvent("", "ping", "", "", False, Outcome.OK, 0.0)])

    assert copied.requests() == {("work", "tools/call", Outcome.OK): 1}
    (calls,) = copied.tools.values()
    assert (sum(calls.buckets), calls.seconds) == (1, 0.1)
