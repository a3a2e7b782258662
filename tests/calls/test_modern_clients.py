"""Modern clients of legacy servers: plain calls, in raw and merged namespaces."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

import attrs
import pytest
import trio
import trio.testing

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Back, Reply, Request
from mcpgateway.catalog.items import SERVER_META
from mcpgateway.config.model import EraPolicy, HttpServer, InProcessServer, Isolation, Links
from mcpgateway.errors import JSON, ClientGone, HeaderMismatch, InvalidParams, MethodNotFound
from mcpgateway.jsonrpc import error_code, members_of, value_of
from mcpgateway.protocol import envelope
from mcpgateway.protocol.revisions import Era
from mcpgateway.servers.ledger import LinkKey
from mcpgateway.testing.memory import MemoryLink
from mcpgateway.wire.waiting import Wait
from tests.calls.doubles import Collecting, Library, ask, gateway_of, host, library, modern, names, result, space, use
from tests.calls.inquirer import ALL, FORMS, LEGACY, asking, inquirer
from tests.servers.doubles import Counting

INFO = "io.modelcontextprotocol/serverInfo"
HTTP = HttpServer("a", url="http://a/mcp")
CROSSES = pytest.mark.parametrize("path", ["a", ""])


@pytest.mark.requirement("5.modern-client", "bridge.result.modern-to-legacy")
@CROSSES
async def test_a_plain_call_crosses_and_its_result_is_a_modern_one(
    path: str, autojump_clock: trio.testing.MockClock
) -> None:
    adapter = library("a", eras=LEGACY)
    async with gateway_of(adapter) as gateway:
        got = await use(space(gateway, path), modern(), "echo" if path else "a_echo", text="hi")

    assert got["content"] == [{"type": "text", "text": "hi"}]
    assert got["resultType"] == "complete"
    meta = got["_meta"]
    assert isinstance(meta, dict)
    assert meta[INFO] == {"name": "a", "version": "1"}
    assert path or meta[SERVER_META] == "a"
    (seen,) = host(adapter).asked("tools/call")
    assert b"io.modelcontextprotocol" not in bytes(seen.params or b"")


@pytest.mark.requirement("bridge.envelope.modern-to-legacy")
async def test_what_the_gateway_knows_nothing_of_survives(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway_of(library("a", eras=LEGACY)) as gateway:
        params = {"name": "unknown", "x-top": 1.5, "_meta": {"vendor.example/y": 2, "traceparent": "00-1"}}
        got = result(await ask(space(gateway, "a"), modern(), "tools/call", params))

    assert got["x-top"] == 123456789012345678901234567890
    assert got["received"] == params


@pytest.mark.requirement("bridge.ping.modern-to-legacy", "bridge.tasks.modern-to-legacy")
@CROSSES
@pytest.mark.parametrize("method", ["ping", "logging/setLevel", "resources/subscribe", "tasks/list"])
async def test_what_is_of_the_legacy_era_only_a_modern_client_cannot_ask(
    path: str, method: str, autojump_clock: trio.testing.MockClock
) -> None:
    adapter = library("a", eras=LEGACY)
    async with gateway_of(adapter) as gateway:
        with pytest.raises(MethodNotFound, match=method):
            await ask(space(gateway, path), modern(), method, {"uri": "book://a/1", "level": "info"})
        assert host(adapter).asked(method) == []


@pytest.mark.requirement("bridge.tasks.modern-to-legacy")
@CROSSES
async def test_the_tasks_of_2025_are_not_told_of(path: str, autojump_clock: trio.testing.MockClock) -> None:
    class Tasked(Library):
        def _capabilities(self) -> dict[str, JSON]:
            extensions: JSON = {"io.modelcontextprotocol/tasks": {}}
            return {**super()._capabilities(), "tasks": {"list": {}}, "extensions": extensions}

    async with gateway_of(Counting("a", Tasked, eras=LEGACY)) as gateway:
        found = result(await ask(space(gateway, path), modern(), "server/discover"))

    assert found["capabilities"] == {
        "tools": {"listChanged": True},
        "prompts": {},
        "resources": {},
        "completions": {},
        "logging": {},
    }


@pytest.mark.requirement("bridge.errors.modern-to-legacy")
async def test_errors_are_those_of_the_clients_era(autojump_clock: trio.testing.MockClock) -> None:
    async with asking(inquirer()) as gateway:
        failed = await ask(space(gateway, "a"), modern(), "tools/call", {"name": "fail"})
        unknown = await ask(space(gateway, "a"), modern(), "x/unknown")
        visit = result(await ask(space(gateway, "a"), modern(ALL), "tools/call", {"name": "urls"}))
        refused = await ask(space(gateway, "a"), modern(FORMS), "tools/call", {"name": "urls"})

    assert value_of(failed.message.error or b"") == {
        "code": 1234,
        "message": "failed as asked",
        "data": {"why": "asked"},
    }
    assert error_code(unknown.message) == -32601
    assert visit["resultType"] == "input_required"
    assert visit["inputRequests"] == {
        "e-1": {
            "method": "elicitation/create",
            "params": {"mode": "url", "url": "https://a.example/x", "message": "go"},
        }
    }
    assert error_code(refused.message) == -32021


@pytest.mark.requirement("bridge.progress.modern-to-legacy", "bridge.ids.modern-to-legacy")
async def test_progress_comes_under_the_clients_token(autojump_clock: trio.testing.MockClock) -> None:
    back = Collecting()
    async with gateway_of(library("a", eras=LEGACY)) as gateway:
        params = {"name": "progress", "arguments": {"n": 2}, "_meta": {"progressToken": "mine"}}
        await ask(space(gateway, "a"), modern(), "tools/call", params, back=back)

    assert [value_of(members_of(each.params)["progressToken"]) for each in back.messages] == ["mine", "mine"]


class Chatty(Library):
    """Logs at two levels during every call."""

    def handle(self, message: jsonrpc.Message) -> list[jsonrpc.Message]:
        answers = super().handle(message)
        if message.method != "tools/call":
            return answers
        logs = [
            jsonrpc.notification("notifications/message", {"level": level, "data": level})
            for level in ("info", "error")
        ]
        return [*logs, *answers]


@pytest.mark.requirement("bridge.logging.modern-to-legacy")
@pytest.mark.parametrize("capabilities", [b"{}", FORMS])
async def test_logs_are_of_the_level_that_the_request_wants_or_none(
    capabilities: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    adapter = Counting("a", Chatty, eras=LEGACY)
    heard: list[list[str]] = []
    async with asking(adapter) as gateway:
        for level in (None, "error", "debug", "warning"):
            back = Collecting()
            meta = {} if level is None else {envelope.LOG_LEVEL: level}
            params = {"name": "echo", "_meta": meta}
            await ask(space(gateway, "a"), modern(capabilities), "tools/call", params, back=back)
            heard.append([str(value_of(members_of(each.params)["level"])) for each in back.messages])
        levels = [value_of(members_of(each.params)["level"]) for each in host(adapter).asked("logging/setLevel")]

    assert heard == [[], ["error"], ["info", "error"], ["error"]]
    assert levels == ["error", "debug"]  # never back up: another call may be reading


async def test_an_unknown_log_level_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    adapter = library("a", eras=LEGACY)
    async with gateway_of(adapter) as gateway:
        params = {"name": "echo", "_meta": {envelope.LOG_LEVEL: "loud"}}
        with pytest.raises(InvalidParams, match="unknown log level 'loud'"):
            await ask(space(gateway, "a"), modern(), "tools/call", params)
        assert host(adapter).asked("tools/call") == []


@pytest.mark.requirement("bridge.cancel.modern-to-legacy")
@pytest.mark.parametrize("capabilities", [b"{}", FORMS])
async def test_a_closed_stream_cancels_at_the_server(
    capabilities: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    adapter = library("a", eras=LEGACY)
    wait = Wait()
    async with asking(adapter) as gateway, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def call() -> None:
            with pytest.raises(ClientGone):
                await ask(space(gateway, "a"), modern(capabilities), "tools/call", {"name": "slow"}, wait=wait)

        await trio.testing.wait_all_tasks_blocked()
        wait.end(ClientGone("closed"))
        await trio.testing.wait_all_tasks_blocked()
        assert host(adapter).heard == ["notifications/initialized", "notifications/cancelled"]


class Marked(Library):
    """Wants an argument of its tool ``echo`` mirrored, of which a legacy server knows nothing."""

    def __init__(self, *, eras: Collection[Era] = LEGACY) -> None:
        super().__init__(eras=eras)
        schema: JSON = {"type": "object", "properties": {"text": {"type": "string", "x-mcp-header": "Text"}}}
        self.tools["echo"] = self.tools["echo"]._replace(definition={"inputSchema": schema})


class Noting(MemoryLink):
    """Notes the headers that calls come with."""

    seen: ClassVar[list[object]] = []

    async def call(self, request: Request, back: Back) -> Reply:
        self.seen.append(request.headers)
        return await super().call(request, back)


@pytest.mark.requirement("bridge.headers.modern-to-legacy")
@pytest.mark.parametrize("config", [HTTP, InProcessServer("a", module="m:s")], ids=["http", "pipe"])
async def test_mirrored_arguments_are_compared_and_no_modern_header_goes_to_the_server(
    config: HttpServer | InProcessServer, autojump_clock: trio.testing.MockClock
) -> None:
    adapter = Counting("a", Marked, eras=LEGACY)
    adapter.link_class = Noting
    Noting.seen.clear()
    message = jsonrpc.request(b"1", "tools/call", {"name": "echo", "arguments": {"text": "one"}})
    headers = {b"mcp-name": b"echo", b"mcp-protocol-version": b"2026-07-28", b"mcp-param-text": b"two"}
    async with asking(adapter, configs={"a": config}) as gateway:
        with pytest.raises(HeaderMismatch):
            await space(gateway, "a").serve(modern(FORMS), message, Wait(), Collecting(), headers)
        good = {**headers, b"mcp-param-text": b"one"}
        await space(gateway, "a").serve(modern(FORMS), message, Wait(), Collecting(), good)

    assert Noting.seen == [None, None]  # a listing, and the call


@pytest.mark.requirement("bridge.sessions.modern-to-legacy", "bridge.capability-gate.modern-to-legacy")
async def test_sessions_are_pooled_by_capabilities_and_principal_and_closed_when_idle(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = inquirer()
    config = attrs.evolve(HTTP, links=Links(min=1, idle_timeout=60.0))
    async with asking(adapter, configs={"a": config}) as gateway:
        namespace = space(gateway, "a")
        for _ in range(2):
            for capabilities in (b"{}", FORMS, b'{"elicitation": {}, "experimental": {"x": {}}}', b'{"roots":{}}'):
                await use(namespace, modern(capabilities), "echo")
        keys = [slot.key for slot in gateway.servers["a"]._links.slots]
        await trio.sleep(200)
        left = len(adapter.open)

    assert keys == [
        LinkKey(Era.LEGACY, b"{}"),  # the gateway's own, to learn what the server is
        *(
            LinkKey(Era.LEGACY, each, "anonymous", pooled=True)
            for each in (b"{}", b'{"elicitation":{}}', b'{"roots":{}}')
        ),
    ]
    assert left == 1


async def test_a_server_of_both_eras_may_be_spoken_to_in_the_legacy_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = library("a")
    config = InProcessServer("a", module="m:s", era=EraPolicy.LEGACY, isolation=Isolation.SHARED)
    async with gateway_of(adapter, configs={"a": config}) as gateway:
        discovered = result(await ask(space(gateway, "a"), modern(), "server/discover"))
        await use(space(gateway, "a"), modern(), "echo")

    assert discovered["instructions"] == "Read before you ask."
    assert adapter.links[-1].negotiated.era is Era.LEGACY


@pytest.mark.requirement("5.merged", "bridge.paging.modern-to-legacy")
async def test_a_merged_namespace_shows_servers_of_both_eras(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway_of(library("old", eras=LEGACY), library("new", eras={Era.MODERN})) as gateway:
        listed = await ask(space(gateway), modern(), "tools/list")
        called = await use(space(gateway), modern(), "old_echo", text="x")
        read = result(await ask(space(gateway), modern(), "resources/read", {"uri": "book://old/1"}))
        discovered = result(await ask(space(gateway), modern(), "server/discover"))

    assert {name.partition("_")[0] for name in names(listed)} == {"old", "new"}
    assert (result(listed)["ttlMs"], result(listed)["cacheScope"]) == (0, "private")
    assert called["content"] == [{"type": "text", "text": "x"}]
    assert (read["ttlMs"], read["cacheScope"]) == (0, "private")
    assert discovered["instructions"] == "# old\n\nRead before you ask.\n\n# new\n\nRead before you ask."
