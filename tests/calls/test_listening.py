"""Modern clients that listen to legacy servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from mcpgateway import jsonrpc
from mcpgateway.calls.namespace import Namespace
from mcpgateway.config.model import HttpServer, InProcessServer, Links
from mcpgateway.errors import JSON, ClientGone, InvalidParams
from mcpgateway.gateway import Gateway
from mcpgateway.jsonrpc import Message, members_of, value_of
from mcpgateway.protocol.envelope import SUBSCRIPTION_ID
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.memory import MemoryLink
from mcpgateway.wire.waiting import Wait
from tests.calls.doubles import Collecting, ask, gateway_of, host, modern, result, space, use
from tests.calls.inquirer import FORMS, LEGACY, settle
from tests.calls.newsroom import Newsroom
from tests.servers.doubles import Counting

HTTP = HttpServer("a", url="http://a/mcp")
PIPE = InProcessServer("a", module="m:s")
EITHER = pytest.mark.parametrize("config", [HTTP, PIPE], ids=["sessions", "pipe"])
TOOLS = "notifications/tools/list_changed"
UPDATED = "notifications/resources/updated"


class Press(Newsroom):
    """Lets its resources be subscribed to."""

    def _capabilities(self) -> dict[str, JSON]:
        return {**super()._capabilities(), "resources": {"listChanged": True, "subscribe": True}}


def press() -> Counting:
    return Counting("a", type("a", (Press,), {"name": "a"}), eras=LEGACY)


class Subscribed(Collecting):
    """What a subscription brought."""

    def __init__(self) -> None:
        super().__init__()
        self.wait = Wait()
        self.ended: dict[str, JSON] | None = None

    def told(self) -> list[tuple[str, JSON]]:
        """The method and, where there is one, the URI of each message after the acknowledgement."""
        return [(each.method or "", _params(each).get("uri")) for each in self.messages[1:]]


def _params(message: Message) -> dict[str, JSON]:
    params = value_of(message.params or b"{}")
    assert isinstance(params, dict)
    return params


@asynccontextmanager
async def listening(namespace: Namespace, capabilities: bytes = b"{}", **wanted: JSON) -> AsyncIterator[Subscribed]:
    """A subscription of a modern client, which closes it at the end."""
    heard = Subscribed()

    async def listen() -> None:
        try:
            params = {"notifications": wanted}
            heard.ended = result(
                await ask(namespace, modern(capabilities), "subscriptions/listen", params, wait=heard.wait, back=heard)
            )
        except ClientGone:
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await settle()
        yield heard
        heard.wait.end(ClientGone("closed"))


def _seen(link: MemoryLink) -> list[Message]:
    assert isinstance(link.host, Press)
    return link.host.seen


def books(gateway: Gateway) -> int:
    return gateway.statistics().changes.subscriptions


@pytest.mark.requirement("bridge.changes.modern-to-legacy", "5.modern-client")
@EITHER
@pytest.mark.parametrize("path", ["a", ""])
async def test_what_the_server_offers_is_honoured_and_told_under_the_subscriptions_id(
    path: str, config: HttpServer | InProcessServer, autojump_clock: trio.testing.MockClock
) -> None:
    adapter = press()
    async with gateway_of(adapter, configs={"a": config}) as gateway:
        uris: list[JSON] = ["book://a/1"]
        wanted: dict[str, JSON] = {"toolsListChanged": True, "resourceSubscriptions": uris}
        async with listening(space(gateway, path), b"{}", promptsListChanged=False, **wanted) as heard:
            for link in adapter.open:
                link.send(jsonrpc.notification(UPDATED, {"uri": "book://a/1/page"}))
            adapter.open[-1].send(jsonrpc.notification(TOOLS))
            adapter.open[-1].send(jsonrpc.notification("notifications/prompts/list_changed"))
            await settle()

            acknowledged = heard.messages[0]
            assert acknowledged.method == "notifications/subscriptions/acknowledged"
            assert _params(acknowledged)["notifications"] == wanted
            assert sorted(heard.told(), key=str) == [(UPDATED, "book://a/1/page"), (TOOLS, None)]
            ids = {bytes(members_of(members_of(each.params)["_meta"])[SUBSCRIPTION_ID]) for each in heard.messages}
            assert ids == {b'"c1"'}
            assert books(gateway) == 1
        await settle()

        assert books(gateway) == 0
        asked = [each.method for link in adapter.links for each in _seen(link) if "subscribe" in (each.method or "")]
        assert asked == ["resources/subscribe", "resources/unsubscribe"]
        assert gateway.changes.listeners == set()
        assert len(gateway.sweeper) == 0


@pytest.mark.requirement("bridge.changes.modern-to-legacy")
async def test_two_who_listen_to_the_same_are_one_subscription_at_the_server(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = press()
    async with gateway_of(adapter) as gateway:
        uris: list[JSON] = ["book://a/1"]
        async with listening(space(gateway, "a"), resourceSubscriptions=uris) as first:
            async with listening(space(gateway, "a"), resourceSubscriptions=uris) as second:
                adapter.open[-1].send(jsonrpc.notification(UPDATED, {"uri": "book://a/1"}))
                await settle()
            await settle()
            adapter.open[-1].send(jsonrpc.notification(UPDATED, {"uri": "book://a/1"}))
            await settle()

            assert (len(first.told()), len(second.told())) == (2, 1)
            assert [len(host(adapter).asked(f"resources/{each}")) for each in ("subscribe", "unsubscribe")] == [1, 0]


async def test_a_change_said_on_any_of_the_clients_links_is_heard(autojump_clock: trio.testing.MockClock) -> None:
    """Some servers tell only the session whose call made the change, and some in the stream of that call."""
    adapter = press()
    async with gateway_of(adapter, configs={"a": HTTP}) as gateway:
        back = Collecting()
        async with listening(space(gateway, "a"), toolsListChanged=True) as heard:
            before = len(adapter.links)
            await ask(space(gateway, "a"), modern(FORMS), "tools/list", {}, back=back)
            adapter.links[-1].send(jsonrpc.notification(TOOLS))
            await settle()

            assert len(adapter.links) == before + 1
            assert heard.told() == [(TOOLS, None)]
            assert back.messages == []


async def test_a_server_that_refuses_a_subscription_is_not_said_to_honour_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = press()
    async with gateway_of(adapter) as gateway:
        server = host(adapter)
        assert isinstance(server, Press)
        server.refuses = True
        async with listening(space(gateway, "a"), resourceSubscriptions=["book://a/1"]) as heard:
            assert _params(heard.messages[0])["notifications"] == {}
            assert books(gateway) == 0


@pytest.mark.requirement("bridge.changes.modern-to-legacy")
async def test_a_server_that_comes_back_is_told_again_and_whatever_it_tells_of_may_have_changed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = press()
    async with gateway_of(adapter) as gateway:
        async with listening(space(gateway, "a"), toolsListChanged=True, resourceSubscriptions=["book://a/1"]) as heard:
            adapter.open[-1].crash("killed")
            await trio.sleep(10)

            assert (TOOLS, None) in heard.told()
            assert len(host(adapter).asked("resources/subscribe")) == 1  # of the new process


@pytest.mark.requirement("bridge.changes.modern-to-legacy")
@pytest.mark.parametrize("path", ["a", ""])
async def test_the_end_of_what_is_listened_to_is_graceful(path: str, autojump_clock: trio.testing.MockClock) -> None:
    async with gateway_of(press(), configs={"a": PIPE}) as gateway:
        async with listening(space(gateway, path), toolsListChanged=True) as heard:
            space(gateway, path).retire()
            await settle()

            assert heard.ended is not None
            assert heard.ended["resultType"] == "complete"
            assert books(gateway) == 0


@pytest.mark.requirement("5.bad")
@pytest.mark.parametrize("wanted", [{"toolsListChanged": 7}, {"resourceSubscriptions": "book://a/1"}])
async def test_a_malformed_filter_is_refused(wanted: dict[str, JSON], autojump_clock: trio.testing.MockClock) -> None:
    async with gateway_of(press()) as gateway:
        with pytest.raises(InvalidParams, match=r"params\.notifications"):
            await ask(space(gateway, "a"), modern(), "subscriptions/listen", {"notifications": wanted})
        assert gateway.changes.listeners == set()


async def test_listening_takes_no_link_from_calls(autojump_clock: trio.testing.MockClock) -> None:
    adapter = press()
    config = InProcessServer("a", module="m:s", links=Links(min=1, max=2))
    async with gateway_of(adapter, configs={"a": config}) as gateway:
        async with listening(space(gateway, "a"), toolsListChanged=True):
            async with listening(space(gateway, "a"), FORMS, toolsListChanged=True):
                await use(space(gateway, "a"), modern(), "echo")
                await use(space(gateway, "a"), modern(b'{"roots":{}}'), "echo")

    assert {link.negotiated.era for link in adapter.links} == {Era.LEGACY}
