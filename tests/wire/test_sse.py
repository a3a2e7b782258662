"""Server-sent events: what the parser reads however it is cut, and that it reads what the encoder writes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcpgateway.wire.sse import COMMENT, EventTooLarge, Frame, Parser, encode


def parse(*chunks: bytes, limit: int = 1 << 24) -> list[Frame]:
    parser = Parser(limit)
    return [frame for chunk in chunks for frame in parser.feed(chunk)]


CASES: dict[str, tuple[bytes, list[Frame]]] = {
    "one event": (b"data: x\n\n", [Frame(b"x")]),
    "no space": (b"data:x\n\n", [Frame(b"x")]),
    "two spaces": (b"data:  x\n\n", [Frame(b" x")]),
    "no colon": (b"data\n\n", [Frame(b"")]),
    "a colon inside": (b"data: a:b: c\n\n", [Frame(b"a:b: c")]),
    "several lines": (b"data: a\ndata:\ndata: b\n\n", [Frame(b"a\n\nb")]),
    "a name": (b"event: endpoint\ndata: /x\n\n", [Frame(b"/x", b"endpoint")]),
    "an empty name": (b"event:\ndata: x\n\n", [Frame(b"x")]),
    "an id": (b"id: 7\ndata: x\n\n", [Frame(b"x", id=b"7")]),
    "an id of no event before": (b"id: 7\ndata: x\n\ndata: y\n\n", [Frame(b"x", id=b"7"), Frame(b"y")]),
    "an id with NUL": (b"id: a\0b\ndata: x\n\n", [Frame(b"x")]),
    "the last id counts": (b"id: 1\nid: 2\ndata: x\n\n", [Frame(b"x", id=b"2")]),
    "priming": (b"id: 1\ndata:\n\n", [Frame(b"", id=b"1")]),
    "an id alone": (b"id: 1\n\n", [Frame(b"", id=b"1")]),
    "retry": (b"retry: 500\ndata: x\n\n", [Frame(b"x", retry=b"500")]),
    "retry that is no number": (b"retry: 5s\ndata: x\n\n", [Frame(b"x")]),
    "retry that is no ASCII number": ("retry: ٣\ndata: x\n\n".encode(), [Frame(b"x")]),
    "comments": (b": hi\n\n:\n\ndata: x\n: in between\ndata: y\n\n" + COMMENT, [Frame(b"x\ny")]),
    "unknown fields": (b"color: red\n\ncolor: red\ndata: x\n\n", [Frame(b"x")]),
    "a field by another case": (b"Data: x\n\n", []),
    "a name alone": (b"event: ping\n\n", []),
    "empty lines": (b"\n\n\n\ndata: x\n\n\n\n", [Frame(b"x")]),
    "an event without an end": (b"data: x\n\ndata: lost\n", [Frame(b"x")]),
    "CR": (b"data: x\rdata: y\r\rdata: z\r\r", [Frame(b"x\ny"), Frame(b"z")]),
    "CRLF": (b"data: x\r\ndata: y\r\n\r\ndata: z\r\n\r\n", [Frame(b"x\ny"), Frame(b"z")]),
    "all line ends": (b"data: x\r\ndata: y\rdata: z\n\r\n", [Frame(b"x\ny\nz")]),
    "LF, then CR": (b"data: x\n\rdata: y\n\n", [Frame(b"x"), Frame(b"y")]),
    "BOM": (b"\xef\xbb\xbfdata: x\n\n", [Frame(b"x")]),
    "BOM later": (b"data: x\n\n\xef\xbb\xbfdata: y\n\n", [Frame(b"x")]),
    "half a BOM": (b"\xef\xbbdata: x\n\ndata: y\n\n", [Frame(b"y")]),
    "line ends of Unicode": (
        'data: {"t":"a\u2028b\u2029c\u0085d\x0be\x0cf"}\n\n'.encode(),
        [Frame('{"t":"a\u2028b\u2029c\u0085d\x0be\x0cf"}'.encode())],
    ),
    "not UTF-8": (b"data: \xff\xfe\n\n", [Frame(b"\xff\xfe")]),
    "nothing": (b"", []),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_stream_says(case: str) -> None:
    data, frames = CASES[case]

    assert parse(data) == frames


@pytest.mark.parametrize("case", CASES)
def test_a_stream_may_come_in_single_bytes(case: str) -> None:
    data, frames = CASES[case]

    assert parse(*(data[n : n + 1] for n in range(len(data)))) == frames


lines = st.sampled_from(
    [
        b"data: x",
        b"data",
        b"data:  \xe2\x80\xa8",
        b"id: 1",
        b"id: \0",
        b"event: e",
        b"retry: 1",
        b": c",
        b"",
        b"",
        b"other",
    ]
)
ends = st.sampled_from([b"\n", b"\r", b"\r\n"])
streams = st.tuples(
    st.sampled_from([b"", b"\xef\xbb\xbf"]), st.lists(st.tuples(lines, ends).map(b"".join), max_size=20).map(b"".join)
).map(b"".join)


@given(streams, st.lists(st.integers(0, 200), max_size=8))
@example(b"data: x\n: c\r\n", [12, 12])
def test_any_cut_gives_the_same_frames(data: bytes, cuts: list[int]) -> None:
    bounds = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    chunks = [data[start:end] for start, end in pairwise(bounds)]

    assert parse(*chunks) == parse(data)


@given(st.lists(lines, max_size=20), st.lists(ends, min_size=20, max_size=20))
def test_any_line_end_gives_the_same_frames(texts: list[bytes], mixed: list[bytes]) -> None:
    """Except that a CR before an empty line that ends with LF is one line end, not two."""
    plain = b"".join(text + b"\n" for text in texts)
    kinds = ends_without_ambiguity(mixed)

    assert parse(b"".join(text + end for text, end in zip(texts, kinds, strict=False))) == parse(plain)


def ends_without_ambiguity(kinds: list[bytes]) -> list[bytes]:
    """CR and LF never meet where they belong to two lines."""
    return [
        b"\r\n" if kind == b"\r" and following == b"\n" else kind
        for kind, following in zip(kinds, [*kinds[1:], b""], strict=True)
    ]


@given(st.binary(max_size=300), st.integers(1, 7))
def test_no_bytes_are_too_odd(data: bytes, size: int) -> None:
    assert parse(*(data[n : n + size] for n in range(0, len(data), size))) == parse(data)


token = st.binary(max_size=12).filter(lambda value: not set(value) & {0, 10, 13} and value[:1] != b" ")


@given(
    st.lists(
        st.builds(
            Frame,
            st.binary(max_size=60),
            st.just(b"message") | token.filter(bool),
            st.none() | token,
            st.none() | st.integers(0, 10**6).map(lambda number: b"%d" % number),
        ),
        max_size=5,
    ),
    st.integers(1, 50),
)
def test_the_parser_reads_what_the_encoder_writes(frames: list[Frame], size: int) -> None:
    stream = b"".join(encode(frame.data, event=frame.event, id=frame.id, retry=frame.retry) for frame in frames)
    expected = [
        Frame(frame.data.replace(b"\r\n", b"\n").replace(b"\r", b"\n"), frame.event, frame.id, frame.retry)
        for frame in frames
    ]

    assert parse(*(stream[n : n + size] for n in range(0, len(stream), size))) == expected


def test_an_encoded_event_to_the_byte() -> None:
    assert encode(b'{"a":1}', id=b"7", retry=b"3") == b'event: message\nid: 7\nretry: 3\ndata: {"a":1}\n\n'
    assert encode(b'{\r\n"a":1}') == b'event: message\ndata: {\ndata: "a":1}\n\n'
    assert encode(b"") == b"event: message\ndata: \n\n"


def test_a_large_event_is_read_in_linear_time() -> None:
    data = b"x" * (10 << 20)
    stream = encode(data)

    assert parse(*(stream[n : n + 4096] for n in range(0, len(stream), 4096))) == [Frame(data)]


def test_an_event_of_many_lines_is_read() -> None:
    assert parse(b"data: x\n" * 50_000 + b"\n") == [Frame(b"\n".join([b"x"] * 50_000))]


@pytest.mark.parametrize(
    "chunks",
    [[b"data: " + b"x" * 200], [b"data: x\n"] * 40, [b"x" * 50] * 3],
    ids=["one line", "many lines", "a line without an end"],
)
def test_an_event_beyond_the_limit_is_an_error(chunks: list[bytes]) -> None:
    with pytest.raises(EventTooLarge, match="larger than 100 bytes"):
        parse(*chunks, limit=100)


def test_the_limit_is_for_one_event_and_not_for_the_stream() -> None:
    assert len(parse(*[b"data: " + b"x" * 80 + b"\n\n"] * 100, limit=100)) == 100


def test_comments_cost_nothing_however_many() -> None:
    parser = Parser(100)
    for _ in range(1000):
        assert parser.feed(b": still here\n") == []

    assert parser.feed(b"data: x\n\n") == [Frame(b"x")]
