"""Standard error of children: what is logged, what is kept, and that a flood costs little."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpgateway.wire.last_words import BURST, CHARACTERS, LINES_KEPT, LINES_PER_SECOND, LastWords, printable

AT_ONCE = BURST * LINES_PER_SECOND


def said(words: LastWords, *chunks: bytes, now: float = 0.0) -> list[str]:
    return [text for chunk in chunks for text in words.feed(chunk, now)] + words.end(now)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"a\tb", "a b"),
        ("é".encode(), "é"),
        (b"\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\u2028b".encode(), r"a\u2028b"),
        (b"\xff\x00", r"\xff\x00"),
        (b"\x1b[31mred\x1b[0m", "red"),
    ],
)
def test_printable(line: bytes, text: str) -> None:
    assert printable(line) == text


def test_lines_are_logged_without_their_ends_and_blank_ones_not_at_all() -> None:
    words = LastWords()
    assert said(words, b"one\r\n\n  \ntw", b"o\n", b"half") == ["one", "two", "half"]
    assert str(words) == "one\ntwo\nhalf"


def test_what_was_left_out_is_counted_and_told_before_the_next_line() -> None:
    words = LastWords()
    lines = b"".join(b"%d\n" % number for number in range(AT_ONCE + 10))
    assert words.feed(lines, 100.0) == [str(number) for number in range(AT_ONCE)]
    assert words.feed(b"later\n", 101.0) == ["(10 lines left out)", "later"]
    assert words.feed(b"last\n", 101.0) == ["last"]
    assert len(words.feed(lines, 101.0)) == LINES_PER_SECOND - 2


def test_what_was_left_out_is_told_at_the_end_too() -> None:
    assert said(LastWords(), b"x\n" * (AT_ONCE + 3))[AT_ONCE:] == ["(3 lines left out)"]


def test_a_server_may_be_told_not_to_be_logged_at_all() -> None:
    words = LastWords(rate=0)
    assert said(words, b"one\ntwo\n", now=100.0) == ["(2 lines left out)"]
    assert str(words) == "one\ntwo"


def test_of_a_flood_the_last_lines_are_kept() -> None:
    words = LastWords()
    words.feed(b"".join(b"%d\n" % number for number in range(30_000)), 0)
    assert str(words).split("\n") == [str(number) for number in range(30_000 - LINES_KEPT, 30_000)]


def test_last_words_are_few() -> None:
    words = LastWords()
    for number in range(100):
        words.feed(b"%d " % number + b"x" * 500 + b"\n", 0)
    assert len(str(words)) == CHARACTERS
    words.feed(b"z" * 100_000 + b"\n", 0)
    assert str(words) == "z" * CHARACTERS


def test_of_a_line_without_end_the_head_is_held_and_no_more() -> None:
    words = LastWords()
    words.feed(b"begins ", 0)
    for _ in range(100):
        assert words.feed(b"x" * 65536, 0) == []
        assert len(words._half) <= 32 * 1024
    (text,) = words.feed(b"\n", 0)
    assert text == "begins " + "x" * (CHARACTERS - 7)


def test_short_values_are_no_secrets_and_long_ones_go_first() -> None:
    assert said(LastWords(["UTC", "abcdef", "abcdefgh"]), b"UTC abcdefgh abcdef") == ["UTC *** ***"]


def test_a_secret_of_several_lines_is_hidden_line_by_line() -> None:
    key = "-----BEGIN-----\nMIIEowIBAAKCAQEA\n-----END-----"
    assert said(LastWords([key]), key.encode() + b"\n") == ["***", "***", "***"]


def test_a_secret_is_hidden_before_a_long_line_is_cut() -> None:
    line = b"x" * (CHARACTERS - 4) + b"hunter2hunter2"
    for words in (LastWords(["hunter2hunter2"]),):
        assert said(words, line) == ["x" * (CHARACTERS - 4) + "***"]
        assert "hunt" not in str(words)


_LINE = st.binary(min_size=1, max_size=6).filter(lambda line: line.strip() and b"\n" not in line)
_LINES = st.lists(_LINE, max_size=2 * AT_ONCE)


@given(
    _LINES | st.integers(0, 2 * AT_ONCE).map(lambda count: [b"%d" % n for n in range(count)]),
    st.integers(1, 400),
    st.booleans(),
)
def test_any_chunking_says_the_same(lines: list[bytes], size: int, ended: bool) -> None:
    """Within one instant: the first lines are logged, all others counted, the last kept."""
    stream = b"\n".join(lines) + b"\n" * ended
    chunks = [stream[start : start + size] for start in range(0, len(stream), size)]
    texts = [printable(line.strip()) for line in lines]
    left_out = len(lines) - AT_ONCE

    words = LastWords()
    told = [f"({left_out} lines left out)"] if left_out > 0 else []
    assert said(words, *chunks) == texts[:AT_ONCE] + told
    assert str(words) == "\n".join(texts[-LINES_KEPT:])


@given(st.lists(st.tuples(st.binary(max_size=300), st.floats(0, 2)), max_size=30))
def test_never_more_is_logged_than_the_rate_allows(chunks: list[tuple[bytes, float]]) -> None:
    words, now, logged = LastWords(), 0.0, 0
    for chunk, pause in chunks:
        now += pause
        logged += len([text for text in words.feed(chunk * 50, now) if not text.endswith("lines left out)")])
    assert logged <= AT_ONCE + LINES_PER_SECOND * now + 1
