"""The second HTTP client: through proxies, and over HTTP/2. `httpx2` does the work; hardly any gateway imports it.

A connection carries one request at a time, over HTTP/2 too: each is a transport of `httpx2` of its own, which may open
no second one, and the list of idle ones is ours, as in `mcpgateway.wire.http1.client.Pool`. The reason is what
interrupting a request leaves behind. httpcore, on which `httpx2` stands, does not reset the stream of a request that
was cancelled (encode/httpcore#1022): the peer works on, what it sends is never acknowledged, and after a hundred such
requests h2 refuses to open another stream. And a write that is cancelled half-way breaks the connection for everybody
on it. So whoever is interrupted closes the connection, which ends its stream, tells the peer, and costs nobody else.
"""

from __future__ import annotations

import logging
import math
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, cast

import attrs
import httpx2
import trio

from mcpgateway.config.proxies import Proxy
from mcpgateway.wire.http_client import (
    DEFAULT,
    KEPT,
    Abandon,
    Deadlines,
    Done,
    Fields,
    HttpError,
    advised,
    innermost,
    target_of,
)
from mcpgateway.wire.shield import shielded
from mcpgateway.wire.tls import client_context
from mcpgateway.wire.transport import peer_closed
from mcpgateway.wire.waiting import Wait, interruptible

CLOSING: Final = 2.0
"""Seconds for closing a connection, which waits for nobody."""
REST: Final = 0.05
"""Seconds for the rest of a response that was left, when its connection is needed; else another is opened."""

for _name in ("hpack", "httpcore2"):
    # At debug they log header fields, credentials among them.
    logging.getLogger(_name).setLevel(logging.INFO)

_ONE: Final = httpx2.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=None)


class HttpxClient:
    """Connections to the origin of one URL, by `httpx2`; a `mcpgateway.wire.http_client.HttpClient`.

    Owned by whoever made it: idle connections are closed by `close_idle`, and by whoever sends a request `KEPT` seconds
    after they were last needed; one in use is closed or given back by who uses it. ``tls`` and ``proxy_tls`` give the
    contexts towards the server and an ``https://`` proxy. There is no bound on connections: the leases above bound the
    calls.
    """

    def __init__(
        self,
        url: str,
        *,
        deadlines: Deadlines = DEFAULT,
        tls: Callable[[], ssl.SSLContext] = client_context,
        http2: bool = False,
        proxy: Proxy | None = None,
        proxy_tls: Callable[[], ssl.SSLContext] = client_context,
    ) -> None:
        self.url = httpx2.URL(url)
        self.target = target_of(url)
        self.deadlines = deadlines
        self.proxy = proxy
        self._tls = tls
        self._http2 = http2
        self._proxy_tls = proxy_tls
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()

    @property
    def open_connections(self) -> int:
        """Connections that are open, idle ones and those being opened included."""
        return len(self._open)

    def prepare(self, method: bytes, fields: Fields, *, patient: bool = False) -> HttpxPrepared:
        """See `mcpgateway.wire.http_client.HttpClient.prepare`."""
        return HttpxPrepared(self, method, fields, self.deadlines.patient() if patient else self.deadlines)

    async def exchange(self, request: httpx2.Request, wait: Wait, deadlines: Deadlines) -> HttpxResponse:
        """See `mcpgateway.wire.http_client.Prepared.exchange`."""
        connection = await self._take(wait)
        if connection is not None:
            try:
                return await self._attempt(connection, request, wait, deadlines)
            except HttpError as problem:
                if not problem.unsent:
                    raise
        return await self._attempt(self._make(), request, wait, deadlines)

    async def _attempt(
        self, connection: Connection, request: httpx2.Request, wait: Wait, deadlines: Deadlines
    ) -> HttpxResponse:
        way = _Way(connection, wait, deadlines, self.proxy)
        request.extensions = {"trace": way.came_to, "target": self.target}
        try:
            with way.told(), interruptible(wait), way.connecting:
                response = await connection.transport.handle_async_request(request)
        except BaseException:
            await self.discard(connection)
            raise
        finally:
            wait.phase = None
        found = HttpxResponse(self, connection, response, deadlines)
        if found.status == 407 and self.proxy is not None and self.url.scheme == "http":
            await found.aclose()
            raise HttpError(f"{way.the_proxy} refused the request with HTTP 407; {_CREDENTIALS}", unsent=True)
        return found

    def _make(self) -> Connection:
        try:
            connection = Connection(self._transport())
        except (OSError, ValueError) as problem:
            raise HttpError(f"cannot connect: {problem}", unsent=True) from None
        self._open.add(connection)
        return connection

    def _transport(self) -> httpx2.AsyncHTTPTransport:
        proxy = None
        if self.proxy is not None:
            url = self.proxy.url.reveal()
            if problem := self.proxy.problem:
                raise ValueError(f"the proxy of {self.proxy.source} {problem}")
            secure = url.lower().startswith("https:")
            proxy = httpx2.Proxy(url, ssl_context=self._proxy_tls() if secure else None)
        return httpx2.AsyncHTTPTransport(
            verify=self._tls(), http2=self._http2, limits=_ONE, proxy=proxy, trust_env=False
        )

    async def _take(self, wait: Wait) -> Connection | None:
        """An idle connection that can be used, the one used last first; closes those that cannot, or are old."""
        oldest = trio.current_time() - KEPT
        while self._idle and self._idle[0].idle_since < oldest:
            await self.discard(self._idle.pop(0))
        while self._idle:
            connection = self._idle.pop()
            try:
                with interruptible(wait):
                    if await connection.finish():
                        return connection
            except BaseException:
                await self.discard(connection)
                raise
            await self.discard(connection)
        return None

    def keep(self, connection: Connection) -> None:
        """Take back a connection; it may have the rest of a response to come."""
        connection.idle_since = trio.current_time()
        self._idle.append(connection)

    async def discard(self, connection: Connection) -> None:
        """Close a connection, whatever is under way on it."""
        with shielded(CLOSING):
            await connection.aclose()
        self._open.discard(connection)

    async def close_idle(self) -> None:
        """See `mcpgateway.wire.http_client.HttpClient.close_idle`."""
        idle, self._idle = self._idle, []
        for connection in idle:
            await self.discard(connection)

    def __repr__(self) -> str:
        through = f" through {self.proxy.place}" if self.proxy is not None else ""
        return f"<HttpxClient {self.url.host}{through} {len(self._open)} open, {len(self._idle)} idle>"


