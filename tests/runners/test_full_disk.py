"""A disk that takes nothing, and one that cannot be written to: the gateway serves all the same."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes import POLL, free_port, let_run
from tests.real.gateways import ENDING, BareClient, configured, environment

pytestmark = pytest.mark.real


def config(**keys: object) -> dict[str, object]:
    server = {"command": sys.executable, "args": ["-m", "mcpgateway.testing.fixture_server"]}
    return {"servers": {"a": server, "b": server}, "page_size": 5, **keys}


def use(url: str) -> None:
    """Have the gateway call, list and page, for which it seals a cursor."""
    with BareClient(url, "/mcp") as client:
        page = client.request("tools/list")["result"]
        assert len(page["tools"]) == 5
        rest = client.request("tools/list", {"cursor": page["nextCursor"]})["result"]
        assert rest["tools"][0]["name"] != page["tools"][0]["name"]
        assert client.call("a_echo", {"text": "hi"})["content"][0]["text"] == "hi"


@pytest.mark.requirement("4.life.files")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_nothing_can_be_written_at_all(tmp_path: Path) -> None:
    """No file may grow, standard error is a full disk: calls, cursors, a reload and the exit status are as ever."""
    port, file = free_port(), tmp_path / "c.json"
    file.write_text(json.dumps(config(state_dir=str(tmp_path / "state"), listen={"port": port})))
    with open("/dev/full", "wb") as full:
        process = subprocess.Popen(
            [sys.executable, "-m", "runners.gateway", "--config", str(file), "--log-level", "debug"],
            stderr=full,
            env=environment(),
            start_new_session=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
        )
    try:
        for _ in range(2):
            use(wait_for(port, process))
            process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(ENDING) == 0
    finally:
        process.kill()
        process.wait()
    assert [entry.name for entry in (tmp_path / "state").iterdir()] == []


def wait_for(port: int, process: subprocess.Popen[bytes]) -> str:
    """The URL of a gateway that cannot say it, once it listens."""
    deadline = time.monotonic() + ENDING
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return f"http://127.0.0.1:{port}"
        except OSError:
            let_run(POLL)
    raise AssertionError(f"it does not listen; status {process.poll()}")


@pytest.mark.requirement("4.life.files")
def test_a_state_directory_that_cannot_be_made_is_two_warnings(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with configured(tmp_path, config(state_dir="file/state")) as running:
        use(running.url)
        running.process.send_signal(signal.SIGHUP)
        running.log.wait_for("reloaded: ", ENDING)
        use(running.url)
        running.process.send_signal(signal.SIGTERM)
        assert running.ended() == 0
    warnings = [line for line in running.log.lines if "WARNING" in line and str(tmp_path) in line]
    assert len(warnings) == 2, str(running.log)
    assert sum("gateway.json cannot be written" in line for line in warnings) == 1
    assert sum("secret cannot be used" in line for line in warnings) == 1


@pytest.mark.requirement("4.life.files")
def test_what_the_gateway_keeps_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with configured(tmp_path, config(state_dir="state")) as running:
            use(running.url)
            running.process.send_signal(signal.SIGHUP)
            running.log.wait_for("reloaded: ", ENDING)
            state = tmp_path / "state"
            # By name: a list of the directory may hold a file on its way to its name.
            modes = {name: (state / name).stat().st_mode & 0o777 for name in ("secret", "gateway.json", ".")}
            assert modes == {"secret": 0o600, "gateway.json": 0o600, ".": 0o700}
    finally:
        os.umask(before)
