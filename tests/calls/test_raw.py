"""A namespace of one server: what the client says and what the server says, to the byte."""

from __future__ import annotations

import attrs
import pytest
import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.calls.raw import RawNamespace
from mcpgateway.catalog.rules import ToolRules
from mcpgateway.config.model import Config, EraPolicy, HttpServer, InProcessServer, Isolation
from mcpgateway.errors import EraMismatch, ErrorReply, InvalidParams, ServerUnavailable
from mcpgateway.jsonrpc import members_of, value_of
from mcpgateway.protocol.revisions import LATEST_MODERN, Era
from mcpgateway.testing.fixture_server import UNKNOWN
from tests.calls.doubles import (
    ask,
    gateway_of,
    handshake,
    host,
    legacy,
    library,
    modern,
    names,
    result,
    session_of,
    space,
    use,
)
from tests.servers.doubles import Refuses

STDIO = InProcessServer("a", module="m:s")
HTTP = HttpServer("a", url="http://a/mcp")


@pytest.mark.parametrize("era", Era)
async def test_params_and_results_pass_to_the_byte(era: Era, autojump_clock: trio.testing.MockClock) -> None:
    adapter = library("a", eras={era})
    params = {"name": "unknown", "x-top": Raw(b"1.0"), "arguments": {"n": 10**30}, "_meta": {"v/x": 1}}
    async with gateway_of(adapter) as gateway:
        caller = legacy() if era is Era.LEGACY else modern()
        reply = await ask(space(gateway, "a"), caller, "tools/call", params)

    members = members_of(reply.message.result)
    for name, raw in members_of(UNKNOWN).items():
        if name != "_meta":
            assert members[name] == raw
    received = members_of(members["received"])
    assert bytes(received["x-top"]) == b"1.0"
    assert bytes(members_of(received["arguments"])["n"]) == b"1" + b"0" * 30


async def test_unknown_methods_unknown_tools_and_errors_are_the_servers_to_answer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with gateway_of(library("a", eras={Era.LEGACY})) as gateway:
        namespace, caller = space(gateway, "a"), legacy()
        unknown = await ask(namespace, caller, "x/unknown")
        tool = await ask(namespace, caller, "tools/call", {"name": "nothing"})
        failed = await ask(namespace, caller, "tools/call", {"name": "fail"})

    assert jsonrpc.error_code(unknown.message) == -32601
    assert jsonrpc.error_code(tool.message) == -32602
    assert value_of(failed.message.error or b"") == {
        "code": 1234,
        "message": "failed as asked",
        "data": {"why": "asked"},
    }


@pytest.mark.requirement("feature.57", "feature.58", "feature.59")
async def test_rules_hide_and_rename_without_a_listing(autojump_clock: trio.testing.MockClock) -> None:
    rules = ToolRules(allow=("e*", "slow"), deny=("slow",), rename={"echo": "say"})
    adapter = library("a", eras={Era.LEGACY})
    async with gateway_of(adapter, configs={"a": attrs.evolve(STDIO, tools=rules)}) as gateway:
        namespace, caller = space(gateway, "a"), legacy()
        assert result(await ask(namespace, caller, "tools/call", {"name": "say", "arguments": {"text": "x"}})) == {
            "content": [{"type": "text", "text": "x"}]
        }
        for hidden in ("echo", "slow", "release"):
            with pytest.raises(InvalidParams, match=f"Unknown tool: {hidden}"):
                await use(namespace, caller, hidden)
        assert host(adapter).asked("tools/list") == []
        assert names(await ask(namespace, caller, "tools/list")) == ["say", "echo_ids"]


async def test_a_modern_clients_headers_go_along_and_nothing_else_does(autojump_clock: trio.testing.MockClock) -> None:
    adapter = library("a", eras={Era.MODERN})
    async with gateway_of(adapter) as gateway:
        seen: list[object] = []
        link = adapter.links[0]
        inner = link.call

        async def noting(request: object, back: object) -> object:
            seen.append(request.headers)  # type: ignore[attr-defined]  # a Request
            return await inner(request, back)  # type: ignore[arg-type]  # passed on

        link.call = noting  # type: ignore[method-assign,assignment]  # listens in
        await use(space(gateway, "a"), modern(), "echo")

    assert seen[1:] == [  # the first lists the tools, for the arguments that they mirror
        {b"mcp-protocol-version": LATEST_MODERN.encode(), b"mcp-method": b"tools/call", b"mcp-name": b"echo"}
    ]


@pytest.mark.parametrize("eras", [Era.LEGACY, Era.MODERN])
async def test_eras_that_differ_give_an_error_that_names_both(
    eras: Era, autojump_clock: trio.testing.MockClock
) -> None:
    mirror = InProcessServer("a", module="m:s", era=EraPolicy.MIRROR)
    async with gateway_of(library("a", eras={eras}), configs={"a": mirror}) as gateway:
        caller = modern() if eras is Era.LEGACY else legacy()
        with pytest.raises(EraMismatch, match=rf"speaks only the {eras.value} era of MCP, the client the \w+ era"):
            await ask(space(gateway, "a"), caller, "tools/list")


# ---- handshakes ------------------------------------------------------------------------------------------------------


