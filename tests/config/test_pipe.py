"""What ``mcp_pipe.py`` made of its file, its argument and its environment."""

from __future__ import annotations

import json

import attrs
import pytest

from mcpgateway.catalog.rules import Naming, NamingMode
from mcpgateway.config.loading import Loaded, loads
from mcpgateway.config.model import (
    Config,
    HttpServer,
    Isolation,
    NamespaceConfig,
    Secret,
    SseServer,
    StdioServer,
    UpstreamConfig,
)
from mcpgateway.config.pipe import bridged, targeted
from mcpgateway.config.plan import plans
from mcpgateway.errors import ConfigError

ENDPOINT = "wss://example.com/mcp/?token=hidden"
FILE = {
    "mcpServers": {
        "calculator": {"command": "python", "args": ["-m", "calculator"], "env": {"PORT": 8080}},
        "remote": {"transportType": "sse", "url": "https://example.com/sse", "headers": {"A": "b"}},
        "http": {"type": "HTTP", "url": "https://example.com/mcp"},
        "搜索": {"type": "stdio", "command": "uvx"},
        "off": {"type": "stdio", "command": "uvx", "disabled": True},
    }
}


def read(value: object, env: dict[str, str] | None = None) -> Loaded:
    return loads(json.dumps(value), name="f.json", format="json", env=env or {})


# ---- mcpServers and MCP_ENDPOINT -------------------------------------------------------------------------------------


@pytest.mark.requirement("6.config")
def test_a_desktop_clients_file_is_one_upstream_that_sees_all_servers_under_their_own_names() -> None:
    loaded = bridged(read(FILE), {"MCP_ENDPOINT": ENDPOINT})

    config = loaded.config
    names = ("calculator", "remote", "http", "server-44ce7ae9", "off")
    assert config.upstreams == (UpstreamConfig("default", Secret(ENDPOINT), "default"),)
    assert config.namespaces == {"default": NamespaceConfig("default", names, naming=Naming(NamingMode.RAW))}
    assert config.servers["calculator"] == StdioServer(
        "calculator",
        isolation=Isolation.SHARED,  # one process, as before, whatever the cloud says that it could be asked
        command="python",
        args=("-m", "calculator"),
        env={"PORT": Secret("8080")},
    )
    assert config.servers["remote"] == SseServer("remote", url="https://example.com/sse", headers={"A": Secret("b")})
    assert config.servers["http"] == HttpServer("http", url="https://example.com/mcp")
    assert config.servers["server-44ce7ae9"].title == "搜索"
    assert plans(config)["default"].servers == names[:-1]
    assert "listen" not in loaded.keys
    assert len(loaded.warnings) == 1


def test_over_http_the_same_file_shows_what_it_did() -> None:
    plain = read(FILE)

    assert {*plans(bridged(plain, {"MCP_ENDPOINT": ENDPOINT}).config)} == {*plans(plain.config), "default"}


