"""Standard error that nobody waits for: a reader that has stopped reading, or a full disk, costs lines and no more.

A plain write to a pipe that nobody reads blocks the whole process, at its end too. So a piece is written only when it
will be taken whole: after `select.poll` has said so, and no longer than ``PIPE_BUF``, for which a pipe that is ready
has room (pipe(7)). What does not fit waits, up to a bound, and is tried again with the next line.

`sys.stderr` itself must hold nothing when the interpreter ends: it would flush it, and wait, or exit with status 120.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections import deque
from typing import Final

WAITING: Final = 1024 * 1024
"""Bytes that may wait for the reader; beyond, whole lines are left out, and how many is told."""
PATIENCE: Final = 0.5
"""Seconds that standard error is given at the end to take what waits."""


class Writer:
    """Writes lines to a file descriptor, which is not its own, without ever waiting; `flush` waits, within bounds."""

    def __init__(self, fd: int, limit: int = WAITING) -> None:
        self._fd = fd
        self._limit = limit
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._left_out = 0
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def line(self, text: str) -> None:
        """Write one line, given without its end, or keep it for later, or leave it out."""
        data = text.encode(errors="backslashreplace") + b"\n"
        if self._size + len(data) > self._limit:
            self._write(0.0)
        if self._size + len(data) > self._limit:
            self._left_out += 1
            return
        if self._left_out:
            data = b"(%d lines left out)\n%b" % (self._left_out, data)
            self._left_out = 0
        self._pieces.extend(data[start : start + select.PIPE_BUF] for start in range(0, len(data), select.PIPE_BUF))
        self._size += len(data)
        self._write(0.0)

    def flush(self, seconds: float) -> None:
        """Write what waits, for at most so many seconds."""
        self._write(time.monotonic() + seconds)

    def _write(self, deadline: float) -> None:
        while self._pieces:
            left = max(0.0, deadline - time.monotonic()) if deadline else 0.0
            try:
                if not self._poll.poll(left * 1000):
                    return
                written = os.write(self._fd, self._pieces[0])
            except BlockingIOError:  # somebody made the descriptor so
                return
            except OSError:  # a full disk, a reader that has gone: nobody will ever see it
                written = len(self._pieces[0])
            piece = self._pieces.popleft()
            self._size -= written
            if written < len(piece):
                self._pieces.appendleft(piece[written:])


_writer: Writer | None = None


def line(text: str) -> None:
    """Write a line to standard error, or to what a test has put in its place."""
    writer = _of_process()
    if writer is not None:
        writer.line(text)
    elif sys.stderr is not None:
        print(text, file=sys.stderr, flush=True)


def flush(seconds: float = PATIENCE) -> None:
    """Give standard error so many seconds to take what waits."""
    writer = _of_process()
    if writer is not None:
        writer.flush(seconds)


def _of_process() -> Writer | None:
    global _writer
    if sys.stderr is not sys.__stderr__ or sys.stderr is None:
        return None
    if _writer is None:
        _writer = Writer(2)
    return _writer
