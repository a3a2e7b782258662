"""Headers that the gateway makes: what a tool mirrors, whoever calls it without headers of his own."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Back, NoBack, Reply, Request
from mcpgateway.calls.namespace import Namespace
from mcpgateway.calls.tool_parameters import PATIENCE
from mcpgateway.config.model import HttpServer
from mcpgateway.errors import HEADER_MISMATCH, HeaderMismatch
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol import envelope
from mcpgateway.protocol.revisions import LATEST_LEGACY, LATEST_MODERN
from mcpgateway.sessions.caller import Caller
from mcpgateway.testing.memory import MemoryLink
from mcpgateway.wire.waiting import Wait
from tests.calls.doubles import Library, gateway_of, modern, space
from tests.calls.held import HeldLink, begin, begun
from tests.calls.seminar import MODERN_ONLY, opened
from tests.servers.doubles import Counting

HTTP = HttpServer("a", url="http://a/mcp")
PREFIX = {"a": "", "": "a_"}


class Mirroring(Library):
    """Lists a tool whose argument is to be mirrored, and compares as a server over HTTP does."""

    header = "Region"

    def handle(self, message: Message) -> list[Message]:
        if message.method == "tools/list":
            schema = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": self.header}}}
            tools = [{"name": "echo", "inputSchema": schema}]
            self.seen.append(message)
            return [jsonrpc.result(message.id or b"", {"tools": tools, "resultType": "complete"})]
        return super().handle(message)


class OverHttp(Counting):
    """Refuses calls whose headers do not mirror."""

    def __init__(self, name: str) -> None:
        super().__init__(name, Mirroring, eras=MODERN_ONLY)
        self.link_class = _HeaderedLink


class _HeaderedLink(MemoryLink):
    async def call(self, request: Request, back: Back) -> Reply:
        host = self.host
        assert isinstance(host, Mirroring)
        expected = b"mcp-param-" + host.header.lower().encode()
        headers = request.headers or {}
        if request.message.method == "tools/call" and headers.get(expected) != b"north":
            return Reply(jsonrpc.error(b"1", HeaderMismatch("does not mirror")), 400)
        return await super().call(request, back)


async def call(namespace: Namespace, caller: Caller, tool: str, region: str) -> Message:
    """Call a tool without headers, as clients on channels, legacy and Python ones do."""
    message = jsonrpc.request(b"1", "tools/call", {"name": tool, "arguments": {"region": region}})
    if caller.revision == LATEST_MODERN:
        params = envelope.stamp(message.params, revision=LATEST_MODERN, capabilities=caller.capabilities)
        message = message.replace(params=params)
    return (await namespace.serve(caller, message, Wait(), NoBack())).message


@pytest.mark.requirement("bridge.headers.legacy-to-modern", "3.param-headers")
@pytest.mark.parametrize("who", ["legacy client", "modern client", "Python"])
@pytest.mark.parametrize("name", ["a", ""])
async def test_arguments_are_mirrored_as_the_tools_schema_says_and_once_more_when_it_changed(
    name: str, who: str, autojump_clock: trio.testing.MockClock
) -> None:
    adapter = OverHttp("a")
    async with gateway_of(adapter, configs={"a": HTTP}) as gateway:
        namespace = space(gateway, name)
        match who:
            case "legacy client":
                caller = await opened(gateway, namespace)
            case "modern client":
                caller = modern()
            case _:
                caller = Caller(None, LATEST_LEGACY, jsonrpc.raw_of({}))
        server = adapter.host
        assert isinstance(server, Mirroring)
        for header in ("Region", "Zone", "Zone"):
            server.header = header
            assert (await call(namespace, caller, PREFIX[name] + "echo", "north")).error is None
        listed = len(server.asked("tools/list"))
        wrong = await call(namespace, caller, PREFIX[name] + "echo", "south")

    assert wrong.error is not None
    assert (jsonrpc.error_code(wrong) == HEADER_MISMATCH) is (who != "legacy client")
    assert len(server.asked("tools/list")) == listed + 1


class Unlisted(Library):
    """Takes calls, and never says which tools it has."""

    def handle(self, message: Message) -> list[Message]:
        return [] if message.method == "tools/list" else super().handle(message)


async def test_a_server_that_does_not_list_holds_up_one_call_and_not_all(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with gateway_of(Counting("a", Unlisted, eras=MODERN_ONLY), configs={"a": HTTP}) as gateway:
        namespace, began = space(gateway, "a"), trio.current_time()
        async with trio.open_nursery() as calls:
            for _ in range(3):
                calls.start_soon(call, namespace, modern(), "echo", "north")
        assert trio.current_time() - began == pytest.approx(PATIENCE)
        assert (await call(namespace, modern(), "echo", "north")).error is None
        assert trio.current_time() - began == pytest.approx(PATIENCE)


async def test_a_pipe_has_no_headers_and_is_listed_for_none(autojump_clock: trio.testing.MockClock) -> None:
    adapter = Counting("a", Mirroring, eras=MODERN_ONLY)
    async with gateway_of(adapter) as gateway:
        host = adapter.host
        assert isinstance(host, Mirroring)
        listed = len(host.asked("tools/list"))
        assert (await call(space(gateway, "a"), modern(), "echo", "north")).error is None
        assert len(host.asked("tools/list")) == listed


async def test_a_link_that_has_to_be_made_first_changes_nothing(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = OverHttp("a")
    async with gateway_of(adapter, configs={"a": HTTP}) as gateway:
        caller, namespace = modern(), space(gateway, "a")
        assert (await call(namespace, caller, "echo", "north")).error is None
        monkeypatch.setattr(Mirroring, "header", "Zone")  # each link has a server of its own
        for link in adapter.links:
            link.crash("gone")

        assert (await call(namespace, caller, "echo", "north")).error is None


@pytest.mark.parametrize("who", ["legacy client", "modern client"])
async def test_a_call_that_was_begun_gets_the_headers_of_a_changed_tool_in_a_task(
    who: str, autojump_clock: trio.testing.MockClock
) -> None:
    adapter = OverHttp("a")
    adapter.link_class = HeldLink
    params: dict[str, object] = {"name": "echo", "arguments": {"region": "north"}}
    if who == "modern client":
        params["_meta"] = {envelope.PROTOCOL_VERSION: LATEST_MODERN, envelope.CLIENT_CAPABILITIES: {}}
    async with gateway_of(adapter, configs={"a": HTTP}) as gateway:
        namespace = space(gateway, "a")
        caller = modern() if who == "modern client" else await opened(gateway, namespace)
        assert begin(namespace, caller, Wait(), params) is None
        assert (await call(namespace, caller, "echo", "north")).error is None
        settled = begun(namespace, caller, Wait(), params)
        link, server = adapter.links[-1], adapter.host
        assert isinstance(link, HeldLink)
        assert isinstance(server, Mirroring)
        request, done = link.held[0]
        assert (request.headers or {})[b"mcp-param-region"] == b"north"
        server.header = "Zone"
        done(Reply(jsonrpc.error(b"1", HeaderMismatch("does not mirror")), 400))

        assert (await settled.go_on(NoBack())).message.error is None
        assert gateway.statistics().waits == 0
