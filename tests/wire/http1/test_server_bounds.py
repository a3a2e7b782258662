"""What clients may hold of a server, per address and in all: connections, bodies, replies. Each refusal is clear."""

from __future__ import annotations

from typing import Final

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcpgateway.config.limits import Limits
from mcpgateway.wire.http1 import server as server_module
from mcpgateway.wire.http1.exchange import Exchange
from mcpgateway.wire.http1.requests import HttpRequest
from mcpgateway.wire.waiting import LONGEST
from tests.wire.http1.peers import Peer, answer
from tests.wire.http1.servers import BIG, Script, Site, serving
from tests.wire.http1.test_server_deadlines import pass_time

GET: Final = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
HELD: Final = b"GET /held HTTP/1.1\r\nHost: h\r\n\r\n"
LARGE: Final = b"GET /big HTTP/1.1\r\nHost: h\r\n\r\n"
KIB: Final = 1024
FLOOD: Final = "192.0.2.66"
USER: Final = "192.0.2.7"


def upload(size: int) -> bytes:
    """The head of a request with a body."""
    return b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size


def refused(site: Site) -> dict[str, int]:
    """How many were turned away, by the bound."""
    counts = {rule: bound.refused for rule, bound in site.server.bounds.statistics().items()}
    return {rule: count for rule, count in counts.items() if count}


# ---- connections -----------------------------------------------------------------------------------------------------


async def test_at_its_bound_an_address_makes_room_itself(kind: str) -> None:
    async with serving(kind, limits=Limits(connections=10, connections_per_address=2)) as site:
        user = await site.dial(USER)
        first, second, third = [await site.dial(FLOOD) for _ in range(3)]

        await first.take()
        assert (first.ended, second.ended) == (True, False)
        for peer in (second, third, user):
            assert answer(await peer.ask(GET)).status == 200
        assert site.server.bounds.statistics()["connections"].displaced == 1


async def test_with_all_of_its_connections_busy_an_address_is_refused_and_others_are_not(kind: str) -> None:
    script = Script()
    async with serving(kind, script, Limits(connections=10, connections_per_address=2)) as site:
        for _ in range(2):
            await (await site.dial(FLOOD)).send(HELD)

        told = answer(await site.ask(GET, FLOOD))
        assert answer(await site.ask(GET, USER)).status == 200

        assert (told.status, told.headers["retry-after"], told.keep_alive) == (429, "5", False)
        assert told.body == (
            b"no more than 2 busy connections at a time for one address (listen.limits.connections_per_address)"
        )
        assert refused(site) == {"connections": 1}
        script.let_go()


@pytest.mark.requirement("4.clients.bounds")
async def test_a_flood_of_half_requests_pushes_out_itself(kind: str) -> None:
    async with serving(kind, limits=Limits(connections=8, connections_per_address=4)) as site:
        users = [await site.dial(f"192.0.2.{number}") for number in range(4)]
        for _ in range(20):
            await (await site.dial(FLOOD)).send(GET[:9])

        for user in users:
            assert answer(await user.ask(GET)).status == 200
        late = await site.dial("192.0.2.99")
        assert answer(await late.ask(GET)).status == 200
        assert len(site.server.connections) == 8
        for user in users:
            assert answer(await user.ask(GET)).status == 200


async def test_no_more_than_so_many_are_told_why_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "REFUSED", 2)
    script = Script()
    async with serving("edge", script, Limits(connections=1)) as site:
        await (await site.dial()).send(HELD)
        lingering = [await site.dial() for _ in range(2)]
        cut = await site.dial()

        assert [answer(await peer.take()).status for peer in lingering] == [503, 503]
        assert await cut.take() == b""
        assert (cut.ended, refused(site)) == (True, {"connections": 3})
        script.let_go()


async def test_a_handshake_that_never_ends_has_a_place_and_the_deadline_of_a_head(mock_clock: MockClock) -> None:
    limits = Limits(connections=2, connections_per_address=2, header_timeout=10)
    async with serving("tls", limits=limits) as site:
        for _ in range(2):
            await site.dial(shake_hands=False)
        user = await site.dial(USER)
        assert answer(await user.ask(GET)).status == 200
        await wait_all_tasks_blocked()
        assert site.server.bounds.connections.addresses == {"peer": 1, USER: 1}

        await pass_time(mock_clock, 10 + LONGEST)

        assert site.server.bounds.connections.addresses == {USER: 1}
        assert answer(await user.ask(GET)).status == 200


