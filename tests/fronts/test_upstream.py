"""Upstreams: a cloud is dialled, and then it is a client like any other, until it goes and is dialled again."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from mcpgateway import jsonrpc
from mcpgateway.catalog.rules import ToolRules
from mcpgateway.config.limits import Limits
from mcpgateway.config.model import (
    HttpServer,
    Keepalive,
    Listen,
    Logging,
    NamespaceConfig,
    OnToolsChanged,
    Reconnect,
    Secret,
    UpstreamConfig,
)
from mcpgateway.errors import InvalidParams
from mcpgateway.fronts.dialling import State
from mcpgateway.fronts.kept_sessions import MOST
from mcpgateway.fronts.upstream import REMARKS
from mcpgateway.protocol.revisions import LEGACY_REVISIONS, Era
from mcpgateway.testing.fixture_server import FixtureServer
from mcpgateway.testing.http import serve_fixture
from mcpgateway.testing.memory import MemoryAdapter
from tests.fronts.cloud import FIRST, TOKEN, Bridge, Cloud, Socket, bridge, cloud
from tests.fronts.site import adapters, call, modern, notification, request
from tests.servers.doubles import Counting

PAUSE = Reconnect().initial
"""The first pause, of which chance takes up to a tenth."""
MOMENT = 0.001
FIXTURE_TOOLS = ["echo", "slow", "release"]


@pytest.fixture(autouse=True)
def keeps_the_secret(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever happens, the token is in no log."""
    caplog.set_level(logging.DEBUG)
    yield
    assert TOKEN not in caplog.text


