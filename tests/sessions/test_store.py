"""Client sessions: whose they are, how many, how long, and what they take with them."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.config.limits import Limits
from mcpgateway.errors import CallCancelled, InvalidRequest, TooBusy, TooMany, UnknownSession
from mcpgateway.protocol.revisions import LATEST_LEGACY, Era
from mcpgateway.sessions.caller import Caller
from mcpgateway.sessions.store import QUESTIONS, Session, SessionStore
from mcpgateway.testing import MemoryAdapter
from mcpgateway.testing.client import open_client
from mcpgateway.wire.bounds import Bounds
from mcpgateway.wire.waiting import Wait


def caller(principal: str = "anonymous", capabilities: bytes = b"{}") -> Caller:
    return Caller(Era.LEGACY, LATEST_LEGACY, Raw(capabilities), principal=principal)


class Store(SessionStore):
    """A store that remembers which sessions ended."""

    def __init__(self, limit: int = 10, idle_timeout: float = 80.0, per_address: int | None = None) -> None:
        self.bounds = bounds = Bounds(
            Limits(sessions=limit, sessions_per_address=limit if per_address is None else per_address)
        )
        super().__init__(node="node", bounds=bounds, idle_timeout=idle_timeout, ended=self._note)
        self.over: list[str] = []

    def _note(self, session: Session) -> None:
        self.over.append(session.id)


def use(session: Session) -> None:
    """Have one call in it."""
    wait = Wait()
    session.begin(b"1", wait)
    session.end(b"1", wait)


async def test_a_session_is_found_by_its_own_principal_on_its_own_namespace_only() -> None:
    store = Store()
    session = store.open("id", "work", caller("ann"))

    assert store.find("id", "work", "ann") is session
    for id, namespace, principal in [("di", "work", "ann"), ("id", "", "ann"), ("id", "work", "bob")]:
        with pytest.raises(UnknownSession, match="initialise again"):
            store.find(id, namespace, principal)


async def test_ids_cannot_be_guessed_and_begin_with_the_node() -> None:
    ids = {Store().new_id() for _ in range(100)}

    assert len(ids) == 100
    assert all(id.startswith("node.") and len(id) == 5 + 32 for id in ids)


async def test_at_the_limit_the_longest_idle_makes_room(autojump_clock: trio.testing.MockClock) -> None:
    store = Store(limit=2)
    store.open("a", "", caller())
    await trio.sleep(1)
    store.open("b", "", caller())
    await trio.sleep(1)
    use(store.find("a", "", "anonymous"))
    store.open("c", "", caller())

    assert store.over == ["b"]
    assert len(store) == 2


async def test_with_all_sessions_busy_a_new_one_is_refused_and_what_it_opened_is_let_go() -> None:
    store = Store(limit=1)
    store.open("a", "", caller()).begin(b"1", Wait())
    with pytest.raises(TooBusy, match="no more than 1 busy sessions"):
        store.open("b", "", caller())

    assert store.over == ["b"]
    assert len(store) == 1


async def test_at_its_bound_an_address_loses_its_own_longest_idle(autojump_clock: trio.testing.MockClock) -> None:
    store = Store(limit=10, per_address=2)
    store.open("other", "", caller(), "192.0.2.7")
    for id in "abc":
        await trio.sleep(2)
        store.open(id, "", caller(), "192.0.2.66")

    assert store.over == ["a"]
    assert store.bounds.sessions.addresses == {"192.0.2.7": 1, "192.0.2.66": 2}


async def test_an_address_whose_sessions_are_all_in_use_is_refused() -> None:
    store = Store(limit=10, per_address=2)
    store.open("a", "", caller(), "192.0.2.66").begin(b"1", Wait())
    with store.open("b", "", caller(), "192.0.2.66").listening(Wait()):
        with pytest.raises(TooMany, match="no more than 2 busy sessions at a time for one address"):
            store.open("c", "", caller(), "192.0.2.66")
        store.open("other", "", caller(), "192.0.2.7")
    store.open("d", "", caller(), "192.0.2.66")

    assert store.over == ["c", "b"]
    assert store.bounds.statistics()["sessions"].refused == 1


@pytest.mark.requirement("4.clients.bounds")
async def test_a_flood_that_keeps_its_sessions_fresh_pushes_out_nobody_else(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Its sessions are the latest used, and more than anybody's."""
    store = Store(limit=20, per_address=10)
    for number in range(10):
        store.open(f"user{number}", "", caller(), f"192.0.2.{number}")
    await trio.sleep(10)
    for number in range(1000):
        use(store.open(f"flood{number}", "", caller(), "192.0.2.66"))
    await trio.sleep(10)
    for number in range(5):
        store.open(f"late{number}", "", caller(), f"192.0.2.2{number}")

    assert not [id for id in store.over if not id.startswith("flood")]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["open", "use", "close"])), max_size=40))
