"""Children that crash, flood and write junk, behind a gateway that is a process: how long callers and others wait."""

from __future__ import annotations

import os
import re
import signal
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.processes import let_run, resident_mb
from tests.real.gateways import BareClient, GatewayProcess, configured

pytestmark = pytest.mark.real

AT_ONCE_S: Final = 0.1
MB: Final = 1_000_000
ROGUE: Final = {"command": sys.executable, "args": ["-IS", str(Path(__file__).with_name("rogue.py"))]}


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway with two servers, of which one will be good."""
    with configured(tmp_path, {"servers": {"good": ROGUE, "bad": {**ROGUE, "links": {"max": 1}}}}) as running:
        yield running


def client(gateway: GatewayProcess, server: str) -> BareClient:
    return BareClient(gateway.url, f"/mcp/{server}")


def text(result: Any) -> str:
    return str(result["content"][0]["text"])


@contextmanager
def watched(gateway: GatewayProcess, server: str) -> Iterator[list[float]]:
    """Calls of a server, one after another, while the body runs: the seconds that each took."""
    over, taken = threading.Event(), list[float]()

    def calls() -> None:
        with client(gateway, server) as connected:
            while not over.is_set():
                began = time.perf_counter()
                connected.call("echo")
                taken.append(time.perf_counter() - began)

    thread = threading.Thread(target=calls)
    thread.start()
    try:
        yield taken
    finally:
        over.set()
        thread.join()


def described(taken: list[float]) -> str:
    p50, p99, most = statistics.median(taken), statistics.quantiles(taken, n=100)[98], max(taken)
    return f"{len(taken)} calls, p50 {p50 * 1000:.2f}, p99 {p99 * 1000:.2f}, most {most * 1000:.1f} ms"


@pytest.mark.requirement("4.children.crash")
@pytest.mark.parametrize("holder", ["", "hold", "daemon"], ids=["alone", "grandchild", "daemon"])
def test_a_killed_child_fails_its_calls_at_once(gateway: GatewayProcess, holder: str) -> None:
    """From SIGKILL to the error at the caller, who learns how the child ended and what it last said."""
    with client(gateway, "bad") as connected:
        pid = int(text(connected.call("pid")))
        holding = int(text(connected.call(holder))) if holder else 0
        connected.send("tools/call", {"name": "last_words"})
        connected.receive()
        connected.send("tools/call", {"name": "hang"})
        with client(gateway, "bad") as other:
            other.call("echo")  # the call that hangs is with the child

        began = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        answer = connected.receive()
        taken = time.perf_counter() - began
        if holder == "daemon":
            os.kill(holding, signal.SIGKILL)

        assert answer["error"]["message"] == "server 'bad': was killed by SIGKILL; its last words: I am well"
        assert taken < AT_ONCE_S
        assert text(connected.call("echo")) == "ok", "it was started again"
    print(f"error {taken * 1000:.1f} ms after SIGKILL")


@pytest.mark.requirement("4.children.junk")
@pytest.mark.parametrize("unit", ["y\n", "x" * 79 + "\n", "z"], ids=["short lines", "lines", "no line break"])
def test_a_flood_on_standard_error_costs_others_little(gateway: GatewayProcess, unit: str) -> None:
    """100 MB a second for two seconds, beside calls of another server; the same calls without it, to compare."""
    with client(gateway, "bad") as connected:
        with watched(gateway, "good") as before:
            let_run(1)
        connected.call("flood", {"fd": 2, "text": unit, "rate": 100 * MB})
        with watched(gateway, "good") as during:
            let_run(2)
            assert text(connected.call("echo")) == "ok"
    logged = [line for line in gateway.log.lines if "mcpgateway.server.bad" in line]
    left_out = sum(map(int, re.findall(r"\((\d+) lines left out\)", "\n".join(logged))))
    print(f"before: {described(before)}\nduring: {described(during)}; {len(logged)} lines logged, {left_out} not")
    assert statistics.median(during) < 0.02
    assert len(logged) < 300
    assert unit == "z" or left_out * len(unit) > 50 * MB, "it was no flood"


@pytest.mark.requirement("4.children.junk")
@pytest.mark.parametrize("unit", ["y\n", "x" * 79 + "\n"], ids=["short lines", "lines"])
def test_a_flood_of_junk_on_standard_output_costs_others_little(gateway: GatewayProcess, unit: str) -> None:
    with client(gateway, "bad") as connected:
        with watched(gateway, "good") as before:
            let_run(1)
        connected.call("flood", {"fd": 1, "text": unit, "rate": 100 * MB})
        with watched(gateway, "good") as during:
            let_run(2)
    print(f"before: {described(before)}\nduring: {described(during)}")
    assert statistics.median(during) < 0.02


@pytest.mark.requirement("4.children.junk")
@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("big", {"bytes": 50 * MB}),
        ("junk", {"bytes": 50 * MB, "text": "x"}),
        ("junk", {"bytes": 50 * MB, "text": "\0ÿ"}),
        ("junk", {"bytes": 50 * MB, "text": "["}),
        ("junk", {"bytes": 50 * MB, "text": "[1,"}),
        ("junk", {"bytes": 1 * MB, "text": "y\n"}),
        ("junk", {"bytes": 68 * MB, "text": "x"}),
    ],
    ids=["reply", "text", "binary", "deep", "batches", "short lines", "beyond the limit"],
)
def test_fifty_megabytes_in_a_line_are_survived(
    gateway: GatewayProcess, tool: str, arguments: dict[str, object]
) -> None:
    """The child goes on, others wait little meanwhile, and the memory is given back."""
    with client(gateway, "bad") as connected:
        pid = text(connected.call("pid"))
        before = resident_mb(gateway.process.pid)
        with watched(gateway, "good") as taken:
            began = time.perf_counter()
            answer = text(connected.call(tool, arguments))
            seconds = time.perf_counter() - began
        after = resident_mb(gateway.process.pid)
        assert answer == "ok" or len(answer) == arguments["bytes"]
        assert text(connected.call("pid")) == pid
    print(f"{seconds:.2f} s; meanwhile {described(taken)}; memory {before:.0f} -> {after:.0f} MB")
    assert after < before + 30
