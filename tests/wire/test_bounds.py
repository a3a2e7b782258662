"""Bounds: what is counted is what there is, whoever has it; and a flood makes room for itself."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpgateway.config.limits import Limits
from mcpgateway.errors import TooBusy, TooMany
from mcpgateway.wire.bounds import Bound, Bounds, Places, address_of

ADDRESSES = st.sampled_from(["a", "b", "c"])


# ---- who is counted together -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
        ("a:socket", "a:socket"),
    ],
)
def test_an_ipv6_client_counts_as_its_64_and_any_other_as_itself(peer: str, address: str) -> None:
    assert address_of(peer) == address


# ---- counting --------------------------------------------------------------------------------------------------------


def test_the_error_names_the_key_to_raise_and_whose_bound_it_is() -> None:
    bound = Bound("streams", "streams", 3, 2)
    for address in "aab":
        bound.take(address)
    with pytest.raises(TooMany) as one:
        bound.take("a")
    with pytest.raises(TooBusy) as all:
        bound.take("c")

    text = "no more than 2 streams at a time for one address (listen.limits.streams_per_address)"
    assert (one.value.message, one.value.status, one.value.code) == (text, 429, -32600)
    assert one.value.data == {"rule": "streams_per_address", "retry_after_ms": 5000}
    assert all.value.message == "no more than 3 streams at a time (listen.limits.streams)"
    assert (all.value.status, type(all.value)) == (503, TooBusy)
    assert (bound.statistics().refused, repr(bound)) == (2, "<Bound streams 3/3>")


def test_one_address_may_have_half_unless_it_is_said() -> None:
    bounds = Bounds(Limits(connections=5, sessions=1, streams=8, streams_per_address=8, bodies_bytes=5 << 20))

    assert (bounds.connections.per_address, bounds.sessions.per_address, bounds.streams.per_address) == (2, 1, 8)
    assert bounds.bodies.per_address == 4 << 20  # one body has to fit


def test_where_one_address_may_have_all_it_is_the_bound_of_all_that_is_named() -> None:
    bound = Bound("streams", "streams", 1, 1)
    bound.take("a")

    assert type(bound.refusal("a")) is TooBusy


@given(st.lists(st.tuples(ADDRESSES, st.integers(1, 5), st.booleans())))
def test_what_is_held_is_the_sum_of_what_each_has_and_nobody_is_remembered_for_nothing(
    steps: list[tuple[str, int, bool]],
) -> None:
    bound, held, refused = Bound("calls", "calls", 10, 6), Counter[str](), 0
    for address, amount, takes in steps:
        if takes:
            fits = held.total() + amount <= 10 and held[address] + amount <= 6
            assert bound.room(address, amount) is fits
            if fits:
                bound.take(address, amount)
                held[address] += amount
            else:
                with pytest.raises(TooBusy) as refusal:
                    bound.take(address, amount)
                assert isinstance(refusal.value, TooMany) is (held[address] + amount > 6)
                refused += 1
        elif held[address] >= amount:
            bound.release(address, amount)
            held[address] -= amount
        assert bound.addresses == +held
        assert bound.held == held.total()
        assert bound.statistics().refused == refused
    for address, amount in list(bound.addresses.items()):
        bound.release(address, amount)

    assert (bound.held, bound.addresses) == (0, {})


# ---- making room -----------------------------------------------------------------------------------------------------


class Crowd:
    """Holders by name; a name in capitals is busy."""

    def __init__(self, limit: int, per_address: int) -> None:
        self.bound = Bound("sessions", "sessions", limit, per_address)
        self.places = Places[str](self.bound)
        self.held: dict[str, str] = {}
        """The address of each, in the order of arrival."""

    def come(self, address: str, name: str) -> str | None:
        """A newcomer; who went for it."""
        gone = self.places.make_room(address, str.islower)
        if gone is not None:
            self.places.remove(self.held.pop(gone), gone)
        self.places.add(address, name)
        self.held[name] = address
        return gone


def test_at_its_own_bound_an_address_makes_room_itself() -> None:
    crowd = Crowd(4, 2)
    assert [crowd.come(*who) for who in [("b", "b1"), ("a", "a1"), ("a", "a2"), ("a", "a3")]] == [
        *(None, None, None, "a1")
    ]
    assert crowd.bound.statistics().displaced == 1


def test_at_the_bound_of_all_the_address_that_has_most_makes_room() -> None:
    crowd = Crowd(4, 3)
    for who in [("b", "b1"), ("a", "a1"), ("a", "a2"), ("a", "a3")]:
        crowd.come(*who)

    assert [crowd.come("c", "c1"), crowd.come("d", "d1")] == ["a1", "a2"]
    crowd.places.used("b", "b1")
    assert crowd.come("e", "e1") == "c1"  # all have one: who was active longest ago
    assert crowd.come("e", "e2") == "a3"


def test_who_is_busy_does_not_make_room_and_with_nobody_idle_the_newcomer_is_refused() -> None:
    crowd = Crowd(3, 2)
    for who in [("a", "A1"), ("a", "a2"), ("b", "b1")]:
        crowd.come(*who)
    assert crowd.come("c", "C1") == "a2"
    assert crowd.come("c", "C2") == "b1"
    with pytest.raises(TooMany):
        crowd.come("c", "c3")
    with pytest.raises(TooBusy):
        crowd.come("d", "d1")
    assert (len(crowd.places), crowd.bound.refused) == (3, 2)


def test_who_is_used_goes_later() -> None:
    crowd = Crowd(2, 2)
    crowd.come("a", "a1")
    crowd.come("a", "a2")
    crowd.places.used("a", "a1")

    assert crowd.places.make_room("a", str.islower) == "a2"


def test_a_flood_from_one_address_pushes_out_nobody_else() -> None:
    crowd = Crowd(100, 50)
    for number in range(50):
        crowd.come(f"user{number}", f"user{number}")
    for number in range(1000):
        crowd.come("flood", f"flood{number}")
    newcomers = [crowd.come(f"late{number}", f"late{number}") for number in range(40)]

    assert [name for name in crowd.held if name.startswith("user")] == [f"user{number}" for number in range(50)]
    assert newcomers == [f"flood{number}" for number in range(950, 990)]


@given(st.lists(st.tuples(ADDRESSES, st.integers(0, 9), st.booleans(), st.booleans())))
def test_the_bounds_hold_and_who_goes_is_idle_and_of_the_fullest(
    steps: list[tuple[str, int, bool, bool]],
) -> None:
    crowd = Crowd(6, 4)
    for number, (address, leaver, busy, comes) in enumerate(steps):
        name = f"{'X' if busy else 'x'}{number}"
        of = Counter(crowd.held.values())
        if comes:
            try:
                gone = crowd.come(address, name)
            except TooBusy:
                crowded = [held for held, own in crowd.held.items() if own == address or of[address] < 4]
                assert not any(held.islower() for held in crowded)
                assert of[address] == 4 or of.total() == 6
            else:
                assert (gone is not None) == (of[address] == 4 or of.total() == 6)
                assert gone is None or gone.islower()
        elif crowd.held:
            gone = list(crowd.held)[leaver % len(crowd.held)]
            crowd.places.remove(crowd.held.pop(gone), gone)
        assert crowd.bound.addresses == Counter(crowd.held.values())
        assert len(crowd.places) == len(crowd.held)
        assert len(list(crowd.places._all())) == len(crowd.held)
    for name, address in crowd.held.items():
        crowd.places.remove(address, name)

    assert (crowd.places._rows, crowd.places._ranks, crowd.places._most) == ({}, {}, 0)
