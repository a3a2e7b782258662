"""What holds on every channel, HTTP+SSE, WebSocket and stdio, in both eras."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import trio.testing

from mcpgateway import jsonrpc
from mcpgateway.config.limits import Limits
from mcpgateway.config.model import EraPolicy, Listen
from mcpgateway.errors import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    UNSUPPORTED_VERSION,
)
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.fixture_server import FixtureServer
from mcpgateway.testing.http import serve_fixture
from mcpgateway.testing.memory import MemoryAdapter
from tests.calls.newsroom import newsroom
from tests.fronts.channels import KINDS, connected
from tests.fronts.site import ENVELOPE, LEGACY, MODERN, Site, adapters, call, modern, notification, request, site
from tests.fronts.test_legacy import IDS

pytestmark = pytest.mark.parametrize("kind", KINDS)
NAMES = ["one", ""]
LEGACY_ONLY = frozenset({Era.LEGACY})


def exposed(name: str, tool: str) -> str:
    return tool if name else f"one_{tool}"


def text(answer: Any) -> str:
    return str(answer["result"]["content"][0]["text"])


# ---- the legacy era --------------------------------------------------------------------------------------------------


@pytest.mark.requirement("5.fronts", "feature.8", "feature.22")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("revision", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_the_handshake_in_every_revision(kind: str, name: str, revision: str) -> None:
    async with site() as gateway, connected(kind, gateway, name) as client:
        result = await client.initialize(revision=revision)

        assert result["protocolVersion"] == revision
        assert "tools" in result["capabilities"]
        assert await client.ask(request(1, "ping")) == {"jsonrpc": "2.0", "id": 1, "result": {}}
        assert text(await client.ask(call(2, exposed(name, "echo"), {"text": "hi"}))) == "hi"
        listed = await client.ask(request(3, "tools/list"))
        assert exposed(name, "echo") in [tool["name"] for tool in listed["result"]["tools"]]


async def test_an_unknown_revision_gets_the_latest_as_a_counter_offer(kind: str) -> None:
    async with site() as gateway, connected(kind, gateway) as client:
        assert (await client.initialize(revision=MODERN))["protocolVersion"] == LEGACY


@pytest.mark.parametrize("params", [{}, {"protocolVersion": 7}, {"protocolVersion": LEGACY, "x": "y" * 70_000}])
async def test_a_handshake_that_is_none_is_refused_and_another_can_follow(kind: str, params: dict[str, Any]) -> None:
    async with site() as gateway, connected(kind, gateway) as client:
        answer = await client.ask(request("a", "initialize", params))

        assert answer["error"]["code"] == INVALID_PARAMS
        assert len(gateway.gateway.sessions) == 0
        assert (await client.initialize())["protocolVersion"] == LEGACY


async def test_before_the_handshake_there_is_ping_and_nothing_else(kind: str) -> None:
    async with site(adapters("one", eras=LEGACY_ONLY)) as gateway, connected(kind, gateway) as client:
        assert (await client.ask(request(1, "ping")))["result"] == {}
        refused = await client.ask(request(2, "tools/list"))
        assert (refused["error"]["code"], refused["error"]["message"]) == (INVALID_REQUEST, "initialise first")


@pytest.mark.requirement("5.fronts")
async def test_what_follows_the_handshake_in_one_breath_waits_for_it(kind: str) -> None:
    """As a shell has it: ``printf '…' | mcp-gateway stdio``."""
    async with site() as gateway, connected(kind, gateway) as client:
        params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t"}}
        await client.send(request(0, "initialize", params))
        await client.send(notification("notifications/initialized"))
        await client.send(call(1, "echo", {"text": "hi"}))
        await client.send(b"[1]")
        assert text(await client.answer(1)) == "hi"
        assert 0 in [message["id"] for message in client.told]


async def test_a_client_that_shakes_hands_again_begins_anew(kind: str) -> None:
    async with site() as gateway, connected(kind, gateway) as client:
        await client.initialize()
        await client.send(call(1, "slow", {"name": "s"}))
        await client.ask(call(3, "waiting", {"count": 1}))
        await client.initialize()

        assert len(gateway.gateway.sessions) == 1
        counted = await client.ask(call(2, "cancelled", {"count": 1}))
        assert counted["result"]["structuredContent"] == {"values": ["s"]}


@pytest.mark.parametrize("name", NAMES)
async def test_ids_of_every_type_are_echoed_to_the_byte(kind: str, name: str) -> None:
    async with site() as gateway, connected(kind, gateway, name) as client:
        await client.initialize()
        for id in IDS:
            for method, params in (
                ("ping", "{}"),
                ("tools/call", f'{{"name":"{exposed(name, "echo")}"}}'),
                ("tools/call", '{"name":"nope"}'),
                ("nope", "{}"),
            ):
                await client.send(f'{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}'.encode())
                answer = await client.wire.receive()
                assert f'"id":{id}'.encode() in answer, (id, method, answer)


@pytest.mark.parametrize("name", NAMES)
async def test_unknown_members_survive(kind: str, name: str) -> None:
    async with site() as gateway, connected(kind, gateway, name) as client:
        await client.initialize()
        await client.send(call(1, exposed(name, "unknown"), {"big": 10**30}))
        answer = await client.wire.receive()

        assert b'"x-top":123456789012345678901234567890' in answer
        assert b'"x-part":{"deep":[1.0,null]}' in answer


@pytest.mark.parametrize("name", NAMES)
async def test_progress_comes_before_the_reply(kind: str, name: str) -> None:
    async with site() as gateway, connected(kind, gateway, name) as client:
        await client.initialize()
        reply = await client.ask(call(7, exposed(name, "progress"), {"n": 3}, _meta={"progressToken": "tok"}))

        told = [(note["params"]["progressToken"], note["params"]["progress"]) for note in client.told]
        assert told == [("tok", 1), ("tok", 2), ("tok", 3)]
        assert text(reply) == "3 steps"


@pytest.mark.requirement("5.fronts")
@pytest.mark.parametrize("name", NAMES)
async def test_a_question_of_the_server_reaches_its_client_and_is_answered(kind: str, name: str) -> None:
    async with site() as gateway, connected(kind, gateway, name) as client, connected(kind, gateway, name) as other:
        await client.initialize({"elicitation": {}})
        await other.initialize({"elicitation": {}})
        await client.send(call(1, exposed(name, "ask")))
        question = await client.receive()
        assert question["method"] == "elicitation/create"
        answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"name": "Ada"}}}

        await other.send(answer)  # which is nobody's there
        await client.send(answer)

        told = (await client.answer(1))["result"]["structuredContent"]
        assert told["result"] == {"action": "accept", "content": {"name": "Ada"}}
        await client.send(answer)
        assert (await client.ask(request(2, "ping")))["result"] == {}


async def test_a_question_that_the_client_did_not_declare_is_not_put(kind: str) -> None:
    async with site() as gateway, connected(kind, gateway) as client:
        await client.initialize()
        await client.ask(call(1, "ask"))

        assert client.told == []


async def test_a_client_cancels_its_call_and_no_other(kind: str) -> None:
    async with site() as gateway, connected(kind, gateway) as client:
        await client.initialize()
        for n in (1, 2):
            await client.send(call(n, "slow", {"name": f"s{n}"}))
        await client.ask(call(3, "waiting", {"count": 2}))
        await client.send(notification("notifications/cancelled", {"requestId": 1, "reason": "no"}))
        await client.send(notification("notifications/cancelled", {"requestId": "2"}))
        await client.send(notification("notifications/cancelled", {}))

        counted = await client.ask(call(4, "cancelled", {"count": 1}))
        assert counted["result"]["structuredContent"] == {"values": ["s1"]}
        await client.send(call(5, "release"))
        assert text(await client.answer(2)) == "s2"


@pytest.mark.requirement("5.fronts")
@pytest.mark.parametrize("era", Era)
async def test_a_client_that_leaves_cancels_its_calls_and_no_others(kind: str, era: Era) -> None:
    async with site() as gateway, connected(kind, gateway) as stays:
        ask = stays.ask if era is Era.LEGACY else stays.modern
        if era is Era.LEGACY:
            await stays.initialize()
        async with connected(kind, gateway) as leaves:
            if era is Era.LEGACY:
                await leaves.initialize()
            for client, name in ((leaves, "gone"), (stays, "there")):
                message = call("c", "slow", {"name": name})
                await client.send(message if era is Era.LEGACY else modern(message)[0])
            if era is Era.MODERN:  # the server is shared, so the other sees both
                await ask(call(1, "waiting", {"count": 2}))
            else:
                await gateway_has_calls(gateway, 2)
            await leaves.wire.aclose()
            while gateway_calls(gateway) > 1:
                await trio.testing.wait_all_tasks_blocked(0.001)
        if era is Era.MODERN:
            counted = await ask(call(2, "cancelled", {"count": 1}))
            assert counted["result"]["structuredContent"] == {"values": ["gone"]}
        await ask(call(3, "release"))
        assert text(stays.told[0] if stays.told else await stays.answer("c")) == "there"
        assert len(gateway.gateway.sessions) == (1 if era is Era.LEGACY else 0)


def gateway_calls(gateway: Site) -> int:
    return sum(link.in_flight for server in gateway.gateway.statistics().servers for link in server.links)


async def gateway_has_calls(gateway: Site, count: int) -> None:
    while gateway_calls(gateway) < count:
        await trio.testing.wait_all_tasks_blocked(0.001)


@pytest.mark.requirement("5.bad.channels")
async def test_one_id_twice_in_flight_is_refused(kind: str) -> None:
    async with site() as gateway, connected(kind, gateway) as client:
        await client.initialize()
        await client.send(call(1, "slow", {"name": "s"}))
        refused = await client.ask(call(1, "echo"))
        assert refused["error"]["code"] == INVALID_REQUEST
        await client.ask(call(2, "release"))
        await client.modern(call(1, "echo"))  # it may be used again, once it is answered


async def test_a_batch_is_answered_as_one_array(kind: str) -> None:
    async with site() as gateway, connected(kind, gateway) as client:
        await client.initialize(revision="2025-03-26")
        await client.send([request(1, "ping"), notification("notifications/x"), call(2, "nope"), {"no": "message"}])
        answers = await client.receive()

        assert sorted(str(answer["id"]) for answer in answers) == ["1", "2", "None"]
        await client.send([notification("notifications/x")])
        assert (await client.ask(request(3, "ping")))["result"] == {}


async def test_the_cancelled_of_a_batch_have_no_part_in_the_array(kind: str) -> None:
    async with site() as gateway, connected(kind, gateway) as client:
        await client.initialize(revision="2025-03-26")
        await client.send([call(1, "slow", {"name": "s"}), request(2, "ping")])
        await client.ask(call(3, "waiting", {"count": 1}))
        await client.send([notification("notifications/cancelled", {"requestId": 1})])
        (answer,) = await client.receive()
        assert answer["id"] == 2


@pytest.mark.requirement("bridge.batch.legacy-to-modern")
@pytest.mark.parametrize("name", NAMES)
async def test_a_batch_at_a_modern_server_is_answered_as_one_array_whatever_is_asked_meanwhile(
    kind: str, name: str
) -> None:
    """The answer to the question comes in a batch, too, along with another request."""
    async with site(adapters("one", eras=frozenset({Era.MODERN}))) as gateway, connected(kind, gateway, name) as client:
        await client.initialize({"elicitation": {}}, revision="2025-03-26")
        echoed = call(2, exposed(name, "echo"), {"text": "a"})
        await client.send([call(1, exposed(name, "ask")), notification("notifications/x"), echoed, call(3, "nope")])
        question = await client.receive()
        assert question["method"] == "elicitation/create"
        said = {"action": "accept", "content": {"name": "Ada"}}
        await client.send([{"jsonrpc": "2.0", "id": question["id"], "result": said}, request(4, "ping")])
        batches = [await client.receive(), await client.receive()]
        (pong,), replies = sorted(batches, key=len)
        assert pong["id"] == 4
        answers = {message["id"]: message for message in replies}
        assert set(answers) == {1, 2, 3}
        assert answers[1]["result"]["structuredContent"]["inputResponses"] == {"name": said}
        assert (text(answers[2]), "resultType" in answers[2]["result"]) == ("a", False)
        assert "error" in answers[3]

        hello = request(6, "initialize", {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {}})
        await client.send([request(5, "ping"), hello])
        refused = await client.receive()
        assert (refused["id"], refused["error"]["code"]) == (None, INVALID_REQUEST)


@pytest.mark.parametrize("revision", [None, "2024-11-05", LEGACY])
async def test_there_are_no_batches_in_other_revisions(kind: str, revision: str | None) -> None:
    async with site() as gateway, connected(kind, gateway) as client:
        if revision is not None:
            await client.initialize(revision=revision)
        await client.send([request(1, "ping")])
        refused = await client.receive()
        assert (refused["id"], refused["error"]["code"]) == (None, INVALID_REQUEST)


@pytest.mark.requirement("5.fronts")
async def test_what_servers_say_outside_calls_comes_by_itself(kind: str) -> None:
    servers = adapters("one", "two", eras=LEGACY_ONLY)
    async with site(servers) as gateway, connected(kind, gateway) as client, connected(kind, gateway, "") as merged:
        for each in (client, merged):
            await each.initialize()
            await each.ask(request(1, "tools/list"))
        for link in servers["one"].links:
            link.host.tools["fresh"] = link.host.tools["echo"]
            link.send(jsonrpc.notification("notifications/tools/list_changed"))
        for each in (client, merged):
            assert (await each.receive())["method"] == "notifications/tools/list_changed"


@pytest.mark.parametrize("name", NAMES)
async def test_a_resource_that_is_subscribed_to(kind: str, name: str) -> None:
    paper = newsroom("one")
    uri = "book://one/1"
    async with site({"one": paper}) as gateway, connected(kind, gateway, name) as client:
        await client.initialize()
        assert (await client.ask(request(1, "resources/subscribe", {"uri": uri})))["result"] is not None
        for link in paper.links:
            link.send(jsonrpc.notification("notifications/resources/updated", {"uri": uri}))
        assert (await client.receive())["params"] == {"uri": uri}


async def test_an_http_server_whose_session_passes_through(kind: str) -> None:
    """Its stream is opened for the client, and a session that it has lost is opened again behind the client's back."""
    async with serve_fixture(eras=LEGACY_ONLY) as fixture, site(urls={"one": fixture.url}) as gateway:
        async with connected(kind, gateway) as client:
            await client.initialize({"elicitation": {}})
            await client.ask(call(1, "notify"))
            while not client.told:
                client.told.append(await client.receive())
            assert client.told[0]["method"] == "notifications/tools/list_changed"
            fixture.sessions.clear()
            assert text(await client.ask(call(2, "echo", {"text": "hi"}))) == "hi"


