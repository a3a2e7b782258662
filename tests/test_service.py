"""A gateway that serves, with another configuration: the listener, its rules and its certificates."""

from __future__ import annotations

import ssl
from functools import partial
from pathlib import Path

import pytest
import trio

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import NoBack, Request
from mcpgateway.app import Service
from mcpgateway.catalog.rules import ToolRules
from mcpgateway.config.limits import Limits
from mcpgateway.config.model import CertAndKey, Config, HttpServer, InProcessServer, Listen
from mcpgateway.gateway import Gateway
from mcpgateway.wire.http1.server import bind
from mcpgateway.wire.waiting import Wait
from tests.calls.doubles import handshake, legacy, space
from tests.calls.newsroom import newsroom
from tests.fronts.site import GUARD, Client, Site, adapters, call, request, site, text
from tests.wire.http1.certificates import issued, trusting

PATH = "/mcp/one"


def port_of(gateway: Site) -> int:
    """Where it listens now."""
    return int(gateway.service.url.rpartition(":")[2])


def free_port() -> int:
    (listener,) = bind("127.0.0.1", 0)
    with listener:
        port: int = listener.getsockname()[1]
        return port


async def refused(port: int) -> bool:
    try:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
    except OSError:
        return True
    await stream.aclose()
    return False


# ---- the same address ------------------------------------------------------------------------------------------------


@pytest.mark.requirement("4.life.reload")
async def test_rules_of_the_listener_change_in_place_and_connections_stay() -> None:
    async with site() as gateway:
        client = await gateway.dial()
        session = await client.initialize(PATH)
        foreign = {"Host": f"example.com:{gateway.port}"}
        page = {"Origin": "https://page.example", **foreign}
        assert (await client.ask("GET", "/livez", headers=foreign)).status == 403

        gateway.reload(allowed_hosts=("example.com",), cors=("https://page.example",), limits=Limits(body_bytes=100))

        assert (await client.ask("GET", "/livez", headers=foreign)).status == 200
        assert (await client.ask("OPTIONS", PATH, headers=page)).status == 204
        assert text(await session.post(client, call(1, "echo", {"text": "x" * 1000}))) == "x" * 1000
        later = await gateway.dial()
        assert (await session.post(later, call(2, "echo", {"text": "x" * 1000}))).status == 413
        assert port_of(gateway) == gateway.port


async def test_what_a_server_shows_changes_between_two_calls_of_a_connection() -> None:
    async with site() as gateway:
        client = await gateway.dial()
        session = await client.initialize(PATH)
        (server,) = gateway.gateway.config.servers.values()
        hidden = InProcessServer("one", module="object:given", tools=ToolRules(deny=("echo",)))
        for servers, outcome in ({"one": hidden}, "error"), ({"one": server}, "result"):
            gateway.reload(servers=servers)
            assert outcome in (await session.post(client, call(1, "echo"))).json


@pytest.mark.requirement("4.life.reload")
async def test_clients_of_a_namespace_that_has_gone_get_404_and_calls_in_flight_their_answer() -> None:
    async with site(adapters("one", "two"), shutdown_timeout=GUARD) as gateway:
        slow, client = await gateway.dial(), await gateway.dial()
        session = await client.initialize("/mcp/two")
        await session.start(slow, call(1, "slow", {"name": "x"}))
        await session.post(client, call(2, "waiting", {"count": 1}))
        link = gateway.adapters["two"].links[-1]

        gateway.reload(servers={"one": gateway.gateway.config.servers["one"]})

        assert (await session.post(client, call(3, "echo"))).status == 404
        assert (await client.post("/mcp/two", request(4, "initialize"))).status == 404
        release = jsonrpc.request(b"0", "tools/call", {"name": "release", "arguments": {}})
        await link.call(Request(release, Wait()), NoBack())
        assert text(await slow.answer()) == "x"
        assert (await session.post(client, request(5, "ping"))).status == 404


# ---- another address -------------------------------------------------------------------------------------------------


