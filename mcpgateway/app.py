"""From a configuration to a running gateway: for Python code that embeds one, and for the runners.

Lifetimes nest: the gateway's servers outlive its fronts, so that what a front is draining can still be answered.

Whoever embeds a gateway waits for its import, so what only some need is imported by the function that needs it: the
HTTP front (20 ms), and the reading of files (15 ms).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import trio

from mcpgateway.adapters.base import Adapter
from mcpgateway.config.model import Config, InProcessServer
from mcpgateway.gateway import Gateway
from mcpgateway.wire.shield import shielded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcpgateway.wire.http1.exchange import Exchange
    from mcpgateway.wire.http1.requests import HttpRequest

CLOSING: Final = 10.0
"""Seconds that closing all servers may take; each adapter's own bounds are well below."""


@asynccontextmanager
async def open_gateway(
    config: Config | Mapping[str, object] | str | Path | None = None,
    *,
    servers: Mapping[str, object] | None = None,
) -> AsyncIterator[Gateway]:
    """A gateway without a listener, for the calls of this process.

    ``config`` is a file, the same keys as a mapping, or a `Config`. ``servers`` are more servers by name, each a server
    object of the ``mcp`` SDK, a function that returns one, or an `mcpgateway.adapters.base.Adapter`.

    The servers are starting when the block begins (calls wait for them), and are gone when it has ended, children
    included. Must be entered and left in the same task.

    :raises ConfigError: everything that is wrong with the configuration
    """
    gateway = _gateway(await _configuration(config), servers or {})
    problem: BaseException | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(gateway.run)
        try:
            yield gateway
        except (Exception, KeyboardInterrupt, SystemExit) as raised:
            problem = raised  # kept out of the nursery, which would wrap it in a group
        finally:
            await _close(gateway)
            nursery.cancel_scope.cancel(reason="the gateway is closed")
    if problem is not None:
        raise problem


async def serve(
    gateway: Gateway, *, stop: trio.Event, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run a gateway with its HTTP front until ``stop`` is set; then drain, close and return.

    Says the URL as soon as it listens, which is before any server is up. ``shutdown_timeout`` bounds the calls that
    are in flight at the end.

    :raises OSError: the address cannot be listened on
    """
    from mcpgateway.fronts.http import HttpFront

    front = HttpFront(gateway, gateway.config.listen, _cold_routes(gateway))
    async with trio.open_nursery() as nursery:
        url = await nursery.start(front.run)
        await nursery.start(gateway.run)
        task_status.started(url)
        try:
            await stop.wait()
            await front.drain(gateway.config.shutdown_timeout)
        finally:
            await _close(gateway)
            nursery.cancel_scope.cancel(reason="the gateway is closed")


async def _configuration(config: Config | Mapping[str, object] | str | Path | None) -> Config:
    if isinstance(config, Config):
        return config
    if config is None:
        return Config()
    from mcpgateway.config.loading import from_value, load

    if isinstance(config, Mapping):
        return from_value(dict(config), env=os.environ).config
    return (await trio.to_thread.run_sync(lambda: load(Path(config), env=os.environ))).config


def _gateway(config: Config, servers: Mapping[str, object]) -> Gateway:
    """A gateway with servers added that are objects, not configuration."""
    if not servers:
        return Gateway(config)
    from mcpgateway.adapters.in_process import InProcessAdapter

    adapters: dict[str, Adapter] = {
        name: target if _is_adapter(target) else InProcessAdapter(name, target)  # type: ignore[misc]  # judged by shape
        for name, target in servers.items()
    }
    added = {name: InProcessServer(name, module="object:given") for name in servers}
    return Gateway(attrs.evolve(config, servers={**config.servers, **added}), adapters)


def _is_adapter(target: object) -> bool:
    return hasattr(target, "connect") and hasattr(target, "server")


async def _close(gateway: Gateway) -> None:
    with shielded(CLOSING):
        await gateway.aclose()


def _cold_routes(gateway: Gateway) -> Callable[[HttpRequest, Exchange], Awaitable[None]]:
    """The handler of all that is not MCP. The app behind it is imported by the first request that needs it."""
    app: Callable[[HttpRequest, Exchange], Awaitable[None]] | None = None

    async def handle(request: HttpRequest, exchange: Exchange) -> None:
        nonlocal app
        if app is None:
            from mcpgateway.web.routes import handler

            app = handler(gateway)
        await app(request, exchange)

    return handle
