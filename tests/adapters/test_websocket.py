"""Links over WebSockets: what the adapter makes of what `mcpgateway.wire.websocket` finds."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from mcpgateway.adapters.base import Link
from mcpgateway.adapters.websocket import WebSocketAdapter
from mcpgateway.config.model import Keepalive, Secret, WebSocketServer
from mcpgateway.errors import LAST_WORDS, NotStarted, ServerUnavailable
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.client import Collector, make_offer, open_client
from tests.adapters.http_peer import DISCOVERED, INITIALIZED, OK, text_of
from tests.adapters.websocket_fixture import serve_websocket_fixture
from tests.processes import free_port
from tests.wire import websocket_peer as wire


class Peer:
    """A server of both eras that answers a call when told to; trio-websocket does its frames."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[dict[str, Any]] = []
        self.socket: WebSocketConnection | None = None
        self.refusal: int = 0
        self.mute = False
        """It shakes no hands in MCP."""
        self.requests: list[WebSocketRequest] = []
        self.closed = trio.Event()
        self._came = trio.Event()

    async def handle(self, request: WebSocketRequest) -> None:
        self.requests.append(request)
        if self.refusal:
            await request.reject(self.refusal, extra_headers=[(b"content-type", b"text/plain")], body=b"no")
            return
        self.socket = await request.accept(subprotocol="mcp")
        try:
            while True:
                message = json.loads(await self.socket.get_message())
                self.asked.append(message)
                self._came.set()
                answer = {"initialize": INITIALIZED, "server/discover": DISCOVERED}.get(message.get("method"))
                if answer is not None and not self.mute:
                    await self.reply(message, answer)
        except ConnectionClosed:
            self.closed.set()

    async def say(self, text: str | bytes) -> None:
        assert self.socket is not None
        await self.socket.send_message(text)

    async def reply(self, asked: dict[str, Any], result: object) -> None:
        await self.say(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}))

    async def until_asked(self, method: str) -> dict[str, Any]:
        while not (found := [message for message in self.asked if message.get("method") == method]):
            self._came = trio.Event()
            await self._came.wait()
        return found[-1]


@pytest.fixture
async def peer(nursery: trio.Nursery) -> Peer:
    peer = Peer()
    server = await nursery.start(serve_websocket, peer.handle, "127.0.0.1", 0, None)
    peer.url = f"ws://127.0.0.1:{server.port}/mcp"
    return peer


def reach(url: str, **options: Any) -> WebSocketAdapter:
    return WebSocketAdapter(WebSocketServer("s", url=url, **options))


async def failure(adapter: WebSocketAdapter, kind: type[ServerUnavailable] = ServerUnavailable) -> str:
    """What connecting fails with; nothing is left of it."""
    async with trio.open_nursery() as links:
        with pytest.raises(kind) as caught:
            await adapter.connect(links, make_offer(Era.LEGACY), lambda message: None)
        await wait_all_tasks_blocked()
        assert not links.child_tasks
    return caught.value.reason


def junk(link: Link) -> int:
    count = getattr(link, "junk", None)
    assert isinstance(count, int)
    return count


# ---- making a link ---------------------------------------------------------------------------------------------------


async def test_the_handshake_has_the_configured_headers_but_for_its_own(peer: Peer) -> None:
    headers = {"Authorization": "Bearer t", "User-Agent": "mine", "Host": "x", "Sec-WebSocket-Version": "1"}
    adapter = reach(peer.url + "?k=v", headers={name: Secret(value) for name, value in headers.items()})
    async with open_client(adapter, Era.LEGACY):
        pass
    (request,) = peer.requests
    sent = {name.lower(): value for name, value in request.headers}
    assert (request.path, request.proposed_subprotocols) == ("/mcp?k=v", ("mcp",))
    assert (sent[b"authorization"], sent[b"user-agent"]) == (b"Bearer t", b"mine")


REFUSALS = {
    401: "answered with HTTP 401; check the credentials in its headers",
    404: "answered with HTTP 404; check the path of its URL, and that it speaks WebSocket",
    307: "answered with HTTP 307, a redirect; configure the URL that it leads to",
    503: "answered with HTTP 503 and text/plain",
}


@pytest.mark.parametrize("status", REFUSALS)
async def test_a_refused_handshake_says_what_to_do(peer: Peer, status: int) -> None:
    peer.refusal = status
    assert await failure(reach(peer.url), NotStarted) == REFUSALS[status]


async def test_nobody_there() -> None:
    assert (await failure(reach(f"ws://127.0.0.1:{free_port()}/mcp"), NotStarted)).startswith("cannot connect: ")


