"""WebSockets that we dialled, and peers that do everything that peers do."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    TextMessage,
)

from mcpgateway.errors import LAST_WORDS, TooBusy
from mcpgateway.wire import websocket
from mcpgateway.wire.websocket import CannotConnect, HandshakeRefused, Terms, dial
from tests.wire.http1 import certificates
from tests.wire.websocket_peer import Opened, Peer, break_writing, make, opened, refused

QUIET = Terms(interval=1e6)
"""No pings."""


@pytest.fixture
async def pair() -> AsyncIterator[Opened]:
    async with opened(QUIET) as pair:
        yield pair


# ---- dialling --------------------------------------------------------------------------------------------------------


async def listening(nursery: trio.Nursery, tls: ssl.SSLContext | None = None) -> int:
    """The port of a listener that says nothing."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port: int = listener.socket.getsockname()[1]

    async def hear(stream: trio.abc.Stream) -> None:
        try:
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass

    if tls is None:
        nursery.start_soon(trio.serve_listeners, hear, [listener])
    else:
        nursery.start_soon(trio.serve_listeners, hear, [trio.SSLListener(listener, tls)])
    return port


async def test_it_is_dialled_with_and_without_tls(nursery: trio.Nursery) -> None:
    plain = await dial(f"ws://127.0.0.1:{await listening(nursery)}/x", certificates.trusting, 5.0)
    assert isinstance(plain, trio.SocketStream)
    await plain.aclose()
    port = await listening(nursery, certificates.listening())
    secure = await dial(f"wss://127.0.0.1:{port}/x", certificates.trusting, 5.0)
    assert isinstance(secure, trio.SSLStream)
    await trio.aclose_forcefully(secure)


async def test_a_certificate_that_nobody_trusts(nursery: trio.Nursery) -> None:
    port = await listening(nursery, certificates.listening())
    with pytest.raises(CannotConnect, match=r"^cannot connect: .*certificate verify failed"):
        await dial(f"wss://127.0.0.1:{port}/x", ssl.create_default_context, 5.0)


async def test_files_that_cannot_be_used_are_told_before_anybody_is_dialled() -> None:
    def unusable() -> ssl.SSLContext:
        raise ssl.SSLError("no certificate in ca.pem")

    with pytest.raises(CannotConnect, match=r"^cannot connect: .*no certificate in ca\.pem"):
        await dial("wss://127.0.0.1:1/x", unusable, 5.0)


async def test_nobody_there() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    with pytest.raises(CannotConnect, match=r"^cannot connect: Connection refused$"):
        await dial(f"ws://127.0.0.1:{port}/x", certificates.trusting, 5.0)


async def test_a_peer_that_is_silent_about_tls(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = 0.05
    port = await listening(nursery)
    with pytest.raises(CannotConnect, match=r"^no connection within 5 s \(connect_timeout\)$"):
        await dial(f"wss://127.0.0.1:{port}/x", certificates.trusting, 5.0)


# ---- the handshake ---------------------------------------------------------------------------------------------------


async def test_the_handshake_asks_for_what_is_configured() -> None:
    async with opened(Terms(headers=[(b"authorization", b"Bearer t")])) as pair:
        request = pair.peer.request
        assert request is not None
        assert (request.host, request.target, request.subprotocols) == ("example.com", "/mcp?key=k", ["mcp"])
        assert (b"authorization", b"Bearer t") in request.extra_headers


async def test_a_server_need_not_name_the_subprotocol() -> None:
    pair = make(QUIET)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.peer.accept, None)
        await nursery.start(pair.run)
        nursery.cancel_scope.cancel(reason="it has")


async def test_a_refusal_has_its_status_and_headers() -> None:
    async def refuse(peer: Peer) -> None:
        headers = [(b"content-type", b"text/html"), (b"content-length", b"2")]
        await peer.send(RejectConnection(status_code=403, headers=headers, has_body=True))
        await peer.send(RejectData(data=b"no", body_finished=True))

    problem = await refused(refuse)
    assert isinstance(problem, HandshakeRefused)
    assert (problem.status, problem.headers[b"content-type"]) == (403, b"text/html")
    assert str(problem) == "answered the WebSocket handshake with HTTP 403"


