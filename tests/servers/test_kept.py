"""Which links are kept for those who listen, and what is said when one becomes another."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from mcpgateway.protocol.revisions import Era
from mcpgateway.servers.kept import Kept
from mcpgateway.servers.ledger import LinkKey, Slot


def key(name: str, owner: str = "") -> LinkKey:
    return LinkKey(Era.LEGACY, name.encode(), owner)


A, B, C, OWN = key("a"), key("b"), key("c"), key("a", "session")


class Links:
    """What there is of links, by key, and a `Kept` over it."""

    def __init__(self) -> None:
        self.there: dict[LinkKey, Slot] = {}
        self.relinked: list[LinkKey] = []
        self.kept = Kept(self.there.get, self.relinked.append)

    def make(self, key: LinkKey) -> Slot:
        self.there[key] = Slot(key)
        self.kept.check()
        return self.there[key]

    def lose(self, key: LinkKey) -> None:
        del self.there[key]
        self.kept.check()


@pytest.mark.parametrize(("places", "kept"), [(1, 1), (2, 1), (3, 2), (None, 3)])
def test_one_place_is_left_to_others(places: int | None, kept: int) -> None:
    links = Links()
    assert sum(links.kept.add(key, places) for key in (A, B, C)) == kept
    assert links.kept.add(A, places)
    assert links.kept.add(OWN, places)  # takes no place that its session has not got
    assert len(links.kept) == kept + 1


async def test_a_link_is_kept_until_it_is_not_wanted_and_then_idle_from_now_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    links = Links()
    slot = links.make(A)
    kept = [slot.kept]
    links.kept.add(A, None)
    kept.append(slot.kept)
    assert kept == [False, True]
    links.kept.discard(A)
    links.kept.discard(A)
    assert (slot.kept, slot.idle_since) == (False, trio.current_time())
    assert len(links.kept) == 0


def test_a_first_link_is_no_news_and_another_one_is() -> None:
    links = Links()
    links.kept.add(A, None)
    first = links.make(A)
    assert (first.kept, links.relinked, links.kept.absent()) == (True, [], None)
    second = links.make(A)
    assert (first.kept, second.kept, links.relinked) == (False, True, [A])
    links.kept.check()
    assert links.relinked == [A]


def test_a_link_that_was_there_is_to_be_made_anew_and_one_that_was_not_is_not() -> None:
    links = Links()
    for each in (A, B, OWN):
        links.kept.add(each, None)
    links.make(A)
    links.make(OWN)
    assert links.kept.absent() is None
    links.lose(OWN)
    assert links.kept.absent() is None
    links.lose(A)
    assert links.kept.absent() == A
    links.make(A)
    assert (links.kept.absent(), links.relinked) == (None, [A])


def test_what_belongs_to_a_session_goes_with_it() -> None:
    links = Links()
    for each in (A, OWN):
        links.kept.add(each, None)
    links.kept.discard_owner("session")
    links.kept.discard_owner("session")
    assert len(links.kept) == 1
