"""A listener for those who watch the gateway: ``/metrics`` and ``/health`` at an address of their own, and no MCP.

What serves HTTP is imported (20 ms) once there is to be one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio

from mcpgateway.config.limits import Limits
from mcpgateway.config.model import Config, Listen, Metrics
from mcpgateway.gateway import Gateway

if TYPE_CHECKING:
    from mcpgateway.fronts.listener import ColdListener
    from mcpgateway.wire.http1.connection import Handler

log = logging.getLogger("mcpgateway.http")

LIMITS: Final = Limits(body_bytes=64 * 1024, connections=64, connections_per_address=64)
"""Of this listener alone: who floods the gateway does not hide it from those who watch, nor the other way round."""


class CannotWatch(OSError):
    """The address for metrics cannot be listened on; says which, and why."""

    def __init__(self, metrics: Metrics, problem: OSError) -> None:
        reason = problem.strerror or str(problem)
        super().__init__(f"metrics: cannot listen on {metrics.host}, port {metrics.port}: {reason}")


class StateFront:
    """Serves ``cold`` where ``metrics.host`` and ``metrics.port`` say, under the rules for hosts of ``listen``; nothing
    while they do not. `run` owns its listeners and connections."""

    def __init__(self, gateway: Gateway, cold: Handler) -> None:
        self._gateway = gateway
        self._cold = cold
        self._listener = self._make(gateway.config)
        self._former: set[ColdListener] = set()
        """Those that another one has replaced, and that finish their requests."""
        self._nursery: trio.Nursery | None = None

    @property
    def url(self) -> str:
        """Where it listens; empty if it does not."""
        return "" if self._listener is None else self._listener.url

    def bind(self) -> None:
        """Open the listeners there are to be; connections wait in them until `run`.

        :raises CannotWatch: the address cannot be listened on
        """
        if self._listener is not None:
            _bind(self._listener, self._gateway.config.metrics)

    async def run(self) -> None:
        """Serve until cancelled. `bind` first."""
        async with trio.open_nursery() as self._nursery:
            try:
                if self._listener is not None:
                    self._serve(self._nursery, self._listener)
                await trio.sleep_forever()
            finally:
                self._nursery = None

    @contextmanager
    def reconfiguring(self, config: Config) -> Iterator[None]:
        """Listen where another configuration says, once it holds: that is, at the end of the block.

        :raises CannotWatch: the address cannot be listened on; nothing has changed
        """
        before, metrics = self._gateway.config.metrics, config.metrics
        wanted = _address(before) != _address(metrics)
        listener = self._make(config) if wanted else self._listener
        if wanted and listener is not None:
            _bind(listener, metrics, beside=self._listener)
        try:
            yield
        except BaseException:
            if wanted and listener is not None:
                listener.close()
            raise
        if wanted:
            self._replace(listener)
        elif listener is not None:
            listener.allow(_listen(config))

    def _replace(self, listener: ColdListener | None) -> None:
        former, self._listener = self._listener, listener
        assert self._nursery is not None, "it is not running"
        if former is not None:
            former.close()
            self._former.add(former)
            self._nursery.start_soon(self._retire, former)
        if listener is not None:
            self._serve(self._nursery, listener)

    def _serve(self, nursery: trio.Nursery, listener: ColdListener) -> None:
        log.info("metrics are at %s/metrics", listener.url)
        nursery.start_soon(listener.run)

    async def _retire(self, former: ColdListener) -> None:
        try:
            await former.drain(self._gateway.config.shutdown_timeout)
        finally:
            self._former.discard(former)

    async def drain(self, timeout: float) -> None:
        """Stop accepting, give requests ``timeout`` seconds, then end them."""
        async with trio.open_nursery() as draining:
            for listener in (self._listener, *self._former):
                if listener is not None:
                    draining.start_soon(listener.drain, timeout)

    def _make(self, config: Config) -> ColdListener | None:
        if _address(config.metrics) is None:
            return None
        from mcpgateway.fronts.listener import ColdListener

        return ColdListener(_listen(config), self._gateway.poller, self._cold, self._gateway.sweeper)


def _bind(listener: ColdListener, metrics: Metrics, beside: ColdListener | None = None) -> None:
    try:
        listener.bind(beside)
    except OSError as problem:
        raise CannotWatch(metrics, problem) from None


def _address(metrics: Metrics) -> tuple[str, int] | None:
    """The address that metrics are to have for themselves."""
    return (metrics.host, metrics.port) if metrics.enabled and metrics.port is not None else None


def _listen(config: Config) -> Listen:
    metrics = config.metrics
    return Listen(host=metrics.host, port=metrics.port or 0, allowed_hosts=config.listen.allowed_hosts, limits=LIMITS)
