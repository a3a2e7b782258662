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
    from collections.abc import Awaitable, Callable, Sequence

    from mcpgateway.config.differences import Differences
    from mcpgateway.fronts.http import HttpFront
    from mcpgateway.fronts.upstream import UpstreamStatistics
    from mcpgateway.fronts.upstreams import Upstreams
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
    """A gateway with its HTTP front, its upstreams, and a listener for metrics where they are to have their own; all of
    these can be given another configuration while they run.

    ``listening`` says whether there is an HTTP front.

    :raises OSError: a file of ``listen.tls`` cannot be used
    """

    def __init__(self, gateway: Gateway, *, listening: bool = True) -> None:
        from mcpgateway.fronts.state import StateFront

        self.gateway = gateway
        self.moved: Callable[[], None] = _nothing
        """Called when an upstream has come into another state; must not wait."""
        self._cold = _cold_routes(gateway, self.upstreams)
        self._state = StateFront(gateway, _cold_routes(gateway, self.upstreams, alone=True))
        self._front = self._make_front(gateway.config) if listening else None
        self._upstreams = self._make_upstreams()
        self._former: set[HttpFront] = set()
        """Fronts that another one has replaced, and that finish their calls."""
        self._nursery: trio.Nursery | None = None

    @property
    def url(self) -> str:
        """Where it listens, while it does; empty if it does not."""
        return "" if self._front is None else self._front.url

    @property
    def is_over(self) -> bool:
        """Whether it serves nobody any more: there is no HTTP front, and no upstream is dialled again unless the
        configuration changes."""
        return self._front is None and self._upstreams is not None and self._upstreams.are_over

    def upstreams(self) -> tuple[UpstreamStatistics, ...]:
        """Each upstream at this moment, in config order."""
        return () if self._upstreams is None else self._upstreams.statistics()

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
            self._nursery.start_soon(self._state.run)
            if self._front is not None:
                self._front.bind()
                self._nursery.start_soon(self._front.run)
            await self._nursery.start(gateway.run)
            if self._upstreams is not None:
                self._nursery.start_soon(self._upstreams.run)
            task_status.started(self.url)
            by = math.inf
            try:
                await stop.wait()
                timeout = gateway.config.shutdown_timeout
                by = trio.current_time() + timeout + ENDING
                async with trio.open_nursery() as draining:
                    draining.start_soon(self._state.drain, timeout)
                    for each in (self._front, *self._former, self._upstreams):
                        if each is not None:
                            draining.start_soon(each.drain, timeout)
            finally:
                await _close(gateway, by)
                self._nursery.cancel_scope.cancel(reason="the gateway is closed")

    def reconfigure(self, config: Config, *, listening: bool | None = None) -> Differences:
        """Go on with another configuration: `Gateway.reconfigure`, the listener, and the upstreams.

        A listener at another address, or with TLS where it was without, is opened before anything else is changed, and
        clients of the old one finish their calls there. Certificates are read anew in any case. Upstreams are compared
        by value: the others are dialled anew, once they have answered what they have. ``listening`` is as in the
        constructor; where not given it stays as it is. The listener for metrics is treated like the other.

        :raises OSError: the listener cannot be opened, or a file of ``listen.tls`` cannot be used; nothing has changed
        :raises ConfigError: as `Gateway.reconfigure`; nothing has changed
        """
        with self._state.reconfiguring(config):
            return self._reconfigure(config, listening)

    def _reconfigure(self, config: Config, listening: bool | None) -> Differences:
        assert self._nursery is not None, "it is not running"
        wanted = self._front is not None if listening is None else listening
        if wanted and self._front is not None:
            differences = self._reconfigure_front(self._front, config)
        else:
            differences = self._open_or_close(config, wanted)
        if self._upstreams is not None:
            self._upstreams.reconfigure(config.upstreams, config.shutdown_timeout)
        elif config.upstreams:
            self._upstreams = self._make_upstreams()
            assert self._upstreams is not None
            self._nursery.start_soon(self._upstreams.run)
        return differences

    def _reconfigure_front(self, front: HttpFront, config: Config) -> Differences:
        """Listen on, where and how another configuration says."""
        from mcpgateway.fronts.listener import tls_context

        before, listen = self.gateway.config.listen, config.listen
        moved = (before.host, before.port) != (listen.host, listen.port)
        if not moved and (before.tls is None) == (listen.tls is None):
            tls = tls_context(listen)
            differences = self.gateway.reconfigure(config)
            front.reconfigure(listen, tls)
            return differences
        another = self._make_front(config)
        if moved:
            another.bind(beside=front)
        differences = self._reconfigure_gateway(config, another)
        if not moved:
            another.take_over(front)
        self._replace(front, another, config.shutdown_timeout)
        return differences

    def _open_or_close(self, config: Config, wanted: bool) -> Differences:
        """Listen where there was no listener, or no more; or go on without."""
        front = self._make_front(config) if wanted else None
        if front is not None:
            front.bind()
        differences = self._reconfigure_gateway(config, front)
        self._replace(self._front, front, config.shutdown_timeout)
        return differences

    def _reconfigure_gateway(self, config: Config, front: HttpFront | None) -> Differences:
        """`Gateway.reconfigure`; the front that was made for it is closed if that fails."""
        try:
            return self.gateway.reconfigure(config)
        except BaseException:
            if front is not None:
                front.close()
            raise

    def _replace(self, former: HttpFront | None, front: HttpFront | None, timeout: float) -> None:
        """Serve on one front from now on, and let the former one finish its calls."""
        assert self._nursery is not None
        self._front = front
        if front is not None:
            self._nursery.start_soon(front.run)
        if former is not None:
            former.close()
            self._former.add(former)
            self._nursery.start_soon(self._retire, former, timeout)

    async def _retire(self, front: HttpFront, timeout: float) -> None:
        try:
            await front.drain(timeout)
        finally:
            self._former.discard(front)

    def _make_front(self, config: Config) -> HttpFront:
        from mcpgateway.fronts.http import HttpFront

        return HttpFront(self.gateway, config.listen, self._cold)

    def _make_upstreams(self) -> Upstreams | None:
        """What dials the upstreams of the gateway; imported where there are any."""
        if not self.gateway.config.upstreams:
            return None
        from mcpgateway.fronts.upstreams import Upstreams

        return Upstreams(self.gateway, lambda: self.moved())


def _nothing() -> None:
    pass


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


def _cold_routes(
    gateway: Gateway, upstreams: Callable[[], Sequence[UpstreamStatistics]], *, alone: bool = False
) -> Callable[[HttpRequest, Exchange], Awaitable[None]]:
    """The handler of all that is not MCP; see `mcpgateway.web.routes.handler`. The app behind it is imported by the
    first request that needs it."""
    app: Callable[[HttpRequest, Exchange], Awaitable[None]] | None = None

    async def handle(request: HttpRequest, exchange: Exchange) -> None:
        nonlocal app
        if app is None:
            from mcpgateway.web.routes import handler

            app = handler(gateway, upstreams, alone=alone)
        await app(request, exchange)

    return handle
