"""WebSockets as such: the upgrade, frames that break the rules, and clients that are silent or do not read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from mcpgateway.config.limits import Limits
from mcpgateway.config.model import CertAndKey, Listen
from tests.fronts.channels import connected
from tests.fronts.site import Site, call, gone, modern, request, site
from tests.wire.http1.certificates import issued, trusting

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
PING = '{"jsonrpc":"2.0","id":1,"method":"ping"}'
PONG = '{"jsonrpc":"2.0","id":1,"result":{}}'


class Raw:
    """A client of frames: what it sends, and when it reads, is the test's business."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.socket = Connection(ConnectionType.CLIENT)
        self.head = b""
        self._events: list[Event] = []

    async def shake_hands(self, path: str = "/ws/one", headers: Mapping[str, str] = UPGRADE, then: bytes = b"") -> None:
        fields = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "127.0.0.1", **headers}.items())
        await self.stream.send_all(f"GET {path} HTTP/1.1\r\n{fields}\r\n".encode() + then)
        while b"\r\n\r\n" not in self.head:
            self.head += bytes(await self.stream.receive_some())
        self.head, _, rest = self.head.partition(b"\r\n\r\n")
        self.socket.receive_data(rest)

    async def send(self, event: Event) -> None:
        await self.stream.send_all(self.socket.send(event))

    async def event(self) -> Event:
        while True:
            self._events += self.socket.events()
            if self._events:
                return self._events.pop(0)
            data = bytes(await self.stream.receive_some())
            self.socket.receive_data(data or None)

    async def code(self) -> int:
        """The code that the gateway closes with; then its connection ends."""
        while not isinstance(event := await self.event(), CloseConnection):
            pass
        return int(event.code)


@asynccontextmanager
async def raw(gateway: Site) -> AsyncIterator[Raw]:
    stream = await trio.open_tcp_stream("127.0.0.1", gateway.port)
    try:
        yield Raw(stream)
    finally:
        await trio.aclose_forcefully(stream)


REFUSED = {
    "no handshake": ({}, 426),
    "another version": ({**UPGRADE, "Sec-WebSocket-Version": "8"}, 426),
    "no key": ({name: value for name, value in UPGRADE.items() if name != "Sec-WebSocket-Key"}, 400),
    "a foreign page": ({**UPGRADE, "Origin": "https://evil.example"}, 403),
    "another host": ({**UPGRADE, "Host": "evil.example"}, 403),
}


@pytest.mark.requirement("5.fronts")
@pytest.mark.parametrize("case", REFUSED)
async def test_a_handshake_that_is_refused(case: str) -> None:
    headers, status = REFUSED[case]
    async with site() as gateway:
        client = await gateway.dial()
        answer = await client.ask("GET", "/ws", headers=headers)
        assert answer.status == status
        assert answer.json["error"]["message"]
        if status == 426:
            assert answer.headers["sec-websocket-version"] == "13"
            assert answer.headers["upgrade"] == "websocket"


async def test_there_are_websockets_on_their_paths_only() -> None:
    async with site() as gateway:
        for path, status in (("/ws/none", 404), ("/mcp", 406), ("/health", 200)):
            client = await gateway.dial()
            assert (await client.ask("GET", path, headers={**UPGRADE, "Accept": "application/json"})).status == status
            assert await client.ended()
        client = await gateway.dial()
        assert (await client.post("/ws", request(1, "ping"))).status == 426


@pytest.mark.parametrize("offered", ["", "mcp", "v1, mcp", "v1"])
async def test_the_subprotocol_is_taken_where_it_is_offered(offered: str) -> None:
    async with site() as gateway, raw(gateway) as client:
        await client.shake_hands(headers={**UPGRADE, **({"Sec-WebSocket-Protocol": offered} if offered else {})})
        assert client.head.startswith(b"HTTP/1.1 101 ")
        assert (b"sec-websocket-protocol: mcp" in client.head.lower()) == ("mcp" in offered)
        await client.send(TextMessage(data=PING))
        assert await client.event() == TextMessage(data=PONG)


async def test_what_comes_with_the_handshake_is_not_lost() -> None:
    async with site() as gateway, raw(gateway) as client:
        await client.shake_hands(then=client.socket.send(TextMessage(data=PING)))
        assert await client.event() == TextMessage(data=PONG)


async def test_pings_are_answered_also_within_a_message() -> None:
    async with site() as gateway, raw(gateway) as client:
        await client.shake_hands()
        await client.send(TextMessage(data=PING[:10], message_finished=False))
        await client.send(Ping(b"there?"))
        assert await client.event() == Pong(b"there?")
        await client.send(TextMessage(data=PING[10:]))
        assert await client.event() == TextMessage(data=PONG)