async def test_a_listener_that_says_nothing(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = 0.02
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def hear(stream: trio.SocketStream) -> None:
        while await stream.receive_some():
            pass

    nursery.start_soon(trio.serve_listeners, hear, [listener])
    url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/mcp"
    assert await failure(reach(url, startup_timeout=4.0)) == "did not shake hands within 4 s"


async def test_a_server_that_shakes_no_hands_in_mcp(peer: Peer, autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = 0.02
    peer.mute = True
    assert await failure(reach(peer.url, startup_timeout=4.0)) == "did not shake hands within 4 s"
    await peer.closed.wait()


async def test_a_server_that_closes_instead_of_shaking_hands(peer: Peer) -> None:
    peer.mute = True

    async def close() -> None:
        await peer.until_asked("initialize")
        assert peer.socket is not None
        await peer.socket.aclose(1008, "not you")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(close)
        reason = await failure(reach(peer.url))
    assert reason == f"closed the WebSocket with code 1008 (POLICY_VIOLATION){LAST_WORDS}not you"


# ---- calls -----------------------------------------------------------------------------------------------------------


async def test_junk_is_dropped_and_the_link_goes_on(peer: Peer) -> None:
    async with open_client(reach(peer.url), Era.LEGACY) as client, trio.open_nursery() as nursery:
        call = client.start(nursery, "t")
        asked = await peer.until_asked("tools/call")
        for nothing in b"\x00binary", "no JSON", "", '{"jsonrpc":"2.0","id":99,"result":{}}':
            await peer.say(nothing)
        await peer.reply(asked, OK)
        assert text_of(await call.outcome()) == "ok"
        assert junk(client.link) == 4


async def test_a_reply_to_a_cancelled_call_is_dropped(peer: Peer) -> None:
    async with open_client(reach(peer.url), Era.LEGACY) as client, trio.open_nursery() as nursery:
        call = client.start(nursery, "t")
        asked = await peer.until_asked("tools/call")
        call.scope.cancel(reason="enough")
        cancelled = await peer.until_asked("notifications/cancelled")
        assert cancelled["params"]["requestId"] == asked["id"]
        await peer.reply(asked, OK)
        peer.asked.clear()
        again = client.start(nursery, "t")
        await peer.reply(await peer.until_asked("tools/call"), OK)
        assert text_of(await again.outcome()) == "ok"
        assert junk(client.link) == 0


async def test_calls_in_flight_fail_with_the_reason(peer: Peer) -> None:
    async with open_client(reach(peer.url), Era.LEGACY) as client, trio.open_nursery() as nursery:
        call = client.start(nursery, "t")
        await peer.until_asked("tools/call")
        assert peer.socket is not None
        await peer.socket.aclose(1012, "back soon")
        problem = await call.problem()
        assert isinstance(problem, ServerUnavailable)
        assert problem.reason == f"closed the WebSocket with code 1012 (SERVICE_RESTART){LAST_WORDS}back soon"
        assert client.link.closed.is_set()


async def test_what_comes_outside_calls_is_handed_over(peer: Peer) -> None:
    received = Collector()
    async with trio.open_nursery() as nursery:
        link = await reach(peer.url).connect(nursery, make_offer(Era.LEGACY), received)
        await peer.say('{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}')
        assert (await received.next()).method == "notifications/tools/list_changed"
        await link.aclose()
        await peer.closed.wait()


# ---- liveness --------------------------------------------------------------------------------------------------------


async def test_a_server_that_stops_reading_is_dropped_within_its_deadline(autojump_clock: MockClock) -> None:
    """The wire's own tests have the exact times; here a call finds it out, over a real socket."""
    autojump_clock.autojump_threshold = 0.02

    async def deaf(stream: trio.SocketStream) -> None:
        peer = wire.Peer(stream)
        await peer.accept()
        asked = json.loads(await peer.message())
        await peer.say(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": INITIALIZED}))
        await trio.sleep_forever()

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    url = f"ws://127.0.0.1:{listener.socket.getsockname()[1]}/"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, deaf, [listener])
        adapter = reach(url, keepalive=Keepalive(interval=1e6, timeout=7.0))
        async with open_client(adapter, Era.LEGACY) as client:
            problem = await client.start(nursery, "t", {"x": "x" * 20_000_000}).problem()
            assert isinstance(problem, ServerUnavailable)
            assert problem.reason == "has read nothing for 7 s although messages are waiting"
            assert 7.0 <= trio.current_time() < 8.0
        nursery.cancel_scope.cancel(reason="the test is over")


async def test_two_links_have_nothing_in_common() -> None:
    async with serve_websocket_fixture() as fixture:
        adapter = reach(fixture.url)
        async with open_client(adapter, Era.LEGACY) as one, open_client(adapter, Era.MODERN) as other:
            assert fixture.open == 2
            await one.link.aclose()
            assert text_of(await other.call("echo", {"text": "here"})) == "here"
            await wait_all_tasks_blocked()
            assert fixture.open == 1
