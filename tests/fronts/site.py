"""A gateway with its HTTP front on a loopback port, in-memory servers behind it, and raw clients before it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import attrs
import trio
import trio.testing

from mcpgateway.app import Service
from mcpgateway.config.model import Config, EraPolicy, HttpServer, InProcessServer, Listen
from mcpgateway.gateway import Gateway
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.memory import MemoryAdapter
from mcpgateway.wire.sse import Parser
from tests.wire.http1.peers import Answer, Answers

GUARD: Final = 60.0
"""Seconds after which a test that waits for bytes has failed."""

LEGACY: Final = "2025-11-25"
MODERN: Final = "2026-07-28"
ENVELOPE: Final[dict[str, Any]] = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
}
POST: Final = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


def events(answer: Answer | bytes) -> list[Any]:
    """The messages of an event stream, decoded; Any, because a test knows what it asked for."""
    body = answer if isinstance(answer, bytes) else answer.body
    return [json.loads(frame.data) for frame in Parser().feed(body) if frame.data]


def call(id: object, tool: str, arguments: Mapping[str, object] | None = None, **params: object) -> dict[str, Any]:
    """A ``tools/call``."""
    return request(id, "tools/call", {"name": tool, "arguments": arguments or {}, **params})


def request(id: object, method: str, params: Mapping[str, object] | None = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params or {}}


def notification(method: str, params: Mapping[str, object] | None = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": params or {}}


def modern(message: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """A message with its envelope, and the headers that repeat it."""
    params = message["params"]
    meta = {**ENVELOPE, **params.get("_meta", {})}
    headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": message["method"]}
    for key in ("name", "uri"):
        if key in params:
            headers["Mcp-Name"] = params[key]
    return {**message, "params": {**params, "_meta": meta}}, headers


def text(answer: Answer) -> str:
    """The text of a tool's result."""
    return str(answer.json["result"]["content"][0]["text"])