@pytest.mark.requirement("5.bad.channels")
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (Connection(ConnectionType.CLIENT).send(BytesMessage(data=b"{}")), 1003),
        (Connection(ConnectionType.CLIENT).send(TextMessage(data=" " * 1001)), 1009),
        (b"\x81\x81\x00\x00\x00\x00\xff", 1007),
        (b"\xf1\x81\x00\x00\x00\x00x", 1002),
    ],
    ids=["binary", "too long", "no UTF-8", "reserved bits"],
)
async def test_what_breaks_the_rules_ends_the_connection_and_no_other(data: bytes, code: int) -> None:
    limits = Limits(body_bytes=1000)
    async with site(listen=Listen(limits=limits)) as gateway, raw(gateway) as client, connected("ws", gateway) as other:
        await client.shake_hands()
        await client.stream.send_all(data)
        assert await client.code() == code
        if code in (1003, 1009):  # else nothing of this client can be read any more
            await client.stream.send_all(client.socket.send(CloseConnection(code=code)))
        else:
            assert isinstance(client.stream, trio.SocketStream)
            await client.stream.send_eof()
        assert await client.stream.receive_some() == b""
        assert (await other.ask(request(1, "ping")))["result"] == {}


async def test_a_goodbye_is_answered_and_what_was_being_received_is_forgotten() -> None:
    async with site() as gateway, raw(gateway) as client:
        await client.shake_hands()
        await client.send(TextMessage(data="x" * 70_000, message_finished=False))
        while not gateway.gateway.bounds.bodies.held:
            await trio.testing.wait_all_tasks_blocked(0.001)
        await client.send(CloseConnection(code=1000))
        assert await client.code() == 1000
        assert await client.stream.receive_some() == b""
        while gateway.gateway.bounds.streams.held:
            await trio.testing.wait_all_tasks_blocked(0.001)
        assert gateway.gateway.bounds.bodies.held == 0


async def test_a_client_that_sends_more_than_may_be_held_is_dropped() -> None:
    limits = Limits(bodies_bytes=60_000, bodies_bytes_per_address=50_000, body_bytes=40_000)
    async with site(listen=Listen(limits=limits)) as gateway, raw(gateway) as client, raw(gateway) as greedy:
        for each in (client, greedy):
            await each.shake_hands()
            await each.send(TextMessage(data="x" * 30_000, message_finished=False))
        assert await greedy.stream.receive_some() == b""


@pytest.mark.requirement("5.bad.channels")
async def test_a_silent_client_is_asked_once_and_then_dropped(autojump_clock: MockClock) -> None:
    limits = Limits(idle_timeout=0.05, write_timeout=0.05)
    async with site(listen=Listen(limits=limits)) as gateway, raw(gateway) as client:
        await client.shake_hands()
        for _ in range(2):
            ping = await client.event()
            assert isinstance(ping, Ping)
            await client.send(ping.response())
        assert isinstance(await client.event(), Ping)
        assert await client.stream.receive_some() == b""


@pytest.mark.requirement("5.bad.channels", "5.shows.websocket")
async def test_a_client_that_stops_reading_is_dropped_within_its_deadline() -> None:
    limits = Limits(write_timeout=0.1, write_rate=1 << 30)
    async with site(listen=Listen(limits=limits)) as gateway, raw(gateway) as client:
        await client.shake_hands()
        with suppress(trio.BrokenResourceError):  # it may have been dropped before the last
            for n in range(40):
                await client.send(TextMessage(data=json.dumps(modern(call(n, "big", {"kib": 1024}))[0])))
        await gone(gateway)
        async with connected("ws", gateway) as other:
            assert (await other.ask(request(1, "ping")))["result"] == {}


async def test_a_connection_that_breaks_frees_everything() -> None:
    async with site() as gateway:
        async with connected("ws", gateway) as client:
            await client.initialize()
            await client.send(call(1, "slow", {"name": "s"}))
            while not gateway.gateway.bounds.calls.held:
                await trio.testing.wait_all_tasks_blocked(0.001)
        while gateway.gateway.bounds.calls.held or gateway.gateway.bounds.streams.held:
            await trio.testing.wait_all_tasks_blocked(0.001)
        assert len(gateway.gateway.sessions) == 0


@pytest.mark.requirement("5.fronts")
async def test_over_tls_too(tmp_path: Path) -> None:
    cert, key = issued().write(tmp_path)
    async with site(listen=Listen(tls=CertAndKey(cert, key))) as gateway:
        socket = await trio.open_tcp_stream("127.0.0.1", gateway.port)
        stream = trio.SSLStream(socket, trusting(), server_hostname="localhost")
        client = Raw(stream)
        await client.shake_hands()
        for n in range(3):
            await client.send(TextMessage(data=json.dumps(modern(call(n, "echo", {"text": "x" * 300_000}))[0])))
            await client.send(Ping(b"%d" % n))
        seen: list[type[Event]] = []
        while len(seen) < 6:
            event = await client.event()
            if isinstance(event, Pong) or (isinstance(event, TextMessage) and event.message_finished):
                seen.append(type(event))
        assert seen.count(Pong) == 3
        await client.send(CloseConnection(code=1000))
        assert await client.code() == 1000
        await trio.aclose_forcefully(stream)
