"""``subscriptions/listen`` over several servers: who is asked for what, and what one client hears."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Reply
from mcpgateway.calls.subscriptions import CHANGES, TARGETED, Part, parts, respelled, targeted, united
from mcpgateway.catalog.naming import Target
from mcpgateway.config.model import InProcessServer, Isolation, Links
from mcpgateway.demo.server import Tool
from mcpgateway.errors import JSON, CallEnded, ClientGone, InvalidParams, MethodNotFound, ShuttingDown
from mcpgateway.gateway import Gateway
from mcpgateway.jsonrpc import Message, members_of, value_of
from mcpgateway.protocol.envelope import SUBSCRIPTION_ID
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.memory import MemoryLink
from mcpgateway.wire.waiting import Wait
from tests.calls.doubles import (
    Collecting,
    Library,
    ask,
    gateway_of,
    host,
    legacy,
    library,
    modern,
    names,
    result,
    space,
    use,
)
from tests.servers.doubles import Counting

LISTEN = "subscriptions/listen"


class Honours(Library):
    """Honours whatever it is asked for, and keeps the request."""

    notifies: tuple[str, ...] = ("tools", "prompts", "resources")  # type: ignore[assignment]  # more than the fixture

    def handle(self, message: Message) -> list[Message]:
        if message.method != LISTEN:
            return super().handle(message)
        self.seen.append(message)
        return [self.about(message, "subscriptions/acknowledged", notifications=self.wanted(message))]

    def wanted(self, message: Message) -> Raw:
        return members_of(message.params)["notifications"]

    def about(self, listening: Message, method: str, **params: object) -> Message:
        """A notification of the subscription that a request made."""
        meta = {SUBSCRIPTION_ID: Raw(listening.id or b"null")}
        return jsonrpc.notification(f"notifications/{method}", {**params, "_meta": meta})

    @property
    def listening(self) -> list[Message]:
        return self.asked(LISTEN)


class NeverHonours(Honours):
    """Leaves a subscription without a word."""

    def handle(self, message: Message) -> list[Message]:
        return [] if message.method == LISTEN else super().handle(message)


class Refuses(Honours):
    """Knows no subscriptions, although it speaks the era."""

    def handle(self, message: Message) -> list[Message]:
        if message.method == LISTEN:
            return [jsonrpc.error(message.id, MethodNotFound("no"))]
        return super().handle(message)


def honours(name: str, make: type[Library] = Honours) -> Counting:
    return Counting(name, type(name, (make,), {"name": name}), eras={Era.MODERN})


def link_to(adapter: Counting) -> tuple[MemoryLink, Honours]:
    server = host(adapter)
    assert isinstance(server, Honours)
    return adapter.links[-1], server


class Listener:
    """A client that listens: what it heard, and how its subscription ended."""

    def __init__(self) -> None:
        self.back = Collecting()
        self.wait = Wait()
        self.reply: Reply | None = None
        self.problem: CallEnded | None = None

    async def listen(self, gateway: Gateway, wanted: Mapping[str, JSON]) -> None:
        try:
            params = {"notifications": dict(wanted)}
            self.reply = await ask(space(gateway), modern(), LISTEN, params, wait=self.wait, back=self.back)
        except CallEnded as problem:
            self.problem = problem

    @property
    def ended(self) -> bool:
        return self.reply is not None or self.problem is not None

    @property
    def heard(self) -> list[tuple[str, dict[str, JSON]]]:
        """Method and params, without the subscription id, which is always the client's."""
        found = []
        for message in self.back.messages:
            params = value_of(message.params or b"")
            assert isinstance(params, dict)
            assert params.pop("_meta") == {SUBSCRIPTION_ID: "c1"}
            found.append((str(message.method).removeprefix("notifications/"), params))
        return found


def the_end_of(server: Honours) -> Message:
    """A server's graceful end of its first subscription."""
    id = server.listening[0].id or b""
    return jsonrpc.result(id, {"resultType": "complete", "_meta": {SUBSCRIPTION_ID: Raw(id)}})


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked()


@asynccontextmanager
async def listening(
    gateway: Gateway, wanted: Mapping[str, JSON], *listeners: Listener
) -> AsyncIterator[tuple[Listener, ...]]:
    async with trio.open_nursery() as nursery:
        for listener in listeners:
            nursery.start_soon(listener.listen, gateway, wanted)
        await settled()
        yield listeners
        for listener in listeners:
            listener.wait.end(ClientGone("the test is over"))


# ---- who is asked for what -------------------------------------------------------------------------------------------

