"""Parked calls whose clients, servers or places are lost in every way leave nothing behind."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial
from typing import Final

import pytest
import trio
import trio.lowlevel
import trio.testing
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.calls.namespace import Namespace
from mcpgateway.config.limits import Parking
from mcpgateway.config.model import HttpServer, InProcessServer, Links
from mcpgateway.errors import JSON, ClientGone, GatewayError, InvalidParams
from mcpgateway.wire.waiting import Wait
from tests.calls.doubles import space
from tests.calls.inquirer import ACCEPTED, Inquirer, asking, form, inquirer, quiz
from tests.servers.doubles import Counting

FEW: Final = 1000
MANY: Final = 10_000
AT_ONCE: Final = 100
TTL: Final = 60.0
FORM: Final = form("name")


class Client:
    """One client with one call, which does not go well."""

    def __init__(self, namespace: Namespace, adapter: Counting, chance: random.Random) -> None:
        self._call = quiz(namespace, [FORM], [FORM])
        self._wait = Wait()
        self._adapter = adapter
        self._chance = chance

    async def never_comes_again(self) -> None:
        await self._call.send()

    async def goes_before_it_is_asked(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._gone, None)
            await self._moments()
            self._wait.end(ClientGone("closed"))

    async def goes_with_its_answer(self) -> None:
        await self._call.send()
        async with trio.open_nursery() as nursery:
            answers: dict[str, JSON] = {"name": ACCEPTED}
            nursery.start_soon(self._gone, answers)
            await self._moments()
            self._wait.end(ClientGone("closed"))

    async def answers_once_and_never_again(self) -> None:
        await self._call.send()
        await trio.sleep(self._chance.uniform(0, TTL / 2))
        await self._call.send({"name": ACCEPTED})

    async def answers_nonsense(self) -> None:
        await self._call.send()
        with pytest.raises(InvalidParams):
            await self._call.send({"name": 7})

    async def loses_its_server(self) -> None:
        await self._call.send()
        await trio.sleep(self._chance.uniform(0, 1))
        self._chance.choice(self._adapter.open).crash("killed")

    async def is_not_needed_any_more(self) -> None:
        await self._call.send()
        link = self._chance.choice(self._adapter.open)
        assert isinstance(link.host, Inquirer)
        for id in list(link.host.quizzes):
            link.send(jsonrpc.notification("notifications/cancelled", {"requestId": Raw(id)}))

    async def comes_too_late(self) -> None:
        await self._call.send()
        await trio.sleep(TTL + 2)
        with pytest.raises(InvalidParams):
            await self._call.send({"name": ACCEPTED})

    async def finishes(self) -> None:
        for _ in range(3):
            await self._call.send({"name": ACCEPTED})
            await trio.sleep(self._chance.uniform(0, 5))

    async def _gone(self, answers: dict[str, JSON] | None) -> None:
        try:
            await self._call.send(answers, wait=self._wait)  # which may be faster than the client goes
        except GatewayError:
            pass

    async def _moments(self) -> None:
        for _ in range(self._chance.randrange(8)):
            await trio.lowlevel.checkpoint()


WAYS: Final = [way for name, way in vars(Client).items() if not name.startswith("_")]


@pytest.mark.requirement("5.shows.abandoned", "5.parked.bounds")
@pytest.mark.parametrize("calls", [FEW, pytest.param(MANY, marks=pytest.mark.real)])
@pytest.mark.parametrize("sessions", [False, True], ids=["pipe", "sessions"])
async def test_abandoned_calls_leave_nothing_behind(
    sessions: bool, calls: int, autojump_clock: trio.testing.MockClock
) -> None:
    """Half of the calls each for a server on a pipe, which has links for a few of them, and for one with sessions."""
    chance = random.Random(20260728)
    links = Links(min=1, max=AT_ONCE if sessions else AT_ONCE // 4, idle_timeout=30.0)
    over_http = HttpServer("a", url="http://a/mcp", links=links)
    config = over_http if sessions else InProcessServer("a", module="m:s", links=links)
    adapter = inquirer()
    went: Counter[str] = Counter()
    failed: Counter[str] = Counter()

    async def one(namespace: Namespace) -> None:
        way = chance.choice(WAYS)
        went[way.__name__] += 1
        try:
            await way(Client(namespace, adapter, chance))
        except GatewayError as problem:  # what others do may have cost it its place, or its server
            failed[type(problem).__name__] += 1

    terms = Parking(ttl=TTL, max=AT_ONCE // 2, max_per_principal=AT_ONCE // 2)
    async with asking(adapter, configs={"a": config}, parking=terms) as gateway:
        namespace = space(gateway, "a")
        await quiz(namespace).send()
        await trio.sleep(300)
        before = trio.lowlevel.current_statistics().tasks_living, len(adapter.open)
        for _ in range(calls // 2 // AT_ONCE):
            async with trio.open_nursery() as nursery:
                for _ in range(AT_ONCE):
                    nursery.start_soon(partial(one, namespace))
                    if chance.random() < 0.2:
                        await trio.sleep(chance.uniform(0, 1))
            adapter.links = adapter.open
        await trio.sleep(300)
        now = gateway.statistics()

        assert (now.parking.parked, now.parking.running, now.waits) == (0, 0, 0)
        assert (trio.lowlevel.current_statistics().tasks_living, len(adapter.open)) == before
        assert sum(link.in_flight for server in now.servers for link in server.links) == 0
        assert (len(gateway.parking._places), len(gateway.parking._ids), gateway.parking._of) == (0, 0, Counter())
        assert now.parking.abandoned > calls // 100
        assert sessions or now.parking.displaced > calls // 100
        assert set(went) == {way.__name__ for way in WAYS}
        assert gateway.servers["a"]._leases.calls == 0
