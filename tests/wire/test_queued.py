"""A stream on which sending never waits."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from mcpgateway.wire.queued import PIECE, QueuedStream


async def test_what_is_sent_goes_out_in_order_when_it_is_flushed() -> None:
    ours, theirs = memory_stream_pair()
    stream = QueuedStream(ours, limit=1000, stall=1.0)
    for part in b"one ", bytearray(b"two "), memoryview(b"three"):
        await stream.send_all(part)
    assert stream.queued == 13
    with trio.move_on_after(0):
        assert await theirs.receive_some() is None

    await stream.flush()

    assert await theirs.receive_some() == b"one two three"
    assert stream.queued == 0


async def test_a_sender_that_is_cancelled_leaves_no_half_of_what_it_sent() -> None:
    ours, theirs = memory_stream_pair()
    stream = QueuedStream(ours, limit=1000, stall=1.0)
    with trio.CancelScope() as scope:
        scope.cancel(reason="the sender has gone")
        await stream.send_all(b"a whole frame")
    await stream.flush()
    assert await theirs.receive_some() == b"a whole frame"


async def test_it_reads_while_a_flush_waits_for_its_peer() -> None:
    """Two that send before they read would wait for each other for ever."""
    ours, theirs = lockstep_stream_pair()
    stream = QueuedStream(ours, limit=PIECE * 4, stall=100.0)
    await stream.send_all(b"x" * PIECE * 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.flush)
        await wait_all_tasks_blocked()
        nursery.start_soon(theirs.send_all, b"ping")
        assert await stream.receive_some() == b"ping"
        await stream.send_all(b"pong")
        sent = bytearray()
        while len(sent) < PIECE * 2 + 4:
            sent += await theirs.receive_some()
    assert sent.endswith(b"xpong")


async def test_more_than_may_wait_is_refused() -> None:
    ours, _ = memory_stream_pair()
    stream = QueuedStream(ours, limit=10, stall=1.0)
    await stream.send_all(b"123456")
    with pytest.raises(trio.BrokenResourceError, match="6 bytes are waiting for a peer that does not read them"):
        await stream.send_all(b"78901")
    await stream.send_all(b"7890")


async def test_a_peer_that_takes_nothing_is_noticed_and_one_that_is_slow_is_not(autojump_clock: MockClock) -> None:
    ours, theirs = lockstep_stream_pair()
    stream = QueuedStream(ours, limit=PIECE * 10, stall=5.0)
    await stream.send_all(b"x" * PIECE * 5)

    async def read_slowly() -> None:
        taken = 0
        while taken < PIECE * 3:
            await trio.sleep(4.0)
            taken += len(await theirs.receive_some(PIECE))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_slowly)
        with pytest.raises(trio.TooSlowError):
            await stream.flush()
    assert trio.current_time() == 12.0 + 5.0
    assert stream.queued == PIECE * 2


async def test_it_tells_of_every_movement() -> None:
    moved: list[None] = []
    ours, theirs = memory_stream_pair()
    stream = QueuedStream(ours, limit=PIECE * 10, stall=5.0, moved=lambda: moved.append(None))
    await stream.send_all(b"x" * (PIECE + 1))
    assert len(moved) == 0
    await stream.flush()
    assert len(moved) == 2
    await theirs.send_all(b"x")
    await stream.receive_some()
    assert len(moved) == 3
    await theirs.send_eof()
    assert await stream.receive_some() == b""
    assert len(moved) == 3


async def test_the_end_of_what_is_read_is_known() -> None:
    ours, theirs = memory_stream_pair()
    stream = QueuedStream(ours, limit=10, stall=1.0)
    await theirs.aclose()
    assert not stream.ended.is_set()
    assert await stream.receive_some() == b""
    assert stream.ended.is_set()

    broken = QueuedStream(ours, limit=10, stall=1.0)
    await ours.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await broken.receive_some()
    assert broken.ended.is_set()


async def test_closed_it_takes_nothing_more_and_still_sends_what_it_took() -> None:
    ours, theirs = memory_stream_pair()
    stream = QueuedStream(ours, limit=10, stall=1.0)
    await stream.wait_send_all_might_not_block()
    await stream.send_all(b"last")
    await stream.aclose()
    await stream.aclose()
    assert stream.closing
    assert stream.ended.is_set()
    await stream.poked()
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_all(b"more")
    await stream.flush()
    assert await theirs.receive_some() == b"last"


async def test_its_owner_is_woken_by_what_is_sent() -> None:
    ours, _ = memory_stream_pair()
    stream = QueuedStream(ours, limit=10, stall=1.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.poked)
        await wait_all_tasks_blocked()
        assert nursery.child_tasks
        await stream.send_all(b"x")
