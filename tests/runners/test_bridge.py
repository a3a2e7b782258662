"""``runners.bridge``: what it dials, when it listens as well, and what signals do."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mcpgateway.config.loading import Loaded
from mcpgateway.config.model import Config, Metrics, Secret, UpstreamConfig
from mcpgateway.errors import ConfigError
from runners import bridge, serving
from tests.processes import free_port
from tests.real import gateways
from tests.real.bridges import bridge as bridging
from tests.real.bridges import clouds
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


@pytest.mark.parametrize("upstreams", [(), (UpstreamConfig("off", UPSTREAM.endpoint, enabled=False),)])
def test_without_an_upstream_it_says_what_is_missing(upstreams: tuple[UpstreamConfig, ...]) -> None:
    config = Config(upstreams=upstreams, source="c.yaml")
    with pytest.raises(ConfigError, match=r"c\.yaml: there is no upstream to dial"):
        bridge.listens(given(), Loaded(config, []))


def read(*flags: str) -> Config:
    """The configuration as the bridge takes it, in the working directory."""
    flagged = argparse.Namespace(**vars(given(*flags[1:])), target=flags[0] or None)
    return bridge.piped(flagged).config


@pytest.mark.requirement("6.config")
def test_it_takes_what_mcp_pipe_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of servers and ``MCP_ENDPOINT``; one server of it; a script, with a file and without."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MCP_ENDPOINT", UPSTREAM.endpoint.reveal())
    (tmp_path / "calculator.py").write_text("")
    script = read("calculator.py")
    (tmp_path / "mcp_config.json").write_text('{"mcpServers": {"a": {"command": "x"}, "b": {"command": "y"}}}')

    whole, one, beside = read(""), read("b"), read("calculator.py")

    assert [list(each.servers) for each in (whole, one, beside, script)] == [["a", "b"], ["b"], *[["calculator"]] * 2]
    for each in (whole, one, beside, script):
        (upstream,) = each.upstreams
        assert upstream.endpoint == UPSTREAM.endpoint
        assert each.namespaces[upstream.namespace].servers == tuple(each.servers)
    with pytest.raises(ConfigError, match="there is no server 'c', and no such Python script"):
        read("c")


@pytest.mark.real
@pytest.mark.requirement("6.config")
def test_a_reload_takes_a_new_token_from_dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As who starts it has it: the file of mcp_pipe.py, and the endpoint in ``.env``, which then changes."""
    port = free_port()
    (tmp_path / "mcp_config.json").write_text('{"mcpServers": {"a": {"command": "no-such-command"}}}')
    (tmp_path / ".env").write_text(f"MCP_ENDPOINT=ws://127.0.0.1:{port}/?token=hunter2\n")
    with subprocess.Popen(
        [sys.executable, "-m", "runners.bridge"],
        cwd=tmp_path,
        env={**gateways.environment(), "HOME": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        said = [process.stderr.readline()]
        (tmp_path / ".env").write_text(f"MCP_ENDPOINT=ws://127.0.0.1:{port}/?token=hunter3\n")
        process.send_signal(signal.SIGHUP)
        while "reloaded" not in said[-1] and said[-1]:
            said.append(process.stderr.readline())
        process.terminate()
        said.append(process.communicate(timeout=30)[1])

    assert said[0].startswith("dialling ")
    assert any("reloaded: " in line and "upstream" in line for line in said), said
    assert "hunter" not in "".join(said)


def test_a_file_without_upstreams_is_one_clear_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.json"
    file.write_text('{"servers": {}}')
    with pytest.raises(SystemExit) as ended:
        bridge.main(["-config", str(file)])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        f"{file}: there is no upstream to dial: the bridge needs 'upstreams' (runners.gateway serves clients without)\n"
    )


@pytest.mark.parametrize("flag", ["-check", "--check"])
def test_it_hands_over_to_the_check(flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.json"
    file.write_text('{"servers": {}}')
    assert bridge.main([flag, "-config", str(file)]) == 0
    assert capsys.readouterr().out


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
    assert held.gone_after(1)


@pytest.mark.real
@pytest.mark.requirement("6.drain")
def test_a_second_signal_ends_it_at_once(tmp_path: Path, held: Held) -> None:
    with clouds() as far:
        config = config_of(far.port, "/slow/1/", held, shutdown_timeout="60s")
        with bridging(tmp_path, config) as near:
            far.told('"slow is called"')
            near.process.send_signal(signal.SIGTERM)
            near.log.wait_for("finishing calls in flight", 10)
            near.process.send_signal(signal.SIGTERM)
            assert near.ended() == -signal.SIGTERM
    assert held.gone_after(1)


@pytest.mark.real
@pytest.mark.requirement("6.reload")
def test_sighup_dials_an_endpoint_that_has_changed_and_a_bad_file_changes_nothing(tmp_path: Path, held: Held) -> None:
    with clouds() as far, bridging(tmp_path, config_of(far.port, "/ask/1/", held)) as near:
        file = tmp_path / "mcp_config.json"
        far.told('"/ask/1/", "initialize"')
        file.write_text('{"servers": {}}')
        near.process.send_signal(signal.SIGHUP)
        near.log.wait_for("not reloaded: ", 10)
        file.write_text(json.dumps(config_of(far.port, "/ask/2/", held)))
        near.process.send_signal(signal.SIGHUP)
        assert far.told('"/ask/1/", "closed"')["closed"] == 1001
        assert far.told('"/ask/2/", "initialize"')["ping"] == {}
        near.process.send_signal(signal.SIGTERM)
        assert near.ended() == 0
    assert "SECRET" not in str(near.log)
