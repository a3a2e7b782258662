"""Pages of merged listings.

A cursor says after which entry to go on, sealed for the one client and listing that it was made for. Servers may list
more or less between two pages: whatever stands behind the named entry by then is on the next page, so nothing comes
twice, and nothing is missed that was there all the time. If the named entry itself has gone, there is no telling what
was shown, and the cursor is invalid: the client lists anew (MCP, pagination).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mcpgateway.catalog.items import Kind
from mcpgateway.catalog.table import Entry
from mcpgateway.errors import InvalidParams
from mcpgateway.sessions.caller import Caller
from mcpgateway.sessions.sealing import Broken, Sealer

LIFETIME: Final = 3600.0
"""Seconds for which a cursor opens."""
_PURPOSE: Final = "cursor"


def page(entries: Sequence[Entry], after: str | None, size: int) -> tuple[Sequence[Entry], str | None]:
    """The entries after the one of that name (all, for ``None``), and the name to go on after, if there are more.

    :raises InvalidParams: there is no entry of that name
    """
    start = 0
    if after is not None:
        start = next((index for index, entry in enumerate(entries, 1) if entry.name == after), 0)
        if not start:
            raise invalid("the listing has changed; list again from the start")
    shown = entries[start : start + size]
    return shown, shown[-1].name if len(entries) > start + size else None


def invalid(why: str = "") -> InvalidParams:
    return InvalidParams(f"Invalid cursor: {why}" if why else "Invalid cursor")


class Cursors:
    """The cursors of one namespace."""

    def __init__(self, sealer: Sealer, namespace: str) -> None:
        self._sealer = sealer
        self._namespace = namespace

    async def seal(self, caller: Caller, kind: Kind, name: str) -> str:
        """The cursor of the page after the entry of that name."""
        await self._sealer.load()
        return self._sealer.seal(_PURPOSE, {"after": name}, binding=self._binding(caller, kind), lifetime=LIFETIME)

    async def open(self, caller: Caller, kind: Kind, cursor: str) -> str:
        """The name that a cursor holds.

        :raises InvalidParams: it is not ours, not this client's, not of this listing, or expired: all the same to it
        """
        await self._sealer.load()
        try:
            return str(self._sealer.open(_PURPOSE, cursor, binding=self._binding(caller, kind))["after"])
        except Broken:
            raise invalid() from None

    def _binding(self, caller: Caller, kind: Kind) -> tuple[str, ...]:
        era = "any" if caller.era is None else caller.era.value
        return (caller.principal, self._namespace, kind.value, era, caller.capability_set.decode())
