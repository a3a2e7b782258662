"""What is kept on a session's streams: in order, within bounds, nothing twice, and nothing on another stream."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest
import trio
import trio.testing
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Event
from mcpgateway.config.limits import Limits
from mcpgateway.errors import CallCancelled, InvalidRequest
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.revisions import LEGACY_REVISIONS, Era
from mcpgateway.sessions.caller import Caller
from mcpgateway.sessions.outbox import Outbox, Outboxes
from mcpgateway.sessions.store import Session
from mcpgateway.sessions.streams import RETRY, Displaced, Stream, UnknownEvent
from mcpgateway.wire.bounds import OUTBOX_BYTES as BYTES
from mcpgateway.wire.bounds import Bounds
from mcpgateway.wire.waiting import Wait

EVENTS = Limits().outbox_events_per_session


def note(number: object) -> Message:
    return jsonrpc.notification("notifications/message", {"data": number})


CHANGED = jsonrpc.notification("notifications/tools/list_changed")
SMALL = len(note(1).encode())


def outboxes(lost: list[Message] | None = None, **limits: int) -> Outboxes:
    """With these limits; what is lost goes to the list, if there is one."""
    made = Outboxes(Bounds(Limits(**limits)))
    if lost is not None:
        made.lost = lambda session, message: lost.append(message)
    return made


class Client:
    """Takes events; from the ``fails`` th on it is gone."""

    def __init__(self, fails: int = 1_000_000) -> None:
        self.events: list[Event] = []
        self._fails = fails

    @property
    def taken(self) -> list[Message]:
        return [event.message for event in self.events if event.message is not None]

    @property
    def last(self) -> bytes:
        """The id of the last event."""
        id = self.events[-1].id
        assert id is not None
        return id

    async def send(self, event: Event) -> None:
        await trio.lowlevel.checkpoint()
        if len(self.events) >= self._fails:
            raise trio.BrokenResourceError
        self.events.append(event)


async def drained(stream: Stream, last_event: bytes | None = None) -> Client:
    """What a connection brings that is ended when there is nothing more."""
    client, wait = Client(), Wait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_drain, stream, wait, client, last_event)
        await trio.testing.wait_all_tasks_blocked()
        wait.end(CallCancelled("the test has seen enough"))
    return client


async def _drain(stream: Stream, wait: Wait, client: Client, last_event: bytes | None = None) -> None:
    stream.attach(wait, last_event)
    try:
        await stream.drain(wait, client)
    except (CallCancelled, Displaced):
        pass
    stream.detach(wait)


# ---- the standing stream ---------------------------------------------------------------------------------------------


async def test_what_was_kept_comes_first_and_what_comes_later_comes_at_once() -> None:
    outbox, client, wait = Outbox(), Client(), Wait()
    messages = [note(number) for number in range(4)]
    outbox.put(messages[0])
    outbox.put(messages[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_drain, outbox.standing, wait, client)
        await trio.testing.wait_all_tasks_blocked()
        assert client.taken == messages[:2]
        outbox.put(messages[2])
        outbox.put(messages[3])
        await trio.testing.wait_all_tasks_blocked()
        assert client.taken == messages
        wait.end(CallCancelled("the test is over"))


async def test_a_second_connection_is_refused_while_there_is_one() -> None:
    stream = Outbox().standing
    first = Wait()
    stream.attach(first)
    with pytest.raises(InvalidRequest) as refused:
        stream.attach(Wait())
    assert refused.value.status == 409
    assert stream.detach(first)
    stream.attach(Wait())


async def test_what_a_client_did_not_get_waits_for_the_next_connection() -> None:
    outbox, leaving = Outbox(), Client(fails=1)
    messages = [note(number) for number in range(3)]
    for message in messages:
        outbox.put(message)
    wait = Wait()
    outbox.standing.attach(wait)
    with pytest.raises(trio.BrokenResourceError):
        await outbox.standing.drain(wait, leaving)
    outbox.standing.detach(wait)
    assert leaving.taken == messages[:1]
    assert (await drained(outbox.standing)).taken == messages[1:]


async def test_a_listing_that_changes_twice_is_told_once() -> None:
    outbox, log = Outbox(), note(1)
    resources = jsonrpc.notification("notifications/resources/list_changed")
    for message in (CHANGED, log, CHANGED, resources):
        outbox.put(message)
    assert (await drained(outbox.standing)).taken == [CHANGED, log, resources]
    outbox.put(CHANGED)
    assert len(outbox) == 1


async def test_a_client_that_comes_back_gets_what_followed_the_last_event_that_it_has() -> None:
    outbox = Outbox()
    messages = [note(number) for number in range(5)]
    for message in messages[:4]:
        outbox.put(message)
    first = await drained(outbox.standing)
    outbox.put(messages[4])
    assert len(outbox) == 1

    assert first.events[1].id is not None
    again = await drained(outbox.standing, first.events[1].id)
    assert again.taken == messages[2:]
    assert [event.id for event in again.events[:2]] == [event.id for event in first.events[2:]]
    assert (await drained(outbox.standing)).taken == []


async def test_whoever_comes_back_takes_the_stream_from_the_connection_that_it_had() -> None:
    outbox, dead = Outbox(), Client()
    outbox.put(note(1))
    async with trio.open_nursery() as nursery:
        former = Wait()
        nursery.start_soon(_drain, outbox.standing, former, dead)
        await trio.testing.wait_all_tasks_blocked()
        first = dead.last
        outbox.put(note(2))
        await trio.testing.wait_all_tasks_blocked()

        client = await drained(outbox.standing, first)
        assert isinstance(former.ended, Displaced)
        assert [message.encode() for message in client.taken] == [note(2).encode()]
        assert not outbox.standing.detach(former)


async def test_an_event_that_is_on_its_way_when_the_client_comes_back_comes_once() -> None:
    """The former connection is stuck in sending it, and fails afterwards."""
    outbox, wait = Outbox(), Wait()
    outbox.put(note(0))
    started, broken = trio.Event(), trio.Event()

    class Stuck:
        async def send(self, event: Event) -> None:
            started.set()
            await broken.wait()
            raise trio.BrokenResourceError

    async def fail() -> None:
        outbox.standing.attach(wait)
        with pytest.raises(trio.BrokenResourceError):
            await outbox.standing.drain(wait, Stuck())
        outbox.standing.detach(wait)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail)
        await started.wait()
        assert len((await drained(outbox.standing, b"0-0")).taken) == 1
        broken.set()
    assert len(outbox) == 0
    assert (await drained(outbox.standing)).taken == []


# ---- the streams of calls --------------------------------------------------------------------------------------------


async def test_the_stream_of_a_call_ends_with_its_reply_and_is_kept_until_its_client_has_it() -> None:
    outbox = Outbox()
    stream = outbox.begin()
    reply = jsonrpc.result(b"1", {})
    stream.put(note(1))
    stream.put(reply, last=True)
    client, wait = Client(), Wait()
    stream.attach(wait, b"1-0")
    await stream.drain(wait, client)
    stream.detach(wait)
    assert client.taken[1] is reply

    again = await drained(outbox.find(client.last), client.last)
    assert again.taken == []
    with pytest.raises(UnknownEvent):
        outbox.find(client.last)


async def test_a_stream_that_ends_without_a_reply_is_forgotten() -> None:
    outbox = Outbox()
    stream = outbox.begin()
    assert outbox.find(b"1-0") is stream
    stream.finish()
    with pytest.raises(UnknownEvent):
        outbox.find(b"1-0")


@pytest.mark.parametrize("id", [b"", b"7", b"0-", b"2-0", b"1-99", b"-1-0", b"1-0\n", b"x", b"0-" + b"9" * 30])
async def test_an_event_that_never_was_is_unknown(id: bytes) -> None:
    outbox = Outbox()
    outbox.begin().put(note(1))
    with pytest.raises(UnknownEvent) as unknown:
        outbox.find(id)
    assert unknown.value.status == 400


@pytest.mark.parametrize("revision", LEGACY_REVISIONS)
@pytest.mark.parametrize("resumes", [True, False])
async def test_streams_begin_with_an_id_for_clients_that_know_what_it_is(revision: str, resumes: bool) -> None:
    session = Session("s", "", Caller(Era.LEGACY, revision, Raw(b"{}"), resumes=resumes), "", outboxes())
    for number in range(2):
        session.outbox.put(note(number))
    prime, call = session.outbox.standing.prime, session.outbox.begin().prime
    if revision == "2025-11-25" and resumes:
        assert (prime, call) == (Event(None, b"0-0", RETRY), Event(None, b"1-2", RETRY))
    else:
        assert prime is call is None


async def test_what_was_sent_is_not_kept_for_a_client_that_never_comes_back() -> None:
    all = outboxes()
    session = Session("s", "", Caller(Era.LEGACY, "2025-11-25", Raw(b"{}"), resumes=False), "", all)
    session.outbox.put(note(1))
    assert all.bounds.outboxes.held == SMALL
    assert len((await drained(session.outbox.standing)).taken) == 1
    assert all.bounds.outboxes.held == 0


async def test_the_end_of_a_session_ends_its_streams_and_nothing_is_kept_any_more() -> None:
    all = outboxes()
    outbox = Outbox(all)
    stream, client, wait = outbox.begin(), Client(), Wait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_drain, stream, wait, client)
        stream.put(note(1))
        outbox.put(note(2))
        await trio.testing.wait_all_tasks_blocked()
        outbox.clear()
    assert len(client.taken) == 1
    outbox.put(note(3))
    stream.put(note(4), last=True)
    outbox.begin().sending(note(5), 10)
    assert (len(outbox), all.bounds.outboxes.held, all.bounds.outboxes.addresses) == (0, 0, {})


# ---- bounds ----------------------------------------------------------------------------------------------------------


async def test_the_oldest_go_when_there_are_too_many() -> None:
    lost: list[Message] = []
    outbox = Outbox(outboxes(lost))
    messages = [note(number) for number in range(EVENTS + 2)]
    for message in messages:
        outbox.put(message)
    assert lost == messages[:2]
    assert (await drained(outbox.standing)).taken == messages[2:]


async def test_what_was_sent_goes_before_what_waits_and_nobody_is_told() -> None:
    lost: list[Message] = []
    outbox = Outbox(outboxes(lost, outbox_events_per_session=3))
    stream, reply = outbox.begin(), jsonrpc.result(b"1", {})
    stream.put(reply, last=True)
    for number in range(4):
        outbox.put(note(number))
        client = await drained(outbox.standing)
        assert len(client.taken) == 1
    assert lost == []
    assert (await drained(stream, b"1-0")).taken == [reply]


def test_the_oldest_go_when_they_are_too_large_and_one_that_is_too_large_alone_goes_itself() -> None:
    lost: list[Message] = []
    outbox = Outbox(outboxes(lost))
    small, large, huge = note(1), note("x" * (BYTES - 100)), note("x" * BYTES)
    for message, gone in [(small, []), (large, [small]), (huge, [huge]), (small, [large])]:
        lost.clear()
        outbox.put(message)
        assert lost == gone
    assert len(outbox) == 1


async def test_a_reply_that_is_too_large_alone_reaches_a_client_that_is_there_and_another_is_told() -> None:
    all = outboxes()
    outbox = Outbox(all)
    huge = jsonrpc.result(b"1", "x" * BYTES)
    there, gone = outbox.begin(), outbox.begin()
    client, wait = Client(), Wait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_drain, there, wait, client, b"1-0")
        await trio.testing.wait_all_tasks_blocked()
        there.put(note(1))
        there.put(huge, last=True)
    assert client.taken[-1] is huge
    assert all.bounds.outboxes.held == SMALL  # nothing that is so large is kept once it was sent

    gone.put(note(1))
    gone.put(huge, last=True)
    first, instead = (await drained(gone, b"2-0")).taken
    assert first.method == "notifications/message"
    assert (instead.id, jsonrpc.error_code(instead)) == (b"1", -32603)
    assert b"outbox_bytes_per_session" in bytes(instead.error or b"")


async def test_a_reply_that_is_too_large_alone_and_was_cut_off_is_an_error_for_who_comes_back() -> None:
    stream, wait = Outbox(outboxes()).begin(), Wait()
    stream.attach(wait)
    kept = stream.sending(jsonrpc.result(b"1", "x" * BYTES), BYTES + 20, last=True)
    stream.unsent(wait, kept)
    stream.detach(wait)
    (instead,) = (await drained(stream, b"1-0")).taken
    assert jsonrpc.error_code(instead) == -32603


async def test_a_reply_that_is_too_large_alone_and_never_got_its_turn_is_an_error_in_the_end() -> None:
    """Its client was there when it came, and went before it was sent."""
    outbox = Outbox(outboxes(outbox_events_per_session=2))
    stream, wait = outbox.begin(), Wait()
    stream.attach(wait)
    stream.put(jsonrpc.result(b"1", "x" * BYTES), last=True)
    stream.detach(wait)
    outbox.put(note(1))
    (instead,) = (await drained(outbox.find(b"1-0"), b"1-0")).taken
    assert jsonrpc.error_code(instead) == -32603


def test_a_stream_whose_reply_is_lost_is_not_known_any_more() -> None:
    all = outboxes(outbox_bytes=300)
    outbox, other = Outbox(all), Outbox(all)
    stream = outbox.begin()
    stream.put(note(1))
    other.put(note("x" * 130))
    stream.put(jsonrpc.result(b"1", "x" * 150), last=True)
    with pytest.raises(UnknownEvent):
        outbox.find(b"1-0")


def test_bounds_that_hold_not_even_an_error_are_kept() -> None:
    lost: list[Message] = []
    outbox = Outbox(outboxes(lost, outbox_bytes=10))
    outbox.begin().put(jsonrpc.result(b"1", "x" * 100), last=True)
    outbox.put(note(1))
    assert (len(outbox), len(lost)) == (0, 3)


def test_together_they_have_a_bound_and_who_has_been_away_longest_loses_the_oldest() -> None:
    lost: list[Message] = []
    large = [note("x" * 400 + str(number)) for number in range(6)]
    size = len(large[0].encode())
    all = outboxes(lost, outbox_bytes=4 * size)
    bound = all.bounds.outboxes
    first, second, third = [Outbox(all) for _ in range(3)]
    for box, message in [(first, large[0]), (second, large[1]), (first, large[2]), (second, large[3])]:
        box.put(message)
    assert lost == []

    third.put(large[4])
    third.put(large[5])
    assert lost == [large[0], large[2]]
    assert (len(first), len(second), len(third)) == (0, 2, 2)
    assert (bound.held, bound.displaced) == (4 * size, 2)
    first.put(large[0])
    assert lost[2:] == [large[1]]  # the first has only just begun to wait
    for box in (first, second, third):
        box.clear()
    assert (bound.held, bound.addresses) == (0, {})


def test_together_too_what_was_sent_goes_before_what_waits() -> None:
    lost: list[Message] = []
    all = outboxes(lost, outbox_bytes=3 * SMALL)
    away, there = Outbox(all), Outbox(all)
    away.put(note(1))
    stream = there.begin()
    stream.attach(Wait())
    for number in range(8):
        stream.sending(note(number), SMALL)
    assert (len(away), len(there.sent), lost) == (1, 2, [])
    assert all.bounds.outboxes.displaced == 0


# ---- whatever happens ------------------------------------------------------------------------------------------------


@attrs.define
class Told:
    """What a client of one stream has, and what was meant for it."""

    stream: Stream
    last: bytes
    meant: list[Message] = attrs.field(factory=list)
    has: list[Message] = attrs.field(factory=list)


class Streams(RuleBasedStateMachine):
    """One session with several streams, whose client loses connections at any time, and what is on its way with them.

    It comes back with the last event that it has, or, on the standing stream, with nothing.
    """

    LIMITS = Limits(outbox_bytes=2000, outbox_bytes_per_session=1200, outbox_events_per_session=6)

    def __init__(self) -> None:
        super().__init__()
        self.all = Outboxes(Bounds(self.LIMITS))
        self.outbox, self.other = Outbox(self.all), Outbox(self.all)
        self.told = [Told(self.outbox.standing, b"0-0")]
        self.count = 0

    def message(self, size: int) -> Message:
        self.count += 1
        return note([self.count, "x" * size])

    @rule()
    def begin(self) -> None:
        if len(self.told) < 4:
            stream = self.outbox.begin()
            self.told.append(Told(stream, b"%d-%d" % (stream.number, self.outbox.number)))

    @rule(data=st.data(), size=st.integers(0, 400) | st.just(1300))
    def put(self, data: st.DataObject, size: int) -> None:
        told = data.draw(st.sampled_from([each for each in self.told if not each.stream.final] or self.told[:1]))
        message = self.message(size)
        told.meant.append(message)
        told.stream.put(message, last=told is not self.told[0] and data.draw(st.booleans()))

    @rule(size=st.integers(0, 400) | st.just(1300))
    def put_elsewhere(self, size: int) -> None:
        self.other.put(self.message(size))

    @rule(data=st.data(), back=st.booleans(), arrives=st.integers(0, 3), sends=st.integers(0, 5))
    def connect(self, data: st.DataObject, back: bool, arrives: int, sends: int) -> None:
        """A connection that is sent so many events and then breaks, having brought only some of them."""
        told = data.draw(st.sampled_from(self.told))
        stream, standing = told.stream, told is self.told[0]
        try:
            assert self.outbox.find(told.last) is stream
        except UnknownEvent:
            assert stream.final  # and nothing of it is left
            return
        wait = Wait()
        stream.attach(wait, told.last if back or not standing else None)
        for number in range(min(sends, len(stream.waiting))):
            kept = next(iter(stream.waiting.values()))
            assert kept.stream is stream
            self.outbox.sending(kept)
            if number < arrives:
                told.last = kept.id
                told.has.append(kept.message)
        stream.detach(wait)

    @precondition(lambda self: self.outbox.sent)
    @rule()
    def fail_to_send(self) -> None:
        """The connection says itself that the last event did not get through."""
        kept = list(self.outbox.sent.values())[-1]
        if any(kept.message is message for told in self.told for message in told.has):
            return
        wait = Wait()
        if kept.stream.waiting and next(iter(kept.stream.waiting)) < kept.number:
            return
        kept.stream.attach(wait)
        kept.stream.unsent(wait, kept)
        kept.stream.detach(wait)

    @invariant()
    def in_order_and_none_twice_and_none_of_another_stream(self) -> None:
        for told in self.told:
            places = [next(n for n, meant in enumerate(told.meant) if meant is message) for message in told.has]
            assert places == sorted(set(places))

    @invariant()
    def within_bounds_and_counted_right(self) -> None:
        held = 0
        for outbox in (self.outbox, self.other):
            waiting = {id(kept): kept for each in outbox._streams.values() for kept in each.waiting.values()}
            kept = [*outbox.sent.values(), *waiting.values()]
            assert (len(kept), len(waiting)) == (outbox._events, len(outbox))
            assert sum(each.size for each in kept) == outbox._bytes <= self.all.bounds.of_outbox.bytes
            assert len(kept) <= self.LIMITS.outbox_events_per_session
            held += outbox._bytes
            for stream in outbox._streams.values():
                assert stream.events == sum(each.stream is stream for each in kept)
                assert list(stream.waiting) == sorted(stream.waiting)
        assert held == self.all.bounds.outboxes.held <= self.LIMITS.outbox_bytes

    def teardown(self) -> None:
        """Whoever comes back in time gets everything that is kept; then the session ends."""
        for told in self.told:
            kept = [each for each in self.outbox.sent.values() if each.stream is told.stream]
            due = {each.number: each.message for each in [*kept, *told.stream.waiting.values()]}
            try:
                self.outbox.find(told.last)
            except UnknownEvent:
                continue
            told.stream.attach(Wait(), told.last)
            waiting = [each.message for each in told.stream.waiting.values()]
            assert waiting == [due[n] for n in sorted(due) if n > int(told.last.partition(b"-")[2])]
        for outbox in (self.outbox, self.other):
            outbox.clear()
        assert self.all.bounds.outboxes.held == 0


Streams.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestStreams: Callable[[], object] = Streams.TestCase
