"""Mirrored arguments in front of servers that have no headers (MCP 2026-07-28, transports, "Custom Headers").

A modern client over HTTP mirrors arguments as ``Mcp-Param-*``, and whoever reads both has to compare them. A modern
server over HTTP does that itself; in front of a pipe, or of a legacy server, nobody else can, so the gateway does, by
the schemas that the server lists. Before it refuses, it lists them again: the tool may have changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Raw

from mcpgateway.calls.call import Dispatcher
from mcpgateway.calls.targets import named
from mcpgateway.calls.tool_parameters import Parameters, ToolParameters, parameters_of
from mcpgateway.catalog.items import Item
from mcpgateway.config.model import EraPolicy
from mcpgateway.errors import JSON, HeaderMismatch, InvalidParams
from mcpgateway.jsonrpc import Message, members_of, value_of
from mcpgateway.protocol.header_values import encode_value
from mcpgateway.protocol.headers import NAME
from mcpgateway.protocol.param_headers import check_parameters
from mcpgateway.protocol.revisions import Era
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller

_NOTHING: Final[Mapping[bytes | None, Parameters]] = {}


class Mirrors:
    """What tools of servers behind pipes mirror, as one namespace knows it; by server, then by ``Mcp-Name``.

    ``headers`` are those that go to the server, so ``Mcp-Name`` holds its own name for the tool.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._parameters = ToolParameters[bytes | None](dispatcher, {}, _by_header)
        self._known = self._parameters.known

    def clear(self, server: Server, headers: Mapping[bytes, bytes] | None) -> bool:
        """Whether a ``tools/call`` has nothing to compare, as far as is known. 0.2 µs."""
        if headers is None or not (server.pipe or _reads_none(server)):
            return True
        return self._known.get(server, _NOTHING).get(headers.get(NAME)) == ()

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
        seen = self._known.get(server)
        if seen is not None and name in seen and _agree(seen[name], arguments, headers):
            return
        await self._parameters.renew(server, caller, seen)
        check_parameters(self._known.get(server, _NOTHING).get(name, ()), arguments, headers)


def _by_header(tools: Iterable[Item]) -> Mapping[bytes | None, Parameters]:
    return {encode_value(tool.name): parameters_of(tool) for tool in tools}


def _reads_none(server: Server) -> bool:
    """Whether a server over HTTP is spoken to in the era that knows of no mirrored arguments."""
    return not server.may_speak(Era.MODERN) or server.config.era is EraPolicy.LEGACY


def _agree(parameters: Parameters, arguments: JSON, headers: Mapping[bytes, bytes]) -> bool:
    try:
        check_parameters(parameters, arguments, headers)
    except HeaderMismatch:
        return False
    return True


def _arguments(message: Message) -> JSON:
    try:
        return value_of(members_of(message.params).get("arguments", Raw(b"null")))
    except InvalidParams:
        return None
