"""Every adapter is held to the public contract; another adapter is one more line in ``ADAPTERS``."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final, TypeAlias

import pytest
import trio

from mcpgateway.adapters.in_process import InProcessAdapter
from mcpgateway.adapters.sse import SseAdapter
from mcpgateway.adapters.stdio import StdioAdapter
from mcpgateway.adapters.streamable_http import StreamableHttpAdapter
from mcpgateway.adapters.websocket import WebSocketAdapter
from mcpgateway.config.model import HttpOptions, HttpServer, Secret, SseServer, StdioServer, Tls, WebSocketServer
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing import AdapterUnderTest, check_adapter
from mcpgateway.testing.contract import CHECKS
from mcpgateway.testing.http import serve_fixture
from mcpgateway.testing.memory import MemoryAdapter
from mcpgateway.wire.guard import Guard
from mcpgateway.wire.readiness import Poller
from tests.adapters import sdk_server
from tests.adapters.sse_fixture import serve_sse_fixture
from tests.adapters.websocket_fixture import serve_websocket_fixture
from tests.processes import free_port
from tests.wire import between
from tests.wire.http1 import certificates


@asynccontextmanager
async def memory() -> AsyncIterator[AdapterUnderTest]:
    dead, silent = MemoryAdapter("fixture"), MemoryAdapter("fixture")
    dead.dead = silent.silent = True
    yield AdapterUnderTest(
        MemoryAdapter("fixture"),
        dead=dead,
        silent=silent,
        only={era: MemoryAdapter("fixture", eras={era}) for era in Era},
        last_words="boom",
    )


@asynccontextmanager
async def in_process() -> AsyncIterator[AdapterUnderTest]:
    yield AdapterUnderTest(
        InProcessAdapter("fixture", sdk_server.make),
        dead=InProcessAdapter("fixture", "tests.adapters.sdk_server:no_such_thing"),
        silent=InProcessAdapter("fixture", sdk_server.make_silent),
        last_words="SystemExit",
        lacks={"keeps_unknown_members": "the SDK drops from results what it does not model"},
    )


@asynccontextmanager
async def stdio() -> AsyncIterator[AdapterUnderTest]:
    guard = Guard()

    def make(*args: str, program: str = sys.executable) -> StdioAdapter:
        args = ("-m", "mcpgateway.testing.fixture_server", *args)
        return StdioAdapter(StdioServer("fixture", command=program, args=args), guard, grace=1.0)

    try:
        yield AdapterUnderTest(
            make(),
            dead=make(program="no-such-command"),
            silent=make("--silent"),
            only={era: make("--era", era.value) for era in Era},
            last_words="boom",
        )
    finally:
        await guard.aclose()


NO_SESSION = "what belongs to no call belongs to a session, and these servers keep none"
NO_SOCKET = "an HTTP link has no connection of its own to lose; test_streamable_http says what a crash does to calls"
JSON_ONLY = dict.fromkeys(
    (
        "delivers_progress_in_order_before_the_reply",
        "relays_what_the_server_asks_a_call_that_is_alone",
        "keeps_a_subscription_under_the_clients_id",
    ),
    "plain JSON has no room for anything but the reply",
)


Route: TypeAlias = Callable[[str, AsyncExitStack], Awaitable[HttpServer]]
"""Leads to an ``http://`` URL some other way, by what it leaves on the stack."""


@asynccontextmanager
async def straight() -> AsyncIterator[Route]:
    async def lead(url: str, stack: AsyncExitStack) -> HttpServer:
        return HttpServer("fixture", url=url)

    yield lead


@asynccontextmanager
async def tls() -> AsyncIterator[Route]:
    """To a server that asks for a certificate, by the fast client."""

    async def lead(url: str, stack: AsyncExitStack) -> HttpServer:
        secure = await stack.enter_async_context(between.tls_front(url, certificates.demanding()))
        return HttpServer("fixture", url=secure, http=HttpOptions(ca=between.CA, client_cert=between.CLIENT))

    yield lead


@asynccontextmanager
async def proxied(*, secure: bool, credentials: str = "") -> AsyncIterator[Route]:
    async with between.proxy(credentials) as proxy:
        options = HttpOptions(proxy=Secret(proxy.url), ca=between.CA if secure else None)

        async def lead(url: str, stack: AsyncExitStack) -> HttpServer:
            if secure:
                url = await stack.enter_async_context(between.tls_front(url))
            return HttpServer("fixture", url=url, http=options)

        yield lead
        assert (proxy.tunnels if secure else proxy.passed_on) > 0


@asynccontextmanager
async def http2() -> AsyncIterator[Route]:
    """HTTP/2 and nothing else."""

    async def lead(url: str, stack: AsyncExitStack) -> HttpServer:
        front = between.http2_front()
        return HttpServer("fixture", url=front.url(url), http=HttpOptions(http2=True, ca=between.CA))

    yield lead


@asynccontextmanager
async def everything() -> AsyncIterator[Route]:
    """HTTP/2, to a server that asks for a certificate, through a proxy that asks for credentials."""
    async with between.proxy("user:secret") as proxy:

        async def lead(url: str, stack: AsyncExitStack) -> HttpServer:
            options = HttpOptions(proxy=Secret(proxy.url), http2=True, client_cert=between.CLIENT, ca=between.CA)
            return HttpServer("fixture", url=between.http2_front().url(url, demanding=True), http=options)

        yield lead
        assert proxy.tunnels > 0


