"""``runners.service``: a gateway in the background as its user has it, and which runner and flags are meant."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from mcpgateway.config.dialects import Dialect
from mcpgateway.config.loading import Loaded
from mcpgateway.config.model import Config, Secret, UpstreamConfig
from runners import background, check, processes, service
from runners.__main__ import main
from runners.background import Record
from runners.statefile import State
from tests.processes import free_port
from tests.real.bridges import clouds
from tests.real.gateways import ENDING, BareClient, environment
from tests.runners.held import Held, closed_port
from tests.runners.states import noted

UPSTREAM = UpstreamConfig("cloud", Secret("wss://cloud.example/?token=hunter2"))


DESKTOP = Loaded(Config(), [], dialect=Dialect.DESKTOP)
ENDPOINT = {"MCP_ENDPOINT": "wss://cloud.example/"}


@pytest.mark.requirement("6.service")
@pytest.mark.parametrize(
    ("loaded", "env", "wanted", "runner"),
    [
        (Loaded(Config(), []), {}, None, "gateway"),
        (Loaded(Config(), []), ENDPOINT, None, "gateway"),
        (Loaded(Config(upstreams=(UPSTREAM,)), []), {}, None, "bridge"),
        (Loaded(Config(upstreams=(UPSTREAM,)), []), {}, "gateway", "gateway"),
        (DESKTOP, {}, None, "gateway"),
        (DESKTOP, ENDPOINT, None, "bridge"),
        (Loaded(Config(), []), {}, "bridge", "bridge"),
    ],
)
def test_a_configuration_with_upstreams_is_for_the_bridge(
    loaded: Loaded, env: dict[str, str], wanted: str | None, runner: str
) -> None:
    assert service.runner_of(loaded, env, wanted) == runner


@pytest.mark.requirement("6.service")
def test_what_dotenv_says_is_for_reading_and_left_to_the_bridge_to_hand_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MCP_ENDPOINT", raising=False)
    (tmp_path / ".env").write_text("MCP_ENDPOINT=wss://cloud.example/?token=hunter2\n")
    (tmp_path / "mcp_config.json").write_text('{"mcpServers": {"a": {"command": "x"}}}')
    flags = service._parser().parse_args(["start"])

    assert service.read(flags)[1] == "bridge"
    assert "MCP_ENDPOINT" not in os.environ


@pytest.mark.requirement("6.service")
@pytest.mark.parametrize(
    ("given", "checked"),
    [
        (["check", "-config", "c.json"], ["--config", "c.json"]),
        (["check-json", "-timeout", "60s"], ["--output", "json", "--timeout", "60s"]),
    ],
)
def test_check_is_handed_over(given: list[str], checked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def checked_with(arguments: list[str], find: object) -> int:
        seen.append(arguments)
        return 7

    monkeypatch.setattr(check, "main", checked_with)

    assert service.main(given) == 7
    assert seen == [checked]


@pytest.mark.requirement("6.service")
@pytest.mark.parametrize("command", ["check", "check-json"])
def test_a_check_has_the_variables_that_the_service_has(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of ``.env``; and a file of desktop clients is shown to ``MCP_ENDPOINT``, as the bridge does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {"HOME": str(tmp_path)})
    (tmp_path / ".env").write_text("MCP_ENDPOINT=wss://cloud.example/?token=hunter2\n")
    (tmp_path / "mcp_config.json").write_text(
        '{"mcpServers": {"a": {"command": "x", "disabled": true}, "b": {"command": "no-such-command"}}}'
    )

    assert service.main([command]) == 0
    said = capsys.readouterr().out
    assert "wss://cloud.example/?token=***" in said
    assert "hunter2" not in said


@pytest.mark.parametrize("given", [[], ["begin"], ["stop", "--port", "1"], ["logs", "-n", "many"]], ids=str)
def test_wrong_usage_ends_with_2(given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        service.main(given)

    assert ended.value.code == 2
    assert capsys.readouterr().err


@attrs.frozen
class Sleeper:
    """A process on record as the service of ``c.json``, and what to say of another one's."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def others(self) -> str:
        """The words for a command about ``d.json``."""
        return (
            f"process {self.process.pid} runs with {self.folder / 'c.json'}, not with {self.folder / 'd.json'}; "
            f"give each its own 'state_dir', for both have {self.folder / 'state'}\n"
        )

    def record(self, config: Path | None) -> None:
        found = processes.find(self.process.pid)
        assert found is not None
        record = Record(
            found.pid, found.born, "gateway", None if config is None else str(config), 1.0, "2026-01-01T00:00:00Z"
        )
        background.Place(self.folder / "state").write(record)


