"""From a server's configuration to its adapter. Third parties register theirs beside `mcpgateway.config.adapters`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import attrs

from mcpgateway.adapters.base import Adapter
from mcpgateway.adapters.sse import SseAdapter
from mcpgateway.adapters.stdio import StdioAdapter
from mcpgateway.adapters.streamable_http import StreamableHttpAdapter
from mcpgateway.config.model import (
    HttpServer,
    InProcessServer,
    ServerConfig,
    SseServer,
    StdioServer,
    WebSocketServer,
)
from mcpgateway.wire.guard import Guard
from mcpgateway.wire.login_path import LoginPath
from mcpgateway.wire.readiness import Poller

_Config = TypeVar("_Config", bound=ServerConfig)


@attrs.frozen
class Commons:
    """What the adapters of one gateway share, owned by the gateway."""

    poller: Poller
    guard: Guard
    login_path: LoginPath
    environ: Mapping[str, str]
    """The gateway's environment, as it was at the start."""


_FACTORIES: dict[type[ServerConfig], Callable[[ServerConfig, Commons], Adapter]] = {}


def register(cls: type[_Config], factory: Callable[[_Config, Commons], Adapter]) -> None:
    """Say how servers of a configuration class are reached.

    :raises ValueError: the class has an adapter already
    """
    if cls in _FACTORIES:
        raise ValueError(f"{cls.type!r} has an adapter already")

    def make(config: ServerConfig, commons: Commons) -> Adapter:
        assert isinstance(config, cls)
        return factory(config, commons)

    _FACTORIES[cls] = make


def adapter_for(config: ServerConfig, commons: Commons) -> Adapter:
    """The adapter of a server; starts nothing."""
    return _FACTORIES[type(config)](config, commons)


def _in_process(config: InProcessServer, commons: Commons) -> Adapter:
    from mcpgateway.adapters.in_process import InProcessAdapter

    return InProcessAdapter(config.name, config.module, startup_timeout=config.startup_timeout)


def _websocket(config: WebSocketServer, commons: Commons) -> Adapter:
    from mcpgateway.adapters.websocket import WebSocketAdapter  # its library takes a while to import

    return WebSocketAdapter(config)


register(StdioServer, lambda config, commons: StdioAdapter(config, commons.guard, commons.login_path))
register(HttpServer, lambda config, commons: StreamableHttpAdapter(config, commons.poller, environ=commons.environ))
register(SseServer, lambda config, commons: SseAdapter(config, commons.poller, environ=commons.environ))
register(WebSocketServer, _websocket)
register(InProcessServer, _in_process)
