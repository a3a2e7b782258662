from __future__ import annotations

from pathlib import Path

import pytest

from mcpgateway.config import lookup
from mcpgateway.errors import ConfigError


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    return _directory(tmp_path / "work")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return _directory(tmp_path / "home")


def _directory(path: Path) -> Path:
    path.mkdir()
    return path


def _file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_the_order_below_the_working_directory_and_at_home(cwd: Path, home: Path) -> None:
    """Each place counts once those before it are gone."""
    places = [path for path in lookup.places(cwd=cwd, home=home) if not str(path).startswith("/etc/")]
    for path in places:
        _file(path)

    for path in places:
        assert lookup.find(None, env={}, cwd=cwd, home=home) == path
        path.unlink()


def test_what_is_named_comes_first(cwd: Path, home: Path) -> None:
    _file(cwd / "mcp-gateway.yaml")
    flag, first, second = (_file(cwd / name) for name in ("flag.toml", "first.json", "second.json"))
    env = {"MCP_GATEWAY_CONFIG": "first.json", "MCP_CONFIG": str(second)}

    assert lookup.find(Path("flag.toml"), env=env, cwd=cwd, home=home) == flag
    assert lookup.find(None, env=env, cwd=cwd, home=home) == first
    assert lookup.find(None, env=env | {"MCP_GATEWAY_CONFIG": ""}, cwd=cwd, home=home) == second


@pytest.mark.requirement("6.config")
def test_the_bridge_is_found_where_its_users_have_it(cwd: Path, home: Path) -> None:
    """The order of dlmufei/mcp-gateway: each place counts once those before it are gone."""
    flag, named = _file(cwd / "flag.json"), _file(cwd / "named.json")
    here, configs = _file(cwd / "mcp_config.json"), _file(cwd / "configs" / "mcp_config.json")
    at_home = _file(home / ".mcp-gateway" / "config.json")

    def found(explicit: Path | None, **env: str) -> Path | None:
        return lookup.find(explicit, env=env, cwd=cwd, home=home)

    assert found(flag, MCP_CONFIG="named.json") == flag
    assert found(None, MCP_CONFIG="named.json") == named
    assert found(None, MCP_CONFIG="") == here
    here.unlink()
    assert found(None) == configs
    configs.unlink()
    assert found(None) == at_home


@pytest.mark.parametrize(
    ("flag", "env", "origin"),
    [
        (Path("gone.yaml"), {"MCP_CONFIG": "there.json"}, "--config"),
        (None, {"MCP_GATEWAY_CONFIG": "gone.yaml", "MCP_CONFIG": "there.json"}, "MCP_GATEWAY_CONFIG"),
        (None, {"MCP_CONFIG": "gone.yaml"}, "MCP_CONFIG"),
    ],
)
def test_a_named_file_has_to_be_there(
    cwd: Path, home: Path, flag: Path | None, env: dict[str, str], origin: str
) -> None:
    _file(cwd / "there.json")

    with pytest.raises(ConfigError) as caught:
        lookup.find(flag, env=env, cwd=cwd, home=home)

    assert caught.value.problems == [f"gone.yaml: no such file (named by {origin})"]


def test_a_relative_working_directory_gives_a_relative_path(
    cwd: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _file(cwd / "config" / "servers.json")
    monkeypatch.chdir(cwd)

    assert lookup.find(None, env={}, cwd=Path(), home=home) == Path("config/servers.json")


def test_all_places_are_told(cwd: Path, home: Path) -> None:
    told = lookup.explain_places(cwd=cwd, home=home)

    assert all(f"\n  {path}" in told for path in lookup.places(cwd=cwd, home=home))
    assert "--config, set MCP_GATEWAY_CONFIG or MCP_CONFIG" in told