@pytest.mark.requirement("4.life.reload")
async def test_a_listener_that_moves_opens_first_and_the_old_one_drains() -> None:
    async with site(shutdown_timeout=GUARD) as gateway:
        idle, slow, client = [await gateway.dial() for _ in range(3)]
        session = await client.initialize(PATH)
        await idle.ask("GET", "/livez")
        await session.start(slow, call(1, "slow", {"name": "x"}))
        await session.post(client, call(2, "waiting", {"count": 1}))

        gateway.reload(port=free_port())

        assert port_of(gateway) != gateway.port
        assert await idle.ended()
        assert await refused(gateway.port)
        moved = await gateway.dial(port=port_of(gateway))
        assert text(await session.post(moved, call(3, "release"))) == "released"
        assert text(await slow.answer()) == "x"
        assert await slow.ended()


async def test_what_has_ended_listens_nowhere() -> None:
    """Whoever writes down where it listens may ask a moment too late."""
    async with site() as gateway:
        assert gateway.service.url
    assert gateway.service.url == ""


@pytest.mark.requirement("4.life.reload")
async def test_an_address_that_is_taken_refuses_all_of_the_reload() -> None:
    (taken,) = bind("127.0.0.1", 0)
    with taken:
        async with site() as gateway:
            client = await gateway.dial()
            session = await client.initialize(PATH)
            with pytest.raises(OSError, match="in use"):
                gateway.reload(port=taken.getsockname()[1], servers={})
            assert list(gateway.gateway.servers) == ["one"]
            assert text(await session.post(client, call(1, "echo", {"text": "hi"}))) == "hi"
            assert (port_of(gateway), await refused(gateway.port)) == (gateway.port, False)


@pytest.mark.parametrize("there_and_back", [("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1")])
async def test_a_port_may_move_between_addresses_of_the_machine(there_and_back: tuple[str, str]) -> None:
    port = free_port()
    async with site() as gateway:
        gateway.reload(port=port)
        for host in there_and_back:
            gateway.reload(host=host)
            assert port_of(gateway) == port
            if host != "::":
                assert (await (await gateway.dial(port=port)).ask("GET", "/livez")).status == 200
            with pytest.raises(OSError, match="in use"):
                bind(host, port)


async def test_servers_that_cannot_be_made_close_the_listener_that_was_opened_for_them() -> None:
    port = free_port()
    async with site() as gateway:
        with pytest.raises(ValueError, match="not an http"):
            gateway.reload(port=port, servers={"h": HttpServer("h", url="ftp://x")})
        assert await refused(port)
        assert port_of(gateway) == gateway.port


async def test_the_end_drains_a_listener_that_has_moved_too() -> None:
    async with site(shutdown_timeout=0.2) as gateway:
        slow, client = await gateway.dial(), await gateway.dial()
        session = await client.initialize(PATH)
        await session.start(slow, call(1, "slow", {"name": "x"}))
        await session.post(client, call(2, "waiting", {"count": 1}))
        gateway.reload(port=free_port())
        gateway.stop.set()
        assert "shutting down" in (await slow.answer()).json["error"]["message"]


@pytest.mark.parametrize("attempt", range(10))
async def test_surroundings_that_are_cancelled_end_it_with_its_sessions(attempt: int) -> None:
    """Several times, because the order in which tasks are cancelled is any."""
    adapter = newsroom("h")
    config = Config(listen=Listen(port=0), servers={"h": HttpServer("h", url="http://h/mcp")})
    gateway = Gateway(config, {"h": adapter})
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(Service(gateway).run, stop=trio.Event()))
        await gateway.ready()
        for id in "123":
            caller = legacy()
            await space(gateway, "h").initialize(caller, handshake(), id)
            gateway.sessions.open(id, "h", caller)
        nursery.cancel_scope.cancel(reason="the test is over")
    assert (adapter.open, len(gateway.sessions)) == ([], 0)


# ---- TLS -------------------------------------------------------------------------------------------------------------


