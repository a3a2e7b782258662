"""Each parser's entry as a function of bytes: what hostile input must never do, said as assertions.

A target returns, or raises because something is wrong: an exception that is not documented, a result that depends on
where the input was cut, something accepted that does not re-encode to its equal, a secret in an error. The bounds in
time and memory are the drivers' to keep. Bytes that are cut say how by their first byte (`cuts`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any, Final, TypeAlias, TypeVar

import msgspec
import trio
from msgspec import Raw

from mcpgateway import durations, jsonrpc
from mcpgateway.access.browsers import BrowserPolicy
from mcpgateway.adapters.http_replies import EventReader
from mcpgateway.calls.cursors import Cursors
from mcpgateway.catalog.items import Kind, read, respell
from mcpgateway.config.explain import describe
from mcpgateway.config.formats import Format
from mcpgateway.config.loading import Loaded, loads
from mcpgateway.config.model import Limits
from mcpgateway.errors import (
    ConfigError,
    ErrorReply,
    GatewayError,
    InvalidParams,
    InvalidRequest,
    ParseError,
    ServerError,
    ServerMisbehaved,
)
from mcpgateway.fronts.batches import read_batch
from mcpgateway.fronts.media import check_media, check_stream_media
from mcpgateway.protocol import envelope, handshake
from mcpgateway.protocol.correlator import Correlator, NoReply, Pending, Reply, ToCall
from mcpgateway.protocol.header_values import decode_value, encode_value
from mcpgateway.protocol.headers import check, request_headers
from mcpgateway.protocol.param_headers import check_parameters, header_parameters, mirrored
from mcpgateway.protocol.results import completed
from mcpgateway.protocol.revisions import LATEST_LEGACY, Era
from mcpgateway.sessions.caller import Caller
from mcpgateway.sessions.sealing import Broken, Sealer
from mcpgateway.wire import sse
from mcpgateway.wire.http1.client import Pool
from mcpgateway.wire.http1.connection import Connection
from mcpgateway.wire.http1.exchange import Exchange
from mcpgateway.wire.http1.requests import HttpRequest, RequestReader
from mcpgateway.wire.http1.responses import ClientConnection, HttpError
from mcpgateway.wire.http1.server import HttpServer
from mcpgateway.wire.lines import LineSplitter
from mcpgateway.wire.readiness import Poller
from mcpgateway.wire.waiting import Sweeper, Wait
from tests.wire.http1.peers import Answer, Answers

Target: TypeAlias = Callable[[bytes], None]
T = TypeVar("T")

LIMITS: Final = Limits(body_bytes=1000)
SECRET: Final = "wq7-hidden-zx9"
"""In the environment of every configuration; must be in no error."""
_BUG: Final = "callback"
"""What llhttp's wrapper says where our own code raised within it."""


def cuts(data: bytes) -> list[bytes]:
    """The input behind its first byte, in the pieces that this byte asks for: from single bytes to long ones."""
    if not data:
        return []
    random, rest, pieces = Random(data[0]), data[1:], []
    while rest:
        length = random.randint(1, 1 + data[0])
        pieces.append(rest[:length])
        rest = rest[length:]
    return pieces


def _with_gaps(data: bytes) -> list[bytes]:
    """The pieces with nothing between them, which must not mean anything either."""
    return [part for piece in cuts(data) for part in (piece, b"")]


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
    transport = _Played(pieces)
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


class _Played:
    """A transport whose peer says these pieces and closes; it takes everything."""

    disturbed = True
    stuck = False
    unsent = 0

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = iter(pieces)
        self.sent = bytearray()
        self.closed = False

    async def receive(self, wait: Wait) -> bytes:
        await trio.lowlevel.checkpoint()
        return next(self._pieces, b"")

    def try_receive(self) -> bytes | None:
        return next(self._pieces, None)

    def put(self, data: bytes) -> None:
        self.sent += data

    async def flushed(self, wait: Wait) -> None:
        await trio.lowlevel.checkpoint()

    def peer_closed(self) -> bool:
        return False

    async def end(self) -> None:
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        self.closed = True


