"""Which arguments of a tool our own requests to a modern server over HTTP mirror in headers.

The tools' schemas say it (MCP 2026-07-28, transports, "Custom Headers"). A client of another transport or era, or in
Python, has no such headers, so the gateway makes them. It lists the tools when one is first called, and again when the
server says that header and body differ: the tool may have changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias
from weakref import WeakKeyDictionary

import trio

from mcpgateway.calls.call import Dispatcher
from mcpgateway.calls.listing import fetch
from mcpgateway.calls.mirrors import PATIENCE, parameters_of
from mcpgateway.calls.targets import named
from mcpgateway.catalog.items import Kind
from mcpgateway.errors import GatewayError, InvalidParams
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.headers import request_headers
from mcpgateway.protocol.param_headers import HeaderParameter
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller
from mcpgateway.wire.waiting import Wait, interruptible

_Marks: TypeAlias = "Mapping[str, tuple[HeaderParameter, ...]]"
_NONE: Final[Mapping[bytes, bytes]] = {}


class Marks:
    """What the tools of servers over HTTP mirror, by server and name; nothing is kept of tools that mirror nothing."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._known: WeakKeyDictionary[Server, _Marks] = WeakKeyDictionary()
        self._listing: WeakKeyDictionary[Server, trio.Lock] = WeakKeyDictionary()
        """One listing of a server at a time: the others take what it found."""
        self._failed: WeakKeyDictionary[Server, float] = WeakKeyDictionary()
        """When a server did not list; for `PATIENCE` seconds nobody asks it again."""

    async def of(
        self, server: Server, caller: Caller, message: Message, wait: Wait, *, anew: bool = False
    ) -> Mapping[bytes, bytes]:
        """See `mcpgateway.calls.helpers.Heading`: the tools are listed where that was not done yet, or ``anew``."""
        headers = None if anew else self.at_hand(server, message)
        if headers is not None:
            return headers
        if message.method == "tools/call" and not server.pipe:
            seen = self._known.get(server)
            with interruptible(wait):
                async with self._listing.setdefault(server, trio.Lock()):
                    if self._known.get(server) is seen and not self._has_failed(server):
                        await self._list(server, caller)
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

    async def _list(self, server: Server, caller: Caller) -> None:
        """List the tools; where the server cannot, the call itself finds out more."""
        with trio.move_on_after(PATIENCE):
            try:
                listing = await fetch(self._dispatcher, server, caller, Kind.TOOLS)
            except GatewayError:
                pass
            else:
                marked = {item.name: parameters_of(item) for item in (listing.items if listing else ())}
                self._known[server] = {name: parameters for name, parameters in marked.items() if parameters}
                return
        self._failed[server] = trio.current_time()

    def _has_failed(self, server: Server) -> bool:
        return trio.current_time() < self._failed.get(server, -PATIENCE) + PATIENCE