@pytest.fixture
def sleeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sleeper]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", {"HOME": str(tmp_path)})
    for name in ("c", "d"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"state_dir": "state"}))
    (tmp_path / "state").mkdir()
    with subprocess.Popen(["sleep", "60"]) as process:
        sleeper = Sleeper(process, tmp_path)
        sleeper.record(tmp_path / "c.json")
        yield sleeper
        process.kill()


@pytest.mark.requirement("6.service")
@pytest.mark.parametrize(
    ("command", "status"), [("start", 1), ("stop", 1), ("restart", 1), ("reload", 1), ("status", 3)]
)
def test_the_service_of_another_configuration_is_left_alone_and_both_are_named(
    command: str, status: int, sleeper: Sleeper, capsys: pytest.CaptureFixture[str]
) -> None:
    """They have one ``state_dir``, which by default all have."""
    assert service.main([command, "--config", "d.json"]) == status

    said = capsys.readouterr()
    assert said.err == sleeper.others
    assert said.out == ("not running\n" if command == "status" else "")
    assert sleeper.process.poll() is None


@pytest.mark.requirement("6.service")
@pytest.mark.parametrize("flags", [["--config", "x/../c.json"], ["--config=./c.json"]], ids=str)
def test_however_its_file_is_named_it_is_stopped(
    flags: list[str], sleeper: Sleeper, capsys: pytest.CaptureFixture[str]
) -> None:
    (sleeper.folder / "x").mkdir()

    assert service.main(["stop", *flags]) == 0
    assert capsys.readouterr().out == f"stopped: process {sleeper.process.pid}\n"
    assert sleeper.process.wait(10) == -signal.SIGTERM


@pytest.mark.requirement("6.service")
def test_one_whose_file_has_gone_is_ended_for_the_one_that_has_replaced_it(
    sleeper: Sleeper, capsys: pytest.CaptureFixture[str]
) -> None:
    """As an upload does with a file of another format."""
    (sleeper.folder / "c.json").unlink()

    assert service.main(["start", "--config", "d.json"]) == 1
    assert service.main(["reload", "--config", "d.json"]) == 1
    assert capsys.readouterr().err == 2 * sleeper.others
    assert service.main(["status", "--config", "d.json"]) == 0
    assert service.main(["stop", "--config", "d.json"]) == 0
    assert sleeper.process.wait(10) == -signal.SIGTERM


