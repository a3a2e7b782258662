"""`python -m tests.conformance`: the MCP conformance suite direct and through the gateway, compared check by check.

Installs the suite from the registries on first use. Exit status 1 if a check differs that `known` does not list, or an
entry there is stale; 2 if something needed is missing (with ``CI`` set: a line ``skipped: …`` and status 0).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conformance.compare import Difference, Judgement, differences, judge, passed, read_run
from tests.conformance.known import KNOWN
from tests.conformance.setup import Suite, default_home, install, missing_tools
from tests.processes import free_port, running, tail, wait_for_ok, wait_for_port

LEGS = {"s2506": "2025-06-18", "s2511": "2025-11-25", "s2607": "2026-07-28"}
SCENARIO_TIMEOUT_MS = 15_000


def main() -> int:
    options = _options()
    lacking = missing_tools()
    if lacking:
        return _cannot(lacking)
    suite = install(default_home())
    with tempfile.TemporaryDirectory(prefix="mcpgateway-conformance-") as folder:
        scratch = Path(options.keep or folder)
        scratch.mkdir(parents=True, exist_ok=True)
        with _fixture(suite, scratch) as direct, _gateway(direct, scratch) as through:
            found = [each for leg in options.legs for each in _leg(suite, leg, direct, through, scratch)]
    return _report(judge(found, KNOWN, options.legs))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("legs", nargs="*", default=list(LEGS), metavar="LEG", help="which revisions")
    parser.add_argument("--keep", help="folder for the suite's results and the logs")
    options = parser.parse_args()
    if unknown := sorted(set(options.legs) - set(LEGS)):
        parser.error(f"unknown leg {unknown[0]!r}; there are {', '.join(LEGS)}")
    return options


def _cannot(lacking: list[str]) -> int:
    text = "the conformance run needs what is not installed here: " + ", ".join(lacking)
    if os.environ.get("CI"):
        print(f"skipped: {text}")
        return 0
    print(text, file=sys.stderr)
    return 2


@contextmanager
def _fixture(suite: Suite, scratch: Path) -> Iterator[str]:
    port, log = free_port(), scratch / "fixture.log"
    script = Path(__file__).with_name("fixture_server.py")
    command = [str(suite.python), str(script), str(suite.everything_server), str(port)]
    with running(command, log) as process:
        wait_for_port(port, process, log)
        yield f"http://127.0.0.1:{port}/mcp"


@contextmanager
def _gateway(server: str, scratch: Path) -> Iterator[str]:
    port, log, config = free_port(), scratch / "gateway.log", scratch / "gateway.json"
    config.write_text(json.dumps({"state_dir": str(scratch / "state"), "servers": {"everything": {"url": server}}}))
    command = [sys.executable, "-m", "runners.gateway", "--config", str(config), "--port", str(port)]
    with running(command, log) as process:
        wait_for_ok(f"http://127.0.0.1:{port}/readyz", process, log)
        yield f"http://127.0.0.1:{port}/mcp/everything"


def _leg(suite: Suite, leg: str, direct: str, through: str, scratch: Path) -> list[Difference]:
    runs = {}
    for name, url in (("direct", direct), ("gateway", through)):
        results = scratch / name / leg
        results.mkdir(parents=True)
        _run(suite, leg, url, results)
        runs[name] = read_run(results)
    found = differences(leg, runs["direct"], runs["gateway"])
    scores = " ".join(f"{name} {'/'.join(map(str, passed(run)))}" for name, run in runs.items())
    print(f"{leg} ({LEGS[leg]}): scenarios passed {scores}, differences: {len(found)}", flush=True)
    if not runs["direct"]:
        raise SystemExit(f"the suite gave no results for {leg}:\n{tail(scratch / 'direct' / f'{leg}.log')}")
    return found


def _run(suite: Suite, leg: str, url: str, results: Path) -> None:
    options = ["--suite", "all", "--spec-version", LEGS[leg], "--timeout", str(SCENARIO_TIMEOUT_MS)]
    command = [*suite.command, "server", "--url", url, *options, "-o", str(results)]
    with (results.parent / f"{leg}.log").open("wb") as log:
        # Its status only says whether every scenario passed, which the comparison says better.
        subprocess.run(command, stdout=log, stderr=log, check=False)


def _report(verdict: Judgement) -> int:
    reasons = {(entry.leg, entry.scenario, entry.check): entry.reason for entry in KNOWN}
    for each in verdict.known:
        print(f"known: {_line(each)}: {reasons[each.leg, each.scenario, each.check]}")
    for each in verdict.unknown:
        print(f"differs: {_line(each)}")
    for entry in verdict.stale:
        print(f"stale: {entry.leg} {entry.scenario}:{entry.check} no longer differs; delete it from known.py")
    print(f"differences: {len(verdict.unknown)}, known: {len(verdict.known)}, stale: {len(verdict.stale)}")
    return 0 if verdict.passed else 1


def _line(each: Difference) -> str:
    return f"{each.leg} {each.scenario}:{each.check}: direct {'+'.join(each.direct)}, gateway {'+'.join(each.gateway)}"


if __name__ == "__main__":
    sys.exit(main())
