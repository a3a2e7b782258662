"""Many MCP servers behind one endpoint: a trio library of rooms on a ladder, in which imports point down only.

    app                  configuration -> servers, namespaces, fronts: `open_gateway`, `serve`, `Service`
    web                  the cold HTTP routes
    fronts               how clients reach the gateway: Streamable HTTP, HTTP+SSE, WebSocket, stdio, upstreams
    gateway              owns the nurseries, knows the namespaces
    calls                what happens to one call: routing, merged listings, its link, its back-channel
    sessions             what outlives a call on the client's side
    servers              a server's life, and how its links are shared
    adapters             the seam: one module per transport
    access, recording    who may do what; call events
    wire                 how bytes move
    config               what the operator says
    protocol, catalog    MCP, and names: pure
    jsonrpc, backoff, durations, gcra, errors
                         the ground

`testing` stands beside the ladder: doubles, and the contract that every adapter keeps.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from mcpgateway._version import VERSION

if TYPE_CHECKING:
    from mcpgateway.adapters.base import Adapter, Link
    from mcpgateway.app import Service, open_gateway, serve
    from mcpgateway.config.loading import from_value, load, loads
    from mcpgateway.config.model import Config
    from mcpgateway.errors import ConfigError, ErrorReply, GatewayError
    from mcpgateway.gateway import Gateway

__version__ = VERSION

__all__ = [
    "Adapter",
    "Config",
    "ConfigError",
    "ErrorReply",
    "Gateway",
    "GatewayError",
    "Link",
    "Service",
    "__version__",
    "from_value",
    "load",
    "loads",
    "open_gateway",
    "serve",
]

_HOMES = {
    "Adapter": "adapters.base",
    "Config": "config.model",
    "ConfigError": "errors",
    "ErrorReply": "errors",
    "Gateway": "gateway",
    "GatewayError": "errors",
    "Link": "adapters.base",
    "Service": "app",
    "from_value": "config.loading",
    "load": "config.loading",
    "loads": "config.loading",
    "open_gateway": "app",
    "serve": "app",
}


def __getattr__(name: str) -> object:
    """The public names, each imported when first touched."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
