"""A running gateway with another configuration: what is equal stays as it is, and clients are told what is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
import trio.testing
from msgspec import Raw

import mcpgateway
from mcpgateway import jsonrpc
from mcpgateway.adapters.base import NoBack, Request
from mcpgateway.calls.merged import MergedNamespace
from mcpgateway.catalog.rules import Naming, NamingMode, ToolRules
from mcpgateway.config.differences import Differences
from mcpgateway.config.limits import Limits
from mcpgateway.config.model import (
    Config,
    HttpServer,
    InProcessServer,
    Isolation,
    Listen,
    NamespaceConfig,
    ServerConfig,
    StdioServer,
)
from mcpgateway.errors import GatewayError, InvalidParams, Reconfigured, UnknownNamespace
from mcpgateway.gateway import Gateway
from mcpgateway.protocol.envelope import Envelope
from mcpgateway.protocol.revisions import Era
from mcpgateway.sessions.caller import Caller
from mcpgateway.testing.memory import MemoryLink
from mcpgateway.wire.waiting import Wait
from tests.calls.doubles import Collecting, ask, gateway_of, handshake, legacy, modern, names, session_of, space, use
from tests.calls.newsroom import Newsroom, Stream, listening, newsroom, room
from tests.servers.doubles import Counting

DRAIN = 30.0


def pipe(name: str, module: str = "m:s", **keys: object) -> InProcessServer:
    return InProcessServer(name, module=module, **keys)  # type: ignore[arg-type]  # as given


def config_of(*servers: ServerConfig, **keys: object) -> Config:
    found = {server.name: server for server in servers}
    return Config(servers=found, shutdown_timeout=DRAIN, **keys)  # type: ignore[arg-type]  # as given


@attrs.define
class Reloaded:
    """A gateway over newsrooms, which a test gives other configurations."""

    gateway: Gateway
    adapters: dict[str, Counting]

    def reload(self, config: Config) -> Differences:
        """Reconfigure; added and changed servers get fresh adapters."""
        fresh = {
            name: newsroom(name)
            for name, server in config.servers.items()
            if self.gateway.config.servers.get(name) != server
        }
        differences = self.gateway.reconfigure(config, fresh)
        self.adapters |= {name: fresh[name] for name in (*differences.added, *differences.changed)}
        return differences


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Reloaded]:
    adapters = {name: newsroom(name) for name in config.servers}
    gateway = Gateway(config, adapters)
    async with trio.open_nursery() as nursery:
        await nursery.start(gateway.run)
        await gateway.ready()
        yield Reloaded(gateway, adapters)
        await gateway.aclose()
        nursery.cancel_scope.cancel(reason="the test is over")


async def quiet() -> None:
    await trio.testing.wait_all_tasks_blocked()


@pytest.mark.requirement("4.life.reload", "feature.123")
async def test_what_did_not_change_keeps_running(autojump_clock: trio.testing.MockClock) -> None:
    async with running(config_of(pipe("a"), pipe("b"), pipe("d"))) as site:
        gateway = site.gateway
        a, links = gateway.servers["a"], list(site.adapters["a"].links)
        own, merged = space(gateway, "a"), space(gateway)
        caller, other = session_of(gateway, own, legacy(), "1"), session_of(gateway, merged, legacy(), "2")
        await use(own, caller, "echo")

        differences = site.reload(config_of(pipe("a"), pipe("c"), pipe("b", "other:s")))
        await gateway.ready()
        await quiet()

        assert str(differences) == "1 server added (c), 1 changed (b), 1 removed (d), 1 unchanged"
        assert gateway.servers["a"] is a
        assert list(gateway.servers) == ["a", "c", "b"]
        assert site.adapters["a"].links == links
        assert links[0] in site.adapters["a"].open
        assert space(gateway, "a") is own
        assert space(gateway) is not merged
        assert sorted(gateway.namespaces) == ["", "a", "b", "c"]
        assert (caller.session, other.session) == (gateway.sessions.get("1"), gateway.sessions.get("2"))
        assert await use(own, caller, "echo", text="still")
        assert "c_echo" in names(await ask(space(gateway), other, "tools/list"))


async def test_a_configuration_that_is_equal_changes_nothing(autojump_clock: trio.testing.MockClock) -> None:
    config = config_of(pipe("a"), pipe("b"), namespaces={"w": NamespaceConfig("w", ("a", "b"))}, expose_servers=True)
    async with running(config) as site:
        before = dict(site.gateway.namespaces)
        assert site.reload(attrs.evolve(config)) == Differences(unchanged=("a", "b"))
        assert site.gateway.namespaces == before


async def release(link: MemoryLink) -> None:
    """Have a server answer its slow calls, by whatever way it is reached."""
    message = jsonrpc.request(b"0", "tools/call", {"name": "release", "arguments": {}})
    await link.call(Request(message, Wait()), NoBack())
    await quiet()


class Slow:
    """A slow call of a client, and what became of it."""

    def __init__(self, gateway: Gateway, name: str, caller: Caller) -> None:
        self.text = ""
        self.problem = ""
        self._namespace = space(gateway, name)
        self._caller = caller

    async def run(self) -> None:
        try:
            self.text = str(await use(self._namespace, self._caller, "slow", name="x"))
        except GatewayError as problem:
            self.problem = problem.message


@pytest.mark.requirement("4.life.reload")
async def test_a_changed_server_finishes_its_calls_and_its_clients_go_on_in_their_sessions(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running(config_of(pipe("c"))) as site:
        gateway, before = site.gateway, site.adapters["c"]
        caller = session_of(gateway, space(gateway, "c"), legacy())
        slow = Slow(gateway, "c", caller)
        async with trio.open_nursery() as nursery, listening(gateway, space(gateway, "c"), caller) as stream:
            nursery.start_soon(slow.run)
            await quiet()
            site.reload(config_of(pipe("c", "other:s")))
            await quiet()
            assert stream.methods[:3] == [f"{kind}/list_changed" for kind in ("tools", "prompts", "resources")]

            assert "content" in await use(space(gateway, "c"), caller, "echo")
            assert (len(site.adapters["c"].open), len(before.open)) == (1, 1)
            await release(before.links[0])
            assert (slow.text != "", slow.problem, before.open) == (True, "", [])
        assert caller.session is gateway.sessions.get("session")


async def test_a_call_that_does_not_end_is_ended_with_the_drain(autojump_clock: trio.testing.MockClock) -> None:
    async with running(config_of(pipe("c"))) as site:
        slow = Slow(site.gateway, "c", legacy())
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow.run)
            await quiet()
            site.reload(config_of(pipe("c", "other:s")))
        assert (trio.current_time() - began, slow.problem) == (DRAIN, "server 'c': closed")


@pytest.mark.requirement("4.life.reload")
async def test_a_removed_server_finishes_its_calls_and_its_sessions_end_after_them(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running(config_of(pipe("a"), pipe("d"))) as site:
        gateway, before = site.gateway, site.adapters["d"]
        busy = session_of(gateway, space(gateway, "d"), legacy(), "busy")
        session_of(gateway, space(gateway, "d"), legacy(), "idle")
        slow = Slow(gateway, "d", busy)
        assert busy.session is not None
        busy.session.begin(b"1", Wait())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow.run)
            await quiet()
            site.reload(config_of(pipe("a")))
            await quiet()
            assert gateway.namespace("d") is None
            assert [session.id for session in gateway.sessions] == ["busy"]
            assert [server.name for server in gateway.statistics().servers] == ["d", "a"]
            await release(before.links[0])
        assert (slow.text != "", slow.problem, before.open) == (True, "", [])
        assert [server.name for server in gateway.statistics().servers] == ["a"]
        await trio.sleep(DRAIN)
        await quiet()
        assert len(gateway.sessions) == 0


async def test_a_stream_of_a_namespace_that_goes_is_ended(autojump_clock: trio.testing.MockClock) -> None:
    async with running(config_of(pipe("a"), pipe("d"))) as site:
        gateway = site.gateway
        namespace, caller = space(gateway, "d"), session_of(gateway, space(gateway, "d"), legacy())
        assert caller.session is not None
        stream, wait = Stream(), Wait()
        with pytest.RaisesGroup(Reconfigured):  # which the front takes for the end of the stream
            with caller.session.listening(wait):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(namespace.listen, caller, None, wait, stream)
                    await stream.opened.wait()
                    site.reload(config_of(pipe("a")))
        assert caller.session.ended


async def test_a_server_that_comes_back_is_another_one(autojump_clock: trio.testing.MockClock) -> None:
    async with running(config_of(pipe("a"), pipe("d"))) as site:
        before = site.gateway.servers["d"]
        site.reload(config_of(pipe("a")))
        site.reload(config_of(pipe("a"), pipe("d")))
        await site.gateway.ready()
        await quiet()
        assert site.gateway.servers["d"] is not before
        assert before.state == "stopped"
        assert "content" in await use(space(site.gateway, "d"), legacy(), "echo")


# ---- what is shown ---------------------------------------------------------------------------------------------------


@pytest.mark.requirement("4.life.reload")
async def test_rules_and_names_change_for_sessions_that_see_a_difference_and_cost_no_server_its_links(
    autojump_clock: trio.testing.MockClock,
) -> None:
    def config(a: ToolRules, **keys: object) -> Config:
        return config_of(
            pipe("a", tools=a), pipe("b"), namespaces={"w": NamespaceConfig("w", ("b",))}, expose_servers=True, **keys
        )

    async with running(config(ToolRules())) as site:
        gateway = site.gateway
        merged, work = (session_of(gateway, space(gateway, name), legacy(), f"s{name}") for name in ("", "w"))
        await ask(space(gateway), merged, "tools/list")
        links = {name: list(adapter.links) for name, adapter in site.adapters.items()}
        async with (
            listening(gateway, space(gateway), merged) as sees,
            listening(gateway, space(gateway, "w"), work) as does_not,
        ):
            site.reload(config(ToolRules(deny=("big",))))
            await quiet()
            assert (sees.methods, does_not.methods) == (["tools/list_changed"], [])
            assert "a_big" not in names(await ask(space(gateway), merged, "tools/list"))
            with pytest.raises(InvalidParams):
                await use(space(gateway), merged, "a_big")
            site.reload(config(ToolRules(deny=("big", "nothing"))))
            await quiet()
            assert sees.methods == ["tools/list_changed"]
            site.reload(config(ToolRules(deny=("big", "nothing")), naming=Naming(separator="-")))
            await quiet()
            assert sees.methods == ["tools/list_changed"] * 2
            assert "a-echo" in names(await ask(space(gateway), merged, "tools/list"))
        assert {name: adapter.links for name, adapter in site.adapters.items()} == links


async def test_a_server_that_shows_nothing_is_no_news(autojump_clock: trio.testing.MockClock) -> None:
    """As one that cannot be started: a cloud that is dialled anew for changed tools is left alone."""
    async with running(config_of(pipe("a"))) as site:
        gateway = site.gateway
        caller = session_of(gateway, space(gateway), legacy())
        before = names(await ask(space(gateway), caller, "tools/list"))
        down = newsroom("down")
        down.dead = True
        async with listening(gateway, space(gateway), caller) as stream:
            gateway.reconfigure(config_of(pipe("a"), pipe("down")), {"down": down})
            await trio.sleep(60)
            assert (stream.methods, names(await ask(space(gateway), caller, "tools/list"))) == ([], before)
            down.dead = False
            await trio.sleep(60)
            assert stream.methods == ["tools/list_changed"]


async def test_a_raw_namespace_that_becomes_merged_tells_its_sessions(autojump_clock: trio.testing.MockClock) -> None:
    def config(*servers: str) -> Config:
        return config_of(pipe("a"), pipe("b"), namespaces={"w": NamespaceConfig("w", servers)})

    async with running(config("a")) as site:
        gateway = site.gateway
        caller = session_of(gateway, space(gateway, "w"), legacy())
        assert "echo" in names(await ask(space(gateway, "w"), caller, "tools/list"))
        async with listening(gateway, space(gateway, "w"), caller) as stream:
            site.reload(config("a", "b"))
            await quiet()
            assert stream.methods == [f"{kind}/list_changed" for kind in ("tools", "prompts", "resources")]
        assert "b_echo" in names(await ask(space(gateway, "w"), caller, "tools/list"))
        site.reload(config("b"))
        assert "echo" in names(await ask(space(gateway, "w"), caller, "tools/list"))


async def test_a_call_of_a_known_name_waits_for_no_server_that_was_added(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running(config_of(pipe("a"), pipe("b"))) as site:
        gateway, caller = site.gateway, legacy()
        await ask(space(gateway), caller, "tools/list")
        asked = len(room(site.adapters["a"]).asked("tools/list"))
        slow = newsroom("z")
        slow.delay = 1000.0
        gateway.reconfigure(config_of(pipe("a"), pipe("b"), pipe("z")), {"z": slow})
        began = trio.current_time()
        assert "content" in await use(space(gateway), caller, "a_echo")
        assert trio.current_time() == began
        assert len(room(site.adapters["a"]).asked("tools/list")) == asked
        assert gateway.is_ready


async def test_what_a_server_that_starts_slowly_adds_is_told_when_it_is_there(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running(config_of(pipe("a"))) as site:
        gateway = site.gateway
        caller = session_of(gateway, space(gateway), legacy())
        await ask(space(gateway), caller, "tools/list")
        slow = newsroom("z")
        slow.delay = 50.0
        async with listening(gateway, space(gateway), caller) as stream:
            gateway.reconfigure(config_of(pipe("a"), pipe("z")), {"z": slow})
            await trio.sleep(40)
            await ask(space(gateway), caller, "tools/list")
            before = len(stream.methods)
            await trio.sleep(20)
            await quiet()
            assert len(stream.methods) == before + 1
        assert "z_echo" in names(await ask(space(gateway), caller, "tools/list"))


# ---- what clients want of servers ------------------------------------------------------------------------------------


@pytest.mark.requirement("4.life.reload")
@pytest.mark.parametrize("isolation", [Isolation.AUTO, Isolation.SESSION])
async def test_subscriptions_and_levels_go_on_at_a_changed_server(
    isolation: Isolation, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(config_of(pipe("a"), pipe("b"))) as site:
        gateway = site.gateway
        caller = session_of(gateway, space(gateway), legacy())
        await ask(space(gateway), caller, "resources/subscribe", {"uri": "book://a/1"})
        await ask(space(gateway), caller, "logging/setLevel", {"level": "error"})

        site.reload(config_of(pipe("a", "other:s", isolation=isolation), pipe("b")))
        await quiet()

        told = [link.host for link in site.adapters["a"].links]
        assert [uri for host in told for uri in _asked(host, "resources/subscribe", "uri")] == ["book://a/1"]
        assert [level for host in told for level in _asked(host, "logging/setLevel", "level")] == ["error"]
        assert gateway.changes.statistics().subscriptions == 1


def _asked(host: object, method: str, member: str) -> list[object]:
    assert isinstance(host, Newsroom)
    return list(host.asked_for(method, member))


async def test_wishes_at_a_server_that_has_gone_are_forgotten(autojump_clock: trio.testing.MockClock) -> None:
    async with running(config_of(pipe("a"), pipe("b"))) as site:
        gateway = site.gateway
        caller = session_of(gateway, space(gateway), legacy())
        await ask(space(gateway), caller, "resources/subscribe", {"uri": "book://a/1"})
        await ask(space(gateway), caller, "logging/setLevel", {"level": "error"})
        site.reload(config_of(pipe("b")))
        await quiet()
        interests = gateway.changes.interests
        assert len(interests.subscriptions) == 0
        assert [channel[0].name for channel, *_ in interests.levels.entries()] == ["b"]


async def test_a_namespace_that_lost_a_server_lets_its_sessions_unsubscribe_there(
    autojump_clock: trio.testing.MockClock,
) -> None:
    def config(*servers: str) -> Config:
        merged = NamespaceConfig("w", servers, naming=Naming(NamingMode.PREFIXED))
        return config_of(pipe("a"), pipe("b"), namespaces={"w": merged})

    async with running(config("a", "b")) as site:
        gateway = site.gateway
        caller = session_of(gateway, space(gateway, "w"), legacy())
        await ask(space(gateway, "w"), caller, "resources/subscribe", {"uri": "book://a/1"})
        site.reload(config("b"))
        await quiet()
        assert room(site.adapters["a"]).asked_for("resources/unsubscribe") == ["book://a/1"]


async def test_links_of_a_session_at_a_server_that_its_namespace_lost_go_with_the_session(
    autojump_clock: trio.testing.MockClock,
) -> None:
    def config(*servers: str) -> Config:
        own = pipe("a", isolation=Isolation.SESSION)
        return config_of(own, pipe("b"), namespaces={"w": NamespaceConfig("w", servers)})

    async with running(config("a", "b")) as site:
        gateway = site.gateway
        caller = session_of(gateway, space(gateway, "w"), legacy())
        await use(space(gateway, "w"), caller, "a_echo")
        links = len(site.adapters["a"].open)
        site.reload(config("b"))
        assert caller.session is not None
        gateway.sessions.close(caller.session)
        await quiet()
        assert len(site.adapters["a"].open) == links - 1


@pytest.mark.requirement("4.life.reload")
async def test_subscriptions_of_modern_clients_are_told_and_end_gracefully(
    autojump_clock: trio.testing.MockClock,
) -> None:
    wanted = {"notifications": {"toolsListChanged": True}}
    config = config_of(pipe("a"), pipe("b"))
    adapters = [newsroom(name, eras=frozenset(Era)) for name in ("a", "b")]
    async with gateway_of(*adapters, config=config) as gateway:
        heard = {name: Collecting() for name in ("", "a", "b")}
        ended: list[str] = []

        async def listen(name: str) -> None:
            reply = await ask(space(gateway, name), modern(), "subscriptions/listen", wanted, back=heard[name])
            assert reply.message.result is not None
            ended.append(name)

        async with trio.open_nursery() as nursery:
            for name in heard:
                nursery.start_soon(listen, name)
            await quiet()
            gateway.reconfigure(config_of(pipe("a", "other:s"), pipe("b")), {"a": newsroom("a", eras=frozenset(Era))})
            await quiet()
            assert sorted(ended) == ["", "a"]
            assert [message.method for message in heard[""].messages] == [
                "notifications/subscriptions/acknowledged",
                "notifications/tools/list_changed",
            ]
            nursery.cancel_scope.cancel(reason="the test is over")


async def test_tasks_are_remembered_by_the_namespace_that_takes_anothers_place(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running(config_of(pipe("a"), pipe("b"))) as site:
        before = space(site.gateway)
        site.reload(config_of(pipe("a"), pipe("c")))
        after = space(site.gateway)
        assert isinstance(before, MergedNamespace)
        assert isinstance(after, MergedNamespace)
        assert after._tasks is before._tasks


# ---- sessions that pass through --------------------------------------------------------------------------------------


def http(name: str, url: str) -> HttpServer:
    return HttpServer(name, url=url)


async def test_a_session_that_passes_through_is_opened_at_the_new_server_with_the_clients_own_handshake(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running(config_of(http("h", "http://old/mcp"))) as site:
        gateway = site.gateway
        caller = legacy()
        await space(gateway, "h").initialize(caller, handshake("somebody"), "1")
        session = gateway.sessions.open("1", "h", caller)
        await use(space(gateway, "h"), caller, "echo")

        site.reload(config_of(http("h", "http://new/mcp")))
        await quiet()
        assert session.moved
        assert "content" in await use(space(gateway, "h"), caller, "echo")

        offers = [offer for offer in site.adapters["h"].offers if not offer.hears]
        assert [bytes(offer.initialize) for offer in offers if b"somebody" in bytes(offer.initialize)] == [
            bytes(handshake("somebody"))
        ]
        assert len(session.outbox) == 3


async def test_a_session_that_passed_through_goes_on_at_a_server_behind_a_pipe(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running(config_of(http("h", "http://old/mcp"))) as site:
        gateway = site.gateway
        caller = legacy()
        await space(gateway, "h").initialize(caller, handshake("somebody"), "1")
        gateway.sessions.open("1", "h", caller)
        site.reload(config_of(StdioServer("h", command="true")))
        assert "content" in await use(space(gateway, "h"), caller, "echo")
        assert caller.handshake is None
        async with listening(gateway, space(gateway, "h"), caller) as stream:
            assert stream.methods == [f"{kind}/list_changed" for kind in ("tools", "prompts", "resources")]


async def test_a_session_that_passed_through_and_is_merged_now_has_streams_of_the_gateways_own(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What its client remembers of the server's events is of no use there."""
    alone, both = (NamespaceConfig("n", names) for names in (("h",), ("h", "a")))
    servers = http("h", "http://h/mcp"), pipe("a")
    async with running(config_of(*servers, namespaces={"n": alone})) as site:
        gateway = site.gateway
        caller = legacy()
        await space(gateway, "n").initialize(caller, handshake("somebody"), "1")
        session = gateway.sessions.open("1", "n", caller)
        assert space(gateway, "n").passes_streams(caller)
        site.reload(config_of(*servers, namespaces={"n": both}))
        assert not space(gateway, "n").passes_streams(caller)
        assert session.moved


