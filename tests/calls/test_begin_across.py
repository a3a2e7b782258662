"""Calls that are begun without a task where the eras meet: translated when the reply comes, in a task if need be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Back, Done, Event, Reply
from mcpgateway.config.model import HttpServer, ServerConfig
from mcpgateway.errors import HEADER_MISMATCH, INTERNAL_ERROR, HeaderMismatch, ServerUnavailable
from mcpgateway.gateway import Gateway
from mcpgateway.jsonrpc import Message, error_code, members_of, value_of
from mcpgateway.protocol.envelope import PROTOCOL_VERSION
from mcpgateway.protocol.revisions import LATEST_MODERN, Era
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller
from mcpgateway.wire.waiting import Wait
from tests.calls.doubles import CALLERS_OF_BOTH, Collecting, ask, gateway_of, legacy, library, result, space
from tests.calls.held import CALL, HeldLink, begin, begun

HTTP = {"a": HttpServer("a", url="http://a/mcp")}
PROGRESS = jsonrpc.notification("notifications/progress", {"progressToken": 1, "progress": 1})
SAID = [{"type": "text", "text": "hi"}]


@asynccontextmanager
async def one_server(
    era: Era, caller: Caller, configs: Mapping[str, ServerConfig] | None = None
) -> AsyncIterator[tuple[Gateway, HeldLink]]:
    """A server of one era, that a caller has called before."""
    adapter = library("a", eras={era})
    adapter.link_class = HeldLink
    async with gateway_of(adapter, configs=configs) as gateway:
        await ask(space(gateway, "a"), caller, "tools/call", CALL)
        link = adapter.links[-1]
        assert isinstance(link, HeldLink)
        yield gateway, link


def complete() -> Reply:
    return Reply(jsonrpc.result(b"7", {"resultType": "complete", "content": SAID}))


@pytest.mark.parametrize("configs", [None, HTTP], ids=["pipe", "http"])
async def test_a_legacy_client_gets_the_plain_reply_of_a_modern_server_at_once(
    configs: Mapping[str, ServerConfig] | None, autojump_clock: trio.testing.MockClock
) -> None:
    caller = legacy()
    async with one_server(Era.MODERN, caller, configs) as (gateway, link):
        settled = begun(space(gateway, "a"), caller, Wait())
        request, done = link.held[0]
        done(complete())

        reply = settled.only
        assert isinstance(reply, Reply)
        assert result(reply) == {"content": SAID}
        assert members_of(members_of(request.message.params)["_meta"]).keys() >= {PROTOCOL_VERSION}
        sent = {b"mcp-protocol-version": LATEST_MODERN.encode(), b"mcp-method": b"tools/call", b"mcp-name": b"echo"}
        assert request.headers == ({} if configs is None else sent)


async def test_what_a_modern_server_tells_first_comes_with_the_continuation(
    autojump_clock: trio.testing.MockClock,
) -> None:
    caller = legacy()
    async with one_server(Era.MODERN, caller) as (gateway, link):
        settled = begun(space(gateway, "a"), caller, Wait())

        async def rest(back: Back) -> Reply:
            await back.send(Event(PROGRESS))
            return complete()

        link.held[0][1](rest)
        back = Collecting()

        assert result(await settled.go_on(back)) == {"content": SAID}
        assert [message.method for message in back.messages] == ["notifications/progress"]


async def test_a_modern_server_that_wants_to_be_called_again_is(autojump_clock: trio.testing.MockClock) -> None:
    caller = legacy()
    async with one_server(Era.MODERN, caller) as (gateway, link):
        settled = begun(space(gateway, "a"), caller, Wait())
        link.held[0][1](Reply(jsonrpc.result(b"7", {"resultType": "input_required", "requestState": "again"})))

        assert result(await settled.go_on(Collecting()))["content"] == SAID
        assert len(link.held) == 1


async def test_a_modern_server_that_asks_what_the_client_did_not_declare_ends_the_call(
    autojump_clock: trio.testing.MockClock,
) -> None:
    caller = legacy()
    async with one_server(Era.MODERN, caller) as (gateway, link):
        settled = begun(space(gateway, "a"), caller, Wait())
        wanted = {"resultType": "input_required", "inputRequests": {"where": {"method": "roots/list"}}}
        link.held[0][1](Reply(jsonrpc.result(b"7", wanted)))

        reply = settled.only
        assert isinstance(reply, Reply)
        assert result(reply)["isError"] is True


async def test_headers_that_a_modern_server_refuses_are_made_anew_and_never_the_clients_fault(
    autojump_clock: trio.testing.MockClock,
) -> None:
    caller = legacy()
    async with one_server(Era.MODERN, caller, HTTP) as (gateway, link):
        settled = begun(space(gateway, "a"), caller, Wait())
        link.held[0][1](Reply(jsonrpc.error(b"7", HeaderMismatch("differs")), 400))
        reply = await settled.go_on(Collecting())

        assert error_code(reply.message) == INTERNAL_ERROR
        assert value_of(members_of(members_of(reply.message.error)["data"])["error"]) == {
            "code": HEADER_MISMATCH,
            "message": "differs",
        }


@pytest.mark.parametrize("client", list(Era))
async def test_a_server_that_fails_fails_the_call_and_all_is_given_back(
    client: Era, autojump_clock: trio.testing.MockClock
) -> None:
    caller = CALLERS_OF_BOTH[client]()
    other = Era.MODERN if client is Era.LEGACY else Era.LEGACY
    async with one_server(other, caller) as (gateway, link):
        settled = begun(space(gateway, "a"), caller, Wait())
        link.held[0][1](ServerUnavailable("a", "went away"))

        with pytest.raises(ServerUnavailable, match="went away"):
            await settled.go_on(Collecting())
        assert gateway.statistics().waits == 0


@pytest.mark.parametrize("method", ["ping", "logging/setLevel", "resources/subscribe", "tasks/list", "initialize"])
async def test_what_the_gateway_answers_itself_is_not_begun(
    method: str, autojump_clock: trio.testing.MockClock
) -> None:
    caller = legacy()
    async with one_server(Era.MODERN, caller) as (gateway, link):
        begin = gateway.dispatcher.crossings_begun[Era.LEGACY]
        message = jsonrpc.request(b"1", method, {"uri": "book://a/1", "level": "info"})

        assert not begin(gateway.servers["a"], caller, message, Wait(), lambda outcome: None)
        assert "held" not in vars(link)


async def test_over_http_the_tools_are_listed_before_a_call_is_begun(autojump_clock: trio.testing.MockClock) -> None:
    adapter = library("a", eras={Era.MODERN})
    adapter.link_class = HeldLink
    async with gateway_of(adapter, configs=HTTP) as gateway:
        assert begin(space(gateway, "a"), legacy(), Wait()) is None
        await ask(space(gateway, "a"), legacy(), "tools/call", CALL)
        assert begin(space(gateway, "a"), legacy(), Wait()) is not None


# ---- what the bridge costs those who do not use it -------------------------------------------------------------------


@pytest.mark.requirement("5.shows.cost")
@pytest.mark.parametrize("era", list(Era))
@pytest.mark.parametrize("path", ["a", ""])
async def test_calls_within_an_era_never_come_near_the_bridge(
    era: Era, path: str, autojump_clock: trio.testing.MockClock
) -> None:
    """Neither with a task nor without; on a server that speaks both eras, and on one that speaks the client's."""

    def begun(server: Server, caller: Caller, message: Message, wait: Wait, done: Done) -> bool:
        raise AssertionError("a call of one era was translated")

    async def crossed(
        server: Server,
        caller: Caller,
        message: Message,
        wait: Wait,
        back: Back,
        headers: Mapping[bytes, bytes] | None,
    ) -> Reply:
        raise AssertionError("a call of one era was translated")

    for eras in ({era}, set(Era)):
        adapter = library("a", eras=eras)
        adapter.link_class = HeldLink
        async with gateway_of(adapter) as gateway:
            gateway.dispatcher.crossings = dict.fromkeys(Era, crossed)
            gateway.dispatcher.crossings_begun = dict.fromkeys(Era, begun)
            await gateway.ready()
            caller, namespace = CALLERS_OF_BOTH[era](), space(gateway, path)
            call = {**CALL, "name": "echo" if path else "a_echo"}
            await ask(namespace, caller, "tools/list")
            assert result(await ask(namespace, caller, "tools/call", call))["content"] == SAID
            assert begin(namespace, caller, Wait(), call) is not None
