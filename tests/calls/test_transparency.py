"""Same era on both sides: what arrives is what was sent, but for what the bridging table names."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import NoBack, Reply
from mcpgateway.catalog.items import SERVER_META
from mcpgateway.errors import JSON, MethodNotFound
from mcpgateway.jsonrpc import Message, members_of, raw_of, value_of
from mcpgateway.protocol import envelope
from mcpgateway.protocol.headers import request_headers
from mcpgateway.protocol.revisions import LATEST_MODERN, Era
from mcpgateway.wire.waiting import Wait
from tests.calls.doubles import CALLERS_OF_BOTH as CALLERS
from tests.calls.doubles import Library, ask, gateway_of, host, library, result, space
from tests.servers.doubles import Counting
from tests.strategies import json_objects, json_texts

META = st.fixed_dictionaries({}, optional={"progressToken": st.integers() | st.text(max_size=3), "x/y": json_objects})
FILLED = {"resultType", "ttlMs", "cacheScope", "_meta"}
"""Members of a result that the gateway may add, or, where they are there, add to."""


class Scripted(Library):
    """Answers every call with one result, to the byte, and keeps what came."""

    scripted = Raw(b"{}")

    def handle(self, message: Message) -> list[Message]:
        if message.method in ("tools/call", "x/unknown"):
            self.seen.append(message)
            members = {"jsonrpc": Raw(b'"2.0"'), "id": Raw(message.id or b"null"), "result": self.scripted}
            return [jsonrpc.decode(jsonrpc.encode(members))]
        return super().handle(message)


MARK = Raw(b'{"n":1.0,"big":123456789012345678901234567890,"text":"\\u00e9"}')
"""What only bytes show: numbers that no float holds, and an escaped spelling."""


params = st.tuples(json_objects, json_objects, META)
results = json_objects.filter(lambda members: not FILLED & members.keys() and not {"task", "taskId"} & members.keys())


@pytest.mark.requirement("3.shows.verbatim", "3.unknown", "bridge.envelope.same")
@settings(max_examples=40)
@given(
    st.sampled_from(Era),
    st.sampled_from(["a", ""]),
    params,
    st.sampled_from([b"7", b'"7"', b"1.0", b'"\\u00e9"']),
    results.flatmap(lambda members: json_texts(st.just(members))),
)
def test_a_call_and_its_result_cross_unchanged(
    era: Era,
    path: str,
    parts: tuple[dict[str, JSON], dict[str, JSON], dict[str, JSON]],
    id: bytes,
    answered: bytes,
) -> None:
    extra, arguments, meta = parts
    own: dict[str, object] = {"name": "echo" if path else "a_echo", "_meta": meta}
    sent = jsonrpc.request(id, "tools/call", {**extra, **own, "arguments": {"given": arguments, "mark": MARK}})
    adapter = Counting("a", type("a", (Scripted,), {"name": "a", "scripted": Raw(answered)}))

    async def run() -> tuple[Message, Message, Reply]:
        async with gateway_of(adapter) as gateway:
            message, headers = in_era(sent, era)
            reply = await space(gateway, path).serve(CALLERS[era](), message, Wait(), NoBack(), headers)
            (came,) = next(asked for link in adapter.links if (asked := host_of(link.host).asked("tools/call")))
            return message, came, reply

    message, came, reply = trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
    before, after = members_of(message.params), members_of(came.params)
    for member in before.keys() - {"_meta", "name"}:
        assert bytes(after[member]) == bytes(before[member])
    assert value_of(after["name"]) == "echo"
    assert drop(after["_meta"], "progressToken") == drop(before["_meta"], "progressToken")
    assert after.keys() == before.keys()
    assert came.members.keys() == message.members.keys()

    expected, found = members_of(answered), members_of(reply.message.result)
    for member in expected:
        assert bytes(found[member]) == bytes(expected[member])
    assert found.keys() - expected.keys() <= FILLED
    if path and era is Era.LEGACY:
        assert bytes(reply.message.result or b"") == answered
    assert (members_of(found.get("_meta")).keys() == {SERVER_META}) is not bool(path)


def in_era(message: Message, era: Era) -> tuple[Message, Mapping[bytes, bytes] | None]:
    if era is Era.LEGACY:
        return message, None
    message = message.replace(params=envelope.stamp(message.params, revision=LATEST_MODERN, capabilities=raw_of({})))
    return message, request_headers(message)


def drop(raw: Raw, member: str) -> JSON:
    value = value_of(raw)
    assert isinstance(value, dict)
    return {name: entry for name, entry in value.items() if name != member}


def host_of(found: object) -> Library:
    assert isinstance(found, Library)
    return found


@pytest.mark.parametrize("era", Era)
async def test_an_unknown_method_goes_to_the_one_server(era: Era, autojump_clock: trio.testing.MockClock) -> None:
    one = Counting("a", type("a", (Scripted,), {"name": "a", "scripted": Raw(b'{"of":"a"}')}))
    async with gateway_of(one) as gateway:
        got = result(await ask(space(gateway), CALLERS[era](), "x/unknown", {"deep": [1]}))
        assert got["of"] == "a"
        for other in ("server/discover", "subscriptions/listen") if era is Era.LEGACY else ("ping", "initialize"):
            with pytest.raises(MethodNotFound):
                await ask(space(gateway), CALLERS[era](), other)
        assert value_of(members_of(host(one).asked("x/unknown")[0].params)["deep"]) == [1]
    async with gateway_of(one, library("b")) as gateway:
        with pytest.raises(MethodNotFound):
            await ask(space(gateway), CALLERS[era](), "x/unknown")


async def test_a_handshake_of_the_other_era_never_reaches_a_server(autojump_clock: trio.testing.MockClock) -> None:
    one = library("a")
    async with gateway_of(one) as gateway:
        before = len(host(one).asked("initialize"))
        with pytest.raises(MethodNotFound):
            await ask(space(gateway, "a"), CALLERS[Era.MODERN](), "initialize", {"protocolVersion": "2025-11-25"})
        assert len(host(one).asked("initialize")) == before


@pytest.mark.requirement("3.bad.foreign")
@pytest.mark.parametrize(("path", "tool"), [("a", "ask"), ("", "a_ask")])
async def test_request_state_comes_back_to_the_byte_and_is_the_servers_to_judge(
    path: str, tool: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with gateway_of(library("a", eras={Era.MODERN})) as gateway:
        caller = CALLERS[Era.MODERN](b'{"elicitation":{}}')
        asked = result(await ask(space(gateway, path), caller, "tools/call", {"name": tool, "arguments": {}}))
        assert asked["resultType"] == "input_required"
        assert "ttlMs" not in asked
        for state in (asked["requestState"], "of another call \u00e9\u2028"):
            retry = {"name": tool, "arguments": {}, "inputResponses": {"name": {"x": 1.0}}, "requestState": state}
            got = result(await ask(space(gateway, path), caller, "tools/call", retry))
            assert got["structuredContent"] == {"inputResponses": {"name": {"x": 1.0}}, "requestState": state}
