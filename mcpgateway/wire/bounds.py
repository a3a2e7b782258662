"""How much clients may hold: of each kind of thing so much in all, and so much for one address.

Only counting, with no clock and no I/O, in constant time for each event. `Bound` counts what is refused when there is
too much of it (streams, calls, bytes); `Places` also knows who could make room (connections, sessions).

Who makes room, so that a flood does not push out everybody else: at an address's own bound, that address; at the bound
of all, the address that has most, for it is the one whose users lose least by it, or the flood itself.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Generic, TypeVar

import attrs

from mcpgateway.config.limits import Limits
from mcpgateway.errors import TooBusy, TooMany

T = TypeVar("T")

OUTBOX_BYTES: Final = 1024 * 1024
"""Of one session, unless its configuration says otherwise."""


def address_of(peer: str) -> str:
    """What the client at ``peer`` counts as: its IPv4 address, or the /64 of its IPv6 address, all of which is one
    user's to choose from; anything else (a Unix socket, say) as it is."""
    if ":" not in peer:
        return peer
    try:
        address = ipaddress.IPv6Address(peer.partition("%")[0])
    except ValueError:
        return peer
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


@attrs.frozen
class BoundStatistics:
    """One bound at one moment."""

    held: int
    limit: int
    refused: int
    """How often somebody was turned away, so far."""
    displaced: int
    """How often somebody idle had to make room, so far."""


