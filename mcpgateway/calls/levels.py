"""Log levels of legacy servers for modern clients, which say with each request what they want to read.

A legacy server has one level per session. It is told the most verbose that any call on a link wanted so far, or any
legacy session that shares the link; each reads what it asked for and no more.
"""

from __future__ import annotations

import logging
from typing import Final

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import NoBack, Request
from mcpgateway.protocol.capabilities import declared
from mcpgateway.protocol.levels import louder, passes
from mcpgateway.protocol.revisions import Era
from mcpgateway.servers.ledger import Slot
from mcpgateway.servers.server import Server
from mcpgateway.wire.waiting import Wait

log = logging.getLogger("mcpgateway.server")

_SET_LEVEL: Final = "logging/setLevel"


def wants_logs(server: Server, level: str | None) -> bool:
    """Whether a server has to be told at which level to log for a call."""
    negotiated = server.spoken.get(Era.LEGACY)
    return level is not None and negotiated is not None and declared(negotiated.capabilities, "logging")


async def tell_level(slot: Slot, level: str, wait: Wait) -> None:
    """Have the server of a link log at least at a level.

    :raises ServerError: it could not be told
    """
    if slot.level is not None and passes(level, slot.level):
        return
    assert slot.link is not None
    asked = jsonrpc.request(b"0", _SET_LEVEL, {"level": louder(level, slot.sessions_level)})
    reply = await slot.link.call(Request(asked, wait, alone=slot.alone), NoBack())
    slot.level = level
    if reply.message.error is not None:
        log.info("a server refuses log level %s: %s", level, jsonrpc.error_reply(reply.message).message)
