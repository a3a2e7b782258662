"""What a server asks of a client during a call, in the words of either era.

A legacy server sends a request of its own; a modern one puts an entry, under a key of its choice, into the
``inputRequests`` of its result (SEP-2322). The methods and their params are the same but for the ``elicitationId`` of
URL mode, which legacy requests must have and modern ones do not, and for ``task`` (2025-11-25), which asks for a task
instead of an answer and does not cross.

A legacy request has no key. One that this gateway makes of a modern question carries the server's key in its ``_meta``
(`KEY`), so that a second gateway, which makes a modern question of it again, calls it by the name that the server gave.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import attrs
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.errors import InvalidParams, MethodNotFound, ServerMisbehaved
from mcpgateway.jsonrpc import NULL, Message, members_of, raw_of
from mcpgateway.protocol.envelope import OWN_PREFIX
from mcpgateway.protocol.methods import CLIENT_CAPABILITIES
from mcpgateway.protocol.translation.requests import is_reserved
from mcpgateway.protocol.translation.splicing import META, discard, is_object, of_server, prune_meta, text

KEY: Final = f"{OWN_PREFIX}key"
"""The key of ``_meta`` that says what the server called a question."""

MAX_KEY: Final = 128
"""Characters of a key that is taken from what a legacy server sent; of a longer name none is made."""

ELICIT: Final = "elicitation/create"
_ELICITATION_ID: Final = "elicitationId"
_LEGACY_ONLY: Final = ("task",)
_LEGACY_META: Final = frozenset({"progressToken", KEY})
"""What is about the legacy request as such: a modern client has nowhere to send progress of its own."""


@attrs.frozen
class Question:
    """One question, as the server put it; ``params`` are raw, or ``None`` where there are none.

    Made by `read_entry` and `read_request`, which see to it that the functions below can translate it.
    """

    method: str
    params: Raw | None = None


def read_entry(entry: Raw, *, server: str) -> Question:
    """The question in an entry of ``inputRequests``.

    :raises ServerMisbehaved: it is none, or one that no client can be asked
    """
    members = of_server(entry, server, "an entry of its inputRequests")
    method = text(members.get("method"))
    if method is None or method not in CLIENT_CAPABILITIES:
        raise ServerMisbehaved(server, "its inputRequests hold what no client can be asked")
    return _checked(method, members.get("params"), server)


def read_request(message: Message, *, server: str) -> Question:
    """The question in a legacy server's request.

    :raises MethodNotFound: it is none; the server is to be answered so
    :raises ServerMisbehaved: its params, or their ``_meta``, are not an object
    """
    method = message.method or ""
    if method not in CLIENT_CAPABILITIES:
        raise MethodNotFound(f"Method not found: {method[:200]}")
    return _checked(method, message.params, server)


def _checked(method: str, params: Raw | None, server: str) -> Question:
    try:
        members_of(members_of(params).get(META))
    except InvalidParams:
        raise ServerMisbehaved(server, f"the params of its {method}, or their _meta, are not an object") from None
    return Question(method, None if params == NULL else params)


def to_legacy(question: Question, *, key: str, id: bytes, elicitation_id: str) -> Message:
    """The request that puts a modern server's question to a legacy client.

    ``id`` is the raw id of the request. ``elicitation_id`` is what a question in URL mode goes by if the server did not
    say; it has to be unique among those of a session.
    """
    params = members_of(question.params)
    discard(params, _LEGACY_ONLY)
    if question.method == ELICIT and text(params.get("mode")) == "url" and text(params.get(_ELICITATION_ID)) is None:
        params[_ELICITATION_ID] = raw_of(elicitation_id)
    params[META] = raw_of({**members_of(params.get(META)), KEY: key})
    return jsonrpc.request(id, question.method, params)


def to_modern(question: Question) -> Raw:
    """The entry of ``inputRequests`` that puts a legacy server's question to a modern client."""
    params = members_of(question.params)
    discard(params, _LEGACY_ONLY)
    if question.method == ELICIT:
        discard(params, (_ELICITATION_ID,))
    prune_meta(params, lambda key: key in _LEGACY_META or is_reserved(key))
    entry: dict[str, object] = {"method": question.method}
    return raw_of({**entry, "params": params} if params or question.method == ELICIT else entry)


def key_of(question: Question, taken: Collection[str]) -> str:
    """A key for a legacy server's question that is none of those ``taken``.

    By the first name that the server gives: in our own `KEY`, the ``elicitationId``, the one property of a form; a
    question without a name is called by its kind. Of several of a name the later ones are numbered.
    """
    name = _name_of(question) or CLIENT_CAPABILITIES.get(question.method, "question")
    key, number = name, 1
    while key in taken:
        number += 1
        key = f"{name}-{number}"
    return key


def _name_of(question: Question) -> str | None:
    params = members_of(question.params)
    names = [text(members_of(params.get(META)).get(KEY))]
    if question.method == ELICIT:
        names += [text(params.get(_ELICITATION_ID)), _only_property(params.get("requestedSchema"))]
    return next((name for name in names if name and len(name) <= MAX_KEY), None)


def _only_property(schema: Raw | None) -> str | None:
    if schema is None or not is_object(schema):
        return None
    properties = members_of(schema).get("properties")
    if properties is None or not is_object(properties):
        return None
    names = list(members_of(properties))
    return names[0] if len(names) == 1 else None
