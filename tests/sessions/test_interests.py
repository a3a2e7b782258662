"""Who wants to hear what: counted right, told to the right ones, and forgotten with the session that wanted it."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mcpgateway.errors import TooBusy
from mcpgateway.protocol.levels import LEVELS
from mcpgateway.sessions.interests import MAX_SUBSCRIPTIONS, LevelTable, Subscriptions

CHANNELS = st.sampled_from("AB")
SESSIONS = st.integers(0, 3)
URIS = st.sampled_from(["x:/a", "x:/a/b", "x:/ab", "x:/a/b/c"])


def test_a_change_is_heard_once_under_the_uri_that_the_client_knows() -> None:
    table: Subscriptions[str, str] = Subscriptions()
    table.add("A", "x:/a", "ann", "gateway:/1")
    table.add("A", "x:/a", "bob", "x:/a")
    table.add("A", "x:/a/b", "ann", "gateway:/2")
    table.add("B", "x:/a", "eve", "x:/a")

    assert dict(table.hearing("A", "x:/a/b")) == {"ann": "gateway:/2", "bob": "x:/a/b"}
    assert dict(table.hearing("A", "x:/a/c")) == {"ann": "gateway:/1/c", "bob": "x:/a/c"}
    assert table.known_as("ann", "gateway:/2") == ("A", "x:/a/b")
    assert table.known_as("bob", "gateway:/2") is None


def test_a_session_has_so_many_subscriptions_and_no_more() -> None:
    table: Subscriptions[str, str] = Subscriptions()
    for number in range(MAX_SUBSCRIPTIONS):
        table.check("ann")
        table.add("A", f"x:/{number}", "ann", f"x:/{number}")
    with pytest.raises(TooBusy, match="1000 subscriptions"):
        table.check("ann")
    table.check("bob")


class Books(RuleBasedStateMachine):
    """The books against the plainest model: a set of what was wished, and a dict of levels."""

    def __init__(self) -> None:
        super().__init__()
        self.table: Subscriptions[str, int] = Subscriptions()
        self.levels: LevelTable[str, int] = LevelTable()
        self.wished: set[tuple[str, str, int]] = set()
        self.wanted: dict[tuple[str, int], str] = {}

    @rule(channel=CHANNELS, uri=URIS, session=SESSIONS)
    def subscribe(self, channel: str, uri: str, session: int) -> None:
        assert self.table.anyone(channel, uri) is any((channel, uri) == wish[:2] for wish in self.wished)
        self.table.add(channel, uri, session, uri)
        self.wished.add((channel, uri, session))

    @rule(channel=CHANNELS, uri=URIS, session=SESSIONS)
    def unsubscribe(self, channel: str, uri: str, session: int) -> None:
        had = (channel, uri, session) in self.wished
        self.wished.discard((channel, uri, session))
        left = any((channel, uri) == wish[:2] for wish in self.wished)
        assert self.table.remove(channel, uri, session) is (had and not left)

    @rule(channel=CHANNELS, session=SESSIONS, level=st.sampled_from(list(LEVELS)))
    def set_level(self, channel: str, session: int, level: str) -> None:
        self.levels.set(channel, session, level)
        self.wanted[channel, session] = level

    @rule(channel=CHANNELS, session=SESSIONS)
    def unset_level(self, channel: str, session: int) -> None:
        self.levels.unset(channel, session)
        self.wanted.pop((channel, session), None)

    @rule(session=SESSIONS)
    def end(self, session: int) -> None:
        mine = {wish for wish in self.wished if wish[2] == session}
        self.wished -= mine
        left = {wish[:2] for wish in self.wished}
        assert set(self.table.drop(session)) == {wish[:2] for wish in mine} - left
        channels = {channel for channel, owner in self.wanted if owner == session}
        self.wanted = {key: level for key, level in self.wanted.items() if key[1] != session}
        assert set(self.levels.drop(session)) == channels

    @rule(channel=CHANNELS, uri=URIS)
    def update(self, channel: str, uri: str) -> None:
        hearing = [session for session, _ in self.table.hearing(channel, uri)]
        assert len(hearing) == len(set(hearing))
        assert set(hearing) == {
            session
            for where, above, session in self.wished
            if where == channel and (uri == above or uri.startswith(above + "/"))
        }

    @rule(channel=CHANNELS, level=st.sampled_from(list(LEVELS)))
    def log(self, channel: str, level: str) -> None:
        expected = {
            session
            for (where, session), least in self.wanted.items()
            if where == channel and LEVELS[level] >= LEVELS[least]
        }
        assert set(self.levels.hearing(channel, level)) == expected

    @invariant()
    def nothing_is_kept_beyond_what_is_wished(self) -> None:
        assert len(self.table) == len(self.wished)
        assert len(self.levels) == len(self.wanted)
        if not self.wished:
            assert not self.table._channels
            assert not self.table._of
        if not self.wanted:
            assert not self.levels._channels
            assert not self.levels._of
        for channel in "AB":
            wanted = [level for (where, _), level in self.wanted.items() if where == channel]
            found = self.levels.most_verbose(channel)
            assert (found and found[0]) == (min(wanted, key=LEVELS.__getitem__) if wanted else None)
            assert set(self.table.uris(channel)) == {uri for where, uri, _ in self.wished if where == channel}


Books.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBooks = Books.TestCase
