"""The cold routes, as probes and people ask for them: on the listener that serves MCP."""

from __future__ import annotations

import attrs
import pytest
import trio

from mcpgateway.config.model import Config, InProcessServer, Secret
from mcpgateway.errors import LAST_WORDS
from mcpgateway.gateway import Gateway
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.memory import MemoryAdapter
from mcpgateway.web.routes import application
from tests.fronts.cloud import cloud
from tests.fronts.site import adapters, call, site
from tests.web.test_asgi import serving


async def test_health_tells_the_state_of_the_gateway_and_of_each_server() -> None:
    broken = MemoryAdapter("broken")
    broken.dead = True
    async with site({**adapters("one"), "broken": broken}) as gateway:
        await gateway.gateway.ready()
        client = await gateway.dial()
        session = await client.initialize("/mcp/one")
        await session.post(client, call(1, "echo", {"text": "hi"}))

        answer = await client.ask("GET", "/health")

        assert answer.status == 200
        health = answer.json
        assert health["status"] == "healthy"
        assert health["ready"] is True
        assert health["sessions"] == 1
        assert health["servers"]["one"]["state"] == "ready"
        assert health["servers"]["broken"]["state"] == "failed"
        assert health["servers"]["broken"]["reason"]
        assert health["pool"]["one"]["total"] == health["servers"]["one"]["links"]


async def test_the_gateway_has_been_up_since_before_anybody_asked() -> None:
    async with site(adapters("one")) as gateway:
        gateway.gateway.began -= 100
        uptime = (await (await gateway.dial()).ask("GET", "/health")).json["uptime"]
        assert 100 <= uptime < 160


async def test_health_does_not_repeat_what_a_child_said_last() -> None:
    broken = MemoryAdapter("broken")
    async with site({"broken": broken}) as gateway:
        gateway.gateway.servers["broken"]._links.attempts.reason = f"exited with status 1{LAST_WORDS}token=hunter2"
        answer = await (await gateway.dial()).ask("GET", "/health")

        assert answer.json["servers"]["broken"]["reason"] == "exited with status 1"
        assert b"hunter2" not in answer.body


@pytest.mark.requirement("4.http.breaker")
async def test_health_says_that_a_server_gets_no_calls_and_when_it_is_asked_again() -> None:
    async with site({"ill": MemoryAdapter("ill")}) as gateway:
        server = gateway.gateway.servers["ill"]
        for second in range(server.config.recovery.failures):
            server.health.breaker.failed("HTTP 503", trio.current_time() + second, 0.0)
        ill = (await (await gateway.dial()).ask("GET", "/health")).json["servers"]["ill"]

        assert (ill["state"], ill["circuit"], ill["reason"]) == ("failed", "open", "HTTP 503")
        assert 0 < ill["retry_in"] <= 6


@pytest.mark.requirement("6.upstreams")
async def test_health_says_how_upstreams_are_and_not_where() -> None:
    async with cloud() as far:
        upstreams = far.upstream(), attrs.evolve(far.upstream("gone"), endpoint=Secret("ws://nobody.example/?token=t"))
        async with site(upstreams=upstreams) as gateway:
            socket = await far.next()
            await socket.initialize()
            await socket.ask(call(1, "echo", {"text": "hi"}))
            client = await gateway.dial()

            told = (await client.ask("GET", "/health")).json["upstreams"]

            assert told["cloud"].pop("since") < 60
            assert told["cloud"] == {"state": "connected", "reconnects": 0, "calls": 1, "in_flight": 0}
            assert (told["gone"]["state"], told["gone"]["reason"]) == ("waiting", "cannot connect: Connection refused")
            assert told["gone"]["retry_in"] > 0
            assert "token" not in str(told)
            await socket.cut()  # else its answer to our goodbye is waited for, in real time


async def test_readiness_waits_for_every_server_to_have_been_tried() -> None:
    servers = {name: InProcessServer(name, module="object:given") for name in ("one", "two")}
    gateway = Gateway(Config(servers=servers), adapters("one", "two"))
    async with serving(application(gateway)) as client:
        starting = await client.ask("GET", "/readyz")
        alive = await client.ask("GET", "/livez")
        gateway.servers["one"].tried.set()
        almost = await client.ask("GET", "/readyz")
        gateway.servers["two"].tried.set()
        ready = await client.ask("GET", "/readyz")

    assert (starting.status, starting.json) == (503, {"status": "starting", "waiting_for": ["one", "two"]})
    assert (alive.status, alive.json) == (200, {"status": "alive"})
    assert (almost.status, almost.json["waiting_for"]) == (503, ["two"])
    assert (ready.status, ready.json) == (200, {"status": "ready"})


async def test_paths_that_are_nothing_and_methods_that_do_not_fit_are_told_in_json() -> None:
    async with site(adapters("one")) as gateway:
        client = await gateway.dial()
        nothing = await client.ask("GET", "/nothing/here")
        posted = await client.post("/health", {})

        assert (nothing.status, nothing.json) == (404, {"error": "Not Found"})
        assert (posted.status, posted.json) == (405, {"error": "Method Not Allowed"})


async def test_cold_and_hot_routes_share_a_connection() -> None:
    async with site(adapters("one")) as gateway:
        client = await gateway.dial()
        session = await client.initialize("/mcp/one")
        for number in range(3):
            assert (await client.ask("GET", "/livez")).status == 200
            assert (await session.post(client, call(number, "echo", {"text": "hi"}))).status == 200


async def test_health_says_which_eras_are_known() -> None:
    legacy = MemoryAdapter("old", eras={Era.LEGACY})
    async with site({"old": legacy}) as gateway:
        await gateway.gateway.ready()
        health = await (await gateway.dial()).ask("GET", "/health")

        assert health.json["servers"]["old"]["eras"] == ["legacy"]