SOMETHING_ELSE = "answered the WebSocket handshake with something else"
NO_HANDSHAKES: dict[str, tuple[bytes, str]] = {
    "garbage": (b"\x00\x01\x02 hello\r\n\r\n", SOMETHING_ELSE),
    "another protocol": (b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", SOMETHING_ELSE),
    "no key": (b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", SOMETHING_ELSE),
    "a wrong key": (
        b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n",
        SOMETHING_ELSE,
    ),
    "nothing": (b"", "closed the connection during the WebSocket handshake"),
    "half a head": (b"HTTP/1.1 101 Swi", "closed the connection during the WebSocket handshake"),
}


@pytest.mark.parametrize("case", NO_HANDSHAKES)
@pytest.mark.requirement("5.bad.websocket")
async def test_a_peer_that_is_no_websocket_server(case: str) -> None:
    data, expected = NO_HANDSHAKES[case]

    async def act(peer: Peer) -> None:
        if data:
            await peer.stream.send_all(data)
        await peer.stream.aclose()

    problem = await refused(act)
    assert not isinstance(problem, HandshakeRefused)
    assert str(problem) == expected


async def test_another_subprotocol_is_refused() -> None:
    async def act(peer: Peer) -> None:
        answer = peer.protocol.send(AcceptConnection(extra_headers=[(b"sec-websocket-protocol", b"graphql")]))
        await peer.stream.send_all(answer)

    assert str(await refused(act)) == SOMETHING_ELSE


async def test_a_handshake_can_be_given_up(autojump_clock: MockClock) -> None:
    for lockstep in False, True:  # with the request sent, and with a peer that does not even read that
        pair = make(QUIET, lockstep=lockstep)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_run_in_vain, pair, "the attempt was given up")
            await wait_all_tasks_blocked()
            await pair.socket.aclose()
    assert trio.current_time() == 0.0


async def test_a_peer_that_does_not_read_the_handshake(autojump_clock: MockClock) -> None:
    pair = make(Terms(timeout=7.0), lockstep=True)
    await _run_in_vain(pair, "has read nothing for 7 s although messages are waiting")
    assert trio.current_time() == 7.0


async def _run_in_vain(pair: Opened, why: str) -> None:
    with pytest.raises(CannotConnect) as caught:
        await pair.run()
    assert str(caught.value) == why


# ---- messages --------------------------------------------------------------------------------------------------------


async def test_messages_go_both_ways_in_order(pair: Opened) -> None:
    for number in range(100):
        pair.socket.put(b"%d \xc3\xa9" % number)
    for number in range(100):
        assert await pair.peer.message() == f"{number} é"
        await pair.peer.say(f"é {number}")
    await wait_all_tasks_blocked()
    assert pair.received == [f"é {number}".encode() for number in range(100)]


async def test_a_message_may_come_in_pieces_with_pings_between(pair: Opened) -> None:
    peer = pair.peer
    data = peer.protocol.send(TextMessage(data='{"a', message_finished=False))
    data += peer.protocol.send(Ping(payload=b"now"))
    data += peer.protocol.send(TextMessage(data='":1}'))
    for byte in data:
        await peer.stream.send_all(bytes([byte]))
    assert await peer.next() == Pong(payload=b"now")
    await wait_all_tasks_blocked()
    assert pair.received == [b'{"a":1}']


async def test_a_binary_frame_is_dropped(pair: Opened) -> None:
    await pair.peer.send(BytesMessage(data=b"{}"))
    await pair.peer.say("{}")
    await wait_all_tasks_blocked()
    assert pair.dropped == ["a binary frame"]
    assert pair.received == [b"{}"]


async def test_a_reply_that_comes_right_before_the_end_is_not_lost(pair: Opened) -> None:
    data = b"".join(pair.peer.protocol.send(TextMessage(data=str(number))) for number in range(500))
    await pair.peer.stream.send_all(data)
    await pair.peer.stream.aclose()
    assert await pair.outcome() == "closed its connection without saying so"
    assert len(pair.received) == 500


async def test_more_than_may_wait_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "QUEUE_LIMIT", 1000)
    async with opened(QUIET, lockstep=True) as pair:
        pair.socket.put(b"x" * 600)
        await wait_all_tasks_blocked()
        with pytest.raises(TooBusy, match=r"^6\d\d bytes are waiting for a server that does not read them$"):
            pair.socket.put(b"x" * 500)
        pair.socket.put(b"x" * 300)
        assert await pair.peer.message() == "x" * 600
        assert await pair.peer.message() == "x" * 300
        await wait_all_tasks_blocked()
        pair.socket.put(b"x" * 900)


