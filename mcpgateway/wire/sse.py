"""Server-sent events, both ways, sans-IO (WHATWG HTML, section 9.2.6).

The parser keeps bytes as bytes and splits on CR, LF and CRLF only: `str.splitlines` and the line iterators of HTTP
libraries also split on U+2028 and U+0085, which are legal inside JSON strings.
"""

from __future__ import annotations

from typing import Final

import attrs

LIMIT: Final = 64 * 1024 * 1024
"""Bytes that one event may have before the stream is given up."""

HEADERS: Final = (
    b"Content-Type: text/event-stream\r\nCache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\n"
)
COMMENT: Final = b":\n\n"
"""A keep-alive that no client mistakes for an event."""


@attrs.frozen
class Frame:
    """One event. ``data`` is empty, not absent, in a priming event; ``id`` and ``retry`` are absent where not sent."""

    data: bytes
    event: bytes = b"message"
    id: bytes | None = None
    retry: bytes | None = None


class EventTooLarge(ValueError):
    """An event is larger than the parser's limit."""


class Parser:
    """Bytes in, events out; chunks may be cut anywhere."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._rest = bytearray()
        """Received, and not yet a whole line; ``_scanned`` bytes of it are known to hold no line end."""
        self._scanned = 0
        self._lines: list[bytes] = []
        """The lines of the event that is not yet whole, ``_size`` bytes in all."""
        self._size = 0
        self._skip_lf = False
        self._at_start = True

    def feed(self, chunk: bytes) -> list[Frame]:
        """The events that ``chunk`` completes, in order.

        Comments and events without ``data``, ``id`` and ``retry`` give nothing. An event with an id or a retry but no
        data is given with empty data: it is how MCP servers prime a stream (2025-11-25).

        :raises EventTooLarge: the stream cannot be read on
        """
        frames: list[Frame] = []
        if not chunk:
            return frames
        rest = self._rest
        if self._skip_lf:
            chunk = chunk[1:] if chunk[:1] == b"\n" else chunk
        rest += chunk
        if self._at_start:
            if len(rest) < len(_BOM) and _BOM.startswith(rest):
                return frames
            if rest.startswith(_BOM):
                del rest[: len(_BOM)]
            self._at_start = False
        start, scan = 0, self._scanned
        while True:
            end, following = _line_end(rest, scan)
            if end < 0:
                break
            line = bytes(rest[start:end])
            start = scan = following
            if line:
                if line[0] != _COLON:  # a comment; a stream of nothing else never ends an event
                    self._lines.append(line)
                    self._size += len(line)
            elif self._lines:
                frame = _frame(self._lines)
                self._lines, self._size = [], 0
                if frame is not None:
                    frames.append(frame)
        # A CR ends its line at once; if an LF follows in the next chunk, it belongs to that CR.
        self._skip_lf = start > 0 and start == len(rest) and rest[-1:] == b"\r"
        del rest[:start]
        self._scanned = len(rest)
        if self._size + len(rest) > self._limit:
            raise EventTooLarge(f"an event is larger than {self._limit} bytes")
        return frames


_BOM: Final = b"\xef\xbb\xbf"
_COLON: Final = ord(":")


def _line_end(data: bytearray, start: int) -> tuple[int, int]:
    """Where the line ends and where the next begins; (-1, -1) if it is not whole yet."""
    lf = data.find(b"\n", start)
    cr = data.find(b"\r", start, lf if lf >= 0 else len(data))
    if cr >= 0:
        return cr, cr + 2 if data[cr + 1 : cr + 2] == b"\n" else cr + 1
    return (lf, lf + 1) if lf >= 0 else (-1, -1)


def _frame(lines: list[bytes]) -> Frame | None:
    data: list[bytes] = []
    event = b"message"
    id = retry = None
    for line in lines:
        field, _, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        if field == b"data":
            data.append(value)
        elif field == b"event":
            event = value or b"message"
        elif field == b"id" and b"\0" not in value:
            id = value
        elif field == b"retry" and value.isdigit():
            retry = value
    if not data and id is None and retry is None:
        return None
    return Frame(b"\n".join(data), event, id, retry)


def encode(data: bytes, *, event: bytes = b"message", id: bytes | None = None, retry: bytes | None = None) -> bytes:
    """One event as bytes. Newlines in ``data`` (white space of pretty-printed JSON) become further data lines."""
    parts = [b"event: ", event, b"\n"]
    if id is not None:
        parts += (b"id: ", id, b"\n")
    if retry is not None:
        parts += (b"retry: ", retry, b"\n")
    if b"\n" in data or b"\r" in data:
        for line in data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
            parts += (b"data: ", line, b"\n")
    else:
        parts += (b"data: ", data, b"\n")
    parts.append(b"\n")
    return b"".join(parts)
