"""One call to one server: its deadline, its link, and what its end does to both."""

from __future__ import annotations

import attrs
import pytest
import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Back, Reply, Request
from mcpgateway.calls.namespace import Namespace
from mcpgateway.config.model import HttpServer, InProcessServer, Isolation, Links
from mcpgateway.errors import CallCancelled, ServerSessionLost, ServerTimeout, ServerUnavailable, UnknownSession
from mcpgateway.protocol.revisions import Era
from mcpgateway.sessions.caller import Caller
from mcpgateway.testing.memory import MemoryLink
from mcpgateway.wire.waiting import Wait
from tests.calls.doubles import (
    ask,
    gateway_of,
    handshake,
    host,
    legacy,
    library,
    session_of,
    space,
    use,
)

ASKABLE = b'{"elicitation":{}}'
STDIO = InProcessServer("a", module="m:s", timeout=60.0, max_timeout=150.0)
HTTP = HttpServer("a", url="http://a/mcp")


async def slow(
    namespace: Namespace, caller: Caller, wait: Wait, problems: list[Exception], *, token: bool = False
) -> None:
    """Call the tool that never answers; what ended it goes to the list."""
    params: dict[str, object] = {"name": "slow", "arguments": {"name": "x"}}
    if token:
        params["_meta"] = {"progressToken": "t"}
    try:
        await ask(namespace, caller, "tools/call", params, wait=wait)
    except Exception as problem:
        problems.append(problem)


async def test_a_silent_server_is_given_up_at_its_timeout_and_told(autojump_clock: trio.testing.MockClock) -> None:
    adapter = library("a", eras={Era.LEGACY})
    async with gateway_of(adapter, configs={"a": STDIO}) as gateway:
        began = trio.current_time()
        with pytest.raises(ServerTimeout, match="did not answer within 60 s"):
            await use(space(gateway, "a"), legacy(), "slow", name="x")
        assert 60 <= trio.current_time() - began <= 61
        assert host(adapter).cancelled == ["x"]
        assert gateway.statistics().waits == 0


async def test_progress_renews_the_deadline_up_to_a_hard_cap(autojump_clock: trio.testing.MockClock) -> None:
    adapter = library("a", eras={Era.LEGACY})
    problems: list[Exception] = []
    async with gateway_of(adapter, configs={"a": STDIO}) as gateway, trio.open_nursery() as nursery:
        began = trio.current_time()
        nursery.start_soon(lambda: slow(space(gateway, "a"), legacy(), Wait(), problems, token=True))
        await trio.testing.wait_all_tasks_blocked()
        (wire,) = host(adapter).slow
        for step in range(4):
            await trio.sleep(40)
            if not problems:
                progress = {"progressToken": Raw(wire), "progress": step}
                adapter.links[0].send(jsonrpc.notification("notifications/progress", progress))
            if step == 2:
                assert problems == []

        assert [type(problem) for problem in problems] == [ServerTimeout]
        assert trio.current_time() - began == 160


async def test_without_progress_the_deadline_begins_anew_at_the_last(autojump_clock: trio.testing.MockClock) -> None:
    adapter = library("a", eras={Era.LEGACY})
    ended: list[float] = []
    async with gateway_of(adapter, configs={"a": STDIO}) as gateway, trio.open_nursery() as nursery:
        began = trio.current_time()

        async def one() -> None:
            await slow(space(gateway, "a"), legacy(), Wait(), [], token=True)
            ended.append(trio.current_time() - began)

        nursery.start_soon(one)
        await trio.sleep(50)
        (wire,) = host(adapter).slow
        progress = jsonrpc.notification("notifications/progress", {"progressToken": Raw(wire), "progress": 1})
        adapter.links[0].send(progress)

    assert 110 <= ended[0] <= 111.1


