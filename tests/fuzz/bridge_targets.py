"""The targets of the WebSocket bridge: its files, its environment, the sockets that it dials, what it shows and logs.

And of resumable streams: what a client says that it got.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any, Final

import trio
from msgspec import Raw
from wsproto.connection import Connection, ConnectionType

from mcpgateway import durations, jsonrpc
from mcpgateway.config.loading import Loaded, loads
from mcpgateway.config.masking import masked_arguments, masked_endpoint, masked_url, without
from mcpgateway.config.pipe import bridged
from mcpgateway.config.secrets import is_secret_name
from mcpgateway.errors import ConfigError, InvalidRequest
from mcpgateway.protocol.revisions import LATEST_LEGACY, Era
from mcpgateway.recording.redaction import Redactor
from mcpgateway.sessions.caller import Caller
from mcpgateway.sessions.outbox import Outbox
from mcpgateway.sessions.store import Session
from mcpgateway.wire.websocket import CannotConnect, HandshakeRefused
from mcpgateway.wire.websocket_client import DialledFrames, shake_hands
from mcpgateway.wire.websocket_server import Closed, Frames, Passed, Reply, Text
from runners import by_upstream, environment, findings
from tests.fuzz.oracles import Played, cuts, documented, with_gaps

SECRET: Final = "wq7-hidden-zx9"
NUMBER: Final = "4711471147"
"""A secret that may also stand as a number."""
_BASE: Final = Path("/base")


# ---- its files and its environment -----------------------------------------------------------------------------------


def bridge_files(data: bytes) -> None:
    """A file of the bridge, or of ``mcp_pipe.py``: loaded, or everything that is wrong is told; no secret in either."""
    text = data.decode("utf-8", "replace")
    if SECRET in text:
        return
    env = {"HOME": "/home/me", "TOKEN": SECRET, "MCP_ENDPOINT": f"wss://cloud.example/mcp/?token={SECRET}"}
    loaded = _loaded(text, env)
    if loaded is None:
        return
    assert SECRET not in "".join([*loaded.warnings, *loaded.left_out.values()])
    assert all(upstream.name for upstream in loaded.config.upstreams)
    for upstream in loaded.config.upstreams:
        assert SECRET not in masked_endpoint(upstream.endpoint.reveal()) or "token" not in upstream.endpoint.reveal()


def dotenv_files(data: bytes) -> None:
    """A ``.env``: adds variables, changes none; with it a file loads, or says what is wrong."""
    before = {"HOME": "/home/me", "TOKEN": SECRET, "EMPTY": ""}
    env = environment.joined(before, data.decode("utf-8", "replace"))
    assert {name: env[name] for name in before} == before
    for name, value in env.items():  # an environment takes nothing else
        assert name
        assert not {*"=\0"} & {*name}
        assert "\0" not in value
    loaded = _loaded(_SERVERS, env)
    assert loaded is None or SECRET not in "".join(loaded.warnings)


def _loaded(text: str, env: dict[str, str]) -> Loaded | None:
    try:
        return bridged(loads(text, name="c.json", format="json", env=env, base=_BASE), env)
    except ConfigError as problem:
        problems = list(problem.problems)
    assert problems
    assert SECRET not in "".join(problems)
    return None


_SERVERS: Final = '{"mcpServers": {"a": {"command": "python", "args": ["-m", "x"], "env": {"K": "${TOKEN}"}}}}'


def go_durations(data: bytes) -> None:
    """A duration of Go: read, and what it is printed as is read as the same; or refused without being shown."""
    text = data.decode("utf-8", "replace")
    seconds = documented(ValueError, lambda: durations.parse_go(text))
    if seconds is None:
        return
    assert abs(seconds) <= 2**63 / 1e9
    again = durations.parse(durations.format(abs(seconds)))
    assert abs(again - abs(seconds)) <= max(1e-9, abs(seconds) * 1e-12)


# ---- the sockets that it dials ---------------------------------------------------------------------------------------

ACCEPT: Final = b"@" * 28
"""Stands in an input for the answer to our key, which is another one each time."""


def dialled_handshakes(data: bytes) -> None:
    """What a cloud answers to the handshake, and the frames behind it: the same wherever the bytes are cut."""
    assert trio.run(_dialled, data, True) == trio.run(_dialled, data, False)


async def _dialled(data: bytes, cut: bool) -> object:
    cloud = _Answering(data, cut=cut)
    fields = [(b"user-agent", b"u"), (b"authorization", SECRET.encode())]
    try:
        connection = await shake_hands(cloud, f"ws://h.example/mcp/?token={SECRET}", fields)
    except HandshakeRefused as refused:
        return refused.status
    except CannotConnect as problem:
        reason = str(problem)
    else:
        return _frames(DialledFrames(1 << 20, connection), [b"", *cloud.rest()])
    assert SECRET not in reason
    return "no"


class _Answering(Played):
    """A cloud that has read our key."""

    def __init__(self, data: bytes, *, cut: bool) -> None:
        super().__init__([])
        self._data = data
        self._cut = cut

    def put(self, data: bytes) -> None:
        super().put(data)
        key = re.search(rb"(?i)sec-websocket-key: (\S+)", data)
        assert key is not None
        answer = hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
        said = self._data[:1] + self._data[1:].replace(ACCEPT, base64.b64encode(answer))
        self.pieces = iter(cuts(said) if self._cut else [said[1:]])

    def rest(self) -> list[bytes]:
        return list(self.pieces)


def dialled_frames(data: bytes) -> None:
    """The frames of a WebSocket server: the same wherever the bytes are cut."""
    found = [_frames(_dialled_frames(), pieces) for pieces in (with_gaps(data), [data[1:]])]
    assert found[0] == found[1]


def _dialled_frames() -> Frames:
    return DialledFrames(1 << 16, Connection(ConnectionType.CLIENT))


def _frames(frames: Frames, pieces: list[bytes]) -> tuple[list[bytes], int, int, bool]:
    """Messages, how many pongs and binary messages, and whether it ended."""
    events = [event for piece in pieces for event in frames.received(piece)]
    ends = [isinstance(event, Closed) for event in events]
    assert True not in ends[:-1]
    texts = [event.data for event in events if isinstance(event, Text)]
    for text in texts:
        text.decode()
    pongs = sum(isinstance(event, Reply) and bool(event.data) for event in events)
    return texts, pongs, sum(isinstance(event, Passed) for event in events), True in ends


# ---- what it shows and logs ------------------------------------------------------------------------------------------


def redactions(data: bytes) -> None:
    """Payloads and texts in the log: one line of bounded length, without what is configured as a secret."""
    redactor = Redactor([SECRET, NUMBER])
    text = data.decode("utf-8", "replace")
    payload = text.encode()  # messages are UTF-8, or none
    shown = redactor.payload(payload, 500)
    assert len(shown.splitlines()) <= 1
    assert len(shown) <= 600
    shown_text = redactor.text(text)
    for secret in (SECRET, NUMBER):
        assert secret not in redactor.payload(payload, 1 << 20)
        assert secret not in shown_text
    if data[1:]:
        planted, rest = text[1 : 2 + data[0] % 40], text[2 + data[0] % 40 :]
        if planted and "*" not in planted:
            assert planted not in Redactor([planted]).text(rest[: data[0]] + planted + rest[data[0] :]) or (
                planted in MASKS
            )


MASKS: Final = "://***@ ***"
"""What a redactor puts in the place of a secret, of which any part may be asked for."""


def masks(data: bytes) -> None:
    """URLs and arguments as they are shown: without the token that follows, whatever stands before."""
    text = data.decode("utf-8", "replace")
    if SECRET in text:
        return
    for shown in (masked_url, masked_endpoint):
        shown(text)
        if "#" not in text:
            assert SECRET not in shown(f"wss://h.example/p?{text}&token={SECRET}")
    first, _, second = text.partition("\0")
    for arguments in ([first, second], [first, "--token", SECRET], [f"{first} --api-key={SECRET}"]):
        assert SECRET not in " ".join(masked_arguments(arguments))
    assert SECRET not in without([SECRET], f"{text}{SECRET}{text}")
    is_secret_name(text)


def checks(data: bytes) -> None:
    """Reports of ``check`` on servers that call themselves and their tools anything: lines as many, and no controls."""
    parts = [*data.decode("utf-8", "replace").split("\n"), *["x"] * 5][:5]
    hostile, plain = (_reports(*words) for words in (parts, ["x"] * 5))
    for text, calm in zip(hostile[:2], plain[:2], strict=True):
        assert text.count("\n") == calm.count("\n")
        assert all(character.isprintable() or character == "\n" for character in text), text
    for text in hostile[2:]:
        decoded = json.loads(text)
        assert json.loads(json.dumps(decoded)) == decoded
        text.encode()


def _reports(server: str, version: str, tool: str, description: str, error: str) -> list[str]:
    tools = (findings.Tool(tool or "t", description),)
    ok = findings.Finding(
        *("one", "stdio", findings.Status.OK, True, ("legacy",), LATEST_LEGACY),
        server_name=server or "s",
        server_version=version or "v",
        tools=tools,
    )
    broken = findings.Finding(
        "two", "http", findings.Status.FAILED, error=findings.one_line(error) or "e", stage="initialize"
    )
    entries = (
        by_upstream.Entry(server, "stdio", "", "run", (tool, version), ok),
        by_upstream.Entry(tool, "http", f"http://h/{error}", "", (), broken),
    )
    report = by_upstream.Report((by_upstream.Group(version, f"wss://h/{error}", True, entries),), ())
    return [
        by_upstream.as_text(report, colour=False),
        findings.as_text([ok, broken], colour=False),
        by_upstream.as_json(report),
        findings.as_json([ok, broken], source=server),
    ]


# ---- resumable streams -----------------------------------------------------------------------------------------------


def last_events(data: bytes) -> None:
    """``Last-Event-ID``: of a stream that there is, after which what follows waits anew; or refused."""
    trio.run(_last_event, data)


async def _last_event(data: bytes) -> None:
    outbox = Session("s", "one", Caller(Era.LEGACY, LATEST_LEGACY, Raw(b"{}"))).outbox
    streams = [outbox.standing, outbox.begin(), outbox.begin()]
    for number in range(12):
        outbox.put(jsonrpc.notification("notifications/message", {"n": number}))
        for stream in streams[1:]:
            stream.put(jsonrpc.notification("notifications/progress", {"n": number}))
    for stream in streams:
        for kept in list(stream.waiting.values())[:8]:
            outbox.sending(kept)
    found = documented(InvalidRequest, lambda: outbox.find(data))
    if found is None:
        return
    assert found in streams
    number = int(data.partition(b"-")[2])
    before = _held(outbox)
    outbox.rewind(found, number)
    assert [*found.waiting] == sorted(held for held, stream in before.items() if stream is found and held > number)
    others = {held: stream for held, stream in before.items() if stream is not found}
    assert {held: stream for held, stream in _held(outbox).items() if stream is not found} == others
    outbox.clear()
    assert (len(outbox), outbox.sent) == (0, {})


def _held(outbox: Outbox) -> dict[int, Any]:
    """The stream of each event that is kept."""
    waiting = {number: stream for stream in outbox._streams.values() for number in stream.waiting}
    return {**waiting, **{number: kept.stream for number, kept in outbox.sent.items()}}
