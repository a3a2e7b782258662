"""The gateway as a process: what it prints, what signals do, and that nothing outlives it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.real.gateways import ENDING, BareClient, configured, environment, gateway
from tests.runners.held import Held

pytestmark = pytest.mark.real


@pytest.mark.requirement("2.runner.demo", "2.runner.gateway", "feature.145")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_demo_listens_where_it_says_answers_and_ends_with_0(number: signal.Signals) -> None:
    with gateway("-demo") as running:
        with BareClient(running.url, "/mcp") as client:
            tools = client.request("tools/list")["result"]["tools"]
            now = client.call("clock_now", {"timezone": "UTC"})
        running.process.send_signal(number)
        status = running.ended()

    assert status == 0
    assert [tool["name"] for tool in tools] == ["clock_now", "clock_convert", "notes_add", "notes_list", "notes_search"]
    assert now["structuredContent"]["timezone"] == "UTC"
    assert f"listening on {running.url}" in running.log.lines


@pytest.mark.requirement("2.runner.gateway", "feature.145")
def test_a_call_in_flight_is_given_its_time_and_then_an_answer(tmp_path: Path, held: Held) -> None:
    """SIGTERM with a slow call: the server is gone, the client has an error, the status is 0, all in time."""
    config = {"servers": {"slow": held.server()}, "shutdown_timeout": "500ms"}
    with configured(tmp_path, config) as running:
        with BareClient(running.url, "/mcp/slow") as client, BareClient(running.url, "/mcp/slow") as watcher:
            held.wait_until_up()
            client.send("tools/call", {"name": "slow", "arguments": {"name": "a"}})
            assert watcher.call("waiting", {"count": 1})["structuredContent"] == {"values": ["a"]}

            began = time.monotonic()
            running.process.send_signal(signal.SIGTERM)
            answer = client.receive()
            status = running.ended()

    assert answer["error"]["code"] == -32603
    assert "shutting down" in answer["error"]["message"]
    assert status == 0
    assert 0.5 <= time.monotonic() - began < ENDING
    assert held.gone()


@pytest.mark.requirement("2.runner.gateway")
def test_a_second_signal_ends_it_at_once(tmp_path: Path, held: Held) -> None:
    config = {"servers": {"slow": held.server(stubborn=True)}, "shutdown_timeout": "60s"}
    with configured(tmp_path, config) as running:
        with BareClient(running.url, "/mcp/slow") as client, BareClient(running.url, "/mcp/slow") as watcher:
            held.wait_until_up()
            client.send("tools/call", {"name": "slow", "arguments": {"name": "a"}})
            watcher.call("waiting", {"count": 1})
            running.process.send_signal(signal.SIGTERM)
            running.log.wait_for("finishing calls in flight", ENDING)

            running.process.send_signal(signal.SIGTERM)
            status = running.ended()

    assert status == -signal.SIGTERM
    assert held.gone()


def test_check_can_be_interrupted(tmp_path: Path, held: Held) -> None:
    """Ctrl-C while a server does not answer: no traceback, and the server is gone."""
    file = tmp_path / "mcp-gateway.json"
    file.write_text(json.dumps({"servers": {"silent": held.server("--silent", stubborn=True)}}))
    process = subprocess.Popen(
        [sys.executable, "-m", "runners.check", "--config", str(file)],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    try:
        held.wait_until_up()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=ENDING)
    finally:
        process.kill()

    assert process.returncode == 130
    assert said == ""
    assert held.gone()


@pytest.mark.requirement("2.servers.guard")
def test_no_child_survives_a_gateway_that_is_killed(tmp_path: Path, held: Held) -> None:
    with configured(tmp_path, {"servers": {name: held.server(stubborn=True) for name in "abc"}}) as running:
        for name in "abc":
            with BareClient(running.url, f"/mcp/{name}") as client:
                assert client.server_info["name"] == "fixture"
        held.wait_until_up()

        running.process.kill()

        assert held.gone()
