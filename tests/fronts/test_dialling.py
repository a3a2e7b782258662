"""The life of an upstream as a table: no sequence of events makes a busy loop, and no pause is longer than allowed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpgateway.config.model import Reconnect
from mcpgateway.fronts.dialling import JITTER, TRANSITIONS, Event, Life, State, pause_after, step

UNITS = st.floats(0, 1, exclude_max=True)


@st.composite
def reconnects(draw: st.DrawFn, *, enabled: bool = True) -> Reconnect:
    initial = draw(st.floats(0.001, 1000))
    return Reconnect(
        enabled,
        initial=initial,
        maximum=draw(st.floats(initial, 100_000)),
        multiplier=draw(st.floats(1, 100)),
        stable=draw(st.floats(0.001, 1000)),
        refused=draw(st.floats(0, 1000)),
    )


@attrs.frozen
class Lived:
    """What an upstream went through: each event with the life after it."""

    terms: Reconnect
    steps: Sequence[tuple[Event, Life]]


@st.composite
def lives(draw: st.DrawFn, *, enabled: bool = True) -> Lived:
    """Any sequence of events that can happen, but the end from outside."""
    terms, life, now = draw(reconnects(enabled=enabled)), Life(), 0.0
    steps = []
    for _ in range(draw(st.integers(0, 40))):
        possible = [event for event in TRANSITIONS[life.state] if event is not Event.STOPPED]
        if not possible:
            break
        event = draw(st.sampled_from(possible))
        now += life.pause if event is Event.ELAPSED else draw(st.floats(0, 10))
        life = step(life, event, terms, now=now, unit=draw(UNITS))
        steps.append((event, life))
    return Lived(terms, steps)


@pytest.mark.requirement("6.reconnect", "feature.4")
@given(lives())
def test_whatever_happens_there_is_a_pause_before_it_is_dialled_again(lived: Lived) -> None:
    terms = lived.terms
    for event, life in lived.steps:
        if life.state is State.WAITING:
            assert life.pause >= terms.initial * (1 - JITTER) * (1 - 1e-9)
            assert life.pause <= max(terms.maximum, terms.refused)
            assert event is not Event.REFUSED or life.pause >= terms.refused
        else:
            assert life.pause == 0
    states = [State.DIALLING, *(life.state for _, life in lived.steps)]
    for before, after in pairwise(states):
        assert after is not State.DIALLING or before is State.WAITING


@pytest.mark.requirement("6.reconnect")
@given(lives())
def test_failures_are_forgotten_only_when_a_connection_has_lasted(lived: Lived) -> None:
    failures = 0
    for event, life in lived.steps:
        if event is Event.LASTED:
            failures = 0
        elif event in (Event.UNREACHABLE, Event.REFUSED, Event.DROPPED):
            failures += 1
        assert life.failures == failures
    assert not lived.steps or lived.steps[-1][1].connections == sum(each is Event.OPENED for each, _ in lived.steps)


@pytest.mark.requirement("6.reconnect", "feature.5")
@given(lives(enabled=False))
def test_one_that_is_not_to_reconnect_ends_with_its_first_failure_or_drop(lived: Lived) -> None:
    ends = [n for n, (event, _) in enumerate(lived.steps) if event not in (Event.OPENED, Event.LASTED)]
    assert ends in ([], [len(lived.steps) - 1])
    assert not ends or lived.steps[-1][1].state is State.ENDED


@pytest.mark.requirement("6.reconnect", "feature.4")
def test_the_documented_pauses() -> None:
    """1 s, doubled up to ten minutes, as source system 000 has them; its jitter, but inside the cap."""
    pauses = [pause_after(failures, Reconnect(), refused=False, unit=0.0) for failures in range(12)]
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]
    assert pause_after(11, Reconnect(), refused=False, unit=0.999999) == pytest.approx(540)


@pytest.mark.requirement("6.reconnect")
def test_a_refused_token_means_a_minute_at_least() -> None:
    pauses = [pause_after(failures, Reconnect(), refused=True, unit=0.5) for failures in (0, 3, 8)]
    assert pauses == [60, 60, pytest.approx(256 * 0.95)]


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_what_the_table_does_not_know_cannot_happen(state: State, event: Event) -> None:
    if event in TRANSITIONS[state]:
        assert step(Life(state), event, Reconnect(), now=1.0, unit=0.0).since == 1.0
    else:
        with pytest.raises(ValueError, match=f"'{event.value}' cannot happen"):
            step(Life(state), event, Reconnect(), now=1.0, unit=0.0)


@pytest.mark.parametrize("state", [state for state in State if state is not State.ENDED])
def test_it_can_be_stopped_at_any_time(state: State) -> None:
    assert step(Life(state), Event.STOPPED, Reconnect(), now=1.0, unit=0.0).state is State.ENDED