SERVERS = ["a", "b", "c"]
NAMES = st.text("xy/", min_size=1, max_size=3)
targets = st.dictionaries(
    st.tuples(st.sampled_from(TARGETED), NAMES), st.builds(Target, st.sampled_from(SERVERS), NAMES), max_size=6
)
wanted = st.fixed_dictionaries(
    {}, optional={**dict.fromkeys(CHANGES, st.just(True)), **dict.fromkeys(TARGETED, st.lists(NAMES, max_size=4))}
)
offers = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(["tools", "prompts", "resources"], st.sampled_from([{}, {"listChanged": True}, None, 1])),
)


@given(wanted, st.dictionaries(st.sampled_from(SERVERS), st.none() | offers), targets)
def test_every_server_is_asked_for_what_is_its_own(
    wanted: dict[str, JSON],
    capabilities: dict[str, Mapping[str, JSON] | None],
    targets: dict[tuple[str, str], Target],
) -> None:
    asked = parts(wanted, capabilities, targets)

    assert asked.keys() <= capabilities.keys()
    for server, part in asked.items():
        assert part.wanted.keys() <= wanted.keys()
        for member in part.wanted.keys() & CHANGES.keys():
            offered = capabilities[server]
            assert offered is None or offered[CHANGES[member][0]] == {"listChanged": True}
        for member in part.wanted.keys() & set(TARGETED):
            own = part.wanted[member]
            assert isinstance(own, list)
            assert {Target(server, str(name)) for name in own} <= set(targets.values())


async def test_resources_and_tasks_are_looked_up_each_where_they_are_known() -> None:
    async def reader(uri: str) -> Target:
        await trio.lowlevel.checkpoint()
        return Target("a", uri)

    def task(id: str) -> Target:
        if id == "over":
            raise InvalidParams("there is no such task")
        return Target("b", "1")

    wanted: dict[str, JSON] = {"resourceSubscriptions": ["x://1"], "taskIds": ["b.1", "over"], "toolsListChanged": True}
    assert await targeted(wanted, reader, task) == {
        ("resourceSubscriptions", "x://1"): Target("a", "x://1"),
        ("taskIds", "b.1"): Target("b", "1"),
    }


@pytest.mark.parametrize(
    ("method", "member"), [("resources/updated", "uri"), ("tasks", "taskId"), ("resources/list_changed", None)]
)
def test_news_are_about_what_the_client_calls_it(method: str, member: str | None) -> None:
    message = jsonrpc.notification(f"notifications/{method}", {"uri": "1", "taskId": "1"})
    expected = {"uri": "1", "taskId": "1"} | ({member: "b.1"} if member else {})

    assert value_of(respelled(message, Part({}, {"1": "b.1"})).params or b"") == expected


@given(st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(CHANGES, st.booleans())), max_size=3))
def test_what_anybody_honours_is_honoured(acknowledged: list[dict[str, JSON]]) -> None:
    union = united((Part({}), members) for members in acknowledged)

    for member in CHANGES:
        assert bool(union.get(member)) is any(members.get(member) for members in acknowledged)


@pytest.mark.parametrize(
    ("told", "shown"), [("x://1", "b!x://1"), ("x://1/2", "b!x://1/2"), ("x://12/3", "y://12/3"), ("z://", "z://")]
)
def test_what_lies_below_a_resource_is_shown_below_it(told: str, shown: str) -> None:
    assert Part({}, {"x://1": "b!x://1", "x://12": "y://12"}).shown(told) == shown


@pytest.mark.parametrize("uri", [b"1e999", b"7"])
def test_a_name_that_is_none_is_left_to_the_client(uri: bytes) -> None:
    message = jsonrpc.notification("notifications/resources/updated", {"uri": Raw(uri)})

    assert respelled(message, Part({}, {"x://1": "y://1"})) is message


# ---- what a client hears ---------------------------------------------------------------------------------------------