def test_the_longest_idle_goes_in_whatever_order_they_are_used(steps: list[tuple[str, str]]) -> None:
    """Against the plain rule: of those not busy, the least recently used; all from one address."""

    async def play() -> None:
        store, used, ids = Store(limit=3), dict[str, float](), dict[str, str]()
        for number, (name, step) in enumerate(steps):
            await trio.sleep(1)
            session = store.get(ids.get(name, ""))
            if session is None and step == "open":
                before, over = set(store), list(store.over)
                ids[name] = f"{name}{number}"
                store.open(ids[name], "", caller())
                gone = [each for each in before if each.ended]
                assert [each.id for each in gone] == [id for id in store.over if id not in over]
                if gone:
                    assert len(before) == 3
                    assert gone[0].id == min((each.id for each in before), key=used.__getitem__)
                used[ids[name]] = trio.current_time()
            elif session is not None and step == "use":
                use(session)
                used[session.id] = trio.current_time()
            elif session is not None and step == "close":
                store.close(session)
        assert len(store) == store.bounds.sessions.held <= 3
        store.close_all()
        assert store.bounds.sessions.held == 0

    trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_idle_sessions_end_and_busy_ones_do_not(autojump_clock: trio.testing.MockClock) -> None:
    store = Store(idle_timeout=80.0)
    busy = store.open("busy", "", caller())
    store.open("idle", "", caller())
    wait = Wait()
    busy.begin(b"1", wait)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.reap)
        await trio.sleep(79)
        assert store.over == []
        await trio.sleep(12)
        assert store.over == ["idle"]
        busy.end(b"1", wait)
        await trio.sleep(79)
        assert store.over == ["idle"]
        await trio.sleep(12)
        assert store.over == ["idle", "busy"]
        nursery.cancel_scope.cancel(reason="the test is over")


async def test_closing_a_session_ends_its_calls_once() -> None:
    store = Store()
    session = store.open("a", "", caller())
    wait = Wait()
    session.begin(b"1", wait)
    store.close(session)
    store.close(session)

    assert isinstance(wait.ended, CallCancelled)
    assert store.over == ["a"]
    with pytest.raises(UnknownSession):
        store.find("a", "", "anonymous")


async def test_what_waited_for_a_session_that_has_ended_takes_no_room() -> None:
    store = Store()
    session = store.open("a", "", caller())
    session.outbox.put(jsonrpc.notification("notifications/message", {"data": "x"}))
    assert store.bounds.outboxes.held > 0
    store.close(session)

    assert store.bounds.outboxes.held == 0


async def test_closing_the_store_closes_all() -> None:
    store = Store()
    for id in "abc":
        store.open(id, "", caller())
    store.close_all()

    assert (store.over, len(store)) == (["a", "b", "c"], 0)


async def test_a_session_that_its_server_lost_has_ended_for_its_client() -> None:
    store = Store()
    store.open("a", "", caller()).lost = True
    with pytest.raises(UnknownSession):
        store.find("a", "", "anonymous")

    assert store.over == ["a"]


async def test_ids_in_flight_are_unique_and_keep_their_type() -> None:
    session = Store().open("a", "", caller())
    first, second = Wait(), Wait()
    session.begin(b"7", first)
    session.begin(b'"7"', Wait())
    with pytest.raises(InvalidRequest, match="already in flight"):
        session.begin(b"7", second)
    session.end(b"7", second)
    assert session.calls[b"7"] is first, "the end of a call that was refused ends no other"
    session.end(b"7", first)
    session.begin(b"7", second)


async def test_a_cancel_ends_exactly_the_call_of_that_id() -> None:
    session = Store().open("a", "", caller())
    number, text = Wait(), Wait()
    session.begin(b"7", number)
    session.begin(b'"7"', text)

    assert session.cancel(b'"7"', "not needed")
    assert not session.cancel(b"8", "not needed")
    assert number.ended is None
    assert str(text.ended) == "not needed"


async def test_questions_of_two_servers_get_ids_that_differ_and_are_bounded() -> None:
    session = Store().open("a", "", caller())
    async with open_client(MemoryAdapter("s"), Era.LEGACY) as one, open_client(MemoryAdapter("t"), Era.LEGACY) as two:
        first, second = session.ask(one.link, b"1"), session.ask(two.link, b"1")
        assert first != second
        assert session.questions == {first: (one.link, b"1"), second: (two.link, b"1")}
        for _ in range(QUESTIONS - 2):
            session.ask(one.link, b"1")
        with pytest.raises(TooBusy):
            session.ask(one.link, b"1")
        assert len(session.questions) == QUESTIONS


@pytest.mark.parametrize(
    ("capabilities", "askable"),
    [(b"{}", False), (b'{"elicitation":{}}', True), (b'{"roots":{}}', True), (b'{"experimental":{}}', False)],
)
def test_who_may_be_asked(capabilities: bytes, askable: bool) -> None:
    assert caller(capabilities=capabilities).askable is askable


def test_equal_capabilities_make_equal_sets_and_a_caller_shows_who_it_is() -> None:
    one, two = caller("ann", b'{"a":{},"b":{}}'), caller("bob", b'{ "b": {}, "a": {} }')

    assert one.capability_set == two.capability_set
    assert repr(one) == "<Caller ann legacy 2025-11-25>"
