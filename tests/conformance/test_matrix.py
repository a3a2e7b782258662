"""The matrix: what a run says of a leg, and the data that the documentation shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance import legs, matrix
from tests.conformance.compare import Cell, Known, differences, judge
from tests.conformance.known import KNOWN

CELL = Cell(legs.STDIO, "s2511")


def test_a_row_counts_scenarios_and_known_differences() -> None:
    direct = {("a", "x"): ("SUCCESS",), ("b", "y"): ("SUCCESS",)}
    through = {("a", "x"): ("SUCCESS",), ("b", "y"): ("FAILURE",)}
    known = [Known(CELL, "b", "y", "as it is")]
    verdict = judge(differences(CELL, direct, through), known, [CELL])

    row = matrix.row(CELL, "2025-11-25", direct, through, verdict)

    assert row == matrix.Row("stdio", "s2511", "2025-11-25", "2/2", "1/2", 1)


def test_a_table_is_aligned_markdown() -> None:
    lines = list(matrix.table([matrix.Row("http", "s2506", "2025-06-18", "27/27", "27/27", 0)]))

    assert lines[0].startswith("| behind the gateway | leg")
    assert len({len(line) for line in lines}) == 1
    assert lines[2].split("|")[1].strip() == "http"


def test_what_is_saved_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (matrix.Row("http", "s2506", "2025-06-18", "27/27", "26/27", 1),)
    monkeypatch.setattr(matrix, "FILE", tmp_path / "matrix.json")

    matrix.save(rows)

    assert matrix.load() == rows


@pytest.mark.requirement("3.conformance.list")
def test_the_committed_matrix_has_every_leg_and_counts_the_known_differences() -> None:
    rows = matrix.load()

    servers = [(server, leg) for server in (legs.HTTP, legs.STDIO) for leg in legs.SERVER_LEGS]
    bridged = [(server, leg) for server, some in legs.BRIDGED_LEGS.items() for leg in some]
    clients = [(legs.MOCK, leg) for leg in legs.CLIENT_LEGS]
    assert [(row.server, row.leg) for row in rows] == [*servers, *bridged, *clients]
    for row in rows:
        assert row.known == sum(entry.cell == Cell(row.server, row.leg) for entry in KNOWN)


@pytest.mark.requirement("3.shows.client")
def test_the_committed_matrix_shows_clients_as_they_are_without_the_gateway() -> None:
    """A run writes it only if all its differences are known, and fails if it says something else."""
    assert [row for row in matrix.load() if row.server == legs.MOCK and row.direct != row.through] == []


def test_the_committed_matrix_shows_no_difference_for_a_server_over_http() -> None:
    assert [row for row in matrix.load() if row.server == legs.HTTP and (row.known or row.direct != row.through)] == []


def test_modern_clients_of_legacy_servers_miss_only_what_a_legacy_server_does_not_say() -> None:
    rows = [row for row in matrix.load() if row.server in (legs.LEGACY_HTTP, legs.LEGACY_STDIO)]
    assert [(row.leg, row.direct, row.through, row.known) for row in rows] == [("s2607", "40/40", "39/40", 5)] * 2


def test_over_stdio_only_event_streams_differ() -> None:
    """Every scenario passes all the same; what differs is what a pipe does not have."""
    rows = [row for row in matrix.load() if row.server == legs.STDIO]
    assert [row for row in rows if row.direct != row.through] == []
    assert {entry.scenario for entry in KNOWN if entry.cell.server == legs.STDIO} <= {
        "server-sse-polling",
        "server-sse-multiple-streams",
    }


@pytest.mark.parametrize("server", [legs.MODERN_HTTP, legs.MODERN_STDIO])
def test_across_the_eras_only_event_streams_differ(server: str) -> None:
    """Every scenario passes all the same; what differs is what the other era does not have."""
    rows = [row for row in matrix.load() if row.server == server]
    assert [row for row in rows if row.direct != row.through] == []
    assert {entry.scenario for entry in KNOWN if entry.cell.server == server} <= {
        "server-sse-polling",
        "server-sse-multiple-streams",
    }
