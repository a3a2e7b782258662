import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mcpgateway.backoff import Backoff

units = st.floats(0, 1, exclude_max=True)
attempts = st.integers(0, 2000) | st.sampled_from([10**6, 10**18, 10**400])


@st.composite
def backoffs(draw: st.DrawFn) -> Backoff:
    low, high = sorted(draw(st.lists(st.floats(1e-9, 1e9), min_size=2, max_size=2)))
    return Backoff(low, high, draw(st.floats(1, 1e6)), draw(st.floats(0, 1)))


def test_the_defaults_are_those_of_the_bridge() -> None:
    delays = [Backoff().delay(attempt, 0.0) for attempt in range(12)]
    assert delays == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]


def test_jitter_shortens_by_its_share() -> None:
    assert Backoff(jitter=0.1).delay(2, 0.5) == pytest.approx(4 * 0.95)
    assert Backoff(jitter=0).delay(2, 0.5) == 4


@given(backoffs(), attempts, units)
def test_a_delay_is_positive_within_its_jitter_and_never_above_the_maximum(
    backoff: Backoff, attempt: int, unit: float
) -> None:
    delay = backoff.delay(attempt, unit)
    assert 0 < delay <= backoff.maximum
    assert delay >= backoff.initial * (1 - backoff.jitter)


@given(backoffs(), attempts, attempts, units)
def test_later_attempts_wait_no_less(backoff: Backoff, one: int, other: int, unit: float) -> None:
    earlier, later = sorted([one, other])
    assert backoff.delay(earlier, unit) <= backoff.delay(later, unit)


@given(backoffs(), units, units)
def test_everyone_at_the_maximum_is_still_spread_out(backoff: Backoff, one: float, other: float) -> None:
    assume(backoff.multiplier > 1.01 and backoff.jitter > 0.01 and abs(one - other) > 0.01)
    assert backoff.delay(10**6, one) != backoff.delay(10**6, other)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"initial": 0}, "initial delay must be above 0"),
        ({"initial": -1}, "initial delay must be above 0"),
        ({"initial": math.nan}, "initial delay must be above 0"),
        ({"initial": math.inf}, "initial delay must be above 0"),
        ({"initial": 2, "maximum": 1}, "maximum delay must be finite and not below the initial 2"),
        ({"maximum": math.inf}, "maximum delay must be finite"),
        ({"maximum": math.nan}, "maximum delay must be finite"),
        ({"multiplier": 0.5}, "multiplier must be 1 or more"),
        ({"multiplier": math.inf}, "multiplier must be 1 or more"),
        ({"jitter": -0.1}, "jitter must be from 0 to 1"),
        ({"jitter": 1.1}, "jitter must be from 0 to 1"),
    ],
)
def test_each_field_is_checked_with_its_own_message(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Backoff(**fields)


def test_a_negative_attempt_is_refused() -> None:
    with pytest.raises(ValueError, match="counted from 0"):
        Backoff().delay(-1, 0.0)
