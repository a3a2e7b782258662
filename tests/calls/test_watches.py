"""What modern servers tell legacy sessions: listened to once for all, without a gap, and told in legacy words."""

from __future__ import annotations

import random
from collections.abc import Collection

import attrs
import pytest
import trio
import trio.testing
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Reply
from mcpgateway.calls.namespace import Namespace
from mcpgateway.config.model import Config, EraPolicy, InProcessServer, Isolation, Links, StdioServer
from mcpgateway.demo.server import BOTH
from mcpgateway.errors import JSON, CallCancelled, GatewayError, InvalidParams, MethodNotFound
from mcpgateway.gateway import Gateway
from mcpgateway.jsonrpc import Message, members_of, value_of
from mcpgateway.protocol.envelope import SUBSCRIPTION_ID
from mcpgateway.protocol.revisions import Era
from mcpgateway.sessions.caller import Caller
from mcpgateway.wire.waiting import Wait
from tests.calls.doubles import Library, ask, gateway_of, legacy, library, names, result, space
from tests.calls.newsroom import Newsroom, listening
from tests.calls.seminar import EVERYTHING, MODERN_ONLY, opened
from tests.servers.doubles import Counting

BOOK = "book://a/1"
SHELF = "book://a/2"
BOTH_NAMESPACES = pytest.mark.parametrize("name", ["a", ""])
LISTS = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}


class Radio(Newsroom):
    """A newsroom that is listened to: which subscriptions are open, and which there were, in order."""

    silent = False
    """Whether it never acknowledges."""
    deaf_to: Collection[str] = ()
    """URIs that it does not tell of."""
    shows: tuple[str, ...] = ("echo",)

    def __init__(self, *, eras: Collection[Era] = BOTH) -> None:
        super().__init__(eras=eras)
        self.open: dict[bytes, dict[str, JSON]] = {}
        self.history: list[str] = []
        """``+`` and the wanted URIs where a subscription begins, ``-`` and them where it ends."""

    def handle(self, message: Message) -> list[Message]:
        if message.method == "tools/list":
            tools: list[JSON] = [{"name": name, "inputSchema": {"type": "object"}} for name in self.shows]
            return [jsonrpc.result(message.id or b"", {"tools": tools})]
        if message.method != "subscriptions/listen":
            return super().handle(message)
        id = message.id or b""
        wanted = value_of(members_of(message.params)["notifications"])
        assert isinstance(wanted, dict)
        self.open[id] = wanted
        self.history.append("+" + uris(wanted))
        if self.silent:
            return []
        honoured = {**wanted, "resourceSubscriptions": [uri for uri in _listed(wanted) if uri not in self.deaf_to]}
        params = {"notifications": honoured, "_meta": {SUBSCRIPTION_ID: Raw(id)}}
        return [jsonrpc.notification("notifications/subscriptions/acknowledged", params)]

    def notified(self, message: Message) -> list[Message]:
        if message.method == "notifications/cancelled":
            ended = self.open.pop(bytes(members_of(message.params)["requestId"]), None)
            if ended is not None:
                self.history.append("-" + uris(ended))
        return super().notified(message)


def _listed(wanted: dict[str, JSON]) -> list[str]:
    found = wanted.get("resourceSubscriptions", [])
    assert isinstance(found, list)
    return [str(uri) for uri in found]


def uris(wanted: dict[str, JSON]) -> str:
    return ",".join(uri[-1] for uri in _listed(wanted))


def radio(name: str = "a") -> Counting:
    """An adapter to a modern-only `Radio` of this name."""
    return Counting(name, type(name, (Radio,), {"name": name}), eras=MODERN_ONLY)


def on_air(adapter: Counting) -> Radio:
    host = adapter.host
    assert isinstance(host, Radio)
    return host


async def tells(adapter: Counting, method: str, **params: object) -> None:
    """Have the server say something in every subscription that is open, and wait until it is where it goes."""
    for id in list(on_air(adapter).open):
        stamped = {**params, "_meta": {SUBSCRIPTION_ID: Raw(id)}}
        adapter.links[-1].send(jsonrpc.notification(f"notifications/{method}", stamped))
    await trio.testing.wait_all_tasks_blocked()


