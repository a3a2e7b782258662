"""The run-time state file: by which other programs of this user find a running gateway, and see how its upstreams are.

``state_dir/gateway.json`` (mode 0600) is there from the moment a gateway is up until its orderly end, whether it
listens or not. One that was killed leaves it behind, so whoever reads it has to look whether the process is alive; the
next gateway replaces it. Of several gateways with one ``state_dir`` it is the first one's.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import attrs
import msgspec

from mcpgateway.wire import private
from runners import processes
from runners.processes import Process

log = logging.getLogger("mcpgateway")

NAME: Final = "gateway.json"
PATIENCE: Final = 1.0
"""Seconds that the end waits for a disk which is being written to."""


@attrs.frozen
class Dialled:
    """How an upstream is, as ``/health`` has it too."""

    state: str
    reason: str = ""
    """Why it is not connected, or was not the last time."""


@attrs.frozen
class State:
    """What the file holds."""

    pid: int
    born: str
    """See `Process`."""
    url: str
    """Where it listens for clients; empty if it does not."""
    metrics: str
    """Where its metrics have a listener of their own; empty if they have none."""
    version: str
    started: str
    """When the gateway was started, in UTC, as ISO 8601."""
    config: str | None
    """The configuration file."""
    upstreams: Mapping[str, Dialled] = attrs.field(factory=dict)

    @property
    def process(self) -> Process:
        return Process(self.pid, self.born)


def read(directory: Path) -> State | None:
    """What the state file in a directory says; ``None`` where there is none, or none that can be read."""
    try:
        return msgspec.json.decode((directory / NAME).read_bytes(), type=State)
    except (OSError, msgspec.DecodeError):
        return None


def running(directory: Path) -> State | None:
    """What it says of a gateway that is alive."""
    state = read(directory)
    return state if state is not None and processes.is_alive(state.process) else None


def this_process() -> Process:
    """The process whose state file is written here."""
    return processes.find(os.getpid()) or Process(os.getpid(), "")


class StateFile:
    """The state file of this process. What goes wrong with it is a warning, once, and nothing more.

    May be written and removed from several threads.
    """

    def __init__(
        self,
        directory: Path,
        *,
        process: Process | None = None,
        alive: Callable[[Process], bool] = processes.is_alive,
    ) -> None:
        self._path = directory / NAME
        self.process = this_process() if process is None else process
        self._alive = alive
        self._warned = False
        self._turn = threading.Lock()
        self._over = False

    def write(self, state: State) -> None:
        """Write the file, or replace it; but not that of another gateway which is alive, nor after `remove`."""
        with self._turn:
            if not self._over:
                self._write(state)

    def _write(self, state: State) -> None:
        directory = self._path.parent
        other = read(directory)
        if other is not None and other.process != self.process and self._alive(other.process):
            who = f"process {other.pid}{f', {other.url}' if other.url else ''}"
            self._warn(
                f"another gateway uses {directory}: {who}; "
                "give each its own 'state_dir' where programs are to find both"
            )
            return
        try:
            private.directory(directory)
            private.replace(self._path, json.dumps(attrs.asdict(state), indent=2).encode() + b"\n")
        except OSError as problem:
            self._warn(f"{self._path} cannot be written ({problem.strerror}): other programs do not find this gateway")

    def remove(self) -> None:
        """Remove the file, if it is this process's, for good. Whoever is writing it is waited for, but for a disk that
        does not answer."""
        self._over = True
        if self._turn.acquire(timeout=PATIENCE):
            self._remove()
            self._turn.release()

    def _remove(self) -> None:
        state = read(self._path.parent)
        if state is None or state.process != self.process:
            return
        try:
            self._path.unlink(missing_ok=True)
        except OSError as problem:
            self._warn(f"{self._path} cannot be removed ({problem.strerror})")

    def _warn(self, text: str) -> None:
        if not self._warned:
            self._warned = True
            log.warning("%s", text)