async def test_a_call_that_is_ended_while_it_waits_for_a_link_takes_none(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = library("a", eras={Era.LEGACY})
    config = attrs.evolve(STDIO, isolation=Isolation.EXCLUSIVE, links=Links(max=1))
    problems: list[Exception] = []
    async with gateway_of(adapter, configs={"a": config}) as gateway, trio.open_nursery() as nursery:
        wait = Wait()
        namespace, caller = space(gateway, "a"), legacy()
        nursery.start_soon(lambda: slow(namespace, caller, Wait(), problems))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(lambda: slow(namespace, caller, wait, problems))
        await trio.testing.wait_all_tasks_blocked()
        assert gateway.statistics().servers[0].waiting == 1
        began = trio.current_time()
        wait.end(CallCancelled("not needed"))
        await trio.testing.wait_all_tasks_blocked()

        assert [str(problem) for problem in problems] == ["not needed"]
        assert gateway.statistics().servers[0].waiting == 0
        assert trio.current_time() == began
        nursery.cancel_scope.cancel(reason="the test is over")


@pytest.mark.parametrize(
    ("config", "capabilities", "closes"),
    [
        (STDIO, ASKABLE, True),
        (STDIO, b"{}", False),
        (attrs.evolve(STDIO, isolation=Isolation.SHARED), ASKABLE, False),
        (attrs.evolve(STDIO, isolation=Isolation.EXCLUSIVE), b"{}", True),
        (attrs.evolve(HTTP, isolation=Isolation.MULTIPLEXED), ASKABLE, False),
    ],
    ids=["alone on a pipe", "plain", "shared", "exclusive", "streams tell calls apart"],
)
async def test_a_link_on_which_the_server_may_still_ask_about_a_cancelled_call_is_closed(
    config: InProcessServer | HttpServer, capabilities: bytes, closes: bool, autojump_clock: trio.testing.MockClock
) -> None:
    adapter = library("a", eras={Era.LEGACY})
    problems: list[Exception] = []
    async with gateway_of(adapter, configs={"a": config}) as gateway, trio.open_nursery() as nursery:
        namespace, wait = space(gateway, "a"), Wait()
        caller = session_of(gateway, namespace, legacy(capabilities))
        nursery.start_soon(lambda: slow(namespace, caller, wait, problems))
        await trio.testing.wait_all_tasks_blocked()
        link = adapter.links[-1]
        wait.end(CallCancelled("not needed"))
        await trio.testing.wait_all_tasks_blocked()

        assert isinstance(problems[0], CallCancelled)
        assert link.closed.is_set() is closes
        assert "content" in await use(namespace, caller, "echo")


async def test_after_a_crash_the_very_next_call_works(autojump_clock: trio.testing.MockClock) -> None:
    adapter = library("a", eras={Era.LEGACY})
    async with gateway_of(adapter, configs={"a": STDIO}) as gateway:
        await trio.sleep(5)
        for _ in range(3):
            with pytest.raises(ServerUnavailable, match="boom"):
                await use(space(gateway, "a"), legacy(), "crash")
            assert "content" in await use(space(gateway, "a"), legacy(), "echo")
            await trio.sleep(1)


# ---- sessions that pass through --------------------------------------------------------------------------------------


class ForgetsItsSession(MemoryLink):
    """A link whose server answers the second call with 404: it does not know the session any more."""

    async def call(self, request: Request, back: Back) -> Reply:
        if self.statistics().calls == 1:
            self.crash("the server no longer knows the session")
            raise ServerSessionLost(self._server, "no longer knows the session")
        return await super().call(request, back)


async def test_a_lost_session_of_the_clients_own_is_the_clients_to_open_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = library("a", eras={Era.LEGACY})
    adapter.link_class = ForgetsItsSession
    async with gateway_of(adapter, configs={"a": HTTP}) as gateway:
        namespace, caller = space(gateway, "a"), legacy()
        _, kept = await namespace.initialize(caller, handshake(), "id")
        assert kept
        gateway.sessions.open("id", "a", caller)
        await use(namespace, caller, "echo")
        with pytest.raises(ServerSessionLost) as lost:
            await use(namespace, caller, "echo")
        assert lost.value.status == 404
        with pytest.raises(UnknownSession):
            gateway.sessions.find("id", "a", "anonymous")
        await trio.testing.wait_all_tasks_blocked()
        assert len(adapter.links) == 2


async def test_a_lost_session_of_the_gateways_own_is_opened_again_unseen(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = library("a", eras={Era.LEGACY})
    adapter.link_class = ForgetsItsSession
    async with gateway_of(adapter, library("b"), configs={"a": HTTP}) as gateway:
        namespace = space(gateway)
        caller = session_of(gateway, namespace, legacy())
        for _ in range(5):
            assert "content" in await use(namespace, caller, "a_echo")
        assert gateway.sessions.find("session", "", "anonymous").caller is caller


async def test_a_crashed_pipe_of_a_session_is_made_again_with_the_clients_own_handshake(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = library("a", eras={Era.LEGACY})
    config = attrs.evolve(STDIO, isolation=Isolation.SESSION)
    async with gateway_of(adapter, configs={"a": config}) as gateway:
        namespace, caller = space(gateway, "a"), legacy(revision="2025-06-18")
        await namespace.initialize(caller, handshake("me", revision="2025-06-18"), "id")
        gateway.sessions.open("id", "a", caller)
        await trio.sleep(5)
        with pytest.raises(ServerUnavailable):
            await use(namespace, caller, "crash")
        assert "content" in await use(namespace, caller, "echo")

        assert [b'"me"' in bytes(offer.initialize) for offer in adapter.offers] == [False, True, True]
        gateway.sessions.close_all()
        await trio.testing.wait_all_tasks_blocked()
        assert len(adapter.open) == 1
