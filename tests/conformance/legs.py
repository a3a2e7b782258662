"""One leg of the matrix: the suite's scenarios of one side and one revision, direct or through the gateway.

``s…`` legs test servers: the suite is the client of the fixture server, or of a gateway in front of it. ``c…`` legs
test clients: the suite is the server of the SDK's test client, with or without a gateway in between.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.conformance.setup import Suite
from tests.processes import free_port, running, wait_for_ok, wait_for_port

SERVER_LEGS: Final = {"s2506": "2025-06-18", "s2511": "2025-11-25", "s2607": "2026-07-28"}
CLIENT_LEGS: Final = {
    "c2506": ("2025-06-18", ("initialize", "tools_call")),
    "c2511": (
        "2025-11-25",
        (
            "initialize",
            "tools_call",
            "elicitation-sep1034-client-defaults",
            "sse-retry",
            "json-schema-2020-12-preservation",
        ),
    ),
    "c2607": (
        "2026-07-28",
        (
            "tools_call",
            "request-metadata",
            "sep-2322-client-request-state",
            "http-standard-headers",
            "http-custom-headers",
            "http-invalid-tool-headers",
            "json-schema-ref-no-deref",
            "json-schema-2020-12-preservation",
        ),
    ),
}
"""The client scenarios that a gateway has a part in; the others are about OAuth at the server."""
HTTP, STDIO, MOCK = "http", "stdio", "mock"
"""What is behind the gateway: the fixture server over Streamable HTTP or stdio, or the suite's own mock server."""
MODERN_HTTP, MODERN_STDIO = "modern-http", "modern-stdio"
"""The same as a server that speaks only 2026-07-28."""
LEGACY_HTTP, LEGACY_STDIO = "legacy-http", "legacy-stdio"
"""The same as a server that speaks only the legacy era."""
BRIDGED_LEGS: Final[Mapping[str, tuple[str, ...]]] = {
    MODERN_HTTP: ("s2506", "s2511"),
    MODERN_STDIO: ("s2506", "s2511"),
    LEGACY_HTTP: ("s2607",),
    LEGACY_STDIO: ("s2607",),
}
"""The legs whose client is of another era than the server behind the gateway. They are compared with the same legs
against the server that speaks both."""
_TIMEOUT_MS: Final = 15_000
_ROOT: Final = Path(__file__).resolve().parent.parent.parent
_FIXTURES: Final = {"legacy": "legacy_server.py"}
"""The fixture servers that are not `fixture_server.py`, by era."""


@contextmanager
def fixture(suite: Suite, scratch: Path, era: str = "both") -> Iterator[str]:
    """The fixture server over HTTP; its URL."""
    port, log = free_port(), scratch / f"fixture-{era}.log"
    command = [str(suite.python), *_fixture(suite, era, str(port))]
    with running(command, log) as process:
        wait_for_port(port, process, log)
        yield f"http://127.0.0.1:{port}/mcp"


def fixture_over_stdio(suite: Suite, era: str = "both") -> dict[str, Any]:
    """The configuration of the fixture server as a child of the gateway."""
    return {"command": str(suite.python), "args": _fixture(suite, era, "stdio")}


def _fixture(suite: Suite, era: str, where: str) -> list[str]:
    script = Path(__file__).with_name(_FIXTURES.get(era, "fixture_server.py"))
    return [str(script), str(suite.everything_server), where, *([] if era in _FIXTURES else [era])]


def warm(url: str) -> None:
    """Have the gateway make the link that modern clients with elicitation use.

    It is a process of its own, and one check of the suite gives a server 600 ms to ask.
    """
    revision = SERVER_LEGS["s2607"]
    prefix = "io.modelcontextprotocol/"
    meta = {f"{prefix}protocolVersion": revision, f"{prefix}clientCapabilities": {"elicitation": {}}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": revision,
        "Mcp-Method": "tools/list",
    }
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=30) as answer:
        answer.read()


@contextmanager
def gateway(servers: Mapping[str, Any], scratch: Path) -> Iterator[str]:
    """A gateway in front of servers, which have all been tried; its URL."""
    scratch.mkdir(parents=True, exist_ok=True)
    port, log, config = free_port(), scratch / "gateway.log", scratch / "gateway.json"
    config.write_text(json.dumps({"state_dir": str(scratch / "state"), "servers": servers}))
    command = [sys.executable, "-m", "runners.gateway", "--config", str(config), "--port", str(port)]
    with running(command, log, cwd=_ROOT) as process:
        wait_for_ok(f"http://127.0.0.1:{port}/readyz", process, log)
        yield f"http://127.0.0.1:{port}"


def run_server_leg(suite: Suite, leg: str, url: str, results: Path) -> None:
    """The suite's server scenarios against a URL."""
    _suite(suite, ["server", "--url", url, "--suite", "all", "--spec-version", SERVER_LEGS[leg]], results)


def run_client_leg(suite: Suite, leg: str, results: Path, *, through: bool) -> None:
    """The client scenarios that concern a gateway, each against a mock server of its own."""
    revision, scenarios = CLIENT_LEGS[leg]
    client = [str(suite.python), str(suite.client)]
    if through:
        client = [sys.executable, "-m", "tests.conformance.client_through", str(results.parent / leg), *client]
    for scenario in scenarios:
        options = ["client", "--command", shlex.join(client), "--scenario", scenario, "--spec-version", revision]
        _suite(suite, options, results)


def _suite(suite: Suite, options: list[str], results: Path) -> None:
    results.mkdir(parents=True, exist_ok=True)
    command = [*suite.command, *options, "--timeout", str(_TIMEOUT_MS), "-o", str(results)]
    with (results.parent / f"{results.name}.log").open("ab") as log:
        # Its status only says whether every scenario passed, which the comparison says better.
        subprocess.run(command, stdout=log, stderr=log, check=False, cwd=_ROOT)
