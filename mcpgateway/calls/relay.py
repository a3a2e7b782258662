"""The back-channel of one call, between a server's link and the client."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Back, Event, Link
from mcpgateway.calls.targets import level_of
from mcpgateway.errors import GatewayError, MethodNotFound, ServerError
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.capabilities import declared
from mcpgateway.protocol.methods import CLIENT_CAPABILITIES
from mcpgateway.sessions.caller import Caller
from mcpgateway.sessions.interests import passes
from mcpgateway.wire.waiting import Wait

log = logging.getLogger("mcpgateway.server")

LOG = "notifications/message"

Asked: TypeAlias = Callable[[Link, Message], Awaitable[None]]
"""Takes what a server asks during a call, in the place of the client's session."""


class Relay:
    """Hands a call's events on to its client.

    A server's request goes to the client under an id of the session's, so that two servers behind one session never
    collide; what the client did not declare, or cannot be asked, is refused on its behalf. Progress shows the server
    to be at work, and renews the deadline of the call.
    """

    __slots__ = ("_ask", "_back", "_caller", "_link", "_wait", "asked", "used")

    def __init__(self, caller: Caller, link: Link, back: Back, wait: Wait, ask: Asked | None = None) -> None:
        self._ask = ask
        self._caller = caller
        self._link = link
        self._back = back
        self._wait = wait
        self.asked: tuple[bytes, ...] = ()
        """The ids under which the client was asked during this call."""
        self.used = False
        """Something was sent to the client, or answered in its place."""

    async def send(self, event: Event) -> None:
        self.used = True
        message = event.message
        if message is None or message.method is None or message.id is None:
            if message is not None and message.method == "notifications/progress":
                self._wait.renew()
            elif message is not None and message.method == LOG and not self._wanted(message):
                return
            await self._back.send(event)
            return
        if self._ask is not None:
            await self._ask(self._link, message)
            return
        session = self._caller.session
        if session is None and message.method == "ping":
            await self._answer(jsonrpc.result(message.id, {}))
            return
        try:
            if session is None or not may_ask(self._caller, message.method):
                raise MethodNotFound(f"the client did not declare what {message.method} needs")
            own = session.ask(self._link, message.id)
        except GatewayError as refusal:
            await self._answer(jsonrpc.error(message.id, refusal))
            return
        self.asked += (own,)
        await self._back.send(Event(message.replace(id=Raw(own)), event.id, event.retry))

    def _wanted(self, message: Message) -> bool:
        """Whether a log message is for a client whose server logs for others too."""
        session = self._caller.session
        return session is None or session.level is None or passes(level_of(message), session.level)

    async def _answer(self, message: Message) -> None:
        try:
            await self._link.notify(message)
        except ServerError as problem:
            log.info("%s", problem.message)

    def forget(self) -> None:
        """The call is over, and with it what the client was asked and has not answered."""
        session = self._caller.session
        if session is not None:
            for own in self.asked:
                session.questions.pop(own, None)


def may_ask(caller: Caller, method: str) -> bool:
    """Whether a client may be sent this request of a server: it declared what that needs."""
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