class HttpxPrepared:
    """See `mcpgateway.wire.http_client.Prepared`."""

    def __init__(self, client: HttpxClient, method: bytes, fields: Fields, deadlines: Deadlines) -> None:
        self._client = client
        self._method = method.decode()
        self._fields = fields
        self._deadlines = deadlines

    def begin(self, fields: Fields | None, body: bytes, wait: Wait, done: Done) -> Abandon | None:
        """Never: every request has a task."""
        return None

    async def exchange(self, wait: Wait, body: bytes | None = None, fields: Fields | None = None) -> HttpxResponse:
        """See `mcpgateway.wire.http_client.Prepared.exchange`."""
        headers = [(n, v) for n, v in {**self._fields, **(fields or {})}.items() if v is not None]
        request = httpx2.Request(self._method, self._client.url, headers=headers, content=body)
        return await self._client.exchange(request, wait, self._deadlines)


@attrs.define(eq=False)
class Connection:
    """A transport of `httpx2` that opens one connection at most, and the response on it whose rest may be to come."""

    transport: httpx2.AsyncHTTPTransport
    stream: Any = None  # httpcore's class; only `httpx2` is ours to import
    """The TCP stream below, once there is one."""
    idle_since: float = 0.0
    _response: httpx2.AsyncByteStream | None = None
    _pieces: AsyncIterator[bytes] | None = None
    """What is left of the response on it."""

    def began(self, response: httpx2.Response) -> None:
        """There is a response, whose body is still to come."""
        self._response = cast("httpx2.AsyncByteStream", response.stream)
        self._pieces = aiter(self._response)

    async def more(self) -> bytes:
        """The next piece of the body; ``b""`` at its end."""
        piece: bytes | None = b""
        while self._pieces is not None and piece == b"":  # HTTP/2 ends with an empty one
            piece = await anext(self._pieces, None)
        if piece is None:
            assert self._response is not None
            await self._response.aclose()
            self._response = self._pieces = None
        return piece or b""

    async def finish(self) -> bool:
        """Take in the rest of a response that was left; whether the connection is ready for the next."""
        with trio.move_on_after(REST):
            try:
                while await self.more():
                    pass
            except httpx2.HTTPError:
                return False
        return self._pieces is None and not peer_closed(self.stream.get_extra_info("socket"))

    async def aclose(self) -> None:
        """Close at once: the socket first, and what is above it runs into that. Nothing is raised.

        httpcore forgets the socket of a TLS handshake that was cancelled, and the generators of a response that is
        given up would be left to the garbage collector.
        """
        if self.stream is not None:
            await self.stream.aclose()
        with suppress(Exception):
            await self.transport.aclose()
        pieces, self._pieces = self._pieces, None
        if pieces is not None:
            with suppress(Exception):
                async for _ in pieces:
                    pass