# ---- bodies ----------------------------------------------------------------------------------------------------------

SMALL: Final = Limits(body_bytes=300 * KIB, bodies_bytes=700 * KIB, bodies_bytes_per_address=400 * KIB)


async def test_bodies_on_their_way_are_bounded_for_one_address_and_in_all(kind: str) -> None:
    async with serving(kind, limits=SMALL) as site:
        one, two, other = await site.dial(FLOOD), await site.dial(FLOOD), await site.dial(USER)
        for peer in (one, other):
            await peer.send(upload(300 * KIB) + b"x" * 290 * KIB)
        await two.send(upload(300 * KIB) + b"x" * 150 * KIB)
        third = await site.dial("192.0.2.8")
        await third.send(upload(300 * KIB) + b"x" * 150 * KIB)

        told, told_all = answer(await two.take()), answer(await third.take())

        assert (told.status, told.headers["retry-after"]) == (429, "5")
        assert told.body.endswith(b"(listen.limits.bodies_bytes_per_address)")
        assert told_all.status == 503
        assert told_all.body == (
            b"no more than 716800 bytes of requests being received at a time (listen.limits.bodies_bytes)"
        )
        for peer in (one, other):
            assert answer(await peer.ask(b"x" * 10 * KIB)).status == 200
        assert refused(site) == {"bodies_bytes": 2}


async def test_a_body_is_counted_until_it_is_answered_and_no_longer(kind: str) -> None:
    script = Script()
    async with serving(kind, script, SMALL) as site:
        peer = await site.dial()
        bodies = site.server.bounds.bodies
        for path in (b"/a", b"/a", b"/held"):
            head = upload(300 * KIB).replace(b"/a", path)
            await peer.send(head + b"x" * 300 * KIB)
            await wait_all_tasks_blocked()
            if path == b"/held":
                assert bodies.held >= 200 * KIB  # but for the last piece
                script.let_go()
            assert answer(await peer.take()).status == 200
            assert bodies.held == 0


async def test_a_body_that_is_given_up_is_counted_no_longer(kind: str) -> None:
    async with serving(kind, limits=SMALL) as site:
        peer = await site.dial()
        await peer.send(upload(300 * KIB) + b"x" * 200 * KIB)
        assert site.server.bounds.bodies.held >= 100 * KIB
        peer.close()
        await wait_all_tasks_blocked()

        assert site.server.bounds.bodies.held == 0


# ---- replies ---------------------------------------------------------------------------------------------------------

SLOW: Final = Limits(write_timeout=30, write_rate=KIB * KIB, replies_bytes=16 << 20, replies_bytes_per_address=6 << 20)


async def read_slowly(peer: Peer, clock: MockClock, seconds: int) -> None:
    """Take a few bytes every second."""
    for _ in range(seconds):
        peer.take_nowait(100)
        await pass_time(clock, 1)


@pytest.mark.requirement("4.clients.bounds")
async def test_a_reader_has_time_for_what_it_is_sent_however_it_reads(kind: str, mock_clock: MockClock) -> None:
    """4 MiB at 1 MiB/s, and 30 s: a trickle of reading does not renew it."""
    async with serving(kind, limits=SLOW) as site:
        peer = await site.dial()
        await peer.send(LARGE)
        await read_slowly(peer, mock_clock, 30)
        assert len(site.server.connections) == 1
        await read_slowly(peer, mock_clock, 5)

        assert not site.server.connections
        assert site.server.bounds.replies.held == 0


async def test_what_slow_readers_leave_unread_is_bounded_for_each_address(kind: str) -> None:
    """The second stalled reader of 4 MiB is one too many for its address, though not for the server."""
    async with serving(kind, limits=SLOW) as site:
        readers = [await site.dial(FLOOD) for _ in range(2)]
        for reader in readers:
            await reader.send(LARGE)
        user = await site.dial(USER)

        assert answer(await user.ask(LARGE)).body == BIG
        assert refused(site) == {"replies_bytes": 1}
        assert answer(await readers[0].take()).body == BIG
        await readers[1].take()
        assert readers[1].ended


async def test_a_busy_reader_is_not_taken_for_an_idle_one(kind: str) -> None:
    async with serving(kind, limits=Limits(connections=2, connections_per_address=2)) as site:
        reader, idle = await site.dial(), await site.dial()
        await reader.send(LARGE)
        newcomer = await site.dial()

        assert answer(await newcomer.ask(GET)).status == 200
        await idle.take()
        assert idle.ended
        assert answer(await reader.take()).body == BIG


