"""The accepting side of a WebSocket: handshakes, and frames however they are cut."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from mcpgateway.wire.websocket_server import Closed, Frames, NotWebSocket, Part, Reply, Text, accept, text_frame

HANDSHAKE = {
    b"host": b"h",
    b"connection": b"keep-alive, Upgrade",
    b"upgrade": b"WebSocket",
    b"sec-websocket-version": b"13",
    b"sec-websocket-key": b"dGhlIHNhbXBsZSBub25jZQ==",
}
LIMIT = 100


def client() -> Connection:
    return Connection(ConnectionType.CLIENT)


def without(name: bytes) -> dict[bytes, bytes]:
    return {key: value for key, value in HANDSHAKE.items() if key != name}


@pytest.mark.parametrize(("offered", "taken"), [(b"", b""), (b"other", b""), (b"mcp", b"mcp"), (b"other, mcp", b"mcp")])
def test_a_handshake_is_accepted_and_the_subprotocol_where_it_is_offered(offered: bytes, taken: bytes) -> None:
    head = accept({**HANDSHAKE, **({b"sec-websocket-protocol": offered} if offered else {})})

    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head  # RFC 6455, 1.3
    assert (b"ec-websocket-protocol: mcp" in head.lower()) == bool(taken)
    assert b"extensions" not in head.lower()


BAD = {
    "no upgrade": (without(b"upgrade"), 426),
    "another upgrade": ({**HANDSHAKE, b"upgrade": b"h2c"}, 426),
    "no key": (without(b"sec-websocket-key"), 400),
    "no version": (without(b"sec-websocket-version"), 400),
    "another version": ({**HANDSHAKE, b"sec-websocket-version": b"8"}, 426),
    "no connection": (without(b"connection"), 400),
    "a subprotocol that is none": ({**HANDSHAKE, b"sec-websocket-protocol": b"\xff"}, 400),
    "a header that is none": ({**HANDSHAKE, b"sec-websocket-x": b"\x00"}, 400),
}


@pytest.mark.parametrize("case", BAD)
def test_a_handshake_that_is_none(case: str) -> None:
    headers, status = BAD[case]
    with pytest.raises(NotWebSocket) as caught:
        accept(headers)
    assert caught.value.status == status
    assert (b"Sec-WebSocket-Version: 13" in caught.value.fields) == (status == 426)


@given(texts=st.lists(st.text(max_size=30), max_size=6), cuts=st.lists(st.integers(0, 300), max_size=10))
def test_messages_survive_however_they_are_cut(texts: list[str], cuts: list[int]) -> None:
    peer, frames = client(), Frames(LIMIT * 4)
    data = b"".join(peer.send(TextMessage(data=text)) for text in texts)
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[start:end] for start, end in pairwise(edges)]
    got = [event.data for piece in pieces for event in frames.received(piece) if isinstance(event, Text)]

    assert got == [text.encode() for text in texts]
    back = b"".join(frames.text(text.encode()) for text in texts)
    peer.receive_data(back)
    assert "".join(str(event.data) for event in peer.events() if isinstance(event, TextMessage)) == "".join(texts)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 125, 126, 65535, 65536, 100_000])
def test_a_message_of_any_length_is_one_frame(size: int, masked: bool) -> None:
    peer = Connection(ConnectionType.SERVER) if masked else client()
    message = bytes(ord("a") + n % 26 for n in range(size))
    sent = text_frame(message, masked=masked)
    peer.receive_data(sent + text_frame(b"next", masked=masked))

    *pieces, last = [event.data for event in peer.events() if isinstance(event, TextMessage)]

    assert "".join(map(str, pieces)) == message.decode()
    assert last == "next"
    if masked and size > 3:
        assert message not in sent
        assert sent != text_frame(message, masked=True), "the key is another one each time"


def test_fragments_are_one_message_and_pings_between_them_are_answered() -> None:
    peer, frames = client(), Frames(LIMIT)
    events = [
        *frames.received(peer.send(TextMessage(data="a", message_finished=False))),
        *frames.received(peer.send(Ping(b"now"))),
        *frames.received(peer.send(TextMessage(data="ü"))),
    ]
    assert [type(event) for event in events] == [Part, Reply, Text]
    assert events[2] == Text("aü".encode())
    assert isinstance(events[1], Reply)
    peer.receive_data(events[1].data)
    assert list(peer.events()) == [Pong(b"now")]


def closed_with(frames: Frames, data: bytes, peer: Connection) -> int:
    """The code with which the gateway closes upon some bytes."""
    *_, last = frames.received(data)
    assert isinstance(last, Closed)
    peer.receive_data(last.data)
    (event,) = peer.events()
    assert isinstance(event, CloseConnection)
    assert list(frames.received(b"\x81\x01x")) == []
    return event.code


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (client().send(BytesMessage(data=b"x")), 1003),
        (client().send(TextMessage(data="x" * (LIMIT + 1))), 1009),
        (client().send(TextMessage(data="ü" * (LIMIT // 2 + 1))), 1009),
        (b"\x81\x81\x00\x00\x00\x00\xff", 1007),
        (b"\xf1\x81\x00\x00\x00\x00x", 1002),
        (b"\x81\x01x", 1002),
        (b"\x83\x81\x00\x00\x00\x00x", 1002),
    ],
    ids=["binary", "long", "long in bytes", "no UTF-8", "reserved bits", "unmasked", "no opcode"],
)
def test_what_breaks_the_rules_is_told_which(data: bytes, code: int) -> None:
    assert closed_with(Frames(LIMIT), data, client()) == code


def test_many_fragments_are_too_long_together() -> None:
    peer, frames = client(), Frames(LIMIT)
    for _ in range(10):
        assert all(isinstance(event, Part) for event in frames.received(peer.send(fragment("x" * 10))))
    assert closed_with(frames, peer.send(fragment("x")), peer) == 1009


def fragment(text: str) -> TextMessage:
    return TextMessage(data=text, message_finished=False)


@pytest.mark.parametrize("code", [1000, 1001, 4000, None])
def test_a_goodbye_is_answered_in_kind(code: int | None) -> None:
    peer, frames = client(), Frames(LIMIT)
    said = b"\x88\x80\x00\x00\x00\x00" if code is None else peer.send(CloseConnection(code=code, reason="bye"))
    (closed,) = frames.received(said)
    assert isinstance(closed, Closed)
    assert closed.data[:1] == b"\x88"
    assert frames.text(b"late") == frames.ping() == frames.close(1000) == b""


def test_our_goodbye_is_said_once_and_its_answer_is_the_end() -> None:
    peer, frames = client(), Frames(LIMIT)
    peer.receive_data(frames.close(1001, "over"))
    (said,) = peer.events()
    assert isinstance(said, CloseConnection)
    assert said.code == 1001
    assert frames.close(1001) == b""
    late = peer.send(said.response())
    assert list(frames.received(late)) == [Closed(b"", code=1001, reason="over")]


@given(st.binary(max_size=200))
def test_no_bytes_are_too_odd(data: bytes) -> None:
    frames = Frames(LIMIT)
    events = list(frames.received(data))
    assert all(not isinstance(event, Closed) for event in events[:-1])


@pytest.mark.parametrize("piece", ["", "x", "xy", "é"])
def test_a_message_in_many_pieces_takes_no_more_than_its_bytes(piece: str) -> None:
    peer, accepted = client(), Frames(1 << 20)
    first, more = (peer.send(TextMessage(data=piece, message_finished=False)) for _ in range(2))
    list(accepted.received(first))
    tracemalloc.start()
    try:
        for _ in range(20):
            for _ in accepted.received(more * 50):
                pass
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1001 * len(piece.encode()) * 1.3 + 2_000