async def test_it_reads_and_answers_pings_while_its_peer_reads_nothing() -> None:
    """Where a reader waits for its pong to be sent, two such peers wait for each other for ever."""
    async with opened(QUIET, lockstep=True) as pair:
        pair.socket.put(b"x" * 500_000)
        for number in range(3):
            await pair.peer.send(Ping(payload=b"%d" % number))
            await pair.peer.say(str(number))
        await wait_all_tasks_blocked()
        assert pair.received == [b"0", b"1", b"2"]
        assert await pair.peer.message() == "x" * 500_000
        assert [await pair.peer.next() for _ in range(3)] == [Pong(payload=b"%d" % number) for number in range(3)]


# ---- liveness --------------------------------------------------------------------------------------------------------


async def test_pings_that_are_answered_keep_it(autojump_clock: MockClock) -> None:
    async with opened(Terms(interval=30.0, timeout=10.0)) as pair, trio.open_nursery() as nursery:
        nursery.start_soon(pair.peer.oblige)
        await trio.sleep(3600.0)
        assert not pair.ended.is_set()
        nursery.cancel_scope.cancel(reason="an hour is enough")


@pytest.mark.requirement("5.bad.websocket")
async def test_a_pong_that_never_comes_ends_it(autojump_clock: MockClock) -> None:
    async with opened(Terms(interval=30.0, timeout=10.0)) as pair:
        assert await pair.outcome() == "did not answer a ping within 10 s (keepalive)"
        assert trio.current_time() == 40.0
        with pytest.raises(trio.ClosedResourceError):
            pair.socket.put(b"late")


async def test_a_pong_may_be_late_while_bytes_move(autojump_clock: MockClock) -> None:
    async with opened(Terms(interval=30.0, timeout=10.0)) as pair:
        for _ in range(10):
            await trio.sleep(9.0)
            await pair.peer.say("busy")
        assert await pair.outcome() == "did not answer a ping within 10 s (keepalive)"
        assert trio.current_time() == 100.0


@pytest.mark.requirement("5.bad.websocket")
async def test_a_peer_that_stops_reading_is_dropped_within_its_deadline(autojump_clock: MockClock) -> None:
    async with opened(Terms(interval=1e6, timeout=10.0), lockstep=True) as pair:
        await trio.sleep(5.0)
        pair.socket.put(b"x")
        assert await pair.outcome() == "has read nothing for 10 s although messages are waiting"
        assert trio.current_time() == 15.0


async def test_a_peer_that_floods_with_pings_and_reads_nothing_is_dropped(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(websocket, "QUEUE_LIMIT", 1000)
    async with opened(QUIET, lockstep=True) as pair:
        with pytest.raises(trio.BrokenResourceError):
            await flood(pair.peer)
        assert (await pair.outcome()).endswith(" bytes are waiting for a peer that does not read them")


async def flood(peer: Peer) -> None:
    while True:
        await peer.send(Ping(payload=b"x" * 100))


# ---- the end ---------------------------------------------------------------------------------------------------------


async def test_it_says_goodbye(autojump_clock: MockClock) -> None:
    async with opened(QUIET) as pair, trio.open_nursery() as nursery:
        pair.socket.put(b"last")
        await wait_all_tasks_blocked()
        nursery.start_soon(pair.socket.aclose)
        nursery.start_soon(pair.socket.aclose)
        assert await pair.peer.message() == "last"
        goodbye = await pair.peer.next()
        assert isinstance(goodbye, CloseConnection)
        assert goodbye.code == 1000
        assert not pair.ended.is_set()
        with pytest.raises(trio.ClosedResourceError):
            pair.socket.put(b"late")
        await pair.peer.send(goodbye.response())
        assert await pair.outcome() == "the link was closed"
        await pair.socket.aclose()
    assert trio.current_time() == 0.0


async def test_a_goodbye_that_is_not_answered_is_waited_for_no_longer_than_courtesy(autojump_clock: MockClock) -> None:
    async with opened(QUIET) as pair:
        await pair.socket.aclose()
        assert trio.current_time() == websocket.COURTESY
        assert await pair.outcome() == "the link was closed"


async def test_a_ping_that_meets_the_goodbye_does_no_harm() -> None:
    async with opened(QUIET) as pair, trio.open_nursery() as nursery:
        nursery.start_soon(pair.socket.aclose)
        await wait_all_tasks_blocked()
        await pair.peer.send(Ping(payload=b"still there?"))
        assert await pair.outcome() == "the link was closed"


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (1000, None, "closed the WebSocket with code 1000 (NORMAL_CLOSURE)"),
        (1001, None, "closed the WebSocket with code 1001 (GOING_AWAY)"),
        (1011, "boom", f"closed the WebSocket with code 1011 (INTERNAL_ERROR){LAST_WORDS}boom"),
        (4000, "mine", f"closed the WebSocket with code 4000 (PRIVATE_RESERVED){LAST_WORDS}mine"),
    ],
)
async def test_a_peer_says_why_it_closes(pair: Opened, code: int, reason: str | None, expected: str) -> None:
    await pair.peer.send(CloseConnection(code=code, reason=reason))
    answer = await pair.peer.next()
    assert isinstance(answer, CloseConnection)
    assert answer.code == code
    assert await pair.outcome() == expected


