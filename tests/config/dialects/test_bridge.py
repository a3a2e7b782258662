"""The files of dlmufei/mcp-gateway. What single ones lead to is in the golden files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from mcpgateway.catalog.rules import NamingMode
from mcpgateway.config.dialects import Dialect
from mcpgateway.config.explain import describe
from mcpgateway.config.loading import Loaded, from_value, load, loads
from mcpgateway.config.model import (
    Config,
    HttpServer,
    Isolation,
    Keepalive,
    Reconnect,
    Secret,
    ServerConfig,
    StdioServer,
)
from mcpgateway.errors import ConfigError
from tests.strategies import bridge_files, bridge_upstreams

ENDPOINT = "wss://example.com/mcp/?token=hidden"
SERVER = {"type": "stdio", "command": "x"}

# Files come out of JSON, of which nothing is known.
File = dict[str, Any]


def read(value: object, **env: str) -> Loaded:
    return loads(json.dumps(value), name="f.json", format="json", env=env)


def upstream(**keys: object) -> File:
    return {"name": "cloud", "endpoint": ENDPOINT, "mcpServers": {"a": SERVER}} | keys


def shown(config: Config, index: int) -> list[ServerConfig]:
    """The servers that an upstream sees, in order."""
    namespace = config.namespaces[config.upstreams[index].namespace]
    return [config.servers[name] for name in namespace.servers]


# ---- any file --------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("6.config")
@given(bridge_files)
def test_whatever_the_program_took_loads_and_keeps_what_it_says(file: File) -> None:
    loaded = read(file)

    config = loaded.config
    assert loaded.dialect is Dialect.BRIDGE
    assert len(config.upstreams) == len(file["upstreams"])
    assert len({each.name for each in config.upstreams}) == len(config.upstreams)
    for index, declared in enumerate(file["upstreams"]):
        assert config.upstreams[index].endpoint == declared["endpoint"]
        assert config.upstreams[index].enabled == declared["endpoint"].startswith("ws")
        assert [reached(server) for server in shown(config, index)] == [
            written(server) for server in declared["mcpServers"].values()
        ]
        assert config.namespaces[config.upstreams[index].namespace].naming.mode is NamingMode.RAW


def reached(server: ServerConfig) -> tuple[object, ...]:
    match server:
        case StdioServer():
            return "stdio", server.command, list(server.args), dict(server.env)
        case HttpServer():
            return server.type, server.url, dict(server.headers)
    raise AssertionError(server)


def written(server: Mapping[str, Any]) -> tuple[object, ...]:
    if server["type"] == "stdio":
        return "stdio", server["command"], server["args"], server["env"]
    return "sse" if server["type"] == "sse" else "streamable-http", server["url"], server["headers"]


@given(bridge_files)
def test_no_two_upstreams_share_a_server_unless_both_say_so_and_no_name_is_lost(file: File) -> None:
    config = read(file).config

    seen: dict[str, list[Mapping[str, Any]]] = {}
    for at, declared in zip(config.upstreams, file["upstreams"], strict=True):
        names = config.namespaces[at.namespace].servers
        assert len(set(names)) == len(names)
        for name, (title, server) in zip(names, declared["mcpServers"].items(), strict=True):
            seen.setdefault(name, []).append(server)
            if len(seen[name]) == 1 and "://" not in title:
                assert title in (name, config.servers[name].title)
    assert seen.keys() == config.servers.keys()
    for servers in seen.values():
        if len(servers) > 1:
            assert all(server.get("shared") is True for server in servers)
            assert len({json.dumps(written(server)) for server in servers}) == 1


@settings(max_examples=25)
@given(bridge_files, bridge_upstreams)
def test_the_same_file_gives_the_same_names_and_an_upstream_more_renames_nothing(file: File, another: File) -> None:
    before, again = read(file).config, read(file).config
    more = read(file | {"upstreams": [*file["upstreams"], another]}).config

    assert again == before
    assert more.upstreams[:-1] == before.upstreams
    assert {name: more.servers[name] for name in before.servers} == before.servers
    assert {name: more.namespaces[name] for name in before.namespaces} == before.namespaces


@given(bridge_files)
def test_the_translation_is_told_without_a_secret_and_loads_again(file: File) -> None:
    loaded = read(file)
    described = describe(loaded.config)

    assert "hidden" not in f"{loaded.warnings} {described} {loaded.config}"
    if all(at.enabled for at in loaded.config.upstreams):  # what is left out is wrong, and so does not load again
        assert describe(from_value(described).config) == described


# ---- defaults --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reconnect", "meant"),
    [
        ({}, Reconnect()),
        ({"enabled": True}, Reconnect()),
        ({"enabled": False}, Reconnect(enabled=False)),
        ({"maxBackoff": "5m"}, Reconnect(maximum=300.0)),
        ({"initialBackoff": 2, "multiplier": 3}, Reconnect(initial=2.0, multiplier=3.0)),
        ({"initialBackoff": "1h"}, Reconnect(initial=3600.0, maximum=3600.0)),
        ({"initialBackoff": "10s", "maxBackoff": "5s"}, Reconnect(initial=10.0, maximum=10.0)),
        ({"initialBackoff": "0s", "maxBackoff": -1, "multiplier": 0}, Reconnect()),
        ({"stable": 30, "refused": "5m"}, Reconnect(stable=30.0, refused=300.0)),
        (None, Reconnect()),
    ],
)
def test_a_partial_block_has_the_documented_defaults(reconnect: object, meant: Reconnect) -> None:
    assert read({"upstreams": [upstream(reconnect=reconnect)]}).config.upstreams[0].reconnect == meant


def test_nothing_given_is_as_documented() -> None:
    found = read({"upstreams": [upstream()]})

    (at,) = found.config.upstreams
    assert (at.reconnect, at.keepalive) == (Reconnect(), Keepalive())
    assert (at.reconnect.initial, at.reconnect.maximum, at.reconnect.multiplier) == (1.0, 600.0, 2.0)
    assert (at.keepalive.interval, at.keepalive.timeout) == (30.0, 10.0)
    assert found.config.logging.level == "info"
    assert not found.config.metrics.enabled
    assert found.keys == {"upstreams", "servers", "namespaces"}
    assert found.warnings == []


@pytest.mark.parametrize(
    ("server", "timeout"),
    [
        (SERVER, 30.0),
        (SERVER | {"timeout": 0}, 30.0),
        (SERVER | {"timeout": 45}, 45.0),
        ({"type": "sse", "url": "http://x"}, 120.0),
        ({"type": "http", "url": "http://x", "timeout": "1.5h"}, 5400.0),
        ({"type": "http", "url": "http://x", "timeout": 1e300}, 9223372036.0),
    ],
)
def test_timeouts(server: object, timeout: float) -> None:
    (found,) = shown(read({"upstreams": [upstream(mcpServers={"a": server})]}).config, 0)

    assert found.timeout == timeout
    assert found.max_timeout >= timeout


def test_an_upstream_may_have_keys_of_ours() -> None:
    keys: File = {"call_deadline": "9500ms", "on_tools_changed": "reconnect", "enabled": False, "reply_bytes": 1000}

    (found,) = read({"upstreams": [upstream(**keys)]}).config.upstreams

    assert (found.call_deadline, found.on_tools_changed.value, found.enabled, found.reply_bytes) == (
        *(9.5, "reconnect", False, 1000),
    )


# ---- the environment -------------------------------------------------------------------------------------------------


def test_variables_are_filled_in_after_parsing_and_secrets_keep_their_dollars() -> None:
    env = {"MCP_ENDPOINT": 'wss://example.com/?token=a"b\\c$d', "TOKEN": "x$y"}
    headers = {"A": "Bearer $TOKEN", "B": "p$$w"}
    server = {"type": "http", "url": "https://example.com/$TOKEN/mcp", "headers": headers}

    found = read({"upstreams": [upstream(endpoint="${MCP_ENDPOINT}", mcpServers={"a": server})]}, **env)

    assert found.config.upstreams[0].endpoint == env["MCP_ENDPOINT"]
    (http,) = shown(found.config, 0)
    assert isinstance(http, HttpServer)
    assert (http.url, dict(http.headers)) == ("https://example.com/x$y/mcp", {"A": "Bearer x$y", "B": "p$$w"})
    assert found.warnings == []


FIRST: File = {"upstream": {"endpoint": "wss://file.example.com"}, "mcpServers": {"a": SERVER}}


@pytest.mark.requirement("6.config")
@pytest.mark.parametrize(
    ("file", "env", "endpoint"),
    [
        (FIRST, {}, "wss://file.example.com"),
        (FIRST, {"MCP_ENDPOINT": ENDPOINT}, ENDPOINT),
        (FIRST, {"MCP_ENDPOINT": ""}, "wss://file.example.com"),
        ({**FIRST, "upstream": {}}, {"MCP_ENDPOINT": ENDPOINT}, ENDPOINT),
        ({**FIRST, "upstream": {"endpoint": "${MCP_ENDPOINT}"}}, {"MCP_ENDPOINT": ENDPOINT}, ENDPOINT),
        (
            {"upstreams": [upstream(endpoint="wss://file.example.com")]},
            {"MCP_ENDPOINT": ENDPOINT},
            "wss://file.example.com",
        ),
    ],
)
def test_the_endpoint_of_the_environment_is_of_the_first_generation(
    file: File, env: dict[str, str], endpoint: str
) -> None:
    loaded = read(file, **env)

    assert [at.endpoint for at in loaded.config.upstreams] == [endpoint]
    assert loaded.warnings == []


@pytest.mark.parametrize("upstream", [{}, None, {"endpoint": ""}, {"endpoint": "${MCP_ENDPOINT}"}])
def test_the_first_generation_needs_an_endpoint(upstream: object) -> None:
    with pytest.raises(ConfigError) as caught:
        read({**FIRST, "upstream": upstream})

    assert caught.value.problems == ["f.json:1: upstream endpoint is required (set MCP_ENDPOINT)"]


@pytest.mark.requirement("6.config")
@pytest.mark.parametrize(
    ("env", "written", "level", "warned"),
    [
        ("", "warn", "warning", False),
        ("debug", "warn", "debug", False),
        ("DEBUG", None, "debug", False),
        ("error", "nonsense", "error", False),
        ("loud", "error", "info", True),
        ("", "loud", "info", True),
        ("", "", "info", False),
    ],
)
def test_the_level_of_the_environment_wins(env: str, written: str | None, level: str, warned: bool) -> None:
    logging = {} if written is None else {"logging": {"level": written}}

    loaded = read({"upstreams": [upstream()], **logging}, MCP_LOG_LEVEL=env)

    assert loaded.config.logging.level == level
    assert bool(loaded.warnings) == warned


def test_an_embedder_without_environment_gets_strings_as_they_are() -> None:
    (server,) = shown(from_value({"upstreams": [upstream(mcpServers={"a": SERVER | {"args": ["$A ${B}"]}})]}).config, 0)

    assert isinstance(server, StdioServer)
    assert server.args == ("$A ${B}",)


# ---- what Go's JSON took ---------------------------------------------------------------------------------------------


def test_bytes_that_are_no_utf8_are_replaced_here_alone(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    path.write_bytes(json.dumps({"upstreams": [upstream(description="@")]}).encode().replace(b"@", "搜".encode("gbk")))

    loaded = load(path, env={})

    assert len(loaded.config.upstreams) == 1
    assert loaded.warnings[0].endswith("not UTF-8 (byte 156)")
    assert loaded.warnings[1].endswith("upstreams[0]: key 'description' is ignored")


UNQUOTED = """{
  "upstreams": [{"name": "a ${HOST}", "endpoint": "wss://${HOST}", "mcpServers": $SERVERS}],
  "metrics": {"enabled": ${ON}, "port": ${PORT}}
}"""


def test_variables_outside_of_strings_may_be_anything() -> None:
    env = {"HOST": 'x"', "PORT": "8", "ON": "true", "SERVERS": '{"a": {"type": "stdio", "command": "$5"}}'}

    config = loads(UNQUOTED, name="f.json", format="json", env=env).config

    assert (config.metrics.enabled, config.metrics.port) == (True, 8)
    assert config.upstreams[0].name == 'a x"'
    assert shown(config, 0) == [StdioServer("a", isolation=Isolation.SHARED, command="$5", timeout=30.0)]


@pytest.mark.parametrize(
    ("text", "env"),
    [
        (UNQUOTED, {"PORT": "8", "ON": "true"}),
        (UNQUOTED, {"SERVERS": "{", "PORT": "8", "ON": "true"}),
        ('{"servers": {}, "listen": {"port": ${PORT}}}', {"PORT": "8"}),
        ('{"mcpServers": {}, "servers": ${SERVERS}}', {"SERVERS": "{}"}),
    ],
)
def test_other_dialects_have_variables_in_strings_only(text: str, env: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(text, name="f.json", format="json", env=env)

    assert "not JSON" in caught.value.problems[0]


def test_a_byte_order_mark_is_none_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    path.write_text("\ufeff" + json.dumps({"upstreams": [upstream()]}), "utf-8")

    assert load(path, env={}).warnings == []


def test_user_and_password_of_a_url_are_sent_as_go_sent_them() -> None:
    servers = {
        "a": {"type": "http", "url": "https://me:p%40ss@example.com:8/mcp"},
        "b": {"type": "http", "url": "https://me@example.com/mcp", "headers": {"authorization": "Bearer x"}},
    }

    one, other = shown(read({"upstreams": [upstream(mcpServers=servers)]}).config, 0)

    assert isinstance(one, HttpServer)
    assert isinstance(other, HttpServer)
    assert (one.url, one.headers) == ("https://example.com:8/mcp", {"Authorization": Secret("Basic bWU6cEBzcw==")})
    assert (other.url, other.headers) == ("https://example.com/mcp", {"authorization": Secret("Bearer x")})


# ---- sharing ---------------------------------------------------------------------------------------------------------


def test_alike_servers_of_one_upstream_stay_two_and_each_is_shared_with_another() -> None:
    alike = SERVER | {"shared": True}
    two = {"a": alike, "b": alike}

    config = read({"upstreams": [upstream(mcpServers=two), upstream(name="other", mcpServers=two)]}).config

    assert [each.servers for each in config.namespaces.values()] == [("a", "b"), ("a", "b")]


def test_who_has_another_description_is_alike_and_who_is_disabled_is_not() -> None:
    first = SERVER | {"shared": True}
    second = first | {"description": "the same"}
    third = first | {"disabled": True}
    servers = [{"a": first}, {"a": second}, {"a": third, "b": SERVER}]

    config = read({"upstreams": [upstream(name=str(n), mcpServers=each) for n, each in enumerate(servers)]}).config

    assert [each.servers for each in config.namespaces.values()] == [("a",), ("a",), ("2.a", "b")]


def test_a_server_may_be_called_what_another_would_be() -> None:
    first = {"a": SERVER, "two.a": SERVER, "two.a-2": SERVER}

    config = read({"upstreams": [upstream(mcpServers=first), upstream(name="two")]}).config

    assert config.namespaces["two"].servers == ("two.a-3",)
    assert config.servers["two.a-3"].title == "a"
