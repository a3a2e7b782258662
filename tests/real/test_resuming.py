"""The SDK's client loses its connections in the middle of a call to a modern server, and comes back by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from mcp import types
from mcp.client import Client

from mcpgateway import jsonrpc
from mcpgateway.jsonrpc import members_of
from mcpgateway.protocol.revisions import Era
from tests.fronts.site import Site, adapters, site
from tests.wire.between import join

pytestmark = [
    pytest.mark.real,
    # The SDK's client leaves the event streams that it has read to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

PATIENCE = 60.0


class Network:
    """What the client is connected by; it may be `cut` at any time, and is there again at once."""

    def __init__(self) -> None:
        self.url = ""
        self._connections: set[trio.CancelScope] = set()

    async def run(self, target: int, *, task_status: trio.TaskStatus[None]) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"

        async def relay(client: trio.SocketStream) -> None:
            with trio.CancelScope() as scope:
                self._connections.add(scope)
                try:
                    await join(client, await trio.open_tcp_stream("127.0.0.1", target))
                finally:
                    self._connections.discard(scope)

        task_status.started()
        await trio.serve_listeners(relay, [listener])

    def cut(self) -> None:
        for scope in list(self._connections):
            scope.cancel(reason="the network is cut")


@asynccontextmanager
async def modern_server() -> AsyncIterator[tuple[Site, Network]]:
    """A gateway in front of a server that speaks 2026-07-28 only, and the network before the gateway."""
    network = Network()
    async with site(adapters("one", eras=frozenset({Era.MODERN}))) as gateway, trio.open_nursery() as nursery:
        await nursery.start(network.run, gateway.port)
        yield gateway, network
        nursery.cancel_scope.cancel(reason="the test is over")


async def progresses(gateway: Site, step: int) -> None:
    """Have the slow call at the server make progress."""
    for link in gateway.adapters["one"].links:
        for incoming in link.host.slow.values():  # type: ignore[attr-defined]  # of a FixtureServer
            token = members_of(incoming.params["_meta"])["progressToken"]
            link.send(jsonrpc.notification("notifications/progress", {"progressToken": token, "progress": step}))
    await trio.testing.wait_all_tasks_blocked(0.01)


@pytest.mark.requirement("bridge.resumability.legacy-to-modern")
@pytest.mark.parametrize("path", ["/mcp/one", "/mcp"])
async def test_a_call_whose_connection_is_cut_goes_on_and_nothing_of_it_is_missed(path: str) -> None:
    prefix = "" if path == "/mcp/one" else "one_"
    steps: list[float] = []
    heard = trio.Event()

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)
        heard.set()

    async def cut_and_go_on(gateway: Site, network: Network, client: Client) -> None:
        while not heard.is_set():
            await progresses(gateway, 1)
        network.cut()
        await progresses(gateway, 2)
        await progresses(gateway, 3)
        await client.call_tool(f"{prefix}release", {})

    with trio.fail_after(PATIENCE):
        async with modern_server() as (gateway, network):
            async with Client(network.url + path, mode="legacy") as client, trio.open_nursery() as nursery:
                nursery.start_soon(cut_and_go_on, gateway, network, client)
                done = await client.call_tool(f"{prefix}slow", {"name": "s"}, progress_callback=on_progress)
    assert [part.text for part in done.content if isinstance(part, types.TextContent)] == ["s"]
    assert list(dict.fromkeys(steps)) == [1, 2, 3]
    assert steps[-2:] == [2, 3]


@pytest.mark.requirement("bridge.resumability.legacy-to-modern")
@pytest.mark.parametrize("path", ["/mcp/one", "/mcp"])
async def test_a_client_that_is_cut_off_while_it_is_asked_answers_and_gets_its_reply(path: str) -> None:
    prefix = "" if path == "/mcp/one" else "one_"
    with trio.fail_after(PATIENCE):
        async with modern_server() as (_, network):
            asked = 0

            async def answer(context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
                nonlocal asked
                asked += 1
                network.cut()
                return types.ElicitResult(action="accept", content={"name": "Ada"})

            async with Client(network.url + path, mode="legacy", elicitation_callback=answer) as client:
                done = await client.call_tool(f"{prefix}ask", {})
    assert asked == 1
    assert isinstance(done.structured_content, dict)
    given = done.structured_content["inputResponses"]["name"]
    assert given == {"action": "accept", "content": {"name": "Ada"}}