def lines(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    """What the upstreams' log says with these words, warnings and worse."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "mcpgateway.upstream" and record.levelno >= logging.WARNING and words in record.getMessage()
    ]


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds, in virtual time."""
    for _ in range(100_000):
        if holds():
            return
        await trio.sleep(MOMENT)
    raise AssertionError("it never did")


async def until_called(near: Bridge, count: int = 1) -> None:
    """Wait until so many calls are in flight at servers."""
    servers = near.gateway.statistics
    await until(lambda: sum(link.in_flight for server in servers().servers for link in server.links) == count)


def slow(near: Bridge, name: str = "one") -> FixtureServer:
    """The server behind the newest link that has calls."""
    busy = [link.host for link in near.adapters[name].links if link.statistics().calls]
    assert isinstance(busy[-1], FixtureServer)
    return busy[-1]


def near(seconds: float) -> object:
    """A pause of about so many seconds: chance takes up to a tenth."""
    return pytest.approx(seconds * 0.95, rel=0.06)


# ---- a client like any other -----------------------------------------------------------------------------------------


@pytest.mark.requirement("6.upstreams", "feature.1", "feature.3")
async def test_it_is_dialled_as_its_clients_were_and_asked_what_clouds_ask(autojump_clock: MockClock) -> None:
    headers = {"X-Agent": Secret("a"), "Host": Secret("evil"), "Sec-WebSocket-Key": Secret("evil")}
    async with cloud() as far, bridge(far.upstream(headers=headers)) as gateway:
        socket = await far.next()
        assert socket.request is not None
        assert socket.request.target == f"/mcp/?token={TOKEN}"
        assert socket.request.host == far.host
        assert socket.request.subprotocols == []
        assert (b"x-agent", b"a") in socket.request.extra_headers

        assert (await socket.initialize())["protocolVersion"] == "2024-11-05"
        assert (await socket.ask(request(3, "ping")))["result"] == {}
        tools = (await socket.ask(request(4, "tools/list")))["result"]["tools"]
        assert set(FIXTURE_TOOLS) <= {tool["name"] for tool in tools}
        answer = await socket.ask(call(5, "echo", {"text": "hé"}))
        assert answer["result"]["content"][0]["text"] == "hé"
        assert gateway.upstream().state is State.CONNECTED
        assert (gateway.upstream().calls, gateway.upstream().reconnects) == (3, 0)


@pytest.mark.requirement("6.upstreams")
@pytest.mark.parametrize(("servers", "seconds"), [(("one",), 30.0), (("one", "two"), 5.0)])
async def test_it_is_dialled_when_its_servers_are_there(
    servers: tuple[str, ...], seconds: float, autojump_clock: MockClock
) -> None:
    """A handshake that a starting server cannot answer is an error, which clouds do not try again. Where there is
    another server to show, one that takes long is not waited for to the end."""
    made: dict[str, MemoryAdapter] = {name: Counting(name) for name in servers}
    made["one"] = slow = Counting("one")
    slow.delay = 30.0
    keys: dict[str, Any] = {"namespaces": {"seen": NamespaceConfig("seen", servers)}, "startup_wait": 5.0}
    async with cloud() as far:
        began = trio.current_time()
        async with bridge(far.upstream(namespace="seen"), adapters=made, waits=False, **keys):
            assert (await far.dialled()).at - began == seconds
            before = trio.current_time()
        assert trio.current_time() - before < 1


async def test_it_can_be_stopped_before_its_servers_are_there(autojump_clock: MockClock) -> None:
    slow = Counting("one")
    slow.delay = 30.0
    began = trio.current_time()
    async with cloud() as far, bridge(far.upstream(), adapters={"one": slow}, waits=False) as gateway:
        await trio.sleep(3)
        gateway.reload(upstreams=())
        await until(lambda: gateway.upstream_count == 0)
        assert trio.current_time() - began < slow.delay


@pytest.mark.requirement("6.upstreams")
@pytest.mark.parametrize("eras", [{Era.LEGACY}, {Era.MODERN}], ids=["legacy server", "modern server"])
@pytest.mark.parametrize("revision", [*LEGACY_REVISIONS, "2026-07-28"])
async def test_clients_of_every_revision_are_served(revision: str, eras: set[Era], autojump_clock: MockClock) -> None:
    async with cloud() as far, bridge(far.upstream(), adapters=adapters("one", eras=frozenset(eras))):
        socket = await far.next()
        message = call(1, "echo", {"text": "x"})
        if revision == "2026-07-28":
            message = modern(message)[0]
        else:
            assert (await socket.initialize(revision))["protocolVersion"] == revision
        assert (await socket.ask(message))["result"]["content"][0]["text"] == "x"


@pytest.mark.requirement("6.upstreams", "feature.2")
async def test_each_upstream_sees_its_own_namespace_under_raw_names(autojump_clock: MockClock) -> None:
    namespaces = {name: NamespaceConfig(name, (server,)) for name, server in (("a", "one"), ("b", "two"))}
    namespaces["a"] = NamespaceConfig("a", ("one",), tools=ToolRules(allow=("echo",)))
    async with cloud() as first, cloud() as second:
        upstreams = first.upstream("first", "a"), second.upstream("second", "b")
        async with bridge(*upstreams, names=("one", "two"), namespaces=namespaces):
            one, two = await first.next(), await second.next()
            for socket in one, two:
                await socket.initialize()
            listed = (await one.ask(request(1, "tools/list")))["result"]["tools"]
            assert [tool["name"] for tool in listed] == ["echo"]
            assert "error" in await one.ask(call(2, "big", {"kib": 1}))
            assert "result" in await two.ask(call(3, "big", {"kib": 1}))


class Paged(FixtureServer):
    """Lists its tools on one page, and knows no cursor."""

    def handle(self, message: jsonrpc.Message) -> list[jsonrpc.Message]:
        if message.method == "tools/list" and b"cursor" in bytes(message.params or b""):
            return [jsonrpc.error(message.id, InvalidParams("unknown cursor"))]
        return super().handle(message)


@pytest.mark.requirement("6.upstreams")
@pytest.mark.parametrize("namespace", ["one", "both"])
@pytest.mark.parametrize("params", [{}, {"cursor": ""}, {"cursor": "", "x": ""}, {"x": ""}])
async def test_an_empty_cursor_asks_for_the_first_page(
    params: dict[str, str], namespace: str, autojump_clock: MockClock
) -> None:
    """As xiaozhi's cloud has it."""
    namespaces = {"one": NamespaceConfig("one", ("one",)), "both": NamespaceConfig("both", ("one", "two"))}
    made = {name: MemoryAdapter(name, Paged) for name in ("one", "two")}
    async with cloud() as far, bridge(far.upstream(namespace=namespace), adapters=made, namespaces=namespaces):
        socket = await far.next()
        await socket.initialize()
        assert (await socket.ask(request(1, "tools/list", params)))["result"]["tools"]
        assert "error" in await socket.ask(request(2, "tools/list", {"cursor": "x"}))


@pytest.mark.requirement("6.upstreams")
@pytest.mark.parametrize("namespace", ["one", "both"])
async def test_several_agents_may_share_the_socket(namespace: str, autojump_clock: MockClock) -> None:
    """Self-hosted endpoints bring the calls of all agents, and each shakes hands: nobody's calls end by that."""
    namespaces = {"one": NamespaceConfig("one", ("one",)), "both": NamespaceConfig("both", ("one", "two"))}
    prefix = "" if namespace == "one" else "one_"
    async with (
        cloud() as far,
        bridge(far.upstream(namespace=namespace), names=("one", "two"), namespaces=namespaces) as gateway,
    ):
        socket = await far.next()
        for n, revision in enumerate(("2024-11-05", "2025-06-18", "2024-11-05")):
            await socket.initialize(revision)
            await socket.ask(request(10 + n, "tools/list"))
            await socket.send(call(n, f"{prefix}slow", {"name": "x"}))
            await until_called(gateway, n + 1)
        assert len(gateway.gateway.sessions) == 2
        await socket.ask(call("r", f"{prefix}release", {}))
        answers = [await socket.answer(n) for n in range(3)]
        assert [answer["result"]["content"][0]["text"] for answer in answers] == ["x"] * 3
        if namespace == "one":  # merged listings are compared, and have not changed
            await changed(gateway)
            assert (await socket.receive())["method"] == "notifications/tools/list_changed"
        await socket.ask(request(20, "ping"))
        assert socket.told == []


@pytest.mark.requirement("6.bad")
async def test_what_comes_before_the_handshake_is_refused_and_told(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with cloud() as far, bridge(far.upstream()):
        socket = await far.next()
        assert (await socket.ask(request(1, "ping")))["result"] == {}
        answer = await socket.ask(request(2, "tools/list"))
        assert answer["error"] == {"code": -32600, "message": "initialise first"}
        assert lines(caplog, "refused") == ["upstream 'cloud': refused a 'tools/list': initialise first"]
        await socket.ask(request(4, f"{TOKEN}/list"))
        assert lines(caplog, "refused")[1:] == ["upstream 'cloud': refused a '***/list': initialise first"]
        await socket.initialize()
        assert "result" in await socket.ask(request(3, "tools/list"))


JUNK = {
    "no JSON": ("{", -32700, "sent something that is no message: the message is not valid JSON"),
    "JSON, but no JSON-RPC": ('{"id":1}', -32600, 'sent something that is no message: "jsonrpc" must be "2.0"'),
    "a number": ("7", -32600, "sent something that is no message: a JSON-RPC message is an object"),
    "a batch": ('[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600, "sent something that is no message: batches"),
    "an answer that nobody asked for": (
        '{"jsonrpc":"2.0","id":77,"result":{}}',
        None,
        "dropped the answer to a question that nobody asked",
    ),
    "an error that nobody asked for": (
        '{"jsonrpc":"2.0","id":77,"error":{"code":1,"message":"x"}}',
        None,
        "dropped the answer to a question that nobody asked",
    ),
    "an unknown notification": ('{"jsonrpc":"2.0","method":"notifications/x"}', None, None),
}


@pytest.mark.requirement("6.bad")
@pytest.mark.parametrize("case", JUNK)
async def test_junk_is_told_and_answered_as_json_rpc_has_it(
    case: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    data, code, told = JUNK[case]
    async with cloud() as far, bridge(far.upstream()) as gateway:
        socket = await far.next()
        await socket.initialize("2025-11-25")
        await socket.send(data)
        assert (await socket.ask(request(9, "ping")))["result"] == {}
        codes = [message["error"]["code"] for message in socket.told]
        assert codes == ([] if code is None else [code])
        found = lines(caplog, "upstream 'cloud': ")
        assert len(found) == (told is not None)
        assert told is None or told in found[0]
        assert gateway.upstream().state is State.CONNECTED


async def test_a_flood_of_junk_does_not_flood_the_log(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with cloud() as far, bridge(far.upstream()):
        socket = await far.next()
        for _ in range(3 * REMARKS):
            await socket.send("junk")
        await socket.ask(request(1, "ping"))
        found = lines(caplog, "sent something")
        assert len(found) == REMARKS
        assert found[-1].endswith("no more of the kind is logged on this connection")


@pytest.mark.requirement("6.bad")
async def test_binary_messages_are_passed_over(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    async with cloud() as far, bridge(far.upstream()):
        socket = await far.next()
        await socket.say(BytesMessage(data=b"\0" * 10, message_finished=False))
        await socket.say(BytesMessage(data=b"\0" * 10))
        assert (await socket.ask(request(1, "ping")))["result"] == {}
        assert lines(caplog, "") == ["upstream 'cloud': a binary message was passed over, for messages are text"]


def masked(socket: Socket) -> bytes:
    return Connection(ConnectionType.CLIENT).send(TextMessage(data="{}"))


BROKEN: dict[str, tuple[Callable[[Socket], bytes], int, str]] = {
    "too long": (
        lambda socket: socket.protocol.send(TextMessage(data=" " * 1001)),
        1009,
        "a message may have 1000 bytes",
    ),
    "too long in parts": (
        lambda socket: (
            socket.protocol.send(TextMessage(data=" " * 600, message_finished=False))
            + socket.protocol.send(TextMessage(data=" " * 600))
        ),
        1009,
        "a message may have 1000 bytes",
    ),
    "no UTF-8": (lambda socket: b"\x81\x01\xff", 1007, "broke the rules"),
    "masked": (masked, 1002, "broke the rules"),
    "reserved bits": (lambda socket: b"\xf1\x01x", 1002, "broke the rules"),
}


@pytest.mark.requirement("6.bad", "6.impatient")
@pytest.mark.parametrize("case", BROKEN)
async def test_what_breaks_the_rules_ends_the_connection_with_its_code(
    case: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    make, code, told = BROKEN[case]
    async with cloud() as far, bridge(far.upstream(message_bytes=1000)):
        socket = await far.next()
        await socket.stream.send_all(make(socket))
        assert await socket.code() == code
        await socket.stream.aclose()
        again = await far.next()
        assert told in lines(caplog, "dialled again")[0]
        await again.initialize()


@pytest.mark.requirement("6.bad")
async def test_half_a_message_is_waited_for_and_forgotten_with_its_connection(autojump_clock: MockClock) -> None:
    async with cloud() as far, bridge(far.upstream()) as gateway:
        socket = await far.next()
        await socket.say(TextMessage(data='{"jsonrpc":"2.0",' + " " * 70_000, message_finished=False))
        await socket.say(Ping(b"x"))
        assert await socket.event() == Pong(b"x")
        assert gateway.gateway.bounds.bodies.of("upstream:cloud") > 70_000
        await socket.say(TextMessage(data='"id":1,"method":"ping"}'))
        assert (await socket.answer(1))["result"] == {}
        await socket.say(TextMessage(data="x" * 70_000, message_finished=False))
        await socket.cut()
        await far.next()
        assert gateway.gateway.bounds.bodies.held == 0


# ---- dialling again --------------------------------------------------------------------------------------------------


@pytest.mark.requirement("6.reconnect", "feature.4")
async def test_a_cloud_that_closes_at_once_is_dialled_with_growing_pauses(autojump_clock: MockClock) -> None:
    async with cloud() as far, bridge(far.upstream()) as gateway:
        times = []
        for _ in range(6):
            socket = await far.next()
            times.append(socket.at)
            await socket.close(1000)
        pauses = [after - before for before, after in pairwise(times)]
        assert pauses == [near(1), near(2), near(4), near(8), near(16)]
        assert gateway.upstream().reconnects == 5


@pytest.mark.requirement("6.reconnect")
async def test_only_a_connection_that_lasts_makes_pauses_begin_anew(autojump_clock: MockClock) -> None:
    async with cloud() as far, bridge(far.upstream(reconnect=Reconnect(stable=20.0))) as gateway:
        for _ in range(4):
            await (await far.next()).cut()
        socket = await far.next()
        await trio.sleep(19)
        assert gateway.upstream().state is State.CONNECTED
        await trio.sleep(2)
        assert (gateway.upstream().state, gateway.upstream().failures) == (State.STABLE, 0)
        ended = trio.current_time()
        await socket.cut()
        assert (await far.next()).at - ended == near(1)


ANOTHER_KEY = b"""HTTP/1.1 101 Switching Protocols\r
Upgrade: websocket\r
Connection: Upgrade\r
Sec-WebSocket-Accept: AAAA\r
\r
"""
REFUSING = {
    "HTTP 401": (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", 60, "HTTP 401: the token in its endpoint"),
    "HTTP 403": (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", 60, "HTTP 403: the token in its endpoint"),
    "HTTP 401, its body broken": (
        b"HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n",
        60,
        "HTTP 401: the token in its endpoint",
    ),
    "HTTP 404": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 1, "HTTP 404: check the path"),
    "a redirect": (b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\nContent-Length: 0\r\n\r\n", 1, "a redirect"),
    "a page": (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>", 1, "HTTP 200"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", 1, "answered the WebSocket handshake with something else"),
    "another key": (ANOTHER_KEY, 1, "answered the WebSocket handshake with something else"),
    "nothing": (b"", 1, "closed the connection during the WebSocket handshake"),
    "half an answer": (b"HTTP/1.1 101 Switch", 1, "closed the connection during the WebSocket handshake"),
}


@pytest.mark.requirement("6.bad", "6.reconnect")
@pytest.mark.parametrize("case", REFUSING)
async def test_a_cloud_that_does_not_shake_hands(
    case: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    answer, least, told = REFUSING[case]
    async with cloud() as far, bridge(far.upstream()) as gateway:
        before = await far.refuse(answer)
        socket = await far.next()
        assert socket.at - before >= least * 0.9
        assert told in lines(caplog, "dialled again")[0]
        assert told in gateway.upstream().reason
        await socket.initialize()


@pytest.mark.requirement("6.reconnect")
async def test_close_code_4004_means_a_long_wait(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    async with cloud() as far, bridge(far.upstream(reconnect=Reconnect(refused=90.0))):
        times = []
        for _ in range(4):
            socket = await far.next()
            times.append(socket.at)
            await socket.close(4004, "Internal server error")
        assert all(after - before >= 90 for before, after in pairwise(times))
        said = "closed the WebSocket with code 4004: 'Internal server error': it has failed, or does not take the token"
        assert said in lines(caplog, "4004")[0]


@pytest.mark.requirement("6.bad")
async def test_where_nobody_listens_it_is_tried_again_and_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with cloud() as far, bridge(attrs.evolve(far.upstream(), endpoint=Secret("ws://nobody.example"))) as gateway:
        await trio.sleep(20)
        assert gateway.upstream().state is State.WAITING
        assert gateway.upstream().failures == 5
        assert gateway.upstream().retry_in == pytest.approx(
            9.5, abs=1.7
        )  # 13.5 to 15 and 14.4 to 16, of which 20 are over
        assert len(lines(caplog, "Connection refused; dialled again in")) == 5


@pytest.mark.requirement("6.bad")
async def test_a_cloud_that_does_not_answer_the_handshake_has_its_time(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with cloud() as far, bridge(far.upstream(connect_timeout=30.0)):
        began = (await far.dialled()).at
        assert (await far.next()).at - began == pytest.approx(30 + PAUSE, abs=0.15)
        assert lines(caplog, "no WebSocket within 30 s (connect_timeout)")


@pytest.mark.requirement("6.reconnect", "feature.5")
async def test_one_that_is_not_to_reconnect_is_left_alone_until_a_reload(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with cloud() as far, bridge(far.upstream(reconnect=Reconnect(enabled=False))) as gateway:
        await (await far.next()).close(1000)
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(3600) as waited:
            await far.next()
        assert waited.cancelled_caught
        assert gateway.upstream().state is State.ENDED
        assert lines(caplog, "it is not dialled again (reconnect.enabled)")
        gateway.reload()
        await (await far.next()).initialize()


@pytest.mark.requirement("6.keepalive", "feature.6")
async def test_it_is_pinged_and_a_cloud_that_does_not_answer_is_gone(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with cloud() as far, bridge(far.upstream(keepalive=Keepalive(30.0, 10.0))):
        socket = await far.next()
        with trio.move_on_after(95):
            await socket.event()
        assert socket.pings == [pytest.approx(socket.at + after, abs=0.01) for after in (30, 60, 90)]
        half_open = trio.current_time()
        again = await far.next()
        assert again.at - half_open == pytest.approx(120 + 10 - 95 + PAUSE, abs=0.15)
        assert lines(caplog, "did not answer a ping within 10 s (keepalive)")


@pytest.mark.requirement("6.keepalive")
async def test_whatever_a_cloud_says_shows_that_it_is_there(autojump_clock: MockClock) -> None:
    async with cloud() as far, bridge(far.upstream()) as gateway:
        socket = await far.next()
        socket.obliging = False
        for n in range(100):
            await trio.sleep(5)
            assert (await socket.ask(request(n, "ping")))["result"] == {}
        assert gateway.upstream().reconnects == 0


# ---- a drop ----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("6.drop", "6.upstreams")
async def test_a_drop_cancels_its_calls_and_costs_nobody_else_anything(autojump_clock: MockClock) -> None:
    async with cloud() as first, cloud() as second:
        upstreams = first.upstream("first"), second.upstream("second", "two")
        async with bridge(*upstreams, names=("one", "two")) as gateway:
            one, two = await first.next(), await second.next()
            for socket in one, two:
                await socket.initialize()
                await socket.send(call("c", "slow", {"name": "x"}))
            await until_called(gateway, 2)
            links = {name: list(adapter.links) for name, adapter in gateway.adapters.items()}
            await one.cut()
            await until_called(gateway, 1)
            assert slow(gateway).cancelled == ["x"]
            assert slow(gateway, "two").cancelled == []

            again = await first.next()
            await again.initialize()
            assert "result" in await again.ask(call(1, "echo", {"text": "x"}))
            assert {name: adapter.links for name, adapter in gateway.adapters.items()} == links
            assert not any(link.closed.is_set() for name in links for link in links[name])
            await two.ask(call(2, "release"))
            answer = await two.answer("c")
            assert answer["result"]["content"][0]["text"] == "x"
            assert gateway.upstream("second").reconnects == 0


@pytest.mark.requirement("6.drop")
async def test_sessions_at_servers_survive_a_drop(autojump_clock: MockClock) -> None:
    """Those of servers that keep a session for each client, as legacy ones over HTTP do."""
    adapter = MemoryAdapter("h", eras={Era.LEGACY})
    server = HttpServer("h", url="http://h.example/mcp")
    async with (
        cloud() as far,
        bridge(far.upstream(namespace="h"), adapters={"h": adapter}, servers={"h": server}) as gateway,
    ):
        for n in range(3):
            socket = await far.next()
            assert (await socket.initialize())["serverInfo"]["name"]
            assert "result" in await socket.ask(call(n, "echo", {"text": "x"}))
            own = [link for link in adapter.links if link.statistics().calls and not link.closed.is_set()]
            assert len(own) == 1
            assert own[0].statistics().calls == 2 * n + 1
            assert len(gateway.gateway.sessions) == 1
            await socket.send(call("lost", "slow", {"name": "x"}))
            await until_called(gateway)
            await socket.cut()
            await until_called(gateway, 0)
        socket = await far.next()
        await socket.initialize("2025-06-18")  # other words, another session
        assert "result" in await socket.ask(call(9, "echo", {"text": "x"}))
        assert own[0].statistics().calls == 6
        for n in range(MOST):
            params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": f"agent {n}"}}
            await socket.ask(request(n, "initialize", params))
        assert own[0].closed.is_set()
        assert len(gateway.gateway.sessions) == MOST


@pytest.mark.requirement("6.drop")
@pytest.mark.parametrize("way", ["close", "cut", "half open"])
async def test_however_it_ends_its_calls_are_cancelled(way: str, autojump_clock: MockClock) -> None:
    async with cloud() as far, bridge(far.upstream()) as gateway:
        socket = await far.next()
        await socket.initialize()
        await socket.send(call("c", "slow", {"name": "x"}))
        await until_called(gateway)
        if way == "close":
            await socket.close(1001)
        elif way == "cut":
            await socket.cut()
        await far.next()
        assert slow(gateway).cancelled == ["x"]
        assert gateway.upstream().in_flight == 0


@pytest.mark.requirement("6.drop")
async def test_a_cloud_that_does_not_read_is_dropped_and_stops_nobody_else(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with cloud() as first, cloud() as second:
        patient = second.upstream("second", keepalive=Keepalive(3600.0, 10.0))
        slow_line = Listen(port=0, limits=Limits(write_rate=1024))  # or the first of both deadlines is any
        async with bridge(first.upstream("first"), patient, listen=slow_line) as gateway:
            deaf, other = await first.next(), await second.next()
            for socket in deaf, other:
                await socket.initialize()
            for n in range(30):
                await deaf.send(call(n, "big", {"kib": 1024}))
            assert "result" in await other.ask(call(1, "echo", {"text": "x"}))
            again = await first.next()
            assert again.at - deaf.at == pytest.approx(10 + 10 + PAUSE, abs=0.15)
            assert lines(caplog, "has read nothing for 10 s although messages are waiting")
            assert "result" in await other.ask(call(2, "echo", {"text": "x"}))
            assert gateway.upstream("second").reconnects == 0


# ---- clouds that give up early ---------------------------------------------------------------------------------------


@pytest.mark.requirement("6.impatient")
@pytest.mark.parametrize("namespace", ["one", "both"])
async def test_a_call_that_takes_too_long_is_answered_before_the_cloud_gives_up(
    namespace: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    namespaces = {
        name: NamespaceConfig(name, servers) for name, servers in (("one", ("one",)), ("both", ("one", "two")))
    }
    tool = "slow" if namespace == "one" else "one_slow"
    async with cloud() as far:
        upstream = far.upstream(namespace=namespace, call_deadline=9.5)
        async with bridge(upstream, names=("one", "two"), namespaces=namespaces) as gateway:
            socket = await far.next()
            await socket.initialize()
            began = trio.current_time()
            await socket.send(call(1, tool, {"name": "a"}))
            await trio.sleep(3)
            await socket.send(call(2, tool, {"name": "b"}))
            first = await socket.answer(1)
            assert trio.current_time() - began == pytest.approx(9.5, abs=0.001)
            assert first["result"]["isError"] is True
            (part,) = first["result"]["content"]
            assert part["text"] == (
                "server 'one': no answer within 9.5s, the call_deadline of upstream 'cloud'; it has been told to cancel"
            )
            await socket.answer(2)
            assert trio.current_time() - began == pytest.approx(12.5, abs=0.001)
            await trio.testing.wait_all_tasks_blocked()
            assert slow(gateway).cancelled == ["a", "b"]
            assert (gateway.upstream().overdue, gateway.upstream().in_flight) == (2, 0)
            assert len(lines(caplog, "a call was given up")) == 2
            assert "result" in await socket.ask(call(1, tool.replace("slow", "echo"), {"text": "x"}))


class Forgetful(FixtureServer):
    """Answers no prompts."""

    def handle(self, message: jsonrpc.Message) -> list[jsonrpc.Message]:
        return [] if message.method == "prompts/get" else super().handle(message)


@pytest.mark.requirement("6.impatient")
async def test_other_requests_get_an_error(autojump_clock: MockClock) -> None:
    async with cloud() as far:
        made = {"one": MemoryAdapter("one", Forgetful)}
        async with bridge(far.upstream(call_deadline=2.0), adapters=made):
            socket = await far.next()
            await socket.initialize()
            answer = await socket.ask(request(1, "prompts/get", {"name": "x"}))
            assert answer["error"]["code"] == -32603
            assert "call_deadline of upstream 'cloud'" in answer["error"]["message"]


@pytest.mark.requirement("6.impatient", "6.drop")
@pytest.mark.parametrize("json", [True, False])
async def test_calls_over_http_are_given_up_and_dropped_likewise(json: bool, autojump_clock: MockClock) -> None:
    """Such calls may have no task of their own."""
    async with serve_fixture(json=json) as fixture, cloud() as far:
        server = HttpServer("h", url=fixture.url)
        soon = Reconnect(initial=0.01, maximum=0.01)
        upstream = far.upstream(namespace="h", call_deadline=0.1, reply_bytes=8000, reconnect=soon)
        with trio.fail_after(10):
            async with bridge(upstream, adapters={}, servers={"h": server}) as gateway:
                for n in range(2):
                    socket = await far.next()
                    await socket.initialize()
                    for id in range(3):
                        answer = await socket.ask(call(id, "echo", {"text": "x"}))
                        assert answer["result"]["content"][0]["text"] == "x"
                    late = await socket.ask(call(3, "slow", {"name": "late"}))
                    assert "call_deadline" in late["result"]["content"][0]["text"]
                    long = await socket.ask(call(4, "big", {"kib": 8}))
                    assert "reply_bytes" in long["result"]["content"][0]["text"]
                    await socket.send(call(5, "slow", {"name": "lost"}))
                    assert "result" in await socket.ask(call(6, "waiting", {"count": 1}))
                    await socket.cut()
                    while gateway.upstream().in_flight:
                        await trio.testing.wait_all_tasks_blocked(0.001)
                    assert gateway.upstream().overdue == n + 1
                socket = await far.next()
                await socket.initialize()
                told = await socket.ask(call(7, "cancelled", {"count": 4}))
                assert told["result"]["structuredContent"]["values"] == ["late", "lost"] * 2
                await socket.cut()


@pytest.mark.requirement("6.impatient")
async def test_it_holds_while_a_server_is_starting_too(autojump_clock: MockClock) -> None:
    """A server that never starts costs a call no more than any other."""
    made = adapters("one", "two")
    made["one"].silent = True
    namespaces = {"both": NamespaceConfig("both", ("one", "two"))}
    keys: dict[str, Any] = {"adapters": made, "namespaces": namespaces, "startup_wait": 20.0, "list_timeout": 20.0}
    async with cloud() as far:
        upstream = far.upstream(namespace="both", call_deadline=9.5)
        async with bridge(upstream, waits=False, **keys):
            socket = await far.next()
            message, _ = modern(call(1, "one_slow", {"name": "a"}))
            began = trio.current_time()
            answer = await socket.ask(message)
            assert trio.current_time() - began == pytest.approx(9.5, abs=0.001)
            assert answer["result"]["isError"] is True
            assert answer["result"]["resultType"] == "complete"


@pytest.mark.requirement("6.impatient")
async def test_progress_does_not_renew_it_and_a_subscription_has_none(autojump_clock: MockClock) -> None:
    async with cloud() as far, bridge(far.upstream(call_deadline=2.0)):
        socket = await far.next()
        await socket.send(
            modern(request("s", "subscriptions/listen", {"notifications": {"toolsListChanged": True}}))[0]
        )
        await trio.sleep(10)
        assert (await socket.ask(modern(call(1, "notify"))[0]))["result"]
        while not any(message.get("method", "").endswith("list_changed") for message in socket.told):
            socket.told.append(await socket.receive())


# ---- tools that change -----------------------------------------------------------------------------------------------


async def changed(gateway: Bridge) -> None:
    """The server says that its tools have changed, outside calls, and they have."""
    for link in gateway.adapters["one"].links:
        for message in link.host.changed("tools"):
            link.send(message)
    await trio.testing.wait_all_tasks_blocked()


@pytest.mark.requirement("6.impatient")
@pytest.mark.parametrize("on", OnToolsChanged)
async def test_a_cloud_learns_of_changed_tools_in_its_own_way(on: OnToolsChanged, autojump_clock: MockClock) -> None:
    async with cloud() as far, bridge(far.upstream(on_tools_changed=on)) as gateway:
        socket = await far.next()
        await socket.initialize()
        await socket.ask(request(1, "tools/list"))
        await changed(gateway)
        if on is OnToolsChanged.NOTIFY:
            assert (await socket.receive())["method"] == "notifications/tools/list_changed"
            assert gateway.upstream().reconnects == 0
        else:
            assert await socket.code() == 1001
            assert socket.told == []
            again = await far.next()
            assert again.at - socket.at >= 0.9 * PAUSE
            await again.initialize()
            assert gateway.upstream().reconnects == 1


@pytest.mark.requirement("6.impatient")
async def test_a_call_in_flight_is_answered_before_it_is_dialled_anew(autojump_clock: MockClock) -> None:
    reconnecting = partial(Cloud.upstream, on_tools_changed=OnToolsChanged.RECONNECT)
    async with cloud() as far, bridge(reconnecting(far), shutdown_timeout=5.0) as gateway:
        for ends in True, False:
            socket = await far.next()
            await socket.initialize()
            await socket.ask(request(1, "tools/list"))
            await socket.send(call(2, "slow", {"name": "x"}))
            await until_called(gateway)
            began = trio.current_time()
            await changed(gateway)
            if ends:
                for message in slow(gateway).handle(jsonrpc.request(b"9", "tools/call", {"name": "release"}))[:-1]:
                    gateway.adapters["one"].links[-1].send(message)
            answer = await socket.answer(2)
            assert ("result" in answer) == ends
            assert trio.current_time() - began == pytest.approx(0 if ends else 5, abs=0.1)
            assert await socket.code() == 1001


@pytest.mark.requirement("6.impatient", "6.reload")
@pytest.mark.parametrize("on", OnToolsChanged)
async def test_a_namespace_that_a_reload_changes_is_told(on: OnToolsChanged, autojump_clock: MockClock) -> None:
    def namespace(*allowed: str) -> dict[str, NamespaceConfig]:
        return {"work": NamespaceConfig("work", ("one",), tools=ToolRules(allow=allowed))}

    async with cloud() as far:
        upstream = far.upstream(namespace="work", on_tools_changed=on)
        async with bridge(upstream, namespaces=namespace("echo")) as gateway:
            socket = await far.next()
            await socket.initialize()
            await socket.ask(request(1, "tools/list"))
            gateway.reload(namespaces=namespace("echo", "big"))
            if on is OnToolsChanged.RECONNECT:
                assert await socket.code() == 1001
                socket = await far.next()
                await socket.initialize()
            else:
                assert (await socket.receive())["method"] == "notifications/tools/list_changed"
            listed = (await socket.ask(request(2, "tools/list")))["result"]["tools"]
            assert {tool["name"] for tool in listed} == {"echo", "big"}


# ---- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("6.impatient")
async def test_a_reply_that_is_too_long_becomes_an_error(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with cloud() as far, bridge(far.upstream(reply_bytes=8000)):
        socket = await far.next()
        await socket.initialize()
        assert len((await socket.ask(call(1, "big", {"kib": 7})))["result"]["content"][0]["text"]) == 7 * 1024
        answer = await socket.ask(call(2, "big", {"kib": 8}))
        assert answer["result"]["isError"] is True
        assert "and upstream 'cloud' takes 8000 (reply_bytes)" in answer["result"]["content"][0]["text"]
        assert "a call of 'big' was answered with an error" in lines(caplog, "reply_bytes")[0]


@pytest.mark.requirement("6.impatient")
async def test_whoever_waits_for_what_is_too_long_learns_of_it(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where it is no reply to a call: nobody waits for ever."""
    params = {"protocolVersion": FIRST, "capabilities": {}}
    async with cloud() as far, bridge(far.upstream(reply_bytes=100)):
        socket = await far.next()
        answer = await socket.ask(request(1, "initialize", params))
        assert "and upstream 'cloud' takes 100 (reply_bytes)" in answer["error"]["message"]
        assert lines(caplog, "was not sent")


@pytest.mark.requirement("6.impatient")
async def test_a_batch_that_is_too_long_is_answered_one_by_one(autojump_clock: MockClock) -> None:
    async with cloud() as far, bridge(far.upstream(reply_bytes=8000)):
        socket = await far.next()
        await socket.initialize("2025-03-26")
        sizes = {1: 5, 2: 5, 3: 9}
        await socket.send(json.dumps([call(id, "big", {"kib": kib}) for id, kib in sizes.items()]))
        results = {id: (await socket.answer(id))["result"] for id in sizes}
        assert [len(results[id]["content"][0]["text"]) for id in (1, 2)] == [5 * 1024] * 2
        assert results[3]["isError"]


@pytest.mark.requirement("6.impatient")
async def test_a_list_of_tools_that_is_too_long_loses_those_at_its_end(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with cloud() as far, bridge(far.upstream("whole"), far.upstream("cut", reply_bytes=600)):
        sockets = {}
        for _ in range(2):
            socket = await far.next()
            await socket.initialize()
            answer = await socket.ask(request(1, "tools/list"))
            sockets[len(answer["result"]["tools"])] = answer
        shorter, whole = (sockets[count]["result"]["tools"] for count in sorted(sockets))
        assert shorter == whole[: len(shorter)]
        assert shorter
        (line,) = lines(caplog, "left out")
        assert line.startswith("upstream 'cut' takes 600 bytes (reply_bytes)")
        assert line.endswith(", ".join(tool["name"] for tool in whole[len(shorter) :]))


# ---- another configuration -------------------------------------------------------------------------------------------


@pytest.mark.requirement("6.reload")
async def test_a_reload_dials_what_has_changed_and_leaves_the_others_their_connections(
    autojump_clock: MockClock,
) -> None:
    async with cloud() as first, cloud() as second, cloud() as third:
        stays, moves, goes = first.upstream("stays"), second.upstream("moves"), second.upstream("goes")
        async with bridge(stays, moves, goes) as gateway:
            kept, a, b = await first.next(), await second.next(), await second.next()
            await until(lambda: {each.state for each in gateway.service.upstreams()} == {State.CONNECTED})
            moved = UpstreamConfig("moves", Secret(third.endpoint.replace(TOKEN, "another")), "one")
            gateway.reload(upstreams=(first.upstream("stays"), moved, third.upstream("off", enabled=False)))
            assert [await a.code(), await b.code()] == [1001, 1001]
            there = await third.next()
            assert there.request is not None
            assert there.request.target == "/mcp/?token=another"
            await kept.initialize()
            assert [each.name for each in gateway.service.upstreams()] == ["stays", "moves"]
            gateway.reload(upstreams=(*gateway.gateway.config.upstreams[:2], third.upstream("new")))
            await (await third.next()).initialize()
            assert gateway.upstream("stays").reconnects == gateway.upstream("moves").reconnects == 0


@pytest.mark.requirement("6.reload")
async def test_a_changed_upstream_answers_what_it_has_and_is_dialled_when_its_former_connection_has_ended(
    autojump_clock: MockClock,
) -> None:
    async with cloud() as far, bridge(far.upstream(), shutdown_timeout=30.0) as gateway:
        socket = await far.next()
        await socket.initialize()
        await socket.send(call(1, "slow", {"name": "x"}))
        await until_called(gateway)
        for deadline in (5.0, 6.0, None):  # the last one counts
            gateway.reload(upstreams=(far.upstream(call_deadline=deadline),))
        refused = await socket.ask(call(2, "echo", {"text": "x"}))
        assert "is being ended" in refused["error"]["message"]
        with trio.move_on_after(20) as waited:
            await far.dialled()
        assert waited.cancelled_caught
        answer = await socket.answer(1)
        assert trio.current_time() - socket.at == pytest.approx(30, abs=0.1)
        assert "is being ended" in answer["error"]["message"]
        assert await socket.code() == 1001
        await (await far.next()).initialize()


async def test_upstreams_may_come_with_a_reload_and_go(autojump_clock: MockClock) -> None:
    async with cloud() as far, bridge() as gateway:
        gateway.reload(upstreams=(far.upstream(),))
        socket = await far.next()
        await socket.initialize()
        gateway.reload(upstreams=())
        assert await socket.code() == 1001
        assert gateway.service.upstreams() == ()


@pytest.mark.requirement("6.reload")
async def test_one_that_goes_and_comes_back_waits_for_its_own_end(autojump_clock: MockClock) -> None:
    """Clouds take but one connection."""
    async with cloud() as far, bridge(far.upstream(), shutdown_timeout=30.0) as gateway:
        socket = await far.next()
        await socket.initialize()
        await socket.send(call(1, "slow", {"name": "x"}))
        await until_called(gateway)
        gateway.reload(upstreams=())
        gateway.reload(upstreams=(far.upstream(),))
        with trio.move_on_after(20) as waited:
            await far.dialled()
        assert waited.cancelled_caught
        assert "is being ended" in (await socket.answer(1))["error"]["message"]
        assert await socket.code() == 1001
        await (await far.next()).initialize()


@pytest.mark.requirement("6.reload")
async def test_they_are_told_of_in_config_order_whenever_they_came(autojump_clock: MockClock) -> None:
    async with cloud() as far, bridge(far.upstream("b")) as gateway:
        gateway.reload(upstreams=(far.upstream("a"), far.upstream("b")))
        assert [each.name for each in gateway.service.upstreams()] == ["a", "b"]


class Broken:
    """No chance at all."""

    def __call__(self) -> float:
        raise RuntimeError("a bug")


async def fail(gateway: Bridge, socket: Socket) -> None:
    """Have an upstream end by a mistake of ours."""
    upstreams = gateway.service._upstreams
    assert upstreams is not None
    await socket.initialize()
    upstreams._places["cloud"].upstream._random = Broken()
    await socket.close(1000)
    await until(lambda: gateway.upstream().state is State.ENDED)


async def test_a_mistake_of_ours_costs_an_upstream_until_the_next_reload(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with cloud() as far, bridge(far.upstream()) as gateway:
        await fail(gateway, await far.next())
        assert lines(caplog, "upstream 'cloud' has failed")
        gateway.reload(logging=Logging(level="debug"))
        await (await far.next()).initialize()


# ---- the end ---------------------------------------------------------------------------------------------------------


async def test_the_end_waits_for_no_upstream_that_has_failed(autojump_clock: MockClock) -> None:
    async with cloud() as far, bridge(far.upstream()) as gateway:
        await fail(gateway, await far.next())
        gateway.stop.set()
        with trio.fail_after(10):
            await until(lambda: gateway.gateway._life is None)


@pytest.mark.requirement("6.drain")
async def test_at_the_end_calls_in_flight_are_answered_and_goodbye_is_said(autojump_clock: MockClock) -> None:
    async with cloud() as far, bridge(far.upstream(), shutdown_timeout=5.0) as gateway:
        socket = await far.next()
        await socket.initialize()
        await socket.send(call(1, "slow", {"name": "x"}))
        await socket.send(call(2, "slow", {"name": "y"}))
        await until_called(gateway, 2)
        began = trio.current_time()
        gateway.stop.set()
        answers = [await socket.answer(id) for id in (1, 2)]
        assert trio.current_time() - began == pytest.approx(5, abs=0.1)
        assert all("is being ended" in answer["error"]["message"] for answer in answers)
        assert await socket.code() == 1001


@pytest.mark.requirement("6.drain")
@pytest.mark.parametrize("when", ["dialling", "shaking hands", "waiting", "silent"])
async def test_the_end_waits_for_no_cloud(when: str, autojump_clock: MockClock) -> None:
    async with cloud() as far, bridge(far.upstream()) as gateway:
        if when == "shaking hands":
            await far.dialled()
        elif when != "dialling":
            socket = await far.next()
            if when == "waiting":
                await socket.close(4004)
                await until(lambda: gateway.upstream().state is State.WAITING)
        began = trio.current_time()
        gateway.stop.set()
        await until(lambda: not gateway.upstream_count)
    assert trio.current_time() - began <= (2.5 if when == "silent" else 0.1)


# ---- what is to be seen ----------------------------------------------------------------------------------------------


@pytest.mark.requirement("6.bad")
async def test_nothing_that_can_be_printed_holds_the_token(autojump_clock: MockClock) -> None:
    async with cloud() as far, bridge(far.upstream(headers={"X-Key": Secret(TOKEN)})) as gateway:
        await (await far.next()).close(4004, f"no such token: {TOKEN}")
        await until(lambda: gateway.upstream().state is State.WAITING)
        assert gateway.upstream().reason.startswith("closed the WebSocket with code 4004: 'no such token: ***': ")
        place = gateway.service._upstreams._places["cloud"]  # type: ignore[union-attr]  # it is there
        shown = [
            repr(gateway.upstream()),
            repr(place.upstream),
            str(place.upstream.config),
            repr(gateway.gateway.config),
        ]
        assert TOKEN not in " ".join(shown)


async def test_a_namespace_that_is_not_there_is_told(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with cloud() as far, bridge(far.upstream(namespace="none")):
        socket = await far.next()
        answer = await socket.ask(request(1, "initialize", {"protocolVersion": "2024-11-05", "capabilities": {}}))
        assert "there is no namespace or server 'none'" in answer["error"]["message"]
        assert lines(caplog, "there is no namespace 'none'")
        await socket.send(notification("notifications/initialized"))


async def test_a_goodbye_that_nobody_answers_is_said_all_the_same(autojump_clock: MockClock) -> None:
    async with cloud() as far, bridge(far.upstream()) as gateway:
        socket = await far.next()
        gateway.stop.set()
        event = await socket.event()
        assert isinstance(event, CloseConnection)
        assert event.code == 1001