async def subscribe(namespace: Namespace, caller: Caller, uri: str = BOOK) -> Reply:
    return await ask(namespace, caller, "resources/subscribe", {"uri": uri})


async def unsubscribe(namespace: Namespace, caller: Caller, uri: str = BOOK) -> Reply:
    return await ask(namespace, caller, "resources/unsubscribe", {"uri": uri})


async def end(gateway: Gateway, caller: Caller) -> None:
    assert caller.session is not None
    gateway.sessions.close(caller.session)
    await trio.testing.wait_all_tasks_blocked()


def waiting(caller: Caller) -> list[str]:
    """What waits for the next stream of a client."""
    assert caller.session is not None
    found: list[str] = []
    while (message := caller.session.outbox.take()) is not None:
        found.append((message.method or "").removeprefix("notifications/"))
    return found


# ---- who is listened to ----------------------------------------------------------------------------------------------


@pytest.mark.requirement("bridge.changes.legacy-to-modern", "bridge.sessions.legacy-to-modern", "5.legacy-client")
@BOTH_NAMESPACES
async def test_one_subscription_serves_all_who_listen_and_ends_with_the_last(
    name: str, autojump_clock: trio.testing.MockClock
) -> None:
    adapter = radio()
    async with gateway_of(adapter) as gateway:
        namespace = space(gateway, name)
        one, two = [await opened(gateway, namespace, EVERYTHING, id=id) for id in ("one", "two")]
        for caller in (one, two):
            await ask(namespace, caller, "tools/list")
        assert on_air(adapter).open == {}
        async with listening(gateway, namespace, one) as first, listening(gateway, namespace, two) as second:
            assert list(on_air(adapter).open.values()) == [LISTS]
            on_air(adapter).shows = ("echo", "more")
            await tells(adapter, "tools/list_changed")
            assert first.methods == second.methods == ["tools/list_changed"]
            assert all(b"subscriptionId" not in message.encode() for message in first.messages)
            listed = names(await ask(namespace, one, "tools/list"))
            assert [tool.removeprefix("a_") for tool in listed] == ["echo", "more"]
        assert len(on_air(adapter).open) == 1
        on_air(adapter).shows = ("echo",)
        await tells(adapter, "tools/list_changed")
        assert waiting(two) == ["tools/list_changed"]
        await end(gateway, one)
        assert len(on_air(adapter).open) == 1
        await end(gateway, two)

        assert on_air(adapter).open == {}
        assert gateway.statistics().changes.listening == 0
        assert len(gateway.sweeper) == 0


async def test_a_server_that_tells_nothing_is_not_listened_to(autojump_clock: trio.testing.MockClock) -> None:
    class Quiet(Library):
        notifies = ()  # type: ignore[assignment]  # of a longer tuple

        def _capabilities(self) -> dict[str, JSON]:
            return {"tools": {}}

    adapter = Counting("a", Quiet, eras=MODERN_ONLY)
    async with gateway_of(adapter) as gateway:
        namespace = space(gateway, "a")
        caller = await opened(gateway, namespace)
        async with listening(gateway, namespace, caller):
            host = adapter.host
            assert isinstance(host, Library)
            assert host.asked("subscriptions/listen") == []
        with pytest.raises(InvalidParams, match="does not tell of changes of book"):
            await subscribe(namespace, caller)
        assert gateway.statistics().changes.subscriptions == 0


@pytest.mark.parametrize("policy", [EraPolicy.AUTO, EraPolicy.MODERN])
async def test_a_server_that_sleeps_until_it_is_used_is_listened_to_from_then_on(
    policy: EraPolicy, autojump_clock: trio.testing.MockClock
) -> None:
    adapter = radio()
    lazy = StdioServer("a", command="x", era=policy)
    async with gateway_of(adapter, configs={"a": lazy}, config=Config(lazy_above=0)) as gateway:
        namespace = space(gateway)
        caller = await opened(gateway, namespace)
        async with listening(gateway, namespace, caller) as stream:
            assert adapter.links == []
            await ask(namespace, caller, "tools/list")
            await trio.testing.wait_all_tasks_blocked()
            assert len(on_air(adapter).open) == 1
            on_air(adapter).shows = ("other",)
            await tells(adapter, "tools/list_changed")
            assert stream.methods == ["tools/list_changed"]


