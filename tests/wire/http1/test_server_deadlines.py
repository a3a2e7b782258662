"""The server's deadlines, to the second: nothing that stalls holds anything past its own."""

from __future__ import annotations

from typing import Final

import pytest
from trio.testing import MockClock, wait_all_tasks_blocked

from mcpgateway.config.limits import Limits
from mcpgateway.wire.waiting import LONGEST
from tests.wire.http1.peers import Peer, answer, answers
from tests.wire.http1.servers import Script, serving

LIMITS: Final = Limits(header_timeout=10, body_timeout=60, idle_timeout=120, write_timeout=30, write_rate=1 << 40)
GET: Final = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
POST: Final = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n"
CLOSING: Final = 1.0 + LONGEST
"""Seconds for which a refused client may still send, and how late that can be noticed."""


async def pass_time(clock: MockClock, seconds: float) -> None:
    """Let so many seconds go by at once, and everything that they cause happen."""
    await wait_all_tasks_blocked()
    clock.jump(seconds)
    await wait_all_tasks_blocked()


async def trickle(peer: Peer, clock: MockClock, data: bytes, seconds: float) -> None:
    """Send single bytes, one every second, for so many seconds."""
    for n in range(int(seconds)):
        await peer.send(data[n : n + 1])
        await pass_time(clock, 1)


async def test_a_silent_connection_is_closed_without_a_word(kind: str, mock_clock: MockClock) -> None:
    async with serving(kind, limits=LIMITS) as site:
        peer = await site.dial()

        await pass_time(mock_clock, 119)
        assert len(site.server.connections) == 1
        await pass_time(mock_clock, 1.1)

        assert await peer.take() == b""
        assert peer.ended
        assert not site.server.connections


async def test_silence_is_counted_from_the_last_answer(kind: str, mock_clock: MockClock) -> None:
    async with serving(kind, limits=LIMITS) as site:
        peer = await site.dial()

        await pass_time(mock_clock, 100)
        assert answer(await peer.ask(GET)).status == 200
        await pass_time(mock_clock, 100)
        assert answer(await peer.ask(GET)).status == 200
        await pass_time(mock_clock, 121)

        assert not site.server.connections


async def test_a_slow_head_is_refused_at_its_deadline(kind: str, mock_clock: MockClock) -> None:
    """However steadily it trickles in: the deadline is for all of it."""
    async with serving(kind, limits=LIMITS) as site:
        peer = await site.dial()

        await trickle(peer, mock_clock, GET, 9)
        assert await peer.take() == b""
        await trickle(peer, mock_clock, GET[9:], 2)

        assert answer(await peer.take()).status == 408
        await pass_time(mock_clock, CLOSING)
        assert not site.server.connections


async def test_a_slow_head_behind_another_request_has_the_same_deadline(kind: str, mock_clock: MockClock) -> None:
    async with serving(kind, limits=LIMITS) as site:
        peer = await site.dial()

        assert answer(await peer.ask(GET + GET[:5])).status == 200
        await pass_time(mock_clock, 11)

        assert answer(await peer.take()).status == 408


async def test_a_slow_body_is_refused_at_its_deadline(kind: str, mock_clock: MockClock) -> None:
    async with serving(kind, limits=LIMITS) as site:
        peer = await site.dial()

        await peer.send(POST + b"h")
        await pass_time(mock_clock, 59)
        assert await peer.ask(b"e") == b""
        await pass_time(mock_clock, 1.1)

        assert answer(await peer.take()).status == 408
        await pass_time(mock_clock, CLOSING)
        assert not site.server.connections


async def test_a_body_that_trickles_has_the_same_deadline(kind: str, mock_clock: MockClock) -> None:
    async with serving(kind, limits=LIMITS) as site:
        peer = await site.dial()

        await peer.send(POST.replace(b": 5", b": 500") + b"x")
        await trickle(peer, mock_clock, b"x" * 100, 59)
        assert await peer.take() == b""
        await trickle(peer, mock_clock, b"x" * 100, 2)

        assert answer(await peer.take()).status == 408


