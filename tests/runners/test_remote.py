"""``runners.remote``: what it asks of the ssh client, and a whole deployment over a real one, on loopback."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from mcpgateway.config.model import LoginShellMode
from mcpgateway.wire.login_path import is_wanted
from runners import remote
from runners.remote import Host
from tests.processes import free_port
from tests.real.gateways import BareClient, environment
from tests.runners.held import closed_port, none_left
from tests.runners.sshd import Sshd, sshd

SECRET = "hunter2"
HOSTILE = '/srv/it\'s "here"; touch hacked; $(touch hacked) `touch hacked` ü\nnext'


@pytest.fixture
def double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ssh client that notes its arguments, and gives the last one to a shell of this machine, as sshd would."""
    folder = tmp_path / "bin"
    folder.mkdir()
    client = folder / "ssh"
    client.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        f"open({str(tmp_path / 'asked')!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
        "os.execvp('sh', ['sh', '-c', sys.argv[-1]])\n"
    )
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "asked"


def asked(double: Path) -> list[list[str]]:
    return [json.loads(line) for line in double.read_text().splitlines()]


@pytest.mark.requirement("6.remote")
def test_what_was_given_never_becomes_part_of_a_program(double: Path, tmp_path: Path) -> None:
    """A directory with everything in it that a shell could take for its own comes out as it went in."""
    command = Host("host").command('printf "%s|" "$@"', HOSTILE, "", "-n", "*")

    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert done.stdout == f"{HOSTILE}||-n|*|"
    assert not (tmp_path / "hacked").exists()


@pytest.mark.requirement("6.remote")
def test_the_client_is_given_options_and_then_the_destination(double: Path, capfd: pytest.CaptureFixture[str]) -> None:
    flags = ["-port", "2222", "-identity", "key", "-ssh-option", "BatchMode=yes", "--ssh-option", "Compression=yes"]

    status = remote.main(["status", "me@host", "--directory", "nowhere; touch hacked", *flags])

    (arguments,) = asked(double)
    assert status == 1
    assert arguments[:-1] == [
        *("-o", "BatchMode=yes", "-o", "Compression=yes", "-p", "2222", "-i", "key", "-T", "--", "me@host")
    ]
    assert "nowhere; touch hacked" in capfd.readouterr().err
    assert not (double.parent / "hacked").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["status", "--", "-oProxyCommand=touch hacked"], "is no USER@HOST"),
        (["status", "host", "--directory", ""], "--directory must name a directory"),
        (["upload", "host", "--config", "none.json"], "none.json: no such file"),
        (["upload", "host", "--environment-file", "none"], "none: cannot be read"),
        (["upload", "host", "--wheel", "none.whl"], "none.whl: No such file"),
        (["dance", "host"], "invalid choice"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_wrong_usage_ends_with_2_and_reaches_nobody(
    arguments: list[str], said: str, double: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        remote.main(arguments)

    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not double.exists()


@pytest.mark.requirement("6.remote")
def test_secrets_travel_on_standard_input_and_lie_there_for_the_owner_alone(
    double: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With a wheel that cannot be installed, so that this ends there; what was uploaded before is still in use."""
    there = tmp_path / "there"
    (tmp_path / "c.json").write_text(json.dumps({"servers": {"a": {"command": "x", "env": {"KEY": SECRET}}}}))
    (tmp_path / ".env").write_text(f"TOKEN={SECRET}\n")
    (tmp_path / "no.whl").write_bytes(b"")
    there.mkdir()
    (there / "mcp-gateway.yaml").write_text("servers: {}\n")
    flags = ["--directory", str(there), "--config", "c.json", "--environment-file", ".env", "--wheel", "no.whl"]

    failed = remote.main(["upload", "host", *flags, "--python", "no-such-python"])
    wanted = sorted(path.name for path in there.iterdir())
    version = next(iter(asked(double)))[-1].split()[-2]
    (there / f"venv-{version}").mkdir()
    (there / f"venv-{version}" / ".complete").touch()
    uploaded = remote.main(["upload", "host", *flags])

    printed = capfd.readouterr()
    assert failed == 1
    assert "no Python 3.11 or newer there; looked for: no-such-python" in printed.err
    assert wanted == ["mcp-gateway.yaml"], "nothing has changed"
    assert uploaded == 0
    assert printed.out == f"uploaded: {there}\n"
    assert sorted(path.name for path in there.iterdir()) == [".env", "mcp-gateway.json", "venv", f"venv-{version}"]
    assert {(there / name).stat().st_mode & 0o777 for name in (".env", "mcp-gateway.json")} == {0o600}
    assert SECRET not in double.read_text() + printed.out + printed.err


@pytest.mark.requirement("6.remote")
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_what_is_started_there_asks_the_login_shell_where_commands_are(
    shell: str, double: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The shell of sshd is no login shell: with its PATH alone nobody finds what ``~/.local/bin`` has."""
    python = tmp_path / "venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!{sys.executable} -I\nimport json, os\nprint(json.dumps(dict(os.environ)))\n")
    python.chmod(0o755)
    client = tmp_path / "bin/ssh"
    client.write_text(client.read_text().replace("'sh'", repr(shell)))
    monkeypatch.setenv("TERM", "xterm")

    assert remote.main(["start", "host", "--directory", str(tmp_path)]) == 0
    environ = json.loads(capfd.readouterr().out)
    assert is_wanted(LoginShellMode.AUTO, {**environ, "PATH": "/usr/bin:/bin"})


# ---- a real one ------------------------------------------------------------------------------------------------------


@attrs.frozen
class Deployed:
    """A directory on "another" machine, and the commands that are given about it."""

    folder: Path
    server: Sshd

    def __call__(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(sys.executable, "-m", "runners.remote", command, f"{getpass.getuser()}@127.0.0.1"),
                *("--directory", str(self.folder / "my there"), *self.server.flags, *arguments),
            ],
            cwd=self.folder,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

    def configure(self, **keys: object) -> str:
        path = self.folder / "here.json"
        path.write_text(json.dumps({"state_dir": str(self.folder / "state"), **keys}))
        return str(path)


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployed]:
    registry = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or "proxy" in name.lower()}
    with sshd(tmp_path, {"MARK": str(tmp_path), **registry}) as server:
        deployed = Deployed(tmp_path, server)
        yield deployed
        deployed("stop")