@pytest.mark.requirement("3.changes.listen", "bridge.changes.same")
async def test_one_acknowledgement_for_all_and_every_servers_news(autojump_clock: trio.testing.MockClock) -> None:
    one, two = honours("a"), honours("b")
    wanted: dict[str, JSON] = {
        "toolsListChanged": True,
        "resourceSubscriptions": ["book://a/1", "shelf://b/7", "nobody://x"],
        "vendor.example/news": {"deep": [1]},
    }
    async with gateway_of(one, two) as gateway:
        async with listening(gateway, wanted, Listener(), Listener()) as clients:
            (link_a, a), (link_b, b) = link_to(one), link_to(two)
            assert value_of(a.wanted(a.listening[0])) == {
                "toolsListChanged": True,
                "resourceSubscriptions": ["book://a/1"],
                "vendor.example/news": {"deep": [1]},
            }
            mine, others = a.listening[0], a.listening[1]
            link_a.send(a.about(mine, "resources/updated", uri="book://a/1/page"))
            await settled()
            link_b.send(b.about(b.listening[0], "tools/list_changed"))
            link_b.send(b.about(b.listening[0], "resources/updated", uri="shelf://b/7", **{"x-unknown": 1.0}))
            link_a.send(a.about(others, "tools/list_changed"))
            await settled()

            acknowledged = {**wanted, "resourceSubscriptions": ["book://a/1", "shelf://b/7"]}
            assert [client.heard[0] for client in clients] == [
                ("subscriptions/acknowledged", {"notifications": acknowledged})
            ] * 2
            assert sorted([client.heard[1:] for client in clients], key=len) == [
                [("tools/list_changed", {})],
                [
                    ("resources/updated", {"uri": "book://a/1/page"}),
                    ("tools/list_changed", {}),
                    ("resources/updated", {"uri": "shelf://b/7", "x-unknown": 1.0}),
                ],
            ]


@pytest.mark.requirement("3.changes.refreshed")
async def test_the_catalogue_is_anew_before_the_client_is_told(autojump_clock: trio.testing.MockClock) -> None:
    one = honours("a")
    async with gateway_of(one, honours("b")) as gateway:
        await ask(space(gateway), modern(), "tools/list")
        async with listening(gateway, {"toolsListChanged": True}, Listener()) as (client,):
            link, server = link_to(one)
            server.tools["fresh"] = Tool({}, lambda arguments: {})
            lists = len(server.asked("tools/list"))
            link.send(server.about(server.listening[0], "tools/list_changed"))
            await settled()

            assert client.heard[-1] == ("tools/list_changed", {})
            assert len(server.asked("tools/list")) == lists + 1
            with pytest.raises(AssertionError, match="no tool"):  # routed without another listing
                result(await ask(space(gateway), modern(), "tools/call", {"name": "a_fresh"}))
            assert len(server.asked("tools/list")) == lists + 2  # for the arguments that it mirrors


async def test_a_server_that_ends_its_part_ends_no_others(autojump_clock: trio.testing.MockClock) -> None:
    adapters = [honours("a"), honours("b"), honours("c", Refuses)]
    async with gateway_of(*adapters) as gateway:
        async with listening(gateway, {"toolsListChanged": True}, Listener()) as (client,):
            (link_a, a), (link_b, b) = (link_to(adapters[n]) for n in (0, 1))
            link_a.send(the_end_of(a))
            await settled()
            assert not client.ended
            link_b.send(b.about(b.listening[0], "tools/list_changed"))
            await settled()
            assert client.heard[-1] == ("tools/list_changed", {})
            link_b.send(the_end_of(b))
            await settled()

            assert client.reply is not None
            assert result(client.reply) == {"resultType": "complete", "_meta": {SUBSCRIPTION_ID: "c1"}}


async def test_a_server_that_is_lost_is_listened_to_again(autojump_clock: trio.testing.MockClock) -> None:
    """What it would have told meanwhile nobody knows, so the client is told that everything has changed."""
    one, two = honours("a"), honours("b")
    async with gateway_of(one, two) as gateway:
        async with listening(gateway, {"toolsListChanged": True}, Listener()) as (client,):
            one.links[-1].crash("killed")
            await trio.sleep(10)
            assert not client.ended
            assert client.heard[1:] == [("tools/list_changed", {})]

            link, server = link_to(one)
            assert len(server.listening) == 1
            link.send(server.about(server.listening[0], "tools/list_changed"))
            await settled()
            assert client.heard[2:] == [("tools/list_changed", {})]


async def test_a_server_that_stays_away_is_tried_less_and_less_often(autojump_clock: trio.testing.MockClock) -> None:
    one = honours("a")
    async with gateway_of(one, honours("b")) as gateway:
        async with listening(gateway, {"toolsListChanged": True}, Listener()) as (client,):
            one.dead = True
            one.links[-1].crash("killed")
            await trio.sleep(3600)
            assert not client.ended
            assert [method for method, _ in client.heard] == ["subscriptions/acknowledged"]
            one.dead = False
            await trio.sleep(130)
            assert client.heard[1:] == [("tools/list_changed", {})]


