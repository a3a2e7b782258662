"""``runners.init``: files of each dialect, never over what is there, which load and run as they are."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mcpgateway.config import loading
from runners import environment, init, wheels
from runners.init import examples, main
from tests.real import gateways

SCRIPTS = ("run_local.example.sh", "deploy_remote.example.sh")
TOKEN = "wss://api.xiaozhi.me/mcp/?token=YOUR_TOKEN"


def written(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.requirement("6.init")
@pytest.mark.parametrize(
    ("dialect", "files"),
    [
        ("canonical", ["mcp-gateway.yaml"]),
        ("000", [".env.example", "configs/mcp_config.example.json", *sorted(SCRIPTS)]),
        ("mcp-pipe", [".env.example", "mcp_config.json"]),
    ],
)
def test_each_dialect_has_its_files_and_what_to_do_next(
    dialect: str, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-dialect", dialect, str(tmp_path / "new")]) == 0

    printed = capsys.readouterr().out
    assert written(tmp_path / "new") == sorted(files)
    assert all(f"written: {tmp_path / 'new' / file}\n" in printed for file in files)
    assert "\nnext:\n  " in printed
    assert init.PYTHON not in "".join((tmp_path / "new" / file).read_text() for file in files)


@pytest.mark.requirement("6.init")
def test_nothing_is_written_over_unless_that_is_wanted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mcp_config.json").write_text("mine")

    refused = main(["--dialect", "mcp-pipe", str(tmp_path)])

    assert refused == 1
    assert f"  {tmp_path / 'mcp_config.json'}\n" in capsys.readouterr().err
    assert written(tmp_path) == ["mcp_config.json"]
    assert (tmp_path / "mcp_config.json").read_text() == "mine"
    assert main(["--dialect", "mcp-pipe", "--force", str(tmp_path)]) == 0
    assert main(["--dialect", "mcp-pipe", str(tmp_path)]) == 0, "what is there already is the same"
    assert "mcpServers" in (tmp_path / "mcp_config.json").read_text()


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")

    assert main([str(tmp_path / "file" / "below")]) == 1
    assert "init: " in capsys.readouterr().err


@pytest.mark.requirement("6.init")
def test_the_canonical_example_loads_and_so_does_what_is_commented_out(tmp_path: Path) -> None:
    text = dict(examples("canonical"))["mcp-gateway.yaml"].decode()
    whole = re.sub(r"^# (.*[^.\n])$", r"\1", text, flags=re.MULTILINE)  # what is said there ends with a full stop

    loaded = loading.loads(text, name="example", format="yaml", env={})
    uncommented = loading.loads(whole, name="example", format="yaml", env={})

    assert loaded.warnings == uncommented.warnings == []
    assert [server.enabled for server in loaded.config.servers.values()] == [True, False, False]
    assert list(uncommented.config.namespaces) == ["work"]
    assert [upstream.name for upstream in uncommented.config.upstreams] == ["cloud"]


@pytest.mark.requirement("6.init")
@pytest.mark.parametrize("dialect", ["000", "mcp-pipe"])
def test_the_endpoint_goes_where_it_stays_out_of_the_configuration(dialect: str, tmp_path: Path) -> None:
    main(["--dialect", dialect, str(tmp_path)])
    subprocess.run(["cp", ".env.example", ".env"], cwd=tmp_path, check=True)  # as it says

    assert environment.read(tmp_path / ".env") == {"MCP_ENDPOINT": TOKEN}
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600


@pytest.mark.requirement("6.init")
@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_can_be_run_and_are_right(name: str, tmp_path: Path) -> None:
    main(["--dialect", "000", str(tmp_path)])
    script = tmp_path / name

    checked = subprocess.run(["sh", "-n", str(script)], capture_output=True, text=True)
    built = subprocess.run([str(script), "build"], capture_output=True, text=True)

    assert (checked.returncode, checked.stderr) == (0, "")
    assert (built.returncode, built.stdout) == (0, "nothing has to be built / 无需编译\n")
    assert init.interpreter() in script.read_text()
    assert Path(shlex.split(init.interpreter())[0]).samefile(sys.executable)


@pytest.mark.real
@pytest.mark.requirement("6.init", "feature.141")
def test_run_local_does_what_that_of_000_did(tmp_path: Path) -> None:
    main(["--dialect", "000", str(tmp_path)])
    shutil.copy(tmp_path / "run_local.example.sh", tmp_path / "run_local.sh")
    (tmp_path / ".env").write_text("PORT=0\n")
    config = {"listen": {"port": "${PORT}"}, "state_dir": "../state", "servers": {}}
    (tmp_path / "configs/mcp_config.json").write_text(json.dumps(config))

    def run_local(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(tmp_path / "run_local.sh"), command],
            cwd="/",
            env=gateways.environment(),
            capture_output=True,
            text=True,
            timeout=300,
        )

    done = {command: run_local(command) for command in ("start", "status", "check-json", "restart", "stop")}

    assert {command: each.returncode for command, each in done.items()} == dict.fromkeys(done, 0), done
    assert "running: process " in done["status"].stdout
    assert json.loads(done["check-json"].stdout)
    assert run_local("status").returncode == 3


@pytest.mark.real
@pytest.mark.requirement("6.init", "feature.144")
def test_a_wheel_brings_the_examples(tmp_path: Path) -> None:
    wheel = wheels.make(tmp_path)
    target = tmp_path / "installed"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)

    done = subprocess.run(
        [sys.executable, "-m", "runners.init", "--dialect", "000", "new"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "written: new/configs/mcp_config.example.json" in done.stdout
    assert written(tmp_path / "new") == sorted(name for name, _ in examples("000"))
