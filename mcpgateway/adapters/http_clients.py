"""Which HTTP client reaches a server, and what every request to it carries.

It is the fast client, unless there is a proxy or HTTP/2 is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from mcpgateway.config.model import HttpServer
from mcpgateway.config.proxies import proxy_for
from mcpgateway.errors import ServerTimeout
from mcpgateway.wire.http1.client import Pool
from mcpgateway.wire.http_client import BODY_STALL, Deadlines, Fields, HttpClient
from mcpgateway.wire.readiness import Poller
from mcpgateway.wire.tls import client_context

_FRAMING: Final = frozenset({"connection", "content-length", "transfer-encoding"})


def client_for(config: HttpServer, poller: Poller, environ: Mapping[str, str]) -> HttpClient:
    """The client for a server; connects to nothing. ``environ`` is the gateway's environment."""
    options = config.http
    own = options.client_cert
    identity = None if own is None else (own.cert, own.key)
    tls = partial(client_context, ca=options.ca, identity=identity, http2=options.http2)
    proxy = proxy_for(config.url, options.proxy, environ)
    if proxy is None and not options.http2:
        return Pool(config.url, poller, deadlines=_deadlines(config), tls=tls)

    from mcpgateway.wire.httpx_client import HttpxClient  # httpx2 takes 100 ms to import, and is hardly ever needed

    proxy_tls = partial(client_context, ca=options.ca)
    return HttpxClient(
        config.url, deadlines=_deadlines(config), tls=tls, http2=options.http2, proxy=proxy, proxy_tls=proxy_tls
    )


def _deadlines(config: HttpServer) -> Deadlines:
    stall = config.stall_timeout
    return Deadlines(
        connect=config.connect_timeout,
        first_byte=config.first_byte_timeout,
        body=BODY_STALL if stall is None else stall,
        stream=stall,
        late=partial(ServerTimeout, config.name),
    )


def fields_for(config: HttpServer) -> Fields:
    """The header fields that every request to a server has; configured ones win, but for those that frame it."""
    host = urlsplit(config.url).netloc
    fields: dict[bytes, bytes | None] = {
        b"host": host.encode("ascii" if host.isascii() else "idna"),
        b"content-type": b"application/json",
        b"accept": b"application/json, text/event-stream",
        b"user-agent": b"mcpgateway",
    }
    for name, value in config.headers.items():
        if name.lower() not in _FRAMING:
            fields[name.lower().encode()] = value.reveal().encode()
    return fields
