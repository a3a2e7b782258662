"""What clients may have of the gateway, per address and in all: streams, calls, sessions; and how a refusal reads."""

from __future__ import annotations

from typing import Any

import pytest
import trio.testing

from mcpgateway.config.limits import Limits
from mcpgateway.config.model import Listen
from mcpgateway.protocol.revisions import Era
from tests.fronts.site import POST, Client, Session, Site, adapters, call, modern, request, site, text
from tests.wire.http1.peers import Answer

FLOOD = "127.0.0.2"
LISTEN = {"notifications": {"toolsListChanged": True}}
SSE = {"Accept": "text/event-stream"}


def limited(**limits: int) -> Listen:
    return Listen(limits=Limits(**limits))


def check(answer: Answer, rule: str, status: int = 429) -> None:
    """That it is a refusal that says what to raise, and when to come again."""
    error = answer.json["error"]
    assert (answer.status, answer.headers["retry-after"]) == (status, "5")
    assert error["code"] == (-32600 if status == 429 else -32603)
    assert error["message"].endswith(f"(listen.limits.{rule})")
    if status == 429:
        assert error["data"] == {"rule": rule, "retry_after_ms": 5000}


def refused(gateway: Site) -> dict[str, int]:
    clients = gateway.gateway.statistics().clients
    return {rule: bound.refused for rule, bound in clients.items() if bound.refused}


async def held(gateway: Site, rule: str, count: int) -> None:
    """Wait until so many are held."""
    while gateway.gateway.statistics().clients[rule].held != count:
        await trio.testing.wait_all_tasks_blocked(0.001)


async def subscribe(client: Client, id: object = 1) -> None:
    message, headers = modern(request(id, "subscriptions/listen", LISTEN))
    await client.start("POST", "/mcp/one", message, {**POST, **headers})


async def stream(client: Client, session: Session) -> None:
    await client.start("GET", session.path, headers={**SSE, **session.headers})


# ---- streams ---------------------------------------------------------------------------------------------------------


async def test_subscriptions_of_one_address_are_bounded_and_end_with_their_connections() -> None:
    async with site(listen=limited(streams=10, streams_per_address=2)) as gateway:
        streams = [await gateway.dial(FLOOD) for _ in range(2)]
        for client in streams:
            await subscribe(client)
            await client.until(1)
        third, user = await gateway.dial(FLOOD), await gateway.dial()
        await subscribe(third, "x")
        told = await third.answer()
        check(told, "streams_per_address")
        assert told.json["id"] == "x"
        await subscribe(user)
        await user.until(1)
        assert (await third.modern("/mcp/one", call(2, "echo", {"text": "a"}))).status == 200  # calls are no streams

        await streams[0].aclose()
        await held(gateway, "streams", 2)
        await subscribe(third)
        await third.until(1)
        assert refused(gateway) == {"streams": 1}


@pytest.mark.requirement("4.clients.bounds")
async def test_get_streams_and_subscriptions_are_bounded_together() -> None:
    async with site(listen=limited(streams=2, streams_per_address=2)) as gateway:
        client, other, listener = [await gateway.dial() for _ in range(3)]
        sessions = [await client.initialize("/mcp/one") for _ in range(2)]
        await stream(listener, sessions[0])
        await held(gateway, "streams", 1)
        await subscribe(other)
        await other.until(1)

        check(await client.ask("GET", "/mcp/one", headers={**SSE, **sessions[1].headers}), "streams", 503)
        assert (await client.ask("DELETE", "/mcp/one", headers=sessions[0].headers)).status == 200
        assert (await listener.answer()).status == 200
        await held(gateway, "streams", 1)


