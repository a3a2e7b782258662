"""Which link a call gets: tables, and the bookkeeping of a whole server under any sequence of leases."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule
from msgspec import Raw

from mcpgateway.config.model import Isolation
from mcpgateway.protocol.negotiated import Negotiated
from mcpgateway.protocol.revisions import Era
from mcpgateway.servers.ledger import Decision, LinkKey, Open, Queue, Slot, Use, decide, resolve, surplus

A = LinkKey(Era.LEGACY, b"{}")
B = LinkKey(Era.LEGACY, b'{"roots":{}}')
M = LinkKey(Era.MODERN)
OWNED = LinkKey(Era.LEGACY, b"{}", "session")


class _Closed:
    def __init__(self, closed: bool) -> None:
        self._closed = closed

    def is_set(self) -> bool:
        return self._closed


class FakeLink:
    """As much of a link as the ledger looks at."""

    def __init__(self, *, closed: bool = False, stateful: bool = True) -> None:
        self.closed = _Closed(closed)
        self.negotiated = Negotiated(Era.LEGACY, "2025-11-25", Raw(b"{}"), Raw(b"{}"), "", "", stateful)


def slot(
    key: LinkKey,
    calls: int = 0,
    *,
    alone: bool = False,
    making: bool = False,
    leaving: bool = False,
    closed: bool = False,
    stateful: bool = True,
    idle_since: float = 0.0,
) -> Slot:
    fake = None if making else FakeLink(closed=closed, stateful=stateful)
    return Slot(key, fake, calls, alone, leaving, idle_since=idle_since)  # type: ignore[arg-type]  # as much as is looked at


def said(decision: Decision, slots: list[Slot]) -> str:
    """The decision in words: which slot is used or evicted, by its place."""
    match decision:
        case Use(slot):
            return f"use {slots.index(slot)}"
        case Open(None):
            return "open"
        case Open(slot):
            assert slot is not None
            return f"evict {slots.index(slot)}"
        case Queue():
            return "queue"


@pytest.mark.parametrize(
    ("slots", "plain", "alone"),
    [
        ([], "open", "open"),
        ([slot(A)], "use 0", "use 0"),
        ([slot(A, 3)], "use 0", "open"),
        ([slot(A, 3), slot(A)], "use 0", "use 1"),
        ([slot(A), slot(A)], "use 0", "use 1"),
        ([slot(A, 1, alone=True)], "open", "open"),
        ([slot(A, 1, alone=True), slot(A, 1)], "use 1", "queue"),
        ([slot(A, making=True)], "use 0", "use 0"),
        ([slot(A, 1, making=True)], "use 0", "open"),
        ([slot(A, 1, making=True), slot(A, 1)], "use 1", "queue"),
        ([slot(A, 1, making=True, alone=True)], "open", "open"),
        ([slot(A, leaving=True)], "open", "open"),
        ([slot(A, closed=True)], "open", "open"),
        ([slot(B)], "open", "open"),
        ([slot(B, idle_since=2), slot(M, idle_since=1)], "evict 1", "evict 1"),
        ([slot(B, 1), slot(M)], "evict 1", "evict 1"),
        ([slot(B, 1), slot(M, 1)], "queue", "queue"),
        ([slot(B, 1), slot(M, making=True)], "queue", "queue"),
        ([slot(B, 1), slot(M, leaving=True)], "queue", "queue"),
        ([slot(OWNED), slot(OWNED)], "queue", "queue"),
        ([slot(OWNED), slot(OWNED, stateful=False)], "evict 1", "evict 1"),
    ],
)
def test_links_that_are_multiplexed(slots: list[Slot], plain: str, alone: str) -> None:
    """With two links at most: a plain call shares, a lone one has a link of its own, others' idle links make room."""
    for lone, expected in ((False, plain), (True, alone)):
        assert said(decide(slots, A, alone=lone, max=2, exclusive=False, single=False), slots) == expected


@pytest.mark.parametrize(
    ("slots", "expected"),
    [
        ([slot(A)], "use 0"),
        ([slot(A, 1)], "open"),
        ([slot(A, making=True)], "use 0"),
        ([slot(A, 1, making=True)], "open"),
        ([slot(A, 1), slot(A, 1)], "queue"),
        ([slot(A, 1), slot(B)], "evict 1"),
    ],
)
def test_links_that_are_exclusive(slots: list[Slot], expected: str) -> None:
    assert said(decide(slots, A, alone=False, max=2, exclusive=True, single=False), slots) == expected


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize(
    ("slots", "expected"),
    [
        ([], "open"),
        ([slot(M)], "use 0"),
        ([slot(M, 1, alone=True), slot(M)], "use 0"),
        ([slot(M, 1, alone=True, making=True), slot(M, 1, alone=True)], "use 1"),
        ([slot(M, leaving=True), slot(A)], "evict 1"),
        ([slot(A, 1), slot(A, 1)], "queue"),
    ],
)
def test_a_subscription_shares_a_link_with_whatever_is_on_it(slots: list[Slot], expected: str, exclusive: bool) -> None:
    decision = decide(slots, M, alone=False, max=2, exclusive=exclusive, single=False, listens=True)
    assert said(decision, slots) == expected


