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

from mcpgateway.wire.last_words import BURST, LINES_PER_SECOND
from tests.processes import let_run, resident_mb, settled_mb
from tests.real.gateways import ENDING, BareClient, GatewayProcess, configured
from tests.real.pace import slowness

pytestmark = pytest.mark.real

AT_ONCE_S: Final = 0.1
TRIES: Final = 5
"""So many kills, one of which has to be noticed at once: what others do on this machine meanwhile is not meant."""
PROMPT_S: Final = 0.02
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
    taken: list[float] = []
    while not taken or (taken[-1] >= AT_ONCE_S and len(taken) < TRIES):
        taken.append(kill(gateway, holder))
    print(f"error {[round(each * 1000, 1) for each in taken]} ms after SIGKILL")
    assert taken[-1] < AT_ONCE_S


def kill(gateway: GatewayProcess, holder: str) -> float:
    """Seconds from SIGKILL to the error at the caller, who learns how the child ended and what it last said."""
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
        assert text(connected.call("echo")) == "ok", "it was started again"
    return taken


@pytest.mark.requirement("4.children.junk")
@pytest.mark.parametrize("unit", ["y\n", "x" * 79 + "\n", "z"], ids=["short lines", "lines", "no line break"])
def test_a_flood_on_standard_error_costs_others_little(gateway: GatewayProcess, unit: str) -> None:
    """100 MB a second for two seconds, beside calls of another server; the same calls without it, to compare."""
    with client(gateway, "bad") as connected:
        with watched(gateway, "good") as before:
            let_run(1)
        began = time.monotonic()
        connected.call("flood", {"fd": 2, "text": unit, "rate": 100 * MB})
        with watched(gateway, "good") as during:
            let_run(2)
            assert text(connected.call("echo")) == "ok"
            if unit != "z":
                gateway.log.wait_until(lambda: left_out(gateway) * len(unit) > 50 * MB, ENDING)
    lines, seconds = len(said(gateway)), time.monotonic() - began
    print(f"before: {described(before)}\nduring: {described(during)}; {lines} lines logged, {left_out(gateway)} not")
    assert statistics.median(during) < PROMPT_S * slowness()
    assert lines < LINES_PER_SECOND * (BURST + 2 * seconds) + 50, "each that is logged, and how many were not before it"
    assert unit == "z" or left_out(gateway) * len(unit) > 50 * MB, "it was no flood"


def said(gateway: GatewayProcess) -> list[str]:
    """What was logged of the bad server's standard error."""
    return [line for line in gateway.log.lines if "mcpgateway.server.bad" in line]


def left_out(gateway: GatewayProcess) -> int:
    """How many lines of it were not logged."""
    return sum(map(int, re.findall(r"\((\d+) lines left out\)", "\n".join(said(gateway)))))


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
    assert statistics.median(during) < PROMPT_S * slowness()


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
        after = settled_mb(gateway.process.pid, before + 30)
        assert answer == "ok" or len(answer) == arguments["bytes"]
        assert text(connected.call("pid")) == pid
    print(f"{seconds:.2f} s; meanwhile {described(taken)}; memory {before:.0f} -> {after:.0f} MB")
    assert after < before + 30
