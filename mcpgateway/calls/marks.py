"""Which arguments of a tool our own requests to a modern server over HTTP mirror in headers.

The tools' schemas say it (MCP 2026-07-28, transports, "Custom Headers"). A client of another transport or era, or in
Python, has no such headers, so the gateway makes them. It lists the tools again when the server says that header and
body differ: the tool may have changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final
from weakref import WeakKeyDictionary

from mcpgateway.calls.call import Dispatcher
from mcpgateway.calls.targets import named
from mcpgateway.calls.tool_parameters import Parameters, ToolParameters, parameters_of
from mcpgateway.catalog.items import Item
from mcpgateway.errors import InvalidParams
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.headers import request_headers
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller
from mcpgateway.wire.waiting import Wait, interruptible

_NONE: Final[Mapping[bytes, bytes]] = {}


class Marks:
    """What the tools of servers over HTTP mirror, by server and name; nothing is kept of tools that mirror nothing."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._parameters = ToolParameters[str](dispatcher, WeakKeyDictionary(), _marked)
        self._known = self._parameters.known

    async def of(
        self, server: Server, caller: Caller, message: Message, wait: Wait, *, anew: bool = False
    ) -> Mapping[bytes, bytes]:
        """See `mcpgateway.calls.helpers.Heading`: the tools are listed where that was not done yet, or ``anew``."""
        headers = None if anew else self.at_hand(server, message)
        if headers is not None:
            return headers
        if message.method == "tools/call" and not server.pipe:
            with interruptible(wait):
                await self._parameters.renew(server, caller, self._known.get(server))
        return self._made(server, message)

    def at_hand(self, server: Server, message: Message) -> Mapping[bytes, bytes] | None:
        """See `mcpgateway.calls.helpers.Heading`."""
        if message.method == "tools/call" and not server.pipe and self._known.get(server) is None:
            return None
        try:
            return self._made(server, message)
        except InvalidParams:
            return None

    def _made(self, server: Server, message: Message) -> Mapping[bytes, bytes]:
        """The headers of a request, with what its tool mirrors as far as is known."""
        if server.pipe:
            return _NONE
        known = self._known.get(server) if message.method == "tools/call" else None
        if not known:
            return request_headers(message)
        try:
            return request_headers(message, known.get(named(message, "name"), ()))
        except InvalidParams:
            return request_headers(message)  # the server's to refuse


def _marked(tools: Iterable[Item]) -> Mapping[str, Parameters]:
    return {tool.name: parameters for tool in tools if (parameters := parameters_of(tool))}
