"""Calls of modern clients on servers that are spoken to in the legacy era.

A modern client has no session, a legacy server knows nothing else. So calls use sessions of the gateway's, which are
negotiated with the capabilities that the request declares and shared by the requests of one principal that declare the
same. What passes is translated by `mcpgateway.protocol.translation`; this module is the way around it. A call that the
server may ask something about is `mcpgateway.calls.parking`'s, what is listened to is that of
`mcpgateway.calls.listening`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Final

import trio

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Back, Continuation, Done, Link, Outcome, Reply, Request
from mcpgateway.calls.call import Dispatcher
from mcpgateway.calls.keys import key_for
from mcpgateway.calls.levels import tell_level, wants_logs
from mcpgateway.calls.listening import Listening
from mcpgateway.calls.parking import Parking
from mcpgateway.calls.visits import ToModern, Visitor, level_of, replied
from mcpgateway.errors import GatewayError, MethodNotFound
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.methods import MAY_ASK
from mcpgateway.protocol.negotiated import Negotiated
from mcpgateway.protocol.revisions import LATEST_LEGACY, Era
from mcpgateway.protocol.translation import handshakes, parked, requests
from mcpgateway.protocol.translation.capabilities import of_session
from mcpgateway.protocol.translation.subscriptions import LISTEN
from mcpgateway.servers.ledger import Slot
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller
from mcpgateway.wire.waiting import Wait, interruptible

log = logging.getLogger("mcpgateway.server")

_ANSWERED_HERE: Final = frozenset({"server/discover", LISTEN})


class ModernClients:
    """The crossing of modern clients; `cross` is what `mcpgateway.calls.call.Dispatcher.crossings` holds for them."""

    def __init__(self, dispatcher: Dispatcher, parking: Parking, listening: Listening) -> None:
        self._dispatcher = dispatcher
        self._parking = parking
        self._listening = listening

    async def cross(
        self,
        server: Server,
        caller: Caller,
        message: Message,
        wait: Wait,
        back: Back,
        headers: Mapping[bytes, bytes] | None,
    ) -> Reply:
        """Make a call; see `mcpgateway.calls.helpers.Crossing`. The headers have been compared and end here.

        :raises MethodNotFound: a method that a legacy server cannot be asked for in a modern client's name
        :raises InvalidParams: an unknown log level, or a retry that is none
        """
        method = message.method or ""
        level = level_of(message)
        client = as_legacy(caller)
        if method == "server/discover":
            return await self._discover(server, client, message, wait)
        if method == LISTEN:
            return await self._listening.serve(server, client, message, wait, back)
        asked = requests.to_legacy(message)
        told = ToModern(back, level, partial(self._listening.heard, server, key_for(client, server)))
        if method in MAY_ASK:
            state = parked.state_of(message.params)
            if state is not None or client.askable:
                visitor = Visitor(caller, message, level, wait, told)
                if state is not None:
                    return await self._parking.resume(state, server, asked, visitor)
                return await self._parking.begin(server, client, asked, visitor)
        escort = Logging(level) if level is not None and wants_logs(server, level) else None
        reply = await self._dispatcher.straight(server, client, asked, wait, told, escort=escort)
        return replied(server, caller, method, reply)

    def begin(self, server: Server, caller: Caller, message: Message, wait: Wait, done: Done) -> bool:
        """`cross` without a task, for what is a request and a reply; see `mcpgateway.calls.helpers.CrossingBegun`."""
        method = message.method or ""
        if method in _ANSWERED_HERE:
            return False
        try:
            if level_of(message) is not None or (method in MAY_ASK and parked.state_of(message.params) is not None):
                return False
            client = as_legacy(caller)
            asked = requests.to_legacy(message)
        except GatewayError:
            return False  # which `cross` will say
        outside = partial(self._listening.heard, server, key_for(client, server))

        def settled(outcome: Outcome) -> None:
            if isinstance(outcome, Reply):
                try:
                    outcome = replied(server, caller, method, outcome)
                except GatewayError as problem:
                    done(problem)
                else:
                    done(outcome)
            elif isinstance(outcome, Exception):
                done(outcome)
            else:
                done(partial(go_on, outcome))

        async def go_on(continuation: Continuation, back: Back) -> Reply:
            return replied(server, caller, method, await continuation(ToModern(back, None, outside)))

        return self._dispatcher.begin(server, client, asked, wait, None, settled)

    async def _discover(self, server: Server, client: Caller, message: Message, wait: Wait) -> Reply:
        negotiated = server.spoken.get(Era.LEGACY)
        if negotiated is None:
            negotiated = await self._negotiated(server, client, wait)
        result = handshakes.discover_result(negotiated.result, server=server.name)
        await trio.lowlevel.checkpoint()
        return Reply(jsonrpc.result(message.id or b"null", result))

    async def _negotiated(self, server: Server, client: Caller, wait: Wait) -> Negotiated:
        with interruptible(wait):
            slot = await server.acquire(key_for(client, server))
        server.release(slot)
        assert slot.link is not None
        return slot.link.negotiated


def as_legacy(caller: Caller) -> Caller:
    """The client that a legacy server sees in a modern one's place."""
    client = caller.counterpart
    if client is None:
        capabilities = of_session(caller.capabilities)
        client = Caller(Era.LEGACY, LATEST_LEGACY, capabilities, principal=caller.principal)
        client.pooled = True
        caller.counterpart = client
    return client


class Logging:
    """The escort of a call that wants logs and cannot be asked anything."""

    def __init__(self, level: str) -> None:
        self._level = level

    async def carry(self, slot: Slot, request: Request, back: Back) -> Reply:
        assert slot.link is not None
        await tell_level(slot, self._level, request.wait)
        return await slot.link.call(request, back)

    async def asked(self, link: Link, message: Message) -> None:
        """Answer in the client's place, which declared nothing that servers may ask for."""
        id = message.id or b"null"
        if message.method == "ping":
            answer = jsonrpc.result(id, {})
        else:
            answer = jsonrpc.error(id, MethodNotFound(f"the client did not declare what {message.method} needs"))
        try:
            await link.notify(answer)
        except GatewayError as problem:
            log.info("%s", problem.message)
