"""What answers a client's first question: the result of ``initialize``, and that of ``server/discover``.

Imports no more than it must: the demo servers start with it.
"""

from __future__ import annotations

from msgspec import Raw

from mcpgateway.errors import JSON, InvalidParams
from mcpgateway.jsonrpc import members_of, value_of
from mcpgateway.protocol.envelope import SERVER_INFO
from mcpgateway.protocol.revisions import LATEST_LEGACY, MODERN_REVISIONS, negotiate_legacy


def requested_revision(params: Raw | None) -> JSON:
    """The ``protocolVersion`` of the params of an ``initialize``; ``None`` where there is none that can be read."""
    try:
        raw = members_of(params).get("protocolVersion")
        return None if raw is None else value_of(raw)
    except InvalidParams:
        return None


def answer_initialize(
    params: Raw | None, *, capabilities: object, server_info: object, instructions: str | None = None
) -> dict[str, object]:
    """An ``InitializeResult``: the revision asked for where it is a legacy one, else a counter-offer of our latest.

    ``capabilities`` and ``server_info`` are anything msgspec encodes to an object, `Raw` included.
    """
    requested = requested_revision(params)
    revision = negotiate_legacy(requested) if isinstance(requested, str) else LATEST_LEGACY
    result = {"protocolVersion": revision, "capabilities": capabilities, "serverInfo": server_info}
    return result if instructions is None else {**result, "instructions": instructions}


def discover_result(*, capabilities: object, server_info: object, instructions: str | None = None) -> dict[str, object]:
    """A ``DiscoverResult`` that nobody may cache: what stands behind the gateway may change at any time."""
    result: dict[str, object] = {
        "resultType": "complete",
        "supportedVersions": MODERN_REVISIONS,
        "capabilities": capabilities,
        "ttlMs": 0,
        "cacheScope": "private",
        "_meta": {SERVER_INFO: server_info},
    }
    return result if instructions is None else {**result, "instructions": instructions}
