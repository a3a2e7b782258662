"""The targets that move bytes: HTTP both ways, headers, event streams, lines."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

import trio

from mcpgateway import jsonrpc
from mcpgateway.access.browsers import BrowserPolicy
from mcpgateway.adapters.http_replies import EventReader
from mcpgateway.adapters.sse import endpoint_of, origin_of
from mcpgateway.config.limits import Limits
from mcpgateway.errors import (
    GatewayError,
    ServerMisbehaved,
)
from mcpgateway.fronts.media import check_media, check_stream_media
from mcpgateway.protocol.header_values import decode_value, encode_value
from mcpgateway.protocol.headers import check
from mcpgateway.wire import sse
from mcpgateway.wire.http1.client import Pool
from mcpgateway.wire.http1.connection import Connection
from mcpgateway.wire.http1.exchange import Exchange
from mcpgateway.wire.http1.requests import HttpRequest, RequestReader
from mcpgateway.wire.http1.responses import ClientConnection
from mcpgateway.wire.http1.server import HttpServer
from mcpgateway.wire.http_client import HttpError
from mcpgateway.wire.lines import LineSplitter
from mcpgateway.wire.readiness import Poller
from mcpgateway.wire.waiting import Sweeper
from mcpgateway.wire.websocket_server import Closed, Frames, Text
from mcpgateway.wire.websocket_server import Reply as Pong
from tests.fuzz.oracles import Played, cuts, documented, with_gaps
from tests.wire.http1.peers import Answer, Answers

LIMITS: Final = Limits(body_bytes=1000)
_BUG: Final = "callback"
"""What llhttp's wrapper says where our own code raised within it."""


# ---- HTTP ------------------------------------------------------------------------------------------------------------


def http_requests(data: bytes) -> None:
    """Requests: the same ones and the same refusal, wherever the bytes are cut."""
    assert _requests(cuts(data)) == _requests([data[1:]])


def _requests(pieces: list[bytes]) -> tuple[object, int]:
    reader = RequestReader(lambda: HttpRequest("", False, ""), LIMITS)
    for piece in pieces:
        if reader.refusal is None:
            reader.feed(piece)
    assert reader.refusal is None or _BUG not in reader.refusal.reason, reader.refusal.reason
    seen = [
        (each.method, each.path, each.query, each.headers, tuple(each.duplicates), each.body, each.keep_alive)
        for each in reader.ready
    ]
    return seen, 0 if reader.refusal is None else reader.refusal.status


def http_connections(data: bytes) -> None:
    """A whole connection: every request answered in its order, then at most one refusal, and nothing else."""
    answers = trio.run(_connection, cuts(data))
    assert [_shown(each) for each in answers] == [_shown(each) for each in trio.run(_connection, [data[1:]])]


def _shown(answer: Answer) -> tuple[int, bytes]:
    return answer.status, answer.body if answer.status == 200 else b""


async def _connection(pieces: list[bytes]) -> list[Answer]:
    transport = Played(pieces)
    server = HttpServer(_echo, lambda status, reason: reason.encode(), Sweeper(), LIMITS)
    await Connection(transport, "peer", False, server).run()
    assert transport.closed
    answers = Answers()
    parsed = answers.feed(bytes(transport.sent)) if transport.sent else []
    for each in parsed[:-1]:
        assert each.keep_alive, "something follows what was to be the last"
        assert each.status == 200
    return parsed


async def _echo(request: HttpRequest, exchange: Exchange) -> None:
    await exchange.respond(200, b"%b %b %d" % (request.method, request.path, len(request.body)))


def http_responses(data: bytes) -> None:
    """The response of a server: one and the same, or an `HttpError`, wherever the bytes are cut."""
    found = _response(cuts(data))
    assert found == _response([data[1:]] if data[1:] else [])
    assert found != ("error", True), "our own code raised within the parser"


def _response(pieces: list[bytes]) -> tuple[object, ...]:
    connection = ClientConnection(Played([]), _POOL)
    builder = connection.builder
    try:
        for piece in pieces:
            connection.take_in(piece)
            if builder.complete:
                break  # from here on nobody reads: what is left over is for the next request to find
        else:
            connection.take_in(b"")
    except HttpError as problem:
        return "error", _BUG in str(problem)
    assert builder.complete
    return builder.status, builder.headers, b"".join(builder.chunks)


_POOL: Final = Pool("http://127.0.0.1/", Poller())


