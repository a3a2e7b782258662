"""Several servers as one: what is listed, who answers, and what one bad server costs the others."""

from __future__ import annotations

import re

import attrs
import pytest
import trio

from mcpgateway import jsonrpc
from mcpgateway.calls.merged import MISSING_META
from mcpgateway.catalog.items import SERVER_META
from mcpgateway.config.model import Config, EraPolicy, InProcessServer, NamespaceConfig, ServerConfig
from mcpgateway.errors import InvalidParams, MethodNotFound, UnsupportedVersion
from mcpgateway.gateway import Gateway
from mcpgateway.jsonrpc import Message, members_of, value_of
from mcpgateway.protocol.revisions import Era
from mcpgateway.sessions.caller import Caller
from tests.calls.doubles import (
    Library,
    ask,
    gateway_of,
    handshake,
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

CALLERS = {Era.LEGACY: legacy, Era.MODERN: modern}


class Hangs(Library):
    """Shakes hands and never answers anything else."""

    def handle(self, message: Message) -> list[Message]:
        return super().handle(message) if message.method in ("initialize", "server/discover") else []


class Pages(Library):
    """Lists its tools two to a page, and with a cursor that it must get back as it gave it."""

    def handle(self, message: Message) -> list[Message]:
        if message.method != "tools/list":
            return super().handle(message)
        cursor = members_of(message.params).get("cursor")
        start = 0 if cursor is None else int(bytes(cursor).decode().strip('"').removeprefix("é"))
        page: dict[str, object] = {"tools": [{"name": name} for name in list(self.tools)[start : start + 2]]}
        if start + 2 < len(self.tools):
            page["nextCursor"] = f"é{start + 2}"
        return [jsonrpc.result(message.id or b"", page)]


class Circles(Library):
    """Lists pages that lead in a circle."""

    def handle(self, message: Message) -> list[Message]:
        if message.method != "tools/list":
            return super().handle(message)
        return [jsonrpc.result(message.id or b"", {"tools": [], "nextCursor": "again"})]


def adapter(name: str, make: type[Library]) -> Counting:
    return Counting(name, make, eras={Era.LEGACY})


def mirrored(*servers: str) -> dict[str, ServerConfig]:
    """Servers that are spoken to in their clients' era or not at all."""
    return {name: InProcessServer(name, module="m:s", era=EraPolicy.MIRROR) for name in servers}


def missing(reply_result: dict[str, object]) -> object:
    meta = reply_result.get("_meta", {})
    assert isinstance(meta, dict)
    return meta.get(MISSING_META)


async def listed(gateway: Gateway, caller: Caller, method: str = "tools/list") -> dict[str, object]:
    return dict(result(await ask(space(gateway), caller, method)))


# ---- listings --------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("feature.53", "feature.54", "2.front.merged")
@pytest.mark.parametrize("era", Era)
async def test_listings_are_merged_in_the_order_of_the_configuration(
    era: Era, autojump_clock: trio.testing.MockClock
) -> None:
    slow = library("b")
    async with gateway_of(slow, library("a")) as gateway:
        caller = CALLERS[era]()
        tools = await ask(space(gateway), caller, "tools/list")
        assert names(tools)[:2] == ["b_echo", "b_slow"]
        assert names(tools)[-1] == "a_crash"
        assert names(await ask(space(gateway), caller, "prompts/list"), "prompts") == ["b_greet", "a_greet"]
        assert names(await ask(space(gateway), caller, "resources/list"), "resources", "uri") == [
            "book://b/1",
            "book://a/1",
        ]
        templates = await ask(space(gateway), caller, "resources/templates/list")
        assert names(templates, "resourceTemplates", "uriTemplate") == ["shelf://b/{n}", "shelf://a/{n}"]
        prompts = result(await ask(space(gateway), caller, "prompts/list"))["prompts"]
        assert isinstance(prompts, list)
        assert prompts[0] == {"name": "b_greet", "x-unknown": 1.0, "_meta": {SERVER_META: "b"}}
        assert missing(dict(result(tools))) is None
        assert ("ttlMs" in result(tools)) is (era is Era.MODERN)
        with pytest.raises(InvalidParams, match="Invalid cursor"):
            await ask(space(gateway), caller, "tools/list", {"cursor": "x"})


async def test_all_pages_of_a_server_are_listed(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway_of(adapter("a", Pages), library("b")) as gateway:
        tools = names(await ask(space(gateway), legacy(), "tools/list"))

    assert [name for name in tools if name.startswith("a_")] == [
        f"a_{name}" for name in list(Library(eras={Era.LEGACY}).tools)
    ]


@pytest.mark.requirement("feature.52")
async def test_a_server_that_hangs_costs_a_listing_its_bound_and_is_named(
    autojump_clock: trio.testing.MockClock,
) -> None:
    dead = library("dead")
    dead.dead = True
    servers = (library("a"), adapter("hangs", Hangs), dead, adapter("circles", Circles))
    async with gateway_of(*servers, config=Config(list_timeout=5.0)) as gateway:
        began = trio.current_time()
        got = await listed(gateway, legacy())

        assert trio.current_time() - began <= 5
        reasons = missing(got)
        assert isinstance(reasons, dict)
        assert reasons.pop("dead").startswith("is dead")
        assert reasons == {"hangs": "did not list within 5 s", "circles": "pages of tools/list lead in a circle"}
        assert "content" in await use(space(gateway), legacy(), "a_echo")


async def test_a_server_that_is_still_starting_is_waited_for_and_then_named(
    autojump_clock: trio.testing.MockClock,
) -> None:
    late = library("late", eras={Era.LEGACY})
    late.delay = 20.0
    async with gateway_of(library("a"), late, config=Config(startup_wait=5.0), ready=False) as gateway:
        began = trio.current_time()
        assert missing(await listed(gateway, legacy())) == {"late": "is still starting"}
        assert trio.current_time() - began == 5
        assert [server.state for server in gateway.statistics().servers] == ["ready", "starting"]
        await trio.sleep(16)
        await gateway.ready()
        got = await ask(space(gateway), legacy(), "tools/list")
        assert "late_echo" in names(got)


async def test_a_server_that_crashes_keeps_its_names_and_is_named(autojump_clock: trio.testing.MockClock) -> None:
    bad = library("bad")
    async with gateway_of(bad, library("a")) as gateway:
        before = names(await ask(space(gateway), legacy(), "tools/list"))
        bad.dead = True
        for link in bad.links:
            link.crash("killed")
        await trio.testing.wait_all_tasks_blocked()
        got = await listed(gateway, legacy())

        assert list(missing(got)) == ["bad"]  # type: ignore[call-overload]  # a mapping
        assert names(await ask(space(gateway), legacy(), "tools/list")) == before


async def test_servers_of_the_other_era_are_named(autojump_clock: trio.testing.MockClock) -> None:
    servers = library("old", eras={Era.LEGACY}), library("new", eras={Era.MODERN})
    async with gateway_of(*servers, configs=mirrored("old", "new")) as gateway:
        for caller, there, away in ((legacy(), "old", "new"), (modern(), "new", "old"), (legacy(), "old", "new")):
            got = await ask(space(gateway), caller, "tools/list")
            assert {name.partition("_")[0] for name in names(got)} == {there}
            named = missing(dict(result(got)))
            assert isinstance(named, dict)
            assert list(named) == [away]
            assert re.match(
                r"speaks only the (legacy|modern) era of MCP, the client the (modern|legacy) era", named[away]
            )


async def test_where_nobody_speaks_the_clients_era_the_handshake_says_so(
    autojump_clock: trio.testing.MockClock,
) -> None:
    servers = library("a", eras={Era.MODERN}), library("b", eras={Era.MODERN})
    async with gateway_of(*servers, configs=mirrored("a", "b")) as gateway:
        with pytest.raises(UnsupportedVersion, match="only the modern era of MCP, the client the legacy era"):
            await space(gateway).initialize(legacy(), handshake(), "id")


# ---- handshakes ------------------------------------------------------------------------------------------------------


async def test_capabilities_are_united_and_instructions_named(autojump_clock: trio.testing.MockClock) -> None:
    plain = Counting("b")
    async with gateway_of(library("a"), plain) as gateway:
        raw, kept = await space(gateway).initialize(legacy(), handshake(), "id")
        discovered = result(await ask(space(gateway), modern(), "server/discover"))

    got = value_of(raw)
    assert isinstance(got, dict)
    assert kept
    assert got["capabilities"] == {
        "tools": {"listChanged": True},
        "prompts": {},
        "resources": {},
        "completions": {},
        "logging": {},
    }
    assert got["capabilities"] == discovered["capabilities"]
    assert got["instructions"] == discovered["instructions"] == "# a\n\nRead before you ask."
    assert got["protocolVersion"] == "2025-11-25"


async def test_a_server_not_reached_yet_may_offer_anything(autojump_clock: trio.testing.MockClock) -> None:
    late = library("late")
    late.delay = 20.0
    async with gateway_of(late, config=Config(startup_wait=5.0), ready=False) as gateway:
        raw, _ = await space(gateway).initialize(legacy(), handshake(), "id")

    assert members_of(members_of(raw)["capabilities"]).keys() == {"tools", "prompts", "resources"}


@pytest.mark.parametrize(
    ("era", "methods"), [(Era.LEGACY, ["server/discover"]), (Era.MODERN, ["ping", "logging/setLevel"])]
)
async def test_methods_of_the_other_era_do_not_exist(
    era: Era, methods: list[str], autojump_clock: trio.testing.MockClock
) -> None:
    async with gateway_of(library("a"), library("b")) as gateway:
        for method in [*methods, "x/unknown"]:
            with pytest.raises(MethodNotFound):
                await ask(space(gateway), CALLERS[era](), method)


async def test_ping_is_answered_here_and_a_level_goes_to_all_that_log(autojump_clock: trio.testing.MockClock) -> None:
    loud, dead = library("a"), library("dead")
    async with gateway_of(loud, Counting("quiet"), dead) as gateway:
        caller = legacy()
        assert result(await ask(space(gateway), caller, "ping")) == {}
        await ask(space(gateway), caller, "tools/list")
        dead.dead = True
        dead.links[-1].crash("killed")
        assert result(await ask(space(gateway), caller, "logging/setLevel", {"level": "debug"})) == {}
        assert len(host(loud).asked("logging/setLevel")) == 1
        assert host(loud).asked("ping") == []


# ---- calls -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", Era)
@pytest.mark.parametrize("name", ["a_echo", "a-echo", "a__echo"])
async def test_a_call_goes_to_its_server_under_its_own_name(
    name: str, era: Era, autojump_clock: trio.testing.MockClock
) -> None:
    one, two = library("a"), library("b")
    async with gateway_of(one, two) as gateway:
        got = await use(space(gateway), CALLERS[era](), name, text="hello")

        assert got["content"] == [{"type": "text", "text": "hello"}]
        assert got["_meta"][SERVER_META] == "a"  # type: ignore[index,call-overload]  # an object
        (call,) = host(one).asked("tools/call")
        assert bytes(members_of(call.params)["name"]) == b'"echo"'
        assert host(two).asked("tools/call") == []


@pytest.mark.parametrize("era", Era)
async def test_prompts_resources_and_completions_go_to_their_servers(
    era: Era, autojump_clock: trio.testing.MockClock
) -> None:
    async with gateway_of(library("a"), library("b")) as gateway:
        namespace, caller = space(gateway), CALLERS[era]()
        prompt = result(await ask(namespace, caller, "prompts/get", {"name": "b_greet"}))
        assert prompt["description"] == "greet of b"
        for uri in ("book://b/1", "shelf://b/7"):
            read = result(await ask(namespace, caller, "resources/read", {"uri": uri}))
            assert read["contents"] == [{"uri": uri, "text": f"{uri} of b"}]
        for ref, original in (
            ({"type": "ref/prompt", "name": "b_greet"}, {"type": "ref/prompt", "name": "greet"}),
            ({"type": "ref/resource", "uri": "shelf://b/{n}"}, {"type": "ref/resource", "uri": "shelf://b/{n}"}),
        ):
            params = {"ref": ref, "argument": {"name": "n", "value": ""}}
            done = result(await ask(namespace, caller, "completion/complete", params))
            assert done["completion"] == {"values": [original]}
            assert done["_meta"] == {SERVER_META: "b"}


@pytest.mark.parametrize(
    ("method", "params", "said"),
    [
        ("tools/call", {"name": "c_echo"}, "Unknown tool: c_echo"),
        ("tools/call", {"name": "echo"}, "Unknown tool: echo"),
        ("tools/call", {}, "params.name is missing"),
        ("tools/call", {"name": 7}, "params.name must be a string"),
        ("prompts/get", {"name": "a_"}, "Unknown prompt: a_"),
        ("resources/read", {"uri": "x://y"}, "Unknown resource: x://y"),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "x"}}, "Unknown prompt: x"),
        ("completion/complete", {"ref": {"type": "ref/resource", "uri": "x"}}, "Unknown resource template: x"),
    ],
)
async def test_what_is_not_there_is_refused(
    method: str, params: dict[str, object], said: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with gateway_of(library("a"), library("b")) as gateway:
        with pytest.raises(InvalidParams) as refused:
            await ask(space(gateway), legacy(), method, params)

    assert (str(refused.value), refused.value.code) == (said, -32602)


@pytest.mark.parametrize("method", ["tools/call", "prompts/get"])
async def test_what_may_be_a_missing_servers_is_refused_with_its_name(
    method: str, autojump_clock: trio.testing.MockClock
) -> None:
    dead = library("b")
    dead.dead = True
    async with gateway_of(library("a"), dead) as gateway:
        with pytest.raises(
            InvalidParams, match=r"Unknown (tool|prompt): b_greet; what these servers .* not known: 'b'$"
        ):
            await ask(space(gateway), legacy(), method, {"name": "b_greet"})


async def test_made_up_names_do_not_keep_the_servers_busy(autojump_clock: trio.testing.MockClock) -> None:
    one = library("a", eras={Era.LEGACY})
    async with gateway_of(one, library("b")) as gateway:
        await ask(space(gateway), legacy(), "tools/list")
        for number in range(20):
            with pytest.raises(InvalidParams, match="Unknown tool"):
                await ask(space(gateway), legacy(), "tools/call", {"name": f"made_up_{number}"})
        assert len(host(one).asked("tools/list")) == 2

        await trio.sleep(1.1)
        with pytest.raises(InvalidParams, match="Unknown tool"):
            await ask(space(gateway), legacy(), "tools/call", {"name": "made_up"})
        assert len(host(one).asked("tools/list")) == 3


async def test_a_name_that_appeared_since_the_last_listing_is_found(autojump_clock: trio.testing.MockClock) -> None:
    one = library("a", eras={Era.LEGACY})
    async with gateway_of(one, library("b")) as gateway:
        await ask(space(gateway), legacy(), "tools/list")
        server = host(one)
        server.tools["fresh"] = server.tools["echo"]
        with pytest.raises(AssertionError, match="-32602"):
            await use(space(gateway), legacy(), "a_fresh")  # listed, called, and refused by the server itself
        assert len(server.asked("tools/list")) == 2


async def test_many_calls_at_once_list_once(autojump_clock: trio.testing.MockClock) -> None:
    one = library("a", eras={Era.LEGACY})
    done: list[object] = []
    async with gateway_of(one, library("b")) as gateway:

        async def call() -> None:
            done.append(await use(space(gateway), legacy(), "a_echo"))

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(call)
        assert len(done) == 100
        assert len(host(one).asked("tools/list")) == 1


async def test_errors_and_odd_results_pass_as_they_are(autojump_clock: trio.testing.MockClock) -> None:
    class Odd(Library):
        def handle(self, message: Message) -> list[Message]:
            if message.method == "prompts/get":
                return [jsonrpc.result(message.id or b"", ["odd"])]
            return super().handle(message)

    async with gateway_of(adapter("a", Odd), library("b")) as gateway:
        failed = await ask(space(gateway), legacy(), "tools/call", {"name": "a_fail"})
        assert jsonrpc.error_code(failed.message) == 1234
        odd = await ask(space(gateway), legacy(), "prompts/get", {"name": "a_greet"})
        assert bytes(odd.message.result or b"") == b'["odd"]'


async def test_clients_of_different_capabilities_have_tables_of_their_own(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Choosy(Library):
        def handle(self, message: Message) -> list[Message]:
            if message.method == "initialize" and b"roots" not in bytes(members_of(message.params)["capabilities"]):
                del self.tools["slow"]
            return super().handle(message)

    async with gateway_of(adapter("a", Choosy), library("b")) as gateway:
        with_roots = names(await ask(space(gateway), legacy(b'{"roots":{}}'), "tools/list"))
        without = names(await ask(space(gateway), legacy(), "tools/list"))

    assert "a_slow" in with_roots
    assert "a_slow" not in without


async def test_roots_changes_go_to_every_server(autojump_clock: trio.testing.MockClock) -> None:
    one, dead = library("a", eras={Era.LEGACY}), library("dead", eras={Era.LEGACY})
    async with gateway_of(dead, one) as gateway:
        caller = legacy()
        await use(space(gateway), caller, "a_echo")
        dead.links[-1].crash("killed")
        await space(gateway).notify(caller, jsonrpc.notification("notifications/roots/list_changed"))

    assert host(one).heard.count("notifications/roots/list_changed") == 1


async def test_a_configured_namespace_shows_its_own_servers_only(autojump_clock: trio.testing.MockClock) -> None:
    config = Config(namespaces={"work": NamespaceConfig("work", ("a", "b")), "one": NamespaceConfig("one", ("c",))})
    async with gateway_of(library("a"), library("b"), library("c"), config=config) as gateway:
        assert sorted(gateway.namespaces) == ["one", "work"]
        work = names(await ask(space(gateway, "work"), legacy(), "tools/list"))
        one = names(await ask(space(gateway, "one"), legacy(), "tools/list"))

    assert {name.partition("_")[0] for name in work} == {"a", "b"}
    assert one[0] == "echo"


async def test_a_prefix_may_differ_from_the_servers_name(autojump_clock: trio.testing.MockClock) -> None:
    config = attrs.evolve(InProcessServer("a", module="m:s"), prefix="lib")
    async with gateway_of(library("a"), library("b"), configs={"a": config}) as gateway:
        assert names(await ask(space(gateway), legacy(), "tools/list"))[0] == "lib_echo"
