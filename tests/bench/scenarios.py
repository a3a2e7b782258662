"""What the benchmark measures, and what it must reach, as data.

The figures are ratios to nginx as a plain proxy in the same paired run, because machines are shared and noisy. Calls
across the eras are compared with those within; only the stdio server, which nginx cannot proxy, has an absolute one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

from tests.bench.ratio import Figures


@attrs.frozen
class Scenario:
    """One kind of call, measured at several numbers of calls in flight.

    ``path`` is where the server behind takes the calls (its paths beginning ``/sse`` answer with SSE). ``era`` is in
    which it is spoken to.
    """

    name: str
    kind: Literal["http", "stdio"] = "http"
    server: tuple[str, ...] = ()
    path: str = "/mcp"
    load: tuple[str, ...] = ("-T", "echo")
    in_flight: tuple[int, ...] = (1, 16, 64)
    era: str = "auto"


@attrs.frozen
class Threshold:
    """A bound on one figure of one scenario at one number of calls in flight."""

    scenario: str
    in_flight: int
    figure: Literal["ratio", "p50_ratio", "rps"]
    least: float | None = None
    most: float | None = None

    @property
    def scenarios(self) -> frozenset[str]:
        """What has to be measured."""
        return frozenset({self.scenario})

    def missed(self, figures: Mapping[tuple[str, int], Figures]) -> str | None:
        """What to say if the bound is missed (or was not measured); ``None`` if it holds."""
        measured = figures.get((self.scenario, self.in_flight))
        value = None if measured is None else getattr(measured, self.figure)
        where = f"{self.scenario}, {self.in_flight} in flight: {self.figure}"
        if value is None:
            return f"{where} was not measured"
        if self.least is not None and value < self.least:
            return f"{where} {value:.3g} is below {self.least:g}"
        if self.most is not None and value > self.most:
            return f"{where} {value:.3g} is above {self.most:g}"
        return None


@attrs.frozen
class Relative:
    """A bound on the CPU time of a call, in calls of another scenario."""

    scenario: str
    to: str
    in_flight: int
    most: float

    @property
    def scenarios(self) -> frozenset[str]:
        """What has to be measured."""
        return frozenset({self.scenario, self.to})

    def missed(self, figures: Mapping[tuple[str, int], Figures]) -> str | None:
        """What to say if the bound is missed (or was not measured); ``None`` if it holds."""
        measured = figures.get((self.scenario, self.in_flight))
        other = figures.get((self.to, self.in_flight))
        what = f"{self.scenario}, {self.in_flight} in flight: CPU time in relation to {self.to}"
        if measured is None or other is None:
            return f"{what} was not measured"
        ratio = measured.cpu_us / other.cpu_us
        return f"{what} {ratio:.3g} is above {self.most:g}" if ratio > self.most else None


MODERN = ("-M",)

SCENARIOS = (
    Scenario("http legacy"),
    Scenario("http modern", server=("--modern",), load=("-T", "echo", *MODERN)),
    Scenario("http legacy sse", path="/sse", in_flight=(16,)),
    Scenario("http modern sse", server=("--modern",), path="/sse", load=("-T", "echo", *MODERN), in_flight=(16,)),
    Scenario("http legacy 64 KiB", load=("-T", "big"), in_flight=(16,)),
    Scenario("http modern 64 KiB", server=("--modern",), load=("-T", "big", *MODERN), in_flight=(16,)),
    Scenario("http legacy to modern", server=("--modern",), in_flight=(16,), era="modern"),
    Scenario(
        "http modern to legacy", server=("--modern",), load=("-T", "echo", *MODERN), in_flight=(16,), era="legacy"
    ),
    Scenario("stdio legacy", kind="stdio", in_flight=(1, 16, 64)),
    Scenario("stdio modern", kind="stdio", server=("--modern",), load=("-T", "echo", *MODERN), in_flight=(16,)),
    Scenario("stdio legacy 64 KiB", kind="stdio", load=("-T", "big"), in_flight=(16,)),
)

THRESHOLDS: tuple[Threshold | Relative, ...] = (
    Threshold("http legacy", 1, "p50_ratio", most=1.4),
    Threshold("http legacy", 16, "ratio", least=0.35),
    Threshold("http legacy", 64, "ratio", least=0.35),
    Threshold("http modern", 16, "ratio", least=0.30),
    Threshold("http modern", 64, "ratio", least=0.30),
    Relative("http legacy to modern", "http legacy", 16, most=2.0),
    Relative("http modern to legacy", "http modern", 16, most=2.0),
    Threshold("stdio legacy", 16, "rps", least=15_000),
)

MOST_RESIDENT_MB = 80.0
"""Resident memory of the idle gateway with one server."""
MOST_LISTENING_S = 1.0
"""Seconds from start to the first accepted connection."""
MOST_IMPORT_MS = 150.0
"""`import mcpgateway` with `open_gateway` touched, above a bare interpreter."""
