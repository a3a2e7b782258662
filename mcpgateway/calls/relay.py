"""The back-channel of one call, between a server's link and the client."""

from __future__ import annotations

from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Back, Event, Link
from mcpgateway.errors import MethodNotFound
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.capabilities import declared
from mcpgateway.protocol.methods import CLIENT_CAPABILITIES
from mcpgateway.sessions.caller import Caller


class Relay:
    """Hands a call's events on to its client.

    A server's request goes to the client under an id of the session's, so that two servers behind one session never
    collide; what the client did not declare, or cannot be asked, is refused on its behalf.
    """

    __slots__ = ("_back", "_caller", "_link")

    def __init__(self, caller: Caller, link: Link, back: Back) -> None:
        self._caller = caller
        self._link = link
        self._back = back

    async def send(self, event: Event) -> None:
        message = event.message
        if message is None or message.id is None or message.method is None:
            await self._back.send(event)
            return
        session = self._caller.session
        if session is None or not _may_ask(self._caller, message.method):
            refusal = MethodNotFound(f"the client did not declare what {message.method} needs")
            await self._link.notify(jsonrpc.error(message.id, refusal))
            return
        own = session.ask(self._link, message.id)
        await self._back.send(Event(message.replace(id=Raw(own)), event.id, event.retry))


def _may_ask(caller: Caller, method: str) -> bool:
    if method == "ping":
        return True
    needed = CLIENT_CAPABILITIES.get(method)
    # What this gateway does not know the capability of (2025 tasks, extensions) is the two ends' own business.
    return needed is None or declared(caller.capabilities, needed)


async def answer(caller: Caller, message: Message) -> bool:
    """Bring a client's answer to the server that asked; false if nobody did."""
    session = caller.session
    if session is None or message.id is None:
        return False
    link, id = session.questions.pop(message.id, (None, b""))
    if link is None:
        return False
    await link.notify(message.replace(id=Raw(id)))
    return True