def http_responses(data: bytes) -> None:
    """The response of a server: one and the same, or an `HttpError`, wherever the bytes are cut."""
    found = _response(cuts(data))
    assert found == _response([data[1:]] if data[1:] else [])
    assert found != ("error", True), "our own code raised within the parser"


def _response(pieces: list[bytes]) -> tuple[object, ...]:
    connection = ClientConnection(_Played([]), _POOL)
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
        _documented(GatewayError, lambda policy=policy: policy.check(host, origin))  # type: ignore[misc]
    _documented(GatewayError, lambda: check_media(request.headers))
    _documented(GatewayError, lambda: check_stream_media(request.headers))
    message = _documented(GatewayError, lambda: jsonrpc.decode(request.body))
    if message is not None:
        _documented(GatewayError, lambda: check(request.headers, request.duplicates, message))


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
    frames = _events(_with_gaps(data), sse.LIMIT)
    assert frames == _events([data[1:]], sse.LIMIT)
    for frame in frames:
        written = sse.encode(frame.data, event=frame.event, id=frame.id, retry=frame.retry)
        assert sse.Parser().feed(written) == [frame]
    _documented(sse.EventTooLarge, lambda: _events(cuts(data), 16))


def _events(pieces: list[bytes], limit: int) -> list[sse.Frame]:
    parser = sse.Parser(limit)
    return [frame for piece in pieces for frame in parser.feed(piece)]


def lines(data: bytes) -> None:
    """Lines: the same, and as many dropped, wherever the stream is cut."""
    for limit in (1 << 20, 8):
        assert _lines(_with_gaps(data), limit) == _lines([data[1:]], limit)
    expected = [stripped for line in data[1:].split(b"\n") if (stripped := line.strip())]
    assert _lines(cuts(data), 1 << 20) == (expected, 0)


def _lines(pieces: list[bytes], limit: int) -> tuple[list[bytes], int]:
    splitter = LineSplitter(limit)
    found = [line for piece in pieces for line in splitter.feed(piece)]
    return found + splitter.end(), splitter.dropped


def replies(data: bytes) -> None:
    """The event stream that answers a request: the same events and reply wherever it is cut."""
    assert _replies(_with_gaps(data)) == _replies([data[1:]])


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


# ---- JSON-RPC --------------------------------------------------------------------------------------------------------


def messages(data: bytes) -> None:
    """Messages: what is accepted is JSON to others too, and comes out as what came in, under any id."""
    message = _documented((ParseError, InvalidRequest), lambda: jsonrpc.decode(data))
    if message is None:
        return
    value = _json(data)
    assert _json(message.encode()) == value
    assert _json(message.encode_as(b'"x"')) == {**value, "id": "x"}
    assert jsonrpc.decode(message.encode()).id == message.id
    without = message.replace(params=None, extra=Raw(b'["e"]'))
    assert _json(without.encode()) == {**{k: v for k, v in value.items() if k != "params"}, "extra": ["e"]}
    for raw in message.members.values():
        _documented(InvalidParams, lambda raw=raw: jsonrpc.value_of(raw))  # type: ignore[misc]
        _documented(InvalidParams, lambda raw=raw: jsonrpc.members_of(raw))  # type: ignore[misc]
    code = jsonrpc.error_code(message)
    assert code is None or type(code) is int
    assert isinstance(jsonrpc.error_reply(message), ErrorReply)
    repr(message)


def _json(data: bytes) -> Any:
    """By another parser; numbers as they are written."""
    return json.loads(data, parse_int=str, parse_float=str, strict=False)


def batches(data: bytes) -> None:
    """Batches: as many messages as others see, each readable by itself."""
    parts = _documented((ParseError, InvalidRequest), lambda: jsonrpc.decode_batch(data))
    if parts is not None:
        assert [_json(part) for part in parts] == _json(data)
    _documented((ParseError, InvalidRequest), lambda: read_batch(data))


