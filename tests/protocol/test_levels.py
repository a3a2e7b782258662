"""Who reads a log message."""

from __future__ import annotations

import pytest

from mcpgateway.protocol.levels import LEVELS, passes


@pytest.mark.parametrize("level", LEVELS)
def test_levels_let_through_what_is_as_severe(level: str) -> None:
    assert [least for least in LEVELS if passes(level, least)] == list(LEVELS)[: LEVELS[level] + 1]


def test_a_level_that_no_table_knows_is_heard_by_all() -> None:
    assert passes("deafening", "emergency")
    assert passes(None, "emergency")
