"""Metrics as Prometheus reads them: what was called is what they say, and nothing that is nobody's business."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
import trio
import trio.testing
from prometheus_client.parser import text_string_to_metric_families

from mcpgateway.config.limits import Limits
from mcpgateway.config.model import HttpServer, Listen, Logging, Metrics, Secret
from mcpgateway.fronts.dialling import State
from mcpgateway.recording.events import CallEvent
from mcpgateway.recording.outcomes import Outcome
from mcpgateway.recording.tally import BOUNDS, OTHER, Tally
from mcpgateway.servers.server import STATES
from mcpgateway.web.metrics import exposition
from tests.fronts.site import POST, Client, Site, adapters, call, modern, request, site
from tests.web.figures import server, statistics, upstream
from tests.wire.http1.peers import Answer

ON = Metrics(enabled=True)


class Samples:
    """What an exposition says."""

    def __init__(self, body: bytes) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(body.decode())}
        self._values: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in self.families.values():
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in self._values, f"{key} is there twice"
                self._values[key] = sample.value

    def value(self, name: str, **labels: str) -> float | None:
        return self._values.get((f"mcpgateway_{name}", frozenset(labels.items())))

    def all(self, name: str) -> dict[frozenset[tuple[str, str]], float]:
        return {labels: value for (found, labels), value in self._values.items() if found == f"mcpgateway_{name}"}

    @property
    def labels(self) -> set[str]:
        return {value for _, labels in self._values for _, value in labels}


async def scrape(client: Client) -> Samples:
    answer = await client.ask("GET", "/metrics")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return Samples(answer.body)


async def called(gateway: Site, path: str, *tools: str) -> Client:
    """A client that has listed the tools there and called some."""
    client = await gateway.dial()
    session = await client.initialize(path)
    await session.post(client, request(1, "tools/list"))
    for number, tool in enumerate(tools):
        await session.post(client, call(number + 2, tool, {"text": "x"}))
    return client


@pytest.mark.requirement("feature.102", "6.metrics")
async def test_what_was_called_is_what_they_say() -> None:
    async with site(adapters("one", "two"), metrics=ON) as gateway:
        await called(gateway, "/mcp/one", "echo", "echo", "tool_error", "fail", "nothing")
        client = await called(gateway, "/mcp", "one_echo", "two_echo", "crash")
        samples = await scrape(client)

    def calls(namespace: str, server: str, tool: str, outcome: str) -> float | None:
        return samples.value("tool_calls_total", namespace=namespace, server=server, tool=tool, outcome=outcome)

    assert calls("one", "one", "echo", "ok") == 2
    assert calls("one", "one", "tool_error", "tool_error") == 1
    assert calls("one", "one", "fail", "error") == 1
    assert calls("one", "one", OTHER, "error") == 1  # its server refused it
    assert calls("", "one", "echo", "ok") == 1
    assert calls("", "two", "echo", "ok") == 1
    assert calls("", "", OTHER, "refused") == 1
    assert sum(samples.all("tool_calls_total").values()) == 8
    assert samples.value("requests_total", namespace="one", method="tools/call", outcome="ok") == 2
    assert samples.value("requests_total", namespace="", method="initialize", outcome="ok") == 1
    durations = {"namespace": "one", "server": "one", "tool": "echo"}
    assert samples.value("tool_call_duration_seconds_count", **durations) == 2
    assert samples.value("tool_call_duration_seconds_bucket", **durations, le="+Inf") == 2
    assert samples.value("server_state", server="one", state="ready") == 1
    assert samples.value("sessions") == 2
    assert samples.value("client_held", bound="connections") == 2


@pytest.mark.requirement("6.metrics")
async def test_a_scrape_during_calls_counts_those_that_have_ended_and_loses_none() -> None:
    async with site(adapters("one"), metrics=ON) as gateway:
        session = await (await gateway.dial()).initialize("/mcp/one")

        async def load(client: Client) -> None:
            for number in range(40):
                assert (await session.post(client, call(f"{id(client)} {number}", "echo"))).status == 200

        client = await gateway.dial()
        counted: list[float] = []
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(load, await gateway.dial())
            for _ in range(5):
                samples = await scrape(client)
                counted.append(sum(samples.all("tool_calls_total").values()))
        last = sum((await scrape(client)).all("tool_calls_total").values())

    assert counted == sorted(counted)
    assert last == 160


async def test_without_being_enabled_there_are_none() -> None:
    async with site(adapters("one")) as gateway:
        client = await called(gateway, "/mcp/one", "echo")

        assert (await client.ask("GET", "/metrics")).status == 404

        gateway.reload(metrics=ON)
        samples = await scrape(client)
        assert samples.all("tool_calls_total") == {}
        gateway.reload(metrics=Metrics())
        assert (await client.ask("GET", "/metrics")).status == 404


async def test_calls_that_came_too_late_were_too_many_or_given_up_are_counted_as_such() -> None:
    limits = Listen(limits=Limits(calls=1))
    async with site(adapters("one"), limits, metrics=ON) as gateway:
        client = await called(gateway, "/mcp/one")
        waiting, other = await gateway.dial(), await gateway.dial()
        await waiting.start("POST", "/mcp/one", *_modern(call(1, "slow", {"name": "a"})))
        while not gateway.gateway.bounds.calls.held:
            await trio.testing.wait_all_tasks_blocked(0.001)
        refused = await other.modern("/mcp/one", call(2, "echo"))
        await waiting.aclose()
        while gateway.gateway.bounds.calls.held:
            await trio.testing.wait_all_tasks_blocked(0.01)
        samples = await scrape(client)

    assert refused.status in (429, 503)
    assert samples.value("client_refused_total", bound="calls") == 1
    slow = {"namespace": "one", "server": "one", "tool": "slow", "outcome": "cancelled"}
    assert samples.value("tool_calls_total", **slow) == 1


def _modern(message: dict[str, Any]) -> tuple[object, Mapping[str, str]]:
    stamped, headers = modern(message)
    return stamped, {**POST, **headers}


@pytest.mark.requirement("6.metrics")
async def test_no_secret_and_no_word_of_a_client_is_in_a_label() -> None:
    secret = "hunter2hunter2"
    async with site(adapters("one"), metrics=ON, logging=Logging(verbose=True)) as gateway:
        client = await called(gateway, "/mcp/one", f"tool {secret}", "fail")
        session = await client.initialize("/mcp/one")
        await session.post(client, call(1, "echo", {"token": secret}))
        await session.post(client, request(2, f"x/{secret}"))
        server = HttpServer("far", url="https://127.0.0.1:1/mcp", headers={"Authorization": Secret(secret)})
        gateway.reload(servers={**gateway.gateway.config.servers, "far": server})
        await gateway.gateway.servers["far"].tried.wait()
        answer = await client.ask("GET", "/metrics")

    assert secret.encode() not in answer.body
    assert Samples(answer.body).value("server_state", server="far", state="failed") == 1


def test_every_figure_has_its_own_name() -> None:
    upstreams = [upstream("cloud", round_trip=0.25), upstream("other", State.WAITING)]
    samples = Samples(exposition(statistics(one=server("one")), Tally(), upstreams))

    assert {name: samples.value(f"server_{name}", server="one") for name in SERVER} == SERVER
    assert {(name, bound): samples.value(f"client_{name}", bound=bound) for name, bound in CLIENT} == CLIENT
    assert {name: samples.value(name) for name in PLAIN} == PLAIN
    ended = {reason: samples.value("parked_calls_ended_total", reason=reason) for reason in ENDED}
    assert ended == ENDED
    assert {name: samples.value(f"upstream_{name}", upstream="cloud") for name in UPSTREAM} == UPSTREAM
    assert samples.value("upstream_round_trip_seconds", upstream="other") is None
    assert {state: samples.value("upstream_state", upstream="other", state=state.value) for state in State} == {
        **dict.fromkeys(State, 0),
        State.WAITING: 1,
    }
    assert {state: samples.value("server_state", server="one", state=state) for state in STATES} == {
        **dict.fromkeys(STATES, 0),
        "ready": 1,
    }
    assert "secret reason" not in samples.labels


SERVER = {
    "circuit_open": 1,
    "links": 0,
    "children": 0,
    "calls_in_flight": 0,
    "calls_waiting": 1,
    "consecutive_failures": 2,
    "links_made_total": 3,
    "links_lost_total": 4,
    "attempts_failed_total": 5,
}
CLIENT = {
    ("held", "calls"): 1,
    ("limit", "calls"): 2,
    ("held_bytes", "bodies"): 5,
    ("limit_bytes", "bodies"): 6,
    ("refused_total", "calls"): 3,
    ("displaced_total", "calls"): 4,
    ("refused_total", "bodies"): 7,
    ("displaced_total", "bodies"): 8,
}
PLAIN = {
    "sessions": 9,
    "subscriptions": 10,
    "messages_waiting": 11,
    "messages_dropped_total": 12,
    "parked_calls": 13,
    "parked_calls_limit": 14,
}
ENDED = {"abandoned": 15, "displaced": 16, "refused": 17}
UPSTREAM = {
    "reconnects_total": 1,
    "requests_total": 2,
    "overdue_total": 3,
    "calls_in_flight": 4,
    "round_trip_seconds": 0.25,
}


def test_of_two_servers_of_one_name_one_of_which_is_ending_the_other_is_told() -> None:
    samples = Samples(exposition(statistics(former=server("s", "stopped", made=9), now=server("s")), Tally()))

    assert samples.value("server_links_made_total", server="s") == 3
    assert samples.value("server_state", server="s", state="ready") == 1


def test_names_are_those_that_prometheus_wants() -> None:
    """Prometheus, "Metric and label naming": a prefix, base units in the plural, ``_total`` for what only grows."""
    tally = Tally()
    tally.take([CallEvent("", "tools/call", "s", 'odd "tool"\nname', True, Outcome.OK, BOUNDS[3])])
    samples = Samples(exposition(statistics(one=server("one")), tally, [upstream("u", round_trip=1.0)]))

    for name, family in samples.families.items():
        assert re.fullmatch(r"(mcpgateway|process)(_[a-z]+)+", name)
        assert family.documentation
        assert family.type != "counter" or all(sample.name.endswith("_total") for sample in family.samples)
        assert not re.search(r"_(ms|milliseconds|minutes|kb|count)$", name)
    assert 'odd "tool"\nname' in samples.labels


async def test_the_method_has_to_be_get() -> None:
    async with site(adapters("one"), metrics=ON) as gateway:
        answer: Answer = await (await gateway.dial()).post("/metrics", {})

    assert answer.status == 405
