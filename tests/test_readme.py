"""The README is true: its Python runs, its configuration loads, and CI runs its test command to the letter."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mcpgateway.config import loading

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("code", blocks("python"))
def test_python_runs(code: str, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(code)

    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.stderr == ""
    assert done.returncode == 0
    assert "clock_now" in done.stdout


def test_there_is_python_to_run() -> None:
    assert len(blocks("python")) == 1


@pytest.mark.parametrize("text", blocks("yaml"))
def test_configuration_loads(text: str) -> None:
    loaded = loading.loads(text, name="README.md", format="yaml", env={})

    assert loaded.warnings == []
    assert set(loaded.config.servers) == {"time", "everything", "search"}


def test_two_commands_each_one_line() -> None:
    commands = [block.strip() for block in blocks("sh") if "venv" in block]

    assert len(commands) == 2
    assert all("\n" not in command for command in commands)


@pytest.mark.requirement("2.project.ci")
def test_ci_runs_the_test_command_to_the_letter() -> None:
    command = next(block.strip() for block in blocks("sh") if block.strip().endswith("nox"))

    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == command


def test_links_to_files_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", README)

    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
