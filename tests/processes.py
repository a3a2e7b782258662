"""Real processes for tests that need some: a free port, start, wait until it answers, stop the whole group.

Only for what runs beside the test in a process of its own (benchmark, conformance, `real` tests); nothing here is used
by the unit part.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

POLL = 0.03
"""Seconds between two looks at a process that is starting."""


class DidNotStart(Exception):
    """A process ended, or did not answer in time; the message ends with the tail of its log."""


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nothing listens on, but whoever is told of it by this process.

    It stays bound here until this process ends, so that the kernel gives it to no other process, nor to a connection
    that goes out. Whoever says ``SO_REUSEADDR``, as servers do, can listen on it all the same (on Linux; elsewhere two
    may not be bound to one port, and it is only unlikely that another takes it).
    """
    probe = socket.socket()
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind(("127.0.0.1", 0))
    port: int = probe.getsockname()[1]
    if sys.platform == "linux":
        _held.append(probe)
    else:
        probe.close()
    return port


_held: list[socket.socket] = []


@contextmanager
def running(
    command: Sequence[str], log: Path, *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in a process group of its own, its output in ``log``; SIGTERM, then SIGKILL to it at the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes], grace: float = 15.0) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(grace)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path, seconds: float = 60.0) -> float:
    """Wait until something listens on the port; the seconds it took."""

    def listens() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 0.3).close()
        except OSError:
            return False
        return True

    return _wait(listens, f"port {port}", process, log, seconds)


def wait_for_ok(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 60.0) -> float:
    """Wait until a GET of the URL answers 200; the seconds it took."""

    def answers() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=2) as response:
                return bool(response.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    return _wait(answers, url, process, log, seconds)


def wait_for_children(process: subprocess.Popen[bytes], log: Path, seconds: float = 30.0) -> list[int]:
    """Wait until a process has children; their pids. Linux only."""
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    _wait(lambda: bool(listed.read_text()), f"children of {process.pid}", process, log, seconds)
    return [int(child) for child in listed.read_text().split()]


def _wait(ready: Callable[[], bool], what: str, process: subprocess.Popen[bytes], log: Path, seconds: float) -> float:
    began = time.monotonic()
    while not ready():
        if process.poll() is not None:
            raise DidNotStart(f"{process.args!r} ended with {process.returncode}\n{tail(log)}")
        if time.monotonic() > began + seconds:
            raise DidNotStart(f"no answer from {what} within {seconds:g} s\n{tail(log)}")
        time.sleep(POLL)
    return time.monotonic() - began


def let_run(seconds: float) -> None:
    """Let processes run under a load for so long; never to wait for something to have happened."""
    time.sleep(seconds)


def marked(mark: str) -> set[int]:
    """The processes of this machine that have a text in their environment, zombies left out. Linux only."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and mark.encode() in (entry / "environ").read_bytes():
                found.add(int(entry.name))
        except OSError:
            continue  # it has ended meanwhile, or is not ours
    return found


def children_of(pid: int, words: str = "") -> list[int]:
    """The direct children of a process that have these words in their command line. Linux only.

    Other processes may come and go meanwhile, and have any bytes for their names.
    """
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if not entry.name.isdecimal() or int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1]) != pid:
                continue
            if words.encode() in (entry / "cmdline").read_bytes().replace(b"\0", b" "):
                found.append(int(entry.name))
        except OSError:
            continue  # it has ended meanwhile
    return found


def descriptors(pid: int) -> int:
    """How many files a process has open. Linux only."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident_mb(pid: int, field: str = "VmRSS") -> float:
    """The memory of a process; with ``VmHWM`` the most that it has ever had. Linux only."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1]) / 1024


def settled_mb(pid: int, most: float, seconds: float = 5.0) -> float:
    """The memory of a process once it is so small, or after a while that should be enough for it. Linux only."""
    until = time.monotonic() + seconds
    while (now := resident_mb(pid)) >= most and time.monotonic() < until:
        time.sleep(POLL)
    return now


def tail(log: Path, characters: int = 2000) -> str:
    return log.read_text(errors="replace")[-characters:]
