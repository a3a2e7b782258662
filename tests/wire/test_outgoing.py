"""What waits to be written: order, bounds, room, and what is left when writing ends."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from mcpgateway.errors import ClientGone
from mcpgateway.wire.bounds import Bound
from mcpgateway.wire.outgoing import ROOM, Outgoing
from mcpgateway.wire.transport import TransportBroken
from mcpgateway.wire.waiting import Wait


def outgoing(limit: int = 10 * ROOM) -> tuple[Outgoing, Bound]:
    bound = Bound("replies_bytes", "bytes", limit, limit)
    return Outgoing(bound, "here", Wait()), bound


async def test_pieces_are_written_in_order_and_those_of_one_go_together() -> None:
    out, bound = outgoing()
    written: list[bytes] = []

    async def write(data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        written.append(data)

    async with trio.open_nursery() as nursery:
        out.put(b"a")
        out.put(b"")
        out.put(b"b")
        assert bound.held == 2
        nursery.start_soon(out.drain, write)
        await trio.testing.wait_all_tasks_blocked()
        out.put(b"c")
        await trio.testing.wait_all_tasks_blocked()
        out.put(b"d")
        out.close()
        out.put(b"too late")

    assert written == [b"ab", b"c", b"d"]
    assert bound.held == 0


async def test_whoever_makes_much_waits_for_room() -> None:
    out, _ = outgoing()
    written = trio.Event()

    async def write(data: bytes) -> None:
        await written.wait()

    async with trio.open_nursery() as nursery:
        await out.room()  # there is
        out.put(b"x" * (ROOM + 1))
        roomy = 0

        async def wait_for_room() -> None:
            nonlocal roomy
            await out.room()
            roomy += 1

        for _ in range(3):
            nursery.start_soon(wait_for_room)
        await trio.testing.wait_all_tasks_blocked()
        assert roomy == 0
        nursery.start_soon(out.drain, write)
        await trio.testing.wait_all_tasks_blocked()
        assert roomy == 3
        written.set()
        out.close()


async def test_a_client_that_lets_too_much_wait_does_not_read() -> None:
    out, bound = outgoing(limit=10)

    async def write(data: bytes) -> None:
        raise AssertionError("nothing is written any more")

    out.put(b"x" * 10)
    out.put(b"y")
    out.put(b"z")
    with pytest.raises(TransportBroken, match="10 bytes at a time"):
        await out.drain(write)
    assert bound.held == 0
    await out.room()


@pytest.mark.parametrize("ends", [True, False])
async def test_what_could_not_be_written_is_dropped_and_nobody_waits_for_it(ends: bool) -> None:
    out, bound = outgoing()
    problem = ClientGone("gone") if ends else TransportBroken("broken")

    async def write(data: bytes) -> None:
        out.put(b"x" * 2 * ROOM)
        if ends:
            out.wait.end(problem)
        else:
            raise problem

    async with trio.open_nursery() as nursery:
        out.put(b"x" * 2 * ROOM)
        nursery.start_soon(out.room)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(type(problem)):
            await out.drain(write)
    out.put(b"nobody")
    assert bound.held == 0
