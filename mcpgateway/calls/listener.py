"""A modern client that listens to a legacy server, as the books about sessions know it."""

from __future__ import annotations

from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.translation.subscriptions import UPDATED, Interest
from mcpgateway.servers.ledger import LinkKey
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller
from mcpgateway.sessions.outbox import Outboxes
from mcpgateway.sessions.store import Session


class Listener(Session):
    """One subscription: a session of nobody's store, with an outbox and what it is to hear of."""

    __slots__ = ("interest", "server")

    def __init__(self, client: Caller, server: Server, interest: Interest, outboxes: Outboxes) -> None:
        # A caller of its own, which has no session: its links are those of the client's calls.
        caller = Caller(client.era, client.revision, client.capabilities, principal=client.principal, resumes=False)
        caller.pooled = client.pooled
        super().__init__("", "", caller, "", outboxes)
        caller.session = None
        self.server = server
        self.interest = interest

    def hears(self, server: Server, key: LinkKey, message: Message) -> bool:
        """Whether a change of a listing that a link brought is for it; updates come by `Subscriptions`."""
        others = bool(key.owner) and key.owner != self.caller.principal
        return server is self.server and not others and message.method != UPDATED and self.interest.hears(message)
