"""Every adapter is held to the public contract; another adapter is one more line in ``ADAPTERS``."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final

import pytest
import trio

from mcpgateway.adapters.in_process import InProcessAdapter
from mcpgateway.adapters.stdio import StdioAdapter
from mcpgateway.adapters.streamable_http import StreamableHttpAdapter
from mcpgateway.config.model import HttpServer, StdioServer
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing import AdapterUnderTest, check_adapter
from mcpgateway.testing.contract import CHECKS
from mcpgateway.testing.http import serve_fixture
from mcpgateway.testing.memory import MemoryAdapter
from mcpgateway.wire.guard import Guard
from mcpgateway.wire.readiness import Poller
from tests.adapters import sdk_server
from tests.processes import free_port


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


@asynccontextmanager
async def http(*, stateful: bool, json: bool) -> AsyncIterator[AdapterUnderTest]:
    poller = Poller()
    adapters: list[StreamableHttpAdapter] = []

    def make(url: str) -> StreamableHttpAdapter:
        adapters.append(StreamableHttpAdapter(HttpServer("fixture", url=url), poller))
        return adapters[-1]

    def sockets() -> Sequence[object]:
        return [adapter for adapter in adapters if adapter.pool.open_connections]

    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(poller.run)
        serve = partial(serve_fixture, stateful=stateful, json=json)
        fixture = await stack.enter_async_context(serve())
        silent = await stack.enter_async_context(serve(silent=True))
        only = {era: await stack.enter_async_context(serve(eras={era})) for era in Era}
        yield AdapterUnderTest(
            make(fixture.url),
            dead=make(f"http://127.0.0.1:{free_port()}/mcp"),
            silent=make(silent.url),
            only={era: make(server.url) for era, server in only.items()},
            leftovers=sockets,
            lacks={
                "fails_calls_when_the_server_crashes": NO_SOCKET,
                **({} if stateful else {"hands_over_what_belongs_to_no_call": NO_SESSION}),
                **(JSON_ONLY if json else {}),
            },
        )
        nursery.cancel_scope.cancel(reason="the check is over")


ADAPTERS: Final[dict[str, Callable[[], AbstractAsyncContextManager[AdapterUnderTest]]]] = {
    "in-process": in_process,
    "memory": memory,
    "stdio": stdio,
    "streamable-http, sessions, SSE": partial(http, stateful=True, json=False),
    "streamable-http, sessions, JSON": partial(http, stateful=True, json=True),
    "streamable-http, stateless, SSE": partial(http, stateful=False, json=False),
    "streamable-http, stateless, JSON": partial(http, stateful=False, json=True),
}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_the_adapter_keeps_the_contract(adapter: str, check: str) -> None:
    await check_adapter(ADAPTERS[adapter], only=check)
