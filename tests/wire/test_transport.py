"""Every transport on a real socket pair: bytes both ways, ends, and how whoever waits is interrupted."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mcpgateway.wire import readiness
from mcpgateway.wire.readiness import Poller
from mcpgateway.wire.transport import CHUNK, SocketTransport, TlsTransport, Transport, TransportBroken
from mcpgateway.wire.waiting import Wait
from tests.wire.http1 import certificates
from tests.wire.http1.peers import Peer

KINDS: Final = ("edge", "plain", "tls") if readiness.AVAILABLE else ("plain", "tls")
GUARD: Final = 60.0
"""Seconds after which a test that waits for bytes has failed."""
BIG: Final = bytes(range(256)) * 8192
"""2 MiB: more than the buffers of a socket pair hold."""


class Enough(Exception):
    """What a test ends a wait with."""


@attrs.frozen
class Pair:
    """A transport, and the far end."""

    transport: Transport
    peer: Peer
    nursery: trio.Nursery

    async def send(self, data: bytes, wait: Wait | None = None) -> None:
        self.transport.put(data)
        if self.transport.stuck:
            await self.transport.flushed(wait or Wait())


@asynccontextmanager
async def pair(kind: str) -> AsyncIterator[Pair]:
    ours, theirs = socket.socketpair()
    poller = Poller()
    with trio.fail_after(GUARD):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.run)
            if kind == "tls":
                stream = trio.SSLStream(
                    trio.SocketStream(trio.socket.from_stdlib_socket(ours)),
                    certificates.listening(),
                    server_side=True,
                    https_compatible=True,
                )
                nursery.start_soon(stream.do_handshake)
                peer = Peer(theirs, certificates.trusting())
                await peer.shake_hands()
                transport: Transport = TlsTransport(stream)
            else:
                peer = Peer(theirs)
                transport = poller.transport(ours) if kind == "edge" else SocketTransport(ours)
            await wait_all_tasks_blocked()
            try:
                yield Pair(transport, peer, nursery)
            finally:
                transport.close()
                transport.close()
                peer.close()
                nursery.cancel_scope.cancel(reason="the test is over")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Task:
    """Something that runs beside the test; ``outcome`` is what it returned or raised, once it has."""

    def __init__(self, nursery: trio.Nursery, run: Callable[[], Awaitable[object]]) -> None:
        self.scope = trio.CancelScope()
        self.outcome: list[object] = []
        nursery.start_soon(self._run, run)

    async def _run(self, run: Callable[[], Awaitable[object]]) -> None:
        try:
            with self.scope:
                self.outcome.append(await run())
        except Exception as problem:
            self.outcome.append(problem)


async def test_bytes_pass_both_ways(kind: str) -> None:
    async with pair(kind) as both:
        await both.peer.send(b"question")
        assert await both.transport.receive(Wait()) == b"question"
        await both.send(b"answer")
        assert await both.peer.take() == b"answer"


async def test_a_reader_waits_for_bytes(kind: str) -> None:
    async with pair(kind) as both:
        reader = Task(both.nursery, lambda: both.transport.receive(Wait()))
        await wait_all_tasks_blocked()
        assert reader.outcome == []

        await both.peer.send(b"late")

        assert reader.outcome == [b"late"]


async def test_many_messages_in_turn(kind: str) -> None:
    async with pair(kind) as both:
        for n in range(50):
            message = b"x" * n * 3000 + b"."
            reader = Task(both.nursery, lambda: both.transport.receive(Wait()))
            await both.peer.send(message)
            (received,) = reader.outcome
            assert isinstance(received, bytes)
            while len(received) < len(message):
                received += await both.transport.receive(Wait())
            assert received == message


async def test_a_message_of_exactly_one_read_is_not_the_last(kind: str) -> None:
    async with pair(kind) as both:
        received = b""
        await both.peer.send(b"x" * CHUNK)
        while len(received) < CHUNK:
            received += await both.transport.receive(Wait())
        reader = Task(both.nursery, lambda: both.transport.receive(Wait()))
        await wait_all_tasks_blocked()
        assert reader.outcome == []
        await both.peer.send(b"y")

        assert reader.outcome == [b"y"]


async def test_a_writer_waits_for_a_peer_that_does_not_read(kind: str) -> None:
    async with pair(kind) as both:
        writer = Task(both.nursery, lambda: both.send(BIG))
        await wait_all_tasks_blocked()
        assert writer.outcome == []

        assert await both.peer.take() == BIG
        assert writer.outcome == [None]


async def test_what_is_put_while_the_peer_does_not_read_keeps_its_order(kind: str) -> None:
    async with pair(kind) as both:
        both.transport.put(BIG)
        both.transport.put(b"second")
        both.transport.put(b"third")
        writer = Task(both.nursery, lambda: both.transport.flushed(Wait()))

        assert await both.peer.take() == BIG + b"secondthird"
        assert writer.outcome == [None]


@pytest.mark.parametrize("before", [b"", b"last words"], ids=["silent", "last words"])
async def test_the_orderly_end_is_empty_bytes(kind: str, before: bytes) -> None:
    async with pair(kind) as both:
        if before:
            both.peer.send_and_close(before)
            await wait_all_tasks_blocked()
            assert await both.transport.receive(Wait()) == before
        else:
            both.peer.close()

        reader = Task(both.nursery, lambda: both.transport.receive(Wait()))
        await wait_all_tasks_blocked()

        assert reader.outcome == [b""]


async def test_an_end_together_with_the_last_bytes_wakes_a_reader_that_parked(kind: str) -> None:
    """One edge tells of both; the second read must not wait for another."""
    async with pair(kind) as both:

        async def read() -> list[bytes]:
            return [await both.transport.receive(Wait()), await both.transport.receive(Wait())]

        reader = Task(both.nursery, read)
        await wait_all_tasks_blocked()
        both.peer.send_and_close(b"last words")
        await wait_all_tasks_blocked()

        assert reader.outcome == [[b"last words", b""]]


@pytest.mark.parametrize("kind", ["edge", "plain"])
async def test_half_a_close_ends_reading_only(kind: str) -> None:
    async with pair(kind) as both:
        await both.peer.send(b"question")
        await both.peer.half_close()

        assert await both.transport.receive(Wait()) == b"question"
        assert await both.transport.receive(Wait()) == b""
        await both.send(b"answer")
        assert await both.peer.take() == b"answer"


@pytest.mark.parametrize("kind", ["edge", "plain"])
async def test_end_tells_the_peer_and_still_reads(kind: str) -> None:
    async with pair(kind) as both:
        await both.send(b"all")
        await both.transport.end()
        assert await both.peer.take() == b"all"
        assert both.peer.ended

        await both.peer.send(b"understood")
        assert await both.transport.receive(Wait()) == b"understood"


async def test_sending_to_a_peer_that_has_closed_is_an_error(kind: str) -> None:
    async with pair(kind) as both:
        both.peer.close()

        task = Task(both.nursery, lambda: both.send(BIG))
        await wait_all_tasks_blocked()

        assert [type(outcome) for outcome in task.outcome] == [TransportBroken]


async def test_try_receive_never_waits() -> None:
    for kind in ("edge", "plain"):
        async with pair(kind) as both:
            assert both.transport.try_receive() is None
            await both.peer.send(b"x")
            assert both.transport.try_receive() == b"x"
            assert both.transport.try_receive() is None
            both.peer.close()
            assert both.transport.try_receive() == b""


# ---- interruption ----------------------------------------------------------------------------------------------------

ACTIONS: Final[dict[str, Callable[[Pair, Wait], Awaitable[object]]]] = {
    "receive": lambda both, wait: both.transport.receive(wait),
    "send": lambda both, wait: both.send(BIG, wait),
}


@pytest.mark.parametrize("action", ACTIONS)
async def test_ending_the_wait_interrupts(kind: str, action: str) -> None:
    async with pair(kind) as both:
        wait = Wait()
        task = Task(both.nursery, lambda: ACTIONS[action](both, wait))
        await wait_all_tasks_blocked()
        wait.end(Enough())
        await wait_all_tasks_blocked()

        assert [type(outcome) for outcome in task.outcome] == [Enough]


@pytest.mark.parametrize("moment", range(5))
@pytest.mark.parametrize("action", ACTIONS)
async def test_ending_the_wait_interrupts_at_any_moment(kind: str, action: str, moment: int) -> None:
    """Also before the task has come to wait for the socket."""
    async with pair(kind) as both:
        wait = Wait()
        task = Task(both.nursery, lambda: ACTIONS[action](both, wait))
        for _ in range(moment):
            await trio.lowlevel.checkpoint()
        wait.end(Enough())
        await wait_all_tasks_blocked()

        assert [type(outcome) for outcome in task.outcome] == [Enough]


@pytest.mark.parametrize("action", ACTIONS)
async def test_a_wait_that_has_ended_interrupts_at_once(kind: str, action: str) -> None:
    async with pair(kind) as both:
        wait = Wait()
        wait.end(Enough())

        with pytest.raises(Enough):
            await ACTIONS[action](both, wait)


@pytest.mark.parametrize("action", ACTIONS)
async def test_cancelling_interrupts(kind: str, action: str) -> None:
    async with pair(kind) as both:
        task = Task(both.nursery, lambda: ACTIONS[action](both, Wait()))
        await wait_all_tasks_blocked()
        task.scope.cancel(reason="enough")
        await wait_all_tasks_blocked()

        assert task.scope.cancelled_caught
        assert task.outcome == []


@pytest.mark.parametrize("action", ACTIONS)
async def test_closing_interrupts(kind: str, action: str) -> None:
    async with pair(kind) as both:
        task = Task(both.nursery, lambda: ACTIONS[action](both, Wait()))
        await wait_all_tasks_blocked()
        both.transport.close()
        await wait_all_tasks_blocked()

        assert [type(outcome) for outcome in task.outcome] == [TransportBroken]


async def test_a_closed_transport_fails_at_once(kind: str) -> None:
    """Also where its last read had found nothing more."""
    async with pair(kind) as both:
        await both.peer.send(b"x")
        await both.transport.receive(Wait())
        both.transport.close()

        for action in ACTIONS.values():
            task = Task(both.nursery, partial(action, both, Wait()))
            await wait_all_tasks_blocked()
            assert [type(outcome) for outcome in task.outcome] == [TransportBroken]


async def test_a_reader_and_a_writer_wait_side_by_side(kind: str) -> None:
    async with pair(kind) as both:
        reader = Task(both.nursery, lambda: both.transport.receive(Wait()))
        writer = Task(both.nursery, lambda: both.send(BIG))
        await wait_all_tasks_blocked()
        assert (reader.outcome, writer.outcome) == ([], [])

        await both.peer.send(b"read")
        assert (reader.outcome, writer.outcome) == ([b"read"], [])
        await both.peer.take()
        assert writer.outcome == [None]


async def test_peer_closed_looks_without_reading(kind: str) -> None:
    async with pair(kind) as both:
        assert not both.transport.peer_closed()
        await both.peer.send(b"unread")
        assert not both.transport.peer_closed()
        both.peer.close()

        assert both.transport.peer_closed()
        both.transport.close()
        assert both.transport.peer_closed()


# ---- one poller, many sockets ----------------------------------------------------------------------------------------


@pytest.mark.skipif(not readiness.AVAILABLE, reason="there is no epoll here")
async def test_one_poller_serves_many_sockets_each_with_its_own() -> None:
    poller = Poller()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        ends = [socket.socketpair() for _ in range(64)]
        transports = [poller.transport(ours) for ours, _ in ends]
        received: dict[int, bytes] = {}

        async def echo(n: int) -> None:
            received[n] = await transports[n].receive(Wait())
            transports[n].put(b"to %d" % n)

        for n in range(64):
            nursery.start_soon(echo, n)
        await wait_all_tasks_blocked()
        for n, (_, theirs) in enumerate(ends):
            theirs.send(b"from %d" % n)
        await wait_all_tasks_blocked()

        assert received == {n: b"from %d" % n for n in range(64)}
        assert [theirs.recv(100) for _, theirs in ends] == [b"to %d" % n for n in range(64)]
        for transport, (_, theirs) in zip(transports, ends, strict=True):
            transport.close()
            theirs.close()
        nursery.cancel_scope.cancel(reason="the test is over")


@pytest.mark.skipif(not readiness.AVAILABLE, reason="there is no epoll here")
async def test_what_is_put_in_a_batch_is_sent_before_its_transport_closes() -> None:
    poller = Poller()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        ends = [socket.socketpair() for _ in range(3)]
        transports = [poller.transport(ours) for ours, _ in ends]

        async def answer(transport: Transport) -> None:
            await transport.receive(Wait())
            transport.put(b"one, ")
            transport.put(b"two")
            transport.close()

        for transport in transports:
            nursery.start_soon(answer, transport)
        await wait_all_tasks_blocked()
        for _, theirs in ends:
            theirs.send(b"go")
        await wait_all_tasks_blocked()

        assert [theirs.recv(100) for _, theirs in ends] == [b"one, two"] * 3
        for _, theirs in ends:
            theirs.close()
        nursery.cancel_scope.cancel(reason="the test is over")
