"""A server's error responses in the words of the other era (MCP 2026-07-28, basic, "Error codes").

Only codes that the other side must not see, or would read as something else, are changed. Message, data and whatever
else an error holds stay, but where the error is about the gateway's own part of the conversation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Raw

from mcpgateway import errors, jsonrpc
from mcpgateway.errors import InvalidParams
from mcpgateway.jsonrpc import NULL, Message, error_code, members_of, raw_of
from mcpgateway.protocol.methods import MAY_ASK
from mcpgateway.protocol.translation.capabilities import missing, required
from mcpgateway.protocol.translation.parked import URL_REQUIRED, input_required, required_urls
from mcpgateway.protocol.translation.questions import ELICIT
from mcpgateway.protocol.translation.splicing import is_object, of_server, text

RESOURCE_NOT_FOUND: Final = -32002
"""Of the legacy era; a modern server says invalid params, and names the URI in ``data``."""

_OF_THE_GATEWAY: Final = {
    errors.HEADER_MISMATCH: "refused the headers of a request that the gateway made",
    errors.UNSUPPORTED_VERSION: "refused the protocol version that the gateway speaks with it",
}
"""Errors about what a legacy client neither sent nor could change."""


def to_legacy(method: str, message: Message, *, server: str) -> Message:
    """A modern server's error response for a legacy client, under the same id.

    :raises ServerMisbehaved: its error is not an object
    """
    error = of_server(message.error, server, "its error")
    code = error_code(message)
    if code in _OF_THE_GATEWAY:
        told = f"server {server!r} {_OF_THE_GATEWAY[code]}: {_text(error)}"
        data = {"server": server, "error": message.error}
        return message.replace(error=raw_of({"code": errors.INTERNAL_ERROR, "message": told, "data": data}))
    if code == errors.MISSING_CAPABILITY:
        told = f"server {server!r} needs what this client did not declare: {_needed(error)}"
        return _changed(message, error, {"code": errors.INVALID_PARAMS, "message": told})
    if method == "resources/read" and code == errors.INVALID_PARAMS and _names_uri(error):
        return _changed(message, error, {"code": RESOURCE_NOT_FOUND})
    return message


def to_modern(
    method: str,
    message: Message,
    *,
    capabilities: Raw,
    server: str,
    state: str | None = None,
    server_info: Raw | None = None,
) -> Message:
    """A legacy server's error response for a modern client with these capabilities, under the same id.

    The one error that becomes a result is that of URLs to be visited: they are asked for, and the client's retry, with
    ``state`` where there is one, makes the call again.

    :raises ServerMisbehaved: its error is not an object, or lists no URLs where it must
    """
    error = of_server(message.error, server, "its error")
    code = error_code(message)
    if code == RESOURCE_NOT_FOUND:
        return _changed(message, error, {"code": errors.INVALID_PARAMS})
    if code != URL_REQUIRED:
        return message
    if method not in MAY_ASK:
        return _changed(message, error, {"code": errors.INTERNAL_ERROR})
    questions = required_urls(message, server=server)
    undeclared = missing(ELICIT, raw_of({"mode": "url"}), capabilities)
    if undeclared is not None:
        data = {"requiredCapabilities": required("elicitation.url")}
        return _changed(message, error, {"code": errors.MISSING_CAPABILITY, "data": data})
    result = input_required(questions, state=state, server_info=server_info)
    return jsonrpc.result(message.id or b"null", result)


def _changed(message: Message, error: Mapping[str, Raw], members: Mapping[str, object]) -> Message:
    return message.replace(error=raw_of({**error, **members}))


def _text(error: Mapping[str, Raw]) -> str:
    return text(error.get("message")) or "no reason given"


def _names_uri(error: Mapping[str, Raw]) -> bool:
    data = error.get("data", NULL)
    try:
        return is_object(data) and text(members_of(data).get("uri")) is not None
    except InvalidParams:
        return False


def _needed(error: Mapping[str, Raw]) -> str:
    """The capabilities that an error -32021 requires, dotted; what the server said where it names none."""
    try:
        data = members_of(error.get("data"))
        wanted = members_of(data.get("requiredCapabilities"))
        names = [
            f"{name}.{part}" if part else name
            for name, value in wanted.items()
            for part in (list(members_of(value)) if is_object(value) else []) or [""]
        ]
    except InvalidParams:
        names = []
    return ", ".join(names) or _text(error)
