"""The reference SDK's models of both eras, as judges of what a translation says."""

from __future__ import annotations

import json
from typing import Any

import mcp_types
from mcp_types import methods
from msgspec import Raw
from pydantic import ValidationError

from mcpgateway.jsonrpc import Message

LEGACY, MODERN = "2025-11-25", "2026-07-28"


def value(raw: Raw | bytes | None) -> Any:  # Any: what json gives
    """As most peers read it: numbers that are no floats become infinite, half surrogate pairs stay."""
    return json.loads(bytes(raw or b"null"))


def request(message: Message, version: str) -> None:
    """A client's request is one of its revision."""
    methods.validate_client_request(message.method or "", version, value(message.params))


def question(message: Message, version: str = LEGACY) -> None:
    """A server's request is one of its revision."""
    methods.parse_server_request(message.method or "", version, value(message.params))


def result(method: str, raw: Raw, version: str) -> None:
    """A server's result is one of its revision."""
    methods.validate_server_result(method, version, value(raw))


def initialize_result(raw: Raw) -> mcp_types.InitializeResult:
    result("initialize", raw, LEGACY)
    return mcp_types.InitializeResult.model_validate(value(raw), by_name=False)


def input_required(raw: Raw) -> mcp_types.InputRequiredResult:
    result("tools/call", raw, MODERN)
    return mcp_types.InputRequiredResult.model_validate(value(raw), by_name=False)


def notification(message: Message, version: str) -> None:
    """A server's notification is one of its revision."""
    methods.parse_server_notification(message.method or "", version, value(message.params))


def answer(method: str, raw: Raw) -> None:
    """A client's result of a legacy question is one."""
    methods.validate_client_result(method, LEGACY, value(raw))


def takes_answer(method: str, raw: Raw) -> bool:
    try:
        answer(method, raw)
    except ValidationError:
        return False
    return True


def capabilities(raw: Raw) -> mcp_types.ClientCapabilities:
    return mcp_types.ClientCapabilities.model_validate(value(raw), by_name=False)


def url_required(message: Message) -> None:
    """A legacy server's error -32042 is one."""
    error = mcp_types.ErrorData.model_validate(value(message.error))
    mcp_types.ElicitationRequiredErrorData.model_validate(error.data, by_name=False)
