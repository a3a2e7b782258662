"""A server's results in the words of the other era.

Only complete ones: an ``input_required`` is a round of `mcpgateway.protocol.translation.rounds`, and no other type is
ever due, for the gateway declares no extension that has one.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

from mcpgateway.errors import InvalidParams, ServerMisbehaved
from mcpgateway.jsonrpc import NULL, members_of, raw_of
from mcpgateway.protocol.envelope import SERVER_INFO
from mcpgateway.protocol.methods import CACHEABLE
from mcpgateway.protocol.results import COMPLETE, fill
from mcpgateway.protocol.revisions import LATEST_LEGACY
from mcpgateway.protocol.translation import content, tools
from mcpgateway.protocol.translation.splicing import META, discard, of_server, prune_meta, text

INPUT_REQUIRED: Final = Raw(b'"input_required"')

_TYPE: Final = ("resultType",)
_TYPE_AND_HINTS: Final = ("resultType", "ttlMs", "cacheScope")


class _Head(msgspec.Struct, gc=False):
    resultType: Raw = NULL  # noqa: N815  # MCP's name


_decode_head = msgspec.json.Decoder(_Head).decode


def is_input_required(result: Raw | None) -> bool:
    """Whether a modern server asks its client for something instead of answering."""
    try:
        return _decode_head(result or b"").resultType == INPUT_REQUIRED
    except (msgspec.DecodeError, RecursionError):
        return False


def to_legacy(method: str, result: Raw, *, server: str, revision: str = LATEST_LEGACY, over_http: bool = False) -> Raw:
    """A modern server's complete result for a legacy client of a revision.

    Without type, cache hints and server info; with structured content, output schemas and content blocks that the
    revision knows. ``over_http``: see `mcpgateway.protocol.translation.tools.to_legacy`.

    :raises ServerMisbehaved: it is not an object, or not a complete result
    """
    members = of_server(result, server, f"the result of {method}")
    kind = members.get("resultType", NULL)
    if kind != NULL and kind != COMPLETE and text(kind) != "complete":
        raise ServerMisbehaved(server, f"answered {method} with a result of a type that it was not asked for")
    discard(members, _TYPE_AND_HINTS if method in CACHEABLE else _TYPE)
    try:
        prune_meta(members, SERVER_INFO.__eq__)
        if method == "tools/call":
            tools.wrap_structured(members)
        elif method == "tools/list" and "tools" in members:
            members["tools"] = tools.to_legacy(members["tools"], over_http=over_http)
        content.readable(method, members, revision)
    except InvalidParams:
        raise _malformed(method, server) from None
    return raw_of(members)


def to_modern(method: str, result: Raw, *, server: str, server_info: Raw | None = None) -> Raw:
    """A legacy server's result for a modern client: complete, and never to be kept where it could be.

    Members of those names that a legacy server happens to send are replaced: they meant something else, or nothing.
    ``server_info`` is a raw ``Implementation`` (`mcpgateway.protocol.translation.handshakes.server_info`).

    :raises ServerMisbehaved: it, or its ``_meta``, is not an object
    """
    members = of_server(result, server, f"the result of {method}")
    discard(members, _TYPE_AND_HINTS if method in CACHEABLE else _TYPE)
    fill(method, members)
    if server_info is not None:
        try:
            members[META] = raw_of({**members_of(members.get(META)), SERVER_INFO: server_info})
        except InvalidParams:
            raise _malformed(method, server) from None
    return raw_of(members)


def _malformed(method: str, server: str) -> ServerMisbehaved:
    return ServerMisbehaved(server, f"its result of {method} holds something else where an object belongs")
