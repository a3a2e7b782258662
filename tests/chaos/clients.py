"""Clients of a world: who they are, what they call, and how their bytes go out and come in."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any, Final

import attrs
import trio
import trio.testing

from tests.fronts.site import LEGACY, POST, call, modern, request
from tests.wire.http1.peers import Answers

HOST: Final = "127.0.0.1:8080"
PIPES: Final = ("pipe", "safe")
WEBS: Final = ("web", "sound")
SERVERS: Final = (*PIPES, *WEBS)
FRAGILE: Final = ("pipe", "web")
"""Servers that may be in trouble; calls on the others must succeed whatever happens."""
PATHS: Final = {"": SERVERS, **{name: (name,) for name in SERVERS}}
"""What clients find at ``/mcp/…``: the servers of each namespace."""


@attrs.define(eq=False)
class Client:
    """One client, with a session in the legacy era, on one namespace."""

    number: int
    path: str
    modern: bool
    askable: bool
    session: str | None = None
    since: float = 0.0
    """When its session was opened."""
    used: float = 0.0
    """When it last began or ended a call."""
    ids: int = 0
    calls: list[Call] = attrs.field(factory=list)

    @property
    def servers(self) -> tuple[str, ...]:
        return PATHS[self.path]

    @property
    def url(self) -> str:
        return f"/mcp/{self.path}".rstrip("/")

    @property
    def headers(self) -> dict[str, str]:
        session = {} if self.session is None else {"Mcp-Session-Id": self.session}
        return {**POST, "MCP-Protocol-Version": LEGACY, **session}


@attrs.define(eq=False)
class Call:
    """One request of a client, and all that came for it."""

    client: Client
    id: int
    kind: str
    servers: tuple[str, ...]
    began: float
    excused: bool = False
    """Its client cancelled it, dropped it, ended its session: anything may become of it but a wrong answer."""
    connection: socket.socket | None = None
    replies: list[dict[str, Any]] = attrs.field(factory=list)
    events: list[dict[str, Any]] = attrs.field(factory=list)
    status: int = 0
    ended: bool = False
    """The response came to its end."""
    over: bool = False
    dropped: trio.Event = attrs.field(factory=trio.Event)

    @property
    def outcome(self) -> str:
        if not self.replies:
            return "ended" if self.ended else "lost"
        return "failed" if "error" in self.replies[0] else "answered"

    @property
    def text(self) -> str:
        return f"client {self.client.number}, call {self.id}"

    def __str__(self) -> str:
        return f"{self.kind} of {self.text} on {'+'.join(self.servers)}"


_TOOLS: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    "echo": ("echo", {"text": "text"}),
    "progress": ("progress", {"n": 3}),
    "ask": ("ask", {}),
    "notify": ("notify", {}),
    "hold": ("slow", {"name": "text"}),
    "big": ("big", {"kib": 300}),
    "stall": ("big", {"kib": 2000}),
}
KINDS: Final = (*_TOOLS, "list", "listen")


def message_of(made: Call) -> tuple[dict[str, Any], dict[str, str]]:
    client = made.client
    if made.kind == "listen":
        message = request(made.id, "subscriptions/listen", {"notifications": {"toolsListChanged": True}})
    elif made.kind == "list":
        message = request(made.id, "tools/list", {})
    else:
        tool, arguments = _TOOLS[made.kind]
        name = tool if client.path else f"{made.servers[0]}_{tool}"
        arguments = {key: made.text if value == "text" else value for key, value in arguments.items()}
        message = call(made.id, name, arguments, _meta={"progressToken": made.text})
    if not client.modern:
        return message, client.headers
    stamped, fields = modern(message)
    return stamped, {**POST, **fields}


# ---- bytes -----------------------------------------------------------------------------------------------------------


async def send(sock: socket.socket, line: str, body: bytes, fields: Mapping[str, str]) -> None:
    head = "".join(f"{name}: {value}\r\n" for name, value in {"Host": HOST, **fields}.items())
    rest = memoryview(f"{line or '/'} HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    while rest:
        await trio.lowlevel.wait_writable(sock)
        rest = rest[sock.send(rest) :]


async def receive(sock: socket.socket) -> bytes:
    await trio.lowlevel.wait_readable(sock)
    return sock.recv(1 << 20)


async def answer_on(sock: socket.socket) -> tuple[int, dict[str, str], bytes] | None:
    answers = Answers()
    while not answers.done:
        if not (data := await receive(sock)):
            return None
        answers.feed(data)
    (answer,) = answers.done
    return answer.status, answer.headers, answer.body


async def ask_on(
    sock: socket.socket, url: str, message: dict[str, Any], fields: Mapping[str, str]
) -> tuple[int, dict[str, str], bytes] | None:
    await send(sock, f"POST {url}", json.dumps(message).encode(), fields)
    try:
        return await answer_on(sock)
    except OSError:
        return None