@pytest.mark.requirement("6.service")
@pytest.mark.parametrize("config", [None, "c.json"])
def test_where_no_configuration_is_named_or_found_it_is_what_runs(
    config: str | None, sleeper: Sleeper, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the usual directory. One that was started for ``--demo`` has no file either."""
    (sleeper.folder / "state").rename(sleeper.folder / "former")
    (sleeper.folder / ".local/state").mkdir(parents=True)
    (sleeper.folder / ".local/state/mcp-gateway").symlink_to(sleeper.folder / "former")
    (sleeper.folder / "state").symlink_to(sleeper.folder / "former")
    sleeper.record(None if config is None else sleeper.folder / config)

    if config is not None:
        assert service.main(["stop", "--demo"]) == 1
        assert f"runs with {sleeper.folder / config}, not with no file" in capsys.readouterr().err
    assert service.main(["status"]) == 0
    assert service.main(["stop"]) == 0
    assert sleeper.process.wait(10) == -signal.SIGTERM


def test_a_command_that_is_interrupted_ends_as_a_shell_says_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*given: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(service._COMMANDS, "logs", interrupted)

    assert service.main(["logs", "-f"]) == 130
    assert capsys.readouterr() == ("", "")


# ---- real processes --------------------------------------------------------------------------------------------------


@attrs.frozen
class Installed:
    """A directory with a configuration, in which commands are given."""

    folder: Path

    def __call__(self, *arguments: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "runners.service", *arguments],
            cwd=self.folder,
            env={**environment(), "HOME": str(home or self.folder)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    @contextmanager
    def foreground(self, says: str) -> Iterator[subprocess.Popen[str]]:
        """``run``, once it has said something and can be found; killed at the end if need be."""
        command = [sys.executable, "-m", "runners.service", "run"]
        started = subprocess.Popen(command, cwd=self.folder, env=environment(), stderr=subprocess.PIPE, text=True)
        assert started.stderr is not None
        with started:
            try:
                assert started.stderr.readline().startswith(says)
                noted(self.folder / "state", started.pid)
                yield started
            finally:
                started.kill()

    def configure(self, **keys: object) -> None:
        (self.folder / "mcp-gateway.json").write_text(json.dumps({"state_dir": "state", **keys}))

    @property
    def record(self) -> dict[str, object]:
        record: dict[str, object] = json.loads((self.folder / "state/service.json").read_text())
        return record

    @property
    def url(self) -> str:
        """Where a gateway of this directory listens that was started, and is up."""
        return noted(self.folder / "state", self.pid)

    @property
    def pid(self) -> int:
        pid = self.record["pid"]
        assert isinstance(pid, int)
        return pid


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Installed]:
    installed = Installed(tmp_path)
    yield installed
    try:
        os.kill(installed.pid, signal.SIGKILL)
    except OSError:
        pass


@pytest.mark.real
@pytest.mark.requirement("6.service", "feature.141", "feature.137")
def test_a_gateway_is_started_looked_at_used_restarted_and_stopped(installed: Installed, held: Held) -> None:
    installed.configure(listen={"port": 0}, servers={"held": held.server()}, shutdown_timeout="1s")

    nothing = installed("status")
    started = installed("start")
    pid, url = installed.pid, installed.url
    held.wait_until_up()
    with BareClient(url, "/mcp/held") as client:
        assert client.server_info["name"] == "fixture"
    again, status, logs = installed("start"), installed("status"), installed("logs", "-n", "1")
    restarted, second = installed("restart", "-log-level", "debug"), installed.pid
    stopped = installed("stop")
    gone = held.gone()
    ended = installed("status"), installed("stop")

    log = installed.folder / "state/service.log"
    assert (nothing.returncode, nothing.stdout) == (3, "not running\n")
    assert (started.returncode, started.stdout) == (0, f"started: process {pid}, gateway, log {log}\n")
    assert (again.returncode, again.stdout.partition(",")[0]) == (0, f"already running: process {pid}")
    assert status.returncode == 0
    assert status.stdout.startswith(f"running: process {pid}, ")
    assert " MB, up " in status.stdout
    assert f"  listening {url}\n  server    held: ready\n" in status.stdout
    assert logs.stdout == f"listening on {url}\n"
    assert restarted.returncode == 0
    assert restarted.stdout.startswith(f"stopped: process {pid}\nstarted: process {second}, ")
    assert (stopped.returncode, stopped.stdout) == (0, f"stopped: process {second}\n")
    assert gone, "a child has survived"
    assert [each.returncode for each in ended] == [3, 0]


@pytest.mark.real
@pytest.mark.requirement("6.service")
def test_of_two_starts_at_once_one_wins(installed: Installed) -> None:
    installed.configure(listen={"port": 0}, servers={})
    command = [sys.executable, "-m", "runners.service", "start"]
    starts = [
        subprocess.Popen(command, cwd=installed.folder, env=environment(), stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = sorted(start.communicate(timeout=300)[0].partition(":")[0] for start in starts)

    assert said == ["already running"] * 3 + ["started"]
    assert [start.returncode for start in starts] == [0] * 4
    assert installed("stop").stdout.startswith("stopped")


@pytest.mark.real
@pytest.mark.requirement("6.service")
def test_a_gateway_that_does_not_come_up_says_why(installed: Installed) -> None:
    """The port is taken: the last lines of the log say so, and nothing is left. A bad file is not even tried."""
    with BareListener() as port:
        installed.configure(listen={"port": port})
        failed = installed("start")
    installed.configure(serverz={})
    bad = installed("start")

    assert failed.returncode == 1
    assert "the gateway ended with status 2; the end of " in failed.stderr
    assert f"cannot listen on 127.0.0.1, port {port}" in failed.stderr
    assert bad.returncode == 2
    assert "unknown key 'serverz'" in bad.stderr
    assert not (installed.folder / "state/service.json").exists()


@pytest.mark.real
@pytest.mark.requirement("6.service")
def test_what_does_not_drain_is_killed_with_its_children(installed: Installed, held: Held) -> None:
    """The gateway itself hangs: it is stopped by a signal that nobody can ignore. No child of it is left."""
    installed.configure(listen={"port": 0}, servers={"held": held.server(stubborn=True)}, shutdown_timeout="0s")
    installed("start")
    held.wait_until_up()
    with BareClient(installed.url, "/mcp/held") as client:
        assert client.server_info["name"] == "fixture"
    os.kill(installed.pid, signal.SIGSTOP)

    stopped = installed("stop")

    assert stopped.returncode == 0
    assert "had not ended after 5 s" in stopped.stdout
    assert held.gone()
    assert installed("status").returncode == 3


@pytest.mark.real
@pytest.mark.requirement("6.service")
def test_a_gateway_that_died_is_told_and_can_be_started_again(installed: Installed) -> None:
    installed.configure(listen={"port": 0})
    installed("start")
    pid = installed.pid
    os.kill(pid, signal.SIGKILL)

    dead, started = installed("status"), installed("start")

    assert dead.returncode == 1
    assert dead.stdout.startswith(f"dead: process {pid} has ended although nobody stopped it; see ")
    assert started.returncode == 0
    assert installed("stop").returncode == 0


@pytest.mark.real
@pytest.mark.requirement("6.service")
def test_a_configuration_gone_bad_keeps_nobody_from_stopping(installed: Installed) -> None:
    """Of the service that runs with the usual directory; and a restart does not stop what it could not start again."""
    file = installed.folder / "mcp-gateway.json"
    file.write_text(json.dumps({"listen": {"port": 0}}))
    installed("start")
    pid = json.loads((installed.folder / ".local/state/mcp-gateway/service.json").read_text())["pid"]
    file.write_text("{")

    other = installed.folder / "other"
    other.mkdir()
    (other / "mcp-gateway.json").write_text('{"state_dir": "elsewhere", "serverz": {}}')
    elsewhere = Installed(other)("stop", home=installed.folder)
    restarted, status, stopped = installed("restart"), installed("status"), installed("stop")

    assert elsewhere.returncode == 2, "it is not that of this configuration, which says where its files are"
    assert "unknown key 'serverz'" in elsewhere.stderr
    assert restarted.returncode == 2
    assert status.stdout.startswith(f"running: process {pid}, ")
    assert stopped.stdout == f"stopped: process {pid}\n"


@pytest.mark.real
@pytest.mark.requirement("6.service")
def test_so_does_a_token_that_is_missing_where_the_file_has_a_directory_of_its_own(installed: Installed) -> None:
    installed.configure(listen={"port": 0}, servers={"a": {"command": "${TOKEN}", "enabled": False}})
    (installed.folder / "variables").write_text("TOKEN=hunter2\n")
    installed("start", "--environment-file", "variables")
    pid, url = installed.pid, installed.url

    refused, status, logs, stopped = installed("reload"), installed("status"), installed("logs"), installed("stop")

    assert (refused.returncode, "TOKEN is not set" in refused.stderr) == (2, True)
    assert status.stdout.startswith(f"running: process {pid}, ")
    assert logs.stdout == f"listening on {url}\n"
    assert stopped.stdout == f"stopped: process {pid}\n"


@pytest.mark.real
@pytest.mark.requirement("6.service")
def test_a_gateway_that_somebody_else_started_is_seen_and_left_alone(installed: Installed) -> None:
    installed.configure(listen={"port": 0})
    with installed.foreground("listening on ") as foreground:
        status, started, stopped = installed("status"), installed("start"), installed("stop")
        foreground.send_signal(signal.SIGINT)
        foreground.communicate(timeout=ENDING)

    assert foreground.returncode == 0
    assert status.returncode == 0
    assert status.stdout.startswith(f"running: process {foreground.pid}, ")
    assert "  runner    not started by this command\n  config    " in status.stdout
    assert "  listening http://127.0.0.1:" in status.stdout
    assert (started.returncode, "already running" in started.stderr) == (1, True)
    assert (stopped.returncode, "stop it where it was started" in stopped.stderr) == (1, True)


@pytest.mark.real
@pytest.mark.requirement("6.service")
def test_a_bridge_is_started_where_there_are_upstreams(installed: Installed) -> None:
    """It is up although its upstream is not: that is dialled for ever. The token is nobody's to see."""
    with closed_port() as port:
        upstream = {"name": "cloud", "endpoint": f"ws://127.0.0.1:{port}/?token=${{TOKEN}}"}
        installed.configure(servers={}, upstreams=[upstream])
        (installed.folder / ".env").write_text("TOKEN=hunter2\n")
        variables = ("--environment-file", ".env")

        started, silent = installed("start", *variables), installed("status", *variables)
        restarted, status = installed("restart", *variables, "-port", "0"), installed("status", *variables)
        logs, stopped = installed("logs", *variables), installed("stop", *variables)

    printed = [started, silent, restarted, status, logs, stopped]
    assert [each.returncode for each in printed] == [0] * len(printed), printed
    assert ", bridge, log " in started.stdout
    assert "  runner    bridge\n" in silent.stdout
    assert re.search(r"^  upstream  cloud: (dialling|waiting)( \(.*refused\))?$", silent.stdout, re.MULTILINE)
    assert "listening" not in silent.stdout
    assert "  listening http://127.0.0.1:" in status.stdout
    assert "  upstream  cloud: " in status.stdout
    assert "hunter2" not in "".join(each.stdout + each.stderr for each in printed)


@pytest.mark.real
@pytest.mark.requirement("6.service")
def test_a_bridge_that_somebody_else_started_is_seen_although_it_does_not_listen(installed: Installed) -> None:
    """By a service manager, say; and what a container asks for its health is the status."""
    with clouds() as far:
        upstream = {
            "name": "cloud",
            "endpoint": f"ws://127.0.0.1:{far.port}/ask/1/?token=hunter2",
            "namespace": "notes",
        }
        notes = {"command": sys.executable, "args": ["-m", "mcpgateway.demo.notes"]}
        installed.configure(servers={"notes": notes}, upstreams=[upstream])
        with installed.foreground("dialling cloud") as foreground:
            far.told('"initialize"')
            deadline = time.monotonic() + 30
            while "cloud: connected\n" not in (status := installed("status")).stdout:
                assert time.monotonic() < deadline, status
            foreground.send_signal(signal.SIGTERM)
            foreground.communicate(timeout=30)

    assert foreground.returncode == 0
    assert status.stdout.startswith(f"running: process {foreground.pid}, ")
    assert not (installed.folder / "state/gateway.json").exists()


@pytest.mark.real
@pytest.mark.requirement("6.service", "6.reload")
def test_a_token_is_replaced_in_its_file_and_a_reload_dials_with_it(installed: Installed) -> None:
    """Metrics have a listener of their own, so the status can tell how the upstream is."""
    with clouds() as far:
        upstream = {"name": "cloud", "endpoint": f"ws://127.0.0.1:{far.port}${{WHERE}}", "namespace": "notes"}
        notes = {"command": sys.executable, "args": ["-m", "mcpgateway.demo.notes"]}
        metrics = {"enabled": True, "port": free_port()}
        installed.configure(servers={"notes": notes}, upstreams=[upstream], metrics=metrics)
        file = installed.folder / "variables"
        variables = ("--environment-file", "variables")

        file.write_text("WHERE=/ask/1/\n")
        early, started = installed("reload", *variables), installed("start", *variables)
        far.told('"/ask/1/", "initialize"')
        status = installed("status", *variables)
        file.write_text("hunter2\n")
        bad = installed("reload", *variables)
        file.write_text("WHERE=/ask/2/\n")
        reloaded = installed("reload", *variables)
        far.told('"/ask/1/", "closed"')
        far.told('"/ask/2/", "initialize"')
        stopped = installed("stop", *variables)

    printed = [early, started, status, bad, reloaded, stopped]
    assert [each.returncode for each in printed] == [1, 0, 0, 2, 0, 0], printed
    assert early.stderr == "not running\n"
    assert f"  metrics   http://127.0.0.1:{metrics['port']}\n" in status.stdout
    assert "  upstream  cloud: connected\n" in status.stdout
    assert bad.stderr == "variables:1: expected NAME=value\n"
    assert reloaded.stdout.startswith("reloading: process ")


@pytest.mark.requirement("6.service")
def test_what_a_dead_gateway_left_behind_is_of_none_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its number is that of a living process now, which is none of ours."""
    (tmp_path / "mcp-gateway.json").write_text(json.dumps({"state_dir": "state"}))
    left = State(os.getpid(), "earlier", "", "", "1", "2026-01-01T00:00:00Z", None)
    (tmp_path / "state").mkdir()
    (tmp_path / "state/gateway.json").write_text(json.dumps(attrs.asdict(left)))
    monkeypatch.chdir(tmp_path)

    assert service.main(["status"]) == 3
    assert service.main(["stop"]) == 0
    assert capsys.readouterr().out == "not running\nnot running\n"


@pytest.mark.real
@pytest.mark.requirement("6.service")
def test_logs_are_followed(installed: Installed) -> None:
    installed.configure(listen={"port": 0})
    assert installed("logs").returncode == 1
    installed("start")
    command = [sys.executable, "-m", "runners.service", "logs", "-f", "-n", "1"]
    with subprocess.Popen(
        command, cwd=installed.folder, env=environment(), stdout=subprocess.PIPE, text=True
    ) as following:
        assert following.stdout is not None
        assert following.stdout.readline().startswith("listening on ")
        os.kill(installed.pid, signal.SIGHUP)
        assert "reloading the configuration" in following.stdout.readline()
        following.terminate()
        following.communicate(timeout=ENDING)
    installed("stop")


def test_the_console_script_knows_the_service(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["service", "-version"])

    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("mcpgateway ")


class BareListener:
    """A port that is taken."""

    def __enter__(self) -> int:
        self._socket = socket.create_server(("127.0.0.1", 0))
        port: int = self._socket.getsockname()[1]
        return port

    def __exit__(self, *_: object) -> None:
        self._socket.close()
