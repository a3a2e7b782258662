"""SIGHUP to a gateway under load, and what a reload leaves alone."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.processes import POLL, DidNotStart, free_port, let_run, marked
from tests.real.gateways import ENDING, BareClient, GatewayProcess, configured
from tests.runners.held import Held
from tests.runners.states import noted

pytestmark = pytest.mark.real

CLIENTS = 16
RELOADS = 10

GATED = """
import os
from mcpgateway.demo.server import serve_stdio
from mcpgateway.testing.fixture_server import FixtureServer

class Gated(FixtureServer):
    def call_tool(self, call):
        if call.text("name") == "gate":
            open(os.environ["GATE"]).read()
            return self._text(call, "open")
        return super().call_tool(call)

serve_stdio(Gated())
"""
"""The fixture server with one tool more: it answers when somebody has opened and closed a named pipe."""


def fixture(**env: str) -> dict[str, Any]:
    return {"command": sys.executable, "args": ["-m", "mcpgateway.testing.fixture_server"], "env": env}


class File:
    """The configuration file of a gateway, and how to have it read."""

    def __init__(self, folder: Path, running: GatewayProcess) -> None:
        self._path = folder / "mcp-gateway.json"
        self._running = running
        self._reloads = 0

    def reload(self, config: object, said: str = "reloaded: ") -> str:
        """Write it, SIGHUP, and wait for what the log says to that."""
        self._path.write_text(config if isinstance(config, str) else json.dumps(config))
        return self.again(said)

    def again(self, said: str = "reloaded: ") -> str:
        before = len(self._running.log.lines)
        self._running.process.send_signal(signal.SIGHUP)
        return self._running.log.wait_for(said, ENDING, after=before)


class Caller:
    """A client that calls one tool again and again, on one connection, in one session."""

    def __init__(self, url: str) -> None:
        self.calls = 0
        self.failures: list[str] = []
        self._called = threading.Event()
        self._client = BareClient(url, "/mcp/a")
        self._client.insist()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                text = self._client.call("echo", {"text": str(self.calls)})["content"][0]["text"]
                assert text == str(self.calls)
            except Exception as problem:
                self.failures.append(repr(problem))
                return
            self.calls += 1
            self._called.set()

    def go_on(self) -> None:
        """Wait for one call more."""
        self._called.clear()
        assert self._called.wait(ENDING), self.failures

    def end(self) -> None:
        self._over.set()
        self._thread.join()
        self._client.close()


def opened(path: Path) -> int:
    """The writing end of a named pipe, once somebody has opened the other one."""
    deadline = time.monotonic() + ENDING
    while True:
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            assert time.monotonic() < deadline
            let_run(POLL)


@pytest.mark.requirement("4.life.reload", "feature.123")
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_reloads_under_load_cost_what_did_not_change_nothing(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    mark = f"a of {tmp_path}"
    a, d = fixture(WHO=mark), {"command": sys.executable, "args": ["-c", GATED], "env": {"GATE": str(gate)}}

    def config(turn: int, *more: str) -> dict[str, Any]:
        possible = {"b": fixture(), "d": d}
        servers = {"a": a, "c": fixture(TURN=str(turn)), **{name: possible[name] for name in more}}
        return {"servers": servers, "shutdown_timeout": "20s"}

    with configured(tmp_path, config(0, "d"), "--log-level", "info") as running:
        file = File(tmp_path, running)
        callers = [Caller(running.url) for _ in range(CLIENTS)]
        with BareClient(running.url, "/mcp/c") as of_c:
            stream = of_c.listen()
            before = marked(f"WHO={mark}")
            for turn in range(1, RELOADS + 1):
                with BareClient(running.url, "/mcp/d") as of_d:
                    of_d.send("tools/call", {"name": "gate", "arguments": {}})
                    held = opened(gate)
                    said = file.reload(config(turn, "b"))
                    assert said.endswith("reloaded: 1 server added (b), 1 changed (c), 1 removed (d), 1 unchanged")
                    assert of_c.call("echo", {"text": "hi"})["content"][0]["text"] == "hi"
                    stream.wait_for(b"notifications/tools/list_changed")
                    os.close(held)
                    assert of_d.receive()["result"]["content"][0]["text"] == "open"
                file.reload(config(turn, "d"))
                for caller in callers:
                    caller.go_on()
            after = marked(f"WHO={mark}")
            stream.close()
        for caller in callers:
            caller.end()
        running.process.send_signal(signal.SIGTERM)
        assert running.ended() == 0

    assert [caller.failures for caller in callers] == [[]] * CLIENTS
    assert before == after != set()
    print(f"{sum(caller.calls for caller in callers)} calls, {2 * RELOADS} reloads")


@pytest.mark.requirement("4.life.reload", "4.life.files")
def test_a_bad_file_changes_nothing_flags_win_and_the_state_file_follows(tmp_path: Path) -> None:
    port = free_port()
    state = tmp_path / "state" / "gateway.json"
    config: dict[str, Any] = {"servers": {"a": fixture()}, "state_dir": "state", "listen": {"port": port}}
    with configured(tmp_path, config) as running:
        file = File(tmp_path, running)
        with BareClient(running.url, "/mcp/a") as client:
            file.reload("{", "not reloaded: ")
            file.reload({"servers": {"a": {"comand": "x"}}, "lsten": {}}, "not reloaded: ")
            (tmp_path / "mcp-gateway.json").unlink()
            file.again("no such file")
            file.reload({**config, "state_dir": "other"}, "reloaded: 1 server unchanged")
            assert client.call("echo", {"text": "hi"})["content"][0]["text"] == "hi"
        found = json.loads(state.read_text())
        assert (found["pid"], found["url"]) == (running.process.pid, running.url)
        assert not running.url.endswith(str(port))
        running.process.send_signal(signal.SIGTERM)
        assert running.ended() == 0
    assert not state.exists()
    said = str(running.log)
    problems = [line.partition("not reloaded: ")[2] for line in running.log.lines if "not reloaded: " in line]
    assert len(problems) == 4
    assert "needs one of 'command'" in problems[1]
    assert "did you mean 'listen'" in problems[2]
    assert all(problem.startswith(str(tmp_path / "mcp-gateway.json")) for problem in problems)
    assert "'state_dir' has changed, which takes effect at the next start" in said


@pytest.mark.requirement("4.life.reload", "4.life.files")
def test_what_says_that_it_has_reloaded_has_written_its_state_file(tmp_path: Path) -> None:
    """That is a pipe here, so that the gateway waits when it looks whose it is."""
    state = tmp_path / "state" / "gateway.json"
    with configured(tmp_path, {"servers": {}, "state_dir": "state"}) as running:
        noted(state.parent, running.process.pid)
        state.unlink()
        os.mkfifo(state)
        running.process.send_signal(signal.SIGHUP)
        running.log.wait_for("reloading the configuration", ENDING)
        looked = opened(state)
        with pytest.raises(DidNotStart):
            running.log.wait_for("reloaded: ", 0.1)
        os.close(looked)
        running.log.wait_for("reloaded: ", ENDING)
        assert json.loads(state.read_text())["pid"] == running.process.pid
        running.process.send_signal(signal.SIGTERM)
        assert running.ended() == 0
    assert list(state.parent.iterdir()) == []


@pytest.mark.requirement("4.life.reload")
def test_the_listener_moves_and_the_log_level_follows(tmp_path: Path) -> None:
    with configured(tmp_path, {"servers": {}}, "--port", "0") as running:
        file = File(tmp_path, running)
        said = file.reload({"servers": {}, "listen": {"host": "localhost"}}, "listening on ")
        assert "localhost" in said
        file.reload(
            {"servers": {}, "logging": {"level": "debug", "format": "json"}}, '"message": "reloaded: no servers"'
        )
        running.process.send_signal(signal.SIGTERM)
        assert running.ended() == 0


@pytest.mark.requirement("4.life.files")
def test_what_a_killed_gateway_left_is_replaced_and_a_second_one_is_warned_of(tmp_path: Path) -> None:
    state = tmp_path / "state" / "gateway.json"
    config = {"servers": {}, "state_dir": "state"}
    with configured(tmp_path, config) as killed:
        File(tmp_path, killed).again()
        killed.process.kill()
        killed.ended()
    assert json.loads(state.read_text())["pid"] == killed.process.pid
    with ExitStack() as both:
        first = both.enter_context(configured(tmp_path, config))
        noted(state.parent, first.process.pid)
        second = both.enter_context(configured(tmp_path, config))
        warning = second.log.wait_for("another gateway uses", ENDING)
        assert f"process {first.process.pid}, {first.url}" in warning
        second.process.send_signal(signal.SIGTERM)
        assert second.ended() == 0
        assert json.loads(state.read_text())["pid"] == first.process.pid


@pytest.mark.requirement("4.life.reload")
def test_of_two_signals_in_a_row_the_last_file_wins(tmp_path: Path) -> None:
    with configured(tmp_path, {"servers": {}}) as running:
        file = tmp_path / "mcp-gateway.json"
        for name in ("one", "two"):
            file.write_text(json.dumps({"servers": {name: fixture()}}))
            running.process.send_signal(signal.SIGHUP)
        running.log.wait_for("1 server added (two)", ENDING)
        with BareClient(running.url, "/mcp/two") as client:
            assert client.call("echo", {"text": "hi"})["content"][0]["text"] == "hi"
        running.process.send_signal(signal.SIGTERM)
        assert running.ended() == 0


class Terminal:
    """A gateway with a terminal of its own; with ``nohup`` it was started to outlive it."""

    def __init__(self, config: Path, *, nohup: bool) -> None:
        self.pid, self._terminal = os.forkpty()
        if self.pid == 0:
            if nohup:
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
            os.execv(sys.executable, [sys.executable, "-m", "runners.gateway", "--port", "0", "--config", str(config)])

    def close(self) -> None:
        os.close(self._terminal)

    def ended(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.requirement("4.life.drain")
@pytest.mark.parametrize("nohup", [False, True], ids=["attached", "nohup"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*forkpty:DeprecationWarning")  # the child calls exec at once
def test_a_terminal_that_is_closed_ends_the_gateway(nohup: bool, tmp_path: Path, held: Held) -> None:
    """SIGHUP is also what a terminal says when it goes, and then there is nobody left to reload for."""
    config, state = tmp_path / "c.json", tmp_path / "state" / "gateway.json"
    config.write_text(json.dumps({"servers": {"a": held.server()}, "state_dir": "state"}))
    terminal = Terminal(config, nohup=nohup)
    try:
        held.wait_until_up()
        before = wait_for_another(state, (0, 0))
        terminal.close()
        if nohup:
            wait_for_another(state, before)  # it has reloaded
            os.kill(terminal.pid, signal.SIGTERM)
        assert terminal.ended() == 0
        assert held.gone()
    except BaseException:
        os.kill(terminal.pid, signal.SIGKILL)
        raise


def wait_for_another(file: Path, former: tuple[int, int]) -> tuple[int, int]:
    """Wait until a file has been replaced; inode and time of the new one."""
    deadline = time.monotonic() + ENDING
    while time.monotonic() < deadline:
        try:
            status = file.stat()
        except FileNotFoundError:
            pass
        else:
            if (found := (status.st_ino, status.st_mtime_ns)) != former:
                return found
        let_run(POLL)
    raise AssertionError(f"{file} was not written in {ENDING:g} s")
