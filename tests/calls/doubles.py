"""Gateways without a wire: servers in this process, clients that are calls on a namespace."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager

import attrs
import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Adapter, Back, Event, NoBack, Reply
from mcpgateway.calls.namespace import Namespace
from mcpgateway.config.model import Config, InProcessServer, ServerConfig
from mcpgateway.demo.server import BOTH
from mcpgateway.errors import JSON
from mcpgateway.gateway import Gateway
from mcpgateway.jsonrpc import Message, members_of, raw_of, value_of
from mcpgateway.protocol import envelope
from mcpgateway.protocol.headers import request_headers
from mcpgateway.protocol.revisions import LATEST_LEGACY, LATEST_MODERN, Era
from mcpgateway.sessions.caller import Caller
from mcpgateway.testing.fixture_server import FixtureServer
from mcpgateway.wire.waiting import Wait
from tests.servers.doubles import Counting


class Library(FixtureServer):
    """The fixture server with something of every kind, and what was asked of it."""

    instructions = "Read before you ask."

    def __init__(self, *, eras: Collection[Era] = BOTH) -> None:
        super().__init__(eras=eras)
        self.seen: list[Message] = []

    def handle(self, message: Message) -> list[Message]:
        self.seen.append(message)
        if message.method == "completion/complete":
            return [jsonrpc.result(message.id or b"", {"completion": {"values": [members_of(message.params)["ref"]]}})]
        if message.method == "logging/setLevel":
            return [jsonrpc.result(message.id or b"", {})]
        return super().handle(message)

    def _capabilities(self) -> dict[str, JSON]:
        return {**super()._capabilities(), "completions": {}, "logging": {}}

    def resources(self) -> list[JSON]:
        return [{"uri": f"book://{self.name}/1", "name": "one"}]

    def templates(self) -> list[JSON]:
        return [{"uriTemplate": f"shelf://{self.name}/{{n}}", "name": "shelf"}]

    def read(self, uri: str) -> list[JSON] | None:
        return [{"uri": uri, "text": f"{uri} of {self.name}"}] if self.name in uri else None

    def prompts(self) -> list[JSON]:
        return [{"name": "greet", "x-unknown": 1.0}]

    def prompt(self, name: str, arguments: dict[str, JSON]) -> dict[str, JSON] | None:
        return {"messages": [], "description": f"{name} of {self.name}"} if name == "greet" else None

    def asked(self, method: str) -> list[Message]:
        return [message for message in self.seen if message.method == method]


def library(name: str, *, eras: Collection[Era] = BOTH) -> Counting:
    """An adapter to a `Library` of this name."""
    return Counting(name, type(name, (Library,), {"name": name}), eras=eras)


def host(adapter: Counting) -> Library:
    found = adapter.host
    assert isinstance(found, Library)
    return found


def has_a_key(gateway: Gateway) -> None:
    """Give it a key to seal with: a thread would read one, and virtual time does not wait for threads."""
    gateway.sealer._keys = lambda: [b"k" * 32]
    gateway.sealer._ring = gateway.sealer._read()


@asynccontextmanager
async def gateway_of(
    *adapters: Adapter,
    configs: Mapping[str, ServerConfig] | None = None,
    config: Config | None = None,
    ready: bool = True,
) -> AsyncIterator[Gateway]:
    """A running gateway over these adapters, each a stdio-like server unless ``configs`` say otherwise; once it is
    ready, or at once."""
    given = {adapter.server: InProcessServer(adapter.server, module="m:s") for adapter in adapters}
    config = attrs.evolve(config or Config(), servers={**given, **(configs or {})})
    gateway = Gateway(config, {adapter.server: adapter for adapter in adapters})
    if config.state_dir == Config().state_dir:
        has_a_key(gateway)
    async with trio.open_nursery() as nursery:
        await nursery.start(gateway.run)
        if ready:
            await gateway.ready()
        yield gateway
        await gateway.aclose()
        nursery.cancel_scope.cancel(reason="the test is over")


class Collecting:
    """A back-channel that keeps the messages it gets."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def send(self, event: Event) -> None:
        await trio.lowlevel.checkpoint()
        if event.message is not None:
            self.messages.append(event.message)


def legacy(capabilities: bytes = b"{}", revision: str = LATEST_LEGACY) -> Caller:
    return Caller(Era.LEGACY, revision, Raw(capabilities))


def modern(capabilities: bytes = b"{}") -> Caller:
    return Caller(Era.MODERN, LATEST_MODERN, Raw(capabilities))


CALLERS_OF_BOTH = {Era.LEGACY: legacy, Era.MODERN: modern}


def session_of(gateway: Gateway, namespace: Namespace, caller: Caller, id: str = "session") -> Caller:
    """The caller in a session of its own, as if it had initialised without anything passing through."""
    gateway.sessions.open(id, namespace.name, caller)
    return caller


def space(gateway: Gateway, name: str = "") -> Namespace:
    namespace = gateway.namespace(name)
    assert namespace is not None
    return namespace


async def ask(
    namespace: Namespace,
    caller: Caller,
    method: str,
    params: Mapping[str, object] | None = None,
    *,
    wait: Wait | None = None,
    back: Back | None = None,
) -> Reply:
    """A request of a client, in its own era, under the id ``"c1"``."""
    message = jsonrpc.request(b'"c1"', method, params or {})
    headers = None
    if caller.era is Era.MODERN:
        stamped = envelope.stamp(message.params, revision=LATEST_MODERN, capabilities=caller.capabilities)
        message = message.replace(params=stamped)
        headers = {**request_headers(message), b"authorization": b"secret", b"mcp-session-id": b"x"}
    return await namespace.serve(caller, message, wait or Wait(), back or NoBack(), headers)


async def use(namespace: Namespace, caller: Caller, tool: str, **arguments: JSON) -> dict[str, JSON]:
    """Call a tool; its decoded result."""
    return result(await ask(namespace, caller, "tools/call", {"name": tool, "arguments": arguments}))


def result(reply: Reply) -> dict[str, JSON]:
    assert reply.message.result is not None, reply.message.encode()
    value = value_of(reply.message.result)
    assert isinstance(value, dict)
    return value


def names(reply: Reply, member: str = "tools", key: str = "name") -> list[str]:
    """The names in a listing."""
    entries = result(reply)[member]
    assert isinstance(entries, list)
    return [str(entry[key]) for entry in entries if isinstance(entry, dict)]


def handshake(name: str = "client", capabilities: bytes = b"{}", revision: str = LATEST_LEGACY) -> Raw:
    return raw_of({"protocolVersion": revision, "capabilities": Raw(capabilities), "clientInfo": {"name": name}})
