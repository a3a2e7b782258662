"""The ``streamable-http`` adapter: how links to servers behind an HTTP URL are made, in both eras.

The links are `mcpgateway.adapters.http_link`. They share one `mcpgateway.wire.http_client.HttpClient`, which this
adapter owns: once there is no link, no connection is left.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import trio

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import NoBack, Offer, Receive, Reply
from mcpgateway.adapters.http_clients import client_for, fields_for
from mcpgateway.adapters.http_link import COURTESY, SESSION, StreamableHttpLink
from mcpgateway.adapters.http_replies import Refused, read_reply
from mcpgateway.config.model import HttpServer
from mcpgateway.errors import EraMismatch, ServerMisbehaved, ServerUnavailable
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.envelope import stamp
from mcpgateway.protocol.handshake import is_modern_only, judge_probe, read_discover, read_initialize, refused
from mcpgateway.protocol.headers import request_headers
from mcpgateway.protocol.negotiated import Negotiated
from mcpgateway.protocol.revisions import LATEST_MODERN, Era
from mcpgateway.wire.http_client import Fields, HttpError
from mcpgateway.wire.readiness import Poller
from mcpgateway.wire.shield import shielded
from mcpgateway.wire.waiting import Wait

log = logging.getLogger("mcpgateway.server")

PROBE_TIMEOUT: Final = 10.0
"""Seconds for the answer to ``server/discover`` before a server is taken to be legacy (as the SDKs have it)."""

_DOES_NOT_KNOW: Final = frozenset({400, 404, 405, 406, 415})
"""The HTTP errors of servers that do not know a request, and not of those that cannot serve it just now."""


class StreamableHttpAdapter:
    """Reaches one server over Streamable HTTP. Owns the client, whose connections its links share.

    ``environ`` is the gateway's environment, which may say that there is a proxy; see `mcpgateway.config.proxies`.
    """

    def __init__(
        self,
        config: HttpServer,
        poller: Poller,
        *,
        environ: Mapping[str, str] = MappingProxyType({}),
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.server = config.name
        self.chance = chance
        self.timeout = config.timeout
        self.client = client_for(config, poller, environ)
        self.fields = fields_for(config)
        """What every request to the server carries."""
        self.links = 0
        """Links that are open."""
        self._startup_timeout = config.startup_timeout

    async def connect(self, nursery: trio.Nursery, offer: Offer, receive: Receive) -> StreamableHttpLink:
        """Shake hands, in ``startup_timeout`` seconds; see `mcpgateway.adapters.base.Adapter`.

        ``receive`` is called on legacy links with a session whose ``offer.hears``.
        """
        try:
            with trio.fail_after(self._startup_timeout):
                link = await self._negotiate(nursery, offer)
            await link.hear(receive)
            return link
        except trio.TooSlowError:
            raise ServerUnavailable(self.server, f"no handshake within {self._startup_timeout:g} s") from None
        except ServerMisbehaved as problem:
            raise ServerUnavailable(self.server, problem.reason) from problem
        finally:
            await self.tidy()

    async def _negotiate(self, nursery: trio.Nursery, offer: Offer) -> StreamableHttpLink:
        if offer.era is Era.LEGACY:
            return await self._initialize(nursery, offer)
        with trio.move_on_after(PROBE_TIMEOUT if offer.era is None else math.inf) as probe:
            negotiated = await self._discover(offer)
            if negotiated is not None:
                return StreamableHttpLink(self, negotiated, nursery, None, offer)
        if offer.era is Era.MODERN:
            raise EraMismatch(self.server, client=Era.MODERN.value, server_era=Era.LEGACY.value)
        try:
            return await self._initialize(nursery, offer)
        except EraMismatch:
            # A modern server that was slow to start has seen the probe too late.
            negotiated = await self._discover(offer) if probe.cancelled_caught else None
        if negotiated is None:
            raise ServerUnavailable(self.server, "speaks neither era of MCP")
        return StreamableHttpLink(self, negotiated, nursery, None, offer)

    async def _discover(self, offer: Offer) -> Negotiated | None:
        """Probe for the modern era; ``None`` if the server does not speak it."""
        revision = LATEST_MODERN
        info = jsonrpc.members_of(offer.initialize).get("clientInfo")
        for _ in range(2):
            params = stamp(None, revision=revision, capabilities=offer.capabilities, client_info=info)
            message = jsonrpc.request(b"0", "server/discover", params)
            try:
                reply, _ = await self._ask(message, request_headers(message))
            except Refused as problem:
                if offer.era is Era.MODERN and problem.answered not in _DOES_NOT_KNOW:
                    raise
                return None
            except ServerMisbehaved:
                return None
            verdict = judge_probe(reply.message, reply.status)
            if not verdict.modern:
                return None
            if reply.message.result is not None:
                return read_discover(reply.message.result, server=self.server)
            if verdict.retry is None:
                raise refused(self.server, "server/discover", reply.message)
            revision = verdict.retry
        raise ServerUnavailable(self.server, "refuses every protocol version that it offers")

    async def _initialize(self, nursery: trio.Nursery, offer: Offer) -> StreamableHttpLink:
        reply, headers = await self._ask(jsonrpc.request(b"0", "initialize", offer.initialize), {})
        result = reply.message.result
        if result is None:
            if is_modern_only(reply.message, reply.status):
                raise EraMismatch(self.server, client=Era.LEGACY.value, server_era=Era.MODERN.value)
            raise refused(self.server, "initialize", reply.message)
        session = headers.get(SESSION)
        try:
            negotiated = read_initialize(result, server=self.server, stateful=session is not None)
            link = StreamableHttpLink(self, negotiated, nursery, session, offer)
        except ServerMisbehaved:
            with shielded(COURTESY):
                await self.end_session({SESSION: session})
            raise
        try:
            await link.notify(jsonrpc.notification("notifications/initialized"))
        except BaseException:
            with shielded(COURTESY):
                await link.aclose()
            raise
        return link

    async def _ask(self, message: Message, fields: Fields) -> tuple[Reply, Fields]:
        """One exchange outside any link: the JSON-RPC answer, and the header fields that it came with."""
        wait = Wait()
        prepared = self.client.prepare(b"POST", {**self.fields, **fields})
        try:
            response = await prepared.exchange(wait, message.encode())
            return await read_reply(self.server, response, b"0", wait, NoBack()), response.headers
        except HttpError as problem:
            raise ServerUnavailable(self.server, str(problem), unsent=problem.unsent) from None

    async def end_session(self, fields: Fields) -> None:
        """Tell the server that a session is over; ``fields`` name it. Bounded by `COURTESY`; failures are logged."""
        if fields.get(SESSION) is None:
            return
        with trio.move_on_after(COURTESY):
            try:
                response = await self.client.prepare(b"DELETE", {**self.fields, **fields}).exchange(Wait())
                await response.aclose()
            except HttpError as problem:
                log.info("server %r: its session was not ended: %s", self.server, problem)

    async def tidy(self) -> None:
        """Keep no connection once there is no link."""
        if not self.links:
            await self.client.close_idle()
