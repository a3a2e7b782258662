"""SIGTERM to a gateway that has its hands full: exit status 0, in time, and nothing is left."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mcpgateway.protocol.revisions import LATEST_LEGACY
from tests.fronts.site import ENVELOPE, MODERN, POST
from tests.real.gateways import ENDING, BareClient, Stream, configured, environment
from tests.runners.held import Held

pytestmark = pytest.mark.real

SHUTDOWN = 1.0
SLACK = 15.0
"""Seconds after ``shutdown_timeout`` in which the gateway has to be gone, which itself takes three of them at most. The
rest is for a machine that has other things to do: what keeps the gateway here never ends, or takes a minute."""


class Deaf(BaseHTTPRequestHandler):
    """A legacy server over HTTP that answers everything but a DELETE."""

    protocol_version = "HTTP/1.1"
    over = threading.Event()

    def do_POST(self) -> None:  # the name is the library's
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        id, method = message.get("id"), message["method"]
        if id is None:
            self._answer(202, None)
        elif method == "initialize":
            info = {"name": "deaf", "version": "1"}
            result = {"protocolVersion": LATEST_LEGACY, "capabilities": {"tools": {}}, "serverInfo": info}
            self._answer(200, {"jsonrpc": "2.0", "id": id, "result": result})
        else:
            self._answer(200, {"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "no"}})

    def do_GET(self) -> None:
        self._answer(405, None)

    def do_DELETE(self) -> None:
        self.over.wait(60)

    def _answer(self, status: int, message: object) -> None:
        body = b"" if message is None else json.dumps(message).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Mcp-Session-Id", "s")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def deaf() -> Iterator[str]:
    """The URL of such a server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Deaf)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    Deaf.over.clear()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/mcp"
    finally:
        Deaf.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def idle(url: str) -> http.client.HTTPConnection:
    """A connection that is kept alive."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=ENDING)
    connection.request("GET", "/livez")
    assert connection.getresponse().read() == b'{"status":"alive"}'
    return connection


def subscription(url: str, path: str) -> Stream:
    """A modern ``subscriptions/listen`` that has been acknowledged."""
    params = {"notifications": {"toolsListChanged": True}, "_meta": ENVELOPE}
    message = {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params}
    headers = {**POST, "MCP-Protocol-Version": MODERN, "Mcp-Method": "subscriptions/listen"}
    origin = http.client.HTTPConnection(urlsplit(url).netloc)
    opened = Stream(origin, "POST", path, json.dumps(message).encode(), headers)
    opened.wait_for(b"acknowledged")
    return opened


@pytest.mark.requirement("4.shows.sigterm", "4.life.drain")
def test_sigterm_with_everything_open_exits_with_0_in_time(tmp_path: Path, held: Held) -> None:
    """Streams, a subscription, a call that never ends, a stubborn child with a grandchild, a server that never answers
    its DELETE, and idle connections."""
    with ExitStack() as stack:
        remote = stack.enter_context(deaf())
        servers = {"slow": held.server(stubborn=True), "remote": {"url": remote}}
        config = {"servers": servers, "shutdown_timeout": f"{SHUTDOWN:g}s"}
        running = stack.enter_context(configured(tmp_path, config))
        client, watcher, far = (
            stack.enter_context(BareClient(running.url, f"/mcp/{name}")) for name in ("slow", "slow", "remote")
        )
        held.wait_until_up()
        connections = [idle(running.url) for _ in range(16)]
        streams = [watcher.listen(), subscription(running.url, "/mcp/slow"), subscription(running.url, "/mcp")]
        client.send("tools/call", {"name": "slow", "arguments": {"name": "a"}})
        watcher.call("waiting", {"count": 1})
        assert far.server_info["name"] == "deaf"

        began = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        answer = client.receive()
        status = running.ended()
        seconds = time.monotonic() - began
        for opened in streams:
            opened.close()
        for connection in connections:
            connection.close()

    assert "shutting down" in answer["error"]["message"]
    assert status == 0
    print(f"ended after {seconds:.2f} s")
    assert SHUTDOWN <= seconds < SHUTDOWN + SLACK
    assert held.gone()


@pytest.mark.requirement("4.life.drain")
def test_sigterm_while_servers_are_starting(tmp_path: Path, held: Held) -> None:
    servers = {name: held.server("--silent", stubborn=True) for name in "abc"}
    with configured(tmp_path, {"servers": servers, "shutdown_timeout": "1s"}) as running:
        held.wait_until_up()
        began = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        status = running.ended()
        seconds = time.monotonic() - began
    assert (status, seconds < SHUTDOWN + SLACK) == (0, True)
    assert held.gone()


@pytest.mark.requirement("4.life.drain")
@pytest.mark.parametrize(("first", "second"), [("SIGTERM", "SIGINT"), ("SIGINT", "SIGTERM")])
def test_a_second_signal_of_another_kind_ends_it_at_once(first: str, second: str, tmp_path: Path, held: Held) -> None:
    with configured(tmp_path, {"servers": {"slow": held.server(stubborn=True)}, "shutdown_timeout": "60s"}) as running:
        with BareClient(running.url, "/mcp/slow") as client, BareClient(running.url, "/mcp/slow") as watcher:
            held.wait_until_up()
            client.send("tools/call", {"name": "slow", "arguments": {"name": "a"}})
            watcher.call("waiting", {"count": 1})
            running.process.send_signal(signal.Signals[first])
            running.log.wait_for(f"{first}: finishing calls in flight", ENDING)
            running.process.send_signal(signal.SIGHUP)
            running.log.wait_for("not reloading, the gateway is ending", ENDING)
            running.process.send_signal(signal.Signals[second])
            assert running.ended() == -signal.Signals[second]
    assert held.gone()


@pytest.mark.requirement("4.life.drain")
def test_sigterm_during_a_reload_that_cannot_read_its_file(tmp_path: Path) -> None:
    """A file of variables is a pipe that nobody writes to: reading it waits for ever."""
    variables = tmp_path / "variables"
    variables.touch()
    with configured(tmp_path, {"servers": {}}, "--environment-file", str(variables)) as running:
        variables.unlink()
        os.mkfifo(variables)
        running.process.send_signal(signal.SIGHUP)
        running.log.wait_for("reloading the configuration", ENDING)
        running.process.send_signal(signal.SIGTERM)
        assert running.ended() == 0


def listening_on(fd: int) -> str:
    """The URL of a gateway, from the first of what it writes to a pipe; nothing more is read of that."""
    said = b""
    while not (found := re.search(rb"^listening on (.*)\n", said, re.MULTILINE)):
        chunk = os.read(fd, 4096)
        assert chunk, said
        said += chunk
    return found[1].decode()


@pytest.mark.requirement("4.life.drain")
def test_a_standard_error_that_nobody_reads_holds_up_neither_calls_nor_the_end(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text(
        json.dumps({"servers": {"a": {"command": sys.executable, "args": ["-m", "mcpgateway.demo.clock"]}}})
    )
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen(
        [sys.executable, "-m", "runners.gateway", "--port", "0", "--config", str(file)],
        stderr=writer,
        env=environment(),
        start_new_session=True,
    )
    os.close(writer)
    try:
        url = listening_on(reader)
        with BareClient(url, "/mcp/a") as client:
            file.write_text(json.dumps({"a_key_that_is_unknown": 1, **{f"unknown_{n}": "x" * 80 for n in range(500)}}))
            for _ in range(3):
                process.send_signal(signal.SIGHUP)
                assert client.call("now", {"timezone": "UTC"})["structuredContent"]["timezone"] == "UTC"
            process.send_signal(signal.SIGTERM)
        assert process.wait(ENDING) == 0
    finally:
        process.kill()
        process.wait()
        os.close(reader)


@pytest.mark.requirement("4.life.drain")
def test_a_reload_that_comes_too_late_changes_nothing_about_the_end(tmp_path: Path) -> None:
    """SIGHUP at every moment of it, the last ones included."""
    with configured(tmp_path, {"servers": {}}) as running:
        running.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + ENDING
        while running.process.poll() is None:
            assert time.monotonic() < deadline, "it does not end"
            running.process.send_signal(signal.SIGHUP)
            # Without a pause, handlers interrupt handlers, down to the bottom of the stack and of trio.
            with suppress(subprocess.TimeoutExpired):
                running.process.wait(0.001)
        assert running.process.returncode == 0