async def test_a_notification_reaches_its_server(kind: str) -> None:
    servers = adapters("one", eras=LEGACY_ONLY)
    said = ["notifications/roots/list_changed", "notifications/of-nobody"]
    async with site(servers) as gateway, connected(kind, gateway) as client:
        await client.initialize({"roots": {"listChanged": True}})
        await client.ask(request(1, "tools/list"))
        for method in said:
            await client.send(notification(method))
        while not any(said == host.heard[-2:] for host in hosts(servers["one"])):
            await trio.testing.wait_all_tasks_blocked(0.001)


@pytest.mark.requirement("5.fronts", "feature.23")
@pytest.mark.parametrize("era", Era)
@pytest.mark.parametrize("path", ["/mcp", "/mcp/one"])
async def test_everything_passes_a_second_gateway(kind: str, path: str, era: Era) -> None:
    """What a bridge is: a gateway of one server, which is a gateway."""
    far_servers = adapters("one", eras=frozenset({era}))
    async with site(far_servers) as far, site(urls={"far": f"http://{far.host}{path}"}) as near:
        async with connected(kind, near, "far") as client:
            prefix = "" if "one" in path else "one_"
            if era is Era.LEGACY:
                await client.initialize({"elicitation": {}})
            else:
                wanted = {"notifications": {"toolsListChanged": True}}
                await client.send(modern(request("sub", "subscriptions/listen", wanted))[0])
                assert (await client.receive())["method"] == "notifications/subscriptions/acknowledged"
            ask = client.ask if era is Era.LEGACY else client.modern

            assert text(await ask(call(1, f"{prefix}echo", {"text": "hi"}))) == "hi"
            told = await ask(call(2, f"{prefix}progress", {"n": 2}, _meta={"progressToken": "p"}))
            assert (text(told), len(client.told)) == ("2 steps", 2)
            await ask(request(3, "tools/list"))
            for link in far_servers["one"].links:
                link.host.tools["fresh"] = link.host.tools["echo"]
            client.told.clear()
            await ask(call(4, f"{prefix}notify"))
            changed = client.told.pop() if client.told else await client.receive()
            assert changed["method"] == "notifications/tools/list_changed"
            if era is Era.LEGACY:
                await client.send(call(5, f"{prefix}ask"))
                question = await client.receive()
                await client.send({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}})
                answered = (await client.answer(5))["result"]["structuredContent"]
                assert answered["result"] == {"action": "decline"}
            await client.send(_of(era, call(6, f"{prefix}slow", {"name": "s"})))
            while not any(host.slow for host in hosts(far_servers["one"])):
                await trio.testing.wait_all_tasks_blocked(0.001)
            await client.send(notification("notifications/cancelled", {"requestId": 6}))
            while not any(host.cancelled for host in hosts(far_servers["one"])):
                await trio.testing.wait_all_tasks_blocked(0.001)


