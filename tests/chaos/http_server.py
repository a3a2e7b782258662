"""A server over HTTP that fails at the moment it is told to. It speaks raw bytes, on a `Network`."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
import trio

from mcpgateway import jsonrpc
from mcpgateway.errors import InvalidRequest
from mcpgateway.jsonrpc import Message, members_of
from mcpgateway.protocol import envelope
from mcpgateway.testing.fixture_server import FixtureServer
from mcpgateway.wire import sse
from tests.chaos.faults import Failing, Fault, Moment, Way
from tests.chaos.network import Network

_HEAD: Final = "HTTP/1.1 {} X\r\n{}\r\n"


@attrs.frozen
class _Asked:
    method: str
    headers: Mapping[str, str]
    body: bytes


class _Host:
    """One server object: that of a session, or of all clients that have none; and where its messages go."""

    def __init__(self) -> None:
        self.server = FixtureServer()
        self.streams: dict[bytes | None, trio.MemorySendChannel[Message]] = {}
        """By the id of the request that a stream answers; ``None`` is the stream for all else."""

    def take(self, message: Message) -> None:
        for caused in self.server.handle(message):
            stream = self.streams.get(self._about(caused, message))
            if stream is not None:
                stream.send_nowait(caused)

    def _about(self, caused: Message, message: Message) -> bytes | None:
        if caused.is_response:
            return caused.id
        meta = members_of(members_of(caused.params).get("_meta"))
        if envelope.SUBSCRIPTION_ID in meta:
            return bytes(meta[envelope.SUBSCRIPTION_ID])
        return None if (caused.method or "").endswith("list_changed") else message.id


class HttpDouble:
    """A server of both eras with sessions, at ``url``. Its connections live in ``nursery``."""

    def __init__(self, failing: Failing, network: Network, nursery: trio.Nursery, port: int, *, streams: bool) -> None:
        self.failing = failing
        self.url = f"http://127.0.0.1:{port}/mcp"
        self.connections: dict[trio.CancelScope, None] = {}
        self._streams = streams
        """Answers every request with an event stream."""
        self._nursery = nursery
        self._sessions: dict[str, _Host] = {}
        self._made = 0
        network.listening[port] = self._accept

    @property
    def holding(self) -> int:
        """Calls in its sessions that wait for ever, and that nobody has cancelled."""
        return sum(len(host.server.slow) for host in self._sessions.values())

    def restart(self) -> None:
        """All connections break, and all sessions are forgotten."""
        self._sessions.clear()
        for scope in self.connections:
            scope.cancel(reason="the server is restarted")

    async def _accept(self) -> socket.socket:
        fault = self.failing.take(Moment.CONNECT)
        if fault is not None and fault.way is Way.HANGS:
            await trio.sleep_forever()
        if fault is not None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        far, own = socket.socketpair()
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(own))
        self._nursery.start_soon(self._connection, stream)
        return far

    async def _connection(self, stream: trio.SocketStream) -> None:
        unread = b""
        with trio.CancelScope() as scope:
            self.connections[scope] = None
            try:
                while True:
                    while b"\r\n\r\n" not in unread:
                        if not (data := await stream.receive_some()):
                            return
                        unread += data
                    head, _, unread = unread.partition(b"\r\n\r\n")
                    lines = head.decode().split("\r\n")
                    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
                    length = int(headers.get("content-length", "0"))
                    while len(unread) < length:
                        unread += await stream.receive_some()
                    asked, unread = _Asked(lines[0].split()[0], headers, unread[:length]), unread[length:]
                    outcome = await self._exchange(asked, stream)
                    if outcome is not True:
                        await _end(outcome, stream)
                        return
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            finally:
                del self.connections[scope]
                await trio.aclose_forcefully(stream)

    async def _exchange(self, asked: _Asked, stream: trio.SocketStream) -> bool | Fault:
        """Answer one request; true if the connection lasts, or else the fault that ends it."""
        fault = self.failing.take(Moment.CLOSE if asked.method == "DELETE" else Moment.BEFORE)
        if fault is not None:
            return fault
        if asked.method == "DELETE":
            known = self._sessions.pop(asked.headers.get("mcp-session-id", ""), None)
            return await self._say(stream, 200 if known else 404)
        if asked.method == "GET":
            host = self._sessions.get(asked.headers.get("mcp-session-id", ""))
            return await self._say(stream, 404) if host is None else await self._stream(host, None, None, stream)
        message = jsonrpc.decode(asked.body)
        host, fields = self._host(asked, message)
        if host is None:
            return await self._say(stream, 404, jsonrpc.error(message.id, _UNKNOWN).encode())
        if not message.is_request:
            host.take(message)
            return await self._say(stream, 202)
        return await self._stream(host, message, fields, stream)

    def _host(self, asked: _Asked, message: Message) -> tuple[_Host | None, str]:
        if envelope.read(message.params) is not None:
            return _Host(), ""  # nothing is kept between two requests
        if message.method == "initialize":
            self._made += 1
            name = f"{self.failing.name}-{self._made}"
            self._sessions[name] = _Host()
            return self._sessions[name], f"Mcp-Session-Id: {name}\r\n"
        return self._sessions.get(asked.headers.get("mcp-session-id", "")), ""

    async def _stream(
        self, host: _Host, message: Message | None, fields: str | None, stream: trio.SocketStream
    ) -> bool | Fault:
        """Send what comes for a request up to its reply: as JSON where that is all, else as events."""
        id = None if message is None else message.id
        outbox, inbox = trio.open_memory_channel[Message](1000)
        host.streams[id] = outbox
        try:
            if message is not None:
                host.take(message)
            modern = message is not None and envelope.read(message.params) is not None
            return await _until_gone(stream, self._send, host, message, inbox, fields or "", stream, modern)
        finally:
            if host.streams.get(id) is outbox:
                del host.streams[id]
            if message is not None and message.id is not None:
                host.server.cancel(message.id)

    async def _send(
        self,
        host: _Host,
        message: Message | None,
        inbox: trio.MemoryReceiveChannel[Message],
        fields: str,
        stream: trio.SocketStream,
        modern: bool,
    ) -> bool | Fault:
        if message is not None and not self._streams and inbox.statistics().current_buffer_used == 1:
            first = inbox.receive_nowait()
            if first.is_response:
                return await self._say(stream, 200, first.encode(), fields)
            early = [first]
        else:
            early = []
        fields += "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
        head = _HEAD.format(200, fields).encode()
        if message is None:
            await stream.send_all(head)
            head = b""
        while True:
            event = early.pop() if early else await inbox.receive()
            data = sse.encode(event.encode())
            chunk = b"%x\r\n%b\r\n" % (len(data), data)
            if not event.is_response:
                await stream.send_all(head + chunk)
            else:
                return await self._deliver(stream, head, chunk + b"0\r\n\r\n")
            head = b""

    async def _say(self, stream: trio.SocketStream, status: int, body: bytes = b"", fields: str = "") -> bool | Fault:
        kind = "Content-Type: application/json\r\n" if body else ""
        head = _HEAD.format(status, f"{fields}{kind}Content-Length: {len(body)}\r\n").encode()
        return await self._deliver(stream, head, body)

    async def _deliver(self, stream: trio.SocketStream, head: bytes, body: bytes) -> bool | Fault:
        """Send what ends an exchange, or as much of it as the fault of the moment lets through."""
        fault = self.failing.take(Moment.HEADERS, Moment.BODY, Moment.LINE, Moment.AFTER)
        sent = head + body
        if fault is not None:
            sent = sent[: _SENT[fault.moment](len(head), len(body))]
        if sent:
            await stream.send_all(sent)
        return True if fault is None else fault


_SENT: Final[Mapping[Moment, Callable[[int, int], int]]] = {
    Moment.HEADERS: lambda head, body: head,
    Moment.BODY: lambda head, body: head + body // 2,
    Moment.LINE: lambda head, body: head + body - 1,
    Moment.AFTER: lambda head, body: head + body,
}


async def _end(outcome: bool | Fault, stream: trio.SocketStream) -> None:
    """Be done with a connection, which may mean to let it hang for as long as the gateway does."""
    if isinstance(outcome, Fault) and outcome.way is Way.HANGS:
        while await stream.receive_some():
            pass


async def _until_gone(stream: trio.SocketStream, send: Any, *arguments: Any) -> bool | Fault:
    """Send, unless the gateway closes the connection first; what comes of the connection."""
    outcome: bool | Fault = False

    async def watch() -> None:
        try:  # without reading: the next request may be there before this task is cancelled
            gone = not await stream.socket.recv(1, socket.MSG_PEEK)
        except OSError:
            gone = True
        if gone:
            nursery.cancel_scope.cancel(reason="the gateway has gone")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        try:
            outcome = await send(*arguments)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        nursery.cancel_scope.cancel(reason="all is sent")
    return outcome


_UNKNOWN: Final = InvalidRequest("Session not found")
