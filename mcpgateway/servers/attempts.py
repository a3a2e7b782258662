"""When a server that failed may be tried again: the failures in a row and the pause that they make. Pure."""

from __future__ import annotations

import math
from typing import Final

import attrs

from mcpgateway.backoff import Backoff

UP: Final = 0.5
"""Seconds that a link must last for its loss to be no failure, where it has answered no call. A server that is killed
now and then is started again at once; one that accepts and then closes, or starts and then exits, must not make a busy
loop."""

LATELY: Final = 2
"""Failures in a row that a server has which was up until lately."""


@attrs.define
class Attempts:
    """The attempts to reach one server. Times are absolute seconds of one clock."""

    backoff: Backoff
    limit: int
    """Failures in a row after which nobody tries without need."""
    failures: int = 0
    """Failures in a row."""
    reason: str = ""
    """Why the last one failed; empty once a link was made again."""
    retry_at: float = -math.inf
    """When the next attempt may be made."""
    was_up: bool = False
    """A link was made at some time."""

    @property
    def promising(self) -> bool:
        """Whether the next attempt is worth waiting for: it was up until lately."""
        return self.was_up and self.failures <= LATELY

    @property
    def exhausted(self) -> bool:
        return self.failures >= self.limit

    def failed(self, reason: str, now: float, unit: float) -> None:
        """Note a failure; ``unit`` is a random number in [0, 1)."""
        self.reason = reason
        self.retry_at = now + self.backoff.delay(self.failures, unit)
        self.failures += 1

    def made(self) -> None:
        """Note that a link was made. Whether that ends the row is known when the link is lost."""
        self.reason = ""
        self.retry_at = -math.inf
        self.was_up = True

    def lost(self, reason: str, lasted: float, now: float, unit: float) -> None:
        """Note that a link ended by itself after ``lasted`` seconds, for ever if it was of use to anybody.

        The first that did not last is forgiven.
        """
        if lasted >= UP:
            self.failures = 0
        elif self.failures:
            self.failed(reason, now, unit)
        else:
            self.failures = 1

    def pause(self, now: float) -> float:
        """Seconds until the next attempt may be made."""
        return min(self.backoff.maximum, max(0.0, self.retry_at - now))  # a difference of sums may be a hair above
