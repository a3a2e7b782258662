"""The ``sse`` adapter: HTTP+SSE of revision 2024-11-05, which Streamable HTTP has replaced (2025-03-26).

A link is one event stream, asked for with GET. Its first event, ``endpoint``, names the URL that messages are POSTed
to; the server takes each with 202 and says everything on the stream, in either era. When the stream ends, so does the
session, and the link is closed: whoever owns it makes the next one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final
from urllib.parse import urldefrag, urljoin, urlsplit

import attrs
import trio

from mcpgateway.adapters.base import Link, Offer, Receive
from mcpgateway.adapters.http_clients import client_for, fields_for
from mcpgateway.adapters.http_replies import MAX_REPLY, explain, is_stream
from mcpgateway.adapters.pipe import PipeLink
from mcpgateway.adapters.pipe_handshake import negotiate
from mcpgateway.adapters.sse_posts import Posts
from mcpgateway.config.model import SseServer
from mcpgateway.config.urls import url_problem
from mcpgateway.errors import NotStarted, ServerError, ServerSessionLost, ServerUnavailable
from mcpgateway.wire import sse
from mcpgateway.wire.http_client import HttpClient, HttpError, Response
from mcpgateway.wire.readiness import Poller
from mcpgateway.wire.shield import shielded
from mcpgateway.wire.waiting import Wait

_ENDING: Final = 2.0
"""Seconds for a link to end, which waits for nobody."""


class SseAdapter:
    """Opens an event stream per link; see `mcpgateway.adapters.streamable_http.StreamableHttpAdapter`."""

    def __init__(self, config: SseServer, poller: Poller, *, environ: Mapping[str, str] = MappingProxyType({})) -> None:
        self._config = config
        self._client = lambda url: client_for(attrs.evolve(config, url=url), poller, environ)
        self._clients: set[HttpClient] = set()

    @property
    def server(self) -> str:
        return self._config.name

    @property
    def open_connections(self) -> int:
        """Connections of the links that are there."""
        return sum(client.open_connections for client in self._clients)

    async def connect(self, nursery: trio.Nursery, offer: Offer, receive: Receive) -> Link:
        """Open the stream and shake hands, in ``startup_timeout`` seconds; see `mcpgateway.adapters.base.Adapter`."""
        limit = self._config.startup_timeout
        stream = _Stream(self._config, self._client, self._clients)
        try:
            with trio.fail_after(limit):
                return await self._connect(stream, nursery, offer, receive)
        except trio.TooSlowError:
            if stream.endpoint:
                raise ServerUnavailable(self.server, f"did not shake hands within {limit:g} s") from None
            raise NotStarted(self.server, f"announced no endpoint within {limit:g} s") from None
        except HttpError as problem:
            unavailable = ServerUnavailable if stream.endpoint else NotStarted
            raise unavailable(self.server, str(problem), unsent=problem.unsent) from None
        except ServerSessionLost as problem:
            raise ServerUnavailable(self.server, problem.reason) from None

    async def _connect(self, stream: _Stream, nursery: trio.Nursery, offer: Offer, receive: Receive) -> Link:
        try:
            await stream.open()
            link = PipeLink(self.server, stream, receive)
            await nursery.start(stream.run, link, name=f"link {self.server}")
            await negotiate(link, offer)
        except BaseException:
            with shielded(_ENDING):
                await stream.aclose()
            raise
        return link


class _Stream:
    """One event stream, and the POSTs to the endpoint that it announced; a `mcpgateway.adapters.pipe.Wire`."""

    def __init__(self, config: SseServer, client: Callable[[str], HttpClient], clients: set[HttpClient]) -> None:
        self.endpoint = ""
        """The URL to POST to; empty until it is announced."""
        self._config = config
        self._clients = clients
        self._make = client
        self._getting = client(config.url)
        self._posting: HttpClient | None = None
        self._response: Response | None = None
        self._parser = sse.Parser(MAX_REPLY)
        self._frames: list[sse.Frame] = []
        """Events that came with the endpoint's."""
        self._posts: Posts | None = None
        self._life = trio.CancelScope()
        self._running = False
        self._over = trio.Event()

    async def open(self) -> None:
        """Ask for the stream, and wait for the endpoint.

        :raises HttpError: it cannot be reached, or broke
        :raises NotStarted: it answered with something else
        """
        self._clients.add(self._getting)
        fields = {**fields_for(self._config), b"accept": b"text/event-stream", b"cache-control": b"no-store"}
        fields[b"content-type"] = None
        self._response = response = await self._getting.prepare(b"GET", fields, patient=True).exchange(Wait())
        if not is_stream(response):
            text = explain(response.status, response.headers, speaks="HTTP+SSE (type: sse)")
            raise NotStarted(self._config.name, text)
        try:
            self.endpoint = endpoint_of(self._config.url, await self._announced(response))
        except (ValueError, sse.EventTooLarge) as problem:
            raise NotStarted(self._config.name, str(problem)) from None
        to_post = attrs.evolve(self._config, url=self.endpoint)
        self._posting = self._make(self.endpoint)
        self._clients.add(self._posting)
        prepared = self._posting.prepare(b"POST", {**fields_for(to_post), b"accept": b"*/*"})
        self._posts = Posts(self._config.name, prepared, self._config.first_byte_timeout or self._config.timeout)

    async def _announced(self, response: Response) -> bytes:
        while piece := await response.more(Wait()):
            frames = self._parser.feed(piece)
            for index, frame in enumerate(frames):
                if frame.event == b"endpoint":
                    self._frames = frames[index + 1 :]
                    return frame.data
                if frame.event == b"message" and frame.data:
                    raise ValueError("sent a message before it announced an endpoint; does it speak Streamable HTTP?")
        raise ValueError("ended its event stream before it announced an endpoint")

    async def run(self, link: PipeLink, *, task_status: trio.TaskStatus[None]) -> None:
        """Feed a link until the stream ends, or the session; then say why."""
        reason = "the gateway gave it up"
        self._running = True
        assert self._posts is not None
        try:
            with self._life:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._posts.run, partial(self._undelivered, link))
                    task_status.started()
                    reason = await self._read(link)
                    nursery.cancel_scope.cancel(reason=reason)
        finally:
            link.broken(reason)
            await self._close()

    async def _read(self, link: PipeLink) -> str:
        assert self._response is not None
        limit = self._config.stall_timeout or math.inf
        frames = self._frames
        try:
            while True:
                for frame in frames:
                    self._take(link, frame)
                await trio.lowlevel.checkpoint()  # others get a turn, however fast the server sends
                with trio.move_on_after(limit) as silence:
                    piece = await self._response.more(Wait())
                if silence.cancelled_caught:
                    return f"said nothing for {limit:g} s (stall_timeout)"
                if not piece:
                    return "ended its event stream"
                frames = self._parser.feed(piece)
        except HttpError as problem:
            return f"its event stream broke: {problem}"
        except sse.EventTooLarge as problem:
            return f"its event stream cannot be read on: {problem}"

    def _take(self, link: PipeLink, frame: sse.Frame) -> None:
        if frame.event == b"message" and frame.data:
            link.received(frame.data)
        elif frame.event == b"endpoint":
            try:
                same = endpoint_of(self._config.url, frame.data) == self.endpoint
            except ValueError:
                same = False
            if not same:
                link.drop("another endpoint than the one that it had announced")

    def _undelivered(self, link: PipeLink, data: bytes, problem: ServerError, known: bool) -> None:
        """The server did not take a message."""
        link.undelivered(data, problem, known=known)
        if isinstance(problem, ServerSessionLost):
            link.broken(problem.reason)
            self._life.cancel(reason=problem.reason)

    # ---- as the wire of a link ---------------------------------------------------------------------------------------

    def put(self, data: bytes) -> None:
        """See `mcpgateway.adapters.pipe.Wire`."""
        if self._posts is None or self._life.cancel_called:
            raise trio.ClosedResourceError
        self._posts.put(data)

    async def aclose(self) -> None:
        """End the stream, and so the session; idempotent, waits for nobody."""
        self._life.cancel(reason="the link is being closed")
        if self._running:
            await self._over.wait()
        else:
            await self._close()

    async def _close(self) -> None:
        self._over.set()
        if self._response is not None:
            await self._response.aclose()
        for client in self._getting, self._posting:
            if client is not None:
                await client.close_idle()
                self._clients.discard(client)


def endpoint_of(url: str, announced: bytes) -> str:
    """The URL that the data of an ``endpoint`` event means, on the stream of ``url``; without a fragment.

    :raises ValueError: it is none, or of another origin; the message shows no more of it than that origin
    """
    try:
        text = announced.decode()
    except UnicodeDecodeError:
        text = ""
    if not text:
        raise ValueError("announced an endpoint that is no URL")
    try:
        found = urldefrag(urljoin(url, text)).url
    except ValueError:
        found = ""
    problem = url_problem(found)
    if problem:
        raise ValueError(f"announced an endpoint that cannot be used: it {problem}")
    if origin_of(found) != origin_of(url):
        scheme, host, port = origin_of(found)
        raise ValueError(
            f"announced an endpoint of another origin, {scheme}://{host}:{port}, which is refused; "
            "it should announce a relative one, or the URL that it is reached by"
        )
    return found


def origin_of(url: str) -> tuple[str, str, int]:
    """The scheme, host and port of a URL with `mcpgateway.config.urls.url_problem` of none."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
