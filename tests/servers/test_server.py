"""The life of a server and the leases on its links, in virtual time; the server is an object in this process."""

from __future__ import annotations

import logging
from functools import partial

import attrs
import pytest
import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Link, NoBack, Request
from mcpgateway.config.model import (
    HttpServer,
    InProcessServer,
    Isolation,
    Recovery,
    ServerConfig,
    SseServer,
    StdioServer,
    WebSocketServer,
)
from mcpgateway.errors import EraMismatch, NotTried, ServerError, ServerUnavailable, TooBusy
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.revisions import Era
from mcpgateway.servers.ledger import LinkKey, Slot
from mcpgateway.servers.server import Server
from mcpgateway.testing.fixture_server import FixtureServer
from mcpgateway.wire.waiting import Wait
from tests.servers.doubles import (
    LEGACY,
    MODERN,
    AcceptsThenCloses,
    Counting,
    FailsAtFirst,
    HasABug,
    SlowToClose,
    TakesItsTime,
    call,
    handshake,
    http_config,
    pipe_config,
    running,
)

OTHER = LinkKey(Era.LEGACY, b'{"roots":{}}')


def owner(name: str) -> LinkKey:
    return LinkKey(Era.LEGACY, b"{}", name)


async def hold(server: Server, key: LinkKey, seconds: float, log: list[object], *, alone: bool = False) -> None:
    """Lease a link for a while; what came of it goes to the log: the time, or the error."""
    try:
        slot = await server.acquire(key, alone=alone)
    except (TooBusy, ServerError) as problem:
        log.append(problem)
        return
    log.append(trio.current_time())
    await trio.sleep(seconds)
    server.release(slot)


# ---- starting, and starting again ------------------------------------------------------------------------------------


async def test_a_server_is_up_at_the_start_and_says_what_it_is(autojump_clock: trio.testing.MockClock) -> None:
    async with running(Counting()) as server:
        assert (server.state, repr(server)) == ("ready", "<Server s ready, 1 links>")
        slot = await server.acquire(MODERN)
        statistics = server.statistics()
        server.release(slot)

    assert (statistics.name, statistics.eras, statistics.reason) == ("s", ("modern",), "")
    assert (len(statistics.links), statistics.waiting, statistics.failures) == (1, 0, 0)
    assert server.state == "stopped"


