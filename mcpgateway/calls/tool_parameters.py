"""Which arguments of tools are mirrored in headers (MCP 2026-07-28, transports, "Custom Headers"), as servers list it.

Whoever compares such headers (`mirrors`) or makes them (`marks`) has to know it before a call, and whether a tool has
changed. So the tools are listed when one is first called, and anew when what is known may be stale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Final, Generic, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

import trio

from mcpgateway import jsonrpc
from mcpgateway.calls.call import Dispatcher
from mcpgateway.calls.listing import fetch
from mcpgateway.catalog.items import Item, Kind
from mcpgateway.errors import GatewayError, InvalidParams
from mcpgateway.jsonrpc import members_of, value_of
from mcpgateway.protocol.param_headers import MARK, HeaderParameter, header_parameters
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller

PATIENCE: Final = 5.0
"""Seconds that a call waits for a listing."""

_MARK: Final = MARK.encode()
K = TypeVar("K")
Parameters: TypeAlias = "tuple[HeaderParameter, ...]"


class ToolParameters(Generic[K]):
    """What the tools of servers mirror: ``known`` is kept up by `renew`, with what ``note`` makes of a listing."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        known: MutableMapping[Server, Mapping[K, Parameters]],
        note: Callable[[Iterable[Item]], Mapping[K, Parameters]],
    ) -> None:
        self.known = known
        self._dispatcher = dispatcher
        self._note = note
        self._listing: WeakKeyDictionary[Server, trio.Lock] = WeakKeyDictionary()
        """One listing of a server at a time: the others take what it found."""
        self._failed: WeakKeyDictionary[Server, float] = WeakKeyDictionary()
        """When a server did not list; for `PATIENCE` seconds nobody asks it again."""

    async def renew(self, server: Server, caller: Caller, seen: Mapping[K, Parameters] | None) -> None:
        """List the tools of a server, unless somebody else has since what is known was ``seen``.

        Where the server cannot list them, what is known stays, and the call itself finds out more.
        """
        async with self._listing.setdefault(server, trio.Lock()):
            failed = self._failed.get(server, -PATIENCE)
            if self.known.get(server) is seen and trio.current_time() >= failed + PATIENCE:
                await self._list(server, caller)

    async def _list(self, server: Server, caller: Caller) -> None:
        with trio.move_on_after(PATIENCE):
            try:
                listing = await fetch(self._dispatcher, server, caller, Kind.TOOLS)
            except GatewayError:
                pass
            else:
                self.known[server] = self._note(listing.items if listing else ())
                return
        self._failed[server] = trio.current_time()


def parameters_of(item: Item) -> Parameters:
    """The arguments that a listed tool mirrors."""
    if _MARK not in bytes(item.raw):
        return ()
    try:
        return header_parameters(value_of(members_of(item.raw).get("inputSchema", jsonrpc.NULL)))
    except InvalidParams:
        return ()  # a schema that cannot be read has no marks
