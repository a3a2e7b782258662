"""The methods of MCP as tables: which exist in which era, what they name and may do.

Sources: schema and "Removed" lists of the revisions 2024-11-05 … 2026-07-28, and the tasks extension of 2026-07-28.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mcpgateway import errors
from mcpgateway.protocol.revisions import Era

_COMMON = frozenset(
    {
        "completion/complete",
        "prompts/get",
        "prompts/list",
        "resources/list",
        "resources/read",
        "resources/templates/list",
        "tasks/cancel",
        "tasks/get",
        "tools/call",
        "tools/list",
    }
)

REQUESTS: Final[Mapping[Era, frozenset[str]]] = {
    Era.LEGACY: _COMMON
    | {
        "initialize",
        "logging/setLevel",
        "ping",
        "resources/subscribe",
        "resources/unsubscribe",
        "tasks/list",
        "tasks/result",
    },
    Era.MODERN: _COMMON | {"server/discover", "subscriptions/listen", "tasks/update"},
}
"""What a client may ask a server. The two eras mean different things by ``tasks/…``; neither reads the other's."""

LISTS: Final[Mapping[str, str]] = {
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
    "tools/list": "tools",
}
"""The paged listings, with the member of the result that holds the entries."""

CACHEABLE: Final = frozenset({*LISTS, "resources/read", "server/discover"})
"""Modern methods whose complete results carry ``ttlMs`` and ``cacheScope`` (SEP-2549)."""

MAY_ASK: Final = frozenset({"prompts/get", "resources/read", "tools/call"})
"""Methods during which the server may ask the client: by a request of its own, or with ``input_required``."""

TARGETS: Final[Mapping[str, str]] = {
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/cancel": "taskId",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tools/call": "name",
}
"""Modern methods that name what they are about, with the parameter that does; ``Mcp-Name`` mirrors it over HTTP."""

CLIENT_CAPABILITIES: Final[Mapping[str, str]] = {
    "elicitation/create": "elicitation",
    "roots/list": "roots",
    "sampling/createMessage": "sampling",
}
"""What a server may ask a client, with the capability that the client must have declared."""

_MODERN_STATUS: Final[Mapping[int, int]] = {
    errors.PARSE_ERROR: 400,
    errors.INVALID_REQUEST: 400,
    errors.INVALID_PARAMS: 400,
    errors.HEADER_MISMATCH: 400,
    errors.MISSING_CAPABILITY: 400,
    errors.UNSUPPORTED_VERSION: 400,
    errors.METHOD_NOT_FOUND: 404,
}


def http_status(code: int | None, era: Era) -> int:
    """The HTTP status that a response travels with, by its JSON-RPC error code (``None``: a result).

    Legacy Streamable HTTP knows no such mapping: whatever answers a request there is a 200. For errors of the gateway
    itself, see `GatewayError.status`.
    """
    if code is None or era is Era.LEGACY:
        return 200
    return _MODERN_STATUS.get(code, 200)
