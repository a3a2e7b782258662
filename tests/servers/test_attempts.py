"""When a server that failed may be tried again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mcpgateway.servers.attempts import BACKOFF, UP, Attempts


def test_pauses_double_and_a_link_that_lasts_begins_anew() -> None:
    attempts = Attempts()
    pauses = []
    for _ in range(8):
        attempts.failed("no", 100.0, 0.0)
        pauses.append(attempts.pause(100.0))
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]

    attempts.made()
    assert (attempts.pause(100.0), attempts.reason) == (0, "")
    attempts.lost("gone", 100.0, 100.0 + UP, 0.0)
    assert (attempts.pause(100.0), attempts.failures) == (0, 0)


def test_links_that_are_lost_at_once_count_as_failures_but_for_the_first() -> None:
    attempts = Attempts()
    for expected in (0, 2, 4):
        attempts.made()
        attempts.lost("gone", 10.0, 10.1, 0.0)
        assert attempts.pause(10.1) == expected
    assert attempts.reason == "gone"


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100), st.floats(0, 1, exclude_max=True)), max_size=20))
def test_a_pause_is_bounded_and_passes(history: list[tuple[bool, float, float]]) -> None:
    attempts, now = Attempts(), 0.0
    for failed, step, unit in history:
        now += step
        if failed:
            attempts.failed("no", now, unit)
        else:
            attempts.made()
        assert 0 <= attempts.pause(now) <= BACKOFF.maximum
        assert attempts.pause(now + BACKOFF.maximum) == 0
