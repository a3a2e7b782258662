"""``runners.check`` as a process, with upstreams and servers of all kinds: what it prints, and that nothing is left."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.processes import free_port, running, wait_for_port
from tests.real.gateways import ROOT, environment
from tests.runners.held import GIVE_UP, Held

pytestmark = pytest.mark.real

ROGUE = str(ROOT / "tests" / "real" / "rogue.py")
NOTES_ITS_START = """
import os, runpy
with open(os.environ["STARTS"], "a") as starts:
    starts.write("started\\n")
runpy.run_module("mcpgateway.demo.clock", run_name="__main__")
"""


TIMEOUT = 10.0
"""What servers that answer need less than, however busy the machine is."""


@attrs.frozen
class Endpoint:
    """Where an upstream would be."""

    url: str
    listener: socket.socket

    def was_dialled(self) -> bool:
        self.listener.setblocking(False)
        try:
            self.listener.accept()
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Endpoint(f"ws://127.0.0.1:{listener.getsockname()[1]}/mcp/?agent=7&token=hunter2hunter2", listener)


def written(folder: Path, servers: dict[str, Any], shown: dict[str, list[str]], endpoint: Endpoint) -> str:
    """A configuration whose upstreams each see some of the servers."""
    document = {
        "servers": servers,
        "namespaces": {name: {"servers": names} for name, names in shown.items()},
        "upstreams": [{"name": name, "endpoint": endpoint.url, "namespace": name} for name in shown],
    }
    file = folder / "mcp_config.json"
    file.write_text(json.dumps(document))
    return str(file)


def run(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runners.check", *arguments],
        env={**environment(), **(env or {})},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


EXPECTED = """
==================================================
         MCP Gateway Configuration Check        \x20
==================================================

📡 Upstream: xiaozhi-1
   Endpoint: {endpoint}

   ✅ [clock] (stdio)
      Command: {python} -c {script}
      Status: Connected
      Server: clock v1.0
      Tools (2):
        • now                          The current date and time in a time zone.
        • convert                      A time given in one zone, told in another.

   ❌ [local-mcp] (stdio)
      Command: no-such-command-anywhere mcp_server.py
      Status: Failed
      Error: start failed: command not found: no-such-command-anywhere; is it on PATH?

   ⏸️ [old] (sse)
      URL: http://127.0.0.1:1/sse
      Status: Disabled

📡 Upstream: xiaozhi-2
   Endpoint: {endpoint}

   ✅ [clock] (stdio)
      Command: {python} -c {script}
      Status: Connected
      Server: clock v1.0
      Tools (2):
        • now                          The current date and time in a time zone.
        • convert                      A time given in one zone, told in another.

   ✅ [web-search] (http)
      URL: {url}
      Status: Connected
      Server: fixture v1
      Tools (15):
