"""``subscriptions/listen`` of modern clients at legacy servers (MCP 2026-07-28, subscriptions).

A legacy server tells of changes on whatever session it likes, and of resources on the one that subscribed to them. So a
listener hears what comes on any link that is not another client's session, and its resources are subscribed to, once
for all who listen to the same, on a link that is kept meanwhile and made anew when it is lost.
"""

from __future__ import annotations

import logging
from functools import partial

import attrs
import trio

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Back, Event, NoBack, Reply
from mcpgateway.calls.changes import Changes
from mcpgateway.calls.interests import SUBSCRIBE
from mcpgateway.calls.keys import key_for
from mcpgateway.calls.listener import Listener
from mcpgateway.errors import GatewayError, Reconfigured, ShuttingDown
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.translation.subscriptions import acknowledgement, ended, of_listen, stamped
from mcpgateway.servers.ledger import LinkKey
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller
from mcpgateway.wire.waiting import Sweeper, Wait, interruptible

log = logging.getLogger("mcpgateway.server")


class Listening:
    """Serves subscriptions; ``changes`` brings what the servers say."""

    def __init__(self, changes: Changes, sweeper: Sweeper) -> None:
        self._changes = changes
        self._sweeper = sweeper

    def heard(self, server: Server, key: LinkKey, message: Message) -> None:
        """Take what a server said during a call that is for those who listen."""
        self._changes.heard_in_call(server, key, message)

    async def serve(self, server: Server, client: Caller, message: Message, wait: Wait, back: Back) -> Reply:
        """Listen until the subscription ends, gracefully where it is the gateway that ends it.

        :raises InvalidParams: what is to be listened to is malformed
        :raises GatewayError: the server cannot be reached, or what the ``wait`` was ended with
        """
        id = message.id or b"null"
        self._sweeper.add(wait)
        try:
            with interruptible(wait):
                slot = await server.acquire(key_for(client, server))
            server.release(slot)
            assert slot.link is not None
            interest = of_listen(message.params, slot.link.negotiated.capabilities)
            listener = Listener(client, server, interest, self._changes.outboxes)
            with self._changes.listening(listener, slot.key):
                await self._subscribe(listener, wait)
                await back.send(Event(acknowledgement(id, listener.interest)))
                stream = listener.outbox.standing
                stream.attach(wait)
                await stream.drain(wait, _Stamping(back, id))
        except (ShuttingDown, Reconfigured):
            pass
        finally:
            self._sweeper.discard(wait)
        return Reply(ended(id))

    async def _subscribe(self, listener: Listener, wait: Wait) -> None:
        """Subscribe to the resources that are to be heard of; what the server refuses is not honoured."""
        honoured: list[str] = []
        for uri in listener.interest.uris:
            asked = jsonrpc.request(b"0", SUBSCRIBE, {"uri": uri})
            subscribe = partial(self._changes.interests.serve, listener.server, listener, asked, Wait(), NoBack())
            try:
                with interruptible(wait):
                    reply = await subscribe()
            except GatewayError as problem:
                wait.check()
                log.info("%s is not listened to: %s", uri, problem.message)
                continue
            if reply.message.error is None:
                honoured.append(uri)
        listener.interest = attrs.evolve(listener.interest, uris=tuple(honoured))


class _Stamping:
    """The way to the client, on which every message carries the id of the subscription."""

    def __init__(self, back: Back, id: bytes) -> None:
        self._back = back
        self._id = id

    async def send(self, event: Event) -> None:
        if event.message is None:
            await trio.lowlevel.checkpoint()
            return
        await self._back.send(Event(stamped(event.message, self._id)))
