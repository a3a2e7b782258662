"""The comparison of two conformance runs, on small made-up ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conformance.compare import Cell, Difference, Known, differences, judge, only, passed, read_run
from tests.conformance.known import KNOWN
from tests.conformance.legs import HTTP, MOCKS, SERVERS, STDIO

DIRECT = {("ping", "answered"): ("SUCCESS",), ("polling", "primed"): ("SUCCESS", "INFO")}
CELL = Cell(HTTP, "s2511")


def test_the_order_of_statuses_does_not_matter() -> None:
    gateway = {**DIRECT, ("polling", "primed"): ("INFO", "SUCCESS")}

    assert differences(CELL, DIRECT, gateway) == []


def test_a_demoted_check_differs_though_the_scenario_passes() -> None:
    gateway = {**DIRECT, ("polling", "primed"): ("INFO", "INFO")}

    found = differences(CELL, DIRECT, gateway)

    assert found == [Difference(CELL, "polling", "primed", ("SUCCESS", "INFO"), ("INFO", "INFO"))]
    assert passed(gateway) == (2, 2)


def test_a_check_that_is_absent_on_one_side_differs() -> None:
    assert len(differences(CELL, DIRECT, {})) == 2
    assert len(differences(CELL, {}, DIRECT)) == 2


@pytest.mark.requirement("3.conformance.list")
def test_known_unknown_and_stale() -> None:
    found = differences(CELL, DIRECT, {})
    known = [
        Known(CELL, "ping", "answered", "listed"),
        Known(CELL, "gone", "fixed", "no longer differs"),
        Known(Cell(HTTP, "s2607"), "ping", "answered", "a leg that did not run is not judged"),
        Known(Cell(STDIO, "s2511"), "polling", "primed", "another server's"),
    ]

    verdict = judge(found, known, [CELL])

    assert [each.scenario for each in verdict.known] == ["ping"]
    assert [each.scenario for each in verdict.unknown] == ["polling"]
    assert [entry.scenario for entry in verdict.stale] == ["gone"]
    assert not verdict.passed
    assert judge([], [], [CELL]).passed


def test_a_run_of_some_scenarios_is_compared_with_the_same_ones() -> None:
    assert only(DIRECT, ("ping",)) == {("ping", "answered"): ("SUCCESS",)}


def test_a_failed_check_fails_its_scenario() -> None:
    assert passed({("a", "x"): ("SUCCESS",), ("a", "y"): ("FAILURE",), ("b", "x"): ("SKIPPED",)}) == (1, 2)


def test_reading_takes_the_later_of_two_runs(tmp_path: Path) -> None:
    for moment, status in (("2026-01-01T00-00-00", "FAILURE"), ("2026-01-01T00-00-01", "SUCCESS")):
        for name in ("server-ping", "tools_call"):  # the suite marks the results of server scenarios only
            folder = tmp_path / f"{name}-{moment}"
            folder.mkdir()
            (folder / "checks.json").write_text(json.dumps([{"id": "answered", "status": status}]))

    assert read_run(tmp_path) == {("ping", "answered"): ("SUCCESS",), ("tools_call", "answered"): ("SUCCESS",)}


@pytest.mark.requirement("3.conformance.list")
def test_nothing_is_known_to_differ_for_a_server_over_http() -> None:
    assert [entry for entry in KNOWN if entry.cell.server in (HTTP, "chain-http")] == []
    cells = {(behind.name, leg) for behind in SERVERS.values() for leg in behind.legs}
    assert {(entry.cell.server, entry.cell.leg) for entry in KNOWN} < cells | {
        (mock.name, mock.client) for mock in MOCKS
    }


def test_every_known_difference_says_why() -> None:
    assert all(len(entry.reason) > 20 for entry in KNOWN)
