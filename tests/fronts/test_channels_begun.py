"""Calls on channels that are begun without a task, at a server over HTTP, and what becomes a task's all the same."""

from __future__ import annotations

import json
from typing import Any, Self

import pytest
import trio
import trio.testing

from mcpgateway import jsonrpc
from mcpgateway.fronts.channel import Commons, open_channel
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.http import serve_fixture
from mcpgateway.wire.outgoing import ROOM, Outgoing
from mcpgateway.wire.waiting import Wait
from tests.fronts.channels import KINDS, ChannelClient, connected
from tests.fronts.site import call, modern, notification, request, site
from tests.fronts.test_channels import gateway_calls, gateway_has_calls, text

EVERYWHERE = pytest.mark.parametrize("kind", KINDS)
ERAS = pytest.mark.parametrize("era", Era)


class Tasks(trio.abc.Instrument):
    """The names of the tasks that are started while the block runs."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.names.append(task.name)

    def __enter__(self) -> Self:
        trio.lowlevel.add_instrument(self)
        return self

    def __exit__(self, *_: object) -> None:
        trio.lowlevel.remove_instrument(self)


async def ask(client: ChannelClient, era: Era, message: dict[str, Any]) -> Any:
    return await (client.ask(message) if era is Era.LEGACY else client.modern(message))


async def ready(client: ChannelClient, era: Era) -> None:
    """Shake hands where there are any, and have the link made."""
    if era is Era.LEGACY:
        await client.initialize()
    await ask(client, era, call("first", "echo", {"text": "first"}))


@EVERYWHERE
@ERAS
@pytest.mark.parametrize("spoken", Era)
async def test_a_plain_call_has_no_task(kind: str, era: Era, spoken: Era) -> None:
    async with serve_fixture(eras={spoken}) as fixture, site(urls={"one": fixture.url}) as gateway:
        async with connected(kind, gateway) as client:
            await ready(client, era)
            with Tasks() as tasks:
                for n in range(5):
                    assert text(await ask(client, era, call(n, "echo", {"text": f"hi {n}"}))) == f"hi {n}"
                unknown = await ask(client, era, call("u", "nope"))
            assert unknown["error"]["code"] == -32602
            assert not [name for name in tasks.names if "Channel" in name], tasks.names
            with Tasks() as tasks:
                await ask(client, era, call("p", "progress", {"n": 1}, _meta={"progressToken": "t"}))
            assert [name for name in tasks.names if "Channel" in name], "or this test sees none"


@EVERYWHERE
@ERAS
async def test_one_that_streams_goes_on_in_a_task(kind: str, era: Era) -> None:
    async with serve_fixture() as fixture, site(urls={"one": fixture.url}) as gateway:
        async with connected(kind, gateway) as client:
            await ready(client, era)
            client.told.clear()
            reply = await ask(client, era, call(1, "progress", {"n": 3}, _meta={"progressToken": "tok"}))

            assert [note["params"]["progress"] for note in client.told] == [1, 2, 3]
            assert text(reply) == "3 steps"


@EVERYWHERE
async def test_one_whose_session_is_lost_is_sent_again(kind: str) -> None:
    async with serve_fixture(eras={Era.LEGACY}) as fixture, site(urls={"one": fixture.url}) as gateway:
        async with connected(kind, gateway) as client:
            await ready(client, Era.LEGACY)
            fixture.sessions.clear()
            assert text(await client.ask(call(2, "echo", {"text": "again"}))) == "again"


@EVERYWHERE
async def test_one_is_cancelled_and_the_server_told(kind: str) -> None:
    async with serve_fixture(eras={Era.LEGACY}) as fixture, site(urls={"one": fixture.url}) as gateway:
        async with connected(kind, gateway) as client:
            await ready(client, Era.LEGACY)
            await client.send(call(1, "slow", {"name": "s1"}))
            await client.ask(call(2, "waiting", {"count": 1}))
            await client.send(notification("notifications/cancelled", {"requestId": 1}))
            counted = await client.ask(call(3, "cancelled", {"count": 1}))

            assert counted["result"]["structuredContent"] == {"values": ["s1"]}
            assert [message.get("id") for message in client.told] == []
            assert text(await client.ask(call(1, "echo", {"text": "the id is free"}))) == "the id is free"


@EVERYWHERE
async def test_a_drain_waits_for_one(kind: str) -> None:
    async with (
        serve_fixture(eras={Era.LEGACY}) as fixture,
        site(urls={"one": fixture.url}, shutdown_timeout=30.0) as gateway,
    ):
        async with connected(kind, gateway) as client:
            await ready(client, Era.LEGACY)
            await client.send(call(1, "slow", {"name": "s"}))
            await gateway_has_calls(gateway, 1)
            client.stop.set()
            await trio.testing.wait_all_tasks_blocked(0.001)
            for host in fixture.hosts:
                host.take(jsonrpc.request(b"99", "tools/call", {"name": "release"}))

            assert text(await client.answer(1)) == "s"
            with pytest.raises(trio.EndOfChannel):
                await client.receive()


@EVERYWHERE
async def test_a_batch_of_them_is_one_array(kind: str) -> None:
    async with serve_fixture() as fixture, site(urls={"one": fixture.url}) as gateway:
        async with connected(kind, gateway) as client:
            await client.initialize(revision="2025-03-26")
            await client.ask(call("first", "echo"))
            await client.send([call(1, "echo", {"text": "a"}), call(2, "echo", {"text": "b"}), request(3, "ping")])
            answers = await client.receive()

            assert sorted(answer["id"] for answer in answers) == [1, 2, 3]


@EVERYWHERE
async def test_a_client_that_leaves_ends_all_that_it_began(kind: str) -> None:
    async with serve_fixture() as fixture, site(urls={"one": fixture.url}) as gateway:
        async with connected(kind, gateway) as client:
            await ready(client, Era.MODERN)
            for n in range(20):
                await client.send(modern(call(n, "slow", {"name": f"s{n}"}))[0])
            await gateway_has_calls(gateway, 20)
            await client.wire.aclose()
        while gateway_calls(gateway):
            await trio.testing.wait_all_tasks_blocked(0.001)


@EVERYWHERE
async def test_a_mistake_of_ours_costs_one_call(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*_: object) -> bool:
        raise RuntimeError("a bug")

    async with serve_fixture() as fixture, site(urls={"one": fixture.url}) as gateway:
        async with connected(kind, gateway) as client:
            await ready(client, Era.LEGACY)
            with monkeypatch.context() as patched:
                patched.setattr(gateway.gateway.dispatcher, "begin", failing)
                failed = await client.ask(call(1, "echo"))
            answered = await client.ask(call(2, "echo", {"text": "well"}))

            assert "internal error" in failed["error"]["message"]
            assert "a bug" in caplog.text
            assert text(answered) == "well"


async def test_a_call_counts_until_its_client_takes_what_it_is_told() -> None:
    async with serve_fixture() as fixture, site(urls={"one": fixture.url}) as gateway:
        whole = gateway.gateway
        commons = Commons(whole.namespace, whole.sessions, whole.callers, whole.sweeper, whole.bounds)
        out = Outgoing(whole.bounds.replies, "client", Wait())
        written: list[bytes] = []
        reads = trio.Event()

        async def write(data: bytes) -> None:
            await reads.wait()
            written.append(data)

        async with open_channel(commons, "one", "client", out, bytes) as (channel, nursery):
            for id in (1, 2, 3):
                waiting = whole.bounds.replies.held
                channel.received(json.dumps(modern(call(id, "echo", {"text": f"text {id}"}))[0]).encode())
                while whole.bounds.replies.held == waiting:
                    await trio.testing.wait_all_tasks_blocked(0.001)
                if id == 2:
                    assert whole.bounds.calls.held == 0
                    out.put(b"x" * ROOM)
            held = whole.bounds.calls.held
            nursery.start_soon(out.drain, write)
            reads.set()
            while whole.bounds.calls.held:
                await trio.testing.wait_all_tasks_blocked(0.001)

        assert held == 1
        assert [b"text %d" % id in b"".join(written) for id in (1, 2, 3)] == [True] * 3
