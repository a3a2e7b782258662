"""Lines on pipes: nothing is lost, split or written twice, and nothing waits that should not."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from mcpgateway.errors import TooBusy
from mcpgateway.wire.lines import LineReader, LineSplitter, LineWriter

# ---- splitting -------------------------------------------------------------------------------------------------------


def fed(splitter: LineSplitter, *chunks: bytes) -> list[bytes]:
    return [line for chunk in chunks for line in splitter.feed(chunk)] + splitter.end()


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([b"a\nb\n"], [b"a", b"b"]),
        ([b"a\r\nb\r\n"], [b"a", b"b"]),
        ([b"a\r", b"\nb"], [b"a", b"b"]),
        ([b"\n\n \r\n\t\n"], []),
        ([b"ab", b"cd", b"ef\ngh"], [b"abcdef", b"gh"]),
        ([b"a\rb\xe2\x80\xa8c\x85d\n"], [b"a\rb\xe2\x80\xa8c\x85d"]),
        ([b"\xff\x00\n"], [b"\xff\x00"]),
        ([b""], []),
    ],
)
def test_lines_are_cut_at_line_feeds_only(chunks: list[bytes], lines: list[bytes]) -> None:
    assert fed(LineSplitter(), *chunks) == lines


@pytest.mark.parametrize("chunks", [[b"123456789\nab\n"], [b"1234", b"56789\nab\n"], [b"12345678", b"9\nab\n"]])
def test_a_line_beyond_the_limit_is_dropped_and_the_stream_goes_on(chunks: list[bytes]) -> None:
    splitter = LineSplitter(limit=8)
    assert fed(splitter, *chunks) == [b"ab"]
    assert splitter.dropped == 1


def test_a_line_without_end_is_not_kept() -> None:
    splitter = LineSplitter(limit=1000)
    for _ in range(100):
        splitter.feed(b"x" * 100)
    assert sum(map(len, splitter._parts)) <= 1000
    assert splitter.end() == []
    assert splitter.dropped == 1


@given(st.lists(st.binary(max_size=12)), st.integers(1, 9))
def test_any_chunking_gives_the_same_lines(lines: list[bytes], size: int) -> None:
    stream = b"\n".join(lines)
    chunks = [stream[start : start + size] for start in range(0, len(stream), size)]
    whole, cut = LineSplitter(limit=8), LineSplitter(limit=8)
    expected = [line.strip() for line in stream.split(b"\n") if len(line) <= 8 and line.strip()]
    assert fed(whole, stream) == fed(cut, *chunks) == expected
    assert whole.dropped == cut.dropped == sum(len(line) > 8 for line in stream.split(b"\n"))


# ---- reading ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def pipe() -> Iterator[tuple[LineReader, int]]:
    theirs, ours = os.pipe()
    reader = LineReader(theirs)
    yield reader, ours
    reader.close()
    reader.close()


async def test_a_reader_gives_what_is_there_and_then_the_end(pipe: tuple[LineReader, int]) -> None:
    reader, ours = pipe
    os.write(ours, b"one\ntwo\nthr")
    assert await reader.receive() == [b"one", b"two"]
    os.write(ours, b"ee\nfour")
    assert await reader.receive() == [b"three"]
    os.close(ours)
    assert await reader.receive() == [b"four"]
    assert await reader.receive() is None
    assert await reader.receive() is None


async def test_a_chatty_peer_starves_nobody(pipe: tuple[LineReader, int]) -> None:
    reader, ours = pipe
    os.write(ours, b"x\n")
    with trio.testing.assert_checkpoints():
        await reader.receive()
    os.close(ours)


async def test_a_waiting_reader_can_be_cancelled_and_used_again(pipe: tuple[LineReader, int]) -> None:
    reader, ours = pipe
    os.write(ours, b"half")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.receive)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel(reason="test")
    os.write(ours, b" a line\n")
    assert await reader.receive() == [b"half a line"]
    os.close(ours)


# ---- writing ---------------------------------------------------------------------------------------------------------


async def test_what_is_put_in_one_tick_is_one_write() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # keeps the borders of writes
    with theirs:
        writer = LineWriter(ours.detach())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            for lines in ([b"one", b"two", b"three"], [b"four"]):
                for line in lines:
                    writer.put(line)
                await trio.testing.wait_all_tasks_blocked()
                assert theirs.recv(100) == b"".join(line + b"\n" for line in lines)
            writer.close()


async def test_more_than_a_pipe_holds_arrives_whole_and_in_order(pipe: tuple[LineReader, int]) -> None:
    reader, ours = pipe
    writer = LineWriter(ours)
    sent = [b"%d " % number + b"x" * 50_000 for number in range(40)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        for line in sent:
            writer.put(line)
        writer.close()
        got: list[bytes] = []
        while (lines := await reader.receive()) is not None:
            got += lines
    assert got == sent
    assert writer.failure == ""


async def test_what_was_queued_before_the_close_is_written(pipe: tuple[LineReader, int]) -> None:
    reader, ours = pipe
    writer = LineWriter(ours)
    writer.put(b"last words")
    writer.close()
    with pytest.raises(trio.ClosedResourceError):
        writer.put(b"more")
    await writer.run()
    assert await reader.receive() == [b"last words"]
    assert await reader.receive() is None


async def test_the_queue_is_bounded_and_drains(pipe: tuple[LineReader, int]) -> None:
    reader, ours = pipe
    writer = LineWriter(ours, limit=10)
    writer.put(b"123456")
    with pytest.raises(TooBusy):
        writer.put(b"12345")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        assert await reader.receive() == [b"123456"]
        writer.put(b"1234567890")
        assert await reader.receive() == [b"1234567890"]
        writer.close()


async def test_a_peer_that_reads_nothing_breaks_the_pipe(
    pipe: tuple[LineReader, int], autojump_clock: trio.testing.MockClock
) -> None:
    _, ours = pipe
    writer = LineWriter(ours, stall=30)
    writer.put(b"x" * 1_000_000)
    await writer.run()
    assert trio.current_time() == 30
    assert writer.failure == "has read nothing for 30 s although input is waiting"
    with pytest.raises(trio.BrokenResourceError, match="read nothing"):
        writer.put(b"more")
    with pytest.raises(OSError):
        os.fstat(ours)


async def test_a_peer_that_is_gone_breaks_the_pipe(pipe: tuple[LineReader, int]) -> None:
    reader, ours = pipe
    reader.close()
    writer = LineWriter(ours)
    writer.put(b"x")
    await writer.run()
    with pytest.raises(trio.BrokenResourceError, match="Broken pipe"):
        writer.put(b"more")


async def test_a_cancelled_writer_closes_the_pipe(pipe: tuple[LineReader, int]) -> None:
    reader, ours = pipe
    writer = LineWriter(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel(reason="test")
    assert await reader.receive() is None
    with pytest.raises(trio.ClosedResourceError):
        writer.put(b"x")
