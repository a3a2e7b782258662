"""The cold HTTP routes: the state of the gateway, for people and for probes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mcpgateway._version import VERSION
from mcpgateway.errors import JSON, LAST_WORDS
from mcpgateway.gateway import Gateway, GatewayStatistics
from mcpgateway.recording.tally import Tally
from mcpgateway.servers.server import ServerStatistics
from mcpgateway.web import asgi
from mcpgateway.wire.http1.exchange import Exchange
from mcpgateway.wire.http1.requests import HttpRequest

if TYPE_CHECKING:
    from mcpgateway.fronts.upstream import UpstreamStatistics

Upstreams: TypeAlias = "Callable[[], Sequence[UpstreamStatistics]]"

EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"
"""The type of metrics as text; readers of later versions take it too."""


def handler(
    gateway: Gateway, upstreams: Upstreams = tuple, *, alone: bool = False
) -> Callable[[HttpRequest, Exchange], Awaitable[None]]:
    """What answers everything that is not an MCP path, or ``alone`` everything on the listener for metrics;
    ``upstreams`` tells how those of the gateway are."""
    app = application(gateway, upstreams, alone=alone)

    async def handle(request: HttpRequest, exchange: Exchange) -> None:
        await asgi.run(app, request, exchange)

    return handle


def application(gateway: Gateway, upstreams: Upstreams = tuple, *, alone: bool = False) -> Starlette:
    """The routes as an ASGI application; see `handler`."""
    writers = trio.CapacityLimiter(1)

    async def health(request: Request) -> Response:
        return JSONResponse(_health(gateway, upstreams()))

    async def alive(request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def ready(request: Request) -> Response:
        if not gateway.is_ready:
            return JSONResponse({"status": "starting", "waiting_for": gateway.waiting_for}, status_code=503)
        return JSONResponse({"status": "ready"})

    async def metrics(request: Request) -> Response:
        wanted = gateway.config.metrics
        if not alone and not (wanted.enabled and wanted.port is None):
            raise HTTPException(404)
        gateway.recorder.flush()
        write = partial(_exposition, gateway.statistics(), gateway.tally.copy(), upstreams())
        return Response(await trio.to_thread.run_sync(write, limiter=writers), media_type=EXPOSITION)

    routes = [
        Route("/health", health, methods=["GET"]),
        Route("/livez", alive, methods=["GET"]),
        Route("/readyz", ready, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _plain_error})


def _exposition(statistics: GatewayStatistics, tally: Tally, upstreams: Sequence[UpstreamStatistics]) -> bytes:
    from mcpgateway.web.metrics import exposition

    return exposition(statistics, tally, upstreams)


def _health(gateway: Gateway, upstreams: Sequence[UpstreamStatistics]) -> dict[str, JSON]:
    """``status`` is ``healthy`` as long as the gateway answers; what its servers do stands beside it."""
    statistics = gateway.statistics()
    dialled: dict[str, JSON] = {"upstreams": {each.name: _upstream(each) for each in upstreams}} if upstreams else {}
    return {
        "status": "healthy",
        "time": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "version": VERSION,
        "uptime": round(time.monotonic() - gateway.began, 3),
        "ready": gateway.is_ready,
        "sessions": statistics.sessions,
        "parking": attrs.asdict(statistics.parking),
        "clients": {rule: attrs.asdict(bound) for rule, bound in statistics.clients.items()},
        "servers": {server.name: _server(server) for server in statistics.servers},
        "pool": {server.name: _pool(server) for server in statistics.servers},
        **dialled,
    }


def _upstream(upstream: UpstreamStatistics) -> dict[str, JSON]:
    state: dict[str, JSON] = {
        "state": upstream.state.value,
        "since": round(upstream.since, 3),
        "reconnects": upstream.reconnects,
        "calls": upstream.calls,
        "in_flight": upstream.in_flight,
    }
    if upstream.reason:
        state |= {"reason": upstream.reason, "failures": upstream.failures}
    if upstream.retry_in is not None:
        state["retry_in"] = round(upstream.retry_in, 3)
    return state


def _server(server: ServerStatistics) -> dict[str, JSON]:
    state: dict[str, JSON] = {"state": server.state, "eras": list(server.eras), "links": len(server.links)}
    if server.reason:
        # What a child said last may hold anything; it is in the log, and in the error of whoever called it.
        state |= {"reason": server.reason.partition(LAST_WORDS)[0], "failures": server.failures}
    if server.circuit != "closed":
        state["circuit"] = server.circuit
    if server.retry_in is not None:
        state["retry_in"] = round(server.retry_in, 3)
    return state


def _pool(server: ServerStatistics) -> dict[str, JSON]:
    active = sum(link.in_flight > 0 for link in server.links)
    return {"total": len(server.links), "active": active, "idle": len(server.links) - active, "waiting": server.waiting}


async def _plain_error(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    return JSONResponse({"error": problem.detail}, status_code=problem.status_code, headers=problem.headers)
