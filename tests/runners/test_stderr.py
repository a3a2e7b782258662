"""Standard error: lines come whole and in order, and nobody ever waits for them."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import attrs
import pytest

from runners.stderr import WAITING, Writer


@attrs.frozen
class Pipe:
    """A pipe whose reader reads when told to."""

    reader: int
    writer: int

    def read(self) -> bytes:
        """All that is there."""
        data = b""
        while select.select([self.reader], [], [], 0)[0]:
            chunk = os.read(self.reader, 1 << 20)
            if not chunk:
                break
            data += chunk
        return data


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe(*os.pipe())
    yield pipe
    for fd in (pipe.reader, pipe.writer):
        try:
            os.close(fd)
        except OSError:
            pass


def test_lines_are_written_at_once(pipe: Pipe) -> None:
    writer = Writer(pipe.writer)
    writer.line("one")
    writer.line("zwei ü \udcff")
    assert pipe.read() == "one\nzwei ü \\udcff\n".encode()


@pytest.mark.requirement("4.life.files")
def test_a_reader_that_does_not_read_costs_lines_and_no_time(pipe: Pipe) -> None:
    writer = Writer(pipe.writer)
    lines = [f"{number} " + "x" * 10_000 for number in range(400)]
    for line in lines:
        writer.line(line)
    writer.flush(0.01)
    first = pipe.read()
    writer.line("the end")
    while more := pipe.read():
        first += more
        writer.flush(0.01)
    *shown, last = first.decode().splitlines()
    kept = [line for line in shown if line in lines]
    assert kept == lines[: len(kept)]
    assert sum(map(len, kept)) > WAITING
    assert (last, shown[len(kept) :]) == ("the end", [f"({len(lines) - len(kept)} lines left out)"])


def test_a_line_that_is_longer_than_all_that_may_wait_is_left_out(pipe: Pipe) -> None:
    writer = Writer(pipe.writer, limit=100)
    writer.line("x" * 100)
    writer.line("short")
    assert pipe.read() == b"(1 lines left out)\nshort\n"


@pytest.mark.requirement("4.life.files")
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_full_disk_and_a_reader_that_has_gone_are_no_errors(pipe: Pipe) -> None:
    os.close(pipe.reader)
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        for fd in (pipe.writer, full):
            writer = Writer(fd)
            writer.line("x" * 10_000)
            writer.flush(0)
    finally:
        os.close(full)
