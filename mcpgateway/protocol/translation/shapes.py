"""Whether an answer of a client has the shape that its question asks for.

The shapes are the same in both eras (2025-11-25 and 2026-07-28, ``ElicitResult``, ``CreateMessageResult``,
``ListRootsResult``). What is in them is checked as far as servers rely on it without looking; whether a form's contents
fit its schema, which the server knows best, is the server's to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Raw

from mcpgateway.errors import InvalidParams
from mcpgateway.jsonrpc import NULL, members_of
from mcpgateway.protocol.translation.splicing import entries, is_object, text

_ACTIONS: Final = ("accept", "decline", "cancel")
_ROLES: Final = ("assistant", "user")


def check(method: str, answer: Raw) -> None:
    """Check a client's raw result of a question.

    :raises InvalidParams: it has another shape; the message says where, and repeats nothing of the answer
    """
    try:
        members = members_of(answer) if answer != NULL else None
    except InvalidParams:
        members = None
    if members is None:
        raise InvalidParams(f"the answer to {method} is not an object")
    problem = _CHECKS[method](members) if method in _CHECKS else None
    if problem is not None:
        raise InvalidParams(f"the answer to {method} has the wrong shape: {problem}")


def _elicited(members: Mapping[str, Raw]) -> str | None:
    if text(members.get("action")) not in _ACTIONS:
        return f"action is none of {', '.join(_ACTIONS)}"
    content = members.get("content", NULL)
    if content == NULL:
        return None
    if not is_object(content):
        return "content is not an object"
    if not all(_is_field(value) for value in members_of(content).values()):
        return "content holds a value that is no string, number, boolean or list of strings"
    return None


def _is_field(value: Raw) -> bool:
    if bytes(memoryview(value)[:1]) == b"[":
        return all(text(entry) is not None for entry in entries(value) or ())
    return not is_object(value)


def _sampled(members: Mapping[str, Raw]) -> str | None:
    if text(members.get("role")) not in _ROLES:
        return f"role is none of {', '.join(_ROLES)}"
    if text(members.get("model")) is None:
        return "model is not a string"
    content = members.get("content", NULL)
    blocks = [content] if is_object(content) else entries(content)
    if blocks is None or not all(_has_text(block, "type") for block in blocks):
        return "content is not a content block or a list of them"
    return None


def _listed(members: Mapping[str, Raw]) -> str | None:
    roots = entries(members.get("roots", NULL))
    if roots is None or not all(_has_text(root, "uri") for root in roots):
        return "roots is not a list of objects with a uri"
    return None


def _has_text(raw: Raw, name: str) -> bool:
    return is_object(raw) and text(members_of(raw).get(name)) is not None


_CHECKS: Final[Mapping[str, Callable[[Mapping[str, Raw]], str | None]]] = {
    "elicitation/create": _elicited,
    "roots/list": _listed,
    "sampling/createMessage": _sampled,
}