async def test_modern_callers_are_worked_out_anew(autojump_clock: trio.testing.MockClock) -> None:
    envelope = Envelope("2026-07-28", Raw(b"{}"))
    async with running(config_of(pipe("a"))) as site:
        first = site.gateway.callers.of(envelope)
        assert site.gateway.callers.of(envelope) is first
        site.reload(config_of(pipe("a", isolation=Isolation.SESSION)))
        assert site.gateway.callers.of(envelope) is not first


# ---- embedding, bounds, refusals -------------------------------------------------------------------------------------


async def test_servers_that_are_objects_stay(autojump_clock: trio.testing.MockClock) -> None:
    async with mcpgateway.open_gateway(Config(), servers={"mine": newsroom("mine")}) as gateway:
        await gateway.ready()
        mine = gateway.servers["mine"]
        gateway.reconfigure(config_of(pipe("a")), {"a": newsroom("a")})
        assert list(gateway.servers) == ["a", "mine"]
        assert gateway.servers["mine"] is mine
        assert "content" in await gateway.call_tool("mine_echo")


async def test_a_client_in_this_process_sees_the_namespace_as_it_is(autojump_clock: trio.testing.MockClock) -> None:
    async with running(config_of(pipe("a"))) as site:
        merged, own = site.gateway.client(), site.gateway.client("a")
        site.reload(config_of(pipe("b")))
        await site.gateway.ready()
        assert "content" in await merged.call_tool("b_echo")
        with pytest.raises(UnknownNamespace):
            await own.call_tool("echo")


