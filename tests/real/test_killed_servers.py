"""A server that is killed every second under load: who notices, how soon, and what it is told."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Final

import pytest
import trio

from tests.fronts.site import request
from tests.processes import children_of, free_port, wait_for_port
from tests.real.gateways import configured, environment
from tests.real.load import Called, Killed, calling, dial, killing, lasting
from tests.real.pace import slowness

pytestmark = [pytest.mark.real, pytest.mark.slow]

SECONDS: Final = float(os.environ.get("KILLING_SECONDS", "5"))
CLIENTS: Final = 16
SOON: Final = 0.1
"""Seconds after the end of a server within which its calls fail."""
STALL: Final = 20
"""How many times longer that may be at less than half of the kills: others use the machine, too."""


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


@pytest.mark.requirement("4.children.restart", "feature.38")
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="children are looked for in /proc")
@pytest.mark.parametrize("path", ["/mcp/news", "/mcp"])
def test_clients_of_a_child_that_was_killed_hear_on_and_hear_what_is_new(tmp_path: Path, path: str) -> None:
    """Their session goes on, their subscription is made again, and a list that differs has changed."""
    server = {
        "command": sys.executable,
        "args": ["-m", "tests.real.newsroom_server"],
        "env": {"STARTS": str(tmp_path / "starts")},
    }
    prefix = "" if path == "/mcp/news" else "news_"

    async def listen(url: str, kill: Callable[[], None]) -> tuple[list[str], list[str]]:
        async with await dial(url) as caller, await dial(url) as listener:
            session = await caller.initialize(path)
            await listener.start("GET", path, headers={**session.headers, "Accept": "text/event-stream"})
            before = (await session.post(caller, request(1, "tools/list"))).json["result"]["tools"]
            subscribed = await session.post(caller, request(2, "resources/subscribe", {"uri": "book://restarted/1"}))
            assert "result" in subscribed.json
            with trio.fail_after(60):
                (first,) = told = await listener.until(1)
                assert first["method"] == "notifications/resources/updated"
                await trio.to_thread.run_sync(kill)
                methods = set[str]()
                while not methods >= {"notifications/resources/updated", "notifications/tools/list_changed"}:
                    told = await listener.until(len(told) + 1)
                    methods = {message["method"] for message in told[1:]}
            after = (await session.post(caller, request(3, "tools/list"))).json["result"]["tools"]
            return [tool["name"] for tool in before], [tool["name"] for tool in after]

    with configured(tmp_path, {"servers": {"news": server}}) as running:

        def kill_all() -> None:
            for pid in children_of(running.process.pid, "newsroom_server"):
                kill(pid)

        before, after = trio.run(listen, running.url, kill_all)

    assert after == [*before, f"{prefix}tool{len(before)}"]


async def under_load(url: str, path: str, tool: str, kill: Callable[[], Killed]) -> tuple[list[Called], list[Killed]]:
    """Call a tool from all clients while a server is killed every second; the calls, and when it was killed."""
    called, until = list[Called](), trio.Event()
    async with trio.open_nursery() as clients:
        for _ in range(CLIENTS):
            clients.start_soon(calling, url, path, tool, until, called)
        killed = await killing(int(SECONDS), kill, called)
        await lasting(1, until)
    return called, killed


def check(called: list[Called], killed: list[Killed], reason: str, soon: float) -> str:
    """Only calls that were in flight when the server was killed have failed, soon and with a reason."""
    failed = [each for each in called if each.problem]
    late = dict.fromkeys(killed, 0.0)
    for each in failed:
        kills = [kill for kill in killed if kill.began <= each.ended and each.began <= kill.over + soon]
        assert kills, f"failed although the server was not killed meanwhile: {each}"
        late[kills[-1]] = max(late[kills[-1]], each.ended - kills[-1].over)
        assert reason in each.problem
    shown = f"{[f'{seconds * 1000:.1f}' for seconds in late.values()]} ms from a kill to the last failure"
    assert statistics.median(late.values()) <= soon, shown
    assert max(late.values()) <= soon * STALL, shown
    # Those in flight, and a few more: a dying process takes connections a moment longer than it answers.
    assert len(failed) <= 2 * CLIENTS * len(killed)
    assert len(called) - len(failed) > 2 * CLIENTS * len(killed)
    waits = max(each.seconds for each in called if not each.problem)
    return (
        f"{len(called)} calls, {len(killed)} kills, {len(failed)} calls failed; "
        f"the longest wait of the others {waits:.2f} s; {shown} of {soon * 1000:.0f}"
    )


@pytest.mark.requirement("4.shows.killed-server", "feature.38")
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="children are looked for in /proc")
def test_only_calls_in_flight_notice_that_a_child_is_killed(tmp_path: Path) -> None:
    server = {"command": sys.executable, "args": ["-m", "mcpgateway.testing.fixture_server"]}
    with configured(tmp_path, {"servers": {"killed": server}}) as running:

        def kill_all() -> Killed:
            pids = children_of(running.process.pid, "fixture_server")
            began = time.monotonic()
            for pid in pids:
                kill(pid)
            return Killed(began, time.monotonic())

        soon = SOON * slowness()
        called, killed = trio.run(under_load, running.url, "/mcp/killed", "echo", kill_all)

    print(check(called, killed, "was killed by SIGKILL", max(soon, SOON * slowness())))


class KeptUp:
    """A server that is there again as soon as it was killed: another one has been started by then, however long that
    takes, and only waits to be told."""

    def __init__(self, port: int, stack: ExitStack, output: IO[bytes]) -> None:
        self._port = port
        self._stack = stack
        self._output = output
        self.process = self._start()
        self._ready(self.process)
        self._serve(self.process)
        self._spare = self._start()

    def kill(self) -> Killed:
        self._ready(self._spare)
        began = time.monotonic()
        self.process.kill()
        self.process.wait()
        over = time.monotonic()
        self._serve(self._spare)
        self.process, self._spare = self._spare, self._start()
        return Killed(began, over)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.real.http_server", str(self._port), "--told"]
        pipe = subprocess.PIPE
        started = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._output, env=environment())
        self._stack.callback(started.communicate)
        self._stack.callback(started.kill)
        return started

    def _ready(self, started: subprocess.Popen[bytes]) -> None:
        assert started.stdout is not None
        assert started.stdout.readline() == b"ready\n"

    def _serve(self, started: subprocess.Popen[bytes]) -> None:
        assert started.stdin is not None
        started.stdin.write(b"now\n")
        started.stdin.flush()


@contextmanager
def kept_up(port: int, log: Path) -> Iterator[KeptUp]:
    with ExitStack() as stack:
        server = KeptUp(port, stack, stack.enter_context(log.open("wb")))
        wait_for_port(port, server.process, log)
        yield server


@pytest.mark.requirement("4.shows.killed-server", "4.http.lost-session")
def test_only_calls_in_flight_notice_that_an_http_server_is_killed(tmp_path: Path) -> None:
    """In a merged namespace: what the server knew of sessions is gone with it, and the gateway opens them again."""
    port = free_port()
    with kept_up(port, tmp_path / "server.log") as server:
        config = {"servers": {"killed": {"url": f"http://127.0.0.1:{port}/mcp"}}}
        with configured(tmp_path, config) as running:
            soon = SOON * slowness()
            called, killed = trio.run(under_load, running.url, "/mcp", "killed_echo", server.kill)

    print(check(called, killed, "server 'killed'", max(soon, SOON * slowness())))
