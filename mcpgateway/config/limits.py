"""What clients may hold and how long they may take, as the configuration has it; enforced where they do.

`mcpgateway.wire.bounds` counts what is counted, for one address and in all.
"""

from __future__ import annotations

import attrs

from mcpgateway.durations import Seconds


@attrs.frozen
class Limits:
    """Bounds of the HTTP front; every one has its own deadline or count.

    What is bounded for one address is an IPv4 address or an IPv6 /64, by default half of what there may be in all: one
    client alone then cannot take everything. Everybody behind a reverse proxy has the proxy's address; where that is
    the only client, let each ``…_per_address`` be as much as there may be in all.
    """

    header_bytes: int = 32 * 1024
    body_bytes: int = 4 * 1024 * 1024
    header_timeout: Seconds = 10.0
    """Seconds from the first byte of a request to the end of its head, and for a TLS handshake."""
    body_timeout: Seconds = 60.0
    """Seconds from the end of the head to the end of the body."""
    idle_timeout: Seconds = 120.0
    """Seconds that a keep-alive connection may be silent between requests. A WebSocket that is silent for so long is
    pinged, and closed if nothing comes for ``write_timeout`` either."""
    write_timeout: Seconds = 30.0
    """Seconds that a client may take to read what it is sent, and longer for what is large; see ``write_rate``."""
    write_rate: int = 64 * 1024
    """Bytes per second at which a client has to read at least: n bytes have ``write_timeout`` and n / ``write_rate``
    seconds, whatever it takes meanwhile."""
    connections: int = 4096
    """Connections. At the bound an idle one makes room, of the address that has most; if all are busy, the new one is
    refused with status 503."""
    connections_per_address: int | None = None
    """Connections of one address; ``None``: half of ``connections``. At the bound its longest-connected idle one makes
    room; if all are busy, the new one is refused with status 429."""
    pipelined: int = 100
    """Requests that a client may send on one connection before it has the answer to the first."""
    calls: int = 4096
    """Calls in flight, entries of batches included; more are refused with status 503."""
    calls_per_address: int | None = None
    """Calls in flight of one address; ``None``: half of ``calls``. More are refused with status 429."""
    streams: int = 3072
    """GET streams, those of HTTP+SSE, WebSockets, and ``subscriptions/listen``. They are never idle; more are refused
    with status 503."""
    streams_per_address: int | None = None
    """Streams of one address; ``None``: half of ``streams``. More are refused with status 429."""
    sessions: int = 10_000
    """Legacy sessions. At the bound the one idle for longest makes room, of the address that has most."""
    sessions_per_address: int | None = None
    """Sessions opened from one address; ``None``: half of ``sessions``. At the bound, that of them which is idle for
    longest makes room."""
    session_idle_timeout: Seconds = 3600.0
    """Seconds after which a session ends that has no call in flight and no stream open."""
    bodies_bytes: int = 256 * 1024 * 1024
    """Bytes of request bodies that come in more than one piece, from their arrival to the reply; more are refused with
    status 503. The same for messages of more than 64 KiB on WebSockets and on stdio."""
    bodies_bytes_per_address: int | None = None
    """The same for one address; ``None``: half of ``bodies_bytes``. More are refused with status 429."""
    replies_bytes: int = 512 * 1024 * 1024
    """Bytes of replies that clients have not taken yet; a client that makes it more is disconnected."""
    replies_bytes_per_address: int | None = None
    """The same for the clients at one address; ``None``: half of ``replies_bytes``."""
    outbox_bytes: int = 64 * 1024 * 1024
    """Bytes of events that are kept for the streams of legacy sessions, which their clients may resume. Beyond it go
    the oldest that were sent, and then the oldest that wait, of who has been away for longest."""
    outbox_bytes_per_session: int | None = None
    """The same for one session; ``None``: 1 MiB, or ``outbox_bytes`` where that is less. An event that is larger alone
    reaches its client only if that is there."""
    outbox_events_per_session: int = 256
    """Events that are kept for the streams of one session."""


@attrs.frozen
class Parking:
    """Calls of modern clients that wait for their client's answer to a question of a legacy server.

    Such a call has a link of its server to itself. Where other calls need that and there may be no more
    (``links.max``), the one that has waited for longest is cancelled.
    """

    ttl: Seconds = 600.0
    """Seconds that a client has for its answers; then the call is cancelled at the server."""
    max: int = 1000
    """Parked calls; a call whose server asks something when there are as many fails with status 503."""
    max_per_principal: int | None = None
    """Parked calls of one principal; ``None``: half of ``max``."""
