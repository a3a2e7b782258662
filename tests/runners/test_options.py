"""The options that every runner takes: spellings, versions, and how a configuration is found and complained about."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

import mcpgateway
from runners import check, gateway, options
from runners.__main__ import main


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nobody's configuration is in the way."""
    for variable in ("MCP_GATEWAY_CONFIG", "MCP_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["-config", "a.yaml", "-port=1"], ["--config", "a.yaml", "--port=1"]),
        (["--config", "a.yaml"], ["--config", "a.yaml"]),
        (["-h"], ["-h"]),
        (["--port", "-1"], ["--port", "-1"]),
        (["-", "--"], ["-", "--"]),
    ],
)
def test_long_flags_may_have_one_dash(given: list[str], meant: list[str]) -> None:
    assert options.two_dashes(given) == meant


@pytest.mark.requirement("6.check.flags")
@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["-check=true", "-version=1"], ["--check", "--version"]),
        (["-check=false", "--version=F"], []),
        (["-check=maybe", "--port=1"], ["--check=maybe", "--port=1"]),
    ],
)
def test_switches_may_have_a_truth_value_as_go_has_them(given: list[str], meant: list[str]) -> None:
    assert options.two_dashes(given) == meant


@pytest.mark.requirement("6.check.flags")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("30s", 30.0),
        ("30", 30.0),
        ("0.5", 0.5),
        ("500ms", 0.5),
        ("1m30s", 90.0),
        ("30s1m", 90.0),
        ("+.5s", 0.5),
        ("1d", 86400.0),
    ],
)
def test_a_time_is_a_duration_or_a_number_of_seconds(text: str, value: float) -> None:
    assert options.seconds(text) == value


@pytest.mark.parametrize("text", ["", "0", "0s", "-1", "-5s", "soon", "nan", "inf", "1e9"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        options.seconds(text)


@pytest.mark.requirement("6.check.flags")
@pytest.mark.parametrize("text", ["0", "0s", "0.0"])
def test_zero_may_stand_for_something(text: str) -> None:
    assert options.seconds(text, zero=30.0) == 30.0


@pytest.mark.requirement("feature.142")
@pytest.mark.parametrize("arguments", [["-version"], ["--version"], ["check", "--version"], ["gateway", "-version"]])
def test_version_is_told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 0
    assert capsys.readouterr().out == f"mcpgateway {mcpgateway.__version__}\n"


def test_help_tells_where_a_configuration_is_looked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])

    printed = capsys.readouterr().out
    assert ended.value.code == 0
    assert "MCP_GATEWAY_CONFIG" in printed
    assert "~/.config/mcp-gateway/config.yaml" in printed


@pytest.mark.parametrize("runner", [gateway.main, check.main], ids=["gateway", "check"])
def test_without_a_configuration_a_runner_says_what_to_do(
    runner: object, empty_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        runner([])  # type: ignore[operator]  # both are main functions

    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("no configuration file: give --config, set ")


def test_a_file_that_is_named_has_to_be_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        gateway.main(["--config", "gone.yaml"])

    assert ended.value.code == 2
    assert capsys.readouterr().err == "gone.yaml: no such file (named by --config)\n"


def test_the_file_in_the_working_directory_is_found(empty_home: Path) -> None:
    (empty_home / "mcp-gateway.json").write_text(json.dumps({"servers": {"a": {"command": "x"}}}))

    assert list(options.configuration(None).config.servers) == ["a"]


def test_demo_needs_no_configuration_and_adds_to_one_that_is_named(empty_home: Path) -> None:
    file = empty_home / "mcp-gateway.json"
    file.write_text(json.dumps({"servers": {"mine": {"command": "x"}, "clock": {"command": "own"}}}))

    alone = options.configuration(None, demo=True).config
    beside = options.configuration(file, demo=True).config

    assert list(alone.servers) == ["clock", "notes"]
    assert set(beside.servers) == {"clock", "notes", "mine"}
    assert beside.servers["clock"] != alone.servers["clock"]


def test_the_console_script_names_what_it_knows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bridg"]) == 2
    assert capsys.readouterr().err.startswith("mcp-gateway: unknown command 'bridg'; there are: gateway, bridge, ")


@pytest.mark.requirement("feature.151")
@pytest.mark.parametrize(
    "arguments", [["gateway", "--port", "0"], ["check"], ["stdio"]], ids=["gateway", "check", "stdio"]
)
def test_where_children_cannot_be_had_it_says_so(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stdio server on Windows."""
    monkeypatch.setattr("mcpgateway.adapters.stdio.sys", SimpleNamespace(platform="win32"))

    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--demo"])

    assert ended.value.code == 2
    assert "run the gateway in WSL" in capsys.readouterr().err


@pytest.mark.requirement("2.runner.check")
def test_the_gateway_hands_a_check_over_with_its_flags(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["-demo", "-check", "-output=json", "-explain"])

    assert status == 0
    assert list(json.loads(capsys.readouterr().out)["servers"]) == ["clock", "notes"]