async def test_a_silent_stream_is_kept_alive(kind: str, mock_clock: MockClock) -> None:
    async def handler(request: HttpRequest, exchange: Exchange) -> None:
        exchange.stream(200, b"Content-Type: text/event-stream\r\n", beat=b":\n\n")
        await exchange.write(b"")
        await trio.sleep(50)
        await exchange.write(b"data: x\n\n", last=True)

    async with serving(kind, handler) as site:
        site.nursery.start_soon(site.server.beat, 15.0)
        peer = await site.dial()
        await peer.send(GET)
        data = b""
        for _ in range(51):
            await pass_time(mock_clock, 1)
            data += await peer.take()

        assert answer(data).body == b":\n\n" * 3 + b"data: x\n\n"


async def test_what_comes_while_a_beat_is_not_read_comes_behind_it(kind: str, mock_clock: MockClock) -> None:
    speak = trio.Event()

    async def handler(request: HttpRequest, exchange: Exchange) -> None:
        exchange.stream(200, b"Content-Type: text/event-stream\r\n", beat=BIG)
        await exchange.write(b"")
        await speak.wait()
        await exchange.write(b"end", last=True)

    async with serving(kind, handler) as site:
        site.nursery.start_soon(site.server.beat, 15.0)
        peer = await site.dial()
        await peer.send(GET)
        await pass_time(mock_clock, 16)
        speak.set()
        await wait_all_tasks_blocked()

        assert answer(await peer.take()).body == BIG + b"end"


EVENTS: Final = b"Content-Type: text/event-stream\r\n"


async def test_a_stream_begins_beside_whoever_will_answer(kind: str, mock_clock: MockClock) -> None:
    opened: list[Exchange] = []
    speak = trio.Event()

    async def handler(request: HttpRequest, exchange: Exchange) -> None:
        opened.append(exchange)
        await speak.wait()
        await exchange.write(b"data: x\n\n", last=True)

    async with serving(kind, handler) as site:
        site.nursery.start_soon(site.server.beat, 15.0)
        peer = await site.dial()
        await peer.send(GET)
        opened[0].open(EVENTS, b"id: 1\n\n", beat=b":\n\n")
        data = await peer.take()
        assert data.endswith(b"id: 1\n\n\r\n")
        await pass_time(mock_clock, 15.5)
        speak.set()
        data += await peer.take()
        assert answer(data).body == b"id: 1\n\n:\n\ndata: x\n\n"


async def test_a_stream_that_is_begun_for_a_client_that_does_not_read_holds_nobody_up(
    kind: str, mock_clock: MockClock
) -> None:
    opened: list[Exchange] = []
    speak = trio.Event()

    async def handler(request: HttpRequest, exchange: Exchange) -> None:
        opened.append(exchange)
        await speak.wait()
        await exchange.write(b"end", last=True)

    async with serving(kind, handler, Limits(write_timeout=30)) as site:
        reader, stalled, gone = [await site.dial() for _ in range(3)]
        for peer in (reader, stalled, gone):
            await peer.send(GET)
        gone.close()
        await wait_all_tasks_blocked()
        for exchange in opened:
            exchange.open(EVENTS, BIG, beat=b":\n\n")
        speak.set()
        assert answer(await reader.take()).body == BIG + b"end"
        for _ in range(100):
            await pass_time(mock_clock, 1)
        assert len(site.server.connections) == 1  # the reader's


async def test_a_silent_stream_that_nobody_reads_ends(kind: str, mock_clock: MockClock) -> None:
    """Nothing is sent but the beat: once even that does not go out for ``write_timeout``, the client is given up."""
    gone: list[float] = []

    async def handler(request: HttpRequest, exchange: Exchange) -> None:
        exchange.stream(200, b"Content-Type: text/event-stream\r\n", beat=b": " + b"x" * (256 * KIB) + b"\n\n")
        await exchange.write(b":\n\n")
        while not exchange.client_gone():  # noqa: ASYNC110 - it is what a probe does
            await trio.sleep(1)
        gone.append(trio.current_time())

    async with serving(kind, handler, Limits(write_timeout=30)) as site:
        site.nursery.start_soon(site.server.beat, 15.0)
        reader, stalled = await site.dial(), await site.dial()
        for peer in (reader, stalled):
            await peer.send(GET)
        for _ in range(100):
            await pass_time(mock_clock, 1)
            await reader.take()

        assert len(gone) == 1
        assert len(site.server.connections) == 1
        reader.close()
        await pass_time(mock_clock, 1)
