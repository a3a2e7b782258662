"""The state of the gateway and what became of its calls, as Prometheus reads it.

Nothing is kept here: what `statistics()` and the tally say when somebody scrapes is written down. Only names that the
operator gave, or that servers list, become labels (`mcpgateway.recording.tally`); no text of an error, no argument, no
client. Importing the library takes as long as a thousand calls, and so does a long exposition: both are for a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Final, TypeAlias

from prometheus_client import CollectorRegistry, Metric, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from mcpgateway._version import VERSION
from mcpgateway.fronts.dialling import State
from mcpgateway.gateway import GatewayStatistics
from mcpgateway.recording.tally import BOUNDS, Tally
from mcpgateway.servers.server import STATES, ServerStatistics
from mcpgateway.wire.bounds import BoundStatistics

if TYPE_CHECKING:
    from mcpgateway.fronts.upstream import UpstreamStatistics

Rows: TypeAlias = "Iterable[tuple[Sequence[str], float]]"


def exposition(statistics: GatewayStatistics, tally: Tally, upstreams: Sequence[UpstreamStatistics] = ()) -> bytes:
    """All metrics, in the text format of Prometheus, version 0.0.4. 0.1 ms for each tool that was called."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    registry.register(_Collector(statistics, tally, upstreams))
    return generate_latest(registry)


class _Collector:
    def __init__(self, statistics: GatewayStatistics, tally: Tally, upstreams: Sequence[UpstreamStatistics]) -> None:
        self._statistics = statistics
        self._tally = tally
        self._upstreams = upstreams

    def collect(self) -> Iterator[Metric]:
        yield _gauge("mcpgateway_build_info", "What runs; always 1.", ["version"], [([VERSION], 1)])
        yield from calls(self._tally)
        yield from servers(self._statistics.servers)
        yield from clients(self._statistics)
        yield from parking(self._statistics)
        if self._upstreams:
            yield from dialled(self._upstreams)


# ---- calls -----------------------------------------------------------------------------------------------------------


def calls(tally: Tally) -> Iterator[Metric]:
    """What became of calls."""
    yield _counter(
        "mcpgateway_requests",
        "Requests of clients that have ended, by method and outcome.",
        ["namespace", "method", "outcome"],
        ((key, count) for key, count in tally.requests().items()),
    )
    yield _counter(
        "mcpgateway_tool_calls",
        "Calls of tools that have ended, by outcome.",
        ["namespace", "server", "tool", "outcome"],
        (((*key, outcome), count) for key, called in tally.tools.items() for outcome, count in called.outcomes.items()),
    )
    durations = HistogramMetricFamily(
        "mcpgateway_tool_call_duration_seconds",
        "From the request for a tool to its answer, or its end.",
        labels=["namespace", "server", "tool"],
    )
    bounds = [*map(str, BOUNDS), "+Inf"]
    for key, called in tally.tools.items():
        durations.add_metric(key, list(zip(bounds, accumulate(called.buckets), strict=True)), called.seconds)
    yield durations


# ---- servers ---------------------------------------------------------------------------------------------------------


def servers(statistics: Sequence[ServerStatistics]) -> Iterator[Metric]:
    """How servers are; of two of one name, one of which is ending, the other."""
    statistics = list({each.name: each for each in statistics}.values())

    def gauge(name: str, text: str, value: Callable[[ServerStatistics], float]) -> Metric:
        return _gauge(
            f"mcpgateway_server_{name}", text, ["server"], (([each.name], value(each)) for each in statistics)
        )

    def counter(name: str, text: str, value: Callable[[ServerStatistics], float]) -> Metric:
        rows = (([each.name], value(each)) for each in statistics)
        return _counter(f"mcpgateway_server_{name}", text, ["server"], rows)

    yield _gauge(
        "mcpgateway_server_state",
        "1 for the state that a server is in.",
        ["server", "state"],
        (([each.name, state], each.state == state) for each in statistics for state in STATES),
    )
    yield gauge("circuit_open", "1 while a server gets no calls, because too many have failed.", _is_open)
    yield gauge("links", "Connections or sessions with a server.", lambda each: len(each.links))
    yield gauge("children", "Processes of a server.", lambda each: sum(link.pid is not None for link in each.links))
    yield gauge("calls_in_flight", "Requests that a server has.", _in_flight)
    yield gauge("calls_waiting", "Calls that wait for a link.", lambda each: each.waiting)
    yield gauge("consecutive_failures", "Attempts, or calls, in a row that failed.", lambda each: each.failures)
    yield counter("links_made", "Links made; of a stdio server, processes started.", lambda each: each.made)
    yield counter("links_lost", "Links that ended by themselves: crashes, broken connections.", lambda each: each.lost)
    yield counter("attempts_failed", "Attempts to start or reach a server that failed.", lambda each: each.failed)