def hosts(adapter: MemoryAdapter) -> list[FixtureServer]:
    """The servers behind the links of an adapter."""
    return [link.host for link in adapter.links if isinstance(link.host, FixtureServer)]


def _of(era: Era, message: dict[str, Any]) -> dict[str, Any]:
    return message if era is Era.LEGACY else modern(message)[0]


# ---- the modern era --------------------------------------------------------------------------------------------------


@pytest.mark.requirement("5.fronts")
@pytest.mark.parametrize("name", NAMES)
async def test_a_modern_call_needs_no_handshake(kind: str, name: str) -> None:
    async with site() as gateway, connected(kind, gateway, name) as client:
        discovered = (await client.modern(request("d", "server/discover")))["result"]
        assert MODERN in discovered["supportedVersions"]
        answer = await client.modern(call("a", exposed(name, "echo"), {"text": "hi"}))
        assert (text(answer), answer["result"]["resultType"]) == ("hi", "complete")
        reply = await client.modern(call(7, exposed(name, "progress"), {"n": 2}, _meta={"progressToken": 5}))
        assert text(reply) == "2 steps"
        assert [note["params"]["progressToken"] for note in client.told] == [5, 5]
        assert len(gateway.gateway.sessions) == 0


@pytest.mark.requirement("5.fronts")
async def test_one_channel_carries_both_eras(kind: str) -> None:
    async with site() as gateway, connected(kind, gateway) as client:
        await client.initialize()
        assert "resultType" not in (await client.ask(call(1, "echo")))["result"]
        assert (await client.modern(call(1, "echo")))["result"]["resultType"] == "complete"
        assert (await client.ask(request(2, "ping")))["result"] == {}


