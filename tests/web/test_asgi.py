"""What the bridge to ASGI applications makes of requests and responses, over a real listener."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio

from mcpgateway.web import asgi
from mcpgateway.wire.http1.exchange import Exchange
from mcpgateway.wire.http1.requests import HttpRequest
from mcpgateway.wire.http1.server import HttpServer, accept, bind
from mcpgateway.wire.readiness import Poller
from mcpgateway.wire.waiting import Sweeper
from tests.fronts.site import Client

Send = Callable[[asgi.Message], Awaitable[None]]
Receive = Callable[[], Awaitable[asgi.Message]]


@asynccontextmanager
async def serving(app: asgi.App) -> AsyncIterator[Client]:
    async def handler(request: HttpRequest, exchange: Exchange) -> None:
        await asgi.run(app, request, exchange)

    poller, sweeper = Poller(), Sweeper()
    server = HttpServer(handler, lambda status, reason: reason.encode(), sweeper)
    (listener,) = bind("127.0.0.1", 0)
    with listener:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.run)
            nursery.start_soon(sweeper.run)
            nursery.start_soon(accept, listener, nursery, partial(_serve, server, poller))
            with trio.fail_after(60):
                stream = await trio.open_tcp_stream(*listener.getsockname())
                async with Client(stream, "localhost") as client:
                    yield client
            nursery.cancel_scope.cancel(reason="the test is over")


async def _serve(server: HttpServer, poller: Poller, sock: object) -> None:
    await server.serve(poller.transport(sock), "192.0.2.7")  # type: ignore[arg-type]  # what accept gives


async def test_the_application_sees_the_request_as_it_came() -> None:
    seen: list[asgi.Scope] = []
    bodies: list[asgi.Message] = []

    async def app(scope: asgi.Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        bodies.extend([await receive(), await receive()])
        await send({"type": "http.response.start", "status": 201, "headers": [(b"x-own", b"1")]})
        await send({"type": "http.response.body", "body": b"made"})

    async with serving(app) as client:
        answer = await client.ask("POST", "/a%20b?c=d", b"body", {"X-Mine": "2"})

    assert (answer.status, answer.body, answer.headers["x-own"]) == (201, b"made", "1")
    (scope,) = seen
    assert (scope["method"], scope["path"], scope["raw_path"]) == ("POST", "/a b", b"/a%20b")
    assert (scope["query_string"], scope["scheme"], scope["client"]) == (b"c=d", "http", ("192.0.2.7", 0))
    assert (b"x-mine", b"2") in scope["headers"]
    assert [message["type"] for message in bodies] == ["http.request", "http.disconnect"]
    assert bodies[0]["body"] == b"body"


async def test_a_response_in_parts_is_streamed() -> None:
    async def app(scope: asgi.Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"ab", "more_body": True})
        await send({"type": "http.response.body", "body": b"cd"})

    async with serving(app) as client:
        answer = await client.ask("GET", "/")

    assert (answer.status, answer.body) == (200, b"abcd")
    assert answer.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in answer.headers


async def test_an_application_that_fails_is_answered_with_500_and_the_listener_goes_on() -> None:
    async def app(scope: asgi.Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/bad":
            raise RuntimeError("not for clients to see")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async with serving(app) as client:
        assert (await client.ask("GET", "/good")).status == 200
        answer = await client.ask("GET", "/bad")

    assert answer.status == 500
    assert b"not for clients" not in answer.body
