"""The matrix: what a run says of a leg, and the data that the documentation shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance import legs, matrix
from tests.conformance.compare import Cell, Known, differences, judge
from tests.conformance.known import KNOWN

CELL = Cell(legs.STDIO, "s2511")
STREAMS = {"server-sse-polling", "server-sse-multiple-streams"}
"""The scenarios that are about event streams."""


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


@pytest.mark.requirement("3.conformance.list", "5.conformance")
def test_the_committed_matrix_has_every_leg_and_counts_the_known_differences() -> None:
    rows = matrix.load()

    servers = [(behind.name, leg) for behind in legs.SERVERS.values() for leg in behind.legs]
    clients = [(mock.name, mock.client) for mock in legs.MOCKS]
    assert [(row.server, row.leg) for row in rows] == [*servers, *clients]
    for row in rows:
        assert row.known == sum(entry.cell == Cell(row.server, row.leg) for entry in KNOWN)


@pytest.mark.requirement("5.conformance")
def test_every_era_of_clients_meets_every_era_of_servers_over_every_transport() -> None:
    modern = {"s2506": "legacy", "s2511": "legacy", "s2607": "modern"}
    cells = {(modern[leg], each.era, each.transport) for each in legs.SERVERS.values() for leg in each.legs}
    within = {(era, legs.BOTH) for era in ("legacy", "modern")}
    assert cells >= {
        (*eras, transport)
        for transport in ("http", "stdio", "sse", "websocket")
        for eras in within | {("legacy", "modern"), ("modern", "legacy")}
    }
    assert {(mock.client, mock.leg) for mock in legs.MOCKS} >= {("c2511", "c2607"), ("c2607", "c2511")}


@pytest.mark.requirement("3.shows.client", "5.shows.suites")
def test_the_committed_matrix_shows_clients_as_they_are_without_the_gateway() -> None:
    """A run writes it only if all its differences are known, and fails if it says something else."""
    mocks = {mock.name for mock in legs.MOCKS}
    assert [row for row in matrix.load() if row.server in mocks and row.direct != row.through] == []


@pytest.mark.requirement("3.shows.zero", "5.shows.suites")
def test_the_committed_matrix_shows_no_difference_for_a_server_over_http() -> None:
    """Nor for one behind two gateways."""
    rows = [row for row in matrix.load() if row.server in (legs.HTTP, "chain-http")]
    assert [row.leg for row in rows] == [*legs.SERVER_LEGS, *legs.SERVER_LEGS]
    assert [row for row in rows if row.known or row.direct != row.through] == []


@pytest.mark.requirement("3.shows.zero", "5.shows.suites")
@pytest.mark.parametrize("server", ["stdio", "sse", "websocket"])
def test_on_one_connection_only_event_streams_differ(server: str) -> None:
    """Every scenario passes all the same; what differs is what such a transport does not have."""
    assert [row for row in matrix.load() if row.server == server and row.direct != row.through] == []
    assert {entry.scenario for entry in KNOWN if entry.cell.server == server} <= STREAMS


@pytest.mark.requirement("5.shows.suites")
@pytest.mark.parametrize("server", [behind.name for behind in legs.SERVERS.values() if behind.met == legs.MODERN])
def test_legacy_clients_of_modern_servers_pass_every_scenario(server: str) -> None:
    """What differs is what the other era does not have."""
    rows = [row for row in matrix.load() if row.server == server]
    assert [(row.leg, row.direct, row.through) for row in rows] == [
        ("s2506", "27/27", "27/27"),
        ("s2511", "33/33", "33/33"),
    ]
    assert {entry.scenario for entry in KNOWN if entry.cell.server == server} <= STREAMS


@pytest.mark.requirement("5.shows.suites")
@pytest.mark.parametrize("server", [behind.name for behind in legs.SERVERS.values() if behind.met == legs.LEGACY])
def test_modern_clients_of_legacy_servers_miss_only_what_the_legacy_era_cannot_say(server: str) -> None:
    rows = [row for row in matrix.load() if row.server == server]
    assert [(row.leg, row.direct, row.through) for row in rows] == [("s2607", "40/40", "39/40")]
    assert rows[0].known == (3 if legs.SERVERS[server].era == legs.MODERN else 5)
