"""When a server gets no calls: the table of the breaker, and what holds in every history."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mcpgateway.backoff import Backoff
from mcpgateway.servers.breaker import SAME, Breaker, Circuit

BACKOFF = Backoff(initial=1.0, maximum=60.0, jitter=0.5)


def breaker(limit: int = 3) -> Breaker:
    return Breaker(BACKOFF, limit)


def opened(limit: int = 3) -> Breaker:
    made = breaker(limit)
    for second in range(limit):
        made.failed("no", float(second - limit), 0.0)
    return made


def test_so_many_failures_in_a_row_open_it() -> None:
    made = breaker()
    assert [made.failed("no", float(second), 0.0) for second in range(4)] == [False, False, True, False]
    assert (made.state, made.reason, made.retry_at) == (Circuit.OPEN, "no", 3.0)


def test_a_call_that_is_answered_ends_the_row() -> None:
    made = breaker()
    for second in range(10):
        made.failed("no", second * 2.0, 0.0)
        made.failed("no", second * 2.0 + 1, 0.0)
        assert not made.answered()
    assert made.state is Circuit.CLOSED


def test_what_fails_together_is_one_failure() -> None:
    made = breaker()
    for _ in range(100):
        assert not made.failed("the connection broke", 5.0, 0.0)
    assert made.failures == 1
    made.failed("no", 5.0 + SAME, 0.0)
    assert made.failures == 2


def test_a_ping_that_is_answered_lets_calls_through_and_the_first_of_them_decides() -> None:
    made = opened()
    made.pinged(None, 1.0, 0.0)
    assert made.state is Circuit.HALF_OPEN
    assert made.failed("again", 1.0, 0.0)
    assert (made.state, made.retry_at) == (Circuit.OPEN, 3.0)

    made.pinged(None, 3.0, 0.0)
    assert made.answered()
    assert (made.state, made.failures, made.reason) == (Circuit.CLOSED, 0, "")
    assert not made.failed("no", 9.0, 0.0)


def test_pings_that_fail_make_longer_pauses_up_to_the_longest() -> None:
    made, pauses = opened(), []
    for _ in range(8):
        now = made.retry_at
        made.pinged("silent", now, 0.0)
        pauses.append(made.retry_at - now)
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]
    assert made.reason == "silent"


def test_a_late_answer_to_a_call_closes_it_and_the_ping_after_that_changes_nothing() -> None:
    made = opened()
    assert made.answered()
    made.pinged("silent", 1.0, 0.0)
    assert made.state is Circuit.CLOSED


STEPS = st.lists(
    st.tuples(st.sampled_from(("failed", "answered", "pinged", "silent")), st.floats(0, 10), st.floats(0, 0.99)),
    max_size=60,
)


@given(STEPS, st.integers(1, 6))
def test_in_every_history(steps: list[tuple[str, float, float]], limit: int) -> None:
    """It opens only after failures, says so exactly then, is never open for longer than the longest pause, and an
    answered call always closes it."""
    made, now, row = breaker(limit), 0.0, 0
    for what, pause, unit in steps:
        now += pause
        before = made.state
        if what == "failed":
            row += 1
            told = made.failed("no", now, unit)
            assert told == (before is not Circuit.OPEN and made.state is Circuit.OPEN)
            assert not told or row >= (limit if before is Circuit.CLOSED else 1)
        elif what == "answered":
            row = 0
            assert made.answered() == (before is not Circuit.CLOSED)
            assert (made.state, made.failures) == (Circuit.CLOSED, 0)
        else:
            made.pinged(None if what == "pinged" else "silent", now, unit)
            assert (made.state is Circuit.HALF_OPEN) == (
                before is Circuit.HALF_OPEN or (before is Circuit.OPEN and what == "pinged")
            )
        if made.state is Circuit.OPEN:
            assert made.retry_at <= now + BACKOFF.maximum
        assert bool(made.reason) == (made.state is not Circuit.CLOSED)
