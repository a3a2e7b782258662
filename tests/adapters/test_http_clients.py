"""Which client reaches a server, and what the gateway's environment has to do with it."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import trio

from mcpgateway.adapters.factory import Commons, adapter_for
from mcpgateway.adapters.http_clients import client_for
from mcpgateway.adapters.streamable_http import StreamableHttpAdapter
from mcpgateway.app import open_gateway
from mcpgateway.config.model import CertAndKey, Config, HttpOptions, HttpServer, LoginShell, Secret
from mcpgateway.errors import ServerUnavailable
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.client import make_offer
from mcpgateway.wire.guard import Guard
from mcpgateway.wire.http1.client import Pool
from mcpgateway.wire.httpx_client import HttpxClient
from mcpgateway.wire.login_path import LoginPath
from mcpgateway.wire.readiness import Poller
from tests.adapters.http_peer import Peer
from tests.wire import between

SERVER = HttpServer("s", url="https://mcp.example/mcp")
CLIENTS = {
    "plain": (HttpOptions(), {}, Pool),
    "authority": (HttpOptions(ca=Path("/ca.pem")), {}, Pool),
    "certificate": (HttpOptions(client_cert=CertAndKey(Path("/c"), Path("/k"))), {}, Pool),
    "HTTP/2": (HttpOptions(http2=True), {}, HttpxClient),
    "proxy": (HttpOptions(proxy=Secret("http://p:1")), {}, HttpxClient),
    "proxy of the environment": (HttpOptions(), {"HTTPS_PROXY": "http://p:1"}, HttpxClient),
    "proxy switched off": (HttpOptions(proxy=Secret("none")), {"HTTPS_PROXY": "http://p:1"}, Pool),
    "proxy for others": (HttpOptions(), {"HTTP_PROXY": "http://p:1"}, Pool),
}


@pytest.mark.requirement("4.http.cold")
@pytest.mark.parametrize("case", CLIENTS)
def test_which_client(case: str) -> None:
    options, environ, expected = CLIENTS[case]
    client = client_for(attrs.evolve(SERVER, http=options), Poller(), environ)
    assert type(client) is expected


def test_the_deadlines_are_those_of_the_server() -> None:
    given = client_for(
        attrs.evolve(SERVER, connect_timeout=1.0, first_byte_timeout=2.0, stall_timeout=3.0), Poller(), {}
    ).deadlines
    default = client_for(SERVER, Poller(), {}).deadlines
    assert (given.connect, given.first_byte, given.body, given.stream) == (1.0, 2.0, 3.0, 3.0)
    assert (default.connect, default.first_byte, default.body, default.stream) == (10.0, None, 30.0, None)
    assert str(given.late("x")) == "server 's': x"


async def test_the_environment_is_that_of_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    async with between.proxy("me:secret") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        async with open_gateway(Config(servers={"s": SERVER})) as gateway:
            await gateway.ready()
        assert proxy.heads[0].startswith(b"CONNECT mcp.example:443 HTTP/1.1\r\n")


@pytest.mark.requirement("4.http.cold")
async def test_a_proxy_that_refuses_is_named_by_the_server_it_stands_before(nursery: trio.Nursery, peer: Peer) -> None:
    async with between.proxy("me:secret") as proxy:
        environ = {"https_proxy": f"http://me:wrong@{proxy.place}"}
        guard = Guard()
        adapter = adapter_for(SERVER, Commons(Poller(), guard, LoginPath(LoginShell(), guard), environ))
        with pytest.raises(ServerUnavailable) as caught:
            await adapter.connect(nursery, make_offer(Era.LEGACY), lambda message: None)
    assert str(caught.value) == (
        f"server 's': the proxy {proxy.place} (HTTPS_PROXY) refused a connection to the server with HTTP 407; "
        "check the user and password in its URL"
    )
    assert caught.value.unsent


@pytest.mark.parametrize("http2", [False, True], ids=["Pool", "HttpxClient"])
async def test_a_certificate_that_cannot_be_read_is_named(http2: bool, nursery: trio.Nursery) -> None:
    options = HttpOptions(http2=http2, ca=Path("/no/such/ca.pem"))
    adapter = StreamableHttpAdapter(attrs.evolve(SERVER, url="https://127.0.0.1:1/", http=options), Poller())
    with pytest.raises(ServerUnavailable, match=r"cannot connect: ") as caught:
        await adapter.connect(nursery, make_offer(Era.LEGACY), lambda message: None)
    assert caught.value.unsent
    assert adapter.client.open_connections == 0


@pytest.mark.skipif(between.NODE is None, reason="the front needs Node")
async def test_a_server_that_asks_for_a_certificate_and_gets_none(nursery: trio.Nursery, peer: Peer) -> None:
    url = between.http2_front().url(peer.url, demanding=True)
    adapter = StreamableHttpAdapter(attrs.evolve(SERVER, url=url, http=HttpOptions(ca=between.CA)), Poller())
    with pytest.raises(ServerUnavailable, match=r"so set 'http\.client_cert'$"):
        await adapter.connect(nursery, make_offer(Era.LEGACY), lambda message: None)
    assert adapter.client.open_connections == 0
