"""In which era a server is spoken to on behalf of a client. Pure."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Final

from mcpgateway.config.model import EraPolicy
from mcpgateway.protocol.negotiated import Negotiated
from mcpgateway.protocol.revisions import Era

CROSSED: Final[frozenset[Era]] = frozenset(Era)
"""The eras of clients that calls are translated for, where a server does not speak them; see
`mcpgateway.calls.call.Dispatcher.crossings`."""

OTHER = {Era.LEGACY: Era.MODERN, Era.MODERN: Era.LEGACY}
_FIXED = {EraPolicy.MODERN: Era.MODERN, EraPolicy.LEGACY: Era.LEGACY}


def choose(
    client: Era | None,
    *,
    askable: bool,
    policy: EraPolicy,
    spoken: Mapping[Era, Negotiated | None],
    crossings: Container[Era],
) -> Era:
    """The era to speak with a server; ``client`` is ``None`` for a caller that takes any.

    ``spoken`` is what is known of the server: what was negotiated in each era, ``None`` where it does not speak one.
    ``crossings`` are the eras of clients that can be translated for. ``askable`` says that servers may ask the client
    something: a server that keeps no session for its legacy clients cannot ask them, but its modern ones it can, so
    that there translating loses less than mirroring.
    """
    if client is None:
        preferred = _FIXED.get(policy, Era.MODERN)
        return (
            preferred
            if spoken.get(preferred) is not None or not _speaks(spoken, OTHER[preferred])
            else OTHER[preferred]
        )
    if policy is EraPolicy.MIRROR or client not in crossings:
        return client
    if policy in _FIXED:
        return _FIXED[policy]
    other = OTHER[client]
    if client in spoken and spoken[client] is None:
        return other
    legacy = spoken.get(Era.LEGACY)
    mute = client is Era.LEGACY and askable and legacy is not None and not legacy.stateful
    return other if mute and spoken.get(other) is not None else client


def serves(client: Era | None, *, policy: EraPolicy, spoken: Mapping[Era, Negotiated | None]) -> bool:
    """Whether a client of an era can use a server, as far as is known: in its own era, or because its calls cross."""
    if client is None or _speaks(spoken, client):
        return True
    return client in CROSSED and policy is not EraPolicy.MIRROR and _speaks(spoken, OTHER[client])


def _speaks(spoken: Mapping[Era, Negotiated | None], era: Era) -> bool:
    """Whether a server speaks an era, or might."""
    return era not in spoken or spoken[era] is not None