async def test_an_adapter_that_cannot_be_made_leaves_everything_as_it_was(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running(config_of(pipe("a"))) as site:
        before = dict(site.gateway.namespaces)
        with pytest.raises(ValueError, match="not an http"):
            site.gateway.reconfigure(config_of(pipe("b"), HttpServer("h", url="ftp://x")), {"b": newsroom("b")})
        assert list(site.gateway.servers) == ["a"]
        assert site.gateway.namespaces == before


async def test_bounds_on_sessions_follow(autojump_clock: trio.testing.MockClock) -> None:
    async with running(config_of(pipe("a"))) as site:
        gateway = site.gateway
        for id in "12":
            session_of(gateway, space(gateway, "a"), legacy(), id)
        site.reload(config_of(pipe("a"), listen=Listen(limits=Limits(sessions=1, session_idle_timeout=8.0))))
        assert len(gateway.sessions) == 2
        await trio.sleep(4000)
        assert len(gateway.sessions) == 0


async def test_a_gateway_that_is_closed_takes_no_other_configuration(autojump_clock: trio.testing.MockClock) -> None:
    async with running(config_of(pipe("a"))) as site:
        await site.gateway.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            site.gateway.reconfigure(config_of(pipe("b")))


async def test_the_end_of_the_gateway_does_not_wait_for_a_server_that_drains(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running(config_of(pipe("a"), pipe("d"))) as site:
        before = site.adapters["d"]
        slow = Slow(site.gateway, "d", legacy())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow.run)
            await quiet()
            site.reload(config_of(pipe("a")))
            await quiet()
            began = trio.current_time()
            await site.gateway.aclose()
        assert trio.current_time() == began
        assert before.open == []


async def test_what_does_not_close_is_ended_when_the_time_is_over(autojump_clock: trio.testing.MockClock) -> None:
    class Hangs(MemoryLink):
        async def aclose(self) -> None:
            await self.closed.wait()

    adapter = newsroom("a")
    adapter.link_class = Hangs
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        gateway = Gateway(config_of(pipe("a")), {"a": adapter})
        await nursery.start(gateway.run)
        await gateway.ready()
        await gateway.aclose(began + 2.5)
    assert trio.current_time() - began == 2.5
    assert adapter.open == []
