"""What waits for a session's stream: in order, within bounds, and not lost while nobody takes it."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Event
from mcpgateway.errors import CallCancelled, InvalidRequest
from mcpgateway.jsonrpc import Message
from mcpgateway.sessions.outbox import MAX_BYTES, MAX_MESSAGES, Outbox, Outboxes
from mcpgateway.wire.bounds import Bound
from mcpgateway.wire.waiting import Wait


def note(number: object) -> Message:
    return jsonrpc.notification("notifications/message", {"data": number})


CHANGED = jsonrpc.notification("notifications/tools/list_changed")


class Client:
    """Takes messages; from the ``fails`` th on it is gone."""

    def __init__(self, fails: int = 1_000_000) -> None:
        self.taken: list[Message] = []
        self._fails = fails

    async def send(self, event: Event) -> None:
        await trio.lowlevel.checkpoint()
        if len(self.taken) >= self._fails:
            raise trio.BrokenResourceError
        assert event.message is not None
        self.taken.append(event.message)


async def drained(outbox: Outbox) -> list[Message]:
    """What a stream brings that is ended when there is nothing more."""
    client, wait = Client(), Wait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_drain, outbox, wait, client)
        await trio.testing.wait_all_tasks_blocked()
        wait.end(CallCancelled("the test has seen enough"))
    return client.taken


async def _drain(outbox: Outbox, wait: Wait, client: Client) -> None:
    outbox.attach(wait)
    with pytest.raises(CallCancelled):
        await outbox.drain(wait, client)
    outbox.detach()


async def test_what_was_kept_comes_first_and_what_comes_later_comes_at_once() -> None:
    outbox, client, wait = Outbox(), Client(), Wait()
    messages = [note(number) for number in range(4)]
    outbox.put(messages[0])
    outbox.put(messages[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_drain, outbox, wait, client)
        await trio.testing.wait_all_tasks_blocked()
        assert client.taken == messages[:2]
        outbox.put(messages[2])
        outbox.put(messages[3])
        await trio.testing.wait_all_tasks_blocked()
        assert client.taken == messages
        wait.end(CallCancelled("the test is over"))


async def test_a_second_stream_is_refused_while_there_is_one() -> None:
    outbox = Outbox()
    outbox.attach(Wait())
    with pytest.raises(InvalidRequest) as refused:
        outbox.attach(Wait())
    assert refused.value.status == 409
    outbox.detach()
    outbox.attach(Wait())


async def test_what_a_client_did_not_get_waits_for_the_next_stream() -> None:
    outbox, leaving = Outbox(), Client(fails=1)
    messages = [note(number) for number in range(3)]
    for message in messages:
        outbox.put(message)
    with pytest.raises(trio.BrokenResourceError):
        await outbox.drain(Wait(), leaving)
    assert leaving.taken == messages[:1]
    assert await drained(outbox) == messages[1:]


async def test_a_listing_that_changes_twice_is_told_once() -> None:
    outbox = Outbox()
    resources = jsonrpc.notification("notifications/resources/list_changed")
    for message in (CHANGED, note(1), CHANGED, resources):
        assert outbox.put(message) == []
    assert [message.method for message in await drained(outbox)] == [
        "notifications/tools/list_changed",
        "notifications/message",
        "notifications/resources/list_changed",
    ]
    outbox.put(CHANGED)
    assert len(outbox) == 1


async def test_the_oldest_go_when_there_are_too_many() -> None:
    outbox = Outbox()
    messages = [note(number) for number in range(MAX_MESSAGES + 2)]
    dropped = [gone for message in messages for _, gone in outbox.put(message)]
    assert dropped == messages[:2]
    assert await drained(outbox) == messages[2:]


def test_the_oldest_go_when_they_are_too_large_and_so_does_one_that_is_too_large_alone() -> None:
    outbox = Outbox()
    small, large, huge = note(1), note("x" * (MAX_BYTES - 100)), note("x" * MAX_BYTES)
    assert outbox.put(small) == []
    assert outbox.put(large) == [(None, small)]
    assert outbox.put(huge) == [(None, large), (None, huge)]
    assert outbox.put(small) == []
    assert len(outbox) == 1


def test_together_they_have_a_bound_and_who_has_been_away_longest_loses_the_oldest() -> None:
    large = [note("x" * 400 + str(number)) for number in range(6)]
    size = len(large[0].encode())
    all = Outboxes(Bound("outbox_bytes", "bytes", 4 * size, 4 * size))
    first, second, third = [Outbox(all) for _ in range(3)]
    for box, message in [(first, large[0]), (second, large[1]), (first, large[2]), (second, large[3])]:
        assert box.put(message) == []

    assert third.put(large[4]) == [(None, large[0])]
    assert third.put(large[5]) == [(None, large[2])]
    assert (len(first), len(second), len(third)) == (0, 2, 2)
    assert (all.bound.held, all.bound.displaced) == (4 * size, 2)
    assert first.put(large[0]) == [(None, large[1])]  # it has only just begun to wait
    for box in (first, second, third):
        box.clear()
    assert (all.bound.held, all.bound.addresses) == (0, {})


async def test_what_was_taken_counts_no_longer_and_what_was_not_taken_does_again() -> None:
    all = Outboxes(Bound("outbox_bytes", "bytes", MAX_BYTES, MAX_BYTES))
    outbox = Outbox(all)
    for number in range(3):
        outbox.put(note(number))
    with pytest.raises(trio.BrokenResourceError):
        await outbox.drain(Wait(), Client(fails=1))

    assert all.bound.held == 2 * len(note(1).encode())
    assert len(await drained(outbox)) == 2
    assert all.bound.held == 0


@given(st.lists(st.one_of(st.integers(0, 5), st.none()), max_size=60))
def test_a_stream_brings_the_newest_in_order_and_none_twice(steps: list[int | None]) -> None:
    """``None`` is a change of the list of tools, which waits at most once; a number is a log of that many 64 KiB."""
    outbox = Outbox()
    expected: list[tuple[Message, int]] = []
    for step in steps:
        message = CHANGED if step is None else note("x" * 65536 * step)
        dropped = outbox.put(message)
        if message is CHANGED and any(waiting is CHANGED for waiting, _ in expected):
            assert dropped == []
            continue
        expected.append((message, len(message.encode())))
        while sum(size for _, size in expected) > MAX_BYTES:
            assert dropped.pop(0)[1] is expected.pop(0)[0]
        assert dropped == []
    assert list(outbox._messages) == expected
