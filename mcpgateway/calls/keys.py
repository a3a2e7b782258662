"""How a server is spoken to on behalf of a caller: in which era, on which of its links, and with whose handshake."""

from __future__ import annotations

from typing import Final

from msgspec import Raw

from mcpgateway.calls.eras import CROSSED, choose
from mcpgateway.config.model import Isolation
from mcpgateway.protocol.revisions import Era
from mcpgateway.servers.ledger import LinkKey
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller

_MODERN: Final = LinkKey(Era.MODERN)


def era_for(caller: Caller, server: Server) -> Era:
    """The era in which a server is spoken to on behalf of a caller; see `mcpgateway.calls.eras.choose`."""
    policy, spoken = server.config.era, server.presumed
    return choose(caller.era, askable=caller.askable, policy=policy, spoken=spoken, crossings=CROSSED)


def key_for(caller: Caller, server: Server) -> LinkKey:
    """Which links of a server a caller's calls may use (design: sharing a server between clients)."""
    key = caller.keys.get(server.name)
    if key is None:
        key = _key(caller, server)
        if caller.era is not None and server.spoken.get(key.era) is not None:  # until then it may turn out otherwise
            caller.keys[server.name] = key
    return key


def _key(caller: Caller, server: Server) -> LinkKey:
    era = era_for(caller, server)
    if server.isolation(era) is Isolation.SESSION:
        if era is Era.MODERN:
            return LinkKey(era, owner=caller.principal)
        if caller.session is not None:
            return LinkKey(era, caller.capability_set, caller.session.id)
        if caller.pooled:
            return LinkKey(era, caller.capability_set, caller.principal, pooled=True)
        return LinkKey(era, caller.capability_set, f"stateless {caller.revision}")
    return _MODERN if era is Era.MODERN else LinkKey(era, caller.capability_set)


def handshake_for(server: Server, caller: Caller, key: LinkKey) -> Raw | None:
    """The handshake for a link that may have to be made for one client: its own, or ours in its words."""
    if key.era is Era.MODERN or not key.owner:
        return None
    return caller.handshake or server.initialize_params(Raw(key.capabilities), caller.revision or None)
