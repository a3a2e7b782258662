"""Who makes calls: what an era, a handshake or an envelope says about a client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Raw

from mcpgateway.protocol.capabilities import acted_upon, capability_key, may_be_asked
from mcpgateway.protocol.revisions import Era

if TYPE_CHECKING:
    from mcpgateway.protocol.envelope import Envelope
    from mcpgateway.servers.ledger import LinkKey
    from mcpgateway.sessions.store import Session

ANONYMOUS: Final = "anonymous"
"""The principal of every caller while there is no authentication."""


class Caller:
    """One client as calls see it.

    ``era`` is the era it speaks, or ``None`` for a caller that takes any (Python code that embeds the gateway).
    ``capabilities`` are its raw capabilities, ``capability_set`` their canonical bytes, and ``askable`` tells whether
    servers may ask it anything. ``session`` is its legacy session, where it has one. ``handshake`` are the raw params
    of its ``initialize`` where they passed through to its one server, whose session is then its own. ``resumes`` says
    that it opens and resumes streams itself, as over Streamable HTTP; clients that have all on one channel do not.
    """

    __slots__ = (
        *("askable", "capabilities", "capability_set", "client_info", "counterpart", "era"),
        *("handshake", "keys", "pooled", "principal", "resumes", "revision", "session"),
    )

    def __init__(
        self,
        era: Era | None,
        revision: str,
        capabilities: Raw,
        *,
        principal: str = ANONYMOUS,
        session: Session | None = None,
        resumes: bool = True,
    ) -> None:
        self.era = era
        self.revision = revision
        self.capabilities = capabilities
        self.capability_set = capability_key(acted_upon(capabilities)) if capabilities != _NONE else b"{}"
        self.askable = capabilities != _NONE and may_be_asked(capabilities)
        self.principal = principal
        self.session = session
        self.resumes = resumes
        self.handshake: Raw | None = None
        self.pooled = False
        """It has no session and never will: where links are sessions, it uses those of a pool."""
        self.keys: dict[str, LinkKey] = {}
        """The key of its links to each server, once worked out."""
        self.client_info: Raw | None = None
        """What a legacy client says that it is, where its ``initialize`` was answered by the gateway."""
        self.counterpart: Caller | None = None
        """It as servers of the other era see it, once worked out."""

    def forget(self, server: str) -> None:
        """Forget what was worked out about a server."""
        self.keys.pop(server, None)
        self.counterpart = None

    def __repr__(self) -> str:
        era = "any" if self.era is None else self.era.value
        return f"<Caller {self.principal} {era} {self.revision}>"


_NONE: Final = Raw(b"{}")


_REMEMBERED: Final = 256
_MEMORABLE: Final = 4096


class ModernCallers:
    """The callers that envelopes describe; clients say the same with every request, so it is remembered."""

    def __init__(self) -> None:
        self._callers: dict[bytes, Caller] = {}
        """By their raw capabilities."""

    def of(self, envelope: Envelope) -> Caller:
        capabilities = bytes(envelope.capabilities)
        caller = self._callers.get(capabilities)
        if caller is None:
            caller = Caller(Era.MODERN, envelope.revision, Raw(capabilities))
            if len(self._callers) >= _REMEMBERED:
                self._callers.clear()
            if len(capabilities) <= _MEMORABLE:
                self._callers[capabilities] = caller
        return caller

    def clear(self) -> None:
        """Forget them, and so what was worked out of them."""
        self._callers.clear()
