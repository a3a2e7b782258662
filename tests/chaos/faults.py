"""When a server fails, and how: one named moment each."""

from __future__ import annotations

import enum
from collections import Counter
from typing import Final

import attrs
import trio


class Moment(enum.Enum):
    """Where in the life of a connection, or of an exchange on it."""

    CONNECT = "when it is connected to"
    BEFORE = "before its reply"
    HEADERS = "after the headers of its reply"
    BODY = "in the middle of its reply"
    LINE = "before the last byte of its reply"
    AFTER = "after its reply"
    CLOSE = "when it is closed"


class Way(enum.Enum):
    FAILS = "fails"
    HANGS = "hangs"


@attrs.frozen
class Fault:
    moment: Moment
    way: Way

    def __str__(self) -> str:
        return f"{self.way.value} {self.moment.value}"


FAULTS: Final = tuple(Fault(moment, way) for moment in Moment for way in Way)


class Failing:
    """The faults of one server, and when calls on it may have suffered from them.

    A server is in trouble from when a fault is armed until ``recovery`` seconds after it was healed: for so long the
    gateway may hold off calls. What hangs is healed by a restart only, see `hung`.
    """

    def __init__(self, name: str, recovery: float) -> None:
        self.name = name
        self.fired: Counter[Fault] = Counter()
        """How often each fault happened."""
        self.hung = False
        """Something of the server hangs, and will until it is restarted."""
        self._recovery = recovery
        self._fault: Fault | None = None
        self._times = 0
        self._troubles: list[tuple[float, float]] = []

    def arm(self, fault: Fault, times: int) -> None:
        """Let the fault happen so many times, in the place of any other."""
        self._fault, self._times = fault, times
        self.trouble(float("inf"))

    def take(self, *moments: Moment) -> Fault | None:
        """The fault that happens at one of these moments, if one does now."""
        fault = self._fault
        if fault is None or fault.moment not in moments:
            return None
        self._times -= 1
        if self._times == 0:
            self._fault = None
        self.fired[fault] += 1
        self.hung = self.hung or fault.way is Way.HANGS
        return fault

    def heal(self, *, restarted: bool) -> None:
        """No more faults; the troubles are over when the gateway has had its time to notice."""
        self._fault, self._times = None, 0
        if restarted:
            self.hung = False
        if not self.hung:
            now = trio.current_time()
            self._troubles = [(since, min(until, now + self._recovery)) for since, until in self._troubles]

    def trouble(self, until: float | None = None) -> None:
        """Note that calls may suffer, until then or for the usual time."""
        now = trio.current_time()
        self._troubles.append((now, now + self._recovery if until is None else until))

    def troubled(self, since: float) -> bool:
        """Whether a call that began then, and goes on, may have suffered."""
        return any(until >= since for _, until in self._troubles)
