"""All upstreams of a gateway: each in a task of its own, replaced one by one when the configuration changes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import trio

from mcpgateway.config.model import UpstreamConfig
from mcpgateway.fronts.dialling import State
from mcpgateway.fronts.upstream import Upstream, UpstreamStatistics
from mcpgateway.gateway import Gateway

log = logging.getLogger("mcpgateway.upstream")


class Upstreams:
    """The upstreams of a gateway, by name. `run` owns them. ``moved`` is called when one comes into another state."""

    def __init__(self, gateway: Gateway, moved: Callable[[], None]) -> None:
        self._gateway = gateway
        self._moved = moved
        self._places: dict[str, _Place] = {}
        """Those that are configured, in config order."""
        self._running: dict[str, _Place] = {}
        """Those whose task has not ended: also of upstreams that are configured no more, and answer what they have."""
        self._nursery: trio.Nursery | None = None
        self._empty = trio.Event()
        self._draining = False

    async def run(self) -> None:
        """Dial all that there are, and those that come, until cancelled."""
        async with trio.open_nursery() as self._nursery:
            try:
                self.reconfigure(self._gateway.config.upstreams, 0.0)
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def reconfigure(self, configs: Iterable[UpstreamConfig], timeout: float) -> None:
        """Have just these from now on; while they are being drained, none. What is equal keeps its connection; calls in
        flight on others have ``timeout`` seconds, and an endpoint that has changed, or gone and come again, is dialled
        when the former connection has ended: clouds take but one.
        """
        if self._nursery is None or self._draining:
            return  # `run` begins with what is configured by then
        before = self._places
        self._places = {config.name: self._placed(config, timeout) for config in configs if config.enabled}
        for name, place in before.items():
            if name not in self._places:
                place.want(None, timeout)

    def _placed(self, config: UpstreamConfig, timeout: float) -> _Place:
        """Where an upstream is from now on: the place that it has, or still has."""
        place = self._running.get(config.name)
        if place is not None:
            place.want(config, timeout)
            return place
        assert self._nursery is not None
        place = self._running[config.name] = _Place(self._gateway, config, self._moved)
        self._nursery.start_soon(self._keep, config.name, place, name=f"upstream {config.name}")
        return place

    async def _keep(self, name: str, place: _Place) -> None:
        try:
            await place.run()
        except Exception:
            log.exception("upstream %r has failed, and is not dialled before a reload", name)
        finally:
            del self._running[name]
            if not self._running:
                self._empty.set()

    async def drain(self, timeout: float) -> None:
        """End all connections; calls in flight on them have ``timeout`` seconds."""
        self._draining, self._places = True, {}
        for place in self._running.values():  # also those that had longer, in the configuration that they left with
            place.want(None, timeout)
        while self._running:
            self._empty = trio.Event()
            await self._empty.wait()

    def statistics(self) -> tuple[UpstreamStatistics, ...]:
        """Each upstream at this moment, in config order."""
        return tuple(place.upstream.statistics() for place in self._places.values())

    @property
    def are_over(self) -> bool:
        """Whether there are some, and none of them is dialled again unless the configuration changes."""
        return bool(self._places) and all(place.is_over for place in self._places.values())


class _Place:
    """Where one upstream is, and then the one that replaces it."""

    def __init__(self, gateway: Gateway, config: UpstreamConfig, moved: Callable[[], None]) -> None:
        self._gateway = gateway
        self._moved = moved
        self._wanted: UpstreamConfig | None = config
        self._changed = trio.Event()
        self.upstream = Upstream(config, gateway, moved=moved)

    @property
    def is_over(self) -> bool:
        """Whether its upstream has ended by itself, and no other one is to come."""
        return self.upstream.state is State.ENDED and not self._changed.is_set()

    def want(self, config: UpstreamConfig | None, timeout: float) -> None:
        """Be another upstream, or none, as soon as the one that there is has ended. One that has ended by itself is
        dialled anew, whether it differs or not."""
        if config is not None and config == self._wanted and self.upstream.state is not State.ENDED:
            return
        self._wanted = config
        self._changed.set()
        self.upstream.stop(timeout)

    async def run(self) -> None:
        """Run the upstream that is wanted, until none is."""
        while self._wanted is not None:
            await self.upstream.run()
            await self._changed.wait()
            self._changed = trio.Event()
            if self._wanted is not None:
                self.upstream = Upstream(self._wanted, self._gateway, moved=self._moved)
