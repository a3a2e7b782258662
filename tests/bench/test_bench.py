"""The arithmetic of the benchmark: medians of pairs, and thresholds that say what was missed."""

from __future__ import annotations

import pytest

from tests.bench.ratio import Figures, Run, figures
from tests.bench.scenarios import SCENARIOS, THRESHOLDS, Relative, Threshold


def run(rps: float, p50: float = 100.0) -> Run:
    return Run(rps=rps, p50_us=p50, p99_us=2 * p50, cpu_us=10.0)


def test_ratio_is_the_median_of_pairs_not_the_ratio_of_medians() -> None:
    summary = figures([run(10), run(40), run(90)], [run(100), run(100), run(100)])
    noisy = figures([run(10), run(40), run(90)], [run(20), run(50), run(300)])

    assert summary.ratio == pytest.approx(0.4)
    assert noisy.ratio == pytest.approx(0.5)
    assert noisy.rps == 40


def test_without_nginx_there_is_no_ratio() -> None:
    assert figures([run(5)]).ratio is None


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (Figures(1, 1, 1, 1, ratio=0.36), None),
        (Figures(1, 1, 1, 1, ratio=0.34), "s, 16 in flight: ratio 0.34 is below 0.35"),
        (Figures(1, 1, 1, 1), "s, 16 in flight: ratio was not measured"),
    ],
)
def test_least(row: Figures, said: str | None) -> None:
    assert Threshold("s", 16, "ratio", least=0.35).missed({("s", 16): row}) == said


def test_most() -> None:
    bound = Threshold("s", 1, "p50_ratio", most=1.4)

    assert bound.missed({("s", 1): Figures(1, 1, 1, 1, p50_ratio=1.4)}) is None
    assert bound.missed({("s", 1): Figures(1, 1, 1, 1, p50_ratio=1.5)}) == "s, 1 in flight: p50_ratio 1.5 is above 1.4"


def test_a_scenario_that_did_not_run_is_missed() -> None:
    assert Threshold("s", 1, "rps", least=1).missed({}) == "s, 1 in flight: rps was not measured"


@pytest.mark.parametrize(
    ("across", "said"),
    [
        (Figures(1, 1, 1, 80.0), None),
        (Figures(1, 1, 1, 81.0), "x, 16 in flight: CPU time in relation to s 2.02 is above 2"),
        (None, "x, 16 in flight: CPU time in relation to s was not measured"),
    ],
)
def test_what_crosses_is_compared_with_what_does_not(across: Figures | None, said: str | None) -> None:
    figures = {("s", 16): Figures(1, 1, 1, 40.0)} | ({("x", 16): across} if across else {})

    assert Relative("x", "s", 16, most=2.0).missed(figures) == said


@pytest.mark.parametrize("bound", THRESHOLDS, ids=lambda bound: f"{bound.scenario}-{bound.in_flight}")
def test_each_threshold_belongs_to_a_measurement(bound: Threshold | Relative) -> None:
    measured = {row.name for row in SCENARIOS if bound.in_flight in row.in_flight}
    assert bound.scenarios <= measured


@pytest.mark.requirement("2.shows.speed", "3.shows.speed")
def test_the_thresholds_are_no_lower_than_what_was_promised() -> None:
    promised = {
        Threshold("http legacy", 1, "p50_ratio", most=1.4),
        *(Threshold("http legacy", in_flight, "ratio", least=0.35) for in_flight in (16, 64)),
        *(Threshold("http modern", in_flight, "ratio", least=0.30) for in_flight in (16, 64)),
        Threshold("stdio legacy", 16, "rps", least=15_000),
    }

    assert promised <= set(THRESHOLDS)