async def test_a_session_of_its_own_is_negotiated_by_the_client_itself(autojump_clock: trio.testing.MockClock) -> None:
    adapter = library("a", eras={Era.LEGACY})
    async with gateway_of(adapter, configs={"a": HTTP}) as gateway:
        namespace = space(gateway, "a")
        mine = handshake("me", b'{"roots":{}}', "2025-03-26")
        got, kept = await namespace.initialize(legacy(b'{"roots":{}}', "2025-03-26"), mine, "id")

        assert (kept, namespace.keeps_sessions) == (True, True)
        assert adapter.offers[-1].initialize == mine
        assert bytes(members_of(got)["protocolVersion"]) == b'"2025-03-26"'
        assert adapter.links[-1] in adapter.open


async def test_links_in_common_are_negotiated_by_the_gateway_in_its_latest_revision(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = library("a", eras={Era.LEGACY})
    async with gateway_of(adapter) as gateway:
        namespace = space(gateway, "a")
        caller = legacy(b'{"roots":{}}', "2025-03-26")
        got, kept = await namespace.initialize(caller, handshake("me", b'{"roots":{}}', "2025-03-26"), "id")
        await use(namespace, session_of(gateway, namespace, caller), "echo")

        assert (kept, namespace.keeps_sessions) == (True, True)
        assert bytes(members_of(got)["protocolVersion"]) == b'"2025-03-26"'
        assert [b"2025-11-25" in bytes(offer.initialize) for offer in adapter.offers] == [True, True]
        assert b'"roots":{}' in bytes(adapter.offers[-1].initialize)


async def test_where_the_server_keeps_no_session_neither_do_we(autojump_clock: trio.testing.MockClock) -> None:
    adapter = library("a", eras={Era.LEGACY})
    adapter.stateful = False
    async with gateway_of(adapter, configs={"a": HTTP}) as gateway:
        namespace = space(gateway, "a")
        _, kept = await namespace.initialize(legacy(), handshake(), "id")
        await trio.testing.wait_all_tasks_blocked()

        assert (kept, namespace.keeps_sessions) == (False, False)
        assert len(adapter.open) == 1
        assert "content" in await use(namespace, legacy(), "echo")
        await trio.sleep(1000)
        assert len(adapter.open) == 1


async def test_a_handshake_that_the_server_refuses_is_refused_in_its_words(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = Refuses("a", eras={Era.LEGACY})
    async with gateway_of(adapter, configs={"a": HTTP}) as gateway:
        with pytest.raises(ErrorReply) as refused:
            await space(gateway, "a").initialize(legacy(), handshake("guest"), "id")

    answer = jsonrpc.error(b"1", refused.value)
    assert value_of(answer.error or b"") == {"code": -32001, "message": "go away", "data": {"why": "you"}}
    assert refused.value.status == 200


async def test_a_client_that_leaves_during_its_handshake_leaves_no_link(autojump_clock: trio.testing.MockClock) -> None:
    adapter = library("a", eras={Era.LEGACY})
    async with gateway_of(adapter, configs={"a": HTTP}) as gateway:
        adapter.silent = True
        with trio.move_on_after(5):
            await space(gateway, "a").initialize(legacy(), handshake(), "id")
        adapter.silent = False
        await trio.sleep(1)

        assert len(adapter.links) == 1
        assert len(gateway.statistics().servers[0].links) == 1


async def test_a_dead_server_is_named(autojump_clock: trio.testing.MockClock) -> None:
    adapter = library("a")
    adapter.dead = True
    async with gateway_of(adapter) as gateway:
        with pytest.raises(ServerUnavailable, match="server 'a': is dead"):
            await space(gateway, "a").initialize(legacy(), handshake(), "id")


async def test_calls_wait_for_a_server_that_is_starting(autojump_clock: trio.testing.MockClock) -> None:
    adapter = library("a", eras={Era.LEGACY})
    adapter.delay = 3.0
    async with gateway_of(adapter, ready=False) as gateway:
        assert "content" in await use(space(gateway, "a"), legacy(), "echo")
    late = library("a", eras={Era.LEGACY})
    late.delay = 30.0
    async with gateway_of(late, config=Config(startup_wait=5.0), ready=False) as gateway:
        began = trio.current_time()
        with pytest.raises(ServerUnavailable, match="still starting"):
            await use(space(gateway, "a"), legacy(), "echo")
        assert trio.current_time() - began == 5


async def test_notifications_go_to_the_link_of_the_session(autojump_clock: trio.testing.MockClock) -> None:
    adapter = library("a", eras={Era.LEGACY})
    async with gateway_of(adapter, configs={"a": HTTP}) as gateway:
        namespace, caller = space(gateway, "a"), legacy()
        assert isinstance(namespace, RawNamespace)
        await namespace.initialize(caller, handshake(), "id")
        gateway.sessions.open("id", "a", caller)
        for method in ("notifications/initialized", "notifications/roots/list_changed"):
            await namespace.notify(caller, jsonrpc.notification(method))

        assert host(adapter).heard == ["notifications/initialized", "notifications/roots/list_changed"]
        assert gateway.servers["a"].isolation(Era.LEGACY) is Isolation.SESSION
