"""Child processes: started in a session of their own, listened to, ended for certain.

A child is the leader of its own session and process group, so that it can be ended with everything that it started
(``npx`` and ``uvx`` start the real server as a child of theirs). What it writes to its standard error goes line by
line to the logger ``mcpgateway.server.<name>``, within a rate; its last lines are kept for error messages.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs
import trio

from mcpgateway.wire.guard import Guard
from mcpgateway.wire.last_words import LINES_PER_SECOND, LastWords
from mcpgateway.wire.lines import LINE_LIMIT, ChunkReader, LineReader, LineWriter
from mcpgateway.wire.shield import shielded

GRACE: Final = 2.0
"""Seconds that a child has after its standard input was closed, and again after SIGTERM."""
REAP: Final = 5.0
"""Seconds that the kernel has to end a group after SIGKILL; longer only for a process stuck in a device."""


@attrs.frozen
class Command:
    """What to start. ``env`` is added to the gateway's own environment; ``cwd=None`` is the gateway's own."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    """Its values are not shown in what the child says."""
    cwd: Path | None = None
    path: str | None = None
    """The ``PATH`` to look the command up in, and the child's own, in place of the gateway's; one in ``env`` wins."""
    line_limit: int = LINE_LIMIT
    """Bytes of the longest line of standard output that is read."""
    log_level: int = logging.INFO
    """Of what it says on standard error."""
    log_rate: int = LINES_PER_SECOND
    """Lines of that which are logged per second."""

    def environment(self) -> dict[str, str]:
        """All variables of the child."""
        return {**os.environ, **({} if self.path is None else {"PATH": self.path}), **self.env}


class Child:
    """A running child process, made by `spawn`.

    `run`, a task of its owner, writes to the child, listens to its standard error, and reaps it. Cancelling that task
    kills the whole group at once.
    """

    def __init__(
        self, command: Command, process: trio.Process, guard: Guard, stdin: int, stdout: int, stderr: int
    ) -> None:
        self.stdin = LineWriter(stdin)
        self.stdout = LineReader(stdout, command.line_limit)
        self.last_words = LastWords(command.env.values(), command.log_rate)
        self.exited = trio.Event()
        """Set when the child has been reaped and its last words have been read."""
        self.deaf = trio.Event()
        """Set when nothing more can be written to it; `LineWriter.failure` of ``stdin`` says why."""
        self._stderr = ChunkReader(stderr)
        self._process = process
        self._returncode: int | None = None  # that of trio's Process reaps when looked at
        self._guard = guard
        self._log = logging.getLogger(f"mcpgateway.server.{command.name}")
        self._log_level = command.log_level

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
                nursery.start_soon(self._write)
                nursery.start_soon(self._listen)
                try:
                    await _ended(self._process)
                finally:
                    # Before reaping, while the number of the group cannot have been given to another one.
                    self._signal(signal.SIGKILL)
                    with shielded(REAP):
                        self._returncode = await self._process.wait()
                        self._guard.forget(self.pid)
                # A daemon that left the group may hold standard error open for ever; what the child has said is there.
                nursery.cancel_scope.cancel(reason="the child has ended")
        finally:
            for chunk in self._stderr.at_hand():
                self._say(self.last_words.feed(chunk, trio.current_time()))
            self._say(self.last_words.end(trio.current_time()))
            self._stderr.close()
            self.exited.set()

    async def _write(self) -> None:
        await self.stdin.run()
        if self.stdin.failure:
            self.deaf.set()

    async def _listen(self) -> None:
        while chunk := await self._stderr.receive():
            self._say(self.last_words.feed(chunk, trio.current_time()))

    def _say(self, texts: list[str]) -> None:
        for text in texts:
            self._log.log(self._log_level, "%s", text)

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
        with guard.starting(stdin):
            process = await trio.lowlevel.open_process(
                command.argv,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=command.environment(),
                cwd=command.cwd,
                start_new_session=True,
            )
            guard.watch(process.pid)
    except BaseException:
        for fd in (our_stdin, our_stdout, our_stderr):
            os.close(fd)
        raise
    finally:
        for fd in (stdin, stdout, stderr):
            os.close(fd)
    child = Child(command, process, guard, our_stdin, our_stdout, our_stderr)
    nursery.start_soon(child.run, name=f"child {command.name} {process.pid}")
    return child