def _in_flight(server: ServerStatistics) -> int:
    return sum(link.in_flight for link in server.links)


def _is_open(server: ServerStatistics) -> bool:
    return server.circuit != "closed"


# ---- clients ---------------------------------------------------------------------------------------------------------


def clients(statistics: GatewayStatistics) -> Iterator[Metric]:
    """What clients hold, and were refused."""
    counted = {rule: bound for rule, bound in statistics.clients.items() if not rule.endswith(_BYTES)}
    sizes = {rule.removesuffix(_BYTES): each for rule, each in statistics.clients.items() if rule.endswith(_BYTES)}
    for unit, bounds, many in ("", counted, "many"), (_BYTES, sizes, "many bytes"):
        yield _gauge(
            f"mcpgateway_client_held{unit}",
            f"How {many} of each kind clients hold, by the bound in listen.limits.",
            ["bound"],
            (([rule], bound.held) for rule, bound in bounds.items()),
        )
        yield _gauge(
            f"mcpgateway_client_limit{unit}",
            f"How {many} they may hold.",
            ["bound"],
            (([rule], bound.limit) for rule, bound in bounds.items()),
        )
    everything = {**counted, **sizes}
    yield _turned_away("refused", "Clients turned away at a bound.", everything, lambda bound: bound.refused)
    yield _turned_away("displaced", "Idle ones that had to make room.", everything, lambda bound: bound.displaced)
    yield _gauge("mcpgateway_sessions", "Legacy sessions.", [], [([], statistics.sessions)])
    changes = statistics.changes
    yield _gauge("mcpgateway_subscriptions", "Resource subscriptions.", [], [([], changes.subscriptions)])
    yield _gauge("mcpgateway_messages_waiting", "Messages for streams of sessions.", [], [([], changes.waiting)])
    yield _counter("mcpgateway_messages_dropped", "Those there was no room for.", [], [([], changes.dropped)])


_BYTES: Final = "_bytes"


def _turned_away(
    what: str, text: str, bounds: dict[str, BoundStatistics], value: Callable[[BoundStatistics], int]
) -> Metric:
    rows = (([rule], value(bound)) for rule, bound in bounds.items())
    return _counter(f"mcpgateway_client_{what}", text, ["bound"], rows)


def parking(statistics: GatewayStatistics) -> Iterator[Metric]:
    """Calls that wait for their clients."""
    parked = statistics.parking
    yield _gauge("mcpgateway_parked_calls", "Calls that wait for their clients' answers.", [], [([], parked.parked)])
    yield _gauge("mcpgateway_parked_calls_limit", "How many there may be.", [], [([], parked.limit)])
    yield _counter(
        "mcpgateway_parked_calls_ended",
        "Parked calls that ended without their client, or could not be parked.",
        ["reason"],
        [(["abandoned"], parked.abandoned), (["displaced"], parked.displaced), (["refused"], parked.refused)],
    )


# ---- upstreams -------------------------------------------------------------------------------------------------------


def dialled(upstreams: Sequence[UpstreamStatistics]) -> Iterator[Metric]:
    """How upstreams are."""

    def rows(value: Callable[[UpstreamStatistics], float]) -> Rows:
        return (([each.name], value(each)) for each in upstreams)

    yield _gauge(
        "mcpgateway_upstream_state",
        "1 for the state that an upstream is in.",
        ["upstream", "state"],
        (([each.name, state.value], each.state is state) for each in upstreams for state in State),
    )
    label = ["upstream"]
    yield _counter(
        "mcpgateway_upstream_reconnects", "Connections after the first.", label, rows(lambda u: u.reconnects)
    )
    yield _counter("mcpgateway_upstream_requests", "Requests of an upstream.", label, rows(lambda u: u.calls))
    yield _counter("mcpgateway_upstream_overdue", "Those beyond call_deadline.", label, rows(lambda u: u.overdue))
    yield _gauge("mcpgateway_upstream_calls_in_flight", "Requests being served.", label, rows(lambda u: u.in_flight))
    yield _gauge(
        "mcpgateway_upstream_round_trip_seconds",
        "From the last ping to its pong.",
        label,
        (([each.name], each.round_trip) for each in upstreams if each.round_trip is not None),
    )


# ---- families --------------------------------------------------------------------------------------------------------


def _gauge(name: str, text: str, labels: Sequence[str], rows: Rows) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def _counter(name: str, text: str, labels: Sequence[str], rows: Rows) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family
