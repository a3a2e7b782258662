"""Content that an older revision has no word for, as text (audio came with 2025-03-26, links with 2025-06-18).

Only needed where the gateway chose the revision in the server's place: a server that negotiated it sends no such thing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Raw

from mcpgateway.jsonrpc import members_of, raw_of
from mcpgateway.protocol.translation.splicing import entries, is_object, text

_SINCE: Final[Mapping[str, str]] = {"audio": "2025-03-26", "resource_link": "2025-06-18"}
_ALL_SINCE: Final = max(_SINCE.values())


def readable(method: str, members: dict[str, Raw], revision: str) -> None:
    """Make a result readable for a client of a legacy revision, in place; what is of another shape stays as it is."""
    if revision >= _ALL_SINCE:  # revisions are dates
        return
    if method == "tools/call":
        _each(members, "content", lambda block: _block(block, revision))
    elif method == "prompts/get":
        _each(members, "messages", lambda message: _message(message, revision))


def _each(members: dict[str, Raw], name: str, change: Callable[[Raw], Raw]) -> None:
    before = entries(members[name]) if name in members else None
    if before is None:
        return
    after = [change(entry) if is_object(entry) else entry for entry in before]
    if any(new is not old for new, old in zip(after, before, strict=True)):
        members[name] = raw_of(after)


def _message(message: Raw, revision: str) -> Raw:
    members = members_of(message)
    content = members.get("content")
    if content is None or not is_object(content):
        return message
    block = _block(content, revision)
    return message if block is content else raw_of({**members, "content": block})


def _block(block: Raw, revision: str) -> Raw:
    members = members_of(block)
    kind = text(members.get("type")) or ""
    if revision >= _SINCE.get(kind, ""):
        return block
    told: dict[str, object] = {"type": "text", "text": _told(kind, members, revision)}
    return raw_of({**told, "annotations": members["annotations"]} if "annotations" in members else told)


def _told(kind: str, members: Mapping[str, Raw], revision: str) -> str:
    if kind == "resource_link":
        name = text(members.get("title")) or text(members.get("name")) or "resource"
        return f"{name}: {text(members.get('uri')) or 'no URI'}"
    return f"[{text(members.get('mimeType')) or kind}: revision {revision} of MCP cannot carry it]"
