"""Waits and their sweeper, in virtual time."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from mcpgateway.wire.waiting import LONGEST, QUANTUM, Phase, Sweeper, Wait, interruptible


class Enough(Exception):
    """What a test ends a wait with."""


class Late(Exception):
    """What a deadline raises."""


class Parked:
    """A task that parks; ``woke`` is when it went on, ``problem`` what it got."""

    def __init__(self, nursery: trio.Nursery, wait: Wait) -> None:
        self.scope = trio.CancelScope()
        self.woke: float | None = None
        self.problem: BaseException | None = None
        self.wait = wait
        nursery.start_soon(self._run)

    async def _run(self) -> None:
        try:
            with self.scope:
                await self.wait.park()
        except Exception as problem:
            self.problem = problem
        self.woke = trio.current_time()

    @property
    def waits(self) -> bool:
        return self.woke is None


# ---- waits -----------------------------------------------------------------------------------------------------------


async def test_resume_lets_the_parked_task_go_on(nursery: trio.Nursery) -> None:
    task = Parked(nursery, Wait())
    await wait_all_tasks_blocked()
    assert task.waits

    task.wait.resume()
    await wait_all_tasks_blocked()

    assert task.woke is not None
    assert task.problem is None


async def test_resume_is_not_remembered(nursery: trio.Nursery) -> None:
    wait = Wait()
    wait.resume()
    task = Parked(nursery, wait)
    await wait_all_tasks_blocked()

    assert task.waits
    wait.resume()


async def test_a_wait_can_be_parked_on_again_and_again() -> None:
    wait = Wait()
    turns: list[int] = []

    async def run() -> None:
        for turn in range(3):
            await wait.park()
            turns.append(turn)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        for expected in range(3):
            await wait_all_tasks_blocked()
            assert turns == list(range(expected))
            wait.resume()


async def test_end_raises_in_the_parked_task(nursery: trio.Nursery) -> None:
    task = Parked(nursery, Wait())
    await wait_all_tasks_blocked()

    task.wait.end(Enough())
    await wait_all_tasks_blocked()

    assert isinstance(task.problem, Enough)


async def test_a_wait_that_has_ended_is_not_parked_on() -> None:
    wait = Wait()
    wait.end(Enough())

    for _ in range(2):
        with pytest.raises(Enough):
            await wait.park()
    with pytest.raises(Enough):
        wait.check()


async def test_the_first_end_counts() -> None:
    wait = Wait()
    wait.end(Enough("first"))
    wait.end(Enough("second"))

    with pytest.raises(Enough, match="first"):
        await wait.park()


async def test_an_end_after_resume_reaches_the_next_park(nursery: trio.Nursery) -> None:
    """Resumed and ended before the task has run: the first park returns, nothing is lost."""
    task = Parked(nursery, Wait())
    await wait_all_tasks_blocked()
    task.wait.resume()
    task.wait.end(Enough())
    await wait_all_tasks_blocked()

    assert task.problem is None
    with pytest.raises(Enough):
        await task.wait.park()


async def test_a_resume_after_an_end_is_nothing(nursery: trio.Nursery) -> None:
    task = Parked(nursery, Wait())
    await wait_all_tasks_blocked()
    task.wait.end(Enough())
    task.wait.resume()
    await wait_all_tasks_blocked()

    assert isinstance(task.problem, Enough)


async def test_a_parked_task_can_be_cancelled(nursery: trio.Nursery) -> None:
    task = Parked(nursery, Wait())
    await wait_all_tasks_blocked()
    task.scope.cancel(reason="enough")
    task.wait.resume()
    task.wait.end(Enough())
    await wait_all_tasks_blocked()

    assert task.scope.cancelled_caught
    assert task.problem is None


async def test_end_wakes_what_else_is_waited_for() -> None:
    wait = Wait()
    woken: list[str] = []
    wait.wake = lambda: woken.append("woken")

    wait.end(Enough())
    wait.end(Enough())

    assert woken == ["woken"]


async def test_renew_begins_the_patience_again_up_to_the_latest(mock_clock: MockClock) -> None:
    now = trio.current_time()
    wait = Wait(now + 10, patience=10, latest=now + 15)

    mock_clock.jump(3)
    wait.renew()
    assert wait.deadline == now + 13
    mock_clock.jump(4)
    wait.renew()
    assert wait.deadline == now + 15


async def test_a_wait_without_bounds_has_no_deadline() -> None:
    wait = Wait()
    wait.renew()

    assert wait.deadline == math.inf


# ---- interruptible ---------------------------------------------------------------------------------------------------


async def test_interruptible_ends_whatever_is_awaited(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    wait = Wait()

    async def end() -> None:
        await trio.sleep(3)
        wait.end(Enough())

    nursery.start_soon(end)
    with pytest.raises(Enough):
        with interruptible(wait):
            await trio.sleep_forever()
    assert trio.current_time() == 3
    assert wait.wake is None


async def test_interruptible_refuses_a_wait_that_has_ended() -> None:
    wait = Wait()
    wait.end(Enough())

    with pytest.raises(Enough):
        with interruptible(wait):
            raise AssertionError("not to be run")


async def test_interruptible_leaves_alone_what_is_not_ended() -> None:
    wait = Wait()
    with interruptible(wait):
        await trio.lowlevel.checkpoint()
    with pytest.raises(KeyError):
        with interruptible(wait):
            raise KeyError
    assert wait.wake is None


async def test_interruptible_lets_a_cancellation_from_outside_pass() -> None:
    with trio.CancelScope() as scope:
        scope.cancel(reason="from outside")
        with interruptible(Wait()):
            await trio.sleep_forever()
    assert scope.cancelled_caught


# ---- the sweeper -----------------------------------------------------------------------------------------------------


@pytest.fixture
def sweeper(nursery: trio.Nursery) -> Sweeper:
    made = Sweeper()
    nursery.start_soon(made.run)
    return made


async def test_a_wait_ends_at_its_deadline(autojump_clock: MockClock, nursery: trio.Nursery, sweeper: Sweeper) -> None:
    wait = Wait(trio.current_time() + 7, Late)
    task = Parked(nursery, wait)
    sweeper.add(wait)
    await trio.sleep(7 - QUANTUM)
    assert task.waits
    await trio.sleep(2 * QUANTUM)

    assert isinstance(task.problem, Late)
    assert task.woke is not None
    assert 7 <= task.woke <= 7 + QUANTUM


async def test_each_wait_has_its_own_deadline(
    autojump_clock: MockClock, nursery: trio.Nursery, sweeper: Sweeper
) -> None:
    tasks = [Parked(nursery, Wait(trio.current_time() + seconds, Late)) for seconds in (5, 1, 3, math.inf)]
    for task in tasks:
        sweeper.add(task.wait)
    await trio.sleep(10)

    woke = [math.inf if task.woke is None else task.woke for task in tasks]
    assert [woken // 1 for woken in woke[:3]] == [5, 1, 3]
    assert woke[3] == math.inf
    tasks[3].wait.resume()


@pytest.mark.parametrize("before", [0.0, 0.01, 0.5, 30.0])
async def test_a_wait_that_comes_while_the_sweeper_sleeps_is_not_late(
    autojump_clock: MockClock, nursery: trio.Nursery, sweeper: Sweeper, before: float
) -> None:
    sweeper.add(Wait(trio.current_time() + 1000))
    await trio.sleep(before)
    deadline = trio.current_time() + 0.3
    task = Parked(nursery, Wait(deadline, Late))
    sweeper.add(task.wait)
    await trio.sleep(1)

    assert task.woke is not None
    assert deadline <= task.woke <= deadline + QUANTUM + 1e-9


async def test_a_deadline_that_is_moved_away_is_kept(
    autojump_clock: MockClock, nursery: trio.Nursery, sweeper: Sweeper
) -> None:
    wait = Wait(trio.current_time() + 5, Late)
    task = Parked(nursery, wait)
    sweeper.add(wait)
    await trio.sleep(4.9)
    wait.deadline = trio.current_time() + 5
    await trio.sleep(4.9)
    assert task.waits
    await trio.sleep(0.2)

    assert isinstance(task.problem, Late)


async def test_a_deadline_that_is_moved_nearer_is_noticed_soon(
    autojump_clock: MockClock, nursery: trio.Nursery, sweeper: Sweeper
) -> None:
    wait = Wait(trio.current_time() + 1000, Late)
    task = Parked(nursery, wait)
    sweeper.add(wait)
    await trio.sleep(10)
    wait.deadline = trio.current_time()
    moved = trio.current_time()
    await trio.sleep(2)

    assert task.woke is not None
    assert task.woke - moved <= LONGEST


async def test_a_deadline_that_is_set_while_there_is_none_is_noticed_soon(
    autojump_clock: MockClock, nursery: trio.Nursery, sweeper: Sweeper
) -> None:
    """The sweeper sleeps as long as nobody has a deadline, but not past one that comes later."""
    await trio.sleep(10)
    task = Parked(nursery, Wait(on_deadline=Late))
    sweeper.add(task.wait)
    await trio.sleep(10)
    moved = task.wait.deadline = trio.current_time()
    await trio.sleep(2)

    assert task.woke is not None
    assert task.woke - moved <= LONGEST


# ---- phases ----------------------------------------------------------------------------------------------------------


class PhaseOver(Exception):
    """What a phase raises."""


@pytest.mark.parametrize(
    ("deadline", "phase", "expected", "when"),
    [(9.0, 3.0, PhaseOver, 3.0), (math.inf, 3.0, PhaseOver, 3.0), (3.0, 9.0, Late, 3.0), (3.0, None, Late, 3.0)],
    ids=["the phase", "the phase only", "the wait", "the phase is over"],
)
async def test_the_nearer_of_two_deadlines_counts(
    deadline: float,
    phase: float | None,
    expected: type[Exception],
    when: float,
    autojump_clock: MockClock,
    nursery: trio.Nursery,
    sweeper: Sweeper,
) -> None:
    wait = Wait(trio.current_time() + deadline, Late)
    task = Parked(nursery, wait)
    sweeper.add(wait)
    wait.phase = Phase(trio.current_time() + (phase or 2.0), PhaseOver)
    await trio.sleep(1)
    if phase is None:
        wait.phase = None
    await trio.sleep(10)

    assert isinstance(task.problem, expected)
    assert task.woke is not None
    assert when <= task.woke <= when + LONGEST


async def test_a_phase_outlives_a_renewal(autojump_clock: MockClock, nursery: trio.Nursery, sweeper: Sweeper) -> None:
    wait = Wait(trio.current_time() + 2, Late, patience=2)
    task = Parked(nursery, wait)
    sweeper.add(wait)
    wait.phase = Phase(trio.current_time() + 5, PhaseOver)
    for _ in range(10):
        await trio.sleep(1)
        wait.renew()

    assert isinstance(task.problem, PhaseOver)


async def test_a_renewed_wait_ends_at_the_latest(
    autojump_clock: MockClock, nursery: trio.Nursery, sweeper: Sweeper
) -> None:
    wait = Wait(trio.current_time() + 2, Late, patience=2, latest=trio.current_time() + 7)
    task = Parked(nursery, wait)
    sweeper.add(wait)
    for _ in range(10):
        await trio.sleep(1)
        wait.renew()

    assert task.woke is not None
    assert 7 <= task.woke <= 7 + QUANTUM


async def test_a_probe_ends_its_wait(autojump_clock: MockClock, nursery: trio.Nursery, sweeper: Sweeper) -> None:
    gone = False
    wait = Wait()
    wait.probe = lambda: Enough() if gone else None
    task = Parked(nursery, wait)
    sweeper.add(wait)
    await trio.sleep(5.01)
    assert task.waits
    gone = True
    await trio.sleep(1)

    assert isinstance(task.problem, Enough)
    assert task.woke is not None
    assert task.woke - 5.01 <= QUANTUM + 1e-9


async def test_probes_are_asked_once_a_quantum(autojump_clock: MockClock, sweeper: Sweeper) -> None:
    asked: list[float] = []
    waits = [Wait() for _ in range(3)]
    waits[0].probe = lambda: asked.append(trio.current_time())
    for wait in waits:
        sweeper.add(wait)
    await trio.sleep(1)
    sweeper.discard(waits[0])
    count = len(asked)
    await trio.sleep(1)

    assert 10 <= count <= 1 / QUANTUM + 1
    assert len(asked) == count


async def test_a_discarded_wait_is_left_alone(
    autojump_clock: MockClock, nursery: trio.Nursery, sweeper: Sweeper
) -> None:
    task = Parked(nursery, Wait(trio.current_time() + 1, Late))
    sweeper.add(task.wait)
    assert len(sweeper) == 1
    sweeper.discard(task.wait)
    sweeper.discard(task.wait)
    await trio.sleep(10)

    assert len(sweeper) == 0
    assert task.waits
    task.wait.resume()


async def test_a_deadline_of_a_task_that_does_not_wait_is_found_when_it_does(
    autojump_clock: MockClock, sweeper: Sweeper
) -> None:
    wait = Wait(trio.current_time() + 1, Late)
    sweeper.add(wait)
    await trio.sleep(5)

    with pytest.raises(Late):
        await wait.park()


async def test_a_stream_of_short_waits_costs_one_sweep_a_quantum(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """However many calls begin, the sweeper looks at all of them twenty times a second at most."""
    looked: list[float] = []

    class Counting(Wait):
        """A wait that tells when it is looked at."""

        def __init__(self) -> None:
            super().__init__()
            self.probe = lambda: looked.append(trio.current_time())

    sweeper = Sweeper()
    nursery.start_soon(sweeper.run)
    sweeper.add(Counting())
    for _ in range(1000):
        wait = Wait(trio.current_time() + 60)
        sweeper.add(wait)
        await trio.sleep(0.001)
        sweeper.discard(wait)

    assert len(looked) <= 1 / QUANTUM + 2


moments = st.lists(
    st.tuples(st.floats(0, 5), st.floats(0.2, 5), st.sampled_from(["", "moved", "ended", "discarded"])), max_size=8
)


@given(moments)
def test_no_wait_ends_early_or_much_too_late(plan: list[tuple[float, float, str]]) -> None:
    """Waits that come at any time, and are moved, ended or forgotten while they run."""
    outcomes: list[tuple[float, str, Parked]] = []

    async def one(nursery: trio.Nursery, sweeper: Sweeper, start: float, patience: float, fate: str) -> None:
        await trio.sleep(start)
        wait = Wait(trio.current_time() + patience, Late)
        task = Parked(nursery, wait)
        sweeper.add(wait)
        if fate:
            await trio.sleep(patience / 2)
            act: dict[str, Callable[[], object]] = {
                "moved": lambda: setattr(wait, "deadline", start + patience + 2),
                "ended": lambda: wait.end(Enough()),
                "discarded": lambda: sweeper.discard(wait),
            }
            act[fate]()
        outcomes.append((start + patience + (2 if fate == "moved" else 0), fate, task))

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            sweeper = Sweeper()
            nursery.start_soon(sweeper.run)
            for step in plan:
                nursery.start_soon(one, nursery, sweeper, *step)
            await trio.sleep(20)
            for deadline, fate, task in outcomes:
                if fate == "discarded":
                    assert task.waits
                elif fate == "ended":
                    assert task.woke is not None
                    assert task.woke <= deadline + 1e-9
                else:
                    assert task.woke is not None
                    assert deadline - 1e-9 <= task.woke <= deadline + QUANTUM + 1e-9
            nursery.cancel_scope.cancel(reason="the test is over")

    trio.run(main, clock=MockClock(autojump_threshold=0))
