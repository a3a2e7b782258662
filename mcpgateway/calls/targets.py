"""What a request is about: the name, URI or reference in its params, read and rewritten."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Raw

from mcpgateway.errors import InvalidParams
from mcpgateway.jsonrpc import Message, members_of, raw_of
from mcpgateway.protocol.header_values import encode_value
from mcpgateway.protocol.headers import NAME

_decode_text = msgspec.json.Decoder(str).decode


def named(message: Message, member: str) -> str:
    """The text of a member of the params.

    :raises InvalidParams: there is none
    """
    return text_of(members_of(message.params).get(member), f"params.{member}")


def text_of(raw: Raw | None, what: str) -> str:
    if raw is None:
        raise InvalidParams(f"{what} is missing")
    try:
        return _decode_text(raw)
    except msgspec.DecodeError:
        raise InvalidParams(f"{what} must be a string") from None


def with_name(
    message: Message, member: str, name: str, headers: Mapping[bytes, bytes] | None
) -> tuple[Message, Mapping[bytes, bytes] | None]:
    """The message about another name, and its headers to match (``Mcp-Name``, 2026-07-28)."""
    # Made anew even where the name stays: of two members of one name a server might read the one that we did not.
    members = members_of(message.params)
    members[member] = raw_of(name)
    if headers is not None and NAME in headers:
        headers = {**headers, NAME: encode_value(name)}
    return message.replace(params=raw_of(members)), headers


def unknown(kind: str, name: str, missing: Iterable[str] = ()) -> InvalidParams:
    """The refusal of what is not there, or not for this caller: the two look alike (MCP, tools, "Error handling").

    ``missing`` are the servers that could not list what they have: it may be one of theirs.
    """
    servers = ", ".join(repr(server) for server in missing)
    hint = f"; what these servers have is not known: {servers}" if servers else ""
    return InvalidParams(f"Unknown {kind}: {name[:200]}{hint}")


def level_of(message: Message) -> str | None:
    """The level of a log message; ``None`` where it has none that can be read."""
    try:
        return named(message, "level")
    except InvalidParams:
        return None
