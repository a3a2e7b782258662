"""When a server that failed may be tried again."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from mcpgateway.backoff import Backoff
from mcpgateway.servers.attempts import UP, Attempts

BACKOFF = Backoff(initial=1.0, maximum=60.0)


def attempts_of(limit: int = 10) -> Attempts:
    return Attempts(BACKOFF, limit)


def test_pauses_double_and_a_link_that_lasts_begins_anew() -> None:
    attempts = attempts_of()
    pauses = []
    for _ in range(8):
        attempts.failed("no", 100.0, 0.0)
        pauses.append(attempts.pause(100.0))
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]

    attempts.made()
    assert (attempts.pause(100.0), attempts.reason) == (0, "")
    attempts.lost("gone", UP, 100.0, 0.0)
    assert (attempts.pause(100.0), attempts.failures) == (0, 0)


def test_links_that_are_lost_at_once_count_as_failures_but_for_the_first() -> None:
    attempts = attempts_of()
    for expected in (0, 2, 4):
        attempts.made()
        attempts.lost("gone", 0.1, 10.1, 0.0)
        assert attempts.pause(10.1) == expected
    assert attempts.reason == "gone"


def test_a_link_that_was_of_use_is_no_failure_however_short_it_was() -> None:
    attempts = attempts_of()
    attempts.failed("no", 0.0, 0.0)
    attempts.made()
    attempts.lost("killed", math.inf, 0.1, 0.0)
    assert (attempts.failures, attempts.pause(0.1)) == (0, 0)


def test_after_so_many_failures_in_a_row_they_are_exhausted() -> None:
    attempts = attempts_of(3)
    seen = []
    for _ in range(3):
        seen.append(attempts.exhausted)
        attempts.failed("no", 0.0, 0.0)
    assert (seen, attempts.exhausted) == ([False] * 3, True)
    attempts.lost("killed", math.inf, 9.0, 0.0)
    assert not attempts.exhausted


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100), st.floats(0, 1, exclude_max=True)), max_size=20))
def test_a_pause_is_bounded_and_passes(history: list[tuple[bool, float, float]]) -> None:
    attempts, now = attempts_of(), 0.0
    for failed, step, unit in history:
        now += step
        if failed:
            attempts.failed("no", now, unit)
        else:
            attempts.made()
        assert 0 <= attempts.pause(now) <= BACKOFF.maximum
        assert attempts.pause(now + BACKOFF.maximum) == 0
