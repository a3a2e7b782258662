"""Who helps the dispatcher with calls that are more than a request and its reply: what it knows of them, as types."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeAlias

from mcpgateway.adapters.base import Back, Done, Link, Reply, Request
from mcpgateway.jsonrpc import Message
from mcpgateway.servers.ledger import Slot
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller
from mcpgateway.wire.waiting import Wait

Crossing: TypeAlias = Callable[[Server, Caller, Message, Wait, Back, "Mapping[bytes, bytes] | None"], Awaitable[Reply]]
"""Makes a call on a server in the other era than its client's, with the arguments of `Dispatcher.call`."""

CrossingBegun: TypeAlias = Callable[[Server, Caller, Message, Wait, Done], bool]
"""Makes a plain call likewise without a task, or says that it cannot; with the arguments of `Dispatcher.begin`."""


class Heading(Protocol):
    """Makes the headers of modern requests that came without any: `mcpgateway.calls.marks.Marks`."""

    async def of(
        self, server: Server, caller: Caller, message: Message, wait: Wait, *, anew: bool = False
    ) -> Mapping[bytes, bytes]:
        """The headers; ``anew``: the server says that they are not the right."""

    def at_hand(self, server: Server, message: Message) -> Mapping[bytes, bytes] | None:
        """The same without asking the server; ``None`` where it has to be asked, or the message refused."""


class Escort(Protocol):
    """What goes with a call that crosses the eras, on every link on which it is attempted."""

    async def carry(self, slot: Slot, request: Request, back: Back) -> Reply:
        """Make the call on its leased link: `mcpgateway.adapters.base.Link.call`, and what belongs around it."""

    async def asked(self, link: Link, message: Message) -> None:
        """Take what the server asks meanwhile."""
