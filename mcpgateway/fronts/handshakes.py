"""What a legacy client says of itself when it shakes hands, whatever it came by."""

from __future__ import annotations

from typing import Final

import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.calls.namespace import Namespace
from mcpgateway.errors import InvalidParams
from mcpgateway.fronts.kept_sessions import KeptSessions
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.revisions import LEGACY_REVISIONS, Era, negotiate_legacy
from mcpgateway.sessions.caller import Caller
from mcpgateway.sessions.store import SessionStore

HANDSHAKE_BYTES: Final = 64 * 1024
"""What a client may say of itself: it is kept for as long as its session lasts."""
LEGACY_HEADERS: Final = frozenset(revision.encode() for revision in LEGACY_REVISIONS)
"""What ``MCP-Protocol-Version`` says in the legacy era, if anything."""
EMPTY: Final = jsonrpc.raw_of({})


def read_handshake(message: Message, *, resumes: bool = True) -> Caller:
    """Who sends an ``initialize``; ``resumes`` as in the `Caller`.

    :raises InvalidParams: it says nothing of a revision, or too much of everything
    """
    params = jsonrpc.members_of(message.params)
    raw_revision = jsonrpc.value_of(params["protocolVersion"]) if "protocolVersion" in params else None
    if not isinstance(raw_revision, str):
        raise InvalidParams("params.protocolVersion must be a string")
    if message.params is not None and len(memoryview(message.params)) > HANDSHAKE_BYTES:
        raise InvalidParams(f"the params of initialize may have {HANDSHAKE_BYTES} bytes")
    capabilities = params.get("capabilities", EMPTY)
    return Caller(Era.LEGACY, negotiate_legacy(raw_revision), capabilities, resumes=resumes)


async def shake_hands(
    message: Message, namespace: Namespace, sessions: SessionStore, address: str, kept: KeptSessions | None = None
) -> tuple[Caller, Raw]:
    """Answer the ``initialize`` of a client that has all on one channel: who it is, and the ``InitializeResult``.

    It has a session from now on, where there are sessions; one that is ``kept`` from the last time, if it has such.
    """
    params = message.params or EMPTY
    caller = read_handshake(message, resumes=False)
    found = None if kept is None else kept.find(bytes(params), namespace)
    if found is not None:
        await trio.lowlevel.checkpoint()
        return found
    id = sessions.new_id()
    result, keep = await namespace.initialize(caller, params, id)
    if keep:
        sessions.open(id, namespace.name, caller, address)
        if kept is not None:
            kept.keep(bytes(params), caller, result, namespace)
    return caller, result
