"""What every test shares: the unit part runs first and says how long it took, and Hypothesis is repeatable in CI."""

from __future__ import annotations

import gc
import os
import signal
import time

import hypothesis
import pytest

UNIT_PART_S = 60
"""What the unit part may take on two cores."""

# How long it takes to draw an example says more of the machine than of the test.
_unhurried = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("default", _unhurried, max_examples=50)
hypothesis.settings.register_profile("ci", _unhurried, max_examples=50, derandomize=True)
hypothesis.settings.register_profile("deep", _unhurried, max_examples=5000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))

_began = time.monotonic()
_unit_part: list[float] = []
"""When each test of the unit part was over: here, or in one of the processes that the tests were given to."""


def pytest_configure() -> None:
    """Whoever started the tests in the background, or under nohup, has signals ignored that the runners are sent here:
    they would inherit that."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast answers first: what needs real servers or real time comes last, in its own order."""
    items.sort(key=lambda item: item.get_closest_marker("real") is not None)


def pytest_collection_finish() -> None:
    """What was imported and collected stays until the end: the garbage collector need not look through it each time."""
    gc.collect()
    gc.freeze()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "teardown" and "real" not in report.keywords:
        _unit_part.append(time.monotonic())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _unit_part:
        taken = _unit_part[-1] - _began
        terminalreporter.write_line(f"unit part, collection included: {taken:.1f} s of {UNIT_PART_S}")