class Bound:
    """How many of one kind there are, and may be. ``rule`` is its key in ``listen.limits``, ``what`` its plural.

    An address that holds nothing is forgotten.
    """

    __slots__ = ("_of", "displaced", "held", "limit", "per_address", "refused", "rule", "what")

    def __init__(self, rule: str, what: str, limit: int, per_address: int | None = None) -> None:
        self.rule = rule
        self.what = what
        self.limit = limit
        self.per_address = max(1, limit // 2) if per_address is None else per_address
        self.held = 0
        self.refused = 0
        self.displaced = 0
        self._of: dict[str, int] = {}

    def of(self, address: str) -> int:
        """How many an address has."""
        return self._of.get(address, 0)

    @property
    def addresses(self) -> Mapping[str, int]:
        """Who has how many; never 0."""
        return self._of

    def crowded(self, address: str, amount: int = 1) -> bool:
        """Whether so many more are too many for one address, where that may have less than there may be in all."""
        return self._of.get(address, 0) + amount > self.per_address < self.limit

    def room(self, address: str, amount: int = 1) -> bool:
        """Whether an address may have so many more."""
        return self.held + amount <= self.limit and self._of.get(address, 0) + amount <= self.per_address

    def add(self, address: str, amount: int = 1) -> None:
        """Count so many more, whatever the bound says."""
        self.held += amount
        self._of[address] = self._of.get(address, 0) + amount

    def take(self, address: str, amount: int = 1) -> None:
        """Count so many more.

        :raises TooMany: they are too many for one address
        :raises TooBusy: they are too many in all
        """
        held, has = self.held + amount, self._of.get(address, 0) + amount
        if held > self.limit or has > self.per_address:
            raise self.refusal(address, amount)
        self.held = held
        self._of[address] = has

    def release(self, address: str, amount: int = 1) -> None:
        """Count so many less, of those that were added for this address."""
        self.held -= amount
        left = self._of[address] - amount
        if left:
            self._of[address] = left
        else:
            del self._of[address]

    def refusal(self, address: str, amount: int = 1) -> TooBusy:
        """The error for an address that may not have more; counted."""
        self.refused += 1
        if self.crowded(address, amount):
            text = f"no more than {self.per_address} {self.what} at a time for one address"
            return TooMany(text, rule=f"{self.rule}_per_address")
        return TooBusy(f"no more than {self.limit} {self.what} at a time (listen.limits.{self.rule})")

    def statistics(self) -> BoundStatistics:
        return BoundStatistics(self.held, self.limit, self.refused, self.displaced)

    def __repr__(self) -> str:
        return f"<Bound {self.rule} {self.held}/{self.limit}>"


class Places(Generic[T]):
    """Who holds what a `Bound` counts, each address's in the order of last use, as far as that is told."""

    def __init__(self, bound: Bound) -> None:
        self.bound = bound
        self._rows: dict[str, OrderedDict[T, None]] = {}
        """By address."""
        self._ranks: dict[int, OrderedDict[str, None]] = {}
        """Addresses by how many they hold, in the order of last use."""
        self._most = 0

    def __len__(self) -> int:
        return self.bound.held

    def add(self, address: str, holder: T) -> None:
        """Give a place."""
        row = self._rows.setdefault(address, OrderedDict())
        row[holder] = None
        self.bound.add(address)
        self._rank(address, len(row) - 1, len(row))

    def used(self, address: str, holder: T) -> None:
        """Somebody in a place has been active, and goes last."""
        row = self._rows[address]
        row.move_to_end(holder)
        self._ranks[len(row)].move_to_end(address)

    def remove(self, address: str, holder: T) -> None:
        row = self._rows[address]
        del row[holder]
        self.bound.release(address)
        self._rank(address, len(row) + 1, len(row))
        if not row:
            del self._rows[address]

    def _rank(self, address: str, before: int, now: int) -> None:
        if before:
            del self._ranks[before][address]
            if not self._ranks[before]:
                del self._ranks[before]
        if now:
            self._ranks.setdefault(now, OrderedDict())[address] = None
        if now > self._most or self._most not in self._ranks:
            self._most = now  # one step at a time, so the next rank is this one

    def make_room(self, address: str, idle: Callable[[T], bool]) -> T | None:
        """Who has to go, if a newcomer from this address is to come; ``None`` while there is room.

        Looks for as long as it finds nobody idle, and at each holder once at most.

        :raises TooMany: all that this address has are busy, and it may not have more
        :raises TooBusy: all are busy
        """
        if self.bound.room(address):
            return None
        for holder in self._rows[address] if self.bound.crowded(address) else self._all():
            if idle(holder):
                self.bound.displaced += 1
                return holder
        raise self.bound.refusal(address)

    def _all(self) -> Iterator[T]:
        for rank in range(self._most, 0, -1):
            for address in self._ranks.get(rank, ()):
                yield from self._rows[address]


@attrs.frozen
class OutboxBounds:
    """What one session may have in its outbox."""

    events: int
    bytes: int


def _of_outbox(limits: Limits) -> OutboxBounds:
    bytes = limits.outbox_bytes_per_session or min(OUTBOX_BYTES, limits.outbox_bytes)
    return OutboxBounds(limits.outbox_events_per_session, bytes)


class Bounds:
    """All bounds of one gateway on what its clients hold."""

    def __init__(self, limits: Limits) -> None:
        self.connections = Bound("connections", "busy connections", limits.connections, limits.connections_per_address)
        self.sessions = Bound("sessions", "busy sessions", limits.sessions, limits.sessions_per_address)
        self.streams = Bound("streams", "streams", limits.streams, limits.streams_per_address)
        self.calls = Bound("calls", "calls in flight", limits.calls, limits.calls_per_address)
        self.bodies = Bound(
            "bodies_bytes",
            "bytes of requests being received",
            limits.bodies_bytes,
            limits.bodies_bytes_per_address or max(limits.bodies_bytes // 2, limits.body_bytes),
        )
        self.replies = Bound(
            "replies_bytes", "bytes of replies being sent", limits.replies_bytes, limits.replies_bytes_per_address
        )
        self.outboxes = Bound("outbox_bytes", "bytes of events kept", limits.outbox_bytes, limits.outbox_bytes)
        self.of_outbox = _of_outbox(limits)

    def change(self, limits: Limits) -> None:
        """Have other limits from now on. Whoever has more than that keeps it."""
        for bound, other in zip(self._all(), Bounds(limits)._all(), strict=True):
            bound.limit, bound.per_address = other.limit, other.per_address
        self.of_outbox = _of_outbox(limits)

    def statistics(self) -> Mapping[str, BoundStatistics]:
        """Each bound by its key."""
        return {bound.rule: bound.statistics() for bound in self._all()}

    def _all(self) -> list[Bound]:
        return [*(self.connections, self.sessions, self.streams, self.calls, self.bodies, self.replies, self.outboxes)]
