"""What a test may do to the in-memory adapter."""

from __future__ import annotations

import pytest
import trio

from mcpgateway import jsonrpc
from mcpgateway.errors import ServerMisbehaved, ServerUnavailable
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing import MemoryAdapter
from mcpgateway.testing.client import open_client, text_of
from mcpgateway.testing.fixture_server import FixtureServer


async def test_replies_can_be_held_back_and_let_go_in_their_order() -> None:
    adapter = MemoryAdapter("s")
    async with open_client(adapter, Era.LEGACY) as client, trio.open_nursery() as nursery:
        (link,) = adapter.links
        link.hold()
        first, second = (client.start(nursery, "echo", {"text": text}) for text in "ab")
        await trio.testing.wait_all_tasks_blocked()
        assert not first.done.is_set()
        assert link.statistics().in_flight == 2

        link.let_go()

        assert [text_of(await call.outcome()) for call in (first, second)] == ["a", "b"]


async def test_a_link_can_crash_at_any_time_and_the_next_one_is_fresh() -> None:
    adapter = MemoryAdapter("s")
    async with open_client(adapter, Era.MODERN) as client, trio.open_nursery() as nursery:
        slow = client.start(nursery, "slow", {"name": "x"})
        await client.call("waiting", {"count": 1})
        adapter.links[0].crash("power failure")
        adapter.links[0].crash("again")

        assert str(await slow.problem()) == "server 's': power failure"
        with pytest.raises(ServerUnavailable, match="power failure"):
            await client.link.notify(jsonrpc.notification("notifications/x"))
    async with open_client(adapter, Era.MODERN) as client:
        assert text_of(await client.call("echo", {"text": "fresh"})) == "fresh"
    first, second = (link.host for link in adapter.links)
    assert isinstance(first, FixtureServer)
    assert isinstance(second, FixtureServer)
    assert (len(first.ids), len(second.ids)) == (3, 2)


async def test_messages_can_come_out_of_the_blue() -> None:
    adapter = MemoryAdapter("s")
    async with open_client(adapter, Era.LEGACY) as client:
        adapter.links[0].send(jsonrpc.request(b"1", "roots/list"))
        adapter.links[0].send(jsonrpc.result(b"99", {}))

        assert (await client.received.next()).method == "roots/list"
        assert len(client.received.messages) == 1


async def test_a_broken_reply_fails_its_call() -> None:
    adapter = MemoryAdapter("s")
    async with open_client(adapter, Era.LEGACY) as client, trio.open_nursery() as nursery:
        slow = client.start(nursery, "slow", {"name": "x"})
        await client.call("waiting", {"count": 1})
        (link,) = adapter.links
        assert isinstance(link.host, FixtureServer)
        (wire,) = link.host.slow
        link.send(jsonrpc.result(wire, {}).replace(error=jsonrpc.raw_of({})))

        assert isinstance(await slow.problem(), ServerMisbehaved)
