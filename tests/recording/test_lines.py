"""Text on a line of a log."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpgateway.recording.lines import escaped, shortened


@given(st.text())
def test_what_is_escaped_is_one_line_without_controls_whoever_splits_it(text: str) -> None:
    shown = escaped(text)

    assert len(shown.splitlines()) <= 1
    assert not any(unicodedata.category(character) == "Cc" for character in shown)
    assert escaped(shown) == shown


@given(st.text())
def test_json_that_is_escaped_says_the_same(text: str) -> None:
    assert json.loads(escaped(json.dumps(text, ensure_ascii=False))) == text


@pytest.mark.requirement("feature.107")
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\r\nb", "a\\r\\nb"),
        ("\x1b[31mred", "\\u001b[31mred"),
        ("a\u2028b\x85c", "a\\u2028b\\u0085c"),
        ("user\u202egpj.exe", "user\\u202egpj.exe"),
        ("größe 数", "größe 数"),
    ],
)
def test_characters_that_forge_lines_colours_or_directions_are_spelt_out(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_a_long_text_is_cut_and_its_length_said() -> None:
    assert shortened("x" * 10, 10) == "x" * 10
    assert shortened("x" * 11, 10) == "xxxxxxxxxx… (11 characters)"
