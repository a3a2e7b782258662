"""Text that fits a line of a log, whoever wrote it. Pure."""

from __future__ import annotations

import re
from typing import Final

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escaped(text: str) -> str:
    """The text on one line: control characters, and those that turn the direction of writing, as ``\\n`` and the like.

    What is written in its place stands for the same in JSON, too.
    """
    return _CONTROL.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    character = found.group()
    return _SHORT.get(character) or f"\\u{ord(character):04x}"


def shortened(text: str, limit: int) -> str:
    """A text of at most ``limit`` characters; of a longer one the beginning, and its length."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
