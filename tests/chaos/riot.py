"""A gateway process among real servers, what is done to them, and clients that drop at random; in real time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, Final

import attrs
import trio

from tests.fronts.site import Client, Session, call, request
from tests.processes import children_of, descriptors, free_port, wait_for_port
from tests.real.gateways import GatewayProcess, configured, environment
from tests.real.load import dial
from tests.real.pace import slowness

SECONDS: Final = float(os.environ.get("CHAOS_SECONDS", "10"))
CLIENTS: Final = 8
TIMEOUT: Final = 2.0
LONGEST: Final = 60.0
"""Seconds within which a call is answered, whatever happens: the deadline, a link to wait for, another attempt, and all
that others may do on this machine."""
IDLE: Final = 2
"""Seconds after which the session of a client that has gone ends."""
FRAGILE: Final = ("child", "web")
PATHS: Final = ("/mcp", "/mcp/child", "/mcp/web", "/mcp/steady")
TROUBLES: Final = (("kill child", "kill child", "stop child"), ("kill web", "restart web", "stop web"))
"""What happens to each server, one thing after the other."""
LOST: Final = "initialise again"
POOLED: Final = 4
"""Connections to the HTTP server that may be more than at another moment; what is left by each trouble would be dozens.
"""


class WebServer:
    """An HTTP server in a process of its own, which can be killed and started again."""

    def __init__(self, log: Path) -> None:
        self.port = free_port()
        self._log = log
        self.process = self._start()
        wait_for_port(self.port, self.process, log)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.real.http_server", str(self.port)]
        with self._log.open("ab") as output:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def restart(self) -> None:
        self.kill()
        self.process = self._start()

    def pids(self) -> list[int]:
        return [self.process.pid]


@contextmanager
def site(folder: Path) -> Iterator[tuple[GatewayProcess, WebServer]]:
    """Deadlines are short for the servers that something is done to; the other one has its time."""
    web = WebServer(folder / "web.log")
    fixture = {"command": sys.executable, "args": ["-m", "mcpgateway.testing.fixture_server"]}
    common = {"timeout": f"{TIMEOUT:g}s", "startup_timeout": "5s", "recovery": {"initial": "100ms", "maximum": "1s"}}
    config = {
        "servers": {
            "child": {**fixture, **common, "links": {"max": 3, "idle_timeout": "2s"}},
            "web": {"url": f"http://127.0.0.1:{web.port}/mcp", **common},
            "steady": {**fixture, "args": [*fixture["args"], "--era", "dual"], "links": {"idle_timeout": "2s"}},
        },
        "listen": {"limits": {"session_idle_timeout": f"{IDLE}s"}},
        "list_timeout": f"{slowness():.1f}s",
    }
    try:
        with configured(folder, config) as gateway:
            yield gateway, web
    finally:
        web.kill()


# ---- what is done to servers -----------------------------------------------------------------------------------------


async def trouble(kinds: Sequence[str], gateway: int, web: WebServer, dice: Random, done: Counter[str]) -> None:
    """Do something bad to a server every now and then."""
    while True:
        await trio.sleep(dice.uniform(0.2, 0.8))
        kind = dice.choice(kinds)
        done[kind] += 1
        pids = web.pids() if kind.endswith("web") else _of_child(gateway)
        if kind.startswith("stop"):
            _signal(pids, signal.SIGSTOP)
            try:
                await trio.sleep(dice.uniform(0.1, 1.5 * TIMEOUT))
            finally:
                _signal(pids, signal.SIGCONT)
        elif kind == "kill child":
            _signal(pids, signal.SIGKILL)
        else:
            web.kill()
            await trio.sleep(0 if kind == "restart web" else dice.uniform(0.1, 1.0))
            web.restart()


def _of_child(gateway: int) -> list[int]:
    """The processes of the server ``child``; those of ``steady`` say which era they speak."""
    return [pid for pid in children_of(gateway, "fixture_server") if pid not in children_of(gateway, "--era")]


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


# ---- what clients do -------------------------------------------------------------------------------------------------


@attrs.define
class Person:
    """One client after the other, all from the same place."""

    url: str
    name: str
    dice: Random
    seen: Counter[str]

    async def play(self, until: trio.Event) -> None:
        while not until.is_set():
            path = self.dice.choice(PATHS)
            async with await dial(self.url) as client:
                await self._visit(client, path)

    async def _visit(self, client: Client, path: str) -> None:
        modern = self.dice.random() < 0.3
        session = None if modern else await self._initialize(client, path)
        if session is None and not modern:
            return
        for number in range(1, self.dice.randint(2, 12)):
            dropped = self.dice.random() < 0.1
            with trio.move_on_after(self.dice.random() * 0.02 if dropped else LONGEST) as scope:
                if not await self._call(client, session, path, number):
                    return
            if scope.cancelled_caught:
                assert dropped, f"a call of {self.name} on {path} hangs"
                self.seen["dropped"] += 1
                return
        if session is not None and self.dice.random() < 0.5:
            assert (await client.ask("DELETE", path, headers=session.headers)).status in (200, 404)

    async def _initialize(self, client: Client, path: str) -> Session | None:
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "p", "version": "1"}}
        with trio.fail_after(LONGEST):
            answer = await client.post(path, request(0, "initialize", params))
        if answer.status == 200:
            return Session(path, answer.headers["mcp-session-id"], answer.json["result"])
        self._explained(path, json.loads(answer.body)["error"]["message"])
        return None

    async def _call(self, client: Client, session: Session | None, path: str, number: int) -> bool:
        """Make a call, and look at what comes; false where the session is lost."""
        server = path.rpartition("/")[2] if path != "/mcp" else self.dice.choice(("child", "web", "steady"))
        text = f"{self.name}-{number}-{self.dice.random()}"
        listing = self.dice.random() < 0.15
        tool = f"{server}_echo" if path == "/mcp" else "echo"
        message = request(number, "tools/list") if listing else call(number, tool, {"text": text})
        ask: Callable[[], Awaitable[Any]] = (
            (lambda: client.modern(path, message)) if session is None else (lambda: session.post(client, message))
        )
        answer = await ask()
        assert answer.body, f"{answer} to {message}"
        reply = _reply(answer.body, answer.headers)
        assert reply["id"] in (number, None), f"{reply} to {message}"
        if "error" in reply:
            self._explained(path if path != "/mcp" or listing else server, reply["error"]["message"])
            return bool(answer.status != 404)
        if not listing:
            assert reply["result"]["content"][0]["text"] == text
        elif server == "steady":
            assert any("echo" in each["name"] for each in reply["result"]["tools"])
        self.seen["listed" if listing else "answered"] += 1
        return True

    def _explained(self, where: str, problem: str) -> None:
        """A failure is one of a server that is in trouble, and says so."""
        self.seen[problem.partition(LAST_WORDS)[0]] += 1
        assert any(repr(name) in problem for name in FRAGILE) or LOST in problem, problem
        assert not where.endswith("steady"), f"{where} has failed: {problem}"


LAST_WORDS: Final = "; its last words"


def _reply(body: bytes, headers: dict[str, str]) -> dict[str, Any]:
    if headers["content-type"] == "text/event-stream":
        body = [line for line in body.splitlines() if line.startswith(b"data: {")][-1].removeprefix(b"data: ")
    reply: dict[str, Any] = json.loads(body)
    return reply


# ---- the run ---------------------------------------------------------------------------------------------------------


async def run(gateway: GatewayProcess, web: WebServer, seed: int) -> tuple[Counter[str], Counter[str]]:
    dice, seen, done, until = Random(seed), Counter[str](), Counter[str](), trio.Event()
    async with trio.open_nursery() as people, trio.open_nursery() as bad:
        for kinds in TROUBLES:
            bad.start_soon(trouble, kinds, gateway.process.pid, web, Random(dice.random()), done)
        for number in range(CLIENTS):
            people.start_soon(Person(gateway.url, f"p{number}", Random(dice.random()), seen).play, until)
        await trio.sleep(SECONDS)
        until.set()
        bad.cancel_scope.cancel(reason="enough")
    return seen, done


async def recovered(url: str, path: str) -> None:
    """Call a tool in a session of its own until there is an answer."""
    person, answered = Person(url, "last", Random(0), Counter()), False
    with trio.fail_after(90):
        while not answered:
            async with await dial(url) as client:
                session = await person._initialize(client, path)
                answered = session is not None and await person._call(client, session, path, 1)
            await trio.sleep(0.1)


async def health(url: str) -> dict[str, Any]:
    async with await dial(url) as client:
        found: dict[str, Any] = (await client.ask("GET", "/health")).json
        return found


@attrs.frozen
class Footprint:
    """What a process has."""

    children: int
    descriptors: int

    def fits(self, other: Footprint) -> bool:
        return self.children <= other.children and self.descriptors <= other.descriptors + POOLED


def footprint(pid: int) -> Footprint:
    return Footprint(len(children_of(pid)), descriptors(pid))


def rested(gateway: GatewayProcess, before: Footprint) -> tuple[Footprint, dict[str, Any]]:
    """What a gateway takes and says once it has come to rest, or after a while that should be enough for it."""
    until = time.monotonic() + 90
    while True:
        now, state = footprint(gateway.process.pid), trio.run(health, gateway.url)
        if (now.fits(before) and not state["sessions"]) or time.monotonic() > until:
            return now, state
        time.sleep(0.2)


def settled(gateway: GatewayProcess) -> Footprint:
    """What a gateway takes, once the sessions and links that nobody uses have ended."""
    until = time.monotonic() + 60
    while True:
        now, state = footprint(gateway.process.pid), trio.run(health, gateway.url)
        if not state["sessions"] and all(server["links"] <= 1 for server in state["servers"].values()):
            return now
        assert time.monotonic() < until, state
        time.sleep(0.2)
