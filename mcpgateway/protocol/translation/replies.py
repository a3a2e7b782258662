"""A server's reply to a call, whatever it is, in the words of the other era.

A plain call across the eras is `mcpgateway.protocol.translation.requests` on the way out and this on the way back.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Raw

from mcpgateway.errors import ServerMisbehaved
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.revisions import LATEST_LEGACY
from mcpgateway.protocol.translation import errors, results, rounds
from mcpgateway.protocol.translation.rounds import InputRequired

LegacyReply: TypeAlias = Message | InputRequired
"""What a legacy client gets, or what it is to be asked first."""


def to_legacy(
    method: str,
    reply: Message,
    *,
    capabilities: Raw,
    server: str,
    revision: str = LATEST_LEGACY,
    over_http: bool = False,
) -> LegacyReply:
    """A modern server's reply for a legacy client with these capabilities, under the same id.

    :raises ServerMisbehaved: it is none that can be translated, or asks for what the client did not declare
    """
    if reply.error is not None:
        return errors.to_legacy(method, reply, server=server)
    result = _result(reply, server)
    if results.is_input_required(result):
        return rounds.read(method, result, capabilities=capabilities, server=server)
    return reply.replace(
        result=results.to_legacy(method, result, server=server, revision=revision, over_http=over_http)
    )


def to_modern(
    method: str,
    reply: Message,
    *,
    capabilities: Raw,
    server: str,
    server_info: Raw | None = None,
    state: str | None = None,
) -> Message:
    """A legacy server's reply for a modern client with these capabilities, under the same id.

    ``state`` is what the client gives back when it comes again after the URLs that it has to visit, if anything.

    :raises ServerMisbehaved: it is none that can be translated
    """
    if reply.error is not None:
        return errors.to_modern(
            method, reply, capabilities=capabilities, server=server, state=state, server_info=server_info
        )
    return reply.replace(
        result=results.to_modern(method, _result(reply, server), server=server, server_info=server_info)
    )


def _result(reply: Message, server: str) -> Raw:
    if reply.result is None:
        raise ServerMisbehaved(server, "answered with neither a result nor an error")
    return reply.result
