"""`python -m tests.bench`: the gateway against nginx, a table, and exit status 1 if a threshold is missed.

Run it with the interpreter into which the gateway is installed (`nox -s bench` does). Exit status 2: something that the
measurement needs is missing here; with ``CI`` set in the environment that is a line ``skipped: …`` and status 0.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.bench.ratio import Bench, Figures, Measured, build, import_ms, measure, missing_tools
from tests.bench.scenarios import (
    MOST_IMPORT_MS,
    MOST_LISTENING_S,
    MOST_RESIDENT_MB,
    SCENARIOS,
    THRESHOLDS,
    Scenario,
)

TOOLS = Path(os.environ.get("BENCH_HOME", Path.home() / ".cache" / "mcpgateway-bench"))
HEAD = f"{'':22} {'c':>3} {'':8} {'calls/s':>8} {'p50 us':>8} {'p99 us':>8} {'cpu us':>7} {'x nginx':>8} {'p50 x':>6}"


def main() -> int:
    options = _options()
    lacking = missing_tools()
    if lacking:
        return _cannot(lacking)
    build(TOOLS)
    chosen = [scenario for scenario in SCENARIOS if options.only in scenario.name]
    with tempfile.TemporaryDirectory(prefix="mcpgateway-bench-") as folder:
        bench = Bench(TOOLS, Path(folder), sys.executable, options.rounds, options.seconds)
        return _report(bench, chosen)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default="", help="only scenarios whose name contains this")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="measured seconds a round")
    return parser.parse_args()


def _cannot(lacking: list[str]) -> int:
    text = "the benchmark needs what is not installed here: " + ", ".join(lacking)
    if os.environ.get("CI"):
        print(f"skipped: {text}")
        return 0
    print(text, file=sys.stderr)
    return 2


def _report(bench: Bench, scenarios: list[Scenario]) -> int:
    results: dict[tuple[str, int], Figures] = {}
    faults: list[str] = []
    began = import_ms(bench.python, bench.scratch)
    print(f"import mcpgateway, open_gateway touched: {began:.0f} ms")
    faults += _above("import, ms", began, MOST_IMPORT_MS)
    print(HEAD)
    for scenario in scenarios:
        measured = measure(
            bench,
            kind=scenario.kind,
            server=scenario.server,
            path=scenario.path,
            load=scenario.load,
            in_flight=scenario.in_flight,
            era=scenario.era,
        )
        _print(scenario, measured)
        results.update({(scenario.name, count): row for count, row in measured.gateway.items()})
        faults += _above(f"{scenario.name}: seconds until listening", measured.listening, MOST_LISTENING_S)
        faults += _above(f"{scenario.name}: MB resident when idle", measured.resident, MOST_RESIDENT_MB)
    names = {scenario.name for scenario in scenarios}
    bounds = [bound for bound in THRESHOLDS if bound.scenarios <= names]
    faults += [said for bound in bounds if (said := bound.missed(results)) is not None]
    for fault in faults:
        print(f"missed: {fault}")
    print(f"{len(bounds)} thresholds, {len(faults)} missed")
    return 1 if faults else 0


def _above(what: str, value: float, most: float) -> list[str]:
    return [f"{what} {value:.3g} is above {most:g}"] if value > most else []


def _print(scenario: Scenario, measured: Measured) -> None:
    for count in scenario.in_flight:
        for name, rows in (("nginx", measured.nginx), ("gateway", measured.gateway)):
            if count in rows:
                print(_row(scenario.name, count, name, rows[count]))
    print(f"{'':22} listening after {measured.listening:.2f} s, {measured.resident:.0f} MB idle", flush=True)


def _row(scenario: str, count: int, name: str, row: Figures) -> str:
    ratio = "" if row.ratio is None else f"{row.ratio:.3f}"
    p50 = "" if row.p50_ratio is None else f"{row.p50_ratio:.2f}"
    return (
        f"{scenario:22} {count:3} {name:8} {row.rps:8.0f} {row.p50_us:8.0f} {row.p99_us:8.0f} "
        f"{row.cpu_us:7.1f} {ratio:>8} {p50:>6}"
    )


if __name__ == "__main__":
    sys.exit(main())
