"""Which file is read: the order as data, and a search that only looks.

A file that somebody named has to be there; one that nobody named may be missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from mcpgateway.errors import ConfigError

VARIABLES = ("MCP_GATEWAY_CONFIG", "MCP_CONFIG")
"""Environment variables that name the file, first one first."""

HERE = (
    "mcp-gateway.yaml",
    "mcp-gateway.json",
    "mcp-gateway.toml",
    "mcp_config.json",
    "configs/mcp_config.json",
    "config.yaml",
    "config/servers.json",
    "config.json",
    "mcp_servers.json",
)
"""Below the working directory."""

AT_HOME = (
    ".config/mcp-gateway/config.yaml",
    ".config/mcp-gateway/config.json",
    ".config/mcp-gateway/config.toml",
    ".mcp-gateway/config.json",
)

SYSTEM = tuple(Path("/etc/mcp-gateway", name) for name in ("config.yaml", "config.json", "config.toml"))


def find(explicit: Path | None, *, env: Mapping[str, str], cwd: Path, home: Path) -> Path | None:
    """The configuration file: the one that was named, else the first that exists, else ``None``.

    With ``Path()`` for ``cwd``, what is found below it is a relative path, which reads best in messages.

    :raises ConfigError: a named file does not exist; the message says who named it
    """
    for origin, path in _named(explicit, env):
        if not (cwd / path).is_file():
            raise ConfigError([f"{path}: no such file (named by {origin})"])
        return cwd / path
    return next((path for path in places(cwd=cwd, home=home) if path.is_file()), None)


def places(*, cwd: Path, home: Path) -> list[Path]:
    """Where a file is looked for when none is named, first one first."""
    return [*(cwd / name for name in HERE), *(home / name for name in AT_HOME), *SYSTEM]


def explain_places(*, cwd: Path, home: Path) -> str:
    """For a message that nothing was found: how to name a file, and where one was looked for."""
    looked = "\n".join(f"  {path}" for path in places(cwd=cwd, home=home))
    return f"no configuration file: give --config, set {' or '.join(VARIABLES)}, or write one of\n{looked}"


def _named(explicit: Path | None, env: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    if explicit is not None:
        yield "--config", explicit
    for variable in VARIABLES:
        if env.get(variable):
            yield variable, Path(env[variable])