async def test_a_slow_body_behind_another_request_has_the_same_deadline(kind: str, mock_clock: MockClock) -> None:
    async with serving(kind, limits=LIMITS) as site:
        peer = await site.dial()

        assert answer(await peer.ask(GET + POST + b"h")).status == 200
        await pass_time(mock_clock, 61)

        assert answer(await peer.take()).status == 408


async def test_a_body_in_time_is_served(mock_clock: MockClock) -> None:
    async with serving("plain", limits=LIMITS) as site:
        peer = await site.dial()

        await peer.send(POST)
        await pass_time(mock_clock, 59)

        assert answer(await peer.ask(b"hello")).body == b"POST /a  hello"


async def test_a_handler_may_take_its_time(mock_clock: MockClock) -> None:
    script = Script()
    async with serving("plain", script, LIMITS) as site:
        peer = await site.dial()

        await peer.send(b"GET /held HTTP/1.1\r\nHost: h\r\n\r\n")
        await pass_time(mock_clock, 10_000)
        script.let_go()

        assert answer(await peer.take()).body == b"held"


async def test_a_reader_that_stalls_is_dropped_and_holds_nothing(kind: str, mock_clock: MockClock) -> None:
    script = Script()
    async with serving(kind, script, LIMITS) as site:
        peer, other = await site.dial(), await site.dial()

        await peer.send(b"GET /big HTTP/1.1\r\nHost: h\r\n\r\n")
        await pass_time(mock_clock, 29)
        assert len(site.server.connections) == 2
        await pass_time(mock_clock, 1.1)

        assert script.gone == ([] if kind == "begun" else ["WriteStalled"])
        assert len(site.server.connections) == 1
        assert answer(await other.ask(GET)).status == 200


async def test_a_slow_reader_that_goes_on_reading_gets_everything(mock_clock: MockClock) -> None:
    async with serving("plain", limits=Limits(write_timeout=1000)) as site:
        peer = await site.dial()
        await peer.send(b"GET /big HTTP/1.1\r\nHost: h\r\n\r\n")
        data = bytearray()

        while piece := peer.take_nowait(256 * 1024):
            data += piece
            await pass_time(mock_clock, 10)

        assert len(answer(bytes(data)).body) == 4 << 20


async def test_who_goes_on_sending_after_a_refusal_is_cut_off(kind: str, mock_clock: MockClock) -> None:
    """The refusal is to be read, so the server lingers; not for ever, and not without bound."""
    async with serving(kind, limits=LIMITS) as site:
        peer = await site.dial()

        assert answer(await peer.ask(b"junk\r\n\r\n")).status == 400
        await peer.send(b"more junk")
        assert len(site.server.connections) == 1
        await pass_time(mock_clock, CLOSING)

        assert not site.server.connections


async def test_a_refused_upload_can_read_why() -> None:
    """A client that sends all of a body that is too large, and only then reads, finds the answer."""
    async with serving("edge", limits=Limits(body_bytes=1000)) as site:
        peer = await site.dial()
        head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (1 << 20)

        await peer.send(head + b"x" * (1 << 20))

        assert answer(await peer.take()).status == 413


@pytest.mark.parametrize("stalled", [b"", GET[:5], POST + b"h"], ids=["silent", "head", "body"])
async def test_the_stalled_disturb_nobody(kind: str, mock_clock: MockClock, stalled: bytes) -> None:
    async with serving(kind, limits=LIMITS) as site:
        idlers = [await site.dial() for _ in range(20)]
        for idler in idlers:
            await idler.send(stalled)
        busy = await site.dial()

        for _ in range(13):
            assert [reply.status for reply in answers(await busy.ask(GET + GET))] == [200, 200]
            await pass_time(mock_clock, 10)

        assert len(site.server.connections) == 1