async def test_a_modern_question_is_a_result(kind: str) -> None:
    async with site() as gateway, connected(kind, gateway) as client:
        asked = call(1, "ask")
        asked["params"]["_meta"] = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}
        question = (await client.modern(asked))["result"]
        assert question["resultType"] == "input_required"


REFUSED: dict[str, tuple[dict[str, Any], int]] = {
    "half an envelope": (
        call(1, "echo", _meta={"io.modelcontextprotocol/protocolVersion": MODERN}),
        INVALID_PARAMS,
    ),
    "capabilities that are none": (
        call(1, "echo", _meta={**ENVELOPE, "io.modelcontextprotocol/clientCapabilities": []}),
        INVALID_PARAMS,
    ),
    "a revision of tomorrow": (
        call(1, "echo", _meta={**ENVELOPE, "io.modelcontextprotocol/protocolVersion": "2027-01-01"}),
        UNSUPPORTED_VERSION,
    ),
    "a method of the other era": (modern(request(1, "ping"))[0], METHOD_NOT_FOUND),
    "an unknown method": (modern(request(1, "tools/fly"))[0], METHOD_NOT_FOUND),
    "an unknown tool": (modern(call(1, "fly"))[0], INVALID_PARAMS),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_modern_requests_that_are_refused(kind: str, case: str) -> None:
    message, code = REFUSED[case]
    async with site() as gateway, connected(kind, gateway) as client:
        answer = await client.ask(message)
        assert answer["error"]["code"] == code
        if code == UNSUPPORTED_VERSION:
            assert answer["error"]["data"] == {"supported": [MODERN], "requested": "2027-01-01"}
        assert text(await client.modern(call(2, "echo", {"text": "still here"}))) == "still here"


@pytest.mark.requirement("5.fronts")
@pytest.mark.parametrize("name", NAMES)
async def test_a_subscription_lasts_until_it_is_cancelled(kind: str, name: str) -> None:
    servers = adapters("one")
    async with site(servers) as gateway, connected(kind, gateway, name) as client:
        params = {"notifications": {"toolsListChanged": True}}
        await client.send(modern(request("sub", "subscriptions/listen", params))[0])
        acknowledged = await client.receive()
        assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
        assert acknowledged["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == "sub"
        assert gateway.gateway.bounds.streams.held == (1 if kind == "stdio" else 2)

        await client.modern(call(1, exposed(name, "notify")))
        told = client.told.pop() if client.told else await client.receive()
        assert told["method"] == "notifications/tools/list_changed"
        assert told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == "sub"

        await client.send(notification("notifications/cancelled", {"requestId": "sub"}))
        await client.modern(call(2, exposed(name, "notify")))
        assert client.told == []
        while gateway.gateway.bounds.streams.held > (0 if kind == "stdio" else 1):
            await trio.testing.wait_all_tasks_blocked(0.001)


@pytest.mark.parametrize("era", Era)
async def test_a_server_of_the_other_era_says_so(kind: str, era: Era) -> None:
    async with site(adapters("one", eras=frozenset(set(Era) - {era})), era=EraPolicy.MIRROR) as gateway:
        async with connected(kind, gateway) as client:
            if era is Era.LEGACY:
                params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t"}}
                answer = await client.ask(request(1, "initialize", params))
            else:
                answer = await client.modern(call(1, "echo"))
            assert answer["error"]["data"]["client_era"] == era.value


@pytest.mark.requirement("5.legacy-client")
@pytest.mark.parametrize("name", ["one", ""])
async def test_a_legacy_client_of_a_modern_server_is_asked_and_hears_of_changes(kind: str, name: str) -> None:
    async with site(adapters("one", eras=frozenset({Era.MODERN}))) as gateway, connected(kind, gateway, name) as client:
        await client.initialize({"elicitation": {}})
        await client.send(call(1, exposed(name, "ask")))
        question = await client.receive()
        assert question["method"] == "elicitation/create"
        said = {"action": "accept", "content": {"name": "Ada"}}
        await client.send({"jsonrpc": "2.0", "id": question["id"], "result": said})
        reply = await client.receive()
        assert reply["id"] == 1
        assert reply["result"]["structuredContent"]["inputResponses"] == {"name": said}

        while not gateway.gateway.changes.statistics().listening:
            await trio.testing.wait_all_tasks_blocked(0.001)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await client.ask(call(2, exposed(name, "notify")))
        told = client.told.pop() if client.told else await client.receive()
        assert told["method"] == "notifications/tools/list_changed"
        assert "_meta" not in told.get("params", {})


# ---- what goes wrong -------------------------------------------------------------------------------------------------

JUNK = {
    "no JSON": (b"{", PARSE_ERROR),
    "words": (b"hello", PARSE_ERROR),
    "no message": (b"{}", INVALID_REQUEST),
    "an object as id": (b'{"jsonrpc":"2.0","id":{},"method":"ping"}', INVALID_REQUEST),
    "deep": (b'{"jsonrpc":"2.0","id":1,"method":"x","params":' + b'{"a":' * 9000 + b"1" + b"}" * 9001, None),
}


@pytest.mark.requirement("5.bad.channels")
@pytest.mark.parametrize("case", JUNK)
async def test_junk_is_answered_and_the_channel_goes_on(kind: str, case: str) -> None:
    data, code = JUNK[case]
    async with site() as gateway, connected(kind, gateway) as client:
        await client.initialize()
        await client.send(data)
        refused = await client.receive()
        assert refused["error"]["code"] == code or code is None
        assert text(await client.ask(call(2, "echo", {"text": "still here"}))) == "still here"


@pytest.mark.requirement("5.bad.channels")
async def test_answers_and_notifications_of_no_consequence(kind: str) -> None:
    async with site() as gateway, connected(kind, gateway) as client:
        for shaken in (False, True):
            if shaken:
                await client.initialize()
            for message in (
                notification("notifications/roots/list_changed"),
                notification("notifications/cancelled", {"requestId": 77}),
                notification("notifications/of-no-revision", {"x": 1}),
                {"jsonrpc": "2.0", "id": 5, "result": {}},
                {"jsonrpc": "2.0", "id": "x", "error": {"code": 1, "message": "m"}},
                {"jsonrpc": "2.0", "id": None, "error": {"code": 1, "message": "m"}},
            ):
                await client.send(message)
            assert (await client.ask(request(1, "ping")))["result"] == {}
            assert client.told == []


async def test_a_server_that_dies_is_named_and_the_channel_goes_on(kind: str) -> None:
    async with site(adapters("one", "two")) as gateway, connected(kind, gateway, "") as client:
        await client.initialize()
        answer = await client.ask(call(1, "one_crash"))
        assert answer["error"]["data"]["server"] == "one"
        assert text(await client.ask(call(2, "two_echo", {"text": "hi"}))) == "hi"


@pytest.mark.requirement("5.bad.channels")
async def test_too_many_calls_are_refused_one_by_one(kind: str) -> None:
    listen = Listen(limits=Limits(calls=3, calls_per_address=3))
    async with site(listen=listen) as gateway, connected(kind, gateway) as client:
        await client.initialize()
        for n in range(3):
            await client.send(call(n, "slow", {"name": f"s{n}"}))
        refused = await client.ask(call(3, "echo"))
        assert "listen.limits.calls" in refused["error"]["message"]
        await client.send(notification("notifications/cancelled", {"requestId": 0}))
        while gateway.gateway.bounds.calls.held == 3:
            await trio.testing.wait_all_tasks_blocked(0.001)
        assert "result" in await client.ask(call(4, "release"))


async def test_a_large_message_both_ways(kind: str) -> None:
    async with site() as gateway, connected(kind, gateway) as client:
        await client.initialize()
        large = "ü" * 500_000
        assert text(await client.ask(call(1, "echo", {"text": large}))) == large
        assert gateway.gateway.bounds.bodies.held == 0


@pytest.mark.requirement("5.fronts")
async def test_a_drained_gateway_answers_what_is_in_flight_and_ends_the_channel(kind: str) -> None:
    async with site(shutdown_timeout=5.0) as gateway, connected(kind, gateway) as client:
        await client.initialize()
        await client.send(call(1, "slow", {"name": "s"}))
        params = {"notifications": {"toolsListChanged": True}}
        await client.send(modern(request("sub", "subscriptions/listen", params))[0])
        await client.receive()
        await gateway_has_calls(gateway, 1)
        client.stop.set()
        ended = await client.answer("sub")
        assert ended["result"]["resultType"] == "complete"
        for link in gateway.adapters["one"].links:
            for message in link.host.handle(jsonrpc.request(b"99", "tools/call", {"name": "release"})):
                link.send(message)
        assert text(await client.answer(1)) == "s"
        with pytest.raises(trio.EndOfChannel):
            await client.receive()


async def test_a_call_that_does_not_end_is_ended_with_the_drain(kind: str) -> None:
    async with site(shutdown_timeout=0.05) as gateway, connected(kind, gateway) as client:
        await client.initialize()
        await client.send(call(1, "slow", {"name": "s"}))
        await gateway_has_calls(gateway, 1)
        client.stop.set()
        assert "shutting down" in (await client.answer(1))["error"]["message"]
        with pytest.raises(trio.EndOfChannel):
            await client.receive()


async def test_a_namespace_that_goes_takes_its_channels_along(kind: str) -> None:
    async with site(adapters("one", "two")) as gateway, connected(kind, gateway, "two") as client:
        await client.initialize()
        servers = {"one": gateway.gateway.config.servers["one"]}
        gateway.reload(servers=servers)
        with pytest.raises(trio.EndOfChannel):
            await client.receive()


async def test_a_reload_is_told(kind: str) -> None:
    async with site(adapters("one", eras=LEGACY_ONLY)) as gateway, connected(kind, gateway, "") as client:
        await client.initialize()
        await client.ask(request(1, "tools/list"))
        extra = adapters("two", eras=LEGACY_ONLY)
        gateway.reload(adapters=extra, servers={**gateway.gateway.config.servers, **_server("two")})
        assert (await client.receive())["method"] == "notifications/tools/list_changed"
        assert text(await client.ask(call(2, "two_echo", {"text": "hi"}))) == "hi"


def _server(name: str) -> dict[str, Any]:
    from mcpgateway.config.model import InProcessServer

    return {name: InProcessServer(name, module="object:given")}


async def test_what_is_said_at_random_leaves_nothing_behind(kind: str) -> None:
    async with site() as gateway:
        for n in range(8):
            async with connected(kind, gateway) as client:
                if n % 2:
                    await client.initialize({"elicitation": {}})
                    await client.send(call(1, "ask"))
                await client.send(json.dumps(modern(call(2, "slow", {"name": "s"}))[0]).encode())
                if n % 4 < 2:
                    await client.receive() if n % 2 else None
                await client.wire.aclose()
        while len(gateway.gateway.sessions) or held(gateway):
            await trio.testing.wait_all_tasks_blocked(0.001)


def held(gateway: Site) -> set[str]:
    """What clients still hold, beside connections."""
    clients = gateway.gateway.statistics().clients
    return {rule for rule, bound in clients.items() if bound.held and rule != "connections"}