def envelopes(data: bytes) -> None:
    """Params: an envelope is read or refused; one that is put there is read back, all else unchanged."""
    params = _raw(data)
    if params is None:
        return
    _documented(InvalidParams, lambda: envelope.read(params))
    stamped = _documented(
        InvalidParams, lambda: envelope.stamp(params, revision="2026-07-28", capabilities=Raw(b'{"a":{}}'))
    )
    if stamped is None:
        return
    found = _documented(InvalidParams, lambda: envelope.read(stamped))
    if found is not None:  # a log level of the wrong kind, which was there before, is refused
        assert (found.revision, bytes(found.capabilities)) == ("2026-07-28", b'{"a":{}}')
    before, after = jsonrpc.members_of(params), jsonrpc.members_of(stamped)
    assert {k: v for k, v in before.items() if k != "_meta"} == {k: v for k, v in after.items() if k != "_meta"}
    for method in ("tools/call", "tools/list"):
        completed(method, params)


def handshakes(data: bytes) -> None:
    """What a server answers to a handshake: settled, or the server's fault."""
    result = _raw(data)
    if result is not None:
        _documented(ServerMisbehaved, lambda: handshake.read_initialize(result, server="s", stateful=True))
        _documented(ServerMisbehaved, lambda: handshake.read_discover(result, server="s"))
    message = _documented(GatewayError, lambda: jsonrpc.decode(data))
    if message is not None:
        handshake.judge_probe(message, 200)
        handshake.is_modern_only(message, 400)
        assert isinstance(handshake.refused("s", "initialize", message), ServerError)


def correlators(data: bytes) -> None:
    """What a server sends on a pipe, line by line: nothing raises, no call is over twice, every client has its own."""
    correlator = Correlator()
    calls = [correlator.begin(message, alone=message is _CALLS[-1])[0] for message in _CALLS]
    over: set[Pending] = set()
    gone = calls[-1]
    correlator.cancel(gone, "no more")
    for line in data.split(b"\n"):
        delivery = correlator.received(line)
        if isinstance(delivery, Reply | NoReply | ToCall):
            assert delivery.pending in calls
            assert delivery.pending not in over | {gone}
        if isinstance(delivery, Reply | NoReply):
            over.add(delivery.pending)
        if isinstance(delivery, ToCall) and delivery.message.method == "notifications/progress":
            token = jsonrpc.members_of(delivery.message.params)["progressToken"]
            assert token == delivery.pending.token
    left = correlator.fail_all()
    assert {*left, *over, gone} == {*calls}
    assert len(correlator) == 0


_CALLS: Final = tuple(
    jsonrpc.request(id, method, {"name": "t", "_meta": {"progressToken": f"token {number}"}})
    for number, (id, method) in enumerate(
        [(b'"a"', "tools/call"), (b"7", "tools/call"), (b'"s"', "subscriptions/listen"), (b"1", "tools/call")]
    )
)


def clients(data: bytes) -> None:
    """What a client sends through a pipe: one line on the wire, under an id of ours."""
    message = _documented(GatewayError, lambda: jsonrpc.decode(data))
    if message is None or not message.is_request:
        return
    pending, wire = Correlator().begin(message)
    assert b"\n" not in wire
    assert b"\r" not in wire
    sent = jsonrpc.decode(wire)
    assert (sent.id, sent.method, pending.id) == (b"1", message.method, message.id)
    found = _documented(InvalidParams, lambda: request_headers(message))
    for name, value in (found or {}).items():
        assert not re.search(rb"[\r\n\0]", name + value)


def listings(data: bytes) -> None:
    """What a server lists: items or none; respelled they are the same but for their names."""
    entries = _documented((msgspec.DecodeError, RecursionError), lambda: _decode_list(data))
    if entries is None or not data.isascii():
        return
    for kind in Kind:
        for item in read(kind, entries):
            again = respell(kind, item, "other", "server")
            assert read(kind, [again])[0].name == "other"
    for entry in entries:
        schema = _documented(InvalidParams, lambda entry=entry: jsonrpc.value_of(entry))  # type: ignore[misc]
        parameters = header_parameters(schema)
        arguments: Any = {"a": "x", "b": 7, "c": {"d": True}}
        check_parameters(parameters, arguments, mirrored(parameters, arguments))


_decode_list: Final = msgspec.json.Decoder(list[Raw]).decode