# ---- calls -----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("4.clients.bounds")
@pytest.mark.parametrize("path", ["/mcp/one", "/mcp"])
async def test_calls_in_flight_of_one_address_are_bounded(path: str) -> None:
    prefix = "one_" if path == "/mcp" else ""
    async with site(listen=limited(calls=10, calls_per_address=2)) as gateway:
        clients = [await gateway.dial(FLOOD) for _ in range(3)]
        user = await gateway.dial()
        session, other = await clients[0].initialize(path), await user.initialize(path)
        for id, client in enumerate(clients[:2]):
            await session.start(client, call(id, f"{prefix}slow", {"name": "n"}))
        await held(gateway, "calls", 2)

        told = await session.post(clients[2], call("third", f"{prefix}echo", {"text": "a"}))
        check(told, "calls_per_address")
        assert told.json["id"] == "third"
        assert text(await other.post(user, call(1, f"{prefix}echo", {"text": "b"}))) == "b"
        check(await clients[2].modern(path, call(1, f"{prefix}echo", {"text": "a"})), "calls_per_address")
        await session.post(clients[2], cancelled(0))
        await held(gateway, "calls", 1)
        assert text(await session.post(clients[2], call(1.5, f"{prefix}echo", {"text": "a"}))) == "a"
        await session.post(clients[2], cancelled(1))
        await held(gateway, "calls", 0)


def cancelled(id: object) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}}


async def test_a_call_that_is_refused_for_its_id_is_not_in_flight() -> None:
    async with site() as gateway:
        first, second = await gateway.dial(), await gateway.dial()
        session = await first.initialize("/mcp/one")
        await session.start(first, call(1, "slow", {"name": "n"}))
        await held(gateway, "calls", 1)

        assert (await session.post(second, call(1, "slow", {"name": "m"}))).status == 400
        assert gateway.gateway.statistics().clients["calls"].held == 1
        await session.post(second, cancelled(1))
        await held(gateway, "calls", 0)


async def test_the_entries_of_a_batch_are_calls() -> None:
    async with site(listen=limited(calls=3, calls_per_address=3)) as gateway:
        client = await gateway.dial()
        session = await client.initialize("/mcp/one", revision="2025-03-26")
        batch = [call(id, "slow", {"name": str(id)}) for id in range(4)] + [cancelled(0)]
        await session.start(client, batch)
        await held(gateway, "calls", 2)
        await session.post(await gateway.dial(), call(9, "release"))
        answers = {entry["id"]: "error" in entry for entry in (await client.answer()).json}

        assert answers == {1: False, 2: False, 3: True}
        assert refused(gateway) == {"calls": 1}


# ---- sessions --------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("4.clients.bounds")
async def test_a_flood_of_sessions_ends_its_own_and_nobody_elses() -> None:
    async with site(listen=limited(sessions=6, sessions_per_address=3)) as gateway:
        user, flood = await gateway.dial(), await gateway.dial(FLOOD)
        mine = [await user.initialize("/mcp/one") for _ in range(3)]
        theirs = [await flood.initialize("/mcp/one") for _ in range(20)]

        for session in mine:
            assert text(await session.post(user, call(1, "echo", {"text": "a"}))) == "a"
        assert [(await session.post(flood, call(1, "echo"))).status for session in theirs] == [404] * 17 + [200] * 3
        sessions = gateway.gateway.statistics().clients["sessions"]
        assert (sessions.held, sessions.displaced, sessions.refused) == (6, 17, 0)


async def test_with_all_sessions_in_use_a_new_one_is_refused() -> None:
    async with site(
        adapters("one", eras=frozenset({Era.LEGACY})), listen=limited(sessions=4, sessions_per_address=1)
    ) as gateway:
        client, listener, user = await gateway.dial(FLOOD), await gateway.dial(FLOOD), await gateway.dial()
        session = await client.initialize("/mcp/one")
        await stream(listener, session)
        await held(gateway, "streams", 1)

        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t"}}
        check(await client.post("/mcp/one", request(0, "initialize", params)), "sessions_per_address")
        await user.initialize("/mcp/one")
        assert refused(gateway) == {"sessions": 1}


# ---- what is shown ---------------------------------------------------------------------------------------------------


async def test_health_shows_what_clients_hold() -> None:
    async with site() as gateway:
        client = await gateway.dial()
        await client.initialize("/mcp/one")
        await subscribe(await gateway.dial())
        await held(gateway, "streams", 1)
        shown = (await client.ask("GET", "/health")).json["clients"]

        assert shown["connections"] == {"held": 2, "limit": 4096, "refused": 0, "displaced": 0}
        assert {rule: bound["held"] for rule, bound in shown.items() if rule != "connections"} == {
            "sessions": 1,
            "streams": 1,
            "calls": 0,
            "bodies_bytes": 0,
            "replies_bytes": 0,
            "outbox_bytes": 0,
        }
