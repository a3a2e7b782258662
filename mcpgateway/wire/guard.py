"""The guard: one small process that kills the children of a gateway which died without doing so itself.

A gateway that is killed with SIGKILL, or by the kernel for want of memory, runs no clean-up. The guard holds the read
end of a pipe whose write end only the gateway has; when the pipe ends, the gateway is gone, and every process group
that is listed and not struck off gets SIGKILL. ``PR_SET_PDEATHSIG`` is no substitute: it fires when the *thread* that
forked ends, trio forks in threads that it retires, and it does not reach grandchildren.

A child that has been forked is not listed until its number is known, so its start is announced by the pipe that becomes
its standard input. A forked child holds the gateway's end of the guard's pipe, too, and closes it only when its
standard input is in place, so that when the pipe ends, all such children can be found by it. (Linux only; elsewhere a
child may be missed in the millisecond between its start and its entry.)

Out of reach is what leaves its process group, on purpose: a daemon, or the editor that a server opened for its user.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from mcpgateway.wire.shield import shielded

log = logging.getLogger(__name__)

_START: Final = 5.0  # the guard is up in 20 ms; from then on it cannot be ended by a polite signal

# Standard input is the pipe and no other descriptor is inherited, so the guard keeps no socket or terminal open.
_PROGRAM: Final = """
import os, signal
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP):
    signal.signal(number, signal.SIG_IGN)
try:
    os.write(1, b"\\n")
except OSError:
    pass
groups, starting, rest = set(), set(), b""
do = {b"+": groups.add, b"-": groups.discard, b"(": starting.add, b")": starting.discard}
while True:
    data = os.read(0, 65536)
    if not data:
        break
    *lines, rest = (rest + data).split(b"\\n")
    for line in lines:
        do[line[:1]](int(line[1:]))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
pipes = {"pipe:[%d]" % inode for inode in starting}
for pid in os.listdir("/proc") if pipes and os.path.isdir("/proc/self/fd") else ():
    try:
        if os.readlink("/proc/%s/fd/0" % pid) in pipes:
            pid = int(pid)
            (os.killpg if os.getpgid(pid) == pid else os.kill)(pid, signal.SIGKILL)
    except OSError:
        pass
"""


class Guard:
    """The guard of this process; starts with the first child, at `start`.

    Whoever makes one calls `aclose` when all children are gone. A guard that somebody killed is replaced at the next
    `start`.
    """

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._starts: set[int] = set()
        self._process: trio.Process | None = None
        self._pipe = -1
        self._starting = trio.Lock()

    @property
    def pid(self) -> int | None:
        """The guard process, while there is one."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Make sure that a guard runs."""
        async with self._starting:
            if self._process is not None and self._process.poll() is not None:
                log.warning("the guard process ended with status %s; starting another", self._process.returncode)
                self._drop_pipe()
                self._process = None
            if self._process is None:
                await self._start()

    async def _start(self) -> None:
        theirs, ours = os.pipe()
        up, is_up = os.pipe()
        try:
            self._process = await trio.lowlevel.open_process(
                [sys.executable, "-ISc", _PROGRAM],
                stdin=theirs,
                stdout=is_up,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        except BaseException:
            os.close(ours)
            os.close(up)
            raise
        finally:
            os.close(theirs)
            os.close(is_up)
        os.set_blocking(ours, False)
        self._pipe = ours
        for group in self._groups:
            self._tell(b"+", group)
        for pipe in self._starts:
            self._tell(b"(", pipe)
        try:
            with trio.move_on_after(_START):
                await trio.lowlevel.wait_readable(up)
        finally:
            os.close(up)

    @contextmanager
    def starting(self, stdin: int) -> Iterator[None]:
        """While the body runs, a child may come to be that is not listed yet, and whose standard input is this pipe."""
        pipe = os.fstat(stdin).st_ino
        self._starts.add(pipe)
        self._tell(b"(", pipe)
        try:
            yield
        finally:
            self._starts.discard(pipe)
            self._tell(b")", pipe)

    def watch(self, group: int) -> None:
        """Kill this process group if the gateway dies. Does not wait."""
        self._groups.add(group)
        self._tell(b"+", group)

    def forget(self, group: int) -> None:
        """The group is gone, and its number may be given to others."""
        self._groups.discard(group)
        self._tell(b"-", group)

    def _tell(self, sign: bytes, number: int) -> None:
        if self._pipe < 0:
            return
        try:
            os.write(self._pipe, b"%s%d\n" % (sign, number))  # shorter than PIPE_BUF: all of it or nothing
        except OSError as problem:
            log.warning("the guard process does not listen (%s); children started from now on have another", problem)
            self._drop_pipe()
            if self._process is not None:
                self._process.kill()

    def _drop_pipe(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1

    async def aclose(self) -> None:
        """End the guard, which kills what is still listed; idempotent. Takes milliseconds."""
        self._drop_pipe()
        process, self._process = self._process, None
        if process is None:
            return
        with shielded(2):
            await process.wait()
        if process.returncode is None:
            process.kill()
            with shielded(2):
                await process.wait()
