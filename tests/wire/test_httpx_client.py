"""The second client: through proxies, and over HTTP/2. What it has in common with the first is in `tests/adapters`."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from mcpgateway.config.model import Secret
from mcpgateway.config.proxies import Proxy
from mcpgateway.wire import httpx_client
from mcpgateway.wire.http_client import Deadlines, HttpError
from mcpgateway.wire.httpx_client import HttpxClient, HttpxResponse
from mcpgateway.wire.tls import client_context
from mcpgateway.wire.waiting import Wait
from tests.processes import free_port
from tests.wire import between
from tests.wire.between import CA, port_of
from tests.wire.http1 import certificates
from tests.wire.http1.origins import OK, Line, Script, says, serve_ok

needs_node = pytest.mark.skipif(between.NODE is None, reason="the HTTP/2 front needs Node")

LIMIT = 1 << 20
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SOON = 180.0
"""Seconds after which a test has failed: enough for a thousand requests on a machine that has other things to do."""


class Enough(Exception):
    """What a test ends a wait with."""


@asynccontextmanager
async def behind(*scripts: Script) -> AsyncIterator[str]:
    """A plain origin, to put something in front of: its first connection follows the first script, and so on."""
    accepted = 0

    async def handle(stream: trio.SocketStream) -> None:
        nonlocal accepted
        script = scripts[min(accepted, len(scripts) - 1)]
        accepted += 1
        try:
            await script(Line(stream))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    with trio.fail_after(SOON):
        async with trio.open_nursery() as nursery:
            yield await nursery.start(partial(between.serve, handle), name="origin")
            nursery.cancel_scope.cancel(reason="the test is over")


def client_of(url: str, proxy: str = "", *, http2: bool = False, **deadlines: Any) -> HttpxClient:
    return HttpxClient(
        url,
        deadlines=Deadlines(**deadlines),
        tls=partial(client_context, ca=CA, http2=http2),
        http2=http2,
        proxy=Proxy(Secret(proxy), "'http.proxy'") if proxy else None,
        proxy_tls=partial(client_context, ca=CA),
    )


async def ask(client: HttpxClient, wait: Wait | None = None) -> HttpxResponse:
    return await client.prepare(b"POST", {b"host": b"h"}).exchange(wait or Wait(), b"{}")


async def get(client: HttpxClient) -> tuple[int, bytes]:
    wait = Wait()
    response = await ask(client, wait)
    return response.status, await response.read(wait, LIMIT)


# ---- HTTP/2 ----------------------------------------------------------------------------------------------------------


async def stats() -> Any:
    client = client_of(between.http2_front().stats, http2=True)
    wait = Wait()
    response = await client.prepare(b"GET", {}).exchange(wait)
    assert response.http_version == "HTTP/2"
    found = json.loads(await response.read(wait, LIMIT))
    await client.close_idle()
    return found


async def until(condition: Callable[[Any], bool]) -> Any:
    """What the front has seen, once it is so."""
    with trio.fail_after(SOON):
        while True:
            found = await stats()
            if condition(found):
                return found


@needs_node
@pytest.mark.requirement("4.http.cold")
async def test_http2_is_spoken_where_it_is_offered() -> None:
    async with behind(serve_ok) as url:
        before = (await stats())["protocols"].get("h2", 0)
        client = client_of(between.http2_front().url(url), http2=True)

        response = await ask(client)
        body = await response.read(Wait(), LIMIT)

        assert (response.http_version, response.status, body) == ("HTTP/2", 200, b"ok")
        assert set((await stats())["protocols"]) == {"h2"}
        assert (await stats())["protocols"]["h2"] == before + 1
        await client.close_idle()


async def test_a_server_without_http2_gets_http1() -> None:
    async with behind(serve_ok) as url, between.tls_front(url) as secure:
        client = client_of(secure, http2=True)

        response = await ask(client)

        assert response.http_version == "HTTP/1.1"
        await response.aclose()


@needs_node
@pytest.mark.requirement("4.http.cold")
@pytest.mark.parametrize("phase", ["head", "body"])
@pytest.mark.parametrize("how", ["ended", "cancelled"])
async def test_a_request_that_is_interrupted_resets_its_stream_and_no_other(phase: str, how: str) -> None:
    async def hang(line: Line) -> None:
        await line.request()
        if phase == "body":
            await line.say(CHUNKED + b"3\r\none\r\n")
        await line.closed()

    async def later(line: Line) -> None:
        await line.request()
        await go_on.wait()
        await line.say(OK)
        await line.closed()

    go_on = trio.Event()
    async with behind(later, hang) as url, trio.open_nursery() as nursery:
        client = client_of(between.http2_front().url(url), http2=True)
        before = await until(lambda seen: not seen["streams"])  # those of other tests have gone
        answers: list[tuple[int, bytes]] = []
        answered = trio.Event()

        async def other() -> None:
            answers.append(await get(client))
            answered.set()

        async def interrupted() -> None:
            with scope, pytest.raises(Enough) if how == "ended" else trio.CancelScope():
                response = await ask(client, wait)
                while await response.more(wait):
                    pass

        nursery.start_soon(other)
        await until(lambda seen: seen["streams"] == before["streams"] + 1)
        wait, scope = Wait(), trio.CancelScope()
        nursery.start_soon(interrupted)
        await until(lambda seen: seen["streams"] == before["streams"] + 2)

        if how == "ended":
            wait.end(Enough())
        else:
            scope.cancel(reason="enough")
        await until(lambda seen: seen["streams"] == before["streams"] + 1)
        assert (await stats())["reset"] == before["reset"] + 1
        go_on.set()
        await until(lambda seen: seen["streams"] == before["streams"])
        await answered.wait()

        assert answers == [(200, b"ok")]
        assert client.open_connections == 1
        await client.close_idle()


# ---- many that are interrupted ---------------------------------------------------------------------------------------


@asynccontextmanager
async def tunnel(url: str) -> AsyncIterator[HttpxClient]:
    async with between.tls_front(url) as secure, between.proxy("user:secret") as proxy:
        yield client_of(secure, proxy.url)


@asynccontextmanager
async def http2(url: str) -> AsyncIterator[HttpxClient]:
    yield client_of(between.http2_front().url(url), http2=True)


@asynccontextmanager
async def passed_on(url: str) -> AsyncIterator[HttpxClient]:
    async with between.proxy() as proxy:
        yield client_of(url, proxy.url)


WAYS = {"tunnel": tunnel, "HTTP/2": http2, "passed on": passed_on}


@pytest.mark.requirement("4.http.cold")
@pytest.mark.parametrize("way", [pytest.param(way, marks=needs_node) if "HTTP/2" in way else way for way in WAYS])
@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.real)])
async def test_requests_that_are_interrupted_at_any_moment_leave_nothing(way: str, count: int) -> None:
    chance = random.Random(7)

    async def slowly(line: Line) -> None:
        while await line.request():
            await line.say(CHUNKED + b"3\r\none\r\n")
            await line.say(b"3\r\ntwo\r\n0\r\n\r\n")

    async def until_interrupted(client: HttpxClient, nursery: trio.Nursery) -> None:
        wait = Wait()
        nursery.start_soon(after, chance.randrange(60), wait)
        with pytest.raises(Enough):
            await for_ever(client, wait)

    async def for_ever(client: HttpxClient, wait: Wait) -> None:
        while True:
            assert await (await ask(client, wait)).read(wait, LIMIT) == b"onetwo"

    async def after(moments: int, wait: Wait) -> None:
        for _ in range(moments):
            await trio.lowlevel.checkpoint()
        wait.end(Enough())

    async def several(client: HttpxClient, nursery: trio.Nursery) -> None:
        for _ in range(count // 20):
            await until_interrupted(client, nursery)

    async with behind(slowly) as url, WAYS[way](url) as client:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(several, client, nursery)
        for _ in range(3):
            assert await get(client) == (200, b"onetwo")
        await client.close_idle()
        assert client.open_connections == 0


# ---- connections are kept --------------------------------------------------------------------------------------------


async def test_a_tunnel_is_used_again() -> None:
    async with behind(serve_ok) as url, between.tls_front(url) as secure, between.proxy() as proxy:
        client = client_of(secure, proxy.url)
        for _ in range(3):
            assert await get(client) == (200, b"ok")

        assert (proxy.tunnels, client.open_connections) == (1, 1)
        await client.close_idle()
        assert client.open_connections == 0


async def test_one_request_at_a_time_has_a_connection() -> None:
    async with behind(serve_ok) as url, between.proxy() as proxy:
        client = client_of(url, proxy.url)
        responses = [await ask(client) for _ in range(3)]
        assert client.open_connections == 3
        for response in responses:
            await response.read(Wait(), LIMIT)

        await get(client)

        assert (proxy.passed_on, client.open_connections) == (3, 3)
        await client.close_idle()


async def test_a_kept_connection_that_the_peer_has_closed_is_replaced() -> None:
    async with behind(says(OK), serve_ok) as url, between.tls_front(url) as secure, between.proxy() as proxy:
        client = client_of(secure, proxy.url)
        await get(client)
        while proxy.open:
            await wait_all_tasks_blocked(0.01)

        assert await get(client) == (200, b"ok")
        assert (proxy.tunnels, client.open_connections) == (2, 1)
        await client.close_idle()


async def test_connections_that_nobody_has_needed_for_long_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with behind(serve_ok) as url:
        client = client_of(url)
        responses = [await ask(client) for _ in range(3)]
        for response in responses:
            await response.read(Wait(), LIMIT)
        assert client.open_connections == 3
        monkeypatch.setattr(httpx_client, "KEPT", -1.0)

        await get(client)

        assert client.open_connections == 1
        await client.close_idle()


@pytest.mark.parametrize(("rest", "connections"), [(b"3\r\ntwo\r\n0\r\n\r\n", 1), (b"3\r\ntwo\r\n", 2)])
async def test_a_stream_that_was_left_is_finished_when_its_connection_is_needed(
    rest: bytes, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(httpx_client, "REST", 0.01 if connections == 2 else SOON)

    async def script(line: Line) -> None:
        await line.request()
        await line.say(CHUNKED + b"3\r\none\r\n")
        await line.say(rest)
        await serve_ok(line)

    async with behind(script, serve_ok) as url, between.proxy() as proxy:
        client = client_of(url, proxy.url)
        response = await ask(client)
        assert await response.more(Wait()) == b"one"
        response.leave()
        assert client.open_connections == 1

        assert await get(client) == (200, b"ok")
        assert (proxy.passed_on, client.open_connections) == (connections, 1)
        await client.close_idle()


async def test_a_response_larger_than_the_limit_is_given_up() -> None:
    async with behind(says(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n", b"x" * 11)) as url:
        client = client_of(url)
        response = await ask(client)
        with pytest.raises(HttpError, match="larger than 10 bytes"):
            await response.read(Wait(), 10)
        assert client.open_connections == 0


async def test_headers_of_one_name_are_joined() -> None:
    async with behind(says(b"HTTP/1.1 200 OK\r\nX-One: 1\r\nx-one: 2\r\nContent-Length: 0\r\n\r\n")) as url:
        response = await ask(client_of(url))
        assert response.headers == {b"x-one": b"1, 2", b"content-length": b"0"}
        await response.aclose()


# ---- what a proxy may do ---------------------------------------------------------------------------------------------

Spoilt = Callable[[between.Proxy], None]


def _asks(proxy: between.Proxy) -> None:
    proxy.credentials = "user:other"


def _refuses(status: bytes) -> Spoilt:
    def spoil(proxy: between.Proxy) -> None:
        proxy.refusal = b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % status

    return spoil


def _babbles(proxy: between.Proxy) -> None:
    proxy.refusal = b"SSH-2.0-OpenSSH_9.6 secret\r\n\r\n"


def _hangs_up(proxy: between.Proxy) -> None:
    proxy.hangs_up = True


PROXIES: dict[str, tuple[Spoilt, str]] = {
    "wrong password": (
        _asks,
        r"the proxy {} \('http.proxy'\) refused a connection to the server with HTTP 407; check the user and password",
    ),
    "bad gateway": (
        _refuses(b"502 Bad Gateway"),
        "refused a connection to the server with HTTP 502; it does not reach",
    ),
    "forbidden": (_refuses(b"403 Forbidden"), "refused a connection to the server with HTTP 403; .* or may not"),
    "no HTTP": (_babbles, r"the proxy {} \('http.proxy'\) gave no connection to the server"),
    "closes": (_hangs_up, r"the proxy {} \('http.proxy'\) gave no connection to the server"),
}


@pytest.mark.requirement("4.http.cold")
@pytest.mark.parametrize("case", PROXIES)
async def test_a_proxy_that_fails_is_named(case: str) -> None:
    spoil, said = PROXIES[case]
    async with behind(serve_ok) as url, between.tls_front(url) as secure, between.proxy("user:secret") as proxy:
        client = client_of(secure, proxy.url)
        spoil(proxy)
        with pytest.raises(HttpError, match=said.format(proxy.place)) as caught:
            await get(client)

        assert caught.value.unsent
        assert "secret" not in f"{caught.value} {caught.value!r} {client!r} {client.proxy!r}"
        assert client.open_connections == 0


async def test_a_proxy_that_passes_requests_on_asks_for_credentials_too() -> None:
    async with behind(serve_ok) as url, between.proxy("user:secret") as proxy:
        client = client_of(url, f"http://{proxy.place}")
        with pytest.raises(HttpError, match="refused the request with HTTP 407; check the user") as caught:
            await get(client)

        assert caught.value.unsent
        assert client.open_connections == 0


async def test_a_proxy_that_is_not_there_is_named() -> None:
    place = f"127.0.0.1:{free_port()}"
    client = client_of("https://mcp.example/mcp", f"http://user:secret@{place}")
    with pytest.raises(HttpError, match=rf"^cannot connect to the proxy {place} .*Connection refused$") as caught:
        await get(client)
    assert caught.value.unsent
    assert client.open_connections == 0


async def test_a_proxy_that_is_silent_takes_its_time_from_connecting(mock_clock: MockClock) -> None:
    async with behind(serve_ok) as url, between.proxy() as proxy, trio.open_nursery() as nursery:
        proxy.silent = True
        client = client_of(url.replace("http:", "https:"), proxy.url, connect=7)

        async def call() -> None:
            with pytest.raises(
                HttpError, match=r"^no connection within 7 s through the proxy 127.* \(connect_timeout\)"
            ):
                await get(client)

        nursery.start_soon(call)
        while not proxy.heads:
            await wait_all_tasks_blocked()
        mock_clock.jump(7)
        await wait_all_tasks_blocked()
    assert client.open_connections == 0


async def test_tls_that_fails_in_the_tunnel_says_so() -> None:
    async with behind(serve_ok) as url, between.tls_front(url) as secure, between.proxy() as proxy:
        client = HttpxClient(secure, proxy=Proxy(Secret(proxy.url), "HTTPS_PROXY"))
        through = rf"^cannot connect to the server through the proxy {proxy.place} \(HTTPS_PROXY\): "
        with pytest.raises(HttpError, match=rf"{through}.*CERTIFICATE_VERIFY_FAILED.*http\.ca") as caught:
            await get(client)
        assert caught.value.unsent
        assert client.open_connections == 0


async def test_a_proxy_may_be_reached_over_tls() -> None:
    async with behind(serve_ok) as url, between.tls_front(url) as secure, between.proxy("user:secret") as proxy:
        async with between.tls_front(f"http://{proxy.place}") as place:
            client = client_of(secure, place.replace("https://", "https://user:secret@"))
            assert await get(client) == (200, b"ok")
            assert proxy.tunnels == 1
            await client.close_idle()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("socks5://user:secret@h:1", "must begin with http:// or https://"),
        ("http://user:sec/secret@h:1", "must end after host and port"),
        ("http://user:sec@secret@h:1", "must end after host and port"),
        ("http://user:secret@h:port", "is no URL: its host or port is malformed"),
        ("http://user:secret@", "has no host"),
    ],
)
async def test_a_proxy_that_cannot_be_used_is_refused_when_it_is_needed(url: str, said: str) -> None:
    client = HttpxClient("https://mcp.example/", proxy=Proxy(Secret(url), "ALL_PROXY"))
    with pytest.raises(HttpError, match=f"^cannot connect: the proxy of ALL_PROXY {said}") as caught:
        await get(client)
    assert caught.value.unsent
    assert client.open_connections == 0
    assert "sec" not in f"{caught.value} {client!r}"


@needs_node
async def test_credentials_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """hpack logs what it packs."""
    with caplog.at_level(logging.DEBUG):
        async with behind(serve_ok) as url:
            client = client_of(between.http2_front().url(url), http2=True)
            prepared = client.prepare(b"POST", {b"x-api-key": b"secret"})
            response = await prepared.exchange(Wait(), b"{}")
            assert response.http_version == "HTTP/2"
            await response.aclose()
    assert "secret" not in caplog.text


@pytest.mark.parametrize("phase", ["tunnel", "TLS", "head", "body"])
async def test_the_end_of_a_wait_interrupts_in_every_phase(phase: str) -> None:
    async def script(line: Line) -> None:
        if phase != "TLS":
            await line.request()
            if phase == "body":
                await line.say(CHUNKED + b"3\r\none\r\n")
        await line.closed()

    async with behind(script) as url, between.proxy() as proxy, trio.open_nursery() as nursery:
        proxy.silent = phase == "tunnel"
        async with between.tls_front(url) as secure:
            target = url.replace("http:", "https:") if phase == "TLS" else secure
            client = client_of(target, proxy.url)
            wait, raised = Wait(), []

            async def call() -> None:
                try:
                    await (await ask(client, wait)).read(wait, LIMIT)
                except Enough as problem:
                    raised.append(problem)

            nursery.start_soon(call)
            await wait_all_tasks_blocked(0.05)
            assert client.open_connections == 1
            wait.end(Enough())
            while proxy.open or not raised:
                await wait_all_tasks_blocked(0.01)

            assert len(raised) == 1
            assert client.open_connections == 0
            assert proxy.open == 0


async def test_nothing_is_sent_under_a_wait_that_is_over() -> None:
    async with behind(serve_ok) as url:
        client, wait = client_of(url), Wait()
        wait.end(Enough())
        with pytest.raises(Enough):
            await ask(client, wait)
        assert client.open_connections == 0


def test_where_a_url_leads_may_be_shown_without_credentials() -> None:
    client = HttpxClient("https://mcp.example/mcp?key=x", proxy=Proxy(Secret("http://u:secret@p:3128"), "HTTPS_PROXY"))
    assert repr(client) == "<HttpxClient mcp.example through p:3128 0 open, 0 idle>"


def test_certificates_of_the_tests_are_on_disk() -> None:
    assert CA.read_bytes() == certificates.issued().authority
    assert port_of("http://127.0.0.1:81/x") == 81
