"""A runner in the background: started so that it outlives its terminal, found again, and ended for certain.

``state_dir`` holds what there is to know, all of it mode 0600: ``service.json`` names the process, ``service.log`` is
its standard output and error, ``service.lock`` is held by whoever starts or stops it, so that of two starts at once
the second one finds what the first one has started.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import attrs
import msgspec

from mcpgateway.wire import private
from runners import processes, readiness
from runners.processes import Process

MARGIN: Final = 5.0
"""Seconds beyond ``shutdown_timeout`` that a runner has to end: its own bound is three."""
KILLED: Final = 5.0
"""Seconds that the kernel has to end it after SIGKILL."""
LOG_BYTES: Final = 10 * 1024 * 1024
"""A longer log is put aside at the next start, as ``service.log.1``."""
_LOOK: Final = 0.1
_BLOCK: Final = 64 * 1024


@attrs.frozen
class Record:
    """What ``service.json`` holds: the process that was started, and how."""

    pid: int
    born: str
    """See `Process`."""
    runner: str
    config: str | None
    """The configuration file."""
    shutdown_timeout: float
    started: str
    """In UTC, as ISO 8601."""

    @property
    def process(self) -> Process:
        return Process(self.pid, self.born)


class DidNotStart(Exception):
    """A runner ended while it started, or took too long; says which."""


class Place:
    """The files of one service. Nothing is made before it is needed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "service.log"
        self._record = directory / "service.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone with these files; waits for whoever has them, and says so.

        :raises OSError: the directory or the lock cannot be made
        """
        private.directory(self.directory)
        fd = os.open(self.directory / "service.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("waiting for another command about this service", file=sys.stderr)
                fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def record(self) -> Record | None:
        """What was started here last and not stopped, alive or not."""
        try:
            return msgspec.json.decode(self._record.read_bytes(), type=Record)
        except (OSError, msgspec.DecodeError):
            return None

    def running(self) -> Record | None:
        """What was started here and is alive."""
        record = self.record()
        return record if record is not None and processes.is_alive(record.process) else None

    def write(self, record: Record) -> None:
        private.replace(self._record, msgspec.json.format(msgspec.json.encode(attrs.asdict(record)), indent=2) + b"\n")

    def forget(self) -> None:
        self._record.unlink(missing_ok=True)


def start(
    place: Place,
    runner: str,
    arguments: Sequence[str],
    *,
    python: Sequence[str],
    config: str | None,
    shutdown_timeout: float,
    patience: float,
    environment: Mapping[str, str],
) -> Record:
    """Start a runner in a session of its own, and wait until it says that it is up; the lock must be held.

    It goes on when this process ends. One that is not up within ``patience`` seconds is ended again.

    :raises DidNotStart: the log says why
    :raises OSError: a file cannot be written; nothing runs then
    """
    with readiness.Awaited() as news, _log(place) as log:
        child = subprocess.Popen(
            [*python, "-m", f"runners.{runner}", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**environment, readiness.VARIABLE: news.name},
            start_new_session=True,
        )
        born = processes.find(child.pid)
        if born is not None:
            started = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            record = Record(child.pid, born.born, runner, config, shutdown_timeout, started)
            try:
                place.write(record)
            except OSError:
                child.kill()  # nobody could find it again
                child.wait()
                raise
            deadline = time.monotonic() + patience
            while child.poll() is None and time.monotonic() < deadline:
                if news.said(_LOOK):
                    child.returncode = 0  # it is not waited for any more, and Popen is not to complain of that
                    return record
    place.forget()
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(shutdown_timeout + MARGIN)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        raise DidNotStart(f"was not up within {patience:g} s")
    status = child.wait()
    raise DidNotStart(f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}")


def stop(place: Place, record: Record, seconds: float) -> bool:
    """End a runner: SIGTERM, with which it drains, and SIGKILL if it is still there after so many seconds; whether it
    ended by itself. Its children end with it either way. The lock must be held.

    :raises PermissionError: it is somebody else's
    :raises TimeoutError: not even the kernel could end it
    """
    politely = not processes.send(record.process, signal.SIGTERM) or processes.has_ended(record.process, seconds)
    if not politely:
        processes.send(record.process, signal.SIGKILL)
        if not processes.has_ended(record.process, KILLED):
            raise TimeoutError(f"process {record.pid} does not end")
    place.forget()
    return politely


@contextmanager
def _log(place: Place) -> Iterator[int]:
    """The log, open for a runner to write at its end."""
    if place.log.exists() and place.log.stat().st_size > LOG_BYTES:
        place.log.replace(place.log.with_name("service.log.1"))
    fd = os.open(place.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def size(path: Path) -> int:
    """Bytes of a file; of one that is not there, none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def last_lines(path: Path, count: int, *, since: int = 0) -> list[str]:
    """The last lines of a file, of those that begin at or after a position.

    :raises OSError: it cannot be read
    """
    with path.open("rb") as file:
        position = file.seek(0, os.SEEK_END)
        data = b""
        while position > since and data.count(b"\n") <= count:
            step = min(_BLOCK, position - since)
            position = file.seek(position - step)
            data = file.read(step) + data
    lines = data.decode(errors="replace").splitlines()
    return lines[-count:] if count else []
