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

import attrs

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

BOTH, MODERN, LEGACY = ERAS = ("both", "modern", "legacy")
HTTP, STDIO, SSE, WEBSOCKET = TRANSPORTS = ("http", "stdio", "sse", "websocket")
_LEGS: Final = {BOTH: tuple(SERVER_LEGS), MODERN: ("s2506", "s2511"), LEGACY: ("s2607",)}
"""What is run at a server, by its era: where it has but one, the legs of the clients of the other."""


@attrs.frozen
class Behind:
    """What is behind the gateway: the fixture server, of both eras or one, over a transport.

    ``between`` says that there is another gateway between them, and in which era it is spoken to: ``auto``, ``modern``
    or ``legacy``.
    """

    era: str
    transport: str
    between: str | None = None

    @property
    def name(self) -> str:
        """``http``, ``modern-sse``, ``chain-http``, ``legacy-chain-modern-http`` …"""
        if self.between is None:
            return self.plain
        return f"chain-{self.plain}" if self.between == "auto" else f"{self.between}-chain-{self.plain}"

    @property
    def plain(self) -> str:
        """The name of the same without another gateway."""
        return self.transport if self.era == BOTH else f"{self.era}-{self.transport}"

    @property
    def met(self) -> str:
        """The era of what the gateway speaks to."""
        return self.era if self.between is None or self.between == "auto" else self.between

    @property
    def legs(self) -> tuple[str, ...]:
        """All legs, or those whose client is of another era than what the gateway speaks to."""
        return _LEGS[self.met]


SERVERS: Final[Mapping[str, Behind]] = {
    behind.name: behind
    for behind in (
        *(Behind(era, transport) for era in ERAS for transport in TRANSPORTS),
        *(Behind(era, HTTP, between="auto") for era in ERAS),
        Behind(LEGACY, HTTP, between=MODERN),
        Behind(MODERN, HTTP, between=LEGACY),
    )
}
"""By name. Whatever the server speaks, a leg is compared with the same leg directly at the one that speaks both."""


@attrs.frozen
class Mock:
    """The suite's own mock servers behind the gateway, with the scenarios of a leg played by the client of a leg.

    ``era`` is in which era the gateway speaks to them.
    """

    name: str
    client: str
    leg: str
    era: str = "auto"

    @property
    def scenarios(self) -> tuple[str, ...]:
        played = CLIENT_LEGS[self.leg][1]
        return played if self.client == self.leg else tuple(each for each in played if each not in _HANDSHAKING)


_HANDSHAKING: Final = frozenset({"json-schema-ref-no-deref"})
"""Scenarios whose mock server, and client, only know the handshake, whatever the revision."""
MOCK = "mock"
MOCKS: Final = (
    *(Mock(MOCK, leg, leg) for leg in CLIENT_LEGS),
    Mock("modern-mock", "c2511", "c2607", MODERN),
    Mock("legacy-mock", "c2607", "c2511", LEGACY),
)
_TIMEOUT_MS: Final = 15_000
_ROOT: Final = Path(__file__).resolve().parent.parent.parent


@contextmanager
def fixture(suite: Suite, scratch: Path, era: str) -> Iterator[str]:
    """The fixture server over everything that has an address; that of its port, without a scheme."""
    port, log = free_port(), scratch / f"fixture-{era}.log"
    with running(_fixture(suite, era, str(port)), log) as process:
        wait_for_port(port, process, log)
        yield f"127.0.0.1:{port}"


def entry(suite: Suite, behind: Behind, address: str) -> dict[str, Any]:
    """The configuration of the fixture server behind a gateway."""
    if behind.transport == STDIO:
        command, *arguments = _fixture(suite, behind.era, STDIO)
        return {"command": command, "args": arguments}
    if behind.transport == SSE:
        return {"type": "sse", "url": f"http://{address}/sse"}
    return {"url": f"ws://{address}/ws" if behind.transport == WEBSOCKET else f"http://{address}/mcp"}


def _fixture(suite: Suite, era: str, where: str) -> list[str]:
    script = Path(__file__).with_name("fixture_server.py")
    return [str(suite.python), str(script), str(suite.everything_server), era, where]


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


def run_client_leg(suite: Suite, leg: str, results: Path, mock: Mock | None = None) -> None:
    """The client scenarios of a leg, each against a mock server of its own, which a gateway may be in front of."""
    revision, scenarios = CLIENT_LEGS[leg]
    client = [str(suite.python), str(suite.client)]
    if mock is not None:
        options = [CLIENT_LEGS[mock.client][0], mock.era, str(results.parent / "gateways")]
        client = [sys.executable, "-m", "tests.conformance.client_through", *options, *client]
    for scenario in scenarios if mock is None else mock.scenarios:
        options = ["client", "--command", shlex.join(client), "--scenario", scenario, "--spec-version", revision]
        _suite(suite, options, results)


def _suite(suite: Suite, options: list[str], results: Path) -> None:
    results.mkdir(parents=True, exist_ok=True)
    command = [*suite.command, *options, "--timeout", str(_TIMEOUT_MS), "-o", str(results)]
    with (results.parent / f"{results.name}.log").open("ab") as log:
        # Its status only says whether every scenario passed, which the comparison says better.
        subprocess.run(command, stdout=log, stderr=log, check=False, cwd=_ROOT)
