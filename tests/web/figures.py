"""A gateway's figures, each another number: for tests of what is made of them, and for the documentation's table."""

from __future__ import annotations

from typing import Any

from mcpgateway.calls.changes import ChangesStatistics
from mcpgateway.calls.parking import ParkingStatistics
from mcpgateway.fronts.dialling import State
from mcpgateway.fronts.upstream import UpstreamStatistics
from mcpgateway.gateway import GatewayStatistics
from mcpgateway.servers.server import ServerStatistics
from mcpgateway.wire.bounds import BoundStatistics


def statistics(**servers: ServerStatistics) -> GatewayStatistics:
    bounds = {"calls": BoundStatistics(1, 2, 3, 4), "bodies_bytes": BoundStatistics(5, 6, 7, 8)}
    return GatewayStatistics(
        servers=tuple(servers.values()),
        sessions=9,
        waits=0,
        changes=ChangesStatistics(10, 0, 11, 12),
        parking=ParkingStatistics(13, 14, 0, 15, 16, 17),
        clients=bounds,
    )


def server(name: str, state: str = "ready", **values: Any) -> ServerStatistics:
    given = {"waiting": 1, "failures": 2, "made": 3, "lost": 4, "failed": 5, "circuit": "open"}
    return ServerStatistics(
        name=name, state=state, eras=(), links=(), reason="secret reason", retry_in=None, **{**given, **values}
    )


def upstream(name: str, state: State = State.STABLE, round_trip: float | None = None) -> UpstreamStatistics:
    return UpstreamStatistics(
        name=name,
        state=state,
        since=0.0,
        reconnects=1,
        failures=5,
        reason="secret reason",
        retry_in=None,
        calls=2,
        overdue=3,
        in_flight=4,
        round_trip=round_trip,
    )
