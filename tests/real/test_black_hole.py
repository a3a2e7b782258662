"""One of ten servers swallows everything: at the connection, after the head of a response, and within its body."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from tests.fronts.site import request
from tests.processes import free_port, running, wait_for_port
from tests.real.gateways import ENDING, GatewayProcess, configured, environment
from tests.real.load import PATIENCE, Called, begun, calling, dial, lasting, one, percentile, until_well

pytestmark = [pytest.mark.real, pytest.mark.slow]

SERVERS: Final = 10
LIST_TIMEOUT: Final = 2.0
LATEST: Final = 10.0
"""Seconds that no listing may take, whatever else the machine does."""
WITHIN: Final = 1.2
"""What the p99 of calls to the other servers may be of what it was."""
ROUNDS: Final = 8
"""Measurements of which one has to be good: what others do on this machine meanwhile is not meant."""
SECONDS: Final = 1.5
"""How long one measurement takes."""
HANGING: Final = 16
"""Calls that wait for the bad server meanwhile."""

Switch = Callable[[str], None]


@contextmanager
def ten_servers(folder: Path) -> Iterator[tuple[GatewayProcess, Switch]]:
    """A gateway over ten servers, and what switches the mode of the last one."""
    ports = [free_port() for _ in range(SERVERS)]
    hole = free_port()
    log = folder / "servers.log"
    command = [sys.executable, "-m", "tests.real.http_server", *map(str, ports)]
    with running(command, log, env=environment()) as servers:
        for port in ports:
            wait_for_port(port, servers, log)
        relay = subprocess.Popen(
            [sys.executable, "-m", "tests.real.black_hole", str(hole), str(ports[-1])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        assert relay.stdin is not None
        assert relay.stdout is not None
        stdin, stdout = relay.stdin, relay.stdout

        def switch(mode: str) -> None:
            stdin.write(f"{mode}\n")
            stdin.flush()
            assert stdout.readline().strip() == mode

        try:
            switch("good")
            urls = [*ports[:-1], hole]
            config = {
                "servers": {f"s{index}": {"url": f"http://127.0.0.1:{port}/mcp"} for index, port in enumerate(urls)},
                "list_timeout": f"{LIST_TIMEOUT:g}s",
            }
            with configured(folder, config) as gateway:
                yield gateway, switch
        finally:
            stdin.close()
            stdout.close()
            relay.wait(ENDING)


async def listing(url: str, capabilities: dict[str, object]) -> tuple[float, dict[str, Any]]:
    """A listing by a new client: how long it took, and what came."""
    async with await dial(url) as client:
        session = await client.initialize("/mcp", capabilities)
        began = time.monotonic()
        answer = await session.post(client, request(1, "tools/list"))
        return time.monotonic() - began, answer.json["result"]


async def measure(url: str) -> float:
    """The p99 of calls to the nine, each by a client of its own."""
    called, until = list[Called](), trio.Event()
    async with trio.open_nursery() as clients:
        for index in range(SERVERS - 1):
            clients.start_soon(lambda tool: calling(url, "/mcp", tool, until, called, think=0.005), f"s{index}_echo")
        await begun(called)
        await lasting(SECONDS, until)
    assert [each.problem for each in called if each.problem] == []
    return percentile(called, 0.99)


async def hang(url: str, *, task_status: trio.TaskStatus[None]) -> None:
    """A client that calls the bad server; it is started when it has shaken hands, which costs the others more."""
    async with await dial(url) as client:
        session = await client.initialize("/mcp")
        task_status.started()
        with trio.move_on_after(PATIENCE / 2):
            await one(client, session, 1, f"s{SERVERS - 1}_echo", {"text": "x"}, expect=None)


async def compare(url: str, mode: str, switch: Switch) -> str:
    """Hold both measurements beside each other until they agree, and listings are in time; what these say is looked at
    each time."""
    ratios, listings = list[float](), list[list[tuple[float, set[str]]]]()
    for number in range(ROUNDS):
        before = await measure(url)
        switch(mode)
        async with trio.open_nursery() as hanging:
            async with trio.open_nursery() as starting:
                for _ in range(HANGING):
                    starting.start_soon(hanging.start, hang, url)
            ratios.append(await measure(url) / before)
            new: dict[str, object] = {"roots": {}, "experimental": {f"{mode}{number}": {}}}
            known: dict[str, object] = {}
            listings.append([])
            for capabilities in known, new:
                took, got = await listing(url, capabilities)
                missing = set(got["_meta"]["io.github.mcpgateway/missing"])
                listings[-1].append((took, missing))
                assert took <= LATEST
                assert f"s{SERVERS - 1}" in missing
                there = {f"s{index}" for index in range(SERVERS)} - missing
                assert {f"{name}_echo" for name in there} <= {tool["name"] for tool in got["tools"]}
            hanging.cancel_scope.cancel(reason="enough")
        switch("good")
        await until_well(url, "/mcp", f"s{SERVERS - 1}_echo")
        in_time = all(took <= LIST_TIMEOUT and len(missing) == 1 for took, missing in listings[-1])
        if ratios[-1] <= WITHIN and in_time:
            return f"{mode}: p99 of the nine {ratios[-1]:.2f} x of {before * 1000:.1f} ms; a listing {took:.2f} s"
    raise AssertionError(f"{mode}: the p99 of the nine was {ratios} x of what it was; listings: {listings}")


@pytest.mark.requirement("4.shows.black-hole", "4.bulkheads")
def test_the_nine_others_do_not_notice(tmp_path: Path) -> None:
    with ten_servers(tmp_path) as (gateway, switch):
        trio.run(listing, gateway.url, {})
        for mode in ("connect", "headers", "body"):
            print(trio.run(compare, gateway.url, mode, switch))
