"""The listener of its own that metrics may have: where it is, what it serves, whom it refuses, and reloads of it."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from mcpgateway.config.limits import Limits
from mcpgateway.config.model import Listen, Metrics
from mcpgateway.fronts.state import CannotWatch
from mcpgateway.wire.http1.server import bind
from tests.fronts.site import Site, adapters, call, site
from tests.test_service import free_port, refused

OWN = Metrics(enabled=True, port=0)


def port_of(gateway: Site) -> int:
    return int(gateway.service.metrics_url.rpartition(":")[2])


@pytest.mark.requirement("feature.102", "6.metrics")
async def test_it_serves_metrics_and_health_and_no_mcp_and_the_other_no_metrics() -> None:
    async with site(adapters("one"), metrics=OWN) as gateway:
        main, own = await gateway.dial(), await gateway.dial(port=port_of(gateway))
        session = await main.initialize("/mcp/one")
        await session.post(main, call(1, "echo"))

        metrics = await own.ask("GET", "/metrics")
        assert metrics.status == 200
        assert b'mcpgateway_requests_total{method="tools/call",namespace="one",outcome="ok"} 1.0' in metrics.body
        assert (await own.ask("GET", "/health")).json["status"] == "healthy"
        assert (await own.ask("GET", "/readyz")).status == 200
        assert (await own.post("/mcp/one", call(1, "echo"))).status == 404
        assert (await main.ask("GET", "/metrics")).status == 404
        assert (await main.ask("GET", "/health")).status == 200


@pytest.mark.requirement("6.metrics")
async def test_it_refuses_foreign_hosts_and_origins() -> None:
    async with site(adapters("one"), Listen(allowed_hosts=("inside.example",)), metrics=OWN) as gateway:
        client = await gateway.dial(port=port_of(gateway))
        for headers in {"Host": "evil.example"}, {"Origin": "https://evil.example"}:
            assert (await client.ask("GET", "/metrics", headers=headers)).status == 403
        assert (await client.ask("GET", "/metrics", headers={"Host": "inside.example"})).status == 200

        gateway.reload(allowed_hosts=())
        assert (await client.ask("GET", "/metrics", headers={"Host": "inside.example"})).status == 403


async def test_there_is_none_where_none_is_wanted() -> None:
    for metrics in Metrics(port=free_port()), Metrics(enabled=True):
        async with site(adapters("one"), metrics=metrics) as gateway:
            assert gateway.service.metrics_url == ""
            assert metrics.port is None or await refused(metrics.port)


async def test_it_moves_comes_and_goes_with_reloads() -> None:
    first, second = free_port(), free_port()
    async with site(adapters("one"), metrics=Metrics(enabled=True, port=first)) as gateway:
        client = await gateway.dial(port=first)
        assert (await client.ask("GET", "/metrics")).status == 200

        gateway.reload(metrics=Metrics(enabled=True, port=second))
        assert (await (await gateway.dial(port=second)).ask("GET", "/metrics")).status == 200
        assert await client.ended()
        assert await refused(first)

        gateway.reload(metrics=Metrics(enabled=True))
        assert await refused(second)
        assert (await (await gateway.dial()).ask("GET", "/metrics")).status == 200


async def test_an_address_that_is_taken_leaves_all_as_it_was() -> None:
    (taken,) = bind("127.0.0.1", 0)
    with taken:
        async with site(adapters("one"), metrics=OWN) as gateway:
            before = gateway.service.metrics_url
            with pytest.raises(CannotWatch, match=r"metrics: cannot listen on .* in use"):
                gateway.reload(metrics=Metrics(enabled=True, port=taken.getsockname()[1]))
            assert gateway.service.metrics_url == before
            assert (await (await gateway.dial(port=port_of(gateway))).ask("GET", "/metrics")).status == 200


async def test_a_reload_that_fails_otherwise_opens_nothing() -> None:
    wanted = free_port()
    (taken,) = bind("127.0.0.1", 0)
    with taken:
        async with site(adapters("one"), metrics=OWN) as gateway:
            before = gateway.service.metrics_url
            with pytest.raises(OSError, match="in use"):
                gateway.reload(metrics=Metrics(enabled=True, port=wanted), port=taken.getsockname()[1])
            assert gateway.service.metrics_url == before
            assert await refused(wanted)


async def test_clients_that_fill_the_gateway_do_not_hide_it() -> None:
    async with site(adapters("one"), Listen(limits=Limits(connections=1)), metrics=OWN) as gateway:
        busy = await gateway.dial()
        session = await busy.initialize("/mcp/one")
        await session.start(busy, call(1, "slow"))
        while not gateway.gateway.bounds.calls.held:
            await trio.testing.wait_all_tasks_blocked(0.001)
        refusal = await (await gateway.dial()).ask("GET", "/health")
        metrics = await (await gateway.dial(port=port_of(gateway))).ask("GET", "/metrics")
        await busy.aclose()

        assert (refusal.status, metrics.status) == (503, 200)
        assert b'mcpgateway_client_refused_total{bound="connections"} 1.0' in metrics.body
        await gateway.gateway.servers["one"].stop()