@pytest.mark.real
@pytest.mark.requirement("6.remote", "feature.140")
def test_a_gateway_is_deployed_over_ssh_looked_at_changed_and_stopped(deployed: Deployed, tmp_path: Path) -> None:
    """Installed from the registry once; the second deployment brings another configuration and nothing else."""
    port, later = free_port(), free_port()
    server = {"command": "${SERVER_PYTHON}", "args": ["-m", "mcpgateway.demo.clock", f"--note={SECRET}"]}
    (tmp_path / "variables").write_text(f"SERVER_PYTHON={tmp_path}/my there/venv/bin/python\n")
    flags = ("--environment-file", str(tmp_path / "variables"), "--python", sys.executable)

    nothing = deployed("status")
    first = deployed(
        *("deploy", "--config", deployed.configure(listen={"port": port}, servers={"clock": server}), *flags)
    )
    with BareClient(f"http://127.0.0.1:{port}", "/mcp/clock") as client:
        tools = [tool["name"] for tool in client.request("tools/list")["result"]["tools"]]
    status, logs = deployed("status"), deployed("logs", "-n", "1")
    second = deployed("deploy", "--config", deployed.configure(listen={"port": later}, servers={"clock": server}))
    with BareClient(f"http://127.0.0.1:{later}", "/mcp/clock") as client:
        assert client.server_info["name"] == "clock"
    stopped, after = deployed("stop"), deployed("status")

    printed = "".join(each.stdout + each.stderr for each in (first, status, logs, second, stopped))
    assert (nothing.returncode, "nothing was uploaded" in nothing.stderr) == (1, True)
    assert first.returncode == 0, first.stderr
    assert "installed: " in first.stdout
    assert tools == ["now", "convert"]
    assert status.returncode == 0
    assert f"listening http://127.0.0.1:{port}" in status.stdout
    assert logs.stdout == f"listening on http://127.0.0.1:{port}\n"
    assert second.returncode == 0
    assert "installed: " not in second.stdout
    assert "stopped: process" in second.stdout
    assert (stopped.returncode, after.returncode) == (0, 3)
    assert SECRET not in printed
    if sys.platform == "linux":
        assert none_left(f"MARK={tmp_path}"), "something has survived"


@pytest.mark.real
@pytest.mark.requirement("6.remote")
def test_a_machine_that_cannot_be_reached_is_told_with_255(deployed: Deployed) -> None:
    with closed_port() as port:
        closed = deployed("status", "--ssh-option", f"Port={port}", "--port", str(port))

    assert closed.returncode == 255
    assert "Connection refused" in closed.stderr
