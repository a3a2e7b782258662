"""What a child says on its standard error: what of it to log, and its last lines. Pure.

A child may write a hundred megabytes a second there, in lines of one byte or in one without end, and the gateway has
others to serve. So what a chunk costs is bounded by what is logged and kept of it; the other lines are only counted.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from typing import Final

LINES_PER_SECOND: Final = 10
"""Lines that are logged per second, where nothing else is said: a server that floods must not fill the disk."""
BURST: Final = 20
"""Seconds' worth of lines that are logged however fast they come."""
LINES_KEPT: Final = 20
CHARACTERS: Final = 4096
"""The longest text: of one line, and of the last lines together."""

_HALF: Final = 32 * 1024  # bytes of a line without end that are held
_RAW: Final = 4 * CHARACTERS  # bytes that hold as many characters for sure
_COLOUR: Final = re.compile("\x1b\\[[0-9;]*m")
_MIN_SECRET: Final = 6  # shorter values (`1`, `true`, `UTC`) are no secrets, and hiding them would garble the text


def printable(line: bytes) -> str:
    """A line of foreign output as text that is safe to log: no colours, no control characters, any bytes survive."""
    text = _COLOUR.sub("", line.decode(errors="backslashreplace")).replace("\t", " ")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class LastWords:
    """Takes chunks, says what to log, and keeps the last lines, which are its ``str``. The time is passed in.

    ``secrets`` are shown as ``***``, each line of them by itself. Blank lines count, but are not shown; of a long line
    the head is. At most ``rate`` lines a second are logged, after a burst.
    """

    def __init__(self, secrets: Iterable[str] = (), rate: int = LINES_PER_SECOND) -> None:
        lines = {line.encode() for secret in secrets for line in secret.splitlines() if len(line) >= _MIN_SECRET}
        self._secrets = sorted(lines, key=lambda line: (-len(line), line))
        self._last: deque[bytes] = deque(maxlen=LINES_KEPT)
        self._half = b""
        self._rate = rate
        self._allowance = float(rate * BURST)
        self._seen = 0.0
        self._left_out = 0

    def feed(self, chunk: bytes, now: float) -> list[str]:
        """Take what was read; returns what to log of it: lines, and how many were left out before them."""
        body, newline, rest = (self._half + chunk).rpartition(b"\n")
        self._half = rest[:_HALF]
        return self._take(body, now) if newline else []

    def end(self, now: float) -> list[str]:
        """Nothing more will come; returns what is still to log."""
        half, self._half = self._half, b""
        texts = self._take(half, now) if half else []
        return [*texts, *self._tell_left_out()]

    def _take(self, body: bytes, now: float) -> list[str]:
        self._allowance = min(self._allowance + (now - self._seen) * self._rate, self._rate * BURST)
        self._seen = now
        room = int(self._allowance)
        lines = body.split(b"\n", room)
        beyond = lines.pop() if len(lines) > room else None
        self._allowance -= len(lines)
        kept = [line for line in map(self._masked, lines) if line]
        self._last.extend(kept)
        texts = [*self._tell_left_out(), *map(_text, kept)] if kept else []
        if beyond is not None:
            self._left_out += 1 + beyond.count(b"\n")
            last = beyond.rsplit(b"\n", LINES_KEPT)[-LINES_KEPT:]
            self._last.extend(line for line in map(self._masked, last) if line)
        return texts

    def _masked(self, line: bytes) -> bytes:
        for secret in self._secrets:
            line = line.replace(secret, b"***")
        return line.strip()[:_RAW]

    def _tell_left_out(self) -> list[str]:
        left_out, self._left_out = self._left_out, 0
        return [f"({left_out} lines left out)"] if left_out else []

    def __str__(self) -> str:
        return "\n".join(map(_text, self._last))[-CHARACTERS:]


def _text(line: bytes) -> str:
    return printable(line)[:CHARACTERS]
