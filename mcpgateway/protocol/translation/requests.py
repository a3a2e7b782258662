"""A client's requests in the words of the other era: the envelope put on, or taken off.

``initialize``, ``ping``, ``logging/setLevel``, ``resources/subscribe``, ``server/discover``, ``subscriptions/listen`` …
are of one era only, and the gateway's to answer; ``tasks/…`` mean different things in the two. What no revision knows
is a matter between client and server, and crosses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs
from msgspec import Raw

from mcpgateway.errors import MethodNotFound
from mcpgateway.jsonrpc import Message, members_of, raw_of
from mcpgateway.protocol import envelope
from mcpgateway.protocol.methods import MAY_ASK, REQUESTS
from mcpgateway.protocol.revisions import LATEST_MODERN, Era
from mcpgateway.protocol.translation.capabilities import of_client
from mcpgateway.protocol.translation.splicing import META, discard, is_object, prune_meta, text

RESERVED: Final = "io.modelcontextprotocol/"
"""What the keys of ``_meta`` begin with that only modern peers understand."""

INPUT_RESPONSES: Final = "inputResponses"
REQUEST_STATE: Final = "requestState"

SHARED: Final = frozenset(
    method for method in REQUESTS[Era.LEGACY] & REQUESTS[Era.MODERN] if not method.startswith("tasks/")
)
"""What a client may ask in both eras, and means the same in both."""

_ENVELOPE: Final = (
    envelope.PROTOCOL_VERSION,
    envelope.CLIENT_CAPABILITIES,
    envelope.CLIENT_INFO,
    envelope.LOG_LEVEL,
)
_OF_ONE_ERA: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(MAY_ASK, (INPUT_RESPONSES, REQUEST_STATE)),
    "tools/call": (INPUT_RESPONSES, REQUEST_STATE, "task"),
}
"""Params that cannot cross: those of a retry are the gateway's own business, and ``task`` (2025-11-25) asks for a task
instead of a result."""


def crosses(method: str) -> bool:
    """Whether a request may be translated."""
    return method in SHARED or not any(method in REQUESTS[era] for era in Era)


@attrs.frozen
class Sender:
    """What a legacy session says of its client, once, and a modern request says each time.

    ``capabilities`` are in the words of the modern era; ``client_info`` is a raw ``Implementation`` or ``None``;
    ``log_level`` is what ``logging/setLevel`` last set, if anything.
    """

    capabilities: Raw
    client_info: Raw | None = None
    log_level: str | None = None
    revision: str = LATEST_MODERN

    def entries(self) -> dict[str, Raw]:
        """The ``_meta`` keys of an envelope."""
        found = {
            envelope.PROTOCOL_VERSION: raw_of(self.revision),
            envelope.CLIENT_CAPABILITIES: self.capabilities,
        }
        if self.client_info is not None:
            found[envelope.CLIENT_INFO] = self.client_info
        if self.log_level is not None:
            found[envelope.LOG_LEVEL] = raw_of(self.log_level)
        return found


def sender_of(initialize: Raw | None, *, log_level: str | None = None, revision: str = LATEST_MODERN) -> Sender:
    """The sender that the raw params of an ``initialize`` introduce.

    A client info without a name or a version is left out: it is for display, and modern servers refuse half of one.

    :raises InvalidParams: they, or the capabilities in them, are not an object
    """
    params = members_of(initialize)
    info = params.get("clientInfo")
    return Sender(
        of_client(params.get("capabilities", Raw(b"{}"))),
        info if info is not None and _is_implementation(info) else None,
        log_level,
        revision,
    )


def _is_implementation(info: Raw) -> bool:
    if not is_object(info):
        return False
    members = members_of(info)
    return text(members.get("name")) is not None and text(members.get("version")) is not None


def to_modern(message: Message, sender: Sender) -> Message:
    """A legacy request with the envelope of a modern one; an envelope that is there already is replaced.

    :raises MethodNotFound: a method that cannot cross
    :raises InvalidParams: the params, or their ``_meta``, are not an object
    """
    return message.replace(params=_stamped(_open(message), sender))


def stamped(params: Raw | None, sender: Sender) -> Raw:
    """The raw params of a modern request of the gateway's own, in the name of a legacy session.

    :raises InvalidParams: the params, or their ``_meta``, are not an object
    """
    return _stamped(members_of(params), sender)


def _stamped(params: dict[str, Raw], sender: Sender) -> Raw:
    meta = members_of(params.get(META))
    discard(meta, _ENVELOPE)
    params[META] = raw_of({**meta, **sender.entries()})
    return raw_of(params)


def to_legacy(message: Message) -> Message:
    """A modern request without its envelope, and a retry without what makes it one.

    :raises MethodNotFound: a method that cannot cross
    :raises InvalidParams: the params, or their ``_meta``, are not an object
    """
    params = _open(message)
    prune_meta(params, is_reserved)
    return message.replace(params=raw_of(params) if params else None)


def _open(message: Message) -> dict[str, Raw]:
    method = message.method or ""
    if not crosses(method):
        raise MethodNotFound(f"Method not found: {method[:200]}")
    params = members_of(message.params)
    discard(params, _OF_ONE_ERA.get(method, ()))
    return params


def is_reserved(key: str) -> bool:
    """Whether a ``_meta`` key is the specification's own."""
    return key.startswith(RESERVED)
