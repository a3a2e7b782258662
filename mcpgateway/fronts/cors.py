"""What pages of other origins are told: that they may call, with what, what they may read (Fetch standard, CORS)."""

from __future__ import annotations

from typing import Final

from mcpgateway.access.browsers import BrowserPolicy
from mcpgateway.errors import Forbidden
from mcpgateway.wire.http1.exchange import Exchange

_EXPOSE: Final = b"Access-Control-Expose-Headers: Mcp-Session-Id, Retry-After, WWW-Authenticate\r\n"
_PREFLIGHT: Final = (
    b"Access-Control-Allow-Methods: POST, GET, DELETE\r\n"
    b"Access-Control-Allow-Headers: Content-Type, Accept, Authorization, Last-Event-ID, Mcp-Session-Id, "
    b"MCP-Protocol-Version, Mcp-Method, Mcp-Name\r\n"
    b"Access-Control-Max-Age: 600\r\n"
)


def fields(policy: BrowserPolicy, origin: bytes) -> bytes:
    """The header fields of every answer to a page of this origin; none if it may not call from its browser."""
    if not policy.allowed_origin(origin):
        return b""
    return b"Access-Control-Allow-Origin: %b\r\nVary: Origin\r\n%b" % (origin, _EXPOSE)


async def preflight(exchange: Exchange, fields: bytes) -> None:
    """Answer a browser that asks whether a page may call; ``fields`` are those of its origin."""
    if not fields:
        raise Forbidden("pages of this origin may not call this listener; see listen.cors")
    await exchange.respond(204, b"", fields + _PREFLIGHT)
