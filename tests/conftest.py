"""What every test shares: the unit part runs first and says how long it took, and Hypothesis is repeatable in CI."""

from __future__ import annotations

import os
import time

import hypothesis
import pytest

UNIT_PART_S = 60
"""What the unit part may take on two cores."""

hypothesis.settings.register_profile("default", max_examples=50, deadline=None)
hypothesis.settings.register_profile("ci", max_examples=50, deadline=None, derandomize=True)
hypothesis.settings.register_profile("deep", max_examples=5000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))

_unit_part = pytest.StashKey[float]()
_began = pytest.StashKey[float]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_began] = time.monotonic()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast answers first: what needs real servers or real time comes last, in its own order."""
    items.sort(key=lambda item: item.get_closest_marker("real") is not None)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    if item.get_closest_marker("real") is None:
        item.config.stash[_unit_part] = time.monotonic() - item.config.stash[_began]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    taken = config.stash.get(_unit_part, None)
    if taken is not None:
        terminalreporter.write_line(f"unit part, collection included: {taken:.1f} s of {UNIT_PART_S}")
