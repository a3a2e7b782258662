"""Chaos with real processes: servers that are killed, stopped and resumed at random, and clients that drop at random.

A gateway process stands between them for ``CHAOS_SECONDS``. What must hold is seen from outside: every answer is the
client's own, errors name a server that was in trouble, no call hangs, the server that nobody touches always answers;
and afterwards everything works, and the gateway has no more children, descriptors and sessions than before.
"""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest
import trio

from tests.chaos.riot import PATHS, recovered, rested, run, settled, site
from tests.processes import children_of

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked for in /proc"),
]


@pytest.mark.requirement("4.chaos")
def test_only_calls_at_servers_in_trouble_suffer_and_nothing_is_left(tmp_path: Path) -> None:
    seed = int(os.environ.get("CHAOS_SEED", random.randrange(2**32)))
    print(f"CHAOS_SEED={seed}")
    with site(tmp_path) as (gateway, web):
        for path in PATHS[1:]:
            trio.run(recovered, gateway.url, path)
        before = settled(gateway)
        seen, done = trio.run(run, gateway, web, seed)
        web.restart()
        for path in PATHS[1:]:
            trio.run(recovered, gateway.url, path)
        after, state = rested(gateway, before)
        children = children_of(gateway.process.pid)
        gateway.process.send_signal(signal.SIGTERM)
        status = gateway.ended()

    print(f"{sum(done.values())} troubles: {dict(done)}")
    print("\n".join(f"{count:6} {what}" for what, count in seen.most_common()))
    assert (state["status"], state["sessions"]) == ("healthy", 0)
    assert {name: server["state"] for name, server in state["servers"].items()} == dict.fromkeys(
        ("child", "web", "steady"), "ready"
    )
    assert after.fits(before), f"{after} instead of {before}"
    assert status == 0
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    assert seen["answered"] > 100
