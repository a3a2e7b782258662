"""An HTTP peer that says what a test tells it to say, well-formed or not: the far end of `StreamableHttpAdapter`."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import attrs
import trio

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Event, Link, NoBack, Reply, Request
from mcpgateway.adapters.streamable_http import StreamableHttpAdapter
from mcpgateway.protocol.revisions import LATEST_LEGACY, LATEST_MODERN, Era
from mcpgateway.testing.client import params_of
from mcpgateway.wire.waiting import Wait

SOON = 60.0
"""Seconds after which a call has failed; nothing here takes as long."""

Reach: TypeAlias = Callable[..., StreamableHttpAdapter]
"""Makes an adapter for the peer, or another URL, with these options of the configuration."""


@attrs.frozen
class Asked:
    """One request, as it came. ``headers`` have lower-case names; ``lines`` is the whole head."""

    lines: bytes
    headers: dict[str, str]
    body: bytes

    @property
    def verb(self) -> str:
        return self.lines.split(b" ", 1)[0].decode()

    @property
    def target(self) -> str:
        return self.lines.split(b" ", 2)[1].decode()

    @property
    def message(self) -> Any:
        return json.loads(self.body) if self.body else {}

    @property
    def method(self) -> str:
        """The JSON-RPC method; the HTTP method where there is no body."""
        return str(self.message.get("method", "response")) if self.body else self.verb


Answer: TypeAlias = Callable[[Asked, trio.SocketStream], Awaitable[None]]


def http(status: int, kind: str = "", body: bytes = b"", **fields: str) -> Answer:
    """A whole response; ``$id`` in the body stands for the request's id, ``_`` in field names for ``-``."""

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        data = body.replace(b"$id", json.dumps(asked.message.get("id")).encode())
        head = [
            f"HTTP/1.1 {status} Whatever",
            *(f"{name.replace('_', '-')}: {value}" for name, value in fields.items()),
        ]
        if kind:
            head.append(f"Content-Type: {kind}")
        if status not in (204, 304):
            head.append(f"Content-Length: {len(data)}")
        await stream.send_all("\r\n".join([*head, "", ""]).encode() + data)

    return answer


def plain_json(body: str | bytes, status: int = 200, **fields: str) -> Answer:
    return http(status, "application/json", body.encode() if isinstance(body, str) else body, **fields)


def result(value: object, **fields: str) -> Answer:
    return plain_json(f'{{"jsonrpc":"2.0","id":$id,"result":{json.dumps(value)}}}', 200, **fields)


def error(code: int, status: int = 200, id: str = "$id", message: str = "no", data: object = None) -> Answer:
    body = {"code": code, "message": message, **({} if data is None else {"data": data})}
    return plain_json(f'{{"jsonrpc":"2.0","id":{id},"error":{json.dumps(body)}}}', status)


def stream_of(*pieces: bytes, end: bool = True) -> Answer:
    """An event stream, each piece in a chunk and a packet of its own; without ``end`` it never ends."""
    return chunked(*pieces, kind="text/event-stream", end=end)


def chunked(*pieces: bytes, kind: str = "application/json", end: bool = True) -> Answer:
    """A response in chunks."""

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
        await stream.send_all(head.encode())
        for piece in pieces:
            data = piece.replace(b"$id", json.dumps(asked.message.get("id")).encode())
            await stream.send_all(b"%x\r\n%b\r\n" % (len(data), data))
        if end:
            await stream.send_all(b"0\r\n\r\n")

    return answer


def raw(data: bytes, *, close: bool = False) -> Answer:
    """These bytes, and then the end of the connection if asked for."""

    async def answer(asked: Asked, stream: trio.SocketStream) -> None:
        await stream.send_all(data)
        if close:
            await stream.aclose()

    return answer


INITIALIZED = {
    "protocolVersion": LATEST_LEGACY,
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "p", "version": "1"},
}
DISCOVERED = {
    "supportedVersions": [LATEST_MODERN],
    "capabilities": {"tools": {}},
    "resultType": "complete",
    "ttlMs": 0,
    "cacheScope": "private",
}
REPLY = b'{"jsonrpc":"2.0","id":$id,"result":{"content":[{"type":"text","text":"ok"}]}}'
OK = {"content": [{"type": "text", "text": "ok"}]}
HALF = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
NOT_INITIALIZED = error(-32000, 400, "null", "Bad Request: Server not initialized")


class Peer:
    """A server of both eras with sessions, until ``answers`` (by JSON-RPC method, or HTTP method) say otherwise."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self.connections = 0
        self.gone = trio.Event()
        """Set when a connection on which an answer had been awaited with `hang` was closed."""
        self._came = trio.Event()
        self.answers: dict[str, Answer] = {
            "initialize": result(INITIALIZED, Mcp_Session_Id="s1"),
            "server/discover": result(DISCOVERED),
            "notifications/initialized": http(202),
            "notifications/cancelled": http(202),
            "tools/call": result(OK),
            "DELETE": http(200),
        }

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/mcp"
        task_status.started()
        await trio.serve_listeners(self._connection, [listener])

    async def _connection(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        unread = b""
        try:
            while True:
                while b"\r\n\r\n" not in unread:
                    if not (data := await stream.receive_some()):
                        return
                    unread += data
                lines, _, unread = unread.partition(b"\r\n\r\n")
                pairs = [line.split(": ", 1) for line in lines.decode().split("\r\n")[1:]]
                headers = {name.lower(): value for name, value in pairs}
                length = int(headers.get("content-length", 0))
                while len(unread) < length:
                    unread += await stream.receive_some()
                asked = Asked(lines, headers, unread[:length])
                unread = unread[length:]
                self.asked.append(asked)
                self._came.set()
                await self.answers[asked.method](asked, stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def until_asked(self, method: str, count: int = 1) -> Asked:
        """The request of that kind, once so many have come."""
        while len(found := [asked for asked in self.asked if asked.method == method]) < count:
            self._came = trio.Event()
            await self._came.wait()
        return found[count - 1]

    def hang(self, *first: bytes) -> Answer:
        """Send some bytes, and nothing more until the client has gone."""

        async def answer(asked: Asked, stream: trio.SocketStream) -> None:
            for data in first:
                await stream.send_all(data.replace(b"$id", json.dumps(asked.message.get("id")).encode()))
            try:
                await stream.receive_some()
            finally:
                self.gone.set()

        return answer

    def methods(self) -> list[str]:
        return [asked.method for asked in self.asked]


# ---- calls -----------------------------------------------------------------------------------------------------------


class Recorder:
    """A back-channel that keeps whole events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def send(self, event: Event) -> None:
        await trio.lowlevel.checkpoint()
        self.events.append(event)


def a_request(link: Link, wait: Wait | None = None) -> Request:
    message = jsonrpc.request(b'"client"', "tools/call", params_of(link, "t", {}))
    return Request(
        message, wait or Wait(), {b"mcp-method": b"tools/call"} if link.negotiated.era is Era.MODERN else None
    )


async def call(link: Link, back: Recorder | None = None) -> Reply:
    with trio.fail_after(SOON):
        return await link.call(a_request(link), back or NoBack())


def text_of(reply: Reply) -> Any:
    return json.loads(reply.message.encode())["result"]["content"][0]["text"]
