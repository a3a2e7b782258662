"""An AI cloud that gateways dial, and that a test tells what to do: frames by wsproto, or any bytes.

It is reached by pairs of sockets within this process, which deliver at once: then virtual time cannot overtake them, as
it does the kernel's TCP. What dials is replaced for that, in `cloud`; `tests/fronts/test_upstream_dialling.py` has the
real thing.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import attrs
import pytest
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Event, Ping, Request, TextMessage

from mcpgateway.app import Service
from mcpgateway.config.model import Config, InProcessServer, Secret, ServerConfig, UpstreamConfig
from mcpgateway.fronts.upstream import UpstreamStatistics
from mcpgateway.gateway import Gateway
from mcpgateway.testing.memory import MemoryAdapter
from mcpgateway.wire import websocket_client
from mcpgateway.wire.websocket import CannotConnect
from tests.calls.doubles import has_a_key
from tests.fronts.site import adapters, notification, request

TOKEN: Final = "s3cret-t0ken"
FIRST: Final = "2024-11-05"
"""The revision that clouds speak."""


class Socket:
    """One connection that a gateway made, from the cloud's side."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.protocol = WSConnection(ConnectionType.SERVER)
        self.request: Request | None = None
        self.at = trio.current_time()
        """When it came."""
        self.pings: list[float] = []
        """When pings came; each is answered while `obliging`."""
        self.obliging = True
        self.told: list[Any] = []
        """What came and was not asked for."""
        self._events: list[Event] = []

    async def event(self) -> Event:
        """The next event but pings."""
        while True:
            while self._events:
                event = self._events.pop(0)
                if not isinstance(event, Ping):
                    return event
                self.pings.append(trio.current_time())
                if self.obliging:
                    await self.say(event.response())
            data = bytes(await self.stream.receive_some(65536))
            self.protocol.receive_data(data or None)
            self._events += self.protocol.events()

    async def say(self, event: Event) -> None:
        await self.stream.send_all(self.protocol.send(event))

    async def accept(self) -> None:
        request = await self.event()
        assert isinstance(request, Request)
        self.request = request
        await self.say(AcceptConnection())

    async def send(self, message: object) -> None:
        await self.say(TextMessage(data=message if isinstance(message, str) else json.dumps(message)))

    async def receive(self) -> Any:
        """The next message, decoded."""
        parts = []
        while True:
            event = await self.event()
            assert isinstance(event, TextMessage), event
            parts.append(event.data)
            if event.message_finished:
                return json.loads("".join(parts))

    async def answer(self, id: object) -> Any:
        """The response with this id; what comes before it is told."""
        for message in self.told:
            if message.get("id") == id and "method" not in message:
                self.told.remove(message)
                return message
        while True:
            message = await self.receive()
            if isinstance(message, dict) and message.get("id") == id and "method" not in message:
                return message
            self.told.append(message)

    async def ask(self, message: dict[str, Any]) -> Any:
        await self.send(message)
        return await self.answer(message["id"])

    async def initialize(self, revision: str = FIRST) -> dict[str, Any]:
        params = {"protocolVersion": revision, "capabilities": {}, "clientInfo": {"name": "cloud", "version": "1"}}
        answer = await self.ask(request("init", "initialize", params))
        await self.send(notification("notifications/initialized"))
        result: dict[str, Any] = answer["result"]
        return result

    async def code(self) -> int:
        """The code that the gateway closes with, which is answered; what comes before it is told."""
        while not isinstance(event := await self.event(), CloseConnection):
            if isinstance(event, TextMessage):
                self.told.append(json.loads(event.data))
        if event.code != 1006:
            await self.say(event.response())
        return int(event.code)

    async def close(self, code: int, reason: str = "") -> None:
        """Say goodbye, and wait for the gateway's."""
        await self.say(CloseConnection(code=code, reason=reason))
        await self.code_of_answer()

    async def code_of_answer(self) -> int:
        while not isinstance(event := await self.event(), CloseConnection):
            pass
        await self.stream.aclose()
        return int(event.code)

    async def cut(self) -> None:
        """End the connection without a word."""
        await trio.aclose_forcefully(self.stream)


