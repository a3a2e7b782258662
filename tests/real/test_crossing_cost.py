"""What the bridge between the eras costs: CPU time of the gateway per call, with it and without, in turns.

The server behind speaks both eras; ``era`` says in which it is spoken to. Only ratios of one run are compared, for
whatever else this machine does slows down both sides.
"""

from __future__ import annotations

import json
import re
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import attrs
import pytest

from mcpgateway.protocol.envelope import CLIENT_CAPABILITIES, PROTOCOL_VERSION
from mcpgateway.protocol.revisions import LATEST_LEGACY, LATEST_MODERN, Era
from tests.processes import free_port, running, wait_for_port
from tests.real.gateways import ROOT, configured

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the CPU time of another process"),
]

ROUNDS: Final = 9
IN_FLIGHT: Final = 8
CALLS: Final = 60 * IN_FLIGHT
"""Calls of one turn."""
TRIES: Final = 3
"""Measurements of which one has to be good: what others do on this machine meanwhile is not meant."""
MOST: Final = 2.0
"""What a plain call across the eras may cost, in calls of its client's own era."""
NOTHING: Final = 1.15
"""The same for a call that could cross and does not, in calls that never do; 1, and noise."""


def cpu_seconds(pid: int) -> float:
    """The CPU time that a process has taken: its clock, as ``clock_getcpuclockid`` makes it of a pid."""
    return time.clock_gettime((~pid << 3) | 2)


@attrs.define
class Wire:
    """A connection of a client that makes one and the same call again and again."""

    socket: socket.socket
    call: bytes
    reply: bytes = b""


def received(sock: socket.socket) -> tuple[bytes, bytes]:
    """Head and body of a response, which was read whole."""
    data = b""
    while (head := data.partition(b"\r\n\r\n"))[1] == b"" or len(head[2]) < _length(head[0]):
        more = sock.recv(65536)
        assert more, data
        data += more
    assert data.startswith(b"HTTP/1.1 200"), data
    return head[0], head[2]


def _length(head: bytes) -> int:
    found = re.search(rb"(?i)content-length: (\d+)", head)
    assert found is not None, head
    return int(found[1])


class Clients:
    """Some clients of one era at one server, each on a connection of its own."""

    def __init__(self, url: str, era: Era, server: str) -> None:
        address = urlsplit(url)
        assert address.hostname is not None
        assert address.port is not None
        self._stack = ExitStack()
        self._head = f"POST /mcp/{server} HTTP/1.1\r\nHost: {address.netloc}\r\n"
        where = (address.hostname, address.port)
        sockets = [self._stack.enter_context(socket.create_connection(where, 20)) for _ in range(IN_FLIGHT)]
        fields = self._session(sockets[0]) if era is Era.LEGACY else _modern_fields()
        self._wires = [Wire(each, self._post(_call(number, era), fields)) for number, each in enumerate(sockets)]

    def _session(self, first: socket.socket) -> str:
        """Shake hands; the fields that go with every request of the session."""
        params = {"protocolVersion": LATEST_LEGACY, "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
        first.sendall(self._post({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}, ""))
        head, _ = received(first)
        found = re.search(rb"(?i)mcp-session-id: (\S+)", head)
        assert found is not None, head
        return f"MCP-Protocol-Version: {LATEST_LEGACY}\r\nMcp-Session-Id: {found[1].decode()}\r\n"

    def _post(self, message: object, fields: str) -> bytes:
        body = json.dumps(message)
        accept = "Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n"
        return f"{self._head}{accept}{fields}Content-Length: {len(body)}\r\n\r\n{body}".encode()

    def turn(self, pid: int) -> float:
        """Make some calls; the CPU microseconds that each took a process. Every reply is that of the first turn."""
        began = cpu_seconds(pid)
        for _ in range(CALLS // IN_FLIGHT):
            for wire in self._wires:
                wire.socket.sendall(wire.call)
            for wire in self._wires:
                _, reply = received(wire.socket)
                wire.reply = wire.reply or reply
                assert reply == wire.reply
        return (cpu_seconds(pid) - began) / CALLS * 1e6

    def result(self) -> object:
        return json.loads(self._wires[-1].reply)["result"]["content"]

    def close(self) -> None:
        self._stack.close()


def _call(id: int, era: Era) -> object:
    params: dict[str, object] = {"name": "echo", "arguments": {"text": "x" * 100}}
    if era is Era.MODERN:
        params["_meta"] = {PROTOCOL_VERSION: LATEST_MODERN, CLIENT_CAPABILITIES: {}}
    return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}


def _modern_fields() -> str:
    return f"MCP-Protocol-Version: {LATEST_MODERN}\r\nMcp-Method: tools/call\r\nMcp-Name: echo\r\n"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A gateway in front of one server under three names, one for each way to speak to it; its URL and its pid."""
    port, log = free_port(), tmp_path / "server.log"
    with running([sys.executable, "-m", "tests.real.http_server", str(port)], log, cwd=ROOT) as process:
        wait_for_port(port, process, log)
        url = f"http://127.0.0.1:{port}/mcp"
        servers = {era: {"url": url, "era": era} for era in ("auto", "mirror", "legacy", "modern")}
        with configured(tmp_path, {"state_dir": str(tmp_path / "state"), "servers": servers}) as started:
            yield started.url, started.process.pid


@pytest.mark.requirement("5.shows.cost")
@pytest.mark.parametrize(("client", "other"), [(Era.LEGACY, "modern"), (Era.MODERN, "legacy")])
def test_a_plain_call_across_costs_at_most_twice_one_within_and_those_pay_nothing(
    client: Era, other: str, gateway: tuple[str, int]
) -> None:
    url, pid = gateway
    ways = {server: Clients(url, client, server) for server in ("mirror", "auto", other)}
    for clients in ways.values():
        clients.turn(pid)  # which has links made and listings read
    for _ in range(TRIES):
        spent: dict[str, list[float]] = {server: [] for server in ways}
        for _ in range(ROUNDS):
            for server, clients in ways.items():
                spent[server].append(clients.turn(pid))
        across = statistics.median(map(lambda a, b: a / b, spent[other], spent["auto"]))
        within = statistics.median(map(lambda a, b: a / b, spent["auto"], spent["mirror"]))
        shown = ", ".join(f"{server} {statistics.median(each):.1f} us" for server, each in spent.items())
        print(f"{client.value} client: {shown}; across {across:.2f} of {MOST}, within {within:.2f} of {NOTHING}")
        if across <= MOST and within <= NOTHING:
            break
    for clients in ways.values():
        clients.close()

    assert {json.dumps(clients.result()) for clients in ways.values()} == {json.dumps(ways["mirror"].result())}
    assert across <= MOST, shown
    assert within <= NOTHING, shown
