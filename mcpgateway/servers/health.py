"""Whether one server is well: what its failures keep calls from, for how long, and how it shows to be well again.

Two things can be wrong. It cannot be reached, or does not stay (`Attempts`): then there is no link, and a pause before
the next is made. Or it has links, and calls on them fail (`Breaker`): then it gets none until it has answered a ping.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import trio
from msgspec import Raw

from mcpgateway.backoff import Backoff
from mcpgateway.config.model import Recovery
from mcpgateway.errors import ServerError
from mcpgateway.servers.attempts import Attempts
from mcpgateway.servers.breaker import Breaker, Circuit
from mcpgateway.servers.ledger import Slot
from mcpgateway.servers.links import Links, later
from mcpgateway.servers.pings import ping

log = logging.getLogger("mcpgateway.server")

PATIENCE: Final = 2.0
"""Seconds that a call waits for a server which was well until lately. One that keeps failing is not worth the wait."""


class Health:
    """The health of the server whose ``links`` these are. ``moved`` is unparked when anything about it changes.

    ``probe`` makes a link where there is none to ask on; ``handshake`` are the params of the gateway's own handshake.
    """

    def __init__(
        self,
        name: str,
        links: Links,
        recovery: Recovery,
        *,
        moved: trio.lowlevel.ParkingLot,
        probe: Callable[[], Awaitable[None]],
        handshake: Raw,
        random: Callable[[], float],
    ) -> None:
        self._name = name
        self._links = links
        self._moved = moved
        self._probe = probe
        self._handshake = handshake
        self._random = random
        self.breaker = Breaker(backoff_of(recovery), recovery.failures)

    def reset(self, recovery: Recovery) -> None:
        """Begin anew, under other rules."""
        self.breaker = Breaker(backoff_of(recovery), recovery.failures)
        self._links.attempts = attempts_of(recovery)

    def answered(self, slot: Slot) -> None:
        """A call on a leased link was answered; needed once for a link, and while `Breaker.failures` is not zero."""
        slot.answered = True
        if self.breaker.answered():
            log.info("server %r is well again", self._name)
            self._moved.unpark_all()

    def failed(self, slot: Slot | None, problem: ServerError) -> None:
        """A call failed, on a leased link. The loss of a link is no failure of calls: another will be made."""
        if not problem.unwell or (slot is not None and slot.link is not None and slot.link.closed.is_set()):
            return
        if self.breaker.failed(problem.reason, trio.current_time(), self._random()):
            log.warning("server %r gets no calls until it answers a ping: %s", self._name, problem.reason)
            self._links.free.clear()
            self._moved.unpark_all()

    @property
    def failing(self) -> bool:
        """Whether it gets no calls although it may have links."""
        return self.breaker.state is Circuit.OPEN

    async def sit_out(self) -> None:
        """Wait while a server that was well until lately has failed, if it is to be tried again soon.

        :raises NotTried: it is not
        """
        patience = trio.current_time() + PATIENCE
        while True:
            now = trio.current_time()
            attempts = self._links.attempts
            if self.failing:
                reason, retry_at, until = self.breaker.reason, self.breaker.retry_at, patience
                promising = self.breaker.openings == 1
            elif attempts.pause(now) and not self._links.usable:
                reason, retry_at, until = attempts.reason, attempts.retry_at, attempts.retry_at
                promising = attempts.promising
            elif attempts.failures and self._links.making and not self._links.usable:
                await self._moved.park()  # one attempt at a time, whose outcome is everybody's
                continue
            else:
                return
            if not promising or retry_at > patience or now >= patience:
                raise later(self._name, reason, max(retry_at - now, 1.0))
            with trio.move_on_at(until):
                await self._moved.park()

    async def run(self) -> None:
        """While the breaker is open, ask the server now and then whether it is well; for ever."""
        while True:
            breaker = self.breaker
            if breaker.state is not Circuit.OPEN:
                await self._moved.park()
                continue
            with trio.move_on_at(breaker.retry_at):
                await self._moved.park()
            if trio.current_time() >= breaker.retry_at and breaker.state is Circuit.OPEN:
                problem = await self._ask()
                breaker.pinged(problem, trio.current_time(), self._random())
                self._moved.unpark_all()

    async def _ask(self) -> str | None:
        """Ask for a sign of life, on a link that is there or a new one; why there was none, if so."""
        slot = next((slot for slot in self._links.slots if slot.usable and slot.link is not None), None)
        if slot is None or slot.link is None:
            await self._probe()
            return self._links.attempts.reason or None
        return await ping(slot.link, self._handshake)

    def retry_in(self) -> float | None:
        """Seconds until the next attempt, or ping; ``None`` where none is due."""
        now, attempts = trio.current_time(), self._links.attempts
        if self.failing:
            return max(self.breaker.retry_at - now, 0.0)
        return None if self._links.usable or attempts.exhausted else attempts.pause(now) or None

    def failures(self) -> int:
        """Failed attempts in a row while there is no link, else calls in a row that failed."""
        return self.breaker.failures if self._links.usable else self._links.attempts.failures

    def reason(self) -> str:
        return self._links.attempts.reason or self.breaker.reason


def backoff_of(recovery: Recovery) -> Backoff:
    return Backoff(initial=recovery.initial, maximum=recovery.maximum)


def attempts_of(recovery: Recovery) -> Attempts:
    return Attempts(backoff_of(recovery), recovery.attempts)
