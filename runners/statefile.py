"""The run-time state file: where other programs of this user find a running gateway.

``state_dir/gateway.json`` (mode 0600) is there from the moment a gateway listens until its orderly end. One that was
killed leaves it behind, so whoever reads it has to look whether the process is alive; the next gateway replaces it. Of
several gateways with one ``state_dir`` it is the first one's.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import attrs
import msgspec

from mcpgateway.wire import private

log = logging.getLogger("mcpgateway")

NAME: Final = "gateway.json"


@attrs.frozen
class State:
    """What the file holds."""

    pid: int
    url: str
    version: str
    started: str
    """When the gateway was started, in UTC, as ISO 8601."""
    config: str | None
    """The configuration file."""


def read(path: Path) -> State | None:
    """What a state file says; ``None`` where there is none, or none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=State)
    except (OSError, msgspec.DecodeError):
        return None


def is_alive(pid: int) -> bool:
    """Whether there is a process of that number."""
    if pid <= 0:
        return False  # these name groups
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


class StateFile:
    """The state file of this process. What goes wrong with it is a warning, once, and nothing more."""

    def __init__(self, directory: Path, *, pid: int | None = None, alive: Callable[[int], bool] = is_alive) -> None:
        self._path = directory / NAME
        self._pid = os.getpid() if pid is None else pid
        self._alive = alive
        self._warned = False

    def write(self, state: State) -> None:
        """Write the file, or replace it; but not that of another gateway which is alive."""
        other = read(self._path)
        if other is not None and other.pid != self._pid and self._alive(other.pid):
            self._warn(
                f"another gateway uses {self._path.parent}: process {other.pid}, {other.url}; "
                "give each its own 'state_dir' where programs are to find both"
            )
            return
        try:
            private.directory(self._path.parent)
            private.replace(self._path, json.dumps(attrs.asdict(state), indent=2).encode() + b"\n")
        except OSError as problem:
            self._warn(f"{self._path} cannot be written ({problem.strerror}): other programs do not find this gateway")

    def remove(self) -> None:
        """Remove the file, if it is this process's."""
        state = read(self._path)
        if state is None or state.pid != self._pid:
            return
        try:
            self._path.unlink(missing_ok=True)
        except OSError as problem:
            self._warn(f"{self._path} cannot be removed ({problem.strerror})")

    def _warn(self, text: str) -> None:
        if not self._warned:
            self._warned = True
            log.warning("%s", text)