def test_a_link_with_a_subscription_is_for_every_call_of_its_key_and_makes_no_room_for_others() -> None:
    listened = slot(M)
    listened.listens = 1
    assert said(decide([listened], M, alone=False, max=1, exclusive=True, single=False), [listened]) == "use 0"
    assert said(decide([listened], A, alone=False, max=1, exclusive=True, single=False), [listened]) == "queue"
    assert surplus([listened], min=0, idle_before=9) == []


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize(
    ("slots", "expected"),
    [([], "open"), ([slot(A, 9)], "use 0"), ([slot(A, 1, making=True)], "use 0"), ([slot(OWNED)], "open")],
)
def test_one_link_a_key_takes_all_calls(slots: list[Slot], expected: str, alone: bool) -> None:
    assert said(decide(slots, A, alone=alone, max=None, exclusive=False, single=True), slots) == expected


@pytest.mark.parametrize(
    ("isolation", "local", "era", "expected"),
    [
        (Isolation.AUTO, True, Era.LEGACY, Isolation.MULTIPLEXED),
        (Isolation.AUTO, False, Era.LEGACY, Isolation.SESSION),
        (Isolation.AUTO, True, Era.MODERN, Isolation.SHARED),
        (Isolation.AUTO, False, Era.MODERN, Isolation.SHARED),
        (Isolation.EXCLUSIVE, False, Era.MODERN, Isolation.EXCLUSIVE),
    ],
)
def test_what_auto_means(isolation: Isolation, local: bool, era: Era, expected: Isolation) -> None:
    assert resolve(isolation, local=local, era=era) is expected


def test_idle_links_are_surplus_longest_idle_first_down_to_the_minimum() -> None:
    old, older, busy, fresh = slot(A, idle_since=2), slot(B, idle_since=1), slot(A, 1), slot(A, idle_since=9)
    owned, stateless = slot(OWNED, idle_since=0), slot(OWNED, idle_since=0, stateful=False)
    slots = [old, older, busy, fresh, owned, stateless, slot(A, making=True), slot(A, leaving=True)]

    assert surplus(slots, min=0, idle_before=5) == [stateless, older, old]
    assert surplus(slots, min=4, idle_before=5) == [stateless, older]
    assert surplus(slots, min=9, idle_before=5) == []


class Leases(RuleBasedStateMachine):
    """A server's links as `Server` keeps them, but for the tasks: leases are taken, kept waiting and given back."""

    leased = Bundle("leased")

    def __init__(self) -> None:
        super().__init__()
        self.slots: list[Slot] = []
        self.waiting: deque[tuple[LinkKey, bool]] = deque()
        self.clock = 0.0

    exclusive = False
    max = 3

    def grant(self, key: LinkKey, alone: bool) -> Slot | None:
        decision = decide(self.slots, key, alone=alone, max=self.max, exclusive=self.exclusive, single=False)
        match decision:
            case Queue():
                return None
            case Use(found):
                lone = alone or self.exclusive
                assert found.key == key
                assert not (found.calls if lone else found.alone)
            case Open(evict):
                if evict is not None:
                    assert evict.key != key
                    assert evict.calls == 0
                    assert len(self.slots) == self.max
                    assert all(
                        other.idle_since >= evict.idle_since for other in self.slots if other.spare and other.key != key
                    )
                    self.slots.remove(evict)
                found = slot(key)
                self.slots.append(found)
        found.calls += 1
        found.alone = alone or self.exclusive
        return found

    @rule(target=leased, key=st.sampled_from([A, B, M]), alone=st.booleans())
    def call(self, key: LinkKey, alone: bool) -> list[Slot]:
        got = self.grant(key, alone)
        if got is None:
            self.waiting.append((key, alone))
            return []
        return [got]

    @rule(target=leased, lease=consumes(leased))
    def release(self, lease: list[Slot]) -> list[Slot]:
        """A call ends; those that wait are served in their order, each as soon as anything at all is there for it."""
        for ended in lease:
            self.clock += 1
            ended.calls -= 1
            ended.alone = False
            ended.idle_since = self.clock
        served: list[Slot] = []
        for need in list(self.waiting):
            got = self.grant(*need)
            if got is not None:
                self.waiting.remove(need)
                served.append(got)
        return served

    @precondition(lambda self: any(each.calls == 0 for each in self.slots))
    @rule()
    def crash(self) -> None:
        self.slots.remove(next(each for each in self.slots if each.calls == 0))

    @invariant()
    def never_more_than_max(self) -> None:
        assert len(self.slots) <= self.max

    @invariant()
    def alone_means_alone(self) -> None:
        assert all(each.calls <= 1 for each in self.slots if each.alone)

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        """Whoever waits does so because every link is in use."""
        assert not self.waiting or all(each.calls for each in self.slots)


class ExclusiveLeases(Leases):
    exclusive = True


TestMultiplexedLeases = Leases.TestCase
TestExclusiveLeases = ExclusiveLeases.TestCase
