"""A modern client during a call on a legacy server: what it gets to see of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import trio
from msgspec import Raw

from mcpgateway.adapters.base import Back, Event, Reply
from mcpgateway.jsonrpc import NULL, Message, members_of, raw_of
from mcpgateway.protocol import envelope
from mcpgateway.protocol.revisions import Era
from mcpgateway.protocol.translation import notifications, replies
from mcpgateway.protocol.translation.subscriptions import CHANGES, UPDATED
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller
from mcpgateway.wire.waiting import Wait

PROGRESS: Final = "notifications/progress"
NEWS: Final = frozenset({UPDATED, *(method for _, method in CHANGES.values())})
"""What a server tells those who listen, and no call."""

Outside: TypeAlias = Callable[[Message], None]
"""Takes what a server said during a call that is for those who listen. Must not block."""


class ToModern:
    """The back-channel of a call: what of a legacy server's notifications a modern client is to see.

    What is for those who listen goes ``outside``: a modern call's stream carries none of it.
    """

    def __init__(self, back: Back, level: str | None, outside: Outside) -> None:
        self._back = back
        self._level = level
        self._outside = outside

    async def send(self, event: Event) -> None:
        message = event.message
        if message is not None and message.method in NEWS:
            self._outside(message)
            message = None
        told = None if message is None else notifications.of_legacy_server(message, log_level=self._level)
        if told is None:
            await trio.lowlevel.checkpoint()
        else:
            await self._back.send(Event(told))  # modern streams have no ids, for they cannot be resumed


class Visitor:
    """One request of a modern client about a call: the first, or a retry that brings answers.

    ``message`` is the request as the client sent it, ``back`` shows what a modern client may see.
    """

    def __init__(self, caller: Caller, message: Message, level: str | None, wait: Wait, back: ToModern) -> None:
        self.caller = caller
        self.message = message
        self.wait = wait
        self.token = token_of(message)
        self.level = level
        self._back = back

    async def show(self, event: Event, known_as: Raw | None) -> None:
        """Show an event of the call, which the server knows under the progress token ``known_as``."""
        message = event.message
        if message is not None and message.method == PROGRESS and self.token != known_as:
            if self.token is None:
                await trio.lowlevel.checkpoint()
                return
            members = members_of(message.params)
            members["progressToken"] = self.token
            event = Event(message.replace(params=raw_of(members)))
        await self._back.send(event)


def token_of(message: Message) -> Raw | None:
    """The progress token of a request, raw; ``None`` where it wants no progress."""
    token = members_of(members_of(message.params).get("_meta")).get("progressToken", NULL)
    return None if token == NULL else token


def level_of(message: Message) -> str | None:
    """The log level that a modern request wants.

    :raises InvalidParams: nobody knows it
    """
    said = envelope.read(message.params)
    return None if said is None else notifications.checked_level(said.log_level)


def replied(server: Server, caller: Caller, method: str, reply: Reply) -> Reply:
    """A legacy server's reply for a modern client.

    :raises ServerMisbehaved: it is none that can be translated
    """
    told = replies.to_modern(
        method, reply.message, capabilities=caller.capabilities, server=server.name, server_info=info_of(server)
    )
    return Reply(told)


def info_of(server: Server) -> Raw | None:
    """Who a legacy server says it is."""
    negotiated = server.spoken.get(Era.LEGACY)
    return None if negotiated is None else negotiated.info
