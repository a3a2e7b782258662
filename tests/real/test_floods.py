"""Floods from one address: a client of another is served all the while, and the memory comes back."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.fronts.site import Session, call
from tests.processes import resident_mb, settled_mb
from tests.real.floods import Site, files
from tests.real.gateways import configured
from tests.real.load import percentile
from tests.real.pace import slowness

pytestmark = [
    *(pytest.mark.real, pytest.mark.slow),
    pytest.mark.skipif(sys.platform != "linux", reason="all of 127.0.0.0/8 is this machine's on Linux only"),
]

IDLE: Final = 5000
HALF: Final = 1500
"""No more than one address may have."""
STALLED: Final = 100
KIB: Final = 8192
"""Of each reply that nobody reads: more than a socket holds."""
MORE: Final = 64
"""MB that are left of no flood."""
BUDGET: Final = 128 << 20
"""Bytes of replies that one address may leave unread."""
PROMPT: Final = 0.25
"""Seconds within which 99 of 100 calls are answered during a flood, on a machine that does other things too."""
LIMITS: Final = {
    "connections_per_address": 1500,
    "write_rate": 4 << 20,
    "replies_bytes": 2 * BUDGET,
}
SHORT: Final = 3.0
"""Seconds of the deadline that a flood runs into, longer than it takes to let it loose."""


@pytest.fixture
def flooded(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A gateway with one short deadline, which the parameter names."""
    child = {"command": sys.executable, "args": ["-m", "mcpgateway.testing.fixture_server"]}
    deadlines = dict.fromkeys(("header_timeout", "write_timeout"), "60s")
    limits = {**LIMITS, **deadlines, request.param: f"{SHORT * slowness():.1f}s"}
    config = {"listen": {"limits": limits}, "servers": {"user": child, "big": child}, "startup_wait": "60s"}
    with files(IDLE + 1000), configured(tmp_path, config) as running:
        site = Site(running)
        try:
            yield site
        finally:
            site.flood.close()


async def check(site: Site, flood: Callable[[], Awaitable[None]]) -> dict[str, Any]:
    """Let a flood loose; what the gateway held of it.

    Its memory is given back, or else is free within the process, as the allocator likes it: then another flood takes
    no more.
    """
    before = resident_mb(site.pid)
    called = await site.served(flood)
    held = await site.clients()
    peak = resident_mb(site.pid, "VmHWM")
    site.flood.close()
    await site.rest()
    after = settled_mb(site.pid, before + MORE)
    p99 = percentile(called, 0.99)
    print(f"{len(called)} calls, p99 {p99 * 1000:.1f} ms; {before:.0f}, {peak:.0f}, {after:.0f} MB")
    assert p99 < PROMPT * slowness()
    if after >= before + MORE:
        await flood()
        assert resident_mb(site.pid, "VmHWM") < peak + MORE
        site.flood.close()
        await site.rest()
    return held


@pytest.mark.requirement("4.clients.bounds")
@pytest.mark.parametrize("flooded", ["write_timeout"], indirect=True)
async def test_idle_connections_make_room_for_each_other(flooded: Site) -> None:
    held = await check(flooded, lambda: flooded.flood.open(IDLE, lambda _: b""))

    assert 1500 <= held["connections"]["held"] <= 1500 + 2
    assert held["connections"]["displaced"] == IDLE - 1500


@pytest.mark.requirement("4.clients.bounds")
@pytest.mark.parametrize("flooded", ["header_timeout"], indirect=True)
async def test_half_requests_are_cut_at_their_deadline(flooded: Site) -> None:
    async def flood() -> None:
        await flooded.flood.open(HALF, lambda _: b"POST /mcp/user HTTP/1.1\r\nHost: 127.0.0.1\r\nCont")
        await flooded.rest()  # though nobody closes them

    held = await check(flooded, flood)
    assert held["connections"]["displaced"] == 0


@pytest.mark.requirement("4.clients.bounds")
@pytest.mark.parametrize("flooded", ["write_timeout"], indirect=True)
async def test_readers_that_read_nothing_hold_no_more_than_their_share(flooded: Site) -> None:
    async with await flooded.dial("127.0.0.1") as client:
        session = await client.initialize("/mcp/big")
    peaks: list[int] = []

    async def flood() -> None:
        await flooded.flood.open(STALLED, lambda number: wanting(session, number), buffer=4096)
        while (clients := await flooded.clients())["calls"]["held"] > 1:
            peaks.append(clients["replies_bytes"]["held"])

    held = await check(flooded, flood)
    assert BUDGET / 2 < max(peaks) <= BUDGET
    assert held["replies_bytes"]["refused"] > 0


def wanting(session: Session, number: int) -> bytes:
    """A call whose reply is large."""
    body = json.dumps(call(number, "big", {"kib": KIB})).encode()
    fields = {
        "Host": "127.0.0.1",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Accept": "application/json, text/event-stream",
        **session.headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {session.path} HTTP/1.1\r\n{head}\r\n".encode() + body
