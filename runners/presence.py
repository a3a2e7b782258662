"""What other programs see of a running service: its state file, which follows what happens to the service."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final, TypeVar

import trio

from mcpgateway._version import VERSION
from mcpgateway.app import Service
from runners import options
from runners.statefile import Dialled, State, StateFile

CALM: Final = 1.0
"""Seconds between two writes that nobody waits for: upstreams may come and go many times in one."""
T = TypeVar("T")


class Presence:
    """Keeps the state file of a service true, until the file is removed."""

    def __init__(self, service: Service, file: StateFile) -> None:
        self._service = service
        self._file = file
        self._started = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        self._news = trio.Event()
        self._turn = trio.Lock()

    def changed(self) -> None:
        """Something of it has; the file says so soon."""
        self._news.set()

    async def keep(self) -> None:
        """Write the file after each change, but not all the time, until cancelled."""
        while True:
            await self._news.wait()
            self._news = trio.Event()
            await self.tell()
            await trio.sleep(CALM)

    async def tell(self) -> None:
        """Write what is so now."""
        async with self._turn:
            await in_thread(partial(self._file.write, self._state()))

    def _state(self) -> State:
        service, process = self._service, self._file.process
        return State(
            pid=process.pid,
            born=process.born,
            url=service.url,
            metrics=service.metrics_url,
            version=VERSION,
            started=self._started,
            config=options.file_of(service.gateway.config),
            upstreams={each.name: Dialled(each.state.value, each.reason) for each in service.upstreams()},
        )


async def in_thread(function: Callable[[], T]) -> T:
    """Do what may wait for a disk, or for whoever writes a pipe; nobody waits for it when the gateway ends."""
    return await trio.to_thread.run_sync(function, abandon_on_cancel=True)
