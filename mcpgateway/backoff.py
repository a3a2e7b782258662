"""How long to wait before trying again: exponential, capped, jittered. Pure: the caller brings chance and sleeps."""

from __future__ import annotations

import math

import attrs


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)


@attrs.frozen
class Backoff:
    """Delays of ``initial · multiplierⁿ`` seconds up to ``maximum``, each shortened by chance by up to ``jitter``.

    The jitter lies inside the cap: it only ever shortens, so that ``maximum`` is kept, and it still spreads out those
    who have all reached the maximum. The defaults are those of the WebSocket bridge: 1 s, 2 s, 4 s … 10 min.

    :raises ValueError: a field that is out of bounds, with a message of its own
    """

    initial: float = 1.0
    """Seconds, above zero: a zero would be a busy loop."""
    maximum: float = 600.0
    """Seconds, not below ``initial``."""
    multiplier: float = 2.0
    """Not below 1."""
    jitter: float = 0.1
    """The share of a delay that chance may take away, 0 to 1."""

    def __attrs_post_init__(self) -> None:
        _require(0 < self.initial < math.inf, f"the initial delay must be above 0 s, not {self.initial!r}")
        _require(
            self.initial <= self.maximum < math.inf,
            f"the maximum delay must be finite and not below the initial {self.initial!r} s, not {self.maximum!r}",
        )
        _require(1 <= self.multiplier < math.inf, f"the multiplier must be 1 or more, not {self.multiplier!r}")
        _require(0 <= self.jitter <= 1, f"the jitter must be from 0 to 1, not {self.jitter!r}")

    def delay(self, attempt: int, unit: float) -> float:
        """Seconds to wait after failure number ``attempt``, counted from 0.

        ``unit`` is the caller's random number in [0, 1). The delay lies in ``[base · (1 - jitter), base]``, where
        ``base`` is ``min(initial · multiplier ** attempt, maximum)``.

        :raises ValueError: a negative attempt
        """
        _require(attempt >= 0, f"attempts are counted from 0, not {attempt!r}")
        return self._base(attempt) * (1 - self.jitter * unit)

    def _base(self, attempt: int) -> float:
        try:
            growth = self.multiplier**attempt
        except OverflowError:
            return self.maximum
        return min(self.initial * growth, self.maximum)
