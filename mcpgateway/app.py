"""From a configuration to a running gateway: for Python code that embeds one, and for the runners.

Lifetimes nest: the gateway's servers outlive its fronts, so that what a front is draining can still be answered.

Whoever embeds a gateway waits for its import, so what only some need is imported by the function that needs it: the
HTTP front (20 ms), and the reading of files (15 ms).
"""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from mcpgateway.adapters.base import Adapter
from mcpgateway.config.model import Config, InProcessServer
from mcpgateway.gateway import Gateway
from mcpgateway.wire.shield import shielded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcpgateway.config.differences import Differences
    from mcpgateway.fronts.http import HttpFront
    from mcpgateway.wire.http1.exchange import Exchange
    from mcpgateway.wire.http1.requests import HttpRequest

CLOSING: Final = 10.0
"""Seconds that closing all servers may take; each adapter's own bounds are well below."""
ENDING: Final = 2.5
"""Seconds after ``shutdown_timeout`` in which a served gateway has ended, whatever its clients and servers do."""


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


async def serve(  # noqa: ASYNC128  # `Service.run` says that it has started
    gateway: Gateway, *, stop: trio.Event, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run a gateway with its HTTP front until ``stop`` is set; see `Service.run`."""
    await Service(gateway).run(stop=stop, task_status=task_status)


class Service:
    """A gateway with its HTTP front, and a listener for metrics where they are to have their own; all can be given
    another configuration while they run.

    :raises OSError: a file of ``listen.tls`` cannot be used
    """

    def __init__(self, gateway: Gateway) -> None:
        from mcpgateway.fronts.http import HttpFront
        from mcpgateway.fronts.state import StateFront

        self.gateway = gateway
        self._cold = _cold_routes(gateway)
        self._state = StateFront(gateway, _cold_routes(gateway, alone=True))
        self._front = HttpFront(gateway, gateway.config.listen, self._cold)
        self._former: set[HttpFront] = set()
        """Fronts that another one has replaced, and that finish their calls."""
        self._nursery: trio.Nursery | None = None

    @property
    def url(self) -> str:
        """Where it listens, while it does."""
        return self._front.url

    @property
    def metrics_url(self) -> str:
        """Where metrics have a listener of their own; empty if they have none."""
        return self._state.url

    async def run(self, *, stop: trio.Event, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until ``stop`` is set; then drain, close and return.

        Says the URL as soon as it listens, which is before any server is up. Calls in flight at the end are given
        ``shutdown_timeout``, and all of it ends within `ENDING` seconds more: children are killed then.

        :raises OSError: the address cannot be listened on
        """
        gateway = self.gateway
        async with trio.open_nursery() as self._nursery:
            self._state.bind()
            self._front.bind()
            self._nursery.start_soon(self._state.run)
            self._nursery.start_soon(self._front.run)
            await self._nursery.start(gateway.run)
            task_status.started(self._front.url)
            by = math.inf
            try:
                await stop.wait()
                timeout = gateway.config.shutdown_timeout
                by = trio.current_time() + timeout + ENDING
                async with trio.open_nursery() as draining:
                    draining.start_soon(self._state.drain, timeout)
                    for front in (self._front, *self._former):
                        draining.start_soon(front.drain, timeout)
            finally:
                await _close(gateway, by)
                self._nursery.cancel_scope.cancel(reason="the gateway is closed")

    def reconfigure(self, config: Config) -> Differences:
        """Go on with another configuration: `Gateway.reconfigure`, and the listener.

        A listener at another address, or with TLS where it was without, is opened before anything else is changed, and
        clients of the old one finish their calls there. Certificates are read anew in any case. The
        listener for metrics is treated alike.

        :raises OSError: the listener cannot be opened, or a file of ``listen.tls`` cannot be used; nothing has changed
        :raises ConfigError: as `Gateway.reconfigure`; nothing has changed
        """
        with self._state.reconfiguring(config):
            return self._reconfigure(config)

    def _reconfigure(self, config: Config) -> Differences:
        from mcpgateway.fronts.http import HttpFront
        from mcpgateway.fronts.listener import tls_context

        assert self._nursery is not None, "it is not running"
        before, listen = self.gateway.config.listen, config.listen
        moved = (before.host, before.port) != (listen.host, listen.port)
        if not moved and (before.tls is None) == (listen.tls is None):
            tls = tls_context(listen)
            differences = self.gateway.reconfigure(config)
            self._front.reconfigure(listen, tls)
            return differences
        former, front = self._front, HttpFront(self.gateway, listen, self._cold)
        if moved:
            front.bind(beside=former)
        try:
            differences = self.gateway.reconfigure(config)
        except BaseException:
            front.close()
            raise
        if not moved:
            front.take_over(former)
        former.close()
        self._front = front
        self._nursery.start_soon(front.run)
        self._former.add(former)
        self._nursery.start_soon(self._retire, former, config.shutdown_timeout)
        return differences

    async def _retire(self, front: HttpFront, timeout: float) -> None:
        try:
            await front.drain(timeout)
        finally:
            self._former.discard(front)


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
    return Gateway(config, adapters, embedded={name: InProcessServer(name, module="object:given") for name in servers})


def _is_adapter(target: object) -> bool:
    return hasattr(target, "connect") and hasattr(target, "server")


async def _close(gateway: Gateway, by: float = math.inf) -> None:
    with shielded(CLOSING):
        await gateway.aclose(by)


def _cold_routes(gateway: Gateway, *, alone: bool = False) -> Callable[[HttpRequest, Exchange], Awaitable[None]]:
    """The handler of all that is not MCP; see `mcpgateway.web.routes.handler`. The app behind it is imported by the
    first request that needs it."""
    app: Callable[[HttpRequest, Exchange], Awaitable[None]] | None = None

    async def handle(request: HttpRequest, exchange: Exchange) -> None:
        nonlocal app
        if app is None:
            from mcpgateway.web.routes import handler

            app = handler(gateway, alone=alone)
        await app(request, exchange)

    return handle