def headers(data: bytes) -> None:
    """The checks of a request's headers: documented errors, and no more."""
    request = _one_request(data)
    if request is None:
        return
    host, origin = request.headers.get(b"host"), request.headers.get(b"origin")
    for policy in (_ON_LOOPBACK, _IN_PUBLIC):
        documented(GatewayError, lambda policy=policy: policy.check(host, origin))  # type: ignore[misc]
    documented(GatewayError, lambda: check_media(request.headers))
    documented(GatewayError, lambda: check_stream_media(request.headers))
    message = documented(GatewayError, lambda: jsonrpc.decode(request.body))
    if message is not None:
        documented(GatewayError, lambda: check(request.headers, request.duplicates, message))


_ON_LOOPBACK: Final = BrowserPolicy("127.0.0.1")
_IN_PUBLIC: Final = BrowserPolicy("0.0.0.0", allowed_hosts=["example.com"], cors=["https://example.com"])


def _one_request(data: bytes) -> HttpRequest | None:
    reader = RequestReader(lambda: HttpRequest("", False, ""), LIMITS)
    reader.feed(data)
    return reader.ready[0] if reader.ready else None


def header_values(data: bytes) -> None:
    """Text in headers: what was encoded decodes to itself, and is fit for a header; the rest is refused."""
    decode_value(data)
    text = data.decode("utf-8", "replace")
    value = encode_value(text)
    assert decode_value(value) == text
    assert value.isascii()
    assert b"\n" not in value
    assert b"\r" not in value


# ---- streams ---------------------------------------------------------------------------------------------------------


def sse_events(data: bytes) -> None:
    """Events: the same wherever they are cut; each written again is read as itself; a limit is a limit."""
    frames = _events(with_gaps(data), sse.LIMIT)
    assert frames == _events([data[1:]], sse.LIMIT)
    for frame in frames:
        written = sse.encode(frame.data, event=frame.event, id=frame.id, retry=frame.retry)
        assert sse.Parser().feed(written) == [frame]
    documented(sse.EventTooLarge, lambda: _events(cuts(data), 16))


def _events(pieces: list[bytes], limit: int) -> list[sse.Frame]:
    parser = sse.Parser(limit)
    return [frame for piece in pieces for frame in parser.feed(piece)]


def endpoints(data: bytes) -> None:
    """Endpoints of HTTP+SSE: of the stream's own origin, whatever is announced, or a refusal that shows no path."""
    for url in ("https://example.com:8443/base/sse?key=k", "http://example.com/sse"):
        found = documented(ValueError, lambda url=url: endpoint_of(url, data))  # type: ignore[misc]  # bound at once
        if found is not None:
            assert urlsplit(found).geturl() == found
            assert origin_of(found) == origin_of(url)


def lines(data: bytes) -> None:
    """Lines: the same, and as many dropped, wherever the stream is cut."""
    for limit in (1 << 20, 8):
        assert _lines(with_gaps(data), limit) == _lines([data[1:]], limit)
    expected = [stripped for line in data[1:].split(b"\n") if (stripped := line.strip())]
    assert _lines(cuts(data), 1 << 20) == (expected, 0)


def _lines(pieces: list[bytes], limit: int) -> tuple[list[bytes], int]:
    splitter = LineSplitter(limit)
    found = [line for piece in pieces for line in splitter.feed(piece)]
    return found + splitter.end(), splitter.dropped


def frames(data: bytes) -> None:
    """The frames of a WebSocket client: the same messages and pongs, and the same end, wherever the bytes are cut."""
    assert _frames(with_gaps(data)) == _frames([data[1:]])


def _frames(pieces: list[bytes]) -> tuple[list[bytes], list[bytes], bool]:
    accepted = Frames(1 << 20)
    events = [event for piece in pieces for event in accepted.received(piece)]
    texts = [event.data for event in events if isinstance(event, Text)]
    pongs = [event.data for event in events if isinstance(event, Pong) and event.data]
    ends = [isinstance(event, Closed) for event in events]
    assert True not in ends[:-1]
    assert ends[-1:] != [True] or list(accepted.received(b"more")) == []
    return texts, pongs, True in ends


def replies(data: bytes) -> None:
    """The event stream that answers a request: the same events and reply wherever it is cut."""
    assert _replies(with_gaps(data)) == _replies([data[1:]])


def _replies(pieces: list[bytes]) -> tuple[object, ...]:
    reader = EventReader("s", 200, b"1", resumes=True)
    events: list[bytes | None] = []
    for piece in pieces:
        try:
            reader.feed(piece)
        except ServerMisbehaved:
            return ("error",)
        events += [None if event.message is None else event.message.encode() for event in reader.take()]
        if reader.reply is not None:
            break
    reply = None if reader.reply is None else reader.reply.message.encode()
    return tuple(events), reply, reader.last_event, reader.retry
