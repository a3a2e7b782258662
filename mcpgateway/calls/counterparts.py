"""Legacy clients as modern servers see them: what a session says once, said with every request."""

from __future__ import annotations

from msgspec import Raw

from mcpgateway.protocol.revisions import LATEST_MODERN, Era
from mcpgateway.protocol.translation.capabilities import of_client
from mcpgateway.protocol.translation.requests import Sender, sender_of
from mcpgateway.sessions.caller import Caller


def introduced(caller: Caller, params: Raw) -> None:
    """Note what a legacy client says of itself in the raw params of its ``initialize``."""
    caller.client_info = sender_of(params).client_info


def counterpart(caller: Caller) -> Caller:
    """A legacy client as modern servers see it: with no session, and with what can be said of it in their era."""
    if caller.counterpart is None:
        capabilities = of_client(caller.capabilities)
        caller.counterpart = Caller(Era.MODERN, LATEST_MODERN, capabilities, principal=caller.principal)
    return caller.counterpart


def sender(caller: Caller) -> Sender:
    """What the envelope of each of its calls says."""
    level = None if caller.session is None else caller.session.level
    return Sender(counterpart(caller).capabilities, caller.client_info, level)