def _raw(data: bytes) -> Raw | None:
    """As a member of a message that was decoded: valid JSON, valid UTF-8."""
    message = _documented(GatewayError, lambda: jsonrpc.decode(b'{"jsonrpc":"2.0","id":1,"result":%b}' % data))
    return None if message is None else message.result


# ---- configuration ---------------------------------------------------------------------------------------------------


def config_yaml(data: bytes) -> None:
    _config(data, "yaml")


def config_json(data: bytes) -> None:
    _config(data, "json")


def config_toml(data: bytes) -> None:
    _config(data, "toml")


_ENV: Final = {"HOME": "/home/me", "TOKEN": SECRET}


def _config(data: bytes, format: Format) -> None:
    """A configuration is loaded, or everything that is wrong with it is told; no secret in either."""
    text = data.decode("utf-8", "replace")
    if SECRET in text:
        return
    loaded, problems = _loaded(text, format)
    assert (loaded is None) == bool(problems)
    assert SECRET not in "".join(problems)
    if loaded is not None:
        assert SECRET not in "".join(loaded.warnings)
        json.dumps(describe(loaded.config))
        assert _loaded(text, format)[0] == loaded


def _loaded(text: str, format: Format) -> tuple[Loaded | None, list[str]]:
    try:
        return loads(text, name="c", format=format, env=_ENV, base=Path("/base")), []
    except ConfigError as problem:
        return None, list(problem.problems)


def duration(data: bytes) -> None:
    """A duration is read, and what it is printed as reads as the same to the nanosecond; or it is refused."""
    seconds = _documented(ValueError, lambda: durations.parse(data.decode("utf-8", "replace")))
    if seconds is not None and seconds < _LONGEST_PRINTED:
        again = durations.parse(durations.format(seconds))
        assert abs(again - seconds) <= max(1e-9, seconds * 1e-12)


_LONGEST_PRINTED: Final = 3600 * 1e18
"""Seconds; beyond, the hours that are printed have more digits than are read."""


# ---- what clients carry for us ---------------------------------------------------------------------------------------


class _Kept:
    """A sealer with a fixed key and what it sealed, made when first used: reading the cipher takes a while."""

    def __init__(self) -> None:
        self.sealer = Sealer(lambda: [b"k" * 32], node="n", clock=lambda: 1000.0)
        self.cursors = Cursors(self.sealer, "space")
        self.caller = Caller(Era.LEGACY, LATEST_LEGACY, Raw(b"{}"))
        trio.run(self.sealer.load)


_kept: list[_Kept] = []


def kept() -> _Kept:
    if not _kept:
        _kept.append(_Kept())
    return _kept[0]


def seals(data: bytes) -> None:
    """Nothing opens that was not sealed here, for this, and is unchanged."""
    text = data.decode("utf-8", "surrogateescape")
    claims = _documented(Broken, lambda: kept().sealer.open("cursor", text, binding=("me",)))
    assert claims is None
    cursor = _documented(InvalidParams, lambda: _run(kept().cursors.open(kept().caller, Kind.TOOLS, text)))
    assert cursor is None


def _run(coroutine: Any) -> Any:
    """The result of what does not wait, because what it would wait for is there; the lock of a sealer is free."""

    async def main() -> Any:
        return await coroutine

    return trio.run(main)


def _documented(errors: type[Exception] | tuple[type[Exception], ...], run: Callable[[], T]) -> T | None:
    """The result, or ``None`` for a documented error, which has a message and can be shown."""
    try:
        return run()
    except errors as problem:
        str(problem).encode("utf-8", "surrogatepass")
        if isinstance(problem, GatewayError):
            jsonrpc.error(None, problem).encode()
        return None


TARGETS: Final[Mapping[str, Target]] = {
    target.__name__: target
    for target in (
        *(http_requests, http_connections, http_responses, headers, header_values),
        *(sse_events, lines, replies),
        *(messages, batches, envelopes, handshakes, correlators, clients, listings),
        *(config_yaml, config_json, config_toml, duration, seals),
    )
}


def seeds(name: str) -> Iterator[bytes]:
    """The corpus of a target, in the order of its files' names."""
    for path in sorted((CORPUS / name).iterdir()):
        yield path.read_bytes()


CORPUS: Final = Path(__file__).parent / "corpus"
