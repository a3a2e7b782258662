"""``runners.gateway`` without a listener: flags over the file, and refusals in one line with status 2."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from runners import gateway, options, serving


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        gateway.main(arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.requirement("2.runner.gateway")
def test_a_port_in_use_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        said = refusal(["--demo", "--port", str(port)], capsys)

    assert said == f"cannot listen on 127.0.0.1, port {port}: Address already in use\n"


def test_a_port_for_metrics_in_use_is_named_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        file = tmp_path / "c.json"
        metrics = {"enabled": True, "port": port}
        file.write_text(json.dumps({"servers": {}, "listen": {"port": 0}, "metrics": metrics}))

        said = refusal(["--config", str(file)], capsys)

    assert said == f"metrics: cannot listen on 127.0.0.1, port {port}: Address already in use\n"


def test_a_certificate_that_is_none_is_named_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("not a certificate")
    file = tmp_path / "c.json"
    file.write_text(json.dumps({"servers": {}, "listen": {"port": 0, "tls": {"cert": "cert.pem", "key": "key.pem"}}}))

    assert refusal(["--config", str(file)], capsys).startswith("listen.tls: ")


@pytest.mark.parametrize("port", ["-1", "65536"])
def test_a_port_out_of_range_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(["--demo", f"--port={port}"], capsys) == f"--port must be from 0 to 65535, not {port}\n"


def test_a_host_that_is_open_to_others_must_be_meant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "insecure: true" in refusal(["--demo", "--host", "0.0.0.0"], capsys)


@pytest.mark.requirement("2.runner.gateway")
def test_flags_win_over_the_file(tmp_path: Path) -> None:
    parser = serving.parser("gateway", "")
    given = parser.parse_args(["--host", "::1", "--port", "0"])
    file = tmp_path / "c.json"
    file.write_text(json.dumps({"servers": {}, "listen": {"host": "127.0.0.2", "port": 9, "cors": ["http://a"]}}))
    config = options.configuration(file).config

    listen = serving.overridden(config, given).listen

    assert (listen.host, listen.port, listen.cors) == ("::1", 0, ("http://a",))
    assert serving.overridden(config, parser.parse_args([])) == config


def test_verbose_is_a_flag_too(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text(json.dumps({"servers": {}, "logging": {"level": "debug"}}))
    config = options.configuration(file).config

    given = serving.parser("gateway", "").parse_args(["--log-verbose"])
    logging = serving.overridden(config, given).logging

    assert (logging.level, logging.verbose) == ("debug", True)
