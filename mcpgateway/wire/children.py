"""Child processes: started in a session of their own, listened to, ended for certain.

A child is the leader of its own session and process group, so that it can be ended with everything that it started
(``npx`` and ``uvx`` start the real server as a child of theirs). What it writes to its standard error goes line by
line to the logger ``mcpgateway.server.<name>``, within a rate; its last lines are kept for error messages.
"""

from __future__ import annotations

import logging
import os
import re
import signal
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs
import trio

from mcpgateway.wire.guard import Guard
from mcpgateway.wire.lines import LineReader, LineWriter
from mcpgateway.wire.shield import shielded

GRACE: Final = 2.0
"""Seconds that a child has after its standard input was closed, and again after SIGTERM."""
REAP: Final = 5.0
"""Seconds that the kernel has to end a group after SIGKILL; longer only for a process stuck in a device."""
LINES_PER_SECOND: Final = 50
"""Lines of standard error that are logged per second, after a burst of as many."""

_LAST_LINES: Final = 20
_LAST_CHARACTERS: Final = 4096
_ERROR_LINE: Final = 64 * 1024
_DRAIN: Final = 0.2  # a daemon that left the group may hold standard error open for ever
_COLOUR: Final = re.compile("\x1b\\[[0-9;]*m")
_MIN_SECRET: Final = 6  # shorter values (`1`, `true`, `UTC`) are no secrets, and hiding them would garble the text


def printable(line: bytes) -> str:
    """A line of foreign output as text that is safe to log: no colours, no control characters, any bytes survive."""
    text = _COLOUR.sub("", line.decode(errors="backslashreplace")).replace("\t", " ")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class LastWords:
    """What a child says on standard error: what of it to log, and its last lines. Pure; the time is passed in.

    ``secrets`` are shown as ``***``.
    """

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        self._secrets = sorted((secret for secret in secrets if len(secret) >= _MIN_SECRET), key=len, reverse=True)
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self._allowance = float(LINES_PER_SECOND)
        self._seen = -float("inf")
        self._left_out = 0

    def take(self, line: bytes, now: float) -> list[str]:
        """Take a line; returns the lines to log, among them how many were left out before."""
        text = printable(line)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = text[:_LAST_CHARACTERS]
        self._last.append(text)
        self._allowance = min(self._allowance + (now - self._seen) * LINES_PER_SECOND, LINES_PER_SECOND)
        self._seen = now
        if self._allowance < 1:
            self._left_out += 1
            return []
        self._allowance -= 1
        left_out, self._left_out = self._left_out, 0
        return [f"({left_out} lines left out)", text] if left_out else [text]

    def __str__(self) -> str:
        return "\n".join(self._last)[-_LAST_CHARACTERS:]


@attrs.frozen
class Command:
    """What to start. ``env`` is added to the gateway's own environment; ``cwd=None`` is the gateway's own."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    cwd: Path | None = None


class Child:
    """A running child process, made by `spawn`.

    `run`, a task of its owner, writes to the child, listens to its standard error, and reaps it. Cancelling that task
    kills the whole group at once.
    """

    def __init__(
        self, command: Command, process: trio.Process, guard: Guard, stdin: int, stdout: int, stderr: int
    ) -> None:
        self.stdin = LineWriter(stdin)
        self.stdout = LineReader(stdout)
        self.last_words = LastWords(list(command.env.values()))
        self.exited = trio.Event()
        """Set when the child has been reaped and its last words have been read."""
        self._stderr = LineReader(stderr, limit=_ERROR_LINE)
        self._process = process
        self._returncode: int | None = None  # that of trio's Process reaps when looked at
        self._guard = guard
        self._log = logging.getLogger(f"mcpgateway.server.{command.name}")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> str:
        """How the child ended, for people: ``exited with status 1``, ``was killed by SIGKILL``, ``is running``."""
        return describe_status(self._returncode)

    async def run(self) -> None:
        """Look after the child until it has ended and has been reaped. Raises nothing but `trio.Cancelled`."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.stdin.run)
                listened = trio.Event()
                nursery.start_soon(self._listen, listened)
                try:
                    await _ended(self._process)
                finally:
                    # Before reaping, while the number of the group cannot have been given to another one.
                    self._signal(signal.SIGKILL)
                    with shielded(REAP):
                        self._returncode = await self._process.wait()
                        self._guard.forget(self.pid)
                with trio.move_on_after(_DRAIN):
                    await listened.wait()
                nursery.cancel_scope.cancel(reason="the child has ended")
        finally:
            self._stderr.close()
            self.exited.set()

    async def _listen(self, listened: trio.Event) -> None:
        while (lines := await self._stderr.receive()) is not None:
            now = trio.current_time()
            for line in lines:
                for text in self.last_words.take(line, now):
                    self._log.info("%s", text)
        listened.set()

    async def terminate(self, grace: float = GRACE) -> None:
        """End the child: close its standard input, wait ``grace`` seconds, SIGTERM, wait again, SIGKILL.

        The signals go to the whole group. Finishes though cancelled, in at most ``2 * grace + REAP`` seconds; at once
        where `run` is cancelled. Idempotent.
        """
        with shielded(2 * grace + REAP):
            self.stdin.close()
            for number in (signal.SIGTERM, signal.SIGKILL):
                with trio.move_on_after(grace):
                    await self.exited.wait()
                    return
                self._signal(number)
            await self.exited.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._returncode is None:
            try:
                os.killpg(self.pid, number)
            except (ProcessLookupError, PermissionError):  # the latter from macOS, where all of the group are zombies
                pass


async def _ended(process: trio.Process) -> None:
    """Wait until a process has ended, without reaping it where the platform lets us know."""
    try:
        fd = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # macOS, Linux before 5.3
        await process.wait()
        return
    try:
        await trio.lowlevel.wait_readable(fd)
    finally:
        os.close(fd)


def describe_status(status: int | None) -> str:
    """A ``returncode`` of `subprocess` in words."""
    if status is None:
        return "is running"
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


async def spawn(nursery: trio.Nursery, command: Command, guard: Guard) -> Child:
    """Start a child, known to the guard, whose `Child.run` is a task of ``nursery``.

    The caller reads `Child.stdout`, and closes it.

    :raises OSError: it could not be started
    """
    await guard.start()
    pipes = [os.pipe() for _ in range(3)]
    (stdin, our_stdin), (our_stdout, stdout), (our_stderr, stderr) = pipes
    try:
        process = await trio.lowlevel.open_process(
            command.argv,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, **command.env},
            cwd=command.cwd,
            start_new_session=True,
        )
    except BaseException:
        for fd in (our_stdin, our_stdout, our_stderr):
            os.close(fd)
        raise
    finally:
        for fd in (stdin, stdout, stderr):
            os.close(fd)
    guard.watch(process.pid)
    child = Child(command, process, guard, our_stdin, our_stdout, our_stderr)
    nursery.start_soon(child.run, name=f"child {command.name} {process.pid}")
    return child
