"""Merged listings when a server is slow, silent or away: what is shown meanwhile, and what it costs the others."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from msgspec import Raw

from mcpgateway.calls.merged import MISSING_META
from mcpgateway.config.model import Config, EraPolicy, InProcessServer
from mcpgateway.errors import JSON
from mcpgateway.gateway import Gateway
from mcpgateway.jsonrpc import Message, members_of, value_of
from mcpgateway.protocol.revisions import Era
from mcpgateway.sessions.caller import Caller
from tests.calls.doubles import Library, ask, gateway_of, handshake, legacy, library, result, session_of, space, use
from tests.servers.doubles import Counting

CONFIG = Config(list_timeout=5.0)


class Slow(Library):
    """Answers ``tools/list`` when it is told to, while it ``lags``; and nothing but handshakes while ``silent``."""

    name = "slow"

    def __init__(self, **options: object) -> None:
        super().__init__(eras={Era.LEGACY})
        self.lags = False
        self.silent = False
        self.asked_for: list[Message] = []

    def handle(self, message: Message) -> list[Message]:
        if self.silent and message.method not in ("initialize", "notifications/initialized"):
            return []
        if self.lags and message.method == "tools/list":
            self.asked_for.append(message)
            return []
        return super().handle(message)


def slow_server() -> Counting:
    return Counting("slow", Slow, eras={Era.LEGACY})


def slow_one(adapter: Counting) -> Slow:
    host = adapter.host
    assert isinstance(host, Slow)
    return host


async def listed(gateway: Gateway, caller: Caller) -> tuple[list[str], dict[str, JSON]]:
    """The names of the tools, and the servers that are missing."""
    got = result(await ask(space(gateway), caller, "tools/list"))
    tools, meta = got["tools"], got.get("_meta", {})
    assert isinstance(tools, list)
    assert isinstance(meta, dict)
    missing = meta.get(MISSING_META, {})
    assert isinstance(missing, dict)
    return [str(tool["name"]) for tool in tools if isinstance(tool, dict)], missing


def capabilities_of(raw: Raw) -> dict[str, JSON]:
    """What a handshake offers."""
    capabilities = value_of(members_of(raw)["capabilities"])
    assert isinstance(capabilities, dict)
    return capabilities


def methods_in(caller: Caller) -> list[str | None]:
    """What waits for a session, which is taken out of its outbox."""
    assert caller.session is not None
    methods: list[str | None] = []
    while (message := caller.session.outbox.take()) is not None:
        methods.append(message.method)
    return methods


def answer(adapter: Counting) -> None:
    """Have the server answer what it was asked for last."""
    host = slow_one(adapter)
    host.lags = False
    for message in host.handle(host.asked_for[-1]):
        adapter.links[-1].send(message)


@pytest.mark.requirement("4.bulkheads")
async def test_what_a_slow_server_listed_last_is_shown_and_its_news_are_told(
    autojump_clock: trio.testing.MockClock,
) -> None:
    slow = slow_server()
    async with gateway_of(library("a"), slow, config=CONFIG) as gateway:
        caller = session_of(gateway, space(gateway), legacy())
        assert caller.session is not None
        before, missing = await listed(gateway, caller)
        assert missing == {}

        slow_one(slow).lags = True
        began = trio.current_time()
        shown, missing = await listed(gateway, caller)
        assert 2 < trio.current_time() - began <= 2.5
        assert (shown, missing) == (before, {"slow": "did not list within 2.5 s"})

        del slow_one(slow).tools["echo"]
        await trio.testing.wait_all_tasks_blocked()
        answer(slow)
        await trio.testing.wait_all_tasks_blocked()
        assert len(caller.session.outbox) == 1
        after, missing = await listed(gateway, caller)
        assert (set(before) - set(after), missing) == ({"slow_echo"}, {})


async def test_a_late_listing_that_says_the_same_is_no_news(autojump_clock: trio.testing.MockClock) -> None:
    slow = slow_server()
    async with gateway_of(library("a"), slow, config=CONFIG) as gateway:
        caller = session_of(gateway, space(gateway), legacy())
        assert caller.session is not None
        await listed(gateway, caller)
        slow_one(slow).lags = True
        for _ in range(3):
            await listed(gateway, caller)
        await trio.testing.wait_all_tasks_blocked()
        asked = len(slow_one(slow).asked_for)
        answer(slow)
        await trio.testing.wait_all_tasks_blocked()
        assert len(caller.session.outbox) == 0
        assert asked <= 5  # three listings, and in the background one at a time


async def test_a_late_listing_that_never_comes_leaves_nothing_behind(autojump_clock: trio.testing.MockClock) -> None:
    slow = slow_server()
    async with gateway_of(library("a"), slow, config=CONFIG) as gateway:
        await listed(gateway, legacy())
        slow_one(slow).lags = True
        await listed(gateway, legacy())
        await trio.sleep(10)
        assert gateway.statistics().waits == 0
        assert gateway.statistics().servers[1].failures == 1


@pytest.mark.requirement("4.bulkheads")
async def test_a_server_that_is_asked_in_vain_again_and_again_is_not_waited_for_any_more(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """And is again once it has answered a ping."""
    slow = slow_server()
    async with gateway_of(library("a"), slow, config=CONFIG) as gateway:
        slow_one(slow).silent = True
        took: list[float] = []
        for _ in range(30):
            began = trio.current_time()
            _, missing = await listed(gateway, legacy())
            took.append(trio.current_time() - began)
            assert set(missing) == {"slow"}
            assert "content" in await use(space(gateway), legacy(), "a_echo")

        assert max(took) <= 5
        assert sum(seconds > 2.1 for seconds in took) == 5
        assert took[-1] < 0.01
        assert gateway.statistics().servers[1].circuit == "open"
        slow_one(slow).silent = False
        await trio.sleep(61)
        assert (await listed(gateway, legacy()))[1] == {}
        assert gateway.statistics().servers[1].circuit == "closed"


# ---- servers that listings lacked ------------------------------------------------------------------------------------


@pytest.mark.parametrize("eras", [{Era.LEGACY}, {Era.LEGACY, Era.MODERN}])
async def test_a_client_is_told_when_a_server_comes_up_that_its_listing_lacked(
    autojump_clock: trio.testing.MockClock, eras: set[Era]
) -> None:
    """Of a server of both eras the gateway makes a modern link first, which says nothing of what legacy clients see."""
    late = library("late", eras=eras)
    late.delay = 20.0
    async with gateway_of(library("a"), late, config=CONFIG, ready=False) as gateway:
        caller = session_of(gateway, space(gateway), legacy())
        assert caller.session is not None
        raw, _ = await space(gateway).initialize(caller, handshake(), "id")
        capabilities = capabilities_of(raw)
        assert [capabilities[kind] for kind in ("tools", "prompts", "resources")] == [{"listChanged": True}] * 3
        before, missing = await listed(gateway, caller)
        assert list(missing) == ["late"]

        await trio.sleep(45)
        assert methods_in(caller) == ["notifications/tools/list_changed"]
        after, missing = await listed(gateway, caller)
        assert (missing, "late_echo" in after, "late_echo" in before) == ({}, True, False)


async def test_a_client_that_gave_up_listing_is_told_when_there_is_something_to_list(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """As an AI cloud whose ``call_deadline`` is shorter than a listing waits: it has no list at all."""
    late = library("late")
    late.delay = 3.0
    async with gateway_of(library("a"), late, config=CONFIG, ready=False) as gateway:
        caller = session_of(gateway, space(gateway), legacy())
        for seconds in (1.0, 4.0):  # before any link was tried, and while the second link is being made
            with trio.move_on_after(seconds) as scope:
                await listed(gateway, caller)
            assert scope.cancelled_caught
            assert methods_in(caller) == []
        await trio.sleep(30)
        assert methods_in(caller) == ["notifications/tools/list_changed"]
        assert "late_echo" in (await listed(gateway, caller))[0]


async def test_a_client_is_told_when_a_server_can_be_reached_that_could_not_be(
    autojump_clock: trio.testing.MockClock,
) -> None:
    down = library("down", eras={Era.LEGACY})
    down.dead = True
    async with gateway_of(library("a"), down, config=CONFIG, ready=False) as gateway:
        caller = session_of(gateway, space(gateway), legacy())
        _, missing = await listed(gateway, caller)
        assert list(missing) == ["down"]
        await trio.sleep(8)
        assert methods_in(caller) == []
        down.dead = False
        await trio.sleep(16)
        assert methods_in(caller) == ["notifications/tools/list_changed"]
        assert "down_echo" in (await listed(gateway, caller))[0]
        await trio.sleep(100)
        assert methods_in(caller) == []


async def test_a_server_of_the_other_era_is_not_awaited(autojump_clock: trio.testing.MockClock) -> None:
    mirror = InProcessServer("new", module="m:s", era=EraPolicy.MIRROR)
    async with gateway_of(library("a"), library("new", eras={Era.MODERN}), configs={"new": mirror}) as gateway:
        _, missing = await listed(gateway, session_of(gateway, space(gateway), legacy()))
        assert list(missing) == ["new"]
        assert [server.missed for server in gateway.servers.values()] == [False, False]