@pytest.mark.parametrize(
    ("env", "problem"),
    [
        ({}, "is not set, and the file names no upstream"),
        ({"MCP_ENDPOINT": ""}, "is not set, and the file names no upstream"),
        ({"MCP_ENDPOINT": "hidden"}, "must begin with ws:// or wss://"),
        ({"MCP_ENDPOINT": f'"{ENDPOINT}"'}, "must begin with ws:// or wss://"),
        ({"MCP_ENDPOINT": f"{ENDPOINT}\n"}, "is no URL: it holds spaces or control characters"),
        ({"MCP_ENDPOINT": "wss://hidden:hidden@example.com"}, "must not hold a user name or password (use 'headers')"),
    ],
)
def test_an_endpoint_that_is_none_is_a_problem_and_not_shown(env: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        bridged(read(FILE), env)

    assert caught.value.problems == [f"f.json: MCP_ENDPOINT {problem}"]


def test_a_file_without_a_server_that_runs_has_nothing_to_show() -> None:
    with pytest.raises(ConfigError, match="at least one enabled MCP server is required"):
        bridged(read({"mcpServers": {"off": {"command": "x", "disabled": True}}}), {"MCP_ENDPOINT": ENDPOINT})


@pytest.mark.parametrize(
    "value",
    [
        {"servers": {"a": {"command": "x"}}, "upstreams": [{"name": "n", "endpoint": "wss://example.com"}]},
        {"servers": {"a": {"command": "x"}}, "upstreams": []},
        {"upstreams": [{"name": "n", "endpoint": "wss://e", "mcpServers": {"a": {"type": "stdio", "command": "x"}}}]},
    ],
)
def test_upstreams_that_are_given_are_those_that_there_are(value: object) -> None:
    loaded = read(value)

    assert bridged(loaded, {"MCP_ENDPOINT": ENDPOINT}) == loaded


def test_any_file_without_upstreams_may_have_one_from_the_environment() -> None:
    value = {"servers": {"default": {"command": "x"}}, "namespaces": {"work": {"servers": ["default"]}}}
    loaded = read(value)

    config = bridged(loaded, {"MCP_ENDPOINT": ENDPOINT}).config

    assert config.upstreams[0].namespace == "default-2"
    assert [*plans(config)] == ["work", "default-2"]
    assert bridged(loaded, {}) == loaded


@pytest.mark.parametrize(
    ("level", "expected"),
    [("", "error"), ("debug", "debug"), ("WARN", "warning"), ("warning", "warning"), ("x", "error")],
)
def test_the_level_of_the_environment_wins_over_the_file(level: str, expected: str) -> None:
    loaded = bridged(read({"logging": {"level": "error"}}), {"MCP_LOG_LEVEL": level})

    assert loaded.config.logging.level == expected
    assert loaded.warnings == (["MCP_LOG_LEVEL must be one of debug, info, warn, error"] if level == "x" else [])


# ---- an argument -----------------------------------------------------------------------------------------------------


@pytest.mark.requirement("6.config")
@pytest.mark.parametrize(
    ("target", "name"), [("remote", "remote"), ("搜索", "server-44ce7ae9"), ("calculator", "calculator")]
)
def test_a_target_is_a_server_of_the_file_before_it_is_a_script(target: str, name: str) -> None:
    loaded = targeted(read(FILE), target, is_file=lambda _: True, python="py")

    config = bridged(loaded, {"MCP_ENDPOINT": ENDPOINT}).config
    assert [*config.servers] == [name]
    server = read(FILE).config.servers[name]
    assert config.servers[name] == (attrs.evolve(server, isolation=Isolation.SHARED) if server.local else server)
    assert config.namespaces["default"].servers == (name,)


@pytest.mark.requirement("6.config")
@pytest.mark.parametrize(
    ("target", "name"), [("calculator.py", "calculator"), ("./my tools/计算器.py", "server-1283ddbf"), ("x", "x")]
)
def test_else_it_is_a_script(target: str, name: str) -> None:
    for loaded in None, read({"logging": {"level": "debug"}}):
        found = targeted(loaded, target, is_file=[target].__contains__, python="/usr/bin/python3")
        config = bridged(found, {"MCP_ENDPOINT": ENDPOINT}).config

        server = StdioServer(name, isolation=Isolation.SHARED, command="/usr/bin/python3", args=(target,))
        assert config.servers == {name: server}
        assert config.upstreams[0].endpoint == ENDPOINT
        assert config.logging.level == ("info" if loaded is None else "debug")


def test_a_target_is_shown_to_the_endpoint_of_the_environment_whatever_upstreams_there_are() -> None:
    value = {
        "upstreams": [{"name": "n", "endpoint": "wss://e", "mcpServers": {"a": {"type": "stdio", "command": "x"}}}]
    }

    alone = targeted(read(value), "a", is_file=lambda _: False, python="py")
    config = bridged(alone, {"MCP_ENDPOINT": ENDPOINT}).config

    assert alone.config.upstreams == ()
    assert [(at.name, at.endpoint) for at in config.upstreams] == [("default", ENDPOINT)]
    assert [*config.namespaces] == ["default"]


@pytest.mark.parametrize(
    ("loaded", "target", "problem"),
    [
        (read(FILE), "off", "f.json: server 'off' is disabled"),
        (read(FILE), "gone", "f.json: there is no server 'gone', and no such Python script"),
        (None, "gone.py", "there is no server 'gone.py', and no such Python script"),
    ],
)
def test_a_target_that_cannot_run(loaded: Loaded | None, target: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        targeted(loaded, target, is_file=lambda _: False, python="py")

    assert caught.value.problems == [problem]


def test_a_target_alone_needs_an_endpoint() -> None:
    loaded = targeted(None, "x.py", is_file=lambda _: True, python="py")

    assert bridged(loaded, {}) == loaded
    assert loaded.config.upstreams == ()
    assert loaded.config == Config(servers=loaded.config.servers)
