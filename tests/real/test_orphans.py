"""Nothing survives a gateway that is killed: children that ignore all but SIGKILL, with grandchildren, under load.

``MCPGATEWAY_KILLS=50`` is the long form, which also sees that children live through a time of quiet.
"""

from __future__ import annotations

import http.client
import os
import random
import secrets
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.processes import let_run, marked
from tests.real.gateways import BareClient, GatewayProcess, configured

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes by their environment"),
]

KILLS: Final = int(os.environ.get("MCPGATEWAY_KILLS", "3"))
SHORT: Final = 10
"""So many kills at most are the short form."""
QUIET_S: Final = 15
"""Longer than the threads in which trio forks live when they have nothing to do."""
GONE_S: Final = 2.0
"""Seconds until nothing is left of a gateway that was killed, of most that were."""
STALL: Final = 10
"""How many times longer that may be for the others, on a machine that does other things too."""
ROGUE: Final = {
    "command": sys.executable,
    "args": ["-IS", str(Path(__file__).with_name("rogue.py")), "--stubborn"],
}
CONFIG: Final = {
    "servers": {
        "a": ROGUE,
        "b": ROGUE,
        "each": {**ROGUE, "isolation": "session", "links": {"min": 0, "max": 8}},
    }
}
PER_CHILD: Final = 3
"""Processes: a child, and what it started."""


@contextmanager
def killable(folder: Path) -> Iterator[tuple[GatewayProcess, str]]:
    """A gateway, and the mark of all its processes."""
    mark = f"MCPGATEWAY_TEST_MARK={secrets.token_hex(8)}"
    name, _, value = mark.partition("=")
    with configured(folder, CONFIG, env={name: value}) as running:
        yield running, mark


@contextmanager
def load(url: str) -> Iterator[list[int]]:
    """Calls on two servers, and clients that come and go on the third, each of which starts a child and ends it.

    Yields a list of one number: the clients that have gone.
    """
    over, ended = threading.Event(), [0]

    def calls(path: str) -> None:
        with BareClient(url, path) as client:
            while not over.is_set():
                client.call("echo")

    def sessions() -> None:
        while not over.is_set():
            with BareClient(url, "/mcp/each") as client:
                client.call("calm")
                client.end_session()
                ended[0] += 1

    def until_killed(work: Callable[[], None]) -> None:
        try:
            work()
        except (OSError, http.client.HTTPException, LookupError, ValueError):
            return  # the gateway has been killed, perhaps in the middle of an answer

    works: list[Callable[[], None]] = [lambda: calls("/mcp/a"), lambda: calls("/mcp/b"), *[sessions] * 4]
    threads = [threading.Thread(target=until_killed, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield ended
    finally:
        over.set()
        for thread in threads:
            thread.join()


def seconds_until_none(mark: str) -> float:
    began = time.monotonic()
    while left := marked(mark):
        assert time.monotonic() - began < GONE_S * STALL, f"{len(left)} processes are left: {sorted(left)}"
    return time.monotonic() - began


@pytest.mark.requirement("4.shows.orphans")
def test_no_process_is_left_by_a_gateway_that_is_killed_under_load(tmp_path: Path) -> None:
    chance, taken, seen, started = random.Random(4), list[float](), list[int](), 0
    for _ in range(KILLS):
        with killable(tmp_path) as (running, mark):
            for name in "ab":
                BareClient(running.url, f"/mcp/{name}").close()
            with load(running.url) as ended:
                let_run(chance.uniform(0.05, 0.6))
                seen.append(len(marked(mark)))
                running.process.kill()
                taken.append(seconds_until_none(mark))
            started += ended[0]
    assert min(seen) >= 2 + 2 * PER_CHILD, "the gateway, the guard, two children"
    print(f"{KILLS} kills, {min(seen)} to {max(seen)} processes, {started} children had come and gone")
    print(f"none left after {max(taken) * 1000:.0f} ms at most")
    assert statistics.median(taken) < GONE_S


@pytest.mark.skipif(KILLS <= SHORT, reason="takes 15 s: part of the long form")
@pytest.mark.requirement("4.shows.orphans")
def test_children_live_through_a_time_of_quiet(tmp_path: Path) -> None:
    with killable(tmp_path) as (running, mark):
        for name in "ab":
            BareClient(running.url, f"/mcp/{name}").close()
        before = marked(mark)
        let_run(QUIET_S)
        assert marked(mark) == before
        assert len(before) == 2 + 2 * PER_CHILD
        running.process.kill()
        seconds_until_none(mark)