"""


@pytest.mark.requirement("feature.131", "feature.132", "6.check.text", "6.check.json", "6.check.servers")
def test_two_upstreams_with_servers_over_stdio_and_http_and_a_failing_one(tmp_path: Path, endpoint: Endpoint) -> None:
    """Text and JSON through the command line; the server that both see is started once, and neither is dialled."""
    port, starts = free_port(), tmp_path / "starts"
    servers: dict[str, Any] = {
        "web-search": {"type": "http", "url": f"http://127.0.0.1:{port}/mcp"},
        "clock": {"command": sys.executable, "args": ["-c", NOTES_ITS_START], "env": {"STARTS": str(starts)}},
        "local-mcp": {"command": "no-such-command-anywhere", "args": ["mcp_server.py"]},
        "old": {"type": "sse", "url": "http://127.0.0.1:1/sse", "enabled": False},
    }
    shown = {"xiaozhi-1": ["clock", "old", "local-mcp"], "xiaozhi-2": ["web-search", "clock"]}
    file = written(tmp_path, servers, shown, endpoint)
    log = tmp_path / "http.log"
    with running([sys.executable, "-m", "tests.real.http_server", str(port)], log, env=environment()) as process:
        wait_for_port(port, process, log)
        text = run("-check", "-config", file)
        started = starts.read_text()
        as_json = run("-check", "-config", file, "-output", "json", "-timeout", "120s")

    masked = endpoint.url.replace("hunter2hunter2", "***")
    script = " ".join(NOTES_ITS_START.split())
    expected = EXPECTED.format(endpoint=masked, python=sys.executable, script=script, url=servers["web-search"]["url"])
    assert (text.returncode, text.stderr) == (0, "")
    assert text.stdout.startswith(expected)
    assert "\n   Total MCP Servers:  4\n     • Healthy:        3\n     • Failed:         1\n     • Dis" in text.stdout
    assert started == "started\n"
    assert (as_json.returncode, as_json.stderr) == (0, "")
    document = json.loads(as_json.stdout)
    assert [each["name"] for each in document["upstreams"]] == ["xiaozhi-1", "xiaozhi-2"]
    assert [each["endpoint"] for each in document["upstreams"]] == [masked, masked]
    assert document["upstreams"][0]["mcpServers"][1:] == [
        {
            "name": "old",
            "type": "sse",
            "url": "http://127.0.0.1:1/sse",
            "disabled": True,
            "healthy": False,
            "error": "disabled in config",
        },
        {
            "name": "local-mcp",
            "type": "stdio",
            "command": "no-such-command-anywhere",
            "args": ["mcp_server.py"],
            "healthy": False,
            "error": "start failed: command not found: no-such-command-anywhere; is it on PATH?",
        },
    ]
    assert (document["totalServers"], document["healthyCount"], document["failedCount"]) == (4, 3, 1)
    assert not endpoint.was_dialled()


@pytest.mark.requirement("6.check.text", "6.check.json", "6.check.flags", "6.check.servers")
def test_a_file_of_source_system_000_as_its_users_have_it(tmp_path: Path, endpoint: Endpoint) -> None:
    """Two upstreams with a server of one name each, found by MCP_CONFIG; a name that no path could have."""
    port = free_port()
    clock: dict[str, Any] = {"type": "stdio", "command": sys.executable, "args": ["-m", "mcpgateway.demo.clock"]}
    notes: dict[str, Any] = {"type": "stdio", "command": sys.executable, "args": ["-m", "mcpgateway.demo.notes"]}
    web: dict[str, Any] = {"type": "streamablehttp", "url": f"http://127.0.0.1:{port}/mcp", "timeout": 120}
    keepalive = {"interval": "30s", "timeout": "10s"}
    document = {
        "upstreams": [
            {
                "name": "xiaozhi-agent-1",
                "endpoint": "${MCP_ENDPOINT}",
                "reconnect": {"enabled": True, "initialBackoff": "1s", "maxBackoff": "10m", "multiplier": 2},
                "keepalive": keepalive,
                "mcpServers": {"web-search": web, "计算器": clock, "old": {**notes, "disabled": True}},
            },
            {
                "name": "xiaozhi-agent-2",
                "endpoint": endpoint.url,
                "reconnect": {"enabled": True},
                "keepalive": keepalive,
                "mcpServers": {
                    "web-search": {**web, "type": "http", "headers": {"Authorization": "Bearer hunter2hunter2"}},
                    "old": notes,
                },
            },
        ],
        "logging": {"level": "info", "format": "text", "verbose": False},
        "metrics": {"enabled": False, "port": 9090},
    }
    file, log = tmp_path / "mine.json", tmp_path / "http.log"
    file.write_text(json.dumps(document))
    variables = {"MCP_CONFIG": str(file), "MCP_ENDPOINT": endpoint.url}
    with running([sys.executable, "-m", "tests.real.http_server", str(port)], log, env=environment()) as process:
        wait_for_port(port, process, log)
        text = run("-check", "-timeout", "1m0.5s", env=variables)
        as_json = run("--check=true", "-output=json", env=variables)

    assert (text.returncode, text.stderr, as_json.returncode, as_json.stderr) == (0, "", 0, "")
    shown = [line for line in text.stdout.splitlines() if line.startswith(("📡", "   ✅", "   ❌", "   ⏸"))]
    assert shown == [
        "📡 Upstream: xiaozhi-agent-1",
        "   ⏸️ [old] (stdio)",
        "   ✅ [web-search] (http)",
        "   ✅ [计算器] (stdio)",
        "📡 Upstream: xiaozhi-agent-2",
        "   ✅ [old] (stdio)",
        "   ✅ [web-search] (http)",
    ]
    document = json.loads(as_json.stdout)
    assert [[server["name"] for server in each["mcpServers"]] for each in document["upstreams"]] == [
        ["web-search", "计算器", "old"],
        ["web-search", "old"],
    ]
    assert {name: document[name] for name in ("totalServers", "healthyCount", "failedCount", "disabledCount")} == {
        "totalServers": 4,
        "healthyCount": 4,
        "failedCount": 0,
        "disabledCount": 1,
    }
    assert "hunter2" not in text.stdout + as_json.stdout
    assert not endpoint.was_dialled()


@pytest.mark.requirement("feature.133", "6.check.servers")
def test_servers_that_misbehave_cost_their_timeout_once_and_leave_nothing(
    tmp_path: Path, held: Held, endpoint: Endpoint
) -> None:
    """Silent ones, a flood, some that ignore SIGTERM, one that dies; the good ones are found all the same."""
    bad: dict[str, Any] = {
        "silent": held.server("--silent"),
        "stubborn": held.server("--silent", stubborn=True),
        "flood": {"command": "yes"},
        "deaf": {"command": "sleep", "args": ["600"]},
        "dies": {"command": sys.executable, "args": ["-c", "import sys; sys.exit('no luck')"]},
        "refused": {"url": "http://127.0.0.1:1/mcp"},
        "no-stream": {"type": "sse", "url": "http://127.0.0.1:1/sse"},
    }
    good: dict[str, Any] = {
        "rogue": {"command": sys.executable, "args": ["-IS", ROGUE, "--stubborn"]},
        "held": held.server(stubborn=True),
    }
    names = [*bad, *good]
    file = written(tmp_path, {**bad, **good}, {"one": names, "two": names[::-1]}, endpoint)

    began = time.monotonic()
    done = run("-check", "-config", file, "-timeout", f"{TIMEOUT:g}s", "-output", "json")
    took = time.monotonic() - began

    one, two = ({each["name"]: each for each in shown["mcpServers"]} for shown in json.loads(done.stdout)["upstreams"])
    assert done.returncode == 0
    assert one == two
    assert {name for name, each in one.items() if each["healthy"]} == set(good)
    stages = {name: one[name]["error"].partition(" failed: ")[0] for name in bad}
    assert stages == {**dict.fromkeys(bad, "initialize"), "no-stream": "start"}
    assert one["dies"]["error"] == "initialize failed: exited with status 1; its last words: no luck"
    assert TIMEOUT <= took < 4 * TIMEOUT, "four servers never answer"
    assert held.gone()
    assert not endpoint.was_dialled()


def test_it_can_be_interrupted(tmp_path: Path, held: Held, endpoint: Endpoint) -> None:
    file = written(tmp_path, {"silent": held.server("--silent", stubborn=True)}, {"cloud": ["silent"]}, endpoint)
    process = subprocess.Popen(
        [sys.executable, "-m", "runners.check", "-check", "-config", file],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    try:
        held.wait_until_up()
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=GIVE_UP)
    finally:
        process.kill()

    assert (process.returncode, out, said) == (130, "", "")
    assert held.gone()


@pytest.mark.requirement("feature.135", "6.check.colour")
@pytest.mark.parametrize(("env", "colour"), [({}, True), ({"NO_COLOR": "1"}, False)], ids=str)
def test_a_terminal_has_colours(env: dict[str, str], colour: bool, tmp_path: Path, endpoint: Endpoint) -> None:
    file = written(tmp_path, {"off": {"command": "x", "enabled": False}}, {"cloud": ["off"]}, endpoint)
    ours, theirs = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-m", "runners.check", "-config", file],
            env={**environment(), "TERM": "xterm", **env},
            stdout=theirs,
            timeout=GIVE_UP,
            check=True,
        )
        shown = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)

    assert ("\x1b[33mDisabled\x1b[0m" in shown) is colour


def test_whoever_reads_may_have_read_enough(tmp_path: Path, endpoint: Endpoint) -> None:
    file = written(tmp_path, {"off": {"command": "x", "enabled": False}}, {"cloud": ["off"]}, endpoint)
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "runners.check", "-config", file],
            env=environment(),
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=GIVE_UP,
            check=False,
        )
    finally:
        os.close(writing)

    assert (done.returncode, done.stderr) == (0, b"")
