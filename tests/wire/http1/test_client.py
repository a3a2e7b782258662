"""The client against origins that behave, and that do not."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcpgateway.wire import readiness
from mcpgateway.wire.http1 import client, responses
from mcpgateway.wire.http1.client import Pool
from mcpgateway.wire.http1.responses import Response
from mcpgateway.wire.http_client import DEFAULT, Arrived, Deadlines, HttpError
from mcpgateway.wire.readiness import Poller
from mcpgateway.wire.waiting import Wait
from tests.wire.http1 import certificates
from tests.wire.http1.origins import OK, Line, Origin, Script, origin, says, serve_ok
from tests.wire.http1.servers import KINDS

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
BIG = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 16000000\r\n\r\n" + b"x" * 16_000_000
"""More than the kernel keeps for a peer that does not read."""
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Enough(Exception):
    """What a test ends a wait with."""


@pytest.fixture(params=[kind for kind in KINDS if kind != "begun"])
def kind(request: pytest.FixtureRequest) -> str:
    """The transport under the client; requests that are begun have tests of their own."""
    return str(request.param)


@pytest.fixture
def clock() -> MockClock:
    """Time that passes as it does, and can be moved on."""
    return MockClock(rate=1.0)


# ---- responses -------------------------------------------------------------------------------------------------------

BODIES = {
    "length": (OK, b"ok"),
    "chunked": (CHUNKED + b"1\r\no\r\n1;x=y\r\nk\r\n0\r\nTrailer: 1\r\n\r\n", b"ok"),
    "until the end": (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nok", b"ok"),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\nok", b"ok"),
    "interim": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, b"ok"),
    "an offer to upgrade": (OK.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"), b"ok"),
}


@pytest.mark.parametrize("case", BODIES)
async def test_a_response_is_read_whole(kind: str, case: str) -> None:
    data, body = BODIES[case]
    async with origin(kind, says(data)) as site:
        assert await site.get() == (200, body)


@pytest.mark.parametrize("case", BODIES)
async def test_a_response_is_read_in_single_bytes(case: str) -> None:
    data, body = BODIES[case]
    async with origin("edge", says(*(data[n : n + 1] for n in range(len(data))))) as site:
        assert await site.get() == (200, body)


EMPTY = {
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "202": b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("case", EMPTY)
async def test_a_response_without_a_body_ends_with_its_head(kind: str, case: str) -> None:
    async def script(line: Line) -> None:
        while await line.request():
            await line.say(EMPTY[case])

    async with origin(kind, script) as site:
        assert (await site.get())[1] == b""
        assert (await site.get())[1] == b""
        assert site.accepted == 1


async def test_the_headers_of_a_response() -> None:
    async with origin("edge", says(b"HTTP/1.1 200 OK\r\nX-One: 1\r\nx-one: 2\r\nContent-Length: 0\r\n\r\n")) as site:
        response = await site.exchange(GET, Wait())

        assert response.headers == {b"x-one": b"1, 2", b"content-length": b"0"}


async def test_interim_headers_are_not_those_of_the_response() -> None:
    async with origin("edge", says(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)) as site:
        response = await site.exchange(GET, Wait())

        assert b"link" not in response.headers


async def test_a_stream_is_given_piece_by_piece(kind: str) -> None:
    more = trio.Event()

    async def script(line: Line) -> None:
        await line.request()
        await line.say(CHUNKED + b"3\r\none\r\n")
        await more.wait()
        await line.say(b"3\r\ntwo\r\n0\r\n\r\n")
        await line.closed()

    async with origin(kind, script) as site:
        wait = Wait()
        response = await site.exchange(GET, wait)
        assert await response.more(wait) == b"one"
        more.set()
        assert await response.more(wait) == b"two"
        assert await response.more(wait) == b""
        assert await response.more(wait) == b""


async def test_a_large_response_is_read_whole(kind: str) -> None:
    body = bytes(range(256)) * 16_384
    async with origin(kind, says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))) as site:
        assert await site.get(limit=len(body)) == (200, body)


@pytest.mark.parametrize("size", [11, 200_000], ids=["in one piece", "in many"])
async def test_a_response_larger_than_the_limit_is_given_up(kind: str, size: int) -> None:
    response = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (size, b"x" * size)
    async with origin(kind, says(response)) as site:
        with pytest.raises(HttpError, match="larger than 10 bytes"):
            await site.get(limit=10)
        assert site.pool.open_connections == 0


# ---- reuse -----------------------------------------------------------------------------------------------------------


async def test_a_connection_is_kept_and_used_again(kind: str) -> None:
    async with origin(kind, serve_ok) as site:
        for _ in range(5):
            assert await site.get() == (200, b"ok")

        assert (site.accepted, site.pool.open_connections) == (1, 1)


@pytest.mark.parametrize("case", ["until the end", "HTTP/1.0"])
async def test_a_connection_that_ends_with_its_response_is_not_kept(case: str) -> None:
    async with origin("edge", says(BODIES[case][0])) as site:
        await site.get()
        assert site.pool.open_connections == 0
        await site.get()
        assert site.accepted == 2


async def test_the_connection_used_last_is_used_first() -> None:
    used: list[str] = []

    def named(name: str) -> Any:
        async def script(line: Line) -> None:
            while await line.request():
                used.append(name)
                await line.say(OK)

        return script

    async with origin("edge", named("first"), named("second")) as site:
        wait = Wait()
        first = await site.exchange(GET, wait)
        second = await site.exchange(GET, wait)
        await second.read(wait, 10)
        await first.read(wait, 10)
        used.clear()

        for _ in range(3):
            await site.get()

        assert used == ["first"] * 3
        assert site.pool.open_connections == 2


async def test_connections_that_nobody_has_needed_for_long_are_closed(
    kind: str, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "KEPT", 1.0)
    async with origin(kind, serve_ok) as site:
        wait = Wait()
        responses = [await site.exchange(GET, wait) for _ in range(3)]
        for response in responses:
            await response.read(wait, 10)
        assert site.pool.open_connections == 3

        for _ in range(5):
            clock.jump(0.5)
            await site.get()

        assert site.pool.open_connections == 1


@pytest.mark.requirement("4.http.pool")
async def test_a_kept_connection_that_the_peer_has_closed_is_replaced(kind: str, clock: MockClock) -> None:
    async with origin(kind, says(OK), serve_ok) as site:
        await site.get()
        await wait_all_tasks_blocked(0.01)
        clock.jump(1)

        assert await site.get() == (200, b"ok")
        assert (site.accepted, site.pool.open_connections) == (2, 1)


@pytest.mark.requirement("4.http.pool")
async def test_a_request_that_was_sent_is_not_sent_again(clock: MockClock) -> None:
    """It may have had its effect: that the peer closed without a word does not tell."""

    async def script(line: Line) -> None:
        await line.request()
        await line.say(OK)
        await line.request()

    async with origin("edge", script, serve_ok) as site:
        await site.get()

        with pytest.raises(HttpError) as caught:
            await site.get()

        assert caught.value.unsent is False
        assert (site.accepted, site.pool.open_connections) == (1, 0)


async def test_a_request_that_was_sent_in_part_is_not_sent_again() -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.say(OK)
        await line.stream.receive_some(1000)
        line.reset()

    async with origin("edge", script, serve_ok) as site:
        await site.get()

        with pytest.raises(HttpError) as caught:
            await site.send(BIG)

        assert caught.value.unsent is False
        assert (site.accepted, site.pool.open_connections) == (1, 0)


async def test_a_stream_that_was_left_is_finished_when_the_connection_is_needed() -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.say(CHUNKED + b"3\r\none\r\n")
        await line.say(b"0\r\n\r\n")
        await serve_ok(line)

    async with origin("edge", script) as site:
        wait = Wait()
        response = await site.exchange(GET, wait)
        assert await response.more(wait) == b"one"
        response.leave()
        assert site.pool.open_connections == 1
        await wait_all_tasks_blocked(0.01)

        assert await site.get() == (200, b"ok")
        assert site.accepted == 1


async def test_a_stream_that_was_left_and_goes_on_costs_its_connection(kind: str) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.say(CHUNKED + b"3\r\none\r\n")
        await line.closed()

    async with origin(kind, script, serve_ok) as site:
        wait = Wait()
        response = await site.exchange(GET, wait)
        await response.more(wait)
        response.leave()

        assert await site.get() == (200, b"ok")
        assert (site.accepted, site.pool.open_connections) == (2, 1)


async def test_a_response_that_is_closed_costs_its_connection(kind: str) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.say(CHUNKED + b"3\r\none\r\n")
        await line.closed()

    async with origin(kind, script) as site:
        response = await site.exchange(GET, Wait())
        response.close()
        response.close()

        assert site.pool.open_connections == 0
        assert await response.more(Wait()) == b""


SECOND = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-Second: 1\r\n\r\nsecond"


async def test_a_second_response_to_one_request_is_nobodys_answer() -> None:
    """Never mixed with the first, and never given to whoever asks next."""

    async def script(line: Line) -> None:
        await line.request()
        await line.say(OK + SECOND)
        await serve_ok(line)

    async with origin("edge", script, serve_ok) as site:
        try:
            assert await site.get() == (200, b"ok")
        except HttpError:
            pass  # as good an end

        assert await site.get() == (200, b"ok")


async def test_a_response_that_nobody_asked_for_is_nobodys_answer(kind: str, clock: MockClock) -> None:
    said = trio.Event()

    async def script(line: Line) -> None:
        await line.request()
        await line.say(OK)
        await trio.testing.wait_all_tasks_blocked()
        await line.say(SECOND)
        said.set()
        await serve_ok(line)

    async with origin(kind, script, serve_ok) as site:
        await site.get()
        await said.wait()
        await wait_all_tasks_blocked(0.01)

        assert await site.get() == (200, b"ok")


GARBAGE = {
    "text": b"garbage",
    "a body that is longer than it says": b"ay",
    "lines": b"\r\n\r\nSSH-2.0-OpenSSH_9.6\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-",
    "another protocol": b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
}


@pytest.mark.requirement("4.http.pool")
@pytest.mark.parametrize("case", GARBAGE)
@pytest.mark.parametrize("how", ["exchange", "begin"])
async def test_what_follows_a_response_costs_the_connection_only(case: str, how: str) -> None:
    if how == "begin" and not readiness.AVAILABLE:
        pytest.skip("there is no epoll here")
    json = OK.replace(b"OK\r\n", b"OK\r\nContent-Type: application/json\r\n")
    async with origin("edge", second(says(json + GARBAGE[case])), serve_ok) as site:
        await site.get()
        if how == "exchange":
            assert await site.get() == (200, b"ok")
        else:
            response = await Begun(site).outcome()
            assert not isinstance(response, HttpError)
            assert (response.status, response.whole()) == (200, b"ok")

        assert await site.get() == (200, b"ok")
        assert (site.accepted, site.pool.open_connections) == (2, 1)


@pytest.mark.requirement("4.http.pool")
async def test_a_peer_that_closes_after_its_response_says_so_and_is_believed(kind: str) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.say(OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"))
        await line.closed()

    async with origin(kind, script, serve_ok) as site:
        assert await site.get() == (200, b"ok")
        assert site.pool.open_connections == 0
        assert await site.get() == (200, b"ok")


@pytest.mark.requirement("4.http.pool")
async def test_a_kept_connection_that_the_peer_has_reset_is_replaced(kind: str, clock: MockClock) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.say(OK)
        await wait_all_tasks_blocked()
        line.reset()

    async with origin(kind, script, serve_ok) as site:
        await site.get()
        await wait_all_tasks_blocked(0.01)

        assert await site.get() == (200, b"ok")
        assert (site.accepted, site.pool.open_connections) == (2, 1)


async def test_the_heads_of_streams_that_were_left_do_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "MAX_HEAD", 200)

    async def script(line: Line) -> None:
        while await line.request():
            await line.say(CHUNKED[:30])
            await wait_all_tasks_blocked()
            await line.say(CHUNKED[30:] + b"3\r\none\r\n")
            await line.say(b"0\r\n\r\n")

    async with origin("edge", script) as site:
        for _ in range(10):
            wait = Wait()
            response = await site.exchange(GET, wait)
            assert await response.more(wait) == b"one"
            response.leave()
            await wait_all_tasks_blocked(0.001)
        assert site.accepted == 1


# ---- broken responses ------------------------------------------------------------------------------------------------

BROKEN = {
    "nothing": (b"", "without a response"),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-Le", "without a response"),
    "interim only": (b"HTTP/1.1 100 Continue\r\n\r\n", "without a response"),
    "half a body": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "within its response"),
    "half a chunk": (CHUNKED + b"9\r\nhalf", "within its response"),
    "no last chunk": (CHUNKED + b"4\r\nhalf\r\n", "within its response"),
    "not HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n", "not a valid"),
    "a bad chunk": (CHUNKED + b"zz\r\n", "not a valid"),
    "length and chunked": (
        CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n") + b"0\r\n\r\n",
        "not a valid",
    ),
    "another protocol": (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        "switched protocols",
    ),
    "101 headers": (
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X%d: 1\r\n" % n for n in range(101)) + b"Content-Length: 0\r\n\r\n",
        "too many header",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_a_broken_response_is_an_error_that_says_how(kind: str, case: str) -> None:
    data, message = BROKEN[case]
    async with origin(kind, says(data)) as site:
        with pytest.raises(HttpError, match=message) as caught:
            await site.get()

        assert caught.value.unsent is False
        assert site.pool.open_connections == 0


@pytest.mark.parametrize(
    "said",
    [(b"HTTP/1.1 200 OK\r\nX: ", b"x" * (16 << 20)), (b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000,)],
    ids=["one line", "interim responses"],
)
async def test_a_head_without_an_end_is_given_up(said: tuple[bytes, ...]) -> None:
    async with origin("edge", says(*said)) as site:
        with pytest.raises(HttpError, match="head"):
            await site.get()

        assert site.pool.open_connections == 0


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"], ids=["head", "body"])
async def test_a_reset_is_an_error(kind: str, said: bytes) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.say(said)
        await trio.testing.wait_all_tasks_blocked(0.001)
        line.reset()

    async with origin(kind, script) as site:
        with pytest.raises(HttpError) as caught:
            await site.get()

        assert caught.value.unsent is False
        assert site.pool.open_connections == 0


# ---- interrupted in every phase --------------------------------------------------------------------------------------


async def mute(line: Line) -> None:
    await line.closed()


async def deaf(line: Line) -> None:
    if isinstance(line.stream, trio.SSLStream):
        await line.stream.do_handshake()
    await trio.sleep_forever()


async def slow_body(line: Line) -> None:
    await line.request()
    await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
    await line.closed()


@pytest.mark.parametrize(
    ("script", "data"),
    [(deaf, BIG), (mute, GET), (slow_body, GET)],
    ids=["send", "head", "body"],
)
@pytest.mark.parametrize("how", ["ended", "cancelled", "closed"])
async def test_an_interrupted_exchange_leaves_no_connection(kind: str, script: Any, data: bytes, how: str) -> None:
    async with origin(kind, script) as site, trio.open_nursery() as nursery:
        wait, scope = Wait(), trio.CancelScope()
        problems: list[BaseException] = []

        async def call() -> None:
            try:
                with scope:
                    await site.send(data, wait)
            except Exception as problem:
                problems.append(problem)

        nursery.start_soon(call)
        await wait_all_tasks_blocked(0.01)
        assert site.pool.open_connections == 1

        if how == "ended":
            wait.end(Enough())
        elif how == "cancelled":
            scope.cancel(reason="enough")
        else:
            site.pool.close()
        await wait_all_tasks_blocked()

        assert site.pool.open_connections == 0
        expected = {"ended": [Enough], "cancelled": [], "closed": [HttpError]}[how]
        assert [type(problem) for problem in problems] == expected
        assert scope.cancelled_caught is (how == "cancelled")


async def test_closing_the_pool_wakes_who_has_a_stream_but_reads_elsewhere(kind: str) -> None:
    """The next read fails at once, even if the bytes that were there have been read."""
    async with origin(kind, slow_body) as site:
        wait = Wait()
        response = await site.exchange(GET, wait)
        assert await response.more(wait) == b"half"
        site.pool.close()

        with trio.move_on_after(1) as scope, pytest.raises(HttpError):
            await response.more(wait)
        assert not scope.cancelled_caught


async def test_a_closed_pool_says_so() -> None:
    async with origin("edge", serve_ok) as site:
        site.pool.close()

        with pytest.raises(HttpError, match="the client is closed") as caught:
            await site.get()
        assert caught.value.unsent


async def test_close_idle_leaves_the_busy_alone() -> None:
    async with origin("edge", serve_ok) as site:
        wait = Wait()
        idle, busy = [await site.exchange(GET, wait) for _ in range(2)]
        await idle.read(wait, 10)

        await site.pool.close_idle()

        assert site.pool.open_connections == 1
        assert await busy.read(wait, 10) == b"ok"


# ---- without a task --------------------------------------------------------------------------------------------------


class Begun:
    """A request that was begun; ``outcomes`` is all that it was told."""

    def __init__(self, site: Origin, data: bytes = GET, wait: Wait | None = None) -> None:
        self.outcomes: list[Arrived | HttpError] = []
        self._settled = trio.Event()
        self.abandon = site.pool.begin(data, wait or Wait(), self._done, site.pool.deadlines)

    def _done(self, outcome: Arrived | HttpError) -> None:
        self.outcomes.append(outcome)
        self._settled.set()

    async def outcome(self) -> Arrived | HttpError:
        await self._settled.wait()
        (only,) = self.outcomes
        return only


def second(script: Script) -> Script:
    """A first request that is served, so that a connection is kept, and then the script."""

    async def both(line: Line) -> None:
        await line.request()
        await line.say(OK)
        await script(line)

    return both


@pytest.mark.skipif(not readiness.AVAILABLE, reason="there is no epoll here")
class TestBegin:
    """`Pool.begin`: the response is read where its bytes arrive."""

    async def test_there_must_be_a_connection(self) -> None:
        async with origin("edge", serve_ok) as site:
            assert Begun(site).abandon is None
            assert site.accepted == 0

    @pytest.mark.parametrize("kind", ["plain", "tls"])
    async def test_a_connection_that_cannot_be_watched_is_left_to_others(self, kind: str) -> None:
        async with origin(kind, serve_ok) as site:
            await site.get()

            assert Begun(site).abandon is None
            assert await site.get() == (200, b"ok")

    @pytest.mark.parametrize("case", ["length", "chunked", "interim"])
    async def test_the_response_comes_whole(self, case: str) -> None:
        data, body = BODIES[case]
        data = data.replace(b" 200 OK\r\n", b" 200 OK\r\nContent-Type: application/json\r\n")
        async with origin("edge", second(says(*(data[n : n + 7] for n in range(0, len(data), 7))))) as site:
            await site.get()
            response = await Begun(site).outcome()

            assert isinstance(response, Response)
            assert (response.status, response.whole()) == (200, body)

    async def test_the_connection_is_kept(self) -> None:
        async with origin("edge", serve_ok) as site:
            await site.get()
            for _ in range(3):
                response = await Begun(site).outcome()
                assert isinstance(response, Response)
                assert await response.read(Wait(), 10) == b"ok"

            assert (site.accepted, site.pool.open_connections) == (1, 1)

    async def test_an_event_stream_is_handed_over_when_it_begins(self) -> None:
        more = trio.Event()

        async def script(line: Line) -> None:
            await line.request()
            await line.say(
                CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Type: text/event-stream\r\n\r\n") + b"3\r\none\r\n"
            )
            await more.wait()
            await line.say(b"3\r\ntwo\r\n0\r\n\r\n")
            await line.closed()

        async with origin("edge", second(script)) as site:
            await site.get()
            response = await Begun(site).outcome()
            assert isinstance(response, Response)
            wait = Wait()
            assert await response.more(wait) == b"one"
            more.set()
            assert [await response.more(wait), await response.more(wait)] == [b"two", b""]

    @pytest.mark.parametrize("case", [case for case in BROKEN if case != "half a chunk"])
    async def test_a_broken_response_is_an_error(self, case: str) -> None:
        data, message = BROKEN[case]
        data = data.replace(b" 200 OK\r\n", b" 200 OK\r\nContent-Type: application/json\r\n")
        async with origin("edge", second(says(data))) as site:
            await site.get()
            problem = await Begun(site).outcome()

            assert isinstance(problem, HttpError)
            assert message in str(problem)
            assert problem.unsent is False
            assert site.pool.open_connections == 0

    async def test_a_response_beyond_the_limit_is_an_error(self) -> None:
        size = 1 << 20
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % size
        async with origin("edge", second(says(head, b"x" * size))) as site:
            site.pool.limit = 1000
            await site.get()
            problem = await Begun(site).outcome()

            assert isinstance(problem, HttpError)
            assert "larger than 1000 bytes" in str(problem)
            assert site.pool.open_connections == 0

    async def test_who_abandons_is_told_nothing(self) -> None:
        async with origin("edge", second(mute), serve_ok) as site:
            await site.get()
            begun = Begun(site)
            assert begun.abandon is not None
            begun.abandon()
            await wait_all_tasks_blocked(0.01)

            assert begun.outcomes == []
            assert site.pool.open_connections == 0
            assert await site.get() == (200, b"ok")

    async def test_closing_the_pool_tells_who_waits(self) -> None:
        async with origin("edge", second(mute)) as site:
            await site.get()
            begun = Begun(site)
            site.pool.close()

            assert isinstance(await begun.outcome(), HttpError)
            assert site.pool.open_connections == 0

    async def test_many_at_once_each_get_their_own(self) -> None:
        async def script(line: Line) -> None:
            while asked := await line.request():
                path = asked.split()[1]
                await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

        async with origin("edge", script) as site:
            wait = Wait()
            for response in [await site.exchange(GET, wait) for _ in range(20)]:
                await response.read(wait, 10)
            begun = [Begun(site, b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % n) for n in range(20)]
            bodies = []
            for one in begun:
                outcome = await one.outcome()
                assert isinstance(outcome, Response)
                bodies.append(await outcome.read(wait, 10))

            assert bodies == [b"/%d" % n for n in range(20)]
            assert site.accepted == 20


# ---- dialling --------------------------------------------------------------------------------------------------------


class Resolver(trio.abc.HostnameResolver):
    """A resolver that fails, or never answers."""

    def __init__(self, problem: OSError | None) -> None:
        self._problem = problem

    async def getaddrinfo(self, *args: Any, **kwargs: Any) -> Any:
        await trio.lowlevel.checkpoint()
        if self._problem is not None:
            raise self._problem
        await trio.sleep_forever()

    async def getnameinfo(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


@asynccontextmanager
async def pool(url: str, problem: OSError | None = None, **options: Any) -> AsyncIterator[Pool]:
    """A pool whose names are resolved by a `Resolver`."""
    trio.socket.set_custom_hostname_resolver(Resolver(problem))
    made = Pool(url, Poller(), **options)
    try:
        yield made
    finally:
        trio.socket.set_custom_hostname_resolver(None)
        made.close()
        assert made.open_connections == 0


async def test_a_refused_connection_says_so() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        refused = Pool(f"http://127.0.0.1:{port}/", Poller())
        with pytest.raises(HttpError, match=r"^cannot connect: Connection refused$") as caught:
            await refused.exchange(GET, Wait(), DEFAULT)

    assert caught.value.unsent


async def test_a_name_that_is_unknown_says_so() -> None:
    problem = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    async with pool("http://nowhere.invalid/", problem) as unknown:
        with pytest.raises(HttpError, match=r"^cannot connect: Name or service not known$") as caught:
            await unknown.exchange(GET, Wait(), DEFAULT)

    assert caught.value.unsent


async def test_a_dial_has_its_deadline(autojump_clock: MockClock) -> None:
    async with pool("http://slow.invalid/", deadlines=Deadlines(connect=7)) as slow:
        with pytest.raises(HttpError, match=r"no connection within 7 s \(connect_timeout\)") as caught:
            await slow.exchange(GET, Wait(), slow.deadlines)

    assert trio.current_time() == 7
    assert caught.value.unsent


async def test_a_dial_can_be_ended(autojump_clock: MockClock) -> None:
    async with pool("http://slow.invalid/") as slow, trio.open_nursery() as nursery:
        wait = Wait()

        async def end() -> None:
            await trio.sleep(3)
            wait.end(Enough())

        nursery.start_soon(end)
        with pytest.raises(Enough):
            await slow.exchange(GET, wait, slow.deadlines)

    assert trio.current_time() == 3


@pytest.mark.parametrize("url", ["ftp://h/", "http:///x", "h:80", ""])
def test_what_is_no_url_of_ours_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not an http or https URL"):
        Pool(url, Poller())


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h/x", ("h", 80, False)),
        ("https://h/x", ("h", 443, True)),
        ("http://[::1]:81/", ("::1", 81, False)),
        ("HTTPS://H:8443", ("h", 8443, True)),
    ],
)
def test_where_a_url_leads(url: str, expected: Iterable[object]) -> None:
    made = Pool(url, Poller())

    assert (made.host, made.port, made.secure) == expected


# ---- TLS -------------------------------------------------------------------------------------------------------------


async def test_a_name_that_the_certificate_lacks_is_refused() -> None:
    async with origin("tls", serve_ok, host="127.0.0.2") as site:
        with pytest.raises(HttpError) as caught:
            await site.get()
    assert caught.value.unsent


async def test_an_unknown_authority_is_refused_and_named() -> None:
    async with origin("tls", serve_ok) as site:
        stranger = Pool(f"https://127.0.0.1:{site.pool.port}/", Poller(), tls=ssl.create_default_context)
        with pytest.raises(HttpError, match=r"^cannot connect: .*CERTIFICATE_VERIFY_FAILED") as caught:
            await stranger.exchange(GET, Wait(), DEFAULT)

        assert caught.value.unsent
        assert stranger.open_connections == 0


async def test_a_peer_that_speaks_no_tls_is_refused() -> None:
    async def script(line: Line) -> None:
        await line.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with origin("plain", script) as site:
        secure = Pool(f"https://127.0.0.1:{site.pool.port}/", Poller(), tls=certificates.trusting)
        with pytest.raises(HttpError, match=r"^cannot connect: "):
            await secure.exchange(GET, Wait(), DEFAULT)

        assert secure.open_connections == 0


async def test_a_tls_handshake_can_be_ended() -> None:
    async with origin("plain", mute) as site, trio.open_nursery() as nursery:
        secure = Pool(f"https://127.0.0.1:{site.pool.port}/", Poller(), tls=certificates.trusting)
        wait = Wait()
        raised: list[Exception] = []

        async def call() -> None:
            try:
                await secure.exchange(GET, wait, DEFAULT)
            except Enough as problem:
                raised.append(problem)

        nursery.start_soon(call)
        await wait_all_tasks_blocked(0.01)
        wait.end(Enough())
        await wait_all_tasks_blocked()

        assert len(raised) == 1
        assert secure.open_connections == 0
