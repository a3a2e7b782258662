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
from typing import Any, Final, TypeAlias

import msgspec
import trio
from msgspec import Raw

from mcpgateway import durations, jsonrpc
from mcpgateway.calls.cursors import Cursors
from mcpgateway.catalog.items import Kind, read, respell
from mcpgateway.config.explain import describe
from mcpgateway.config.formats import Format
from mcpgateway.config.loading import Loaded, loads
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
from mcpgateway.protocol import envelope, handshake
from mcpgateway.protocol.correlator import Correlator, NoReply, Pending, Reply, ToCall
from mcpgateway.protocol.headers import request_headers
from mcpgateway.protocol.param_headers import check_parameters, header_parameters, mirrored
from mcpgateway.protocol.results import completed
from mcpgateway.protocol.revisions import LATEST_LEGACY, Era
from mcpgateway.sessions.caller import Caller
from mcpgateway.sessions.sealing import Broken, Sealer
from tests.fuzz import bridge_targets, wire_targets
from tests.fuzz.oracles import documented

Target: TypeAlias = Callable[[bytes], None]

SECRET: Final = "wq7-hidden-zx9"
"""In the environment of every configuration; must be in no error."""


# ---- JSON-RPC --------------------------------------------------------------------------------------------------------


def messages(data: bytes) -> None:
    """Messages: what is accepted is JSON to others too, and comes out as what came in, under any id."""
    message = documented((ParseError, InvalidRequest), lambda: jsonrpc.decode(data))
    if message is None:
        return
    value = _json(data)
    assert _json(message.encode()) == value
    assert _json(message.encode_as(b'"x"')) == {**value, "id": "x"}
    assert jsonrpc.decode(message.encode()).id == message.id
    without = message.replace(params=None, extra=Raw(b'["e"]'))
    assert _json(without.encode()) == {**{k: v for k, v in value.items() if k != "params"}, "extra": ["e"]}
    for raw in message.members.values():
        documented(InvalidParams, lambda raw=raw: jsonrpc.value_of(raw))  # type: ignore[misc]
        documented(InvalidParams, lambda raw=raw: jsonrpc.members_of(raw))  # type: ignore[misc]
    code = jsonrpc.error_code(message)
    assert code is None or type(code) is int
    assert isinstance(jsonrpc.error_reply(message), ErrorReply)
    repr(message)


def _json(data: bytes) -> Any:
    """By another parser; numbers as they are written."""
    return json.loads(data, parse_int=str, parse_float=str, strict=False)


def batches(data: bytes) -> None:
    """Batches: as many messages as others see, each readable by itself."""
    parts = documented((ParseError, InvalidRequest), lambda: jsonrpc.decode_batch(data))
    if parts is not None:
        assert [_json(part) for part in parts] == _json(data)
    documented((ParseError, InvalidRequest), lambda: read_batch(data))


def envelopes(data: bytes) -> None:
    """Params: an envelope is read or refused; one that is put there is read back, all else unchanged."""
    params = _raw(data)
    if params is None:
        return
    documented(InvalidParams, lambda: envelope.read(params))
    stamped = documented(
        InvalidParams, lambda: envelope.stamp(params, revision="2026-07-28", capabilities=Raw(b'{"a":{}}'))
    )
    if stamped is None:
        return
    found = documented(InvalidParams, lambda: envelope.read(stamped))
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
        documented(ServerMisbehaved, lambda: handshake.read_initialize(result, server="s", stateful=True))
        documented(ServerMisbehaved, lambda: handshake.read_discover(result, server="s"))
    message = documented(GatewayError, lambda: jsonrpc.decode(data))
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
    message = documented(GatewayError, lambda: jsonrpc.decode(data))
    if message is None or not message.is_request:
        return
    pending, wire = Correlator().begin(message)
    assert b"\n" not in wire
    assert b"\r" not in wire
    sent = jsonrpc.decode(wire)
    assert (sent.id, sent.method, pending.id) == (b"1", message.method, message.id)
    found = documented(InvalidParams, lambda: request_headers(message))
    for name, value in (found or {}).items():
        assert not re.search(rb"[\r\n\0]", name + value)


def listings(data: bytes) -> None:
    """What a server lists: items or none; respelled they are the same but for their names."""
    entries = documented((msgspec.DecodeError, RecursionError), lambda: _decode_list(data))
    if entries is None or not data.isascii():
        return
    for kind in Kind:
        for item in read(kind, entries):
            again = respell(kind, item, "other", "server")
            assert read(kind, [again])[0].name == "other"
    for entry in entries:
        schema = documented(InvalidParams, lambda entry=entry: jsonrpc.value_of(entry))  # type: ignore[misc]
        parameters = header_parameters(schema)
        arguments: Any = {"a": "x", "b": 7, "c": {"d": True}}
        check_parameters(parameters, arguments, mirrored(parameters, arguments))


_decode_list: Final = msgspec.json.Decoder(list[Raw]).decode


def _raw(data: bytes) -> Raw | None:
    """As a member of a message that was decoded: valid JSON, valid UTF-8."""
    message = documented(GatewayError, lambda: jsonrpc.decode(b'{"jsonrpc":"2.0","id":1,"result":%b}' % data))
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
    seconds = documented(ValueError, lambda: durations.parse(data.decode("utf-8", "replace")))
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
    claims = documented(Broken, lambda: kept().sealer.open("cursor", text, binding=("me",)))
    assert claims is None
    cursor = documented(InvalidParams, lambda: _run(kept().cursors.open(kept().caller, Kind.TOOLS, text)))
    assert cursor is None


def _run(coroutine: Any) -> Any:
    """The result of what does not wait, because what it would wait for is there; the lock of a sealer is free."""

    async def main() -> Any:
        return await coroutine

    return trio.run(main)


TARGETS: Final[Mapping[str, Target]] = {
    target.__name__: target
    for target in (
        *(wire_targets.http_requests, wire_targets.http_connections, wire_targets.http_responses),
        *(wire_targets.headers, wire_targets.header_values),
        *(wire_targets.sse_events, wire_targets.endpoints, wire_targets.lines, wire_targets.replies),
        wire_targets.frames,
        *(messages, batches, envelopes, handshakes, correlators, clients, listings),
        *(config_yaml, config_json, config_toml, duration, seals),
        *(bridge_targets.bridge_files, bridge_targets.dotenv_files, bridge_targets.go_durations),
        *(bridge_targets.dialled_handshakes, bridge_targets.dialled_frames, bridge_targets.last_events),
        *(bridge_targets.redactions, bridge_targets.masks, bridge_targets.checks),
    )
}


def seeds(name: str) -> Iterator[bytes]:
    """The corpus of a target, in the order of its files' names."""
    for path in sorted((CORPUS / name).iterdir()):
        yield path.read_bytes()


CORPUS: Final = Path(__file__).parent / "corpus"
