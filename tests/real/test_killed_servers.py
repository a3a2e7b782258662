"""A server that is killed every second under load: who notices, how soon, and what it is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
import trio

from tests.fronts.site import request
from tests.processes import free_port, wait_for_port
from tests.real.gateways import configured, environment
from tests.real.load import Called, calling, dial, every_second, lasting

pytestmark = [pytest.mark.real, pytest.mark.slow]

SECONDS: Final = float(os.environ.get("KILLING_SECONDS", "5"))
CLIENTS: Final = 16
SOON: Final = 0.1
"""Seconds after the end of a server within which its calls fail."""


def children_of(pid: int, words: str) -> list[int]:
    """The direct children of a process that have these words in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if parent == pid and words in command:
                found.append(int(entry.name))
    return found


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
            with trio.fail_after(20):
                (first,) = await listener.until(1)
                assert first["method"] == "notifications/resources/updated"
                await trio.to_thread.run_sync(kill)
                methods = set[str]()
                while not methods >= {"notifications/resources/updated", "notifications/tools/list_changed"}:
                    told = await listener.until(len(methods) + 2)
                    methods = {message["method"] for message in told[1:]}
            after = (await session.post(caller, request(3, "tools/list"))).json["result"]["tools"]
            return [tool["name"] for tool in before], [tool["name"] for tool in after]

    with configured(tmp_path, {"servers": {"news": server}}) as running:

        def kill_all() -> None:
            for pid in children_of(running.process.pid, "newsroom_server"):
                kill(pid)

        before, after = trio.run(listen, running.url, kill_all)

    assert after == [*before, f"{prefix}tool{len(before)}"]


async def under_load(url: str, path: str, tool: str, kill: Callable[[], None]) -> tuple[list[Called], list[float]]:
    """Call a tool from all clients while a server is killed every second; the calls, and when it was killed."""
    called, until = list[Called](), trio.Event()
    async with trio.open_nursery() as clients:
        for _ in range(CLIENTS):
            clients.start_soon(calling, url, path, tool, until, called)
        killed = await every_second(int(SECONDS), kill)
        await lasting(1, until)
    return called, killed


def check(called: list[Called], killed: list[float], reason: str) -> str:
    """Only calls that were in flight when the server was killed have failed, soon and with a reason."""
    failed = [each for each in called if each.problem]
    for each in failed:
        kills = [at for at in killed if each.began - SOON <= at <= each.ended]
        assert kills, f"failed although the server was not killed meanwhile: {each}"
        assert each.ended - kills[-1] <= SOON, f"failed only after {each.ended - kills[-1]:.3f} s: {each}"
        assert reason in each.problem
    # Those in flight, and a few more: a dying process takes connections a moment longer than it answers.
    assert len(failed) <= CLIENTS * len(killed) * 5 // 4
    assert len(called) - len(failed) > 100 * len(killed)
    last = max((each.ended - killed[0] for each in failed), default=0.0)
    waits = max(each.seconds for each in called if not each.problem)
    return (
        f"{len(called)} calls, {len(killed)} kills, {len(failed)} calls failed; "
        f"the longest wait of the others {waits:.2f} s; {last:.1f} s from the first kill to the last failure"
    )


@pytest.mark.requirement("4.shows.killed-server", "feature.38")
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="children are looked for in /proc")
def test_only_calls_in_flight_notice_that_a_child_is_killed(tmp_path: Path) -> None:
    server = {"command": sys.executable, "args": ["-m", "mcpgateway.testing.fixture_server"]}
    with configured(tmp_path, {"servers": {"killed": server}}) as running:

        def kill_all() -> None:
            for pid in children_of(running.process.pid, "fixture_server"):
                kill(pid)

        called, killed = trio.run(under_load, running.url, "/mcp/killed", "echo", kill_all)

    print(check(called, killed, "was killed by SIGKILL"))


@contextmanager
def kept_up(command: list[str], log: Path, env: Mapping[str, str]) -> Iterator[Callable[[], None]]:
    """A process that is there again as soon as it was killed, which the function that this gives does."""
    with log.open("wb") as output:

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(command, stdout=output, stderr=output, env=env)

        process = start()

        def kill() -> None:
            nonlocal process
            process.kill()
            process.wait()
            process = start()

        wait_for_port(int(command[-1]), process, log)
        try:
            yield kill
        finally:
            process.kill()
            process.wait()


@pytest.mark.requirement("4.shows.killed-server", "4.http.lost-session")
def test_only_calls_in_flight_notice_that_an_http_server_is_killed(tmp_path: Path) -> None:
    """In a merged namespace: what the server knew of sessions is gone with it, and the gateway opens them again."""
    port = free_port()
    command = [sys.executable, "-m", "tests.real.http_server", str(port)]
    with kept_up(command, tmp_path / "server.log", environment()) as kill_it:
        config = {"servers": {"killed": {"url": f"http://127.0.0.1:{port}/mcp"}}}
        with configured(tmp_path, config) as running:
            called, killed = trio.run(under_load, running.url, "/mcp", "killed_echo", kill_it)

    print(check(called, killed, "server 'killed'"))
