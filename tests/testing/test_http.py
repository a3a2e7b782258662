"""The fixture server over HTTP refuses what a real one would; that it serves is shown by the contract of adapters."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import NoBack, NoStream
from mcpgateway.adapters.http_link import StreamableHttpLink
from mcpgateway.adapters.streamable_http import StreamableHttpAdapter
from mcpgateway.config.model import HttpServer
from mcpgateway.protocol.envelope import stamp
from mcpgateway.protocol.headers import request_headers
from mcpgateway.protocol.revisions import LATEST_LEGACY, LATEST_MODERN, Era
from mcpgateway.testing.client import open_client
from mcpgateway.testing.http import HttpFixture, serve_fixture
from mcpgateway.wire.http1.client import Pool
from mcpgateway.wire.http1.responses import Response
from mcpgateway.wire.http_client import DEFAULT
from mcpgateway.wire.readiness import Poller
from mcpgateway.wire.waiting import Wait

INITIALIZE = jsonrpc.request(
    b"1", "initialize", {"protocolVersion": LATEST_LEGACY, "capabilities": {}, "clientInfo": {}}
)
ECHO = {"name": "echo", "arguments": {"text": "hi"}}
STAMPED = jsonrpc.request(
    b"1", "tools/call", stamp(jsonrpc.raw_of(ECHO), revision=LATEST_MODERN, capabilities=jsonrpc.raw_of({}))
)


class Browser:
    """Plain HTTP requests to a fixture."""

    def __init__(self, fixture: HttpFixture, poller: Poller) -> None:
        self._pool = Pool(fixture.url, poller)

    async def ask(self, verb: bytes, headers: dict[bytes, bytes], body: bytes = b"") -> tuple[Response, Any]:
        lines = b"".join(b"%b: %b\r\n" % item for item in headers.items())
        data = b"%b /mcp HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n%b" % (verb, lines, len(body), body)
        wait = Wait()
        response = await self._pool.exchange(data, wait, DEFAULT)
        text = await response.read(wait, 100_000)
        return response, json.loads(text) if text[:1] == b"{" else text

    async def post(self, message: jsonrpc.Message, **headers: bytes) -> tuple[Response, Any]:
        named = {name.replace("_", "-").encode(): value for name, value in headers.items()}
        return await self.ask(b"POST", named, message.encode())

    def close(self) -> None:
        self._pool.close()


@pytest.fixture
async def poller(nursery: trio.Nursery) -> Poller:
    poller = Poller()
    nursery.start_soon(poller.run)
    return poller


@pytest.fixture
async def browser(poller: Poller) -> AsyncIterator[Browser]:
    async with serve_fixture(json=True) as fixture:
        browser = Browser(fixture, poller)
        yield browser
        browser.close()


CALL = jsonrpc.request(b"2", "tools/call", ECHO)
REVISION = LATEST_LEGACY.encode()


async def test_a_session_is_minted_asked_for_and_ended(browser: Browser) -> None:
    begun, answer = await browser.post(INITIALIZE)
    session = begun.headers[b"mcp-session-id"]
    assert answer["result"]["protocolVersion"] == LATEST_LEGACY
    own = {"mcp_session_id": session, "mcp_protocol_version": REVISION}
    assert (await browser.post(CALL, **own))[1]["result"]["content"][0]["text"] == "hi"

    for headers, status in (
        ({}, 400),
        ({"mcp_session_id": session}, 400),
        ({**own, "mcp_session_id": b"another"}, 404),
    ):
        response, refusal = await browser.post(CALL, **headers)
        assert (response.status, refusal["id"]) == (status, 2)

    named = {b"mcp-session-id": session, b"mcp-protocol-version": REVISION}
    assert (await browser.ask(b"DELETE", named))[0].status == 200
    assert (await browser.ask(b"DELETE", named))[0].status == 404
    assert (await browser.post(CALL, **own))[0].status == 404


async def test_a_session_has_one_stream_at_a_time(poller: Poller) -> None:
    async with serve_fixture() as fixture:
        adapter = StreamableHttpAdapter(HttpServer("s", url=fixture.url), poller)
        async with open_client(adapter, Era.LEGACY, hears=True) as client:
            await client.call("notify")
            assert (await client.received.next()).method == "notifications/tools/list_changed"
            assert isinstance(client.link, StreamableHttpLink)
            with pytest.raises(NoStream) as taken:
                await client.link.listen(None, Wait(), NoBack(), trio.lowlevel.checkpoint)
    (own, *_) = [request.headers for request in fixture.requests if request.method == b"GET"]
    assert (taken.value.status, own[b"mcp-session-id"]) == (409, b"session-1")


@pytest.mark.parametrize(("stateful", "status"), [(True, 400), (False, 405)])
async def test_a_stream_needs_a_session(stateful: bool, status: int, poller: Poller) -> None:
    async with serve_fixture(stateful=stateful) as fixture:
        browser = Browser(fixture, poller)
        response, _ = await browser.ask(b"GET", {})
        browser.close()
    assert response.status == status


async def test_modern_requests_are_held_against_their_headers(browser: Browser) -> None:
    discover = jsonrpc.request(
        b"1", "server/discover", stamp(None, revision=LATEST_MODERN, capabilities=jsonrpc.raw_of({}))
    )
    right = {name.decode().replace("-", "_"): value for name, value in request_headers(discover).items()}
    assert (await browser.post(discover, **right))[0].status == 200

    right = {name.decode().replace("-", "_"): value for name, value in request_headers(STAMPED).items()}
    assert (await browser.post(STAMPED, **right))[1]["result"]["content"][0]["text"] == "hi"
    for wrong in ({}, {**right, "mcp_name": b"another"}, {**right, "mcp_method": b"tools/list"}):
        response, refusal = await browser.post(STAMPED, **wrong)
        assert (response.status, refusal["error"]["code"]) == (400, -32020)


@pytest.mark.parametrize(("body", "code"), [(b"{", -32700), (b"[]", -32600), (b'{"jsonrpc":"1.0"}', -32600)])
async def test_what_is_no_message_is_refused(body: bytes, code: int, browser: Browser) -> None:
    response, refusal = await browser.ask(b"POST", {}, body)
    assert (response.status, refusal["error"]["code"], refusal["id"]) == (400, code, None)


async def test_a_call_before_any_handshake_is_refused(poller: Poller) -> None:
    async with serve_fixture(stateful=False, json=True) as fixture:
        browser = Browser(fixture, poller)
        assert (await browser.post(CALL))[0].status == 400
        browser.close()


async def test_a_modern_call_needs_no_handshake(browser: Browser) -> None:
    fields = {name.decode().replace("-", "_"): value for name, value in request_headers(STAMPED).items()}
    assert (await browser.post(STAMPED, **fields))[1]["result"]["content"][0]["text"] == "hi"
