"""How a link over a pipe finds out which era its server speaks, and agrees with it on a revision.

Modern first, as MCP 2026-07-28 says (basic/lifecycle, "Backward compatibility"). The probe is ``server/discover``,
never a real method: some legacy servers answer ``tools/list`` before ``initialize``.
"""

from __future__ import annotations

from typing import Final

import trio

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Offer
from mcpgateway.adapters.pipe import PipeLink
from mcpgateway.errors import EraMismatch, ServerMisbehaved, ServerUnavailable
from mcpgateway.protocol import handshake
from mcpgateway.protocol.envelope import stamp
from mcpgateway.protocol.negotiated import Negotiated
from mcpgateway.protocol.revisions import LATEST_MODERN, Era

PROBE: Final = 10.0
"""Seconds that a server has to answer ``server/discover`` before it is taken to be legacy (the SDKs' figure)."""


async def negotiate(link: PipeLink, offer: Offer) -> None:
    """Agree with the server on an era and a revision, as ``offer`` says. Only the probe is bounded in time.

    :raises ServerUnavailable: it did not shake hands
    :raises EraMismatch: it does not speak ``offer.era``
    """
    try:
        link.agreed(await _negotiate(link, offer))
    except ServerMisbehaved as problem:
        raise ServerUnavailable(link.server, problem.reason) from problem


async def _negotiate(link: PipeLink, offer: Offer) -> Negotiated:
    if offer.era is Era.LEGACY:
        return await _initialize(link, offer)
    if offer.era is Era.MODERN:
        modern = await _discover(link, offer, LATEST_MODERN)
        if modern is None:
            raise EraMismatch(link.server, client="modern", server_era="legacy")
        return modern
    with trio.move_on_after(PROBE) as probe:
        try:
            modern = await _discover(link, offer, LATEST_MODERN)
        except ServerUnavailable:
            if link.closed.is_set():
                raise
            modern = None  # its transport refused what it did not know
        if modern is not None:
            return modern
    try:
        return await _initialize(link, offer)
    except EraMismatch:
        # A modern server that was slow to start (`npx` downloads first) has seen the probe too late.
        modern = await _discover(link, offer, LATEST_MODERN) if probe.cancelled_caught else None
    if modern is None:
        raise ServerUnavailable(link.server, "speaks neither era of MCP")
    return modern


async def _discover(link: PipeLink, offer: Offer, revision: str, *, again: bool = True) -> Negotiated | None:
    """Shake hands in the modern era; ``None`` where the server does not speak it."""
    info = jsonrpc.members_of(offer.initialize).get("clientInfo")
    params = stamp(None, revision=revision, capabilities=offer.capabilities, client_info=info)
    answer = await link.ask("server/discover", params)
    verdict = handshake.judge_probe(answer)
    if not verdict.modern:
        return None
    if answer.result is not None:
        return handshake.read_discover(answer.result, server=link.server)
    if verdict.retry is not None and again:
        return await _discover(link, offer, verdict.retry, again=False)
    raise handshake.refused(link.server, "server/discover", answer)


async def _initialize(link: PipeLink, offer: Offer) -> Negotiated:
    """Shake hands in the legacy era."""
    answer = await link.ask("initialize", offer.initialize)
    if answer.result is None:
        if handshake.is_modern_only(answer):
            raise EraMismatch(link.server, client="legacy", server_era="modern")
        raise handshake.refused(link.server, "initialize", answer)
    negotiated = handshake.read_initialize(answer.result, server=link.server, stateful=True)
    await link.notify(jsonrpc.notification("notifications/initialized"))
    return negotiated