@asynccontextmanager
async def http(
    *, stateful: bool, json: bool, route: Callable[[], AbstractAsyncContextManager[Route]] = straight
) -> AsyncIterator[AdapterUnderTest]:
    poller = Poller()
    adapters: list[StreamableHttpAdapter] = []

    def sockets() -> Sequence[object]:
        return [adapter for adapter in adapters if adapter.client.open_connections]

    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(poller.run)
        lead = await stack.enter_async_context(route())

        async def make(url: str) -> StreamableHttpAdapter:
            adapters.append(StreamableHttpAdapter(await lead(url, stack), poller))
            return adapters[-1]

        serve = partial(serve_fixture, stateful=stateful, json=json)
        fixture = await stack.enter_async_context(serve())
        silent = await stack.enter_async_context(serve(silent=True))
        only = {era: await stack.enter_async_context(serve(eras={era})) for era in Era}
        yield AdapterUnderTest(
            await make(fixture.url),
            dead=await make(f"http://127.0.0.1:{free_port()}/mcp"),
            silent=await make(silent.url),
            only={era: await make(server.url) for era, server in only.items()},
            leftovers=sockets,
            lacks={
                "fails_calls_when_the_server_crashes": NO_SOCKET,
                **({} if stateful else {"hands_over_what_belongs_to_no_call": NO_SESSION}),
                **(JSON_ONLY if json else {}),
            },
        )
        nursery.cancel_scope.cancel(reason="the check is over")


@asynccontextmanager
async def sse(
    *, absolute: bool, route: Callable[[], AbstractAsyncContextManager[Route]] = straight
) -> AsyncIterator[AdapterUnderTest]:
    poller = Poller()
    adapters: list[SseAdapter] = []
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(poller.run)
        lead = await stack.enter_async_context(route())

        async def make(url: str) -> SseAdapter:
            led = await lead(url, stack)
            adapters.append(SseAdapter(SseServer("fixture", url=led.url, http=led.http), poller))
            return adapters[-1]

        serve = partial(serve_sse_fixture, absolute=absolute)
        fixture = await stack.enter_async_context(serve())
        silent = await stack.enter_async_context(serve(silent=True))
        only = {era: await stack.enter_async_context(serve(eras={era})) for era in Era}
        yield AdapterUnderTest(
            await make(fixture.url),
            dead=await make(f"http://127.0.0.1:{free_port()}/sse"),
            silent=await make(silent.url),
            only={era: await make(server.url) for era, server in only.items()},
            last_words="ended its event stream",
            leftovers=lambda: [adapter for adapter in adapters if adapter.open_connections],
        )
        nursery.cancel_scope.cancel(reason="the check is over")


@asynccontextmanager
async def websocket(*, secure: bool) -> AsyncIterator[AdapterUnderTest]:
    def make(url: str) -> WebSocketAdapter:
        return WebSocketAdapter(WebSocketServer("fixture", url=url, tls=Tls(ca=between.CA if secure else None)))

    async with AsyncExitStack() as stack:
        serve = partial(serve_websocket_fixture, tls=certificates.listening() if secure else None)
        fixture = await stack.enter_async_context(serve())
        silent = await stack.enter_async_context(serve(silent=True))
        only = {era: await stack.enter_async_context(serve(eras={era})) for era in Era}
        yield AdapterUnderTest(
            make(fixture.url),
            dead=make(f"ws://127.0.0.1:{free_port()}/mcp"),
            silent=make(silent.url),
            only={era: make(server.url) for era, server in only.items()},
            last_words="boom",
        )


Subjects: TypeAlias = dict[str, Callable[[], AbstractAsyncContextManager[AdapterUnderTest]]]

_HTTP2: Final[Subjects] = {
    "streamable-http, HTTP/2": partial(http, stateful=True, json=False, route=http2),
    "streamable-http, HTTP/2 and all": partial(http, stateful=False, json=True, route=everything),
    "sse, HTTP/2": partial(sse, absolute=False, route=http2),
}

ROUTED: Final[Subjects] = {
    "streamable-http, client certificate": partial(http, stateful=True, json=False, route=tls),
    "streamable-http, tunnel": partial(
        http, stateful=True, json=False, route=partial(proxied, secure=True, credentials="me:it%20is")
    ),
    "streamable-http, proxy": partial(http, stateful=False, json=True, route=partial(proxied, secure=False)),
    "sse, tunnel": partial(sse, absolute=False, route=partial(proxied, secure=True)),
    "websocket, TLS": partial(websocket, secure=True),
    **(_HTTP2 if between.NODE else {}),
}
"""Over connections on which no call can be begun without a task, or in no other way than on those that are plain. The
front that speaks HTTP/2 needs Node."""

ADAPTERS: Final[Subjects] = {
    "in-process": in_process,
    "memory": memory,
    "stdio": stdio,
    "streamable-http, sessions, SSE": partial(http, stateful=True, json=False),
    "streamable-http, sessions, JSON": partial(http, stateful=True, json=True),
    "streamable-http, stateless, SSE": partial(http, stateful=False, json=False),
    "streamable-http, stateless, JSON": partial(http, stateful=False, json=True),
    "sse": partial(sse, absolute=True),
    "websocket": partial(websocket, secure=False),
    **ROUTED,
}


REAL: Final = ROUTED.keys() - {"streamable-http, tunnel"}
"""With certificates, a process of Node's, or another client of the same kind: what takes its time comes last."""


@pytest.mark.requirement("4.http.cold")
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "adapter", [pytest.param(name, marks=pytest.mark.real if name in REAL else ()) for name in ADAPTERS]
)
@pytest.mark.requirement("5.adapters")
async def test_the_adapter_keeps_the_contract(adapter: str, check: str) -> None:
    await check_adapter(ADAPTERS[adapter], only=check)
