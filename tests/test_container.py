"""The Dockerfile and the Compose file: what they name is there, what they say loads, and linters agree.

There is no engine to build the image with; what is not checked here is what the images of others hold.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from mcpgateway.app import ENDING
from mcpgateway.config import loading
from mcpgateway.config.lookup import SYSTEM
from mcpgateway.config.model import Config
from runners.__main__ import RUNNERS, main
from tests.real import registries

ROOT = Path(__file__).resolve().parent.parent
COMPOSE: dict[str, Any] = YAML(typ="safe").load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, each a word and the rest."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def of(word: str) -> list[str]:
    return [rest for each, rest in instructions() if each == word]


def test_every_file_that_is_copied_is_there_and_goes_to_the_build() -> None:
    sources = [word for rest in of("COPY") if "--from" not in rest for word in rest.split()[:-1]]
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    assert set(sources) == {"LICENSE", "README.md", "pyproject.toml", "mcpgateway", "runners"} == let_through
    assert all((ROOT / source).exists() for source in sources)


def test_the_stages_that_are_copied_from_are_there() -> None:
    stages = {rest.rpartition(" AS ")[2] for rest in of("FROM") if " AS " in rest}

    assert {match[1] for rest in of("COPY") if (match := re.match(r"--from=(\w+)", rest))} == stages


@pytest.mark.requirement("6.container", "feature.39")
def test_the_image_runs_a_runner_as_nobody_in_particular_and_reaps() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (entry,), (command,), (user,) = of("ENTRYPOINT"), of("CMD"), of("USER")

    assert json.loads(entry) == ["tini", "--", "mcp-gateway"]
    assert "mcp-gateway" in project["scripts"]
    assert json.loads(command)[0] in RUNNERS
    assert user == "1000"
    python = next(match[1] for rest in of("FROM") if (match := re.match(r"python:([\d.]+)-", rest)))
    assert f"Programming Language :: Python :: {python}" in project["classifiers"]
    for tool in ("/uvx", "/usr/local/bin/node", "npm-cli.js", "npx-cli.js"):
        assert any(tool in rest for word, rest in instructions() if word in ("COPY", "RUN"))


@pytest.mark.requirement("6.container")
def test_its_health_is_the_status_of_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command itself, where nothing runs."""
    (check,) = of("HEALTHCHECK")
    command = json.loads(check.partition("CMD ")[2])
    (tmp_path / "mcp-gateway.yaml").write_text("state_dir: state\n")
    monkeypatch.chdir(tmp_path)

    assert command[0] == "mcp-gateway"
    assert main(command[1:]) == 3
    assert capsys.readouterr().out == "not running\n"


@pytest.mark.requirement("6.container")
def test_the_gateway_of_the_compose_file_is_open_to_this_machine_only() -> None:
    """It listens everywhere in its container, where nobody asks who comes: so the port is published on loopback."""
    loaded = loading.loads(COMPOSE["configs"]["gateway"]["content"], name="compose.yaml", format="yaml", env={})
    (port,) = SERVICES["gateway"]["ports"]
    listen = loaded.config.listen

    assert loaded.warnings == []
    assert (listen.host, loaded.config.insecure) == ("0.0.0.0", True)
    assert port == f"127.0.0.1:{listen.port}:{listen.port}"
    assert of("EXPOSE") == [str(listen.port)]
    assert list(listen.allowed_hosts) == ["localhost", "127.0.0.1"]
    assert set(loaded.config.servers) == {"time", "everything"}


@pytest.mark.requirement("6.container")
@pytest.mark.parametrize("name", SERVICES)
def test_services_are_the_image_with_a_configuration_where_it_is_looked_for(name: str) -> None:
    service = SERVICES[name]
    mounted = [each["target"] for each in (*service.get("configs", ()), *service["volumes"])]
    volumes = {each["source"] for each in service["volumes"] if each["type"] == "volume"}

    assert service["build"] == "."
    assert Path(mounted[0]) in SYSTEM
    assert mounted[1] == of("WORKDIR")[-1] == "/home/gateway"
    assert volumes <= set(COMPOSE["volumes"])
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert int(service["stop_grace_period"].removesuffix("s")) > Config().shutdown_timeout + ENDING


@pytest.mark.requirement("6.container", "feature.144")
def test_every_runner_that_is_run_is_there() -> None:
    commands = [service["command"] for service in SERVICES.values() if "command" in service]
    examples = re.findall(r"^#   docker run .* mcp-gateway(.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)

    assert [*commands, *map(shlex.split, examples)] == [["bridge"], [], ["bridge"]]
    assert "bridge" in RUNNERS


@pytest.mark.real
@pytest.mark.requirement("6.container", "feature.39")
@pytest.mark.parametrize(
    ("tool", "arguments"),
    [(registries.hadolint, ["Dockerfile"]), (registries.dclint, ["--max-warnings", "0", "compose.yaml"])],
    ids=["hadolint", "dclint"],
)
def test_a_linter_finds_nothing(tool: Callable[[], list[str]], arguments: list[str]) -> None:
    try:
        command = tool()
    except registries.CannotInstall as problem:
        pytest.skip(f"the linter cannot be had: {problem}")

    done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.real
def test_the_linter_of_compose_files_has_its_schema(tmp_path: Path) -> None:
    try:
        command = registries.dclint()
    except registries.CannotInstall as problem:
        pytest.skip(f"the linter cannot be had: {problem}")
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((ROOT / "compose.yaml").read_text().replace("    ports:", "    portz:"))

    done = subprocess.run([*command, str(wrong)], capture_output=True, text=True, timeout=300)

    assert done.returncode != 0
    assert "invalid-schema" in done.stdout
