"""Installs the MCP conformance suite and its fixture server from the package registries, once, into a cache folder.

Gives ``node/`` (Node 22, which the suite needs), ``suite/`` (the suite), ``venv/`` (Python with the SDK) and ``sdk/``
(the SDK's source archive: its everything-server and its test client). Needs npm, Python and the registries.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import attrs

SUITE_VERSION = "0.2.0-alpha.12"
"""The first with the scenarios of 2026-07-28 in the form that the specification was released in."""
SDK_VERSION = "2.3.0"
NODE_MAJOR = 22
LIBRARIES = ("uvicorn", "click", "starlette", "websockets")
"""What the fixture server needs besides the SDK."""


@attrs.frozen
class Suite:
    """An installed suite."""

    home: Path

    @property
    def node(self) -> Path:
        return self.home / "node/node_modules" / _node_package() / "bin/node"

    @property
    def command(self) -> list[str]:
        cli = "suite/node_modules/@modelcontextprotocol/conformance/dist/index.js"
        return [str(self.node), str(self.home / cli)]

    @property
    def python(self) -> Path:
        return self.home / "venv/bin/python"

    @property
    def everything_server(self) -> Path:
        """The folder that holds the package ``mcp_everything_server``."""
        return self.home / "sdk/examples/servers/everything-server"

    @property
    def client(self) -> Path:
        """The SDK's test client: a script whose last argument is the URL of a server."""
        return self.home / "sdk/.github/actions/conformance/client.py"


def default_home() -> Path:
    return Path(os.environ.get("CONF_HOME", Path.home() / ".cache" / "mcp-conformance"))


def install(home: Path) -> Suite:
    """Install what is not there yet."""
    ready = home / "-".join((".ready", SUITE_VERSION, SDK_VERSION, *LIBRARIES))
    if not ready.exists():
        _npm(home / "node", f"{_node_package()}@{NODE_MAJOR}")
        _npm(home / "suite", f"@modelcontextprotocol/conformance@{SUITE_VERSION}")
        _python(home)
        ready.touch()
    return Suite(home)


def missing_tools() -> list[str]:
    return [] if shutil.which("npm") else ["npm (Node's package manager)"]


def _node_package() -> str:
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}[platform.machine().lower()]
    return f"node-{platform.system().lower()}-{machine}"


def _npm(folder: Path, package: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text(json.dumps({"private": True}))
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", package], cwd=folder, check=True)


def _python(home: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(home / "venv")], check=True)
    pip = [str(home / "venv/bin/python"), "-m", "pip"]
    subprocess.run([*pip, "install", "-q", f"mcp=={SDK_VERSION}", *LIBRARIES], check=True)
    archive, sdk = home / "archive", home / "sdk"
    source = ["--no-deps", "--no-binary", ":all:", "-d", str(archive), f"mcp=={SDK_VERSION}"]
    subprocess.run([*pip, "download", "-q", *source], check=True)
    with tarfile.open(archive / f"mcp-{SDK_VERSION}.tar.gz") as packed:
        packed.extractall(archive, filter="data")
    sdk.mkdir(exist_ok=True)
    shutil.copytree(archive / f"mcp-{SDK_VERSION}", sdk, dirs_exist_ok=True)