class Client(trio.abc.AsyncResource):
    """One connection, byte by byte."""

    def __init__(self, stream: trio.SocketStream, host: str) -> None:
        self._stream = stream
        self._host = host
        self._answers = Answers()
        self._unread: list[Answer] = []

    async def send(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def start(self, method: str, path: str, body: object = b"", headers: Mapping[str, str] | None = None) -> None:
        """Send a request; the body is bytes, or what is to be encoded as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {"Host": self._host, **({"Content-Length": str(len(data))} if data else {}), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        await self.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + data)

    async def answer(self) -> Answer:
        """The next response, once it is whole."""
        while not self._unread:
            await self.more()
        return self._unread.pop(0)

    async def more(self) -> None:
        data = await self._stream.receive_some()
        assert data, "the connection was closed without a response"
        self._unread += self._answers.feed(bytes(data))

    async def until(self, count: int) -> list[Any]:
        """The events of the response that is being received, once there are so many."""
        while len(events(bytes(self._answers.body))) < count:
            await self.more()
        return events(bytes(self._answers.body))

    async def ended(self) -> bool:
        """Wait until the front closes the connection."""
        while await self._stream.receive_some():
            pass
        return True

    async def ask(self, method: str, path: str, body: object = b"", headers: Mapping[str, str] | None = None) -> Answer:
        await self.start(method, path, body, headers)
        return await self.answer()

    async def post(self, path: str, message: object, headers: Mapping[str, str] | None = None) -> Answer:
        return await self.ask("POST", path, message, {**POST, **(headers or {})})

    async def modern(self, path: str, message: dict[str, Any], headers: Mapping[str, str] | None = None) -> Answer:
        """Ask in the modern era."""
        stamped, own = modern(message)
        return await self.post(path, stamped, {**own, **(headers or {})})

    async def initialize(
        self, path: str, capabilities: Mapping[str, object] | None = None, revision: str = LEGACY
    ) -> Session:
        """Open a legacy session."""
        params = {"protocolVersion": revision, "capabilities": capabilities or {}, "clientInfo": {"name": "t"}}
        answer = await self.post(path, request(0, "initialize", params))
        assert answer.status == 200, answer
        session = Session(path, answer.headers["mcp-session-id"], answer.json["result"])
        accepted = await session.post(self, notification("notifications/initialized"))
        assert accepted.status == 202
        return session

    async def aclose(self) -> None:
        await self._stream.aclose()


@attrs.frozen
class Session:
    """A legacy session, which any connection may use."""

    path: str
    id: str
    result: dict[str, Any]

    @property
    def headers(self) -> dict[str, str]:
        return {"Mcp-Session-Id": self.id, "MCP-Protocol-Version": self.result["protocolVersion"]}

    async def post(self, client: Client, message: object) -> Answer:
        return await client.post(self.path, message, self.headers)

    async def start(self, client: Client, message: object) -> None:
        await client.start("POST", self.path, message, {**POST, **self.headers})


@attrs.frozen
class Site:
    service: Service
    port: int
    adapters: Mapping[str, MemoryAdapter]
    stop: trio.Event
    """Set it to have the gateway drain and end."""
    clients: list[Client] = attrs.field(factory=list)

    @property
    def gateway(self) -> Gateway:
        return self.service.gateway

    def reload(self, *, adapters: Mapping[str, MemoryAdapter] | None = None, **keys: object) -> None:
        """Go on with another configuration: these keys of `Config` changed, among them ``port`` and others of `Listen`.

        ``adapters`` are those of added and changed servers.
        """
        config = self.gateway.config
        listening = {key: keys.pop(key) for key in list(keys) if key in attrs.fields_dict(Listen)}
        listen = attrs.evolve(config.listen, **listening)  # type: ignore[arg-type]  # as given
        if adapters:
            self.gateway._adapters.update(adapters)
        self.service.reconfigure(attrs.evolve(config, listen=listen, **keys))  # type: ignore[arg-type]  # as given

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def dial(self, address: str = "127.0.0.1", port: int | None = None) -> Client:
        """A new connection, from this address; closed with the site."""
        stream = await trio.open_tcp_stream("127.0.0.1", port or self.port, local_address=address)
        self.clients.append(Client(stream, self.host))
        return self.clients[-1]

    async def idle(self) -> None:
        """Wait until no call is in flight at any server."""
        while any(link.in_flight for server in self.gateway.statistics().servers for link in server.links):
            await trio.testing.wait_all_tasks_blocked(0.001)


async def gone(gateway: Site) -> None:
    """Wait, in real time, until no client holds a stream or a call."""
    bounds = gateway.gateway.bounds
    while bounds.streams.held or bounds.calls.held:
        await trio.testing.wait_all_tasks_blocked(0.01)


def adapters(*names: str, eras: frozenset[Era] = frozenset(Era)) -> dict[str, MemoryAdapter]:
    """Fixture servers in memory."""
    return {name: MemoryAdapter(name, eras=eras) for name in names}


@asynccontextmanager
async def site(
    servers: Mapping[str, MemoryAdapter] | None = None,
    listen: Listen | None = None,
    urls: Mapping[str, str] | None = None,
    shutdown_timeout: float = 1.0,
    era: EraPolicy = EraPolicy.AUTO,
    guard: float = GUARD,
    **options: Any,
) -> AsyncIterator[Site]:
    """A gateway that serves over HTTP, by default with one server ``one`` that speaks both eras.

    ``urls`` are servers that are reached over HTTP; ``guard`` is for tests in which time goes by at will.
    """
    servers = servers if servers is not None else {} if urls else adapters("one")
    reached = {name: HttpServer(name, url=url) for name, url in (urls or {}).items()}
    config = Config(
        listen=attrs.evolve(listen or Listen(), port=0),
        servers={**{name: InProcessServer(name, module="object:given", era=era) for name in servers}, **reached},
        shutdown_timeout=shutdown_timeout,
        startup_wait=GUARD,
        list_timeout=GUARD,
        **options,
    )
    gateway = Gateway(config, servers)
    service = Service(gateway)
    stop = trio.Event()
    with trio.fail_after(guard):
        async with trio.open_nursery() as nursery:
            url = await nursery.start(partial(service.run, stop=stop))
            await gateway.ready()
            made = Site(service, int(url.rpartition(":")[2]), servers, stop)
            try:
                yield made
            finally:
                for client in made.clients:
                    await trio.aclose_forcefully(client)
                stop.set()
    assert len(gateway.sweeper) == 0
    assert len(gateway.sessions) == 0
    assert {bound.held for bound in gateway.statistics().clients.values()} == {0}
