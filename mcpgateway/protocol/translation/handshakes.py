"""A server's introduction of itself, told to a client of the other era."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Raw

from mcpgateway.errors import InvalidParams, ServerMisbehaved
from mcpgateway.jsonrpc import NULL, members_of, raw_of
from mcpgateway.protocol.answers import requested_revision
from mcpgateway.protocol.envelope import SERVER_INFO
from mcpgateway.protocol.results import fill
from mcpgateway.protocol.revisions import LATEST_LEGACY, MODERN_REVISIONS, negotiate_legacy
from mcpgateway.protocol.translation.capabilities import of_legacy_server, of_modern_server
from mcpgateway.protocol.translation.splicing import META, discard, is_object, of_server, prune_meta, text

_EMPTY: Final = Raw(b"{}")
_OF_DISCOVER: Final = ("resultType", "supportedVersions", "ttlMs", "cacheScope")
_OF_INITIALIZE: Final = ("protocolVersion", "serverInfo", "resultType", "ttlMs", "cacheScope")


def initialize_result(discovered: Raw, params: Raw | None, *, server: str) -> Raw:
    """The answer to a legacy client's ``initialize`` (its raw params), made of a modern server's ``DiscoverResult``.

    The revision is the one asked for where it is a legacy one, else our latest. A server that does not say who it is
    goes by its name in this gateway, because legacy clients insist on a name.

    :raises ServerMisbehaved: it is not such a result
    """
    members = of_server(discovered, server, "the result of server/discover")
    try:
        info = _named(members_of(members.get(META)).get(SERVER_INFO, NULL), server)
        prune_meta(members, SERVER_INFO.__eq__)
        capabilities = of_modern_server(_capabilities(members))
    except InvalidParams:
        raise ServerMisbehaved(server, "answered server/discover with something else") from None
    discard(members, _OF_DISCOVER)
    _drop_odd_instructions(members)
    requested = requested_revision(params)
    members["protocolVersion"] = raw_of(negotiate_legacy(requested) if isinstance(requested, str) else LATEST_LEGACY)
    members["capabilities"] = capabilities
    members["serverInfo"] = info
    return raw_of(members)


def _named(info: Raw, server: str) -> Raw:
    """An ``Implementation`` with the name and the version that it must have."""
    members = members_of(info) if is_object(info) else {}
    if text(members.get("name")) is not None and text(members.get("version")) is not None:
        return info
    for member, otherwise in (("name", server), ("version", "")):
        if text(members.get(member)) is None:
            members[member] = raw_of(otherwise)
    return raw_of(members)


def discover_result(initialized: Raw, *, server: str) -> Raw:
    """The answer to a modern client's ``server/discover``, made of a legacy server's ``InitializeResult``.

    It names the modern revisions of this gateway, which is who speaks them, and may not be kept.

    :raises ServerMisbehaved: it is not such a result
    """
    members = of_server(initialized, server, "the result of initialize")
    info = server_info(initialized)
    discard(members, _OF_INITIALIZE)
    _drop_odd_instructions(members)
    try:
        members["capabilities"] = of_legacy_server(_capabilities(members))
        members["supportedVersions"] = raw_of(MODERN_REVISIONS)
        fill("server/discover", members)
        if info is not None:
            members[META] = raw_of({**members_of(members.get(META)), SERVER_INFO: info})
    except InvalidParams:
        raise ServerMisbehaved(server, "answered initialize with something else") from None
    return raw_of(members)


def _capabilities(members: Mapping[str, Raw]) -> Raw:
    capabilities = members.get("capabilities", _EMPTY)
    return capabilities if is_object(capabilities) else _EMPTY


def _drop_odd_instructions(members: dict[str, Raw]) -> None:
    """Instructions that are no text are left out: clients refuse a whole handshake over a null."""
    if "instructions" in members and text(members["instructions"]) is None:
        del members["instructions"]


def server_info(initialized: Raw) -> Raw | None:
    """Who a legacy server says it is, for the ``_meta`` of every modern result of its; ``None`` where it does not."""
    try:
        info = members_of(initialized).get("serverInfo", NULL)
    except InvalidParams:
        return None
    return info if is_object(info) else None
