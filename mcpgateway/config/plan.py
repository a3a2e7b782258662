"""Which namespaces a configuration makes, and what each shows of which servers. Pure.

A plan is compared by value: a namespace whose plan a reload does not change is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from mcpgateway.catalog.rules import Naming, NamingMode, ServerView, ToolRules, resolve_mode
from mcpgateway.config.model import Config, ServerConfig, UpstreamConfig
from mcpgateway.durations import Seconds


@attrs.frozen
class Plan:
    """One namespace, as it is to be made."""

    name: str
    servers: tuple[str, ...]
    """In config order."""
    views: Mapping[str, ServerView]
    """By server."""
    naming: Naming
    mode: NamingMode
    """``naming.mode`` after `resolve_mode`."""
    startup_wait: Seconds
    list_timeout: Seconds
    page_size: int

    @property
    def raw(self) -> bool:
        """Whether it shows one server as it is."""
        return self.mode is NamingMode.RAW and len(self.servers) == 1


def enabled(config: Config) -> dict[str, ServerConfig]:
    """The servers that are to run, in config order."""
    return {name: server for name, server in config.servers.items() if server.enabled}


def dialled(config: Config) -> dict[str, UpstreamConfig]:
    """The upstreams that are to be dialled, by name, in config order."""
    return {upstream.name: upstream for upstream in config.upstreams if upstream.enabled}


def plans(config: Config) -> dict[str, Plan]:
    """All namespaces by name: the implicit ones, then the configured ones, which hide servers of their names."""
    servers = enabled(config)
    found: dict[str, Plan] = {}
    if config.expose_servers or (config.expose_servers is None and not config.namespaces):
        found[""] = _plan(config, "", tuple(servers), config.naming, (), configured=False)
        for name in servers:
            found[name] = _plan(config, name, (name,), Naming(), (), configured=True)
    for name, namespace in config.namespaces.items():
        names = tuple(server for server in namespace.servers if server in servers)
        found[name] = _plan(config, name, names, namespace.naming, (namespace.tools,), configured=True)
    return found


def _plan(
    config: Config,
    name: str,
    servers: tuple[str, ...],
    naming: Naming,
    rules: tuple[ToolRules, ...],
    *,
    configured: bool,
) -> Plan:
    return Plan(
        name,
        servers,
        {
            server: ServerView(config.servers[server].prefix, (config.servers[server].tools, *rules))
            for server in servers
        },
        naming,
        resolve_mode(naming.mode, configured=configured, servers=len(servers)),
        config.startup_wait,
        config.list_timeout,
        config.page_size,
    )
