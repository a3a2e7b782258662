"""The circuit breaker of one server: calls that fail in a row stop the next ones, until a ping is answered. Pure.

==========  ===========================  ==========================================================================
state       calls                        what changes it
==========  ===========================  ==========================================================================
closed      are made                     so many failures in a row: open
open        fail at once                 the pause is over and a ping is answered: half open; it is not: open again,
                                         with a longer pause
half open   are made                     one is answered: closed; one fails: open again, with a longer pause
==========  ===========================  ==========================================================================

A call that was under way when the breaker opened, and is answered all the same, closes it. What fails at about the same
time (a connection that carried many calls has broken) is one failure.
"""

from __future__ import annotations

import enum
import math
from typing import Final

import attrs

from mcpgateway.backoff import Backoff

SAME: Final = 0.1
"""Seconds after a failure in which further ones say nothing new."""


class Circuit(enum.Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@attrs.define
class Breaker:
    """Counts what becomes of calls. Times are absolute seconds of one clock."""

    backoff: Backoff
    limit: int
    """Failures in a row that open it."""
    failures: int = 0
    """Failures in a row; while zero, nobody has to tell of successes."""
    state: Circuit = Circuit.CLOSED
    reason: str = ""
    """Why the last call failed, while it is not closed."""
    retry_at: float = -math.inf
    """When the server may be asked whether it is well, while it is open."""
    openings: int = 0
    """Times in a row that it opened."""
    _failed_at: float = -math.inf

    def failed(self, reason: str, now: float, unit: float) -> bool:
        """Note that a call failed because of the server; whether that opened the breaker."""
        if self.state is Circuit.OPEN or now < self._failed_at + SAME:
            return False
        self._failed_at = now
        self.failures += 1
        if self.state is Circuit.CLOSED and self.failures < self.limit:
            return False
        self._open(reason, now, unit)
        return True

    def answered(self) -> bool:
        """Note that a call was answered, whatever the answer; whether the breaker had not been closed."""
        was = self.state
        self.failures = self.openings = 0
        self.state = Circuit.CLOSED
        self.reason = ""
        return was is not Circuit.CLOSED

    def pinged(self, problem: str | None, now: float, unit: float) -> None:
        """Note what became of the ping: ``None`` if it was answered."""
        if self.state is not Circuit.OPEN:
            return
        if problem is None:
            self.state = Circuit.HALF_OPEN
            self._failed_at = -math.inf
        else:
            self._open(problem, now, unit)

    def _open(self, reason: str, now: float, unit: float) -> None:
        self.state = Circuit.OPEN
        self.reason = reason
        self.retry_at = now + self.backoff.delay(self.openings, unit)
        self.openings += 1