class Cloud:
    """Where gateways connect; `next` gives each connection in turn, accepted or as it came."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.sockets: list[Socket] = []
        self.endpoint = f"ws://{host}/mcp/?token={TOKEN}"
        self.put, self._came = trio.open_memory_channel[socket.socket](1000)

    async def dialled(self) -> Socket:
        """A connection as it came: no handshake was answered."""
        self.sockets.append(Socket(trio.SocketStream(trio.socket.from_stdlib_socket(await self._came.receive()))))
        return self.sockets[-1]

    async def next(self) -> Socket:
        """The next connection, accepted."""
        found = await self.dialled()
        await found.accept()
        return found

    async def refuse(self, answer: bytes) -> float:
        """Answer the next handshake with these bytes, and close; when it came."""
        found = await self.dialled()
        await found.event()
        await found.stream.send_all(answer)
        await found.stream.aclose()
        return found.at

    def upstream(self, name: str = "cloud", namespace: str = "one", **keys: Any) -> UpstreamConfig:
        return UpstreamConfig(name, Secret(self.endpoint), namespace, **keys)


_CLOUDS: dict[str, Cloud] = {}
"""Those that are there, by host."""


async def _dial(url: str, tls: Callable[[], ssl.SSLContext], timeout: float) -> trio.abc.Stream:
    """See `mcpgateway.wire.websocket.dial`."""
    await trio.lowlevel.checkpoint()
    found = _CLOUDS.get(urlsplit(url).hostname or "")
    if found is None:
        raise CannotConnect("cannot connect: Connection refused")
    ours, theirs = socket.socketpair()
    found.put.send_nowait(theirs)
    return trio.SocketStream(trio.socket.from_stdlib_socket(ours))


@asynccontextmanager
async def cloud() -> AsyncIterator[Cloud]:
    made = Cloud(f"cloud-{len(_CLOUDS)}.example")
    with pytest.MonkeyPatch.context() as patch, made.put:
        patch.setattr(websocket_client, "dial", _dial)
        patch.setitem(_CLOUDS, made.host, made)
        try:
            yield made
        finally:
            while made.put.statistics().current_buffer_used:
                await made.dialled()
            for each in made.sockets:
                await trio.aclose_forcefully(each.stream)


@attrs.frozen
class Bridge:
    """A gateway that dials upstreams and listens nowhere."""

    service: Service
    stop: trio.Event
    adapters: dict[str, MemoryAdapter]

    @property
    def gateway(self) -> Gateway:
        return self.service.gateway

    def upstream(self, name: str = "cloud") -> UpstreamStatistics:
        return next(each for each in self.service.upstreams() if each.name == name)

    @property
    def upstream_count(self) -> int:
        """How many there are that have not ended."""
        found = self.service._upstreams
        return 0 if found is None else len(found._running)

    def reload(self, **keys: Any) -> None:
        """Go on with another configuration: these keys of `Config` changed."""
        self.service.reconfigure(attrs.evolve(self.gateway.config, **keys))


@asynccontextmanager
async def bridge(*upstreams: UpstreamConfig, names: tuple[str, ...] = ("one",), **keys: Any) -> AsyncIterator[Bridge]:
    """A gateway with fixture servers in memory, which dials these upstreams; by default it ``waits`` for them."""
    waits = keys.pop("waits", True)
    given = keys.pop("adapters", None)
    made = adapters(*names) if given is None else given
    servers: dict[str, ServerConfig] = {name: InProcessServer(name, module="object:given") for name in made}
    config = Config(
        upstreams=upstreams,
        servers={**servers, **keys.pop("servers", {})},
        **{"shutdown_timeout": 1.0, "startup_wait": 30.0, "list_timeout": 30.0, **keys},
    )
    gateway = Gateway(config, made)
    has_a_key(gateway)
    service, stop = Service(gateway, listening=keys.get("listen") is not None), trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(service.run, stop=stop))
        if waits:
            await gateway.ready()
        try:
            yield Bridge(service, stop, made)
        finally:
            stop.set()
    assert len(gateway.sweeper) == 0
    assert len(gateway.sessions) == 0
    assert {bound.held for bound in gateway.statistics().clients.values()} == {0}
