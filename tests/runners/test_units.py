"""Units of systemd: what stands in one, that it is quoted, where it goes, and what systemd itself says of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpgateway.errors import ConfigError
from runners import units
from runners.service import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration whose path needs quoting, in a home of its own."""
    folder = tmp_path / 'my "100%" $HOME'
    folder.mkdir()
    (folder / "mcp-gateway.yaml").write_text("shutdown_timeout: 7s\nservers: {}\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("XDG_CONFIG_HOME", "MCP_CONFIG", "MCP_GATEWAY_CONFIG", "SUDO_USER"):
        monkeypatch.delenv(variable, raising=False)
    return folder


@pytest.mark.requirement("6.service", "feature.137")
def test_a_unit_ends_children_reloads_and_does_not_repeat_a_bad_configuration(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "env").write_text("KEY=hunter2\n")
    assert main(["install", "-print", "-system", "-run-as", "gate", "-port", "1", "-environment-file", "env"]) == 0

    lines = capsys.readouterr().out.splitlines()
    quoted = str(folder).replace("%", "%%")
    in_command = quoted.replace('"', '\\"').replace("$", "$$")
    (command,) = [line for line in lines if line.startswith(f'ExecStart="{sys.executable}" ')]
    assert command.endswith(
        f'"-m" "runners.gateway" "--config" "{in_command}/mcp-gateway.yaml"'
        f' "--environment-file" "{in_command}/env" "--port" "1"'  # which a reload reads again
    )
    assert f"WorkingDirectory={quoted}" in lines
    for line in (
        "Type=notify",
        "User=gate",
        "KillMode=mixed",
        "TimeoutStopSec=12",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "Restart=on-failure",
        "RestartPreventExitStatus=2",
        "NoNewPrivileges=yes",
        "ProtectSystem=full",
        "WantedBy=multi-user.target",
    ):
        assert line in lines
    assert not any(line.startswith(("MemoryDenyWriteExecute", "ProtectHome", "RestrictNamespaces")) for line in lines)


@pytest.mark.requirement("6.service")
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here to say what it thinks")
@pytest.mark.parametrize("whose", ["--user", "--system"])
def test_systemd_finds_nothing_wrong(
    whose: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "env").write_text("MCP_ENDPOINT=wss://cloud.example/?token=hunter2\n")
    main(["install", "--print", whose, "--environment-file", "env", "--log-level", "debug"])
    unit = tmp_path / "verified.service"
    unit.write_text(capsys.readouterr().out)

    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True)

    assert "hunter2" not in unit.read_text()
    said = [line for line in done.stderr.splitlines() if "verified.service" in line]
    assert [line for line in said if "Special user nobody" not in line] == []  # as who the tests may run
    assert done.returncode == 0


@pytest.mark.requirement("6.service")
def test_it_is_written_where_the_users_manager_looks_but_not_over_somebody_elses(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / ".config/systemd/user/mcp-gateway.service"

    assert main(["install", "--user"]) == 0
    assert main(["install", "--user"]) == 0, "its own is written anew"
    said = capsys.readouterr().out
    assert path.read_text().startswith(units.MARK)
    assert f"written: {path}" in said
    assert "systemctl --user enable --now mcp-gateway" in said

    path.write_text("[Service]\n")
    with pytest.raises(SystemExit) as ended:
        main(["install", "--user"])
    assert ended.value.code == 2
    assert "--force writes over it" in capsys.readouterr().err
    assert path.read_text() == "[Service]\n"
    assert main(["install", "--user", "--force"]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--name", "../x"], "is no name of a unit"),
        (["--environment-file", "none"], "none: cannot be read: No such file"),
        (["--config", "none.yaml"], "none.yaml: no such file"),
        (["--flag", "two\nlines"], "cannot stand in a unit"),
    ],
)
def test_what_is_bad_is_told_and_nothing_written(
    arguments: list[str], said: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["install", "--user", *arguments])

    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / ".config").exists()


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1))
def test_quoting_is_undone_by_the_rules_of_systemd(text: str) -> None:
    """Backwards: specifiers, variables, escapes (systemd.unit(5), systemd.service(5))."""
    assert unquoted(units.quoted(text)) == text


def unquoted(text: str) -> str:
    assert text[0] == text[-1] == '"'
    plain, rest = "", text[1:-1]
    while rest:
        pair = {"%%": "%", "$$": "$", "\\\\": "\\", '\\"': '"'}.get(rest[:2])
        assert pair is not None or rest[0] not in '%$\\"'
        plain, rest = plain + (pair or rest[0]), rest[2 if pair is not None else 1 :]
    return plain


@pytest.mark.parametrize("text", ["a\nb", "a\0b", "\x1b"])
def test_what_no_unit_can_hold_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        units.quoted(text)


def test_a_system_unit_goes_to_the_system_and_a_users_below_its_configuration() -> None:
    home = Path("/home/x")

    assert units.directory(True, {}, home) == Path("/etc/systemd/system")
    assert units.directory(False, {}, home) == Path("/home/x/.config/systemd/user")
    assert units.directory(False, {"XDG_CONFIG_HOME": "/x"}, home) == Path("/x/systemd/user")