ALONE = InProcessServer("a", module="m:s", isolation=Isolation.EXCLUSIVE, links=Links(max=1))


@pytest.mark.requirement("bridge.changes.legacy-to-modern")
async def test_where_calls_have_their_links_alone_one_of_them_is_listened_to_beside_its_call(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = radio()
    async with gateway_of(adapter, configs={"a": ALONE}) as gateway, trio.open_nursery() as nursery:
        namespace = space(gateway, "a")
        caller = await opened(gateway, namespace)
        slow = {"name": "slow", "arguments": {"name": "s"}}
        async with listening(gateway, namespace, caller) as stream:
            for _ in range(2):
                nursery.start_soon(ask, namespace, caller, "tools/call", slow)
                await trio.testing.wait_all_tasks_blocked()
            await tells(adapter, "tools/list_changed")
            assert stream.methods == ["tools/list_changed"]
            statistics = gateway.statistics().servers[0]
            assert (len(on_air(adapter).slow), statistics.waiting) == (1, 1)
            for _ in range(2):
                await answered(adapter)
            await subscribe(namespace, caller)
            await tells(adapter, "resources/updated", uri=BOOK)
            assert stream.methods == ["tools/list_changed", "resources/updated"]
        assert on_air(adapter).history == ["+", "+1", "-"]
        assert adapter.most == 1


async def answered(adapter: Counting) -> None:
    """Have the slow call answered that there is."""
    host = on_air(adapter)
    for call in list(host.slow.values()):
        del host.slow[call.id]
        adapter.links[-1].send(host.reply(call, {"content": []}))
    await trio.testing.wait_all_tasks_blocked()


async def test_a_call_given_up_takes_the_link_along_that_was_listened_to_and_nothing_is_lost(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = radio()
    async with gateway_of(adapter, configs={"a": ALONE}) as gateway, trio.open_nursery() as nursery:
        namespace = space(gateway, "a")
        caller = await opened(gateway, namespace)
        await subscribe(namespace, caller)
        async with listening(gateway, namespace, caller) as stream:
            wait, before = Wait(), len(adapter.links)
            nursery.start_soon(_given_up, namespace, caller, wait)
            await trio.testing.wait_all_tasks_blocked()
            wait.end(CallCancelled("enough"))
            await trio.sleep(5)
            assert len(adapter.links) == before + 1
            assert uris(*on_air(adapter).open.values()) == "1"
            assert sorted(stream.methods) == [
                "prompts/list_changed",
                "resources/list_changed",
                "resources/updated",
                "tools/list_changed",
            ]
            assert adapter.most == 1


async def _given_up(namespace: Namespace, caller: Caller, wait: Wait) -> None:
    with pytest.raises(CallCancelled):
        await ask(namespace, caller, "tools/call", {"name": "slow", "arguments": {"name": "s"}}, wait=wait)


# ---- resources -------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("bridge.changes.legacy-to-modern")
@BOTH_NAMESPACES
async def test_a_resource_is_subscribed_to_by_another_subscription_before_the_first_ends(
    name: str, autojump_clock: trio.testing.MockClock
) -> None:
    adapter = radio()
    async with gateway_of(adapter) as gateway:
        namespace = space(gateway, name)
        one, two = [await opened(gateway, namespace, id=id) for id in ("one", "two")]
        assert result(await subscribe(namespace, one)) is not None
        await subscribe(namespace, two)
        await trio.testing.wait_all_tasks_blocked()
        assert on_air(adapter).history == ["+1"]
        on_air(adapter).templates = lambda: [{"uriTemplate": "book://a/{n}", "name": "n"}]  # type: ignore[method-assign]  # reads all
        await subscribe(namespace, one, SHELF)
        await trio.testing.wait_all_tasks_blocked()
        assert on_air(adapter).history == ["+1", "+1,2", "-1"]
        await tells(adapter, "resources/updated", uri=SHELF)
        await tells(adapter, "resources/updated", uri=BOOK)
        await tells(adapter, "resources/updated", uri="book://other")
        assert (waiting(one), waiting(two)) == (["resources/updated"] * 2, ["resources/updated"])
        await unsubscribe(namespace, one)
        await unsubscribe(namespace, one, SHELF)
        await trio.testing.wait_all_tasks_blocked()
        assert on_air(adapter).history[3:] == ["+1", "-1,2"]
        await end(gateway, two)

        assert on_air(adapter).open == {}
        assert gateway.statistics().changes.listening == 0
        assert gateway.statistics().changes.subscriptions == 0


async def test_an_update_in_the_same_breath_as_the_acknowledgement_is_heard(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Eager(Radio):
        def handle(self, message: Message) -> list[Message]:
            answers = super().handle(message)
            if message.method == "subscriptions/listen":
                params = {"uri": BOOK, "_meta": {SUBSCRIPTION_ID: Raw(message.id or b"")}}
                answers.append(jsonrpc.notification("notifications/resources/updated", params))
            return answers

    async with gateway_of(Counting("a", Eager, eras=MODERN_ONLY)) as gateway:
        caller = await opened(gateway, space(gateway, "a"))
        await subscribe(space(gateway, "a"), caller)
        await trio.testing.wait_all_tasks_blocked()

        assert waiting(caller) == ["resources/updated"]


@pytest.mark.requirement("5.bad")
async def test_a_resource_that_the_server_will_not_tell_of_is_refused_and_the_others_stay(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = radio()
    async with gateway_of(adapter) as gateway:
        namespace = space(gateway, "a")
        caller = await opened(gateway, namespace)
        await subscribe(namespace, caller)
        on_air(adapter).deaf_to = {SHELF}
        with pytest.raises(InvalidParams, match="does not tell of changes of book://a/2"):
            await subscribe(namespace, caller, SHELF)
        await tells(adapter, "resources/updated", uri=BOOK)

        assert waiting(caller) == ["resources/updated"]
        assert gateway.statistics().changes.subscriptions == 1


@pytest.mark.requirement("5.bad")
async def test_a_server_that_does_not_acknowledge_fails_who_subscribes_in_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = radio()
    short = InProcessServer("a", module="m:s", timeout=7.0)
    async with gateway_of(adapter, configs={"a": short}) as gateway:
        namespace = space(gateway, "a")
        caller = await opened(gateway, namespace)
        on_air(adapter).silent = True
        began = trio.current_time()
        with pytest.raises(GatewayError, match="did not answer within 7 s"):
            await subscribe(namespace, caller)
        await trio.testing.wait_all_tasks_blocked()

        assert trio.current_time() - began == 7
        assert on_air(adapter).open == {}
        assert gateway.statistics().changes.subscriptions == gateway.statistics().changes.listening == 0


async def test_without_a_session_there_is_nothing_to_subscribe_with(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway_of(radio()) as gateway:
        with pytest.raises(MethodNotFound):
            await subscribe(space(gateway, "a"), legacy())


# ---- subscriptions that are lost -------------------------------------------------------------------------------------


@pytest.mark.requirement("bridge.changes.legacy-to-modern")
@pytest.mark.parametrize("how", ["crashes", "ends it", "says nonsense"])
async def test_a_subscription_that_is_lost_is_made_again_and_all_of_it_counts_as_changed(
    how: str, autojump_clock: trio.testing.MockClock
) -> None:
    adapter = radio()
    async with gateway_of(adapter) as gateway:
        namespace = space(gateway, "a")
        caller = await opened(gateway, namespace)
        await subscribe(namespace, caller)
        async with listening(gateway, namespace, caller) as stream:
            (id,) = on_air(adapter).open
            if how == "crashes":
                adapter.links[-1].crash("went away")
            elif how == "ends it":
                on_air(adapter).open.clear()
                adapter.links[-1].send(jsonrpc.result(id, {"resultType": "complete"}))
            else:
                adapter.links[-1].send(jsonrpc.notification("notifications/tools/list_changed", {"_meta": 7}))
                adapter.links[-1].send(jsonrpc.error(id, InvalidParams("enough")))
                on_air(adapter).open.clear()
            await trio.testing.wait_all_tasks_blocked()
            assert stream.methods == []
            await trio.sleep(5)

            assert len(on_air(adapter).open) == 1
            assert sorted(stream.methods) == [
                "prompts/list_changed",
                "resources/list_changed",
                "resources/updated",
                "tools/list_changed",
            ]
            await tells(adapter, "resources/updated", uri=BOOK)
            assert stream.methods.count("resources/updated") == 2
        await end(gateway, caller)
        assert on_air(adapter).open == {}


async def test_a_merged_namespace_says_that_something_changed_only_if_something_did(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = radio()
    async with gateway_of(adapter, library("old", eras={Era.LEGACY})) as gateway:
        namespace = space(gateway)
        caller = await opened(gateway, namespace)
        for method in ("tools/list", "prompts/list", "resources/list", "resources/templates/list"):
            await ask(namespace, caller, method)
        async with listening(gateway, namespace, caller) as stream:
            await tells(adapter, "tools/list_changed")
            adapter.links[-1].crash("went away")
            await trio.sleep(5)
            assert stream.methods == []
            on_air(adapter).shows = ("echo", "other")
            await tells(adapter, "tools/list_changed")

            assert stream.methods == ["tools/list_changed"]


async def test_a_server_that_stays_away_is_asked_again_and_again_and_no_longer_than_anybody_listens(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = radio()
    async with gateway_of(adapter) as gateway:
        namespace = space(gateway, "a")
        caller = await opened(gateway, namespace)
        async with listening(gateway, namespace, caller):
            adapter.dead = True
            adapter.links[-1].crash("went away")
            await trio.sleep(300)
            adapter.dead = False
            await trio.sleep(120)
            assert len(on_air(adapter).open) == 1
            adapter.dead = True
            adapter.links[-1].crash("went away")
            await trio.sleep(1)
        await end(gateway, caller)
        await trio.sleep(300)

        assert gateway.statistics().changes.listening == 0


async def test_another_configuration_of_the_server_is_listened_to_and_a_removed_one_is_not(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = radio()
    async with gateway_of(adapter, library("b")) as gateway:
        namespace = space(gateway)
        caller = await opened(gateway, namespace)
        async with listening(gateway, namespace, caller):
            before = on_air(adapter)
            servers = dict(gateway.config.servers)
            servers["a"] = attrs.evolve(servers["a"], timeout=7.0, links=Links(max=3), max_timeout=9.0)
            again = radio()
            gateway.reconfigure(attrs.evolve(gateway.config, servers=servers), {"a": again})
            await trio.sleep(5)
            now = on_air(again) if again.links else before
            assert len(now.open) == 1
            gateway.reconfigure(attrs.evolve(gateway.config, servers={"b": servers["b"]}))
            await trio.sleep(5)

            assert gateway.statistics().changes.listening == 0
            assert now.open == {}


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_sessions_do_at_once_is_listened_to_in_the_end_and_nothing_else(
    seed: int, autojump_clock: trio.testing.MockClock
) -> None:
    """Sessions subscribe, unsubscribe and end at random, side by side, while the server is lost now and then."""
    chance = random.Random(seed)
    adapter = radio()
    async with gateway_of(adapter) as gateway:
        namespace = space(gateway, "a")
        callers = [await opened(gateway, namespace, id=str(number)) for number in range(6)]
        wanted: dict[Caller, set[str]] = {caller: set() for caller in callers}

        async def live(caller: Caller) -> None:
            for _ in range(12):
                await trio.sleep(chance.random() * 3)
                uri = f"book://a/{chance.randrange(4)}"
                begin = uri not in wanted[caller]
                try:
                    await (subscribe if begin else unsubscribe)(namespace, caller, uri)
                except GatewayError:  # while the server was away; who unsubscribes hears no more all the same
                    if begin:
                        continue
                wanted[caller] ^= {uri}

        async def lose() -> None:
            for _ in range(3):
                await trio.sleep(chance.random() * 12)
                adapter.links[-1].crash("went away")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lose)
            for caller in callers:
                nursery.start_soon(live, caller)
        await trio.sleep(200)
        books = {uri for uris in wanted.values() for uri in uris}
        heard = [set(_listed(each)) for each in on_air(adapter).open.values()]
        assert heard == ([books] if books else [])
        for caller in callers:
            await end(gateway, caller)

        assert on_air(adapter).open == {}
        assert gateway.statistics().changes.listening == gateway.statistics().changes.subscriptions == 0
