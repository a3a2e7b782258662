"""`python -m tests.conformance`: the MCP conformance suite direct and through the gateway, compared check by check.

Prints the matrix. Installs the suite from the registries on first use. Exit status 1 if a check differs that `known`
does not list, an entry there is stale, or the committed matrix says something else (``--update`` writes it); 2 if
something needed is missing (with ``CI`` set: a line ``skipped: …`` and status 0).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

from tests.conformance import legs, matrix
from tests.conformance.compare import Cell, Difference, Judgement, Run, differences, judge, only, read_run
from tests.conformance.known import KNOWN
from tests.conformance.setup import Suite, default_home, install, missing_tools
from tests.processes import tail

REVISIONS = {**legs.SERVER_LEGS, **{leg: revision for leg, (revision, _) in legs.CLIENT_LEGS.items()}}

Pair: TypeAlias = tuple[Run, Run]
"""What a leg gave directly, and through the gateway."""


def main() -> int:
    options = _options()
    lacking = missing_tools()
    if lacking:
        return _cannot(lacking)
    suite = install(default_home())
    with tempfile.TemporaryDirectory(prefix="mcpgateway-conformance-") as folder:
        scratch = Path(options.keep or folder).resolve()
        scratch.mkdir(parents=True, exist_ok=True)
        runs = dict(_runs(suite, options.legs, scratch))
    found = [each for cell, (direct, through) in runs.items() for each in differences(cell, direct, through)]
    verdict = judge(found, KNOWN, runs)
    _explain(verdict)
    rows = [matrix.row(cell, REVISIONS[cell.leg], *runs[cell], verdict) for cell in runs]
    print("", *matrix.table(rows), "", sep="\n")
    return _close(verdict, rows, complete=set(options.legs) == set(REVISIONS), update=options.update)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("legs", nargs="*", default=list(REVISIONS), metavar="LEG", help=", ".join(REVISIONS))
    parser.add_argument("--keep", help="folder for the suite's results and the logs")
    parser.add_argument("--update", action="store_true", help="write the matrix that the documentation shows")
    options = parser.parse_args()
    if unknown := sorted(set(options.legs) - set(REVISIONS)):
        parser.error(f"unknown leg {unknown[0]!r}; there are {', '.join(REVISIONS)}")
    return options


def _cannot(lacking: list[str]) -> int:
    text = "the conformance run needs what is not installed here: " + ", ".join(lacking)
    if os.environ.get("CI"):
        print(f"skipped: {text}")
        return 0
    print(text, file=sys.stderr)
    return 2


# ---- the runs --------------------------------------------------------------------------------------------------------


def _runs(suite: Suite, wanted: list[str], scratch: Path) -> Iterator[tuple[Cell, Pair]]:
    """All runs; those of clients, which mostly wait, beside those of servers."""
    mocks = [mock for mock in legs.MOCKS if mock.client in wanted]
    with ThreadPoolExecutor(2) as pool:
        through = [pool.submit(_client_run, suite, mock.leg, scratch / mock.name / mock.client, mock) for mock in mocks]
        played = sorted({mock.leg for mock in mocks})
        direct = {leg: pool.submit(_client_run, suite, leg, scratch / "direct" / leg) for leg in played}
        if any(leg in legs.SERVER_LEGS for leg in wanted):
            yield from _server_runs(suite, wanted, scratch)
        for mock, run in zip(mocks, through, strict=True):
            yield Cell(mock.name, mock.client), (only(direct[mock.leg].result(), mock.scenarios), run.result())


def _server_runs(suite: Suite, wanted: list[str], scratch: Path) -> Iterator[tuple[Cell, Pair]]:
    with ExitStack() as stack:
        addresses = {era: stack.enter_context(legs.fixture(suite, scratch, era)) for era in legs.ERAS}
        servers = legs.SERVERS.values()
        near = {each.name: legs.entry(suite, each, addresses[each.era]) for each in servers if each.between is None}
        base = stack.enter_context(legs.gateway(near, scratch))
        far = {
            each.name: {"url": f"{base}/mcp/{each.plain}", "era": each.between}
            for each in servers
            if each.between is not None
        }
        chain = stack.enter_context(legs.gateway(far, scratch / "chain"))
        direct: dict[str, Run] = {}
        for each in servers:
            url = f"{base if each.between is None else chain}/mcp/{each.name}"
            for leg in (leg for leg in each.legs if leg in wanted):
                if leg not in direct:
                    direct[leg] = _server_run(suite, leg, f"http://{addresses[legs.BOTH]}/mcp", scratch / "direct")
                if each.plain == "legacy-stdio":
                    legs.warm(url)
                yield Cell(each.name, leg), (direct[leg], _server_run(suite, leg, url, scratch / each.name))


def _server_run(suite: Suite, leg: str, url: str, folder: Path) -> Run:
    return _read(folder / leg, lambda results: legs.run_server_leg(suite, leg, url, results))


def _client_run(suite: Suite, leg: str, folder: Path, mock: legs.Mock | None = None) -> Run:
    return _read(folder, lambda results: legs.run_client_leg(suite, leg, results, mock))


def _read(results: Path, run: Callable[[Path], None]) -> Run:
    print(f"running {results.parent.name} {results.name}", flush=True)
    run(results)
    found = read_run(results)
    if not found:
        raise SystemExit(f"the suite gave no results:\n{tail(results.parent / f'{results.name}.log')}")
    return found


# ---- the report ------------------------------------------------------------------------------------------------------


def _explain(verdict: Judgement) -> None:
    reasons = {(entry.cell, entry.scenario, entry.check): entry.reason for entry in KNOWN}
    for each in verdict.known:
        print(f"known: {_line(each)}: {reasons[each.cell, each.scenario, each.check]}")
    for each in verdict.unknown:
        print(f"differs: {_line(each)}")
    for entry in verdict.stale:
        print(f"stale: {entry.cell} {entry.scenario}:{entry.check} no longer differs; delete it from known.py")


def _line(each: Difference) -> str:
    return f"{each.cell} {each.scenario}:{each.check}: direct {'+'.join(each.direct)}, gateway {'+'.join(each.gateway)}"


def _close(verdict: Judgement, rows: list[matrix.Row], *, complete: bool, update: bool) -> int:
    """Say the last line, and keep the committed matrix true; the exit status."""
    print(f"differences: {len(verdict.unknown)}, known: {len(verdict.known)}, stale: {len(verdict.stale)}")
    if not verdict.passed:
        return 1
    if complete and update:
        matrix.save(rows)
    elif complete and tuple(rows) != matrix.load():
        print("the committed matrix says otherwise; run again with --update")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
