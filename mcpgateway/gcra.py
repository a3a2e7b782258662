"""The generic cell rate algorithm: a token bucket whose whole state is one number.

The state is the *theoretical arrival time* (ITU-T I.371, "virtual scheduling"): the moment at which everything
admitted so far would have been due, one each ``period``. Something may come before its time by as much as the burst
allows. Nothing refills and nothing ticks, so that a limiter per key is one float in a dict. Pure: the caller brings
the clock.
"""

from __future__ import annotations

import math
from typing import Final

import attrs

FRESH: Final = -math.inf
"""The state of a key that was never seen: its whole burst is there."""


@attrs.frozen
class Rate:
    """One every ``period`` seconds, with up to ``burst`` at once.

    Over any window of ``w`` seconds no more than ``burst + w / period`` are admitted.

    :raises ValueError: a period that is not above 0, a burst below 1
    """

    period: float
    burst: int = 1

    def __attrs_post_init__(self) -> None:
        if not 0 < self.period < math.inf:
            raise ValueError(f"the period must be above 0 s, not {self.period!r}")
        if self.burst < 1:
            raise ValueError(f"the burst must be 1 or more, not {self.burst!r}")

    @classmethod
    def per_minute(cls, count: float, burst: int = 1) -> Rate:
        """``count`` a minute, with up to ``burst`` at once."""
        if not 0 < count < math.inf:
            raise ValueError(f"the count per minute must be above 0, not {count!r}")
        return cls(60.0 / count, burst)

    def take(self, state: float, now: float, cost: int = 1) -> tuple[float, float]:
        """Ask for ``cost`` units at ``now`` (seconds of any clock); returns ``(new state, wait)``.

        ``wait`` is 0 where they are admitted. Where they are refused the state is unchanged, and ``wait`` is how many
        seconds from now the same request is admitted if nothing else is meanwhile; ``inf`` if it never fits the burst.
        0.2 µs.
        """
        if cost > self.burst:
            return state, math.inf
        ready = state - (self.burst - cost) * self.period
        if now >= ready:
            return max(state, now) + cost * self.period, 0.0
        return state, _seconds_until(ready, now)

    def is_fresh(self, state: float, now: float) -> bool:
        """Whether the state says no more than `FRESH` does, and need not be kept."""
        return state <= now


def _seconds_until(ready: float, now: float) -> float:
    """``ready - now``, rounded up so that ``now + wait >= ready`` holds in floats too."""
    wait = ready - now
    while now + wait < ready:
        wait = math.nextafter(wait, math.inf)
    return wait
