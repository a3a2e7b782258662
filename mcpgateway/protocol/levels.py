"""The levels of log messages by severity (RFC 5424, as MCP has them), and who reads what."""

from __future__ import annotations

from typing import Final

LEVELS: Final = {
    level: rank
    for rank, level in enumerate(("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"))
}
"""Every level with its rank, the most verbose first."""


def louder(one: str, other: str | None) -> str:
    """The more verbose of two keys of `LEVELS`, of which the second may be absent."""
    return one if other is None or passes(other, one) else other


def passes(level: str | None, least: str) -> bool:
    """Whether a message of a level is for who asked for ``least``, a key of `LEVELS`.

    A message without a level passes, and so does one of a level that nobody knows: better read than lost.
    """
    return level is None or LEVELS.get(level, len(LEVELS)) >= LEVELS[least]
