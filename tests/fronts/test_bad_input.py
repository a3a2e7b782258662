"""What clients may get wrong: each has its HTTP status and JSON-RPC error, and nobody else notices."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from trio.testing import MockClock

from mcpgateway.config.limits import Limits
from mcpgateway.config.model import Listen
from mcpgateway.errors import INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR
from tests.fronts.site import LEGACY, POST, Client, Session, adapters, call, request, site, text
from tests.wire.http1.peers import Answer

PING = request(1, "ping")


async def nobody_else_notices(bystander: Client, session: Session) -> None:
    """A client that was connected before is served as before."""
    assert (await session.post(bystander, request("still", "ping"))).json["id"] == "still"


def check(answer: Answer, status: int, code: int, id: Any = None) -> None:
    assert (answer.status, answer.json["error"]["code"], answer.json["id"]) == (status, code, id)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["jsonrpc"] == "2.0"
    assert "Traceback" not in answer.json["error"]["message"]


BODIES: dict[str, tuple[bytes, int | None, Any]] = {
    "nothing": (b"", PARSE_ERROR, None),
    "half an object": (b'{"jsonrpc":"2.0","id":1,"method":"ping"', PARSE_ERROR, None),
    "two objects": (b'{"jsonrpc":"2.0","id":1,"method":"ping"}{}', PARSE_ERROR, None),
    "a trailing comma": (b'{"jsonrpc":"2.0","id":1,"method":"ping",}', PARSE_ERROR, None),
    "text": (b"hello", PARSE_ERROR, None),
    "invalid UTF-8": (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"\xff"}}', PARSE_ERROR, None),
    "UTF-16": ('{"jsonrpc":"2.0","id":1,"method":"ping"}'.encode("utf-16"), PARSE_ERROR, None),
    "100,000 brackets": (b"[" * 100_000, None, None),
    "100,000 brackets within": (
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        PARSE_ERROR,
        None,
    ),
    "100,000 braces": (b'{"a":' * 100_000, PARSE_ERROR, None),
    "a number": (b"7", INVALID_REQUEST, None),
    "null": (b"null", INVALID_REQUEST, None),
    "an empty batch": (b"[]", INVALID_REQUEST, None),
    "a batch": (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', INVALID_REQUEST, None),
    "an empty object": (b"{}", INVALID_REQUEST, None),
    "no version": (b'{"id":1,"method":"ping"}', INVALID_REQUEST, 1),
    "JSON-RPC 1.0": (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', INVALID_REQUEST, 1),
    "an id that is null": (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', INVALID_REQUEST, None),
    "an id that is a list": (b'{"jsonrpc":"2.0","id":[1],"method":"ping"}', INVALID_REQUEST, None),
    "a method that is a number": (b'{"jsonrpc":"2.0","id":1,"method":7}', INVALID_REQUEST, 1),
    "no method and no result": (b'{"jsonrpc":"2.0","id":1}', INVALID_REQUEST, 1),
    "result and error": (b'{"jsonrpc":"2.0","id":1,"result":{},"error":{}}', INVALID_REQUEST, 1),
    "params that are a list": (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}', INVALID_REQUEST, 1),
}


@pytest.mark.parametrize("case", BODIES)
async def test_a_body_that_is_no_message_is_refused(case: str, caplog: pytest.LogCaptureFixture) -> None:
    body, code, id = BODIES[case]
    async with site() as gateway:
        bystander, client = await gateway.dial(), await gateway.dial()
        session = await bystander.initialize("/mcp/one")

        answer = await session.post(client, body)

        assert answer.status == 400
        assert answer.json["error"]["code"] in ((PARSE_ERROR, INVALID_REQUEST) if code is None else (code,))
        assert answer.json["id"] == id
        assert (await session.post(client, PING)).status == 200
        await nobody_else_notices(bystander, session)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


HEADERS: dict[str, tuple[dict[str, str], int]] = {
    "no content type": ({"Content-Type": ""}, 415),
    "a form": ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    "plain text": ({"Content-Type": "text/plain"}, 415),
    "almost JSON": ({"Content-Type": "application/jsonx"}, 415),
    "JSON only": ({"Accept": "application/json"}, 406),
    "events only": ({"Accept": "text/event-stream"}, 406),
    "a page": ({"Accept": "text/html"}, 406),
    "an empty accept": ({"Accept": ""}, 406),
    "a foreign host": ({"Host": "evil.test"}, 403),
    "a host that begins like ours": ({"Host": "127.0.0.1.evil.test"}, 403),
    "a host that is none": ({"Host": "["}, 403),
    "a foreign origin": ({"Origin": "https://evil.test"}, 403),
    "a null origin": ({"Origin": "null"}, 403),
}


@pytest.mark.parametrize("case", HEADERS)
async def test_headers_that_do_not_fit_are_refused(case: str) -> None:
    headers, status = HEADERS[case]
    async with site() as gateway:
        bystander, client = await gateway.dial(), await gateway.dial()
        session = await bystander.initialize("/mcp/one")

        answer = await client.post("/mcp/one", PING, {**session.headers, **headers})

        assert answer.status == status
        assert answer.json["error"]["code"] in (INVALID_REQUEST, PARSE_ERROR)
        assert "access-control-allow-origin" not in answer.headers
        await nobody_else_notices(bystander, session)


@pytest.mark.parametrize("path", ["/health", "/", "/nowhere"])
async def test_cold_routes_refuse_foreign_hosts_too(path: str) -> None:
    async with site() as gateway:
        client = await gateway.dial()
        check(await client.ask("GET", path, headers={"Host": "evil.test"}), 403, INVALID_REQUEST)


# ---- what does not exist ---------------------------------------------------------------------------------------------


async def test_an_unknown_path_is_404() -> None:
    async with site() as gateway:
        client = await gateway.dial()
        for path in ("/nowhere", "/mcpx", "/mcp/one/two", "//mcp", "/%"):
            assert (await client.ask("GET", path)).status == 404, path


@pytest.mark.parametrize("name", ["nope", "ONE", "%00", "..", "one%2Ftwo", "x" * 5000, "%FF"])
async def test_an_unknown_namespace_is_404(name: str) -> None:
    async with site() as gateway:
        client = await gateway.dial()
        check(await client.post(f"/mcp/{name}", PING), 404, INVALID_REQUEST)
        assert (await client.ask("DELETE", f"/mcp/{name}", headers={"Mcp-Session-Id": "x"})).status == 404


@pytest.mark.parametrize("id", ["x", "", "é", "a" * 1000, "00000000.AAAA"])
async def test_an_unknown_session_is_404_with_the_id_of_the_request(id: str) -> None:
    async with site() as gateway:
        client = await gateway.dial()
        check(await client.post("/mcp/one", PING, {"Mcp-Session-Id": id}), 404, INVALID_REQUEST, 1)


async def test_a_session_of_another_namespace_is_unknown() -> None:
    async with site(adapters("one", "two")) as gateway:
        client = await gateway.dial()
        session = await client.initialize("/mcp/one")

        check(await client.post("/mcp/two", PING, session.headers), 404, INVALID_REQUEST, 1)
        check(await client.post("/mcp", PING, session.headers), 404, INVALID_REQUEST, 1)
        assert (await client.ask("DELETE", "/mcp/two", headers=session.headers)).status == 404
        assert (await session.post(client, PING)).status == 200


async def test_a_request_without_a_session_is_refused() -> None:
    async with site(adapters("one", "two")) as gateway:
        client = await gateway.dial()
        for path in ("/mcp", "/mcp/one"):
            check(await client.post(path, PING), 400, INVALID_REQUEST, 1)
            check(await client.post(path, PING, {"MCP-Protocol-Version": LEGACY}), 400, INVALID_REQUEST, 1)


@pytest.mark.parametrize("path", ["/mcp/one", "/mcp"])
async def test_unknown_tools_and_methods_are_answered_as_such(path: str) -> None:
    async with site() as gateway:
        client = await gateway.dial()
        session = await client.initialize(path)

        for name in ("nope", "", "one_", "x" * 5000, "größe", "one_nope"):
            check(await session.post(client, call("t", name)), 200, INVALID_PARAMS, "t")
        for params in ({}, {"name": 7}, {"name": None}):
            check(await session.post(client, request("t", "tools/call", params)), 200, INVALID_PARAMS, "t")
        for method in ("nope", "", "tools/fly", "x" * 5000):
            check(await session.post(client, request("m", method)), 200, METHOD_NOT_FOUND, "m")


@pytest.mark.parametrize("path", ["/mcp/one", "/mcp"])
async def test_a_cursor_that_is_none_is_answered_as_such(path: str) -> None:
    async with site() as gateway:
        client = await gateway.dial()
        session = await client.initialize(path)

        check(await session.post(client, request(1, "tools/list", {"cursor": "x"})), 200, INVALID_PARAMS, 1)


# ---- ids in flight ---------------------------------------------------------------------------------------------------


async def test_an_id_that_is_in_flight_is_refused_and_the_first_call_goes_on() -> None:
    async with site() as gateway:
        first, second, other = [await gateway.dial() for _ in range(3)]
        session = await first.initialize("/mcp/one")
        await session.start(first, call(7, "slow", {"name": "first"}))
        await session.post(other, call(1, "waiting", {"count": 1}))

        check(await session.post(second, call(7, "echo", {"text": "second"})), 400, INVALID_REQUEST, 7)
        assert text(await session.post(second, call("7", "echo", {"text": "third"}))) == "third"
        await session.post(other, call(2, "release"))

        assert text(await first.answer()) == "first"
        assert text(await session.post(second, call(7, "echo", {"text": "again"}))) == "again"


async def test_an_id_of_one_session_may_be_in_flight_in_another() -> None:
    async with site() as gateway:
        first, second = await gateway.dial(), await gateway.dial()
        sessions = [await first.initialize("/mcp/one") for _ in range(2)]
        await sessions[0].start(first, call(7, "slow", {"name": "first"}))
        await sessions[1].post(second, call(1, "waiting", {"count": 1}))

        assert text(await sessions[1].post(second, call(7, "echo", {"text": "second"}))) == "second"
        await sessions[1].post(second, call(2, "release"))
        assert text(await first.answer()) == "first"


# ---- sizes -----------------------------------------------------------------------------------------------------------

SMALL = Listen(limits=Limits(header_bytes=2000, body_bytes=10_000))


async def test_oversized_bodies_and_heads_are_refused() -> None:
    async with site(listen=SMALL) as gateway:
        bystander = await gateway.dial()
        session = await bystander.initialize("/mcp/one")

        declared = await gateway.dial()
        await declared.start("POST", "/mcp/one", headers={**POST, "Content-Length": "10001"})
        check(await declared.answer(), 413, INVALID_REQUEST)

        chunked = await gateway.dial()
        await chunked.start("POST", "/mcp/one", headers={**POST, "Transfer-Encoding": "chunked"})
        await chunked.send(b"2711\r\n" + b" " * 10_001 + b"\r\n")
        check(await chunked.answer(), 413, INVALID_REQUEST)

        head = await gateway.dial()
        await head.start("POST", "/mcp/one", PING, {**POST, "X-Large": "x" * 3000})
        check(await head.answer(), 431, INVALID_REQUEST)

        for client in (declared, chunked, head):
            await client.aclose()
        await nobody_else_notices(bystander, session)


async def test_a_body_at_the_limit_is_served() -> None:
    async with site(listen=SMALL) as gateway:
        client = await gateway.dial()
        session = await client.initialize("/mcp/one")
        body = json.dumps(PING).encode().ljust(10_000)

        assert (await session.post(client, body)).status == 200


# ---- bytes -----------------------------------------------------------------------------------------------------------

RAW = {
    "both lengths": b"POST /mcp HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
    "junk": b"\0\1\2\3\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no host": b"GET /mcp HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("case", RAW)
async def test_bytes_that_are_no_request_are_refused_as_json(case: str) -> None:
    async with site() as gateway:
        bystander, client = await gateway.dial(), await gateway.dial()
        session = await bystander.initialize("/mcp/one")

        await client.send(RAW[case])
        check(await client.answer(), 400, INVALID_REQUEST)
        await client.aclose()

        await nobody_else_notices(bystander, session)


@pytest.mark.parametrize(
    "data", [b"", b"POST /mcp", b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{"]
)
async def test_who_leaves_in_the_middle_disturbs_nobody(data: bytes) -> None:
    async with site() as gateway:
        bystander = await gateway.dial()
        session = await bystander.initialize("/mcp/one")
        for _ in range(20):
            client = await gateway.dial()
            await client.send(data)
            await client.aclose()

        await nobody_else_notices(bystander, session)


async def test_slow_senders_and_silent_clients_are_dropped_at_their_deadlines(autojump_clock: MockClock) -> None:
    limits = Limits(header_timeout=0.1, body_timeout=0.1, idle_timeout=0.2)
    async with site(listen=Listen(limits=limits)) as gateway:
        head, body, silent = [await gateway.dial() for _ in range(3)]
        await head.send(b"POST /mcp HT")
        await body.start("POST", "/mcp", headers={**POST, "Content-Length": "5"})

        check(await head.answer(), 408, INVALID_REQUEST)
        check(await body.answer(), 408, INVALID_REQUEST)
        assert await silent.ended()
        assert (await (await gateway.dial()).ask("PUT", "/mcp")).status == 405


async def test_a_client_that_does_not_read_is_dropped_and_its_call_ends() -> None:
    async with site(listen=Listen(limits=Limits(write_timeout=0.1, write_rate=1 << 40))) as gateway:
        bystander, stuck = await gateway.dial(), await gateway.dial()
        session = await bystander.initialize("/mcp/one")
        await session.start(stuck, call(1, "big", {"kib": 20_000}))
        await nobody_else_notices(bystander, session)
        while gateway.gateway.statistics().waits > 1:
            await nobody_else_notices(bystander, session)

        await gateway.idle()
