"""The GET stream of sessions whose servers are shared, over HTTP: what comes on it, and when it ends."""

from __future__ import annotations

import trio.testing

from mcpgateway import jsonrpc
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.http import serve_fixture
from tests.fronts.site import adapters, call, events, request, site

LISTEN = {"Accept": "text/event-stream"}
LEGACY_ONLY = frozenset({Era.LEGACY})


async def test_what_a_shared_server_says_comes_on_the_stream() -> None:
    servers = adapters("one", "two", eras=LEGACY_ONLY)
    async with site(servers) as gateway:
        for path in ("/mcp/one", "/mcp"):
            client, stream = await gateway.dial(), await gateway.dial()
            session = await client.initialize(path)
            assert session.result["capabilities"]["tools"] == {"listChanged": True}
            await session.post(client, request(1, "tools/list"))
            await stream.start("GET", path, headers={**LISTEN, **session.headers})
            host = servers["one"].links[0].host
            host.tools[path] = host.tools["echo"]
            servers["one"].links[0].send(jsonrpc.notification("notifications/tools/list_changed"))
            (message,) = await stream.until(1)
            assert message == {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}


async def test_a_session_has_one_stream_and_takes_it_along_when_it_ends() -> None:
    async with site(adapters("one", eras=LEGACY_ONLY)) as gateway:
        client, stream = await gateway.dial(), await gateway.dial()
        session = await client.initialize("/mcp/one")
        await stream.start("GET", session.path, headers={**LISTEN, **session.headers})
        while not [held.streams for held in gateway.gateway.sessions if held.streams]:
            await trio.testing.wait_all_tasks_blocked(0.001)
        second = await client.ask("GET", session.path, headers={**LISTEN, **session.headers})
        assert (second.status, second.json["error"]["code"]) == (409, -32600)
        assert (await client.ask("DELETE", session.path, headers=session.headers)).status == 200
        ended = await stream.answer()
        assert (ended.status, ended.headers["content-type"], events(ended)) == (200, "text/event-stream", [])


async def test_a_client_that_closes_its_stream_may_open_another() -> None:
    servers = adapters("one", eras=LEGACY_ONLY)
    async with site(servers) as gateway:
        client, stream = await gateway.dial(), await gateway.dial()
        session = await client.initialize("/mcp/one")
        (held,) = gateway.gateway.sessions
        await stream.start("GET", session.path, headers={**LISTEN, **session.headers})
        while not held.streams:
            await trio.testing.wait_all_tasks_blocked(0.001)
        await stream.aclose()
        while held.streams:
            await trio.testing.wait_all_tasks_blocked(0.001)
        servers["one"].links[0].send(jsonrpc.notification("notifications/tools/list_changed"))
        again = await gateway.dial()
        await again.start("GET", session.path, headers={**LISTEN, **session.headers})
        assert len(await again.until(1)) == 1


async def test_what_servers_over_http_say_comes_on_the_stream_of_a_merged_namespace() -> None:
    async with serve_fixture(eras=LEGACY_ONLY) as fixture, site(urls={"one": fixture.url}) as gateway:
        client, stream = await gateway.dial(), await gateway.dial()
        session, other = await client.initialize("/mcp"), await client.initialize("/mcp")
        for each in (session, other):
            await each.post(client, request(1, "tools/list"))
        await stream.start("GET", "/mcp", headers={**LISTEN, **session.headers})
        host = fixture.hosts[1].server
        host.tools["fresh"] = host.tools["echo"]
        assert (await session.post(client, call(2, "one_notify"))).status == 200
        (message,) = await stream.until(1)
        assert message["method"] == "notifications/tools/list_changed"
        assert gateway.gateway.statistics().changes.waiting == 0
