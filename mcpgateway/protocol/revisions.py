"""The revisions of MCP and the two eras they fall into."""

from __future__ import annotations

import enum
from typing import Final


class Era(enum.Enum):
    """How a peer speaks MCP: with a handshake and sessions, or stateless."""

    LEGACY = "legacy"
    """``initialize`` handshake, revisions 2024-11-05 … 2025-11-25."""
    MODERN = "modern"
    """Stateless requests that each carry their own envelope, revision 2026-07-28."""


LEGACY_REVISIONS: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN_REVISIONS: Final = ("2026-07-28",)
LATEST_LEGACY: Final = LEGACY_REVISIONS[-1]
LATEST_MODERN: Final = MODERN_REVISIONS[-1]
REVISION_WITHOUT_HEADER: Final = "2025-03-26"
"""What a Streamable HTTP request without ``MCP-Protocol-Version`` is taken to be (2025-06-18, transports)."""
PRIMED_SINCE: Final = "2025-11-25"
"""The revision from which on clients take events without data, which begin a stream (transports)."""

_ERAS = {**dict.fromkeys(LEGACY_REVISIONS, Era.LEGACY), **dict.fromkeys(MODERN_REVISIONS, Era.MODERN)}


def era_of(revision: str) -> Era | None:
    """The era of a revision; ``None`` for one that this gateway does not know."""
    return _ERAS.get(revision)


def negotiate_legacy(requested: str) -> str:
    """The revision that answers an ``initialize``: the one asked for if it is known, else our latest legacy one."""
    return requested if requested in LEGACY_REVISIONS else LATEST_LEGACY


def revisions_of(era: Era) -> tuple[str, ...]:
    """The revisions of an era, oldest first."""
    return LEGACY_REVISIONS if era is Era.LEGACY else MODERN_REVISIONS
