"""Drain, the bound on connections, and the listener itself."""

from __future__ import annotations

import errno
import logging
import socket
from contextlib import closing

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcpgateway.config.limits import Limits
from mcpgateway.wire.http1.exchange import Exchange
from mcpgateway.wire.http1.requests import HttpRequest
from mcpgateway.wire.http1.server import accept, bind
from mcpgateway.wire.transport import TransportBroken
from tests.wire.http1.peers import answer, answers
from tests.wire.http1.servers import KINDS, Script, serving

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
HELD = b"GET /held HTTP/1.1\r\nHost: h\r\n\r\n"


# ---- drain -----------------------------------------------------------------------------------------------------------


async def test_drain_closes_idle_connections_and_lets_a_request_finish(kind: str) -> None:
    script = Script()
    async with serving(kind, script) as site:
        idle, fresh, busy = [await site.dial() for _ in range(3)]
        await idle.ask(GET)
        await busy.send(HELD)

        site.server.drain()
        assert await idle.take() + await fresh.take() == b""
        assert (idle.ended, fresh.ended, busy.ended) == (True, True, False)
        script.let_go()

        reply = answer(await busy.take())
        assert (reply.body, reply.keep_alive) == (b"held", False)
        assert busy.ended
        assert not site.server.connections


async def test_drain_does_not_wait_for_half_a_request(kind: str) -> None:
    async with serving(kind) as site:
        peer = await site.dial()
        await peer.send(GET[:-2])

        site.server.drain()
        await wait_all_tasks_blocked()

        assert not site.server.connections


async def test_a_drained_server_answers_no_further_request_of_a_connection() -> None:
    script = Script()
    async with serving("plain", script) as site:
        peer = await site.dial()
        await peer.send(HELD + GET)

        site.server.drain()
        script.let_go()

        assert answer(await peer.take()).body == b"held"
        assert [request.path for request in script.seen] == [b"/held"]


async def test_emptied_waits_for_the_last_connection() -> None:
    script = Script()
    async with serving("plain", script) as site, trio.open_nursery() as nursery:
        peers = [await site.dial() for _ in range(2)]
        await peers[0].send(HELD)
        done = trio.Event()

        async def wait() -> None:
            await site.server.emptied()
            done.set()

        nursery.start_soon(wait)
        site.server.drain()
        await wait_all_tasks_blocked()
        assert not done.is_set()
        script.let_go()
        await wait_all_tasks_blocked()

        assert done.is_set()


async def test_cancelling_a_connection_closes_it(kind: str) -> None:
    async with serving(kind, Script()) as site:
        peer = await site.dial()
        await peer.send(HELD)
        site.nursery.cancel_scope.cancel(reason="the owner of the connections ends")
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()

        peer.take_nowait()
        assert peer.ended


# ---- the bound on connections ----------------------------------------------------------------------------------------


async def test_at_the_bound_the_longest_idle_connection_makes_room(kind: str) -> None:
    async with serving(kind, limits=Limits(connections=2, connections_per_address=2)) as site:
        first, second = await site.dial(), await site.dial()
        third = await site.dial()

        assert answer(await third.ask(GET)).status == 200
        assert answer(await second.ask(GET)).status == 200
        await first.take()
        assert first.ended
        assert len(site.server.connections) == 2


async def test_busy_connections_are_not_closed_to_make_room() -> None:
    script = Script()
    async with serving("plain", script, Limits(connections=2, connections_per_address=2)) as site:
        busy, idle = await site.dial(), await site.dial()
        await busy.send(HELD)
        await (await site.dial()).ask(GET)
        await idle.take()
        script.let_go()

        assert idle.ended
        assert answer(await busy.take()).body == b"held"


async def test_the_bound_holds_when_all_are_busy() -> None:
    """Who comes too much is told so at once, and costs no place."""
    script = Script()
    async with serving("plain", script, Limits(connections=2, connections_per_address=2)) as site:
        for _ in range(2):
            await (await site.dial()).send(HELD)
        refused = await site.dial()

        reply = answer(await refused.ask(GET))

        assert (reply.status, reply.keep_alive) == (503, False)
        assert [request.path for request in script.seen] == [b"/held", b"/held"]


# ---- the client that leaves ------------------------------------------------------------------------------------------


async def test_a_handler_can_tell_that_its_client_has_gone(kind: str) -> None:
    gone: list[bool] = []
    release = trio.Event()

    async def handler(request: HttpRequest, exchange: Exchange) -> None:
        gone.append(exchange.client_gone())
        await release.wait()
        gone.append(exchange.client_gone())
        await exchange.respond(200)

    async with serving(kind, handler) as site:
        peer = await site.dial()
        await peer.send(GET)
        peer.close()
        release.set()
        await wait_all_tasks_blocked()

        assert gone == [False, True]
        assert not site.server.connections


async def test_pipelined_bytes_are_not_taken_for_a_client_that_has_gone(kind: str) -> None:
    gone: list[bool] = []
    release = trio.Event()

    async def handler(request: HttpRequest, exchange: Exchange) -> None:
        await release.wait()
        gone.append(exchange.client_gone())
        await exchange.respond(200)

    async with serving(kind, handler) as site:
        peer = await site.dial()
        await peer.send(GET)
        await peer.send(GET)
        release.set()
        await wait_all_tasks_blocked()

        assert gone == [False, False]