BROKEN: dict[str, tuple[bytes, int | None, str]] = {
    "half a frame": (b"\x81\x05he", None, "closed its connection without saying so"),
    "no UTF-8": (b"\x81\x02\xff\xff", 1007, "broke the WebSocket protocol: "),
    "reserved bits": (b"\xf1\x01x", 1002, "broke the WebSocket protocol: "),
    "masked": (b"\x81\x81\x00\x00\x00\x00x", 1002, "broke the WebSocket protocol: "),
    "an opcode that is none": (b"\x83\x00", 1002, "broke the WebSocket protocol: "),
    "a continuation of nothing": (b"\x80\x01x", 1002, "broke the WebSocket protocol: "),
    "a long ping": (b"\x89\x7e\x00\x80" + b"x" * 128, 1002, "broke the WebSocket protocol: "),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.requirement("5.bad.websocket")
async def test_frames_that_are_none_end_it_with_the_right_code(pair: Opened, case: str) -> None:
    data, code, expected = BROKEN[case]
    await pair.peer.stream.send_all(data)
    if code is None:
        await pair.peer.stream.aclose()
    else:
        goodbye = await pair.peer.next()
        assert isinstance(goodbye, CloseConnection)
        assert goodbye.code == code
    assert (await pair.outcome()).startswith(expected)
    assert not pair.received


@given(st.lists(st.binary(max_size=20) | st.sampled_from(sorted(data for data, _, _ in BROKEN.values())), max_size=6))
def test_whatever_comes_is_a_message_or_the_end_and_nothing_is_raised(pieces: list[bytes]) -> None:
    async def converse() -> str:
        async with opened(QUIET) as pair:
            for piece in pieces:
                if not pair.ended.is_set():
                    await pair.peer.stream.send_all(piece)
                    await wait_all_tasks_blocked()
            await pair.peer.stream.aclose()
            return await pair.outcome()

    assert trio.run(converse, clock=MockClock(autojump_threshold=0))


async def test_a_message_beyond_the_limit_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "FRAME_LIMIT", 1000)
    async with opened(QUIET) as pair:
        await pair.peer.say("x" * 1000)
        await wait_all_tasks_blocked()
        assert [len(message) for message in pair.received] == [1000]
        await pair.peer.say("x" * 1001)
        goodbye = await pair.peer.next()
        assert isinstance(goodbye, CloseConnection)
        assert goodbye.code == 1009
        assert await pair.outcome() == "sent a message longer than 1000 bytes"


async def test_a_connection_that_breaks_while_it_is_written_to_is_read_to_its_end(autojump_clock: MockClock) -> None:
    async with opened(QUIET) as pair:
        half = pair.peer.stream
        await pair.peer.say("last")
        break_writing(half)
        pair.socket.put(b"x")
        assert (await pair.outcome()).startswith("the connection broke: ")
        assert pair.received == [b"last"]


async def test_cancelled_it_breaks_off_at_once(autojump_clock: MockClock) -> None:
    async with opened(QUIET, lockstep=True) as pair:
        pair.socket.put(b"x")
        await wait_all_tasks_blocked()
    assert trio.current_time() == 0.0
    with pytest.raises(trio.BrokenResourceError):
        await pair.peer.stream.send_all(b"x")
