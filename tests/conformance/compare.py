"""Two conformance runs, compared check by check; pure but for `read_run`.

A scenario can stay green while single checks fall back to INFO, SKIPPED or WARNING, so the unit of comparison is the
status of each check, not the scenario's.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

import attrs

Run: TypeAlias = Mapping[tuple[str, str], tuple[str, ...]]
"""(scenario, check) to the statuses that it got, in order."""


@attrs.frozen(order=True)
class Cell:
    """A cell of the matrix: what is behind the gateway, and the leg, which is a side and a revision."""

    server: str
    leg: str

    def __str__(self) -> str:
        return f"{self.server} {self.leg}"


@attrs.frozen
class Known:
    """A difference that is understood: what, and why it cannot or need not be otherwise."""

    cell: Cell
    scenario: str
    check: str
    reason: str


@attrs.frozen
class Difference:
    cell: Cell
    scenario: str
    check: str
    direct: tuple[str, ...]
    gateway: tuple[str, ...]


@attrs.frozen
class Judgement:
    """What a comparison says: the run fails if there is anything in ``unknown`` or ``stale``."""

    known: tuple[Difference, ...]
    unknown: tuple[Difference, ...]
    stale: tuple[Known, ...]
    """Entries of the list that no longer differ: to be deleted."""

    @property
    def passed(self) -> bool:
        return not self.unknown and not self.stale


def read_run(folder: Path) -> dict[tuple[str, str], tuple[str, ...]]:
    """Read the result folders that the suite wrote; of two runs of one scenario the later counts."""
    scenarios: dict[str, list[tuple[str, str]]] = {}
    for result in sorted(folder.glob("*/checks.json")):
        name = re.sub(r"-\d{4}-\d\d-\d\dT.*$", "", result.parent.name).removeprefix("server-")
        scenarios[name] = [(check["id"], check["status"]) for check in json.loads(result.read_text())]
    run: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, statuses in scenarios.items():
        for check, status in statuses:
            run[name, check].append(status)
    return {key: tuple(statuses) for key, statuses in run.items()}


def only(run: Run, scenarios: Collection[str]) -> Run:
    """The part of a run that is about some scenarios."""
    return {key: statuses for key, statuses in run.items() if key[0] in scenarios}


def differences(cell: Cell, direct: Run, gateway: Run) -> list[Difference]:
    """Every check whose statuses differ, in whatever order they came."""
    found = []
    for scenario, check in sorted(set(direct) | set(gateway)):
        want, got = direct.get((scenario, check), ()), gateway.get((scenario, check), ())
        if sorted(want) != sorted(got):
            found.append(Difference(cell, scenario, check, want, got))
    return found


def judge(found: Iterable[Difference], known: Iterable[Known], cells: Iterable[Cell]) -> Judgement:
    """Sort differences into known and unknown, and name the entries for ``cells`` that nothing matches any more."""
    found, ran = list(found), set(cells)
    listed = {(entry.cell, entry.scenario, entry.check): entry for entry in known if entry.cell in ran}
    hit = {(each.cell, each.scenario, each.check) for each in found}
    return Judgement(
        known=tuple(each for each in found if (each.cell, each.scenario, each.check) in listed),
        unknown=tuple(each for each in found if (each.cell, each.scenario, each.check) not in listed),
        stale=tuple(entry for key, entry in listed.items() if key not in hit),
    )


def passed(run: Run) -> tuple[int, int]:
    """Scenarios without a failed check, and all scenarios."""
    scenarios = {scenario for scenario, _ in run}
    failed = {scenario for (scenario, _), statuses in run.items() if "FAILURE" in statuses}
    return len(scenarios - failed), len(scenarios)
