"""Subscriptions and log levels on links that sessions share: asked once, told to those who asked, let go in the end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Reply
from mcpgateway.calls.namespace import Namespace
from mcpgateway.config.model import InProcessServer, Isolation, Links
from mcpgateway.errors import JSON, CallCancelled, InvalidParams, MethodNotFound, ServerTimeout, TooBusy
from mcpgateway.gateway import Gateway
from mcpgateway.jsonrpc import Message, members_of, value_of
from mcpgateway.protocol import envelope
from mcpgateway.protocol.levels import passes
from mcpgateway.protocol.revisions import Era
from mcpgateway.sessions.caller import Caller
from mcpgateway.sessions.interests import MAX_SUBSCRIPTIONS, MAX_URI
from mcpgateway.testing.fixture_server import FixtureServer
from mcpgateway.wire.waiting import Wait
from tests.calls.doubles import Collecting, ask, gateway_of, legacy, modern, result, session_of, space, use
from tests.calls.inquirer import asking
from tests.calls.newsroom import Newsroom, listening, newsroom, room, says
from tests.servers.doubles import Counting

BOOK = "book://a/1"
SUBSCRIBE, UNSUBSCRIBE, SET_LEVEL = "resources/subscribe", "resources/unsubscribe", "logging/setLevel"


class Silent(Newsroom):
    """Does not answer subscriptions."""

    name = "a"

    def handle(self, message: jsonrpc.Message) -> list[jsonrpc.Message]:
        return [] if message.method == SUBSCRIBE else super().handle(message)


class Refusing(Newsroom):
    name = "a"
    refuses = True


async def subscribe(namespace: Namespace, caller: Caller, uri: str = BOOK) -> Reply:
    return await ask(namespace, caller, SUBSCRIBE, {"uri": uri})


async def unsubscribe(namespace: Namespace, caller: Caller, uri: str = BOOK) -> Reply:
    return await ask(namespace, caller, UNSUBSCRIBE, {"uri": uri})


async def level(namespace: Namespace, caller: Caller, level: str) -> Reply:
    return await ask(namespace, caller, SET_LEVEL, {"level": level})


def sessions(gateway: Gateway, namespace: Namespace, count: int, capabilities: bytes = b"{}") -> list[Caller]:
    return [
        session_of(gateway, namespace, legacy(capabilities), f"{namespace.name}{number}") for number in range(count)
    ]


async def end(gateway: Gateway, caller: Caller) -> None:
    assert caller.session is not None
    gateway.sessions.close(caller.session)
    await trio.testing.wait_all_tasks_blocked()


# ---- subscriptions ---------------------------------------------------------------------------------------------------


@pytest.mark.requirement("3.changes.subscribe")
@pytest.mark.parametrize("name", ["a", ""])
@pytest.mark.parametrize("leave", [unsubscribe, None])
async def test_the_first_subscribes_and_the_last_unsubscribes(
    name: str, leave: Callable[[Namespace, Caller], object] | None, autojump_clock: trio.testing.MockClock
) -> None:
    one = newsroom("a")
    async with gateway_of(one, newsroom("b")) as gateway:
        namespace = space(gateway, name)
        callers = sessions(gateway, namespace, 3)
        for caller in callers:
            result(await subscribe(namespace, caller))
        assert room(one).asked_for(SUBSCRIBE) == [BOOK]
        assert gateway.statistics().changes.subscriptions == 3
        for number, caller in enumerate(callers):
            assert room(one).asked_for(UNSUBSCRIBE) == []
            if leave is not None:
                result(await unsubscribe(namespace, caller))
            else:
                await end(gateway, caller)
            assert gateway.statistics().changes.subscriptions == 2 - number
        assert room(one).asked_for(UNSUBSCRIBE) == [BOOK]
        result(await subscribe(namespace, session_of(gateway, namespace, legacy(), "later")))
        assert room(one).asked_for(SUBSCRIBE) == [BOOK, BOOK]


async def test_updates_go_to_the_subscribers_and_only_to_them(autojump_clock: trio.testing.MockClock) -> None:
    one = newsroom("a")
    async with gateway_of(one) as gateway:
        namespace = space(gateway, "a")
        first, second, third = sessions(gateway, namespace, 3)
        await subscribe(namespace, first)
        await subscribe(namespace, second, "book://a/2")
        async with (
            listening(gateway, namespace, first) as one_book,
            listening(gateway, namespace, second) as other_book,
            listening(gateway, namespace, third) as none,
        ):
            await says(one.links[0], "resources/updated", uri=BOOK, title="x")
            await says(one.links[0], "resources/updated", uri=f"{BOOK}/page/3")
            await says(one.links[0], "resources/updated", uri=f"{BOOK}2")
            await says(one.links[0], "resources/updated")
            await unsubscribe(namespace, first)
            await says(one.links[0], "resources/updated", uri=BOOK)

    assert one_book.params("uri") == [BOOK, f"{BOOK}/page/3"]
    assert bytes(one_book.messages[0].params or b"") == b'{"uri":"book://a/1","title":"x"}'
    assert other_book.messages == none.messages == []


async def test_a_merged_namespace_routes_by_its_table_and_tells_the_uri_that_it_shows(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Same(Newsroom):
        def resources(self) -> list[JSON]:
            return [{"uri": "book:/1", "name": "one"}]

    one, two = (Counting(name, type(name, (Same,), {"name": name}), eras={Era.LEGACY}) for name in "ab")
    async with gateway_of(one, two) as gateway:
        merged = space(gateway)
        (caller,) = sessions(gateway, merged, 1)
        entries = result(await ask(merged, caller, "resources/list"))["resources"]
        assert isinstance(entries, list)
        uris = [str(entry["uri"]) for entry in entries if isinstance(entry, dict)]
        for uri in uris:
            await subscribe(merged, caller, uri)
        assert [room(adapter).asked_for(SUBSCRIBE) for adapter in (one, two)] == [["book:/1"], ["book:/1"]]
        async with listening(gateway, merged, caller) as stream:
            for adapter in (one, two):
                await says(adapter.links[0], "resources/updated", uri="book:/1")
            await says(two.links[0], "resources/updated", uri="book:/1/2")
            assert stream.params("uri") == [*uris, f"{uris[1]}/2"]
        with pytest.raises(InvalidParams, match="Unknown resource"):
            await subscribe(merged, caller, "book:/unknown")
        result(await unsubscribe(merged, caller, "book:/unknown"))
        result(await unsubscribe(merged, caller, uris[1]))
        assert [room(adapter).asked_for(UNSUBSCRIBE) for adapter in (one, two)] == [[], ["book:/1"]]


async def test_an_update_in_the_same_breath_as_the_answer_is_heard(autojump_clock: trio.testing.MockClock) -> None:
    class Prompt(Newsroom):
        def handle(self, message: Message) -> list[Message]:
            answers = super().handle(message)
            if message.method != "resources/subscribe":
                return answers
            return [*answers, jsonrpc.notification("notifications/resources/updated", {"uri": BOOK})]

    one = Counting("a", Prompt, eras={Era.LEGACY})
    async with gateway_of(one) as gateway:
        caller = session_of(gateway, space(gateway, "a"), legacy())
        async with listening(gateway, space(gateway, "a"), caller) as stream:
            await ask(space(gateway, "a"), caller, "resources/subscribe", {"uri": BOOK})
            await trio.testing.wait_all_tasks_blocked()

    assert stream.methods == ["resources/updated"]


@pytest.mark.requirement("4.children.restart")
async def test_a_link_that_is_made_anew_is_subscribed_again(autojump_clock: trio.testing.MockClock) -> None:
    one = newsroom("a")
    async with gateway_of(one) as gateway:
        namespace = space(gateway, "a")
        first, second = sessions(gateway, namespace, 2, b'{"roots":{}}')
        await subscribe(namespace, first)
        await subscribe(namespace, second)
        await level(namespace, first, "info")
        async with listening(gateway, namespace, second) as stream:
            for _ in range(2):
                one.open[-1].crash("killed")
                await trio.sleep(120)
                host = one.open[-1].host
                assert isinstance(host, Newsroom)
                assert host.asked_for(SUBSCRIBE) == [BOOK]
                assert host.asked_for(SET_LEVEL, "level") == ["info"]
            await says(one.open[-1], "resources/updated", uri=BOOK)
            assert stream.methods[-1] == "resources/updated"


async def test_a_subscribed_link_outlasts_the_idle_time(autojump_clock: trio.testing.MockClock) -> None:
    one = newsroom("a")
    none = {"a": InProcessServer("a", module="m:s", links=Links(min=0))}
    async with gateway_of(one, configs=none) as gateway:
        namespace = space(gateway, "a")
        (caller,) = sessions(gateway, namespace, 1)
        await subscribe(namespace, caller)
        await trio.sleep(1000)
        assert len(one.open) == 1
        await unsubscribe(namespace, caller)
        await trio.sleep(1000)
        assert one.open == []


async def test_subscriptions_leave_a_link_for_others(autojump_clock: trio.testing.MockClock) -> None:
    two = {"a": InProcessServer("a", module="m:s", links=Links(max=2))}
    async with gateway_of(newsroom("a"), configs=two) as gateway:
        namespace = space(gateway, "a")
        plain, other = (
            sessions(gateway, namespace, 1)[0],
            session_of(gateway, namespace, legacy(b'{"tasks":{}}'), "other"),
        )
        await subscribe(namespace, plain)
        with pytest.raises(TooBusy, match=r"links\.max"):
            await subscribe(namespace, other)
        for number in range(3):
            await use(
                namespace, session_of(gateway, namespace, legacy(b'{"tasks":{"y":%d}}' % number), str(number)), "echo"
            )
        await unsubscribe(namespace, plain)
        result(await subscribe(namespace, other))


async def test_what_the_server_refuses_is_not_noted(autojump_clock: trio.testing.MockClock) -> None:
    one = Counting("a", Refusing, eras={Era.LEGACY})
    async with gateway_of(one) as gateway:
        namespace = space(gateway, "a")
        first, second = sessions(gateway, namespace, 2)
        for caller in (first, second):
            assert jsonrpc.error_code((await subscribe(namespace, caller)).message) == -32602
            assert jsonrpc.error_code((await level(namespace, caller, "debug")).message) == -32602
        assert len(room(one).asked(SUBSCRIBE)) == len(room(one).asked(SET_LEVEL)) == 2
        assert gateway.statistics().changes.subscriptions == 0
        async with listening(gateway, namespace, first) as stream:
            await says(one.links[0], "message", level="emergency", data=1)
            assert stream.messages == []


async def test_one_who_gives_up_does_not_hold_up_the_next(autojump_clock: trio.testing.MockClock) -> None:
    one = Counting("a", Silent, eras={Era.LEGACY})
    async with gateway_of(one) as gateway:
        namespace = space(gateway, "a")
        first, second = sessions(gateway, namespace, 2)
        waits = [Wait(), Wait()]
        ended: list[str] = []

        async def try_it(caller: Caller, wait: Wait) -> None:
            try:
                await ask(namespace, caller, SUBSCRIBE, {"uri": BOOK}, wait=wait)
            except (CallCancelled, ServerTimeout) as problem:
                ended.append(type(problem).__name__)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(try_it, first, waits[0])
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(try_it, second, waits[1])
            await trio.testing.wait_all_tasks_blocked()
            waits[1].end(CallCancelled("the client asked"))
            await trio.testing.wait_all_tasks_blocked()
            assert ended == ["CallCancelled"]
        assert ended == ["CallCancelled", "ServerTimeout"]
        assert gateway.changes.interests._turns == {}
        assert gateway.statistics().changes.subscriptions == 0


async def test_a_session_may_have_so_many_subscriptions(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway_of(newsroom("a")) as gateway:
        namespace = space(gateway, "a")
        (caller,) = sessions(gateway, namespace, 1)
        for number in range(MAX_SUBSCRIPTIONS):
            await subscribe(namespace, caller, f"x:/{number}")
        with pytest.raises(TooBusy):
            await subscribe(namespace, caller, "x:/one more")
        await end(gateway, caller)
        assert gateway.statistics().changes.subscriptions == 0


async def test_a_uri_that_is_kept_has_a_longest_length(autojump_clock: trio.testing.MockClock) -> None:
    one = newsroom("a")
    longest = "x:/".ljust(MAX_URI, "x")
    async with gateway_of(one) as gateway:
        namespace = space(gateway, "a")
        (caller,) = sessions(gateway, namespace, 1)
        result(await subscribe(namespace, caller, longest))
        with pytest.raises(InvalidParams, match=r"params\.uri is longer"):
            await subscribe(namespace, caller, longest + "x")
        assert room(one).asked_for(SUBSCRIBE) == [longest]


async def test_without_a_session_the_server_is_asked_itself(autojump_clock: trio.testing.MockClock) -> None:
    one = newsroom("a")
    async with gateway_of(one, newsroom("b")) as gateway:
        for _ in range(2):
            await gateway.client("a").request(SUBSCRIBE, {"uri": BOOK})
        assert room(one).asked_for(SUBSCRIBE) == [BOOK, BOOK]
        for method in (SUBSCRIBE, UNSUBSCRIBE):
            with pytest.raises(MethodNotFound):
                await ask(space(gateway), modern(), method, {"uri": BOOK})


# ---- levels ----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("feature.68", "3.back-channel.logging")
@pytest.mark.parametrize("name", ["a", ""])
async def test_the_server_gets_the_most_verbose_level_and_each_session_what_it_asked_for(
    name: str, autojump_clock: trio.testing.MockClock
) -> None:
    one = newsroom("a")
    async with gateway_of(one, newsroom("b")) as gateway:
        namespace = space(gateway, name)
        first, second, third = sessions(gateway, namespace, 3)
        for caller, wanted in [(first, "error"), (second, "info"), (first, "warning")]:
            result(await level(namespace, caller, wanted))
        assert room(one).asked_for(SET_LEVEL, "level") == ["error", "info"]
        async with (
            listening(gateway, namespace, first) as few,
            listening(gateway, namespace, second) as many,
            listening(gateway, namespace, third) as none,
        ):
            for said in ("debug", "info", "warning", "emergency"):
                await says(one.links[0], "message", level=said, data=said)
            await end(gateway, second)
            assert room(one).asked_for(SET_LEVEL, "level") == ["error", "info", "warning"]

    assert few.params("level") == ["warning", "emergency"]
    assert many.params("level") == ["info", "warning", "emergency"]
    assert none.messages == []


async def test_an_unknown_level_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway_of(newsroom("a"), newsroom("b")) as gateway:
        for name in ("a", ""):
            (caller,) = sessions(gateway, space(gateway, name), 1)
            with pytest.raises(InvalidParams, match="loud"):
                await level(space(gateway, name), caller, "loud")


class Chatty(Newsroom):
    """Logs at every level before it answers a call."""

    name = "a"

    def call_tool(self, call: object) -> list[jsonrpc.Message]:
        logs = [
            jsonrpc.notification("notifications/message", {"level": level, "data": 1}) for level in ("debug", "alert")
        ]
        return [*logs, *FixtureServer.call_tool(self, call)]  # type: ignore[arg-type]  # an Incoming


class Levelled(Newsroom):
    """Logs at two levels before it answers a call, unless it was told to be more quiet."""

    name = "a"
    least = "debug"

    def handle(self, message: Message) -> list[Message]:
        if message.method == SET_LEVEL:
            self.least = str(value_of(members_of(message.params)["level"]))
        answers = super().handle(message)
        if message.method != "tools/call":
            return answers
        told = [level for level in ("debug", "error") if passes(level, self.least)]
        return [*(jsonrpc.notification("notifications/message", {"level": each}) for each in told), *answers]


async def logs(namespace: Namespace, caller: Caller, wanted: str | None = None) -> list[JSON]:
    """The levels of what a client reads of a call; a modern one says what it wants."""
    back = Collecting()
    meta = {} if wanted is None else {"_meta": {envelope.LOG_LEVEL: wanted}}
    await ask(namespace, caller, "tools/call", {"name": "echo", **meta}, back=back)
    return [value_of(members_of(message.params)["level"]) for message in back.messages]


@pytest.mark.requirement("bridge.logging.modern-to-legacy")
@pytest.mark.parametrize("capabilities", [b"{}", b'{"roots":{}}'], ids=["a link that is there", "a link to be made"])
async def test_on_a_link_that_both_eras_share_nobody_silences_the_other(
    capabilities: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    adapter = Counting("a", Levelled, eras={Era.LEGACY})
    async with asking(adapter) as gateway:
        namespace, both = space(gateway, "a"), ["debug", "error"]
        (caller,) = sessions(gateway, namespace, 1, capabilities)
        client = modern(capabilities)
        await level(namespace, caller, "debug")
        assert await logs(namespace, client, "error") == ["error"]
        assert await logs(namespace, caller) == both
        assert await logs(namespace, client, "debug") == both
        await level(namespace, caller, "error")
        assert await logs(namespace, client, "debug") == both

        assert await logs(namespace, caller) == ["error"]
        assert await logs(namespace, client) == []
        assert sum(bool(room(adapter, link).asked("tools/call")) for link in range(len(adapter.links))) == 1


async def test_logs_of_a_call_stay_on_its_stream_and_keep_to_the_sessions_level(
    autojump_clock: trio.testing.MockClock,
) -> None:
    exclusive = {"a": InProcessServer("a", module="m:s", isolation=Isolation.EXCLUSIVE)}
    async with gateway_of(Counting("a", Chatty, eras={Era.LEGACY}), configs=exclusive) as gateway:
        namespace = space(gateway, "a")
        quiet, plain, verbose = sessions(gateway, namespace, 3)
        await level(namespace, quiet, "error")
        await level(namespace, verbose, "debug")
        heard = {}
        for name, caller in [("quiet", quiet), ("plain", plain), ("verbose", verbose)]:
            back = Collecting()
            await ask(namespace, caller, "tools/call", {"name": "echo"}, back=back)
            heard[name] = len(back.messages)

    assert heard == {"quiet": 1, "plain": 2, "verbose": 2}


async def test_nothing_is_kept_of_sessions_that_ended(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway_of(newsroom("a"), newsroom("b")) as gateway:
        callers = sessions(gateway, space(gateway, ""), 3) + sessions(gateway, space(gateway, "a"), 3)
        for caller in callers:
            assert caller.session is not None
            namespace = space(gateway, caller.session.namespace)
            await subscribe(namespace, caller)
            await level(namespace, caller, "info")
        for number in (3, 0, 5, 1, 4, 2):
            await end(gateway, callers[number])
        interests = gateway.changes.interests
        assert (len(interests.subscriptions), len(interests.levels), interests._turns) == (0, 0, {})
        assert all(len(server.kept) == 0 for server in gateway.servers.values())
        assert gateway.statistics().waits == 0
