"""Runs an ASGI application on our own HTTP server: one request, one response, whole bodies in, streams out.

What the gateway's own cold routes need of ASGI 3 (asgi.readthedocs.io, "HTTP"), and no more: no lifespan, no
WebSocket, no server push.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import unquote

import trio

from mcpgateway.wire.http1.exchange import Exchange
from mcpgateway.wire.http1.requests import HttpRequest

# The types of the ASGI specification, which leaves the values of its mappings open.
Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
App: TypeAlias = Callable[
    [Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]


async def run(app: App, request: HttpRequest, exchange: Exchange) -> None:
    """Let an application answer a request. Its exceptions are the caller's."""
    received = False
    status = 500
    fields = b""

    async def receive() -> Message:
        nonlocal received
        await trio.lowlevel.checkpoint()
        if received:
            return {"type": "http.disconnect"}
        received = True
        return {"type": "http.request", "body": request.body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status, fields
        if message["type"] == "http.response.start":
            status = message["status"]
            fields = b"".join(
                b"%b: %b\r\n" % (name, value)
                for name, value in message.get("headers", ())
                if name.lower() not in (b"content-length", b"transfer-encoding", b"connection")
            )
            return
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        if not exchange.started and not more:
            await exchange.respond(status, body, fields)
            return
        if not exchange.started:
            exchange.stream(status, fields)
        await exchange.write(body, last=not more)

    await app(_scope(request), receive, send)


def _scope(request: HttpRequest) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": request.version,
        "method": request.method.decode("ascii"),
        "scheme": "https" if request.secure else "http",
        "path": unquote(request.path.decode("latin-1")),
        "raw_path": request.path,
        "query_string": request.query,
        "root_path": "",
        "headers": list(request.headers.items()),
        "client": (request.peer, 0) if request.peer else None,
        "server": None,
    }
