"""What tests of runners share."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runners.held import Held


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Put pytest's own handlers back after a runner has configured its log."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    held = Held(tmp_path / "held")
    yield held
    held.close()
