"""The contract's rules about links: how one is made, and how it ends."""

from __future__ import annotations

import trio
import trio.testing

from mcpgateway.adapters.base import Adapter
from mcpgateway.errors import EraMismatch, ServerUnavailable
from mcpgateway.jsonrpc import members_of
from mcpgateway.protocol.revisions import Era, era_of
from mcpgateway.testing.client import Client, expect, make_offer, open_client, structured, text_of
from mcpgateway.testing.subject import AdapterUnderTest, open_subject, rule

# ---- making a link -------------------------------------------------------------------------------------------------


@rule()
async def _shakes_hands(subject: AdapterUnderTest, era: Era) -> None:
    async with open_subject(subject, era) as client:
        agreed = client.link.negotiated
        expect(agreed.era is era and era_of(agreed.revision) is era, f"negotiated {agreed!r}")
        expect(agreed.name != "", "the server's name is not known")
        expect("tools" in members_of(agreed.capabilities), "the server's capabilities are not known")
        expect("capabilities" in members_of(agreed.result), "the server's result is not kept whole")
        expect(not client.link.closed.is_set(), "closed from the start")
        if era is Era.LEGACY:
            heard = structured(await client.call("heard", {"count": 1}))["values"]
            expect(heard == ["notifications/initialized"], f"the server was told {heard!r}")


@rule()
async def _finds_out_the_era(subject: AdapterUnderTest, era: Era) -> None:
    adapter = subject.only.get(era)
    best = Era.MODERN if Era.MODERN in subject.eras else Era.LEGACY
    for candidate, expected in ((subject.adapter, best), (adapter, era)):
        if candidate is not None:
            async with open_client(candidate, None) as client:
                found = client.link.negotiated.era
                expect(found is expected, f"took the server for {found.value}")
                expect(text_of(await client.call("echo", {"text": "hello"})) == "hello", "no echo")


@rule()
async def _refuses_the_wrong_era(subject: AdapterUnderTest, era: Era) -> None:
    other = Era.MODERN if era is Era.LEGACY else Era.LEGACY
    adapter = subject.only.get(other)
    if adapter is not None:
        await _fails_to_connect(adapter, era, EraMismatch)


@rule()
async def _says_when_nobody_is_there(subject: AdapterUnderTest, era: Era) -> None:
    if subject.dead is not None:
        await _fails_to_connect(subject.dead, era, ServerUnavailable)


async def _fails_to_connect(adapter: Adapter, era: Era, kind: type[Exception]) -> None:
    async with trio.open_nursery() as nursery:
        try:
            await adapter.connect(nursery, make_offer(era), lambda message: None)
        except kind as problem:
            expect(adapter.server in str(problem), "the error does not name the server")
        else:
            raise AssertionError(f"connect did not raise {kind.__name__}")
        await _is_empty(nursery)


@rule()
async def _leaves_nothing_when_connecting_is_cancelled(subject: AdapterUnderTest, era: Era) -> None:
    async with trio.open_nursery() as links, trio.open_nursery() as nursery:
        for adapter in (subject.adapter, subject.silent):
            if adapter is not None:
                with trio.CancelScope() as scope:
                    if adapter is subject.adapter:
                        scope.cancel(reason="cancelled before it began")
                    else:
                        nursery.start_soon(_cancel_when_all_wait, scope)  # noqa: ASYNC111  # it only cancels
                    await adapter.connect(links, make_offer(era), lambda message: None)
                expect(scope.cancelled_caught, "connect was not cancelled")
                await _is_empty(links)


async def _cancel_when_all_wait(scope: trio.CancelScope) -> None:
    await trio.testing.wait_all_tasks_blocked(0.01)
    scope.cancel(reason="the server is silent")


async def _is_empty(nursery: trio.Nursery) -> None:
    await trio.testing.wait_all_tasks_blocked()
    expect(not nursery.child_tasks, f"tasks left: {nursery.child_tasks!r}")


# ---- how a link ends -----------------------------------------------------------------------------------------------


@rule()
async def _fails_calls_when_the_server_crashes(subject: AdapterUnderTest, era: Era) -> None:
    async with open_subject(subject, era) as client, trio.open_nursery() as nursery:
        slow = client.start(nursery, "slow", {"name": "in flight"})
        await client.call("waiting", {"count": 1})
        crash = client.start(nursery, "crash")
        for call in (slow, crash):
            problem = await call.problem()
            expect(isinstance(problem, ServerUnavailable), f"a call in flight raised {problem!r}")
            expect(subject.last_words in str(problem), f"the error does not say why: {problem}")
        await client.link.closed.wait()
        expect(client.link.failure != "", "the link does not say why it closed")
        await _is_over(client)


@rule()
async def _closes_once_and_for_all(subject: AdapterUnderTest, era: Era) -> None:
    async with open_subject(subject, era) as client, trio.open_nursery() as nursery:
        slow = client.start(nursery, "slow", {"name": "in flight"})
        await client.call("waiting", {"count": 1})
        await client.link.aclose()
        problem = await slow.problem()
        expect(isinstance(problem, ServerUnavailable), f"a call in flight raised {problem!r}")
        await client.link.aclose()
        await _is_over(client)
        await _is_empty(client.nursery)
        expect(not subject.leftovers(), f"left behind: {subject.leftovers()!r}")


async def _is_over(client: Client) -> None:
    expect(client.link.closed.is_set(), "closed is not set")
    expect(client.link.statistics().in_flight == 0, f"it is over, and {client.link.statistics()!r}")
    try:
        await client.call("echo")
    except ServerUnavailable:
        pass
    else:
        raise AssertionError("a call was answered on a link that is over")


@rule()
async def _ends_with_its_nursery(subject: AdapterUnderTest, era: Era) -> None:
    async with trio.open_nursery() as calls:
        async with open_client(subject.adapter, era) as client:
            slow = client.start(calls, "slow", {"name": "in flight"})
            await client.call("waiting", {"count": 1})
            client.nursery.cancel_scope.cancel(reason="the owner of the link is gone")
        problem = await slow.problem()
        expect(isinstance(problem, ServerUnavailable), f"a call in flight raised {problem!r}")
        expect(client.link.closed.is_set(), "closed is not set")