async def test_a_client_that_leaves_during_its_answer_ends_the_handler(kind: str) -> None:
    script = Script()
    async with serving(kind, script) as site:
        peer, other = await site.dial(), await site.dial()
        await peer.send(b"GET /big HTTP/1.1\r\nHost: h\r\n\r\n")
        peer.close()
        await wait_all_tasks_blocked()

        assert script.gone == ([] if kind == "begun" else ["TransportBroken"])
        assert answer(await other.ask(GET)).status == 200


# ---- listeners -------------------------------------------------------------------------------------------------------


def test_port_0_is_the_same_free_port_for_every_address() -> None:
    listeners = bind("localhost", 0)
    try:
        ports = {listener.getsockname()[1] for listener in listeners}
        (port,) = ports
        assert port > 0
        with socket.create_connection(("127.0.0.1", port)):
            pass
    finally:
        for listener in listeners:
            listener.close()


def test_an_address_that_is_taken_is_an_error() -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            bind("127.0.0.1", taken.getsockname()[1])


class Exhausted(socket.socket):
    """A listener whose process is out of descriptors for two attempts, with a client gone meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self._problems = [OSError(errno.EMFILE, "Too many open files")] * 2 + [ConnectionAbortedError()]

    def accept(self) -> tuple[socket.socket, object]:
        if self._problems:
            raise self._problems.pop(0)
        return super().accept()


async def test_a_listener_outlives_the_want_of_descriptors(
    mock_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    accepted: list[socket.socket] = []

    async def keep(sock: socket.socket) -> None:
        accepted.append(sock)
        await trio.lowlevel.checkpoint()

    listener = Exhausted()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    listener.setblocking(False)
    with closing(listener), caplog.at_level(logging.WARNING, "mcpgateway.http"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept, listener, nursery, keep)
            with closing(socket.create_connection(listener.getsockname())):
                await wait_all_tasks_blocked()
                assert accepted == []
                for _ in range(2):
                    mock_clock.jump(0.1)
                    await wait_all_tasks_blocked()
                (sock,) = accepted
                sock.close()
            nursery.cancel_scope.cancel(reason="the test is over")

    assert [record.getMessage() for record in caplog.records] == [
        "cannot accept a connection: [Errno 24] Too many open files"
    ] * 2


# ---- answers without a task ------------------------------------------------------------------------------------------

BEGUN = pytest.mark.skipif("begun" not in KINDS, reason="there is no epoll here")


@BEGUN
async def test_an_answer_for_a_client_that_has_gone_is_dropped() -> None:
    script = Script()
    async with serving("begun", script) as site:
        peer = await site.dial()
        await peer.send(HELD)
        peer.close()
        await wait_all_tasks_blocked()
        script.let_go()
        await wait_all_tasks_blocked()

        assert not site.server.connections
        assert answer(await site.ask(GET)).status == 200


@BEGUN
async def test_what_was_begun_for_a_client_that_has_gone_is_finished_all_the_same() -> None:
    exchanges: list[Exchange] = []
    finished: list[str] = []

    def begin(request: HttpRequest, exchange: Exchange) -> bool:
        exchanges.append(exchange)
        return True

    async def finish() -> None:
        await trio.lowlevel.checkpoint()
        finished.append("finished")
        await exchanges[0].respond(200)

    async with serving("begun") as site:
        site.server.begin = begin
        peer = await site.dial()
        await peer.send(GET)
        (connection,) = site.server.connections
        connection.wait.end(TransportBroken("the client has gone"))
        await wait_all_tasks_blocked()
        assert not site.server.connections
        exchanges[0].continue_with(finish)
        await wait_all_tasks_blocked()

    assert finished == ["finished"]


@BEGUN
async def test_an_answer_is_given_once() -> None:
    """A second one, or a late change of mind, touches neither this request nor the next."""
    exchanges: list[Exchange] = []

    def begin(request: HttpRequest, exchange: Exchange) -> bool:
        exchanges.append(exchange)
        return True

    async with serving("begun") as site:
        site.server.begin = begin
        peer = await site.dial()
        await peer.send(GET + GET)
        exchanges[0].respond_now(200, b"first", b"")
        exchanges[0].abort()
        await wait_all_tasks_blocked()
        exchanges[1].respond_now(200, b"second", b"")

        assert [reply.body for reply in answers(await peer.take())] == [b"first", b"second"]


@BEGUN
async def test_a_request_that_was_begun_is_waited_for_by_a_drain() -> None:
    script = Script()
    async with serving("begun", script) as site:
        peer = await site.dial()
        await peer.send(HELD)
        site.server.drain()
        await wait_all_tasks_blocked()
        assert len(site.server.connections) == 1
        script.let_go()

        reply = answer(await peer.take())
        assert (reply.body, reply.keep_alive) == (b"held", False)
        assert not site.server.connections
