"""What two peers agreed on, in either era."""

from __future__ import annotations

from functools import cached_property

import attrs
from msgspec import Raw

from mcpgateway.protocol.revisions import Era
from mcpgateway.protocol.translation.handshakes import server_info


@attrs.frozen
class Negotiated:
    """What a link and its server agreed on.

    ``result`` is the server's ``InitializeResult`` or ``DiscoverResult``, raw and whole; the other fields are read
    from it. ``name`` and ``version`` are empty where the server did not say. ``stateful`` tells whether the server
    keeps a session for this link (always on pipes; over HTTP if it minted a session id).
    """

    era: Era
    revision: str
    result: Raw
    capabilities: Raw
    name: str
    version: str
    stateful: bool

    @cached_property
    def info(self) -> Raw | None:
        """Who a legacy server says it is, a raw ``Implementation``; ``None`` where it does not."""
        return server_info(self.result)