async def test_a_server_that_does_not_acknowledge_delays_the_client_for_so_long(
    autojump_clock: trio.testing.MockClock,
) -> None:
    one = honours("a")
    async with gateway_of(one, honours("b", NeverHonours)) as gateway:
        async with listening(gateway, {"toolsListChanged": True}, Listener()) as (client,):
            link, server = link_to(one)
            link.send(server.about(server.listening[0], "tools/list_changed"))
            await settled()
            assert client.heard == []
            await trio.sleep(gateway.config.list_timeout - 0.1)
            assert client.heard == []
            await trio.sleep(0.2)
            assert [method for method, _ in client.heard] == ["subscriptions/acknowledged", "tools/list_changed"]


@pytest.mark.parametrize("wanted", [{}, {"resourceSubscriptions": ["nobody://x"]}, {"promptsListChanged": True}])
async def test_where_nothing_can_be_honoured_nothing_is_and_the_client_may_listen_on(
    wanted: dict[str, JSON], autojump_clock: trio.testing.MockClock
) -> None:
    async with gateway_of(library("a", eras={Era.MODERN}), library("b", eras={Era.MODERN})) as gateway:
        async with listening(gateway, wanted, Listener()) as (client,):
            assert client.heard == [("subscriptions/acknowledged", {"notifications": {}})]
            assert not client.ended


async def test_a_client_that_goes_is_told_of_everywhere(autojump_clock: trio.testing.MockClock) -> None:
    one, two = honours("a"), honours("b")
    async with gateway_of(one, two) as gateway:
        async with listening(gateway, {"toolsListChanged": True}, Listener(), Listener()) as (goes, stays):
            goes.wait.end(ClientGone("gone"))
            await settled()
            assert isinstance(goes.problem, ClientGone)
            assert stays.problem is None
            for adapter in (one, two):
                assert host(adapter).heard == ["notifications/cancelled"]
        await settled()
        assert len(gateway.sweeper) == 0


@pytest.mark.parametrize("path", ["", "a"])
async def test_the_end_of_the_gateway_is_a_graceful_one(path: str, autojump_clock: trio.testing.MockClock) -> None:
    async with gateway_of(honours("a")) as gateway:
        wait, back, ended = Wait(), Collecting(), list[Reply]()

        async def listen() -> None:
            params = {"notifications": {"toolsListChanged": True}}
            ended.append(await ask(space(gateway, path), modern(), LISTEN, params, wait=wait, back=back))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await settled()
            wait.end(ShuttingDown("draining"))
        assert result(ended[0]) == {"resultType": "complete", "_meta": {SUBSCRIPTION_ID: "c1"}}


async def test_legacy_clients_have_no_such_method(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway_of(library("a"), library("b")) as gateway:
        with pytest.raises(MethodNotFound):
            await ask(space(gateway), legacy(), LISTEN, {"notifications": {}})


async def test_listings_say_that_they_may_be_listened_to(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway_of(honours("a"), library("b", eras={Era.MODERN})) as gateway:
        offered = result(await ask(space(gateway), modern(), "server/discover"))["capabilities"]

        assert isinstance(offered, dict)
        assert offered["tools"] == {"listChanged": True}
        assert names(await ask(space(gateway), modern(), "prompts/list"), "prompts") == ["a_greet", "b_greet"]


async def test_clients_that_listen_keep_no_call_from_a_server_whose_links_take_one_at_a_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = honours("a")
    alone = InProcessServer("a", module="m:s", isolation=Isolation.EXCLUSIVE, links=Links(max=1))
    async with gateway_of(adapter, configs={"a": alone}) as gateway, trio.open_nursery() as nursery:
        listeners = [Listener() for _ in range(3)]
        for listener in listeners:
            nursery.start_soon(listener.listen, gateway, {"toolsListChanged": True})
        await trio.testing.wait_all_tasks_blocked()
        assert await use(space(gateway), modern(), "a_echo", text="hi")
        link, server = link_to(adapter)
        for listening in server.listening:
            link.send(server.about(listening, "tools/list_changed"))
        await trio.testing.wait_all_tasks_blocked()
        for listener in listeners:
            assert [method for method, _ in listener.heard] == ["subscriptions/acknowledged", "tools/list_changed"]
            listener.wait.end(ClientGone("closed"))
        await trio.testing.wait_all_tasks_blocked()
        assert (adapter.most, [listener.ended for listener in listeners]) == (1, [True] * 3)
        await trio.sleep(1000)
        assert link.statistics().in_flight == 0
