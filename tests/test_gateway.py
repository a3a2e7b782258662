"""The gateway: which namespaces there are, what it owns, and that nothing of it is left."""

from __future__ import annotations

import pytest
import trio

from mcpgateway.calls.merged import MergedNamespace
from mcpgateway.calls.raw import RawNamespace
from mcpgateway.catalog.rules import Naming, NamingMode
from mcpgateway.config.model import Config, HttpServer, InProcessServer, NamespaceConfig, StdioServer
from mcpgateway.gateway import Gateway
from mcpgateway.protocol.revisions import Era
from tests.calls.doubles import gateway_of, handshake, legacy, library, space, use


def servers(*names: str) -> dict[str, InProcessServer]:
    return {name: InProcessServer(name, module="m:s", enabled=name != "off") for name in names}


def shapes(config: Config) -> dict[str, str]:
    """Every namespace: ``raw`` or ``merged``, and its servers."""
    return {
        name: f"{'raw' if isinstance(namespace, RawNamespace) else 'merged'} "
        + " ".join(server.name for server in namespace.servers)
        for name, namespace in Gateway(config).namespaces.items()
    }


@pytest.mark.requirement("feature.50", "feature.62")
@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (Config(servers=servers("a", "off", "b")), {"": "merged a b", "a": "raw a", "b": "raw b"}),
        (Config(servers=servers("a")), {"": "merged a", "a": "raw a"}),
        (Config(servers=servers("a"), naming=Naming(NamingMode.RAW)), {"": "raw a", "a": "raw a"}),
        (Config(), {"": "merged "}),
        (Config(servers=servers("a"), expose_servers=False), {}),
        (
            Config(servers=servers("a", "b"), namespaces={"a": NamespaceConfig("a", ("b",))}, expose_servers=True),
            {"": "merged a b", "a": "raw b", "b": "raw b"},
        ),
        (
            Config(servers=servers("a", "off"), namespaces={"w": NamespaceConfig("w", ("off", "a"))}),
            {"w": "raw a"},
        ),
    ],
)
def test_the_namespaces_of_a_configuration(config: Config, expected: dict[str, str]) -> None:
    assert shapes(config) == expected


def test_a_prefixed_namespace_of_one_server_is_merged() -> None:
    config = Config(
        servers=servers("a"), namespaces={"w": NamespaceConfig("w", ("a",), naming=Naming(NamingMode.PREFIXED))}
    )
    assert isinstance(Gateway(config).namespace("w"), MergedNamespace)


def test_many_stdio_servers_start_when_they_are_used() -> None:
    def lazy(count: int) -> set[bool]:
        configs = {str(number): StdioServer(str(number), command="true") for number in range(count)}
        http = {"h": HttpServer("h", url="http://127.0.0.1:1/mcp")}
        gateway = Gateway(Config(servers={**configs, **http}, lazy_above=3))
        assert not gateway.servers["h"].lazy
        return {server.lazy for name, server in gateway.servers.items() if name != "h"}

    assert (lazy(3), lazy(4)) == ({False}, {True})


@pytest.mark.requirement("feature.51")
async def test_servers_start_side_by_side_and_readiness_waits_for_all(autojump_clock: trio.testing.MockClock) -> None:
    slow, slower, dead = library("slow"), library("slower"), library("dead")
    slow.delay, slower.delay, dead.dead = 3.0, 4.0, True
    async with gateway_of(slow, slower, dead, ready=False) as gateway:
        began = trio.current_time()
        before = gateway.is_ready
        await gateway.ready()
        assert (before, gateway.is_ready) == (False, True)
        assert trio.current_time() - began == 4
        states = {server.name: server.state for server in gateway.statistics().servers}
        assert states["slow"] == states["slower"] == "ready"


@pytest.mark.requirement("feature.48")
async def test_a_session_that_ends_takes_its_links_with_it(autojump_clock: trio.testing.MockClock) -> None:
    adapter = library("a", eras={Era.LEGACY})
    configs = {"a": HttpServer("a", url="http://a/mcp")}
    async with gateway_of(adapter, configs=configs) as gateway:
        namespace = space(gateway, "a")
        for id in ("one", "two"):
            caller = legacy()
            await namespace.initialize(caller, handshake(id), id)
            gateway.sessions.open(id, "a", caller)
            await use(namespace, caller, "echo")
        assert len(adapter.open) == 3
        gateway.sessions.close(gateway.sessions.find("one", "a", "anonymous"))
        await trio.testing.wait_all_tasks_blocked()
        assert len(adapter.open) == 2
        assert gateway.statistics().sessions == 1


async def test_nothing_is_left_after_the_end(autojump_clock: trio.testing.MockClock) -> None:
    adapters = [library(name) for name in "abc"]
    async with gateway_of(*adapters) as gateway:
        await gateway.list_tools()

    assert [link for adapter in adapters for link in adapter.open] == []
    statistics = gateway.statistics()
    assert (statistics.sessions, statistics.waits) == (0, 0)
    assert {server.state for server in statistics.servers} == {"stopped"}


async def test_the_calls_of_python_are_those_of_the_client(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway_of(library("a")) as gateway:
        assert len(await gateway.list_prompts()) == len(await gateway.list_resources()) == 1
        assert len(await gateway.list_resource_templates()) == 1
        assert "messages" in await gateway.get_prompt("a_greet")
        assert "contents" in await gateway.read_resource("book://a/1")
        assert "content" in await gateway.call_tool("a_echo")


async def test_an_errand_that_fails_is_logged_and_harms_nobody(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    async def fails() -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError("oops")

    gateway = Gateway(Config())
    gateway._soon(fails)  # not running: there is nobody to do it
    async with gateway_of(library("a")) as gateway:
        gateway._soon(fails)
        await trio.testing.wait_all_tasks_blocked()
        assert "content" in await gateway.call_tool("a_echo")
    assert [record.message for record in caplog.records if record.exc_info] == ["an errand of the gateway failed"]


async def test_a_gateway_that_runs_is_not_run_again(autojump_clock: trio.testing.MockClock) -> None:
    """As where a `Service` is given one that `open_gateway` runs."""
    async with gateway_of(library("a")) as gateway:
        with pytest.raises(RuntimeError, match="runs already: give Service one made with"):
            await gateway.run()
        await gateway.ready()
        assert [server.state for server in gateway.statistics().servers] == ["ready"]


async def test_a_gateway_that_ends_while_servers_start_has_nothing_to_complain_of(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    slow = library("slow")
    slow.delay = 30.0
    async with gateway_of(slow):
        await trio.sleep(1)
    assert caplog.messages == []