async def test_a_server_that_is_down_at_the_start_comes_up_later(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = FailsAtFirst(3)
    began = trio.current_time()
    with caplog.at_level(logging.INFO, "mcpgateway.server"):
        async with running(adapter) as server:
            assert server.state == "failed"
            assert (server.statistics().failures, server.statistics().retry_in) == (1, 1.0)
            await trio.sleep(3.5)
            with pytest.raises(NotTried, match=r"is dead \(next attempt in 4 s\)"):
                await server.acquire(MODERN)
            assert trio.current_time() - began == 3.5
            assert server.statistics().failures == 3
            await trio.sleep(4.5)
            assert server.state == "ready"
            assert server.statistics().failures == 0

    assert [at - began for at in adapter.times] == [0, 1, 3, 7]
    assert [record.message for record in caplog.records] == ["server 's': is dead"] * 3 + ["server 's' is back"]


async def test_calls_wait_for_a_server_that_has_just_failed_and_cause_one_attempt_together(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = Counting()
    log: list[object] = []
    async with running(adapter) as server, trio.open_nursery() as nursery:
        await trio.sleep(10)
        adapter.dead = True
        adapter.links[0].crash("killed")
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        for _ in range(5):
            nursery.start_soon(hold, server, MODERN, 0.0, log)
        await trio.sleep(0.5)
        adapter.dead = False

    assert log == [began + 1] * 5
    assert [at - began for at in adapter.times[1:]] == [0, 1]


async def test_calls_do_not_wait_for_a_server_that_was_never_up(autojump_clock: trio.testing.MockClock) -> None:
    began = trio.current_time()
    async with running(FailsAtFirst(1)) as server:
        with pytest.raises(NotTried, match=r"is dead \(next attempt in 1 s\)"):
            await server.acquire(MODERN)
        assert trio.current_time() == began


async def test_a_server_that_keeps_failing_is_left_alone_until_somebody_needs_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = FailsAtFirst(4)
    began = trio.current_time()
    config = attrs.evolve(pipe_config(), recovery=Recovery(initial=1.0, maximum=8.0, attempts=3))
    async with running(adapter, config) as server:
        await trio.sleep(1000)
        assert [at - began for at in adapter.times] == [0, 1, 3]
        assert (server.state, server.statistics().retry_in) == ("failed", None)
        with pytest.raises(ServerUnavailable, match="is dead"):
            await server.acquire(MODERN)
        await trio.sleep(1000)
        server.release(await server.acquire(MODERN))

    assert [at - began for at in adapter.times] == [0, 1, 3, 1000, 2000]


async def test_a_server_that_somebody_listens_to_is_tried_for_as_long_as_it_takes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = Counting(eras={Era.LEGACY})
    config = attrs.evolve(pipe_config(), recovery=Recovery(initial=1.0, maximum=8.0, attempts=3))
    async with running(adapter, config) as server:
        assert server.keep(LEGACY)
        adapter.dead = True
        adapter.links[0].crash("gone")
        await trio.sleep(1000)
        adapter.dead = False
        await trio.sleep(10)
        assert server.is_linked(LEGACY)


async def test_calls_before_the_first_attempt_has_ended_are_told_to_come_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = Server(pipe_config(), TakesItsTime(), client_info=Raw(b"{}"), random=lambda: 0.0)
    with pytest.raises(ServerUnavailable, match="is not running"):
        await server.acquire(MODERN)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        await trio.sleep(1)
        assert server.state == "starting"
        assert not await server.known(1)
        with pytest.raises(ServerUnavailable, match="is still starting"):
            await server.acquire(MODERN)
        assert await server.known(5)
        assert trio.current_time() == pytest.approx(autojump_clock.current_time())
        server.release(await server.acquire(MODERN))
        await server.stop()


async def test_a_server_that_hangs_while_connecting_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    adapter = Counting()
    adapter.silent = True
    began = trio.current_time()
    async with running(adapter) as server:
        assert trio.current_time() - began == 61
        assert server.statistics().reason == "did not connect in time"
        adapter.silent = False
        await trio.sleep(2)
        assert server.state == "ready"


async def test_a_lazy_server_starts_with_its_first_call(autojump_clock: trio.testing.MockClock) -> None:
    adapter = Counting()
    async with running(adapter, lazy=True) as server:
        await trio.sleep(100)
        assert (server.state, adapter.times) == ("idle", [])
        server.release(await server.acquire(LEGACY))
        assert (server.state, len(adapter.times)) == ("ready", 1)


async def test_the_era_of_a_lazy_server_can_be_found_out(autojump_clock: trio.testing.MockClock) -> None:
    adapter = Counting(eras={Era.LEGACY})
    async with running(adapter, lazy=True) as server, trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(server.find_era)
        await trio.testing.wait_all_tasks_blocked()

        assert not server.may_speak(Era.MODERN)
        assert server.may_speak(Era.LEGACY)
        assert len(adapter.times) == 1


async def test_a_crash_fails_only_calls_in_flight_and_the_server_is_back_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = Counting(eras={Era.LEGACY})
    async with running(adapter) as server:
        await trio.sleep(10)
        slot = await server.acquire(LEGACY)
        with pytest.raises(ServerUnavailable, match="boom"):
            await call(slot, "crash")
        server.release(slot, close=True)

        again = await server.acquire(LEGACY)
        await call(again, "echo")
        server.release(again)
        assert trio.current_time() == adapter.times[1]
        assert adapter.most == 1


@pytest.mark.parametrize(("life", "attempts"), [(0.1, 6), (0.9, 41)])
async def test_a_server_that_accepts_and_closes_makes_no_busy_loop(
    life: float, attempts: int, autojump_clock: trio.testing.MockClock
) -> None:
    adapter = AcceptsThenCloses(life)
    async with running(adapter):
        await trio.sleep(36.5)

        assert len(adapter.times) == attempts


async def test_an_adapter_with_a_bug_harms_nobody(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(HasABug()) as server:
        with pytest.raises(ServerUnavailable, match="cannot be reached: KeyError"):
            await server.acquire(MODERN)
    assert "its adapter failed" in caplog.text


async def test_it_may_come_back_as_another_version_of_itself(autojump_clock: trio.testing.MockClock) -> None:
    adapter = Counting(eras={Era.MODERN})
    async with running(adapter) as server:
        await trio.sleep(1)
        with pytest.raises(EraMismatch, match="speaks only the modern era of MCP, the client the legacy era"):
            await server.acquire(LEGACY)
        adapter._eras = {Era.LEGACY}
        adapter.links[0].crash("upgraded")
        await trio.testing.wait_all_tasks_blocked()

        server.release(await server.acquire(LEGACY))
        with pytest.raises(EraMismatch):
            await server.acquire(MODERN)


async def test_a_call_while_the_era_is_being_found_out_does_not_get_a_link_of_the_other(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = TakesItsTime(3, eras={Era.LEGACY})
    adapter.dead = True
    async with running(adapter, pipe_config(max=1)) as server:
        adapter.dead = False
        await trio.sleep(2)
        with pytest.raises(EraMismatch):
            await server.acquire(MODERN)


async def test_exclusive_servers_hold_their_minimum(autojump_clock: trio.testing.MockClock) -> None:
    adapter = Counting(eras={Era.LEGACY})
    async with running(adapter, pipe_config(Isolation.EXCLUSIVE, min=3)) as server:
        await trio.testing.wait_all_tasks_blocked()
        assert len(adapter.open) == 3
        await trio.sleep(1000)
        adapter.links[1].crash("killed")
        await trio.testing.wait_all_tasks_blocked()

        assert (len(adapter.open), len(adapter.links)) == (3, 4)
        assert len(server.statistics().links) == 3


# ---- leases ----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("feature.41", "feature.42")
async def test_a_thousand_calls_share_five_links_first_come_first_served(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = Counting(eras={Era.LEGACY})
    order: list[int] = []

    async def one(number: int) -> None:
        slot = await server.acquire(LEGACY)
        order.append(number)
        assert slot.calls == 1
        await call(slot, "echo", {"text": str(number)})
        await trio.sleep(0.02 + number / 1e6)  # no two at the same moment: trio wakes those in any order
        server.release(slot)

    async with running(adapter, pipe_config(Isolation.EXCLUSIVE, max=5)) as server:
        async with trio.open_nursery() as nursery:
            for number in range(1000):
                nursery.start_soon(one, number)
                await trio.lowlevel.checkpoint()
        assert server.statistics().waiting == 0

    assert order == list(range(1000))
    assert (adapter.most, len(adapter.links)) == (5, 5)
    assert adapter.open == []


@pytest.mark.requirement("feature.43")
async def test_waiting_for_a_link_has_a_deadline(autojump_clock: trio.testing.MockClock) -> None:
    async with running(Counting(), pipe_config(Isolation.EXCLUSIVE, max=2, acquire_timeout=3.0)) as server:
        held = [await server.acquire(LEGACY), await server.acquire(MODERN)]
        began = trio.current_time()
        with pytest.raises(TooBusy, match=r"server 's': no link became free within 3 s; 2 are in use \(links.max\)"):
            await server.acquire(LEGACY)
        assert trio.current_time() - began == 3
        assert server.statistics().waiting == 0
        for slot in held:
            server.release(slot)
        server.release(await server.acquire(LEGACY))


async def test_a_lease_that_ends_serves_all_who_can_share_its_link(autojump_clock: trio.testing.MockClock) -> None:
    log: list[object] = []
    async with running(Counting(eras={Era.LEGACY}), pipe_config(max=1)) as server, trio.open_nursery() as nursery:
        nursery.start_soon(partial(hold, server, LEGACY, 5, log, alone=True))
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            nursery.start_soon(hold, server, LEGACY, 1, log)
        await trio.sleep(7)

        began = log[0]
        assert isinstance(began, float)
        assert log == [began, began + 5, began + 5, began + 5]


async def test_plain_calls_go_round_one_that_is_alone(autojump_clock: trio.testing.MockClock) -> None:
    adapter = Counting(eras={Era.LEGACY})
    async with running(adapter) as server:
        lone = await server.acquire(LEGACY, alone=True)
        plain = await server.acquire(LEGACY)
        more = server.take(LEGACY)
        assert lone is not plain
        assert plain is more
        assert (lone.alone, plain.alone, plain.calls) == (True, False, 2)
        for slot in (lone, plain, plain):
            server.release(slot)
        lone_again = await server.acquire(LEGACY, alone=True)
        assert lone_again is plain
        assert server.take(LEGACY) is None
        server.release(lone_again)
        assert server.take(LEGACY) is plain
        server.release(plain)


async def test_an_idle_link_of_another_key_makes_room_only_when_it_is_closed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = Counting(eras={Era.LEGACY})
    adapter.link_class = SlowToClose
    async with running(adapter, pipe_config(max=1)) as server:
        began = trio.current_time()
        slot = await server.acquire(OTHER)
        assert (adapter.most, len(adapter.links)) == (1, 2)
        assert adapter.times[1] - began == 2
        server.release(slot)


async def test_those_who_want_the_same_link_wait_for_one(autojump_clock: trio.testing.MockClock) -> None:
    adapter = TakesItsTime(eras={Era.LEGACY})
    log: list[object] = []
    async with running(adapter, lazy=True) as server:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(hold, server, LEGACY, 1, log)
        assert len(adapter.links) == 1
        adapter.links[0].crash("restarts")
        adapter.dead = True
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(hold, server, LEGACY, 1, log)

    failed = [entry for entry in log if isinstance(entry, ServerUnavailable)]
    assert [problem.reason for problem in failed] == ["is dead"] * 10
    assert len({id(problem) for problem in failed}) == 10
    assert len(adapter.times) == 2


async def test_a_caller_who_gives_up_leaves_the_link_to_the_next(autojump_clock: trio.testing.MockClock) -> None:
    adapter = TakesItsTime(3, eras={Era.LEGACY})
    async with running(adapter, pipe_config(max=1), lazy=True) as server:
        with trio.move_on_after(2) as impatient:
            await server.acquire(LEGACY)
        assert impatient.cancelled_caught
        began = trio.current_time()
        slot = await server.acquire(LEGACY, alone=True)
        assert trio.current_time() - began == 1
        assert (slot.calls, len(adapter.links)) == (1, 1)
        server.release(slot)


async def test_a_subscription_waits_for_a_link_and_keeps_it_but_not_from_calls(
    autojump_clock: trio.testing.MockClock,
) -> None:
    config = pipe_config(Isolation.EXCLUSIVE, max=1, acquire_timeout=3.0, min=0, idle_timeout=4.0)
    adapter = Counting()
    async with running(adapter, attrs.evolve(config, max_calls=1)) as server, trio.open_nursery() as nursery:
        log: list[object] = []
        nursery.start_soon(hold, server, LEGACY, 2, log)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        listening = await server.acquire(MODERN, listens=True)
        assert trio.current_time() - began == 2
        another = await server.acquire(MODERN, listens=True)
        lone = await server.acquire(MODERN)
        assert listening is another is lone
        server.leave(another)
        with pytest.raises(TooBusy, match="1 calls are with it already"):
            await server.acquire(MODERN)
        server.release(lone)
        assert server.take(MODERN) is None  # calls come one at a time all the same
        with pytest.raises(TooBusy, match="no link became free within 3 s"):
            await server.acquire(LEGACY)
        await trio.sleep(60)
        assert len(adapter.open) == 1
        server.leave(listening)
        server.release(await server.acquire(LEGACY))


async def test_a_subscription_that_gets_no_link_leaves_none(autojump_clock: trio.testing.MockClock) -> None:
    adapter = TakesItsTime()
    async with running(adapter, pipe_config(Isolation.EXCLUSIVE, max=1), lazy=True) as server:
        with trio.move_on_after(2):
            await server.acquire(MODERN, listens=True)
        slot = await server.acquire(MODERN)
        assert (slot.calls, slot.listens) == (1, 0)
        with trio.move_on_after(2):
            await server.acquire(LEGACY, listens=True)
        assert server.statistics().waiting == 0
        server.release(slot)
        adapter.links[0].crash("restarts")
        adapter.dead = True
        with pytest.raises(ServerUnavailable):
            await server.acquire(MODERN, listens=True)
        assert server.statistics().links == ()


async def test_a_waiter_who_gives_up_loses_its_place_and_no_link(autojump_clock: trio.testing.MockClock) -> None:
    log: list[object] = []
    config = pipe_config(Isolation.EXCLUSIVE, max=1)
    async with running(Counting(eras={Era.LEGACY}), config) as server, trio.open_nursery() as nursery:
        slot = await server.acquire(LEGACY)
        scope = trio.CancelScope()
        nursery.start_soon(give_up, scope, server)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(hold, server, LEGACY, 1, log)
        await trio.testing.wait_all_tasks_blocked()
        assert server.statistics().waiting == 2
        scope.cancel(reason="gives up")
        await trio.testing.wait_all_tasks_blocked()
        assert server.statistics().waiting == 1
        server.release(slot)
        await trio.sleep(2)
        assert len(log) == 1
        server.release(await server.acquire(LEGACY))


async def test_a_waiter_who_gives_up_as_it_gets_its_link_gives_it_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    config = pipe_config(Isolation.EXCLUSIVE, max=1)
    async with running(Counting(eras={Era.LEGACY}), config) as server, trio.open_nursery() as nursery:
        slot = await server.acquire(LEGACY)
        scope = trio.CancelScope()
        nursery.start_soon(give_up, scope, server)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel(reason="gives up")  # it does not run before the link is free
        server.release(slot)
        await trio.testing.wait_all_tasks_blocked()
        assert server._leases.calls == 0
        server.release(await server.acquire(LEGACY))


async def give_up(scope: trio.CancelScope, server: Server) -> None:
    with scope:
        await server.acquire(LEGACY)


async def test_a_waiter_gets_the_place_of_a_link_that_crashed(autojump_clock: trio.testing.MockClock) -> None:
    adapter = Counting(eras={Era.LEGACY})
    async with running(adapter, pipe_config(Isolation.EXCLUSIVE, max=1)) as server, trio.open_nursery() as nursery:
        await trio.sleep(1)
        log: list[object] = []
        slot = await server.acquire(LEGACY)
        nursery.start_soon(hold, server, LEGACY, 1, log)
        await trio.testing.wait_all_tasks_blocked()
        adapter.links[0].crash("killed")
        await trio.testing.wait_all_tasks_blocked()
        assert log == [trio.current_time()]
        server.release(slot)
        assert adapter.most == 1


@pytest.mark.requirement("feature.44")
async def test_idle_links_are_closed_down_to_the_minimum(autojump_clock: trio.testing.MockClock) -> None:
    adapter = Counting(eras={Era.LEGACY})
    async with running(adapter, pipe_config(Isolation.EXCLUSIVE, min=2, idle_timeout=60.0)) as server:
        slots = [await server.acquire(LEGACY) for _ in range(5)]
        await trio.sleep(500)
        assert len(adapter.open) == 5
        for slot in slots:
            server.release(slot)
        await trio.sleep(59)
        assert len(adapter.open) == 5
        await trio.sleep(30)
        assert len(adapter.open) == 2


async def test_a_link_not_fit_for_another_call_is_closed(autojump_clock: trio.testing.MockClock) -> None:
    adapter = Counting(eras={Era.LEGACY})
    async with running(adapter) as server:
        slot = await server.acquire(LEGACY, alone=True)
        server.release(slot, close=True)
        fresh = await server.acquire(LEGACY)
        assert fresh is not slot
        server.release(fresh)
        await trio.testing.wait_all_tasks_blocked()
        assert slot.link not in adapter.open


# ---- links of one session --------------------------------------------------------------------------------------------


async def test_each_session_has_a_link_of_its_own_until_it_ends(autojump_clock: trio.testing.MockClock) -> None:
    adapter = Counting(eras={Era.LEGACY})
    async with running(adapter, http_config(idle_timeout=60.0)) as server:
        one = await server.acquire(owner("one"), initialize=handshake("client one"))
        two = await server.acquire(owner("two"), initialize=handshake("client two"))
        assert server.take(owner("one")) is one
        for slot in (one, one, two):
            server.release(slot)
        await trio.sleep(1000)
        assert server.take(owner("one")) is one
        server.release(one)
        server.end_owner("one")
        await trio.testing.wait_all_tasks_blocked()

        assert one.link not in adapter.open
        assert two.link in adapter.open
        assert [b"client one" in bytes(offer.initialize) for offer in adapter.offers] == [False, True, False]


async def test_a_link_in_the_making_ends_with_its_session(autojump_clock: trio.testing.MockClock) -> None:
    adapter = TakesItsTime(3, eras={Era.LEGACY})
    log: list[object] = []
    async with running(adapter, pipe_config(Isolation.SESSION)) as server, trio.open_nursery() as nursery:
        nursery.start_soon(hold, server, owner("one"), 1, log)
        await trio.sleep(1)
        server.end_owner("one")
        await trio.sleep(5)

        assert [type(entry) for entry in log] == [ServerUnavailable]
        assert len(adapter.links) == 1
        assert server.statistics().failures == 0


async def test_a_session_that_ends_while_it_waits_for_a_link_gets_none(autojump_clock: trio.testing.MockClock) -> None:
    adapter = Counting(eras={Era.LEGACY})
    log: list[object] = []
    async with running(adapter, pipe_config(Isolation.SESSION, max=1)) as server, trio.open_nursery() as nursery:
        nursery.start_soon(hold, server, owner("one"), 2, log)
        await trio.sleep(1)
        nursery.start_soon(hold, server, owner("two"), 1, log)
        await trio.sleep(0.5)
        server.end_owner("two")
        await trio.sleep(10)

        assert [str(entry) for entry in log] == ["0.0", "server 's': the session has ended"]
        assert server.statistics().waiting == 0
        assert {slot.key.owner for slot in server._links.slots} == {"one"}  # a link's owner has no statistics


async def test_the_sessions_of_legacy_clients_leave_room_for_a_modern_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running(Counting(), http_config(acquire_timeout=1.0)) as server:
        sessions = [await server.acquire(owner(str(number))) for number in range(20)]
        slot = await server.acquire(LinkKey(Era.MODERN, owner="somebody"))

        assert slot.link is not None
        for each in (*sessions, slot):
            server.release(each)


# ---- what comes outside calls, and the end ---------------------------------------------------------------------------


async def test_a_request_outside_any_call_is_refused_and_news_are_passed_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    answers: list[Raw | None] = []

    class ListensIn(FixtureServer):
        def answered(self, message: Message) -> list[Message]:
            answers.append(message.error)
            return []

    adapter = Counting(make=ListensIn, eras={Era.LEGACY})
    heard: list[object] = []

    def listen(server: Server, key: LinkKey, link: Link, message: Message) -> bool:
        heard.append((server.name, key, message.method))
        return message.id is None

    server = Server(
        pipe_config(),
        adapter,
        client_info=Raw(b"{}"),
        random=lambda: 0.0,
        heard=listen,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        await server.tried.wait()
        adapter.links[0].send(jsonrpc.request(b"7", "roots/list"))
        adapter.links[0].send(jsonrpc.notification("notifications/tools/list_changed"))
        await trio.testing.wait_all_tasks_blocked()
        assert heard == [("s", LEGACY, "roots/list"), ("s", LEGACY, "notifications/tools/list_changed")]
        (refusal,) = answers
        assert b"-32601" in bytes(refusal or b"")
        await server.stop()


async def test_stop_leaves_nothing(autojump_clock: trio.testing.MockClock) -> None:
    adapter = TakesItsTime(3, eras={Era.LEGACY})
    adapter.link_class = SlowToClose
    log: list[object] = []
    server = Server(pipe_config(Isolation.EXCLUSIVE, max=2), adapter, client_info=Raw(b"{}"), random=lambda: 0.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        await server.tried.wait()
        slot = await server.acquire(LEGACY)
        for _ in range(2):  # the first waits for a link in the making, the second for any
            nursery.start_soon(hold, server, LEGACY, 1, log)
        nursery.start_soon(_call_slow, slot, log)
        await trio.sleep(1)
        began = trio.current_time()
        await server.stop()
        assert trio.current_time() - began == 2

    assert sorted(str(entry) for entry in log if isinstance(entry, ServerUnavailable)) == [
        "server 's': closed",
        "server 's': is not running",
        "server 's': the session, or the server, has ended",
    ]
    assert adapter.open == []
    assert (server.state, server.statistics().links) == ("stopped", ())
    with pytest.raises(ServerUnavailable, match="is not running"):
        await server.acquire(LEGACY)


async def _call_slow(slot: Slot, log: list[object]) -> None:
    try:
        await call(slot, "slow", {"name": "x"})
    except ServerUnavailable as problem:
        log.append(problem)


async def test_one_servers_death_is_nobody_elses(autojump_clock: trio.testing.MockClock) -> None:
    dead, well = Counting(), Counting(eras={Era.MODERN})
    dead.dead = True
    async with running(dead) as first, running(well) as second:
        with pytest.raises(ServerUnavailable):
            await first.acquire(MODERN)
        slot = await second.acquire(MODERN)
        assert slot.link is not None
        message = jsonrpc.request(b"1", "ping")
        reply = await slot.link.call(Request(message, Wait()), NoBack())
        assert reply.message.error is not None
        second.release(slot)


# ---- another configuration, and the end ------------------------------------------------------------------------------


async def test_a_server_that_is_configured_anew_finishes_its_calls_and_makes_new_links(
    autojump_clock: trio.testing.MockClock,
) -> None:
    before, after = Counting(eras={Era.LEGACY}), Counting(eras={Era.LEGACY})
    log: list[object] = []
    async with running(before) as server, trio.open_nursery() as nursery:
        nursery.start_soon(hold, server, LEGACY, 5.0, log)
        await trio.testing.wait_all_tasks_blocked()

        server.reconfigure(pipe_config(max=1), after, drain=10.0)
        slot = await server.acquire(LEGACY)
        assert slot.link is after.links[0]
        assert len(server.statistics().links) == 2
        server.release(slot)
        await trio.sleep(4.9)
        assert len(before.open) == 1
        await trio.sleep(0.2)
        assert (len(before.open), len(after.open)) == (0, 1)


async def test_calls_on_the_old_links_have_only_so_long(autojump_clock: trio.testing.MockClock) -> None:
    before = Counting(eras={Era.LEGACY})
    async with running(before) as server:
        slot = await server.acquire(LEGACY)
        server.reconfigure(pipe_config(), Counting(eras={Era.LEGACY}), drain=3.0)
        await trio.sleep(2.9)
        assert len(before.open) == 1
        await trio.sleep(0.2)
        assert before.open == []
        server.release(slot)
        assert server.statistics().state == "ready"


async def test_listeners_are_told_that_a_server_was_configured_anew(autojump_clock: trio.testing.MockClock) -> None:
    told: list[LinkKey] = []
    server = Server(
        pipe_config(),
        Counting(eras={Era.LEGACY}),
        client_info=Raw(b"{}"),
        random=lambda: 0.0,
        relinked=lambda server, key: told.append(key),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        await server.tried.wait()
        assert server.keep(LEGACY)
        server.reconfigure(pipe_config(), Counting(eras={Era.LEGACY}), drain=3.0)
        await trio.testing.wait_all_tasks_blocked()
        assert told == [LEGACY]
        await server.stop()


async def test_a_link_in_the_making_is_given_up_for_one_of_the_new_configuration(
    autojump_clock: trio.testing.MockClock,
) -> None:
    before, after = Counting(), Counting()
    async with running(before) as server:
        before.silent = True
        before.links[0].crash("gone")
        await trio.testing.wait_all_tasks_blocked()
        server.reconfigure(pipe_config(), after, drain=3.0)
        await trio.testing.wait_all_tasks_blocked()
        assert (server.state, len(after.open)) == ("ready", 1)


async def test_a_server_that_retires_lets_calls_finish_and_takes_no_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter, log = Counting(), list[object]()
    server = Server(pipe_config(), adapter, client_info=Raw(b"{}"), random=lambda: 0.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        await server.tried.wait()
        nursery.start_soon(hold, server, MODERN, 5.0, log)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(server.retire, 10.0)
        await trio.sleep(1)
        with pytest.raises(NotTried, match="is not running"):
            await server.acquire(MODERN)
        assert len(adapter.open) == 1
        await trio.sleep(4.1)
        assert adapter.open == []
    assert server.state == "stopped"


CONFIGS: dict[str, tuple[ServerConfig, bool, Isolation]] = {
    "stdio": (StdioServer("s", command="x"), True, Isolation.MULTIPLEXED),
    "in-process": (InProcessServer("s", module="m:s"), True, Isolation.MULTIPLEXED),
    "streamable-http": (HttpServer("s", url="http://s"), False, Isolation.SESSION),
    "sse": (SseServer("s", url="http://s"), True, Isolation.SESSION),
    "websocket": (WebSocketServer("s", url="ws://s"), True, Isolation.SESSION),
}


@pytest.mark.parametrize("type", CONFIGS)
async def test_how_clients_share_a_server_follows_from_its_type(type: str) -> None:
    config, pipe, legacy = CONFIGS[type]
    server = Server(config, Counting(), client_info=Raw(b"{}"), random=lambda: 0.0)
    assert (server.pipe, server.isolation(Era.LEGACY), server.isolation(Era.MODERN)) == (pipe, legacy, Isolation.SHARED)
    assert server._places(Isolation.SESSION) == (64 if legacy is Isolation.MULTIPLEXED else None)
