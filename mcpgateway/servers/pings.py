"""A sign of life of a server, asked for on a link that it has."""

from __future__ import annotations

from typing import Final

import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Link, NoBack, Request
from mcpgateway.errors import GatewayError, ServerError
from mcpgateway.protocol.envelope import stamp
from mcpgateway.protocol.headers import request_headers
from mcpgateway.protocol.revisions import LATEST_MODERN, Era
from mcpgateway.wire.waiting import Wait

ANSWER: Final = 5.0
"""Seconds that a server has to answer."""


async def ping(link: Link, initialize: Raw) -> str | None:
    """Ask a server whether it is well; why it is not, if so. ``initialize`` are the params of the gateway's handshake.

    The legacy era has ``ping``; in the modern one ``server/discover`` is what every server answers. An error is as good
    an answer as any.
    """
    if link.negotiated.era is Era.LEGACY:
        request = Request(jsonrpc.request(b"0", "ping", {}), Wait())
    else:
        info = jsonrpc.members_of(initialize).get("clientInfo")
        params = stamp(None, revision=LATEST_MODERN, capabilities=Raw(b"{}"), client_info=info)
        message = jsonrpc.request(b"0", "server/discover", params)
        request = Request(message, Wait(), request_headers(message))
    try:
        with trio.fail_after(ANSWER):
            await link.call(request, NoBack())
    except trio.TooSlowError:
        return f"did not answer a ping within {ANSWER:g} s"
    except ServerError as problem:
        return problem.reason if problem.unwell else None
    except GatewayError as problem:
        return problem.message
    return None
