"""``subscriptions/listen`` over HTTP: several at once, each with its own id, raw and merged."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fronts.site import POST, Client, Site, adapters, call, modern, request, site

KEY = "io.modelcontextprotocol/subscriptionId"
LISTEN = {"notifications": {"toolsListChanged": True, "promptsListChanged": True}}


async def listen(gateway: Site, path: str, id: object) -> Client:
    """A client whose subscription is acknowledged."""
    client = await gateway.dial()
    message, headers = modern(request(id, "subscriptions/listen", LISTEN))
    await client.start("POST", path, message, {**POST, **headers})
    (acknowledged,) = await client.until(1)
    assert acknowledged == told("subscriptions/acknowledged", id, notifications={"toolsListChanged": True})
    return client


def told(method: str, id: object, **params: object) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": f"notifications/{method}", "params": {**params, "_meta": {KEY: id}}}


@pytest.mark.parametrize("path", ["/mcp/one", "/mcp"])
async def test_several_subscriptions_at_once_have_ids_of_their_own(path: str) -> None:
    async with site(adapters("one", "two")) as gateway:
        clients = {id: await listen(gateway, path, id) for id in (7, "7", "x")}
        other = await gateway.dial()
        await other.modern("/mcp/one", call(1, "notify"))
        for id, client in clients.items():
            assert (await client.until(2))[1:] == [told("tools/list_changed", id)]

        await clients.pop("x").aclose()
        await other.modern("/mcp/one", call(2, "notify"))
        for id, client in clients.items():
            assert (await client.until(3))[2:] == [told("tools/list_changed", id)]


async def test_news_of_one_server_reach_those_who_listen_to_it_only() -> None:
    async with site(adapters("one", "two")) as gateway:
        one, two, both = [await listen(gateway, path, path) for path in ("/mcp/one", "/mcp/two", "/mcp")]
        other = await gateway.dial()
        await other.modern("/mcp/two", call(1, "notify"))
        await both.until(2)
        await two.until(2)
        await other.modern("/mcp/one", call(2, "notify"))

        assert len(await one.until(2)) == 2
        assert len(await both.until(3)) == 3
        assert len(await two.until(2)) == 2


@pytest.mark.parametrize(("path", "tool"), [("/mcp/one", "ask"), ("/mcp", "one_ask")])
async def test_request_state_goes_round_to_the_byte(path: str, tool: str) -> None:
    async with site(adapters("one", "two")) as gateway:
        client = await gateway.dial()
        asked = (await client.modern(path, call(1, tool))).json["result"]
        assert asked["resultType"] == "input_required"
        for state in (asked["requestState"], "another call's \u2028"):
            answers = {"name": {"action": "accept", "content": {"name": "é"}}}
            retry = call(2, tool, inputResponses=answers, requestState=state)
            got = (await client.modern(path, retry)).json["result"]["structuredContent"]
            assert got == {"inputResponses": answers, "requestState": state}


async def test_a_session_is_good_on_its_own_path_only() -> None:
    async with site(adapters("one", "two")) as gateway:
        client = await gateway.dial()
        session = await client.initialize("/mcp/one")
        for path in ("/mcp/two", "/mcp"):
            assert (await client.post(path, call(1, "echo"), session.headers)).status == 404
        assert (await session.post(client, call(1, "echo"))).status == 200
