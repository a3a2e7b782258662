"""The gateway as a user runs it: a real process, started until it says where it listens, and spoken to over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, Self
from urllib.parse import urlsplit

import attrs

from mcpgateway.protocol.revisions import LATEST_LEGACY
from tests.processes import DidNotStart

ROOT: Final = Path(__file__).resolve().parent.parent.parent
STARTING: Final = 60.0
ENDING: Final = 60.0
"""Seconds that a gateway is given, in any test, before the test gives up."""
_LISTENING: Final = "listening on "


def environment() -> dict[str, str]:
    """That of this process, but with compiled modules, as an installation has them, and without foreign settings: what
    is spoken to is on this machine."""
    return {
        **{name: value for name, value in os.environ.items() if name.upper() not in _UNWANTED},
        "PYTHONPATH": str(ROOT),
    }


_UNWANTED = frozenset(
    {
        *("PYTHONDONTWRITEBYTECODE", "MCP_GATEWAY_CONFIG", "MCP_CONFIG", "MCP_ENDPOINT", "MCP_LOG_LEVEL"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    }
)


@attrs.frozen
class GatewayProcess:
    """A gateway that listens at ``url``; ``seconds`` is how long it took to."""

    process: subprocess.Popen[str]
    url: str
    seconds: float
    log: Log

    def ended(self) -> int:
        """Wait for it to end; its exit status."""
        return self.process.wait(ENDING)


class Log:
    """What a process writes, read all the time, so that it never has to wait."""

    def __init__(self, stream: IO[str]) -> None:
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._stream = stream
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        for line in self._stream:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def wait_for(self, words: str, seconds: float, *, after: int = 0) -> str:
        """The first line that has these words in it, ``after`` so many others."""
        self.wait_until(lambda: self._first(words, after) is not None, seconds)
        found = self._first(words, after)
        if found is None:
            raise DidNotStart(f"no line with {words!r} within {seconds:g} s; the log:\n{self}")
        return found

    def wait_until(self, enough: Callable[[], bool], seconds: float) -> None:
        """Wait until the lines are enough, or there will be no more, or the time is over."""
        with self._news:
            self._news.wait_for(lambda: self._ended or enough(), seconds)

    def _first(self, words: str, after: int) -> str | None:
        return next((line for line in self.lines[after:] if words in line), None)

    def close(self) -> None:
        self._thread.join()
        self._stream.close()

    def __str__(self) -> str:
        return "\n".join(self.lines)


@contextmanager
def process(
    runner: str, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None, says: str
) -> Iterator[GatewayProcess]:
    """A runner that has said something; its ``url`` is what follows on that line. Killed at the end if need be."""
    began = time.monotonic()
    started = subprocess.Popen(
        [sys.executable, "-m", runner, *arguments],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment(), **(env or {})},
        cwd=cwd,
        start_new_session=True,
    )
    assert started.stderr is not None
    log = Log(started.stderr)
    try:
        line = log.wait_for(says, STARTING)
        yield GatewayProcess(started, line.partition(says)[2], time.monotonic() - began, log)
    finally:
        if started.poll() is None:
            started.kill()
        started.wait(ENDING)
        log.close()


@contextmanager
def gateway(*arguments: str, env: Mapping[str, str] | None = None) -> Iterator[GatewayProcess]:
    """``python -m runners.gateway --port 0`` and these arguments."""
    with process("runners.gateway", "--port", "0", *arguments, env=env, says=_LISTENING) as started:
        yield started


@contextmanager
def configured(
    folder: Path, config: Mapping[str, object], *arguments: str, env: Mapping[str, str] | None = None
) -> Iterator[GatewayProcess]:
    """A gateway with a configuration, which is written to a file in ``folder``; what it keeps is there, too."""
    file = folder / "mcp-gateway.json"
    file.write_text(json.dumps({"state_dir": str(folder / "state"), **config}))
    with gateway("--config", str(file), *arguments, env=env) as running:
        yield running


class Stream:
    """An event stream that is open, on a connection of its own."""

    def __init__(
        self,
        origin: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        fields: Mapping[str, str],
    ) -> None:
        self._connection = http.client.HTTPConnection(origin.host, origin.port, timeout=ENDING)
        self._connection.request(method, path, body, dict(fields))
        self._response = self._connection.getresponse()
        assert self._response.status == 200

    def wait_for(self, words: bytes) -> None:
        """Read up to the line that has these words in it."""
        while words not in (line := self._response.readline()):
            assert line, f"the stream has ended without {words!r}"

    def close(self) -> None:
        self._response.close()
        self._connection.close()


class BareClient:
    """A legacy MCP client made of `http.client`: one connection, one session, one request at a time."""

    def __init__(self, url: str, path: str) -> None:
        self._path = path
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=ENDING)
        self._fields = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        self._ids = 0
        try:
            self._shake_hands()
        except BaseException:
            self.close()
            raise

    def _shake_hands(self) -> None:
        info = {"name": "bare", "version": "1"}
        params = {"protocolVersion": LATEST_LEGACY, "capabilities": {}, "clientInfo": info}
        self.server_info: dict[str, Any] = self.request("initialize", params)["result"]["serverInfo"]
        self._fields["MCP-Protocol-Version"] = LATEST_LEGACY
        self._post({"jsonrpc": "2.0", "method": "notifications/initialized"})
        response = self._connection.getresponse()
        response.read()
        assert response.status == 202

    def request(self, method: str, params: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Send a request and wait for the answer: the whole JSON-RPC message."""
        self.send(method, params)
        return self.receive()

    def send(self, method: str, params: Mapping[str, object] | None = None) -> None:
        """Send a request and do not wait."""
        self._ids += 1
        self._post({"jsonrpc": "2.0", "id": self._ids, "method": method, "params": params or {}})

    def receive(self) -> dict[str, Any]:
        """The answer to what was sent."""
        response = self._connection.getresponse()
        body = response.read().decode()
        session = response.headers.get("Mcp-Session-Id")
        if session is not None:
            self._fields["Mcp-Session-Id"] = session
        if response.headers.get_content_type() == "text/event-stream":
            body = [line.removeprefix("data: ") for line in body.splitlines() if line.startswith("data: ")][-1]
        answer: dict[str, Any] = json.loads(body)
        return answer

    def call(self, tool: str, arguments: Mapping[str, object] | None = None) -> Any:
        """The result of a tool."""
        return self.request("tools/call", {"name": tool, "arguments": arguments or {}})["result"]

    def end_session(self) -> None:
        """DELETE the session; nothing more can be asked in it."""
        self._connection.request("DELETE", self._path, headers=self._fields)
        self._connection.getresponse().read()

    def insist(self) -> None:
        """Go on with this connection only: one that was closed is an error from now on."""
        self._connection.auto_open = 0

    def listen(self) -> Stream:
        """The GET stream of the session, on a connection of its own."""
        return Stream(self._connection, "GET", self._path, None, {**self._fields, "Accept": "text/event-stream"})

    def _post(self, message: Mapping[str, object]) -> None:
        self._connection.request("POST", self._path, json.dumps(message).encode(), self._fields)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_up(url: str) -> bool:
    """Whether every server behind a gateway has been tried."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=ENDING)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    finally:
        connection.close()
