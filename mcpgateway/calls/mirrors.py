"""Mirrored arguments in front of servers that have no headers (MCP 2026-07-28, transports, "Custom Headers").

A modern client over HTTP mirrors arguments as ``Mcp-Param-*``, and whoever reads both has to compare them. A modern
server over HTTP does that itself; in front of a pipe, or of a legacy server, nobody else can, so the gateway does, by
the schemas that the server lists. It lists them when a tool is first called, and again before it refuses: the tool may
have changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.calls.call import Dispatcher
from mcpgateway.calls.listing import fetch
from mcpgateway.calls.targets import named
from mcpgateway.catalog.items import Item, Kind
from mcpgateway.config.model import EraPolicy
from mcpgateway.errors import JSON, GatewayError, HeaderMismatch, InvalidParams
from mcpgateway.jsonrpc import Message, members_of, value_of
from mcpgateway.protocol.header_values import encode_value
from mcpgateway.protocol.headers import NAME
from mcpgateway.protocol.param_headers import MARK, HeaderParameter, check_parameters, header_parameters
from mcpgateway.protocol.revisions import Era
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller

_Known: TypeAlias = "dict[bytes | None, tuple[HeaderParameter, ...]]"
_MARK: Final = MARK.encode()
_NOTHING: Final[_Known] = {}
PATIENCE: Final = 5.0
"""Seconds that a call waits for a listing."""


class Mirrors:
    """What tools of servers behind pipes mirror, as one namespace knows it; by server, then by ``Mcp-Name``.

    ``headers`` are those that go to the server, so ``Mcp-Name`` holds its own name for the tool.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._known: dict[str, _Known] = {}
        self._listing: dict[str, trio.Lock] = {}
        """One listing of a server at a time: the others take what it found."""
        self._failed: dict[str, float] = {}
        """When a server did not list; for `PATIENCE` seconds nobody asks it again."""

    def clear(self, server: Server, headers: Mapping[bytes, bytes] | None) -> bool:
        """Whether a ``tools/call`` has nothing to compare, as far as is known. 0.2 µs."""
        if headers is None or not (server.pipe or _reads_none(server)):
            return True
        return self._known.get(server.name, _NOTHING).get(headers.get(NAME)) == ()

    async def check(
        self, server: Server, caller: Caller, message: Message, headers: Mapping[bytes, bytes] | None
    ) -> None:
        """Hold the headers of a ``tools/call`` against its arguments. A tool that is not there the server refuses.

        :raises HeaderMismatch: they differ
        :raises InvalidParams: it names no tool
        """
        if headers is None or self.clear(server, headers):
            return
        name = encode_value(named(message, "name"))
        arguments = _arguments(message)
        seen = self._known.get(server.name)
        if seen is not None and name in seen and _agree(seen[name], arguments, headers):
            return
        async with self._listing.setdefault(server.name, trio.Lock()):
            if self._known.get(server.name) is seen and not self._has_failed(server):
                await self._list(server, caller)
        check_parameters(self._known.get(server.name, _NOTHING).get(name, ()), arguments, headers)

    async def _list(self, server: Server, caller: Caller) -> None:
        """List the tools anew; if the server cannot, nothing is compared, and the call itself finds out more."""
        with trio.move_on_after(PATIENCE):
            try:
                listing = await fetch(self._dispatcher, server, caller, Kind.TOOLS)
            except GatewayError:
                pass
            else:
                items = listing.items if listing else ()
                self._known[server.name] = {encode_value(item.name): parameters_of(item) for item in items}
                return
        self._failed[server.name] = trio.current_time()

    def _has_failed(self, server: Server) -> bool:
        return trio.current_time() < self._failed.get(server.name, -PATIENCE) + PATIENCE


def _reads_none(server: Server) -> bool:
    """Whether a server over HTTP is spoken to in the era that knows of no mirrored arguments."""
    return not server.may_speak(Era.MODERN) or server.config.era is EraPolicy.LEGACY


def _agree(parameters: tuple[HeaderParameter, ...], arguments: JSON, headers: Mapping[bytes, bytes]) -> bool:
    try:
        check_parameters(parameters, arguments, headers)
    except HeaderMismatch:
        return False
    return True


def parameters_of(item: Item) -> tuple[HeaderParameter, ...]:
    """The arguments that a listed tool mirrors."""
    if _MARK not in bytes(item.raw):
        return ()
    try:
        return header_parameters(value_of(members_of(item.raw).get("inputSchema", jsonrpc.NULL)))
    except InvalidParams:
        return ()  # a schema that cannot be read has no marks


def _arguments(message: Message) -> JSON:
    try:
        return value_of(members_of(message.params).get("arguments", Raw(b"null")))
    except InvalidParams:
        return None
