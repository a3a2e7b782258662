import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpgateway.gcra import FRESH, Rate

rates = st.builds(Rate, st.floats(1e-3, 100), st.integers(1, 20))
gaps = st.lists(st.floats(0, 50) | st.just(0.0), min_size=1, max_size=60)
starts = st.floats(-1e6, 1e6)


def admitted(rate: Rate, times: list[float]) -> list[float]:
    state, kept = FRESH, []
    for now in times:
        state, wait = rate.take(state, now)
        if wait == 0:
            kept.append(now)
    return kept


def times_of(start: float, gaps: list[float]) -> list[float]:
    times = [start]
    for gap in gaps:
        times.append(times[-1] + gap)
    return times


def test_a_burst_then_one_per_period() -> None:
    rate = Rate(period=1.0, burst=3)
    assert admitted(rate, [0, 0, 0, 0, 0.5, 1.0, 1.5, 2.0, 100, 100, 100, 100]) == [0, 0, 0, 1.0, 2.0, 100, 100, 100]


def test_the_wait_says_when() -> None:
    rate = Rate.per_minute(120, burst=2)
    state, _ = rate.take(FRESH, 10.0, cost=2)
    assert rate.take(state, 10.0) == (state, 0.5)
    assert rate.take(state, 10.25) == (state, 0.25)
    assert rate.take(state, 10.5)[1] == 0
    assert rate.take(state, 10.0, cost=2) == (state, 1.0)


def test_a_wait_is_rounded_up_where_floats_are_coarse() -> None:
    state, now = 1e-20, -1.0
    wait = Rate(1.0).take(state, now)[1]
    assert now + wait >= state
    assert wait == pytest.approx(1.0)


def test_what_exceeds_the_burst_is_never_admitted() -> None:
    assert Rate(1.0, burst=2).take(FRESH, 0.0, cost=3) == (FRESH, math.inf)


def test_a_state_in_the_past_is_as_good_as_fresh() -> None:
    rate = Rate(1.0, burst=2)
    state, _ = rate.take(FRESH, 0.0)
    assert not rate.is_fresh(state, 0.5)
    assert rate.is_fresh(state, 1.0)
    assert rate.take(state, 1.0) == rate.take(FRESH, 1.0)


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    rate = Rate(1.0, burst=1)
    state, _ = rate.take(FRESH, 100.0)
    assert rate.take(state, 50.0) == (state, 51.0)


@given(rates, starts, gaps)
def test_no_window_holds_more_than_the_burst_and_its_share(rate: Rate, start: float, gaps: list[float]) -> None:
    kept = admitted(rate, times_of(start, gaps))
    for first, begin in enumerate(kept):
        for last in range(first, len(kept)):
            allowed = rate.burst + (kept[last] - begin) / rate.period
            assert last - first + 1 <= allowed * (1 + 1e-9) + 1e-6


@given(rates, starts, gaps, st.data())
def test_a_wait_is_long_enough_and_no_longer(rate: Rate, start: float, gaps: list[float], data: st.DataObject) -> None:
    state = FRESH
    for now in times_of(start, gaps):
        cost = data.draw(st.integers(1, rate.burst))
        after, wait = rate.take(state, now, cost)
        if wait > 0:
            assert after == state
            assert rate.take(state, now + wait, cost)[1] == 0
            assert rate.take(state, now + wait * 0.999 - 1e-8, cost)[1] > 0
        state = after


@given(rates, starts)
def test_whoever_keeps_to_the_rate_is_never_refused(rate: Rate, start: float) -> None:
    state, now = FRESH, start
    for _ in range(20):
        state, wait = rate.take(state, now)
        assert wait <= rate.period * 1e-6
        now += rate.period * (1 + 1e-9) + 1e-9


@pytest.mark.parametrize("period", [0, -1, math.inf, math.nan])
def test_the_period_is_checked(period: float) -> None:
    with pytest.raises(ValueError, match="period must be above 0"):
        Rate(period)


@pytest.mark.parametrize("count", [0, -1, math.inf, math.nan])
def test_the_count_per_minute_is_checked(count: float) -> None:
    with pytest.raises(ValueError, match="count per minute must be above 0"):
        Rate.per_minute(count)


def test_the_burst_is_checked() -> None:
    with pytest.raises(ValueError, match="burst must be 1 or more"):
        Rate(1.0, 0)
