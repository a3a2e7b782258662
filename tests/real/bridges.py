"""The bridge as a user runs it, and the clouds that it dials: real processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from tests.real.gateways import ENDING, STARTING, GatewayProcess, Log, environment, process


@contextmanager
def bridge(
    folder: Path, config: Mapping[str, object], *arguments: str, env: Mapping[str, str] | None = None
) -> Iterator[GatewayProcess]:
    """``python -m runners.bridge`` with a configuration, which is written to a file; killed at the end if it runs."""
    file = folder / "mcp_config.json"
    file.write_text(json.dumps(config))
    with process("runners.bridge", "-config", str(file), *arguments, env=env, says="dialling ") as started:
        yield started


@attrs.frozen
class Clouds:
    """Clouds that run; what they print, one value a line."""

    port: int
    log: Log

    def told(self, words: str, seconds: float = ENDING, *, after: int = 0) -> Any:
        """The first value that has these words in it, decoded."""
        return json.loads(self.log.wait_for(words, seconds, after=after))


@contextmanager
def clouds() -> Iterator[Clouds]:
    """Clouds of the ``websockets`` library; see `tests.real.cloud_server`."""
    started = subprocess.Popen(
        [sys.executable, "-m", "tests.real.cloud_server"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert started.stdout is not None
    log = Log(started.stdout)
    try:
        yield Clouds(int(log.wait_for("", STARTING)), log)
    finally:
        started.kill()
        started.wait(ENDING)
        log.close()
