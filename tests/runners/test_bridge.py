"""``runners.bridge``: what it dials, when it listens as well, and what signals do."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from mcpgateway.config.loading import Loaded
from mcpgateway.config.model import Config, Metrics, Secret, UpstreamConfig
from mcpgateway.errors import ConfigError
from runners import bridge, serving
from tests.processes import free_port
from tests.real.bridges import bridge as bridging
from tests.real.bridges import clouds
from tests.real.gateways import ENDING, process
from tests.runners.held import Held

UPSTREAM = UpstreamConfig("cloud", Secret("ws://cloud.example/?token=t"))
LISTENS: dict[str, tuple[Config, frozenset[str], list[str], bool]] = {
    "nothing speaks of it": (Config(), frozenset({"upstreams"}), [], False),
    "the file does": (Config(), frozenset({"upstreams", "listen"}), [], True),
    "a flag does": (Config(), frozenset({"upstreams"}), ["--port", "0"], True),
    "metrics need it": (Config(metrics=Metrics(enabled=True)), frozenset(), [], True),
    "metrics have their own": (Config(metrics=Metrics(enabled=True, port=9090)), frozenset(), [], False),
    "metrics are off": (Config(metrics=Metrics(port=9090)), frozenset({"metrics"}), [], False),
}


def given(*flags: str) -> argparse.Namespace:
    return serving.parser("bridge", "").parse_args(flags)


@pytest.mark.requirement("6.bridge.listener")
@pytest.mark.parametrize("case", LISTENS)
def test_it_listens_only_where_somebody_asks_for_it(case: str) -> None:
    config, keys, flags, listens = LISTENS[case]
    config = Config(upstreams=(UPSTREAM,), metrics=config.metrics)

    assert bridge.listens(given(*flags), Loaded(config, [], keys)) is listens


@pytest.mark.parametrize(
    ("upstreams", "missing"),
    [
        ((), "set MCP_ENDPOINT, or name 'upstreams'"),
        ((UpstreamConfig("off", UPSTREAM.endpoint, enabled=False),), "none of 'upstreams' is enabled"),
    ],
)
def test_without_an_upstream_it_says_what_is_missing(upstreams: tuple[UpstreamConfig, ...], missing: str) -> None:
    config = Config(upstreams=upstreams, source="c.yaml")
    with pytest.raises(ConfigError, match=rf"c\.yaml: there is no upstream to dial: {missing} "):
        bridge.listens(given(), Loaded(config, []))


def test_a_file_without_upstreams_is_one_clear_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.json"
    file.write_text('{"servers": {}}')
    with pytest.raises(SystemExit) as ended:
        bridge.main(["-config", str(file)])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        f"{file}: there is no upstream to dial: set MCP_ENDPOINT, or name 'upstreams' "
        "(runners.gateway serves clients without)\n"
    )


@pytest.mark.parametrize("flag", ["-check", "--check"])
def test_it_hands_over_to_the_check(flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.json"
    file.write_text('{"servers": {}}')
    assert bridge.main([flag, "-config", str(file)]) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("flags", [["--demo", "clock"], ["script.py"]])
def test_a_target_needs_no_file(flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MCP_ENDPOINT", "wss://cloud.example/?token=t")
    (tmp_path / "script.py").touch()
    parser = serving.parser("bridge", "")
    parser.add_argument("target", nargs="?")

    config = bridge.find(parser.parse_args(flags)).config
    assert list(config.servers) == [flags[-1].removesuffix(".py")]


# ---- as a process ----------------------------------------------------------------------------------------------------


def config_of(port: int, path: str, held: Held, **keys: object) -> dict[str, Any]:
    upstream = {"name": "cloud", "endpoint": f"ws://127.0.0.1:{port}{path}?token=SECRET", "namespace": "slow"}
    return {"servers": {"slow": held.server()}, "upstreams": [upstream], **keys}


@pytest.mark.real
@pytest.mark.requirement("6.drain")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_it_says_goodbye_and_it_ends_with_0(number: signal.Signals, tmp_path: Path, held: Held) -> None:
    with clouds() as far, bridging(tmp_path, config_of(far.port, "/ask/1/", held)) as near:
        assert far.told('"initialize"')["ping"] == {}
        near.process.send_signal(number)
        assert far.told('"closed"')["closed"] == 1001
        assert near.ended() == 0
    assert near.log.lines[0] == "dialling cloud"
    assert "listening" not in str(near.log)
    assert "SECRET" not in str(near.log)
    assert held.gone()


@pytest.mark.real
@pytest.mark.requirement("6.drain")
def test_a_second_signal_ends_it_at_once(tmp_path: Path, held: Held) -> None:
    with clouds() as far:
        config = config_of(far.port, "/slow/1/", held, shutdown_timeout="60s")
        with bridging(tmp_path, config) as near:
            far.told('"slow is called"')
            near.process.send_signal(signal.SIGTERM)
            near.log.wait_for("finishing calls in flight", ENDING)
            near.process.send_signal(signal.SIGTERM)
            assert near.ended() == -signal.SIGTERM
    assert held.gone()


@pytest.mark.real
@pytest.mark.requirement("6.reload")
def test_sighup_dials_an_endpoint_that_has_changed_and_a_bad_file_changes_nothing(tmp_path: Path, held: Held) -> None:
    with clouds() as far, bridging(tmp_path, config_of(far.port, "/ask/1/", held)) as near:
        file = tmp_path / "mcp_config.json"
        far.told('"/ask/1/", "initialize"')
        file.write_text('{"servers": {}}')
        near.process.send_signal(signal.SIGHUP)
        near.log.wait_for("not reloaded: ", ENDING)
        file.write_text(json.dumps(config_of(far.port, "/ask/2/", held)))
        near.process.send_signal(signal.SIGHUP)
        assert far.told('"/ask/1/", "closed"')["closed"] == 1001
        assert far.told('"/ask/2/", "initialize"')["ping"] == {}
        near.process.send_signal(signal.SIGTERM)
        assert near.ended() == 0
    assert "SECRET" not in str(near.log)


@pytest.mark.real
@pytest.mark.requirement("6.upstreams")
def test_with_nothing_left_to_dial_it_ends_with_1_as_000_did(tmp_path: Path) -> None:
    """So that whatever watches over it starts it again; its token stays unsaid, and no state file is left."""
    clock = {"type": "stdio", "command": sys.executable, "args": ["-m", "mcpgateway.demo.clock"]}
    upstreams = [
        {
            "name": name,
            "endpoint": f"ws://127.0.0.1:{free_port()}/?token=SECRET",
            "reconnect": {"enabled": False},
            "mcpServers": {"clock": clock},
        }
        for name in ("one", "two")
    ]
    with bridging(tmp_path, {"upstreams": upstreams}, env={"HOME": str(tmp_path)}) as near:
        assert near.ended() == 1
    for name in ("one", "two"):
        near.log.wait_for(f"upstream '{name}': cannot connect: Connection refused; it is not dialled again", 1)
    near.log.wait_for("no upstream is dialled any more, and nothing listens: ended with status 1", 1)
    assert "SECRET" not in str(near.log)
    assert not (tmp_path / ".local/state/mcp-gateway/gateway.json").exists()


@pytest.mark.real
@pytest.mark.requirement("6.config")
@pytest.mark.parametrize("argument", [None, "clock", "script.py"])
def test_what_mcp_pipe_py_was_given_does(argument: str | None, tmp_path: Path) -> None:
    servers = {
        name: {"type": "stdio", "command": sys.executable, "args": ["-m", f"mcpgateway.demo.{name}"]}
        for name in ("clock", "notes")
    }
    (tmp_path / "mcp_config.json").write_text(json.dumps({"mcpServers": servers}))
    (tmp_path / "script.py").write_text(
        "import runpy\nrunpy.run_module('mcpgateway.demo.clock', run_name='__main__')\n"
    )
    with clouds() as far:
        endpoint = f"ws://127.0.0.1:{far.port}/ask/1/?token=SECRET"
        (tmp_path / ".env").write_text(f"MCP_ENDPOINT='{endpoint}'\n")
        arguments = [argument] if argument else []
        with process("runners.bridge", *arguments, cwd=tmp_path, says="dialling ") as near:
            tools = far.told('"tools"')["tools"]
            near.process.send_signal(signal.SIGTERM)
            assert near.ended() == 0
    assert "now" in tools
    assert ("search" in tools) is (argument is None)
    assert "SECRET" not in str(near.log)
