"""Other processes of this machine, each known by its number *and* its birth, because numbers are given out again.

Linux tells what is asked in ``/proc``, and lets one hold on to a process (pidfd_open(2)); elsewhere ``ps`` is asked,
and the end of a process that is no child of ours is looked for several times a second.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs

PROC: Final = Path("/proc")
LOOK: Final = 0.05
"""Seconds between two looks at a process that cannot be waited for."""


@attrs.frozen
class Process:
    """One process, and no later one of the same number."""

    pid: int
    born: str
    """What the system says of its start; it is only ever compared."""


def find(pid: int) -> Process | None:
    """The process of this number; ``None`` where there is none, or one that has ended and was not reaped yet."""
    if pid <= 0:
        return None
    born = _born_in_proc(pid) if (PROC / "self/stat").exists() else _asked(pid, "lstart")
    return None if born is None else Process(pid, born)


def is_alive(process: Process) -> bool:
    return find(process.pid) == process


def send(process: Process, number: int) -> bool:
    """Send a signal; whether the process was there to get it. Another one of its number never does.

    :raises PermissionError: it is somebody else's
    """
    with _held(process) as (alive, fd):
        if not alive:
            return False
        try:
            if fd is None:
                os.kill(process.pid, number)
            else:
                signal.pidfd_send_signal(fd, number)
        except ProcessLookupError:
            return False
        return True


def has_ended(process: Process, seconds: float) -> bool:
    """Wait for the end of a process, which need not be a child of ours; whether it came within these seconds."""
    with _held(process) as (alive, fd):
        if not alive:
            return True
        if fd is not None:
            return bool(select.select([fd], [], [], seconds)[0])
        # Not Linux: of a process that is no child nobody tells when it ends, so it is looked at.
        deadline = time.monotonic() + seconds
        while is_alive(process):
            if time.monotonic() >= deadline:
                return False
            time.sleep(LOOK)
        return True


def resident(pid: int) -> int | None:
    """Bytes of memory that a process has, or ``None`` where nobody says."""
    try:
        pages = int((PROC / str(pid) / "statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        kilobytes = _asked(pid, "rss")
        return int(kilobytes) * 1024 if kilobytes is not None and kilobytes.isdecimal() else None


@contextmanager
def _held(process: Process) -> Iterator[tuple[bool, int | None]]:
    """Whether it is alive, and a descriptor that goes on meaning this process, where the system has such."""
    fd = _descriptor(process.pid)
    try:
        yield is_alive(process), fd  # looked at when it is held already: from here on it cannot be another one
    finally:
        if fd is not None:
            os.close(fd)


def _descriptor(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except AttributeError:
        return None  # not Linux
    except OSError as problem:
        if problem.errno in (errno.ESRCH, errno.EINVAL, errno.ENOSYS, errno.EPERM):
            return None  # it has gone, or a sandbox does not have this call
        raise


def _born_in_proc(pid: int) -> str | None:
    try:
        stat = (PROC / str(pid) / "stat").read_text(errors="replace")
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name of the command stands in parentheses, and may hold anything
    state, started = fields[0], fields[19]
    return None if state in "ZX" else f"{boot}:{started}"


def _asked(pid: int, column: str) -> str | None:
    """What ``ps`` says of a process."""
    try:
        said = subprocess.run(
            ["ps", "-o", "state=", "-o", f"{column}=", "-p", str(pid)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},  # a date, which is to be the same for everybody who asks
        ).stdout
    except OSError:
        return None
    state, _, value = said.strip().partition(" ")
    return None if not value or state.startswith("Z") else value.strip()
