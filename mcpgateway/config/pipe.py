"""What ``mcp_pipe.py`` made of its file, its argument and its environment, for ``runners.bridge``. Pure.

In this order: `targeted` picks what an argument names; `bridged` lets ``MCP_LOG_LEVEL`` and ``MCP_ENDPOINT`` count,
which may come from ``.env`` (`runners.environment`), and gives a file without upstreams one.
Unlike that program, which dialled once for each server, the gateway shows all of them on one connection: an endpoint
takes only one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from mcpgateway.catalog.rules import Naming, NamingMode
from mcpgateway.config import names
from mcpgateway.config.dialects import Dialect
from mcpgateway.config.dialects.bridge import ALONE
from mcpgateway.config.dialects.bridge_parts import LEVELS, log_level
from mcpgateway.config.loading import Loaded
from mcpgateway.config.model import (
    Config,
    Isolation,
    NamespaceConfig,
    Secret,
    ServerConfig,
    StdioServer,
    UpstreamConfig,
)
from mcpgateway.config.urls import url_problem
from mcpgateway.errors import ConfigError


def targeted(loaded: Loaded | None, target: str, *, is_file: Callable[[str], bool], python: str) -> Loaded:
    """The one server that an argument names, which is a server of the configuration, else a Python script.

    It is shown to ``MCP_ENDPOINT``, whatever upstreams the configuration has.

    :param loaded: ``None`` where there is no configuration
    :param python: the interpreter that runs a script
    :raises ConfigError: there is no such server and no such script, or the server is disabled
    """
    config = Config() if loaded is None else loaded.config
    found = next((name for name, server in config.servers.items() if target in (name, server.title)), None)
    if found is not None:
        server = config.servers[found]
        if not server.enabled:
            raise ConfigError([f"{_source(config)}server {target!r} is disabled"])
    elif is_file(target):
        found = names.legal(Path(target).stem, "server")
        server = StdioServer(found, isolation=Isolation.SHARED, command=python, args=(target,))
    else:
        raise ConfigError([f"{_source(config)}there is no server {target!r}, and no such Python script"])
    config = attrs.evolve(config, servers={found: server}, namespaces={}, upstreams=())
    if loaded is None:
        return Loaded(config, [], frozenset({"servers"}))
    return attrs.evolve(loaded, config=config, keys=loaded.keys - {"namespaces", "upstreams"})


def bridged(loaded: Loaded, env: Mapping[str, str]) -> Loaded:
    """A configuration as the bridge takes it: ``MCP_LOG_LEVEL`` wins over its level of logging, and where it says
    nothing of upstreams, ``MCP_ENDPOINT`` is one that sees all servers under their tools' own names.

    :raises ConfigError: a desktop client's file and no ``MCP_ENDPOINT``, one that is no endpoint, or nothing to show
    """
    loaded = _with_level(loaded, env.get("MCP_LOG_LEVEL", ""))
    endpoint = env.get("MCP_ENDPOINT", "")
    if "upstreams" in loaded.keys or not (endpoint or loaded.dialect is Dialect.DESKTOP):
        return loaded
    config = loaded.config
    if (
        problem := "is not set, and the file names no upstream"
        if not endpoint
        else url_problem(endpoint, schemes=("ws", "wss"))
    ):
        raise ConfigError([f"{_source(config)}MCP_ENDPOINT {problem}"])
    if not any(server.enabled for server in config.servers.values()):
        raise ConfigError([f"{_source(config)}at least one enabled MCP server is required"])
    if loaded.dialect is Dialect.DESKTOP:
        config = attrs.evolve(config, servers={name: _alone(server) for name, server in config.servers.items()})
    view = names.unique(ALONE, {*config.namespaces, *config.servers})
    namespace = NamespaceConfig(view, tuple(config.servers), naming=Naming(NamingMode.RAW))
    upstream = UpstreamConfig(ALONE, Secret(endpoint), view)
    exposed = config.expose_servers is not False if not config.namespaces else config.expose_servers
    return attrs.evolve(
        loaded,
        config=attrs.evolve(
            config,
            namespaces={**config.namespaces, view: namespace},
            upstreams=(upstream,),
            expose_servers=exposed,  # HTTP shows what it did
        ),
    )


def _alone(server: ServerConfig) -> ServerConfig:
    """A server as that program had it: one process for all, whatever the cloud says that it could be asked."""
    shared = server.local and server.isolation is Isolation.AUTO
    return attrs.evolve(server, isolation=Isolation.SHARED) if shared else server


def _with_level(loaded: Loaded, level: str) -> Loaded:
    if not level or loaded.dialect is Dialect.BRIDGE:  # whose own variable it is
        return loaded
    known = log_level(level)
    if known is None:
        return attrs.evolve(loaded, warnings=[*loaded.warnings, f"MCP_LOG_LEVEL must be one of {LEVELS}"])
    config = loaded.config
    return attrs.evolve(loaded, config=attrs.evolve(config, logging=attrs.evolve(config.logging, level=known)))


def _source(config: Config) -> str:
    return f"{config.source}: " if config.source else ""