class HttpxResponse:
    """See `mcpgateway.wire.http_client.Response`."""

    def __init__(
        self, client: HttpxClient, connection: Connection, response: httpx2.Response, deadlines: Deadlines
    ) -> None:
        self._client = client
        self._connection: Connection | None = connection
        self._response = response
        self._deadlines = deadlines
        connection.began(response)
        self.status: int = response.status_code
        self.http_version: str = response.http_version
        joined: dict[bytes, bytes] = {}
        for name, value in response.headers.raw:
            key = name.lower()
            joined[key] = joined[key] + b", " + value if key in joined else value
        self.headers: Mapping[bytes, bytes] = joined

    async def read(self, wait: Wait, limit: int) -> bytes:
        """See `mcpgateway.wire.http_client.Response.read`."""
        size = 0
        chunks: list[bytes] = []
        while piece := await self.more(wait):
            chunks.append(piece)
            size += len(piece)
            if size > limit:
                await self.aclose()
                raise HttpError(f"the response is larger than {limit} bytes")
        return b"".join(chunks)

    async def more(self, wait: Wait) -> bytes:
        """See `mcpgateway.wire.http_client.Response.more`."""
        connection = self._connection
        if connection is None:
            return b""
        piece = b""
        try:
            wait.phase = self._deadlines.silence(self.headers)
            with interruptible(wait):
                piece = await connection.more()
        except httpx2.HTTPError as problem:
            await self.aclose()
            raise HttpError(_broken(problem, "within its response")) from None
        except BaseException:
            await self.aclose()
            raise
        finally:
            wait.phase = None
        if not piece:
            self.leave()
        return piece

    def leave(self) -> None:
        """See `mcpgateway.wire.http_client.Response.leave`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._client.keep(connection)

    async def aclose(self) -> None:
        """See `mcpgateway.wire.http_client.Response.aclose`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._client.discard(connection)


# ---- what becomes of a request ---------------------------------------------------------------------------------------

_CREDENTIALS: Final = "check the user and password in its URL"


class _Way:
    """How far a request has come, as httpcore tells it on the way: what is waited for, and what a failure means.

    (httpcore, extensions: ``trace``.) The proxy's own request, ``CONNECT``, is told of like any other.
    """

    def __init__(self, connection: Connection, wait: Wait, deadlines: Deadlines, proxy: Proxy | None) -> None:
        self.connecting = trio.CancelScope(deadline=trio.current_time() + deadlines.connect)
        """Ends what takes too long before there is anything to send on."""
        self._connection = connection
        self._wait = wait
        self._deadlines = deadlines
        self._proxy = proxy
        self._step = "proxy"
        self._sent = False

    @property
    def the_proxy(self) -> str:
        assert self._proxy is not None
        return f"the proxy {self._proxy.place} ({self._proxy.source})"

    async def came_to(self, event: str, info: Mapping[str, Any]) -> None:
        """Take an event of httpcore. (Any: each has members of its own.)"""
        what, _, step = event.rpartition(".")
        if event == "connection.connect_tcp.complete":
            self._connection.stream = info["return_value"]
        if step != "started":
            return
        request = info.get("request")
        if request is not None and request.method == b"CONNECT":
            self._step = "tunnel"
        elif what == "proxy.start_tls":
            self._step = "tls"
        elif what.endswith(".send_request_headers"):
            self._sent = True
            self.connecting.deadline = math.inf
        elif what.endswith(".receive_response_headers"):
            self._wait.phase = self._deadlines.head()

    @contextmanager
    def told(self) -> Iterator[None]:
        """Tell of a failure as an `HttpError`."""
        try:
            yield
        except httpx2.HTTPError as problem:
            raise HttpError(self._what(problem), unsent=not self._sent) from None
        if self.connecting.cancelled_caught:
            through = f" through {self.the_proxy}" if self._proxy is not None else ""
            limit = self._deadlines.connect
            raise HttpError(f"no connection within {limit:g} s{through} (connect_timeout)", unsent=True)

    def _what(self, problem: httpx2.HTTPError) -> str:
        if self._sent:
            return _broken(problem, "without a response")
        reason = innermost(problem)
        if self._proxy is None:
            return f"cannot connect: {reason}"
        if isinstance(problem, httpx2.ProxyError):
            status = str(problem).split(" ", 1)[0]
            hint = _CREDENTIALS if status == "407" else "it does not reach the server, or may not"
            return f"{self.the_proxy} refused a connection to the server with HTTP {status}; {hint}"
        if self._step == "tunnel":
            return f"{self.the_proxy} gave no connection to the server: {_broken(problem, 'without a response')}"
        if self._step == "tls":
            hint = "a proxy that looks into TLS needs its authority in 'http.ca'"
            return f"cannot connect to the server through {self.the_proxy}: {reason}; {hint}"
        return f"cannot connect to {self.the_proxy}: {reason}"


_CLOSED: Final = ("disconnected", "closed connection", "StreamReset", "ConnectionTerminated")
"""How httpcore, h11 and h2 speak of a peer that ends a connection, or the stream on it."""


def _broken(problem: httpx2.HTTPError, where: str) -> str:
    """How a connection ended under a request. What the peer sent is not quoted: it may be anything."""
    if not isinstance(problem, httpx2.ProtocolError):
        return f"the connection broke {where}: {advised(innermost(problem))}"
    if any(word in str(problem) for word in _CLOSED):
        return f"the peer closed the connection {where}"
    return "not a valid HTTP response"
