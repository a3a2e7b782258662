"""The state file of a gateway that runs, which is there a moment after it says where it listens."""

from __future__ import annotations

import time
from pathlib import Path

from runners import statefile
from tests.processes import POLL, let_run
from tests.real.gateways import STARTING


def noted(directory: Path, pid: int) -> str:
    """Wait until the state file says where this gateway is; its URL."""
    deadline = time.monotonic() + STARTING
    while (state := statefile.read(directory)) is None or state.pid != pid:
        assert time.monotonic() < deadline, state
        let_run(POLL)
    return state.url
