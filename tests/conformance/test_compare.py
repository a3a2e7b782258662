"""The comparison of two conformance runs, on small made-up ones."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conformance.compare import Difference, Known, differences, judge, passed, read_run
from tests.conformance.known import KNOWN

DIRECT = {("ping", "answered"): ("SUCCESS",), ("polling", "primed"): ("SUCCESS", "INFO")}


def test_the_order_of_statuses_does_not_matter() -> None:
    gateway = {**DIRECT, ("polling", "primed"): ("INFO", "SUCCESS")}

    assert differences("s2511", DIRECT, gateway) == []


def test_a_demoted_check_differs_though_the_scenario_passes() -> None:
    gateway = {**DIRECT, ("polling", "primed"): ("INFO", "INFO")}

    found = differences("s2511", DIRECT, gateway)

    assert found == [Difference("s2511", "polling", "primed", ("SUCCESS", "INFO"), ("INFO", "INFO"))]
    assert passed(gateway) == (2, 2)


def test_a_check_that_is_absent_on_one_side_differs() -> None:
    assert len(differences("s2511", DIRECT, {})) == 2
    assert len(differences("s2511", {}, DIRECT)) == 2


def test_known_unknown_and_stale() -> None:
    found = differences("s2511", DIRECT, {})
    known = [
        Known("s2511", "ping", "answered", "listed"),
        Known("s2511", "gone", "fixed", "no longer differs"),
        Known("s2607", "ping", "answered", "a leg that did not run is not judged"),
    ]

    verdict = judge(found, known, ["s2511"])

    assert [each.scenario for each in verdict.known] == ["ping"]
    assert [each.scenario for each in verdict.unknown] == ["polling"]
    assert [entry.scenario for entry in verdict.stale] == ["gone"]
    assert not verdict.passed
    assert judge([], [], ["s2511"]).passed


def test_a_failed_check_fails_its_scenario() -> None:
    assert passed({("a", "x"): ("SUCCESS",), ("a", "y"): ("FAILURE",), ("b", "x"): ("SKIPPED",)}) == (1, 2)


def test_reading_takes_the_later_of_two_runs(tmp_path: Path) -> None:
    for moment, status in (("2026-01-01T00-00-00", "FAILURE"), ("2026-01-01T00-00-01", "SUCCESS")):
        folder = tmp_path / f"server-ping-{moment}"
        folder.mkdir()
        (folder / "checks.json").write_text(json.dumps([{"id": "answered", "status": status}]))

    assert read_run(tmp_path) == {("ping", "answered"): ("SUCCESS",)}


def test_every_known_difference_says_why() -> None:
    assert all(len(entry.reason) > 20 for entry in KNOWN)
