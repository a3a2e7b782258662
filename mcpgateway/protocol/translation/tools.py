"""Modern tools as legacy clients understand them: listed, and called.

Since 2026-07-28 an output schema may be any JSON Schema and structured content any JSON value; before, both were of
objects only, and clients refuse a whole listing or result over one that is not.
"""

from __future__ import annotations

from typing import Final

from msgspec import Raw

from mcpgateway.errors import InvalidParams
from mcpgateway.jsonrpc import NULL, members_of, raw_of, value_of
from mcpgateway.protocol.param_headers import MARK, find_invalid
from mcpgateway.protocol.translation.splicing import entries, is_object, text

WRAPPED: Final = "result"
"""The member that holds a value that is no object; the name is that of the Python SDK, which wraps likewise."""


def to_legacy(tools: Raw, *, over_http: bool) -> Raw:
    """A listing's raw ``tools`` without what a legacy client cannot read; the very same where it can read it all.

    Output schemas that are not of objects are left out. ``over_http`` says that this gateway mirrors arguments in
    headers: it is the client then that must not show a tool whose marks are bad (MCP 2026-07-28, "Custom Headers").
    """
    before = entries(tools)
    if before is None:
        return tools
    after = [_listed(tool) for tool in before if not (over_http and has_bad_mark(tool))]
    if len(after) == len(before) and all(new is old for new, old in zip(after, before, strict=True)):
        return tools
    return raw_of(after)


def _listed(tool: Raw) -> Raw:
    members = members_of(tool) if is_object(tool) else {}
    schema = members.get("outputSchema")
    if schema is None or (is_object(schema) and text(members_of(schema).get("type")) == "object"):
        return tool
    del members["outputSchema"]
    return raw_of(members)


def has_bad_mark(tool: Raw) -> bool:
    """Whether a tool marks arguments to be mirrored in headers in a way that it may not."""
    data = bytes(tool)
    if (MARK.encode() not in data and b"\\u" not in data) or not is_object(tool):
        return False
    try:
        return find_invalid(value_of(members_of(tool).get("inputSchema", NULL))) is not None
    except InvalidParams:
        return True  # a schema without a value: no mark in it can be trusted


def wrap_structured(members: dict[str, Raw]) -> None:
    """Make the structured content of a called tool's result an object, in place: nothing of it is lost."""
    content = members.get("structuredContent")
    if content is None or is_object(content):
        return
    if content == NULL:
        del members["structuredContent"]
    else:
        members["structuredContent"] = raw_of({WRAPPED: content})