async def secured(gateway: Site, generation: int = 0) -> trio.SSLStream[trio.SocketStream]:
    """A connection that trusts the certificates of a generation."""
    raw = await trio.open_tcp_stream("127.0.0.1", port_of(gateway))
    stream = trio.SSLStream(raw, trusting(generation), server_hostname="127.0.0.1")
    try:
        await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(raw)
        raise
    return stream


async def is_alive(stream: trio.abc.Stream) -> bool:
    client = Client(stream, "127.0.0.1")  # type: ignore[arg-type]  # any stream will do
    return (await client.ask("GET", "/livez")).status == 200


@pytest.mark.requirement("4.life.reload")
async def test_renewed_certificates_are_read_at_every_reload_and_connections_stay(tmp_path: Path) -> None:
    cert, key = issued(0).write(tmp_path)
    async with site(listen=Listen(tls=CertAndKey(cert, key))) as gateway:
        async with await secured(gateway) as before:
            assert await is_alive(before)
            issued(1).write(tmp_path)
            gateway.reload()
            with pytest.raises(trio.BrokenResourceError):
                await secured(gateway)
            async with await secured(gateway, 1) as after:
                assert await is_alive(after)
            assert await is_alive(before)


@pytest.mark.requirement("4.life.reload")
@pytest.mark.parametrize("broken", [b"junk", b""])
async def test_a_broken_certificate_refuses_the_reload(broken: bytes, tmp_path: Path) -> None:
    cert, key = issued(0).write(tmp_path)
    async with site(listen=Listen(tls=CertAndKey(cert, key))) as gateway:
        cert.write_bytes(broken)
        with pytest.raises(ssl.SSLError):
            gateway.reload(servers={})
        assert list(gateway.gateway.servers) == ["one"]
        async with await secured(gateway) as still:
            assert await is_alive(still)


async def test_tls_is_taken_up_and_given_up_at_the_same_address(tmp_path: Path) -> None:
    cert, key = issued(0).write(tmp_path)
    async with site() as gateway:
        plain = await gateway.dial()
        assert (await plain.ask("GET", "/livez")).status == 200
        gateway.reload(tls=CertAndKey(cert, key))
        assert gateway.service.url == f"https://127.0.0.1:{gateway.port}"
        assert await plain.ended()
        async with await secured(gateway) as stream:
            assert await is_alive(stream)
        gateway.reload(tls=None)
        assert (await (await gateway.dial()).ask("GET", "/livez")).status == 200


# ---- without a listener ----------------------------------------------------------------------------------------------


@pytest.mark.requirement("6.bridge.listener", "4.life.reload")
async def test_a_listener_may_come_with_a_reload_and_go_again() -> None:
    gateway = Gateway(Config(listen=Listen(port=free_port()), shutdown_timeout=1.0))
    service, stop = Service(gateway, listening=False), trio.Event()
    async with trio.open_nursery() as nursery:
        assert await nursery.start(partial(service.run, stop=stop)) == ""
        assert await refused(gateway.config.listen.port)

        service.reconfigure(gateway.config)
        assert await refused(gateway.config.listen.port)
        service.reconfigure(gateway.config, listening=True)
        assert service.url == f"http://127.0.0.1:{gateway.config.listen.port}"
        stream = await trio.open_tcp_stream("127.0.0.1", gateway.config.listen.port)
        client = Client(stream, "127.0.0.1")
        assert (await client.ask("GET", "/livez")).status == 200

        service.reconfigure(gateway.config, listening=False)
        assert service.url == ""
        assert await refused(gateway.config.listen.port)
        assert await client.ended()
        await client.aclose()
        stop.set()


async def test_a_listener_that_cannot_be_opened_changes_nothing() -> None:
    (taken,) = bind("127.0.0.1", 0)
    gateway = Gateway(Config())
    service, stop = Service(gateway, listening=False), trio.Event()
    with taken:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(service.run, stop=stop))
            config = Config(listen=Listen(port=taken.getsockname()[1]), page_size=7)
            with pytest.raises(OSError, match="in use"):
                service.reconfigure(config, listening=True)
            assert (service.url, gateway.config.page_size) == ("", Config().page_size)
            stop.set()
