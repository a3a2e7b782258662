"""A client's requests in the words of the other era."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.errors import JSON, InvalidParams, MethodNotFound
from mcpgateway.jsonrpc import Message, members_of, raw_of, value_of
from mcpgateway.protocol import envelope, headers
from mcpgateway.protocol.methods import REQUESTS, TARGETS
from mcpgateway.protocol.revisions import Era
from mcpgateway.protocol.translation.requests import SHARED, Sender, crosses, sender_of, to_legacy, to_modern
from tests.protocol.translation import oracle
from tests.strategies import bodies, ids

PARAMS: dict[str, dict[str, JSON]] = {
    "completion/complete": {"ref": {"type": "ref/prompt", "name": "p"}, "argument": {"name": "a", "value": "v"}},
    "prompts/get": {"name": "p", "arguments": {"a": "b"}},
    "prompts/list": {"cursor": "c"},
    "resources/list": {},
    "resources/read": {"uri": "x:/größe"},
    "resources/templates/list": {},
    "tools/call": {"name": "t", "arguments": {"n": 9007199254740993}},
    "tools/list": {"cursor": ""},
}
SENDER = Sender(Raw(b'{"elicitation":{}}'), Raw(b'{"name":"c","version":"1"}'), "warning")

requests = st.sampled_from(sorted(SHARED)).flatmap(
    lambda method: st.tuples(ids, st.just(method), bodies(PARAMS[method])).map(lambda parts: jsonrpc.request(*parts))
)
senders = st.builds(
    Sender,
    st.sampled_from([b"{}", b'{"sampling":{"tools":{}}}', b'{ "x" : 1.0 }']).map(Raw),
    st.none() | st.just(Raw(b'{"name":"c","version":"1","x":1e2}')),
    st.none() | st.sampled_from(["debug", "emergency"]),
)


def test_what_both_eras_can_ask() -> None:
    assert PARAMS.keys() == SHARED
    assert all(crosses(method) for method in [*SHARED, "com.example/own", ""])


@pytest.mark.parametrize("method", sorted((REQUESTS[Era.LEGACY] | REQUESTS[Era.MODERN]) - SHARED))
def test_what_is_of_one_era_does_not_cross(method: str) -> None:
    message = jsonrpc.request(b"1", method, {})

    with pytest.raises(MethodNotFound, match=method):
        to_modern(message, SENDER)
    with pytest.raises(MethodNotFound, match=method):
        to_legacy(message)


@pytest.mark.requirement("bridge.envelope.legacy-to-modern")
def test_a_legacy_call_gains_an_envelope_and_loses_nothing() -> None:
    message = jsonrpc.request(b"7", "tools/call", Raw(b'{"_meta":{"progressToken":1.0,"v":1},"name":"t","x":1E400}'))

    modern = to_modern(message, SENDER)

    assert modern.params == Raw(
        b'{"_meta":{"progressToken":1.0,"v":1,"io.modelcontextprotocol/protocolVersion":"2026-07-28",'
        b'"io.modelcontextprotocol/clientCapabilities":{"elicitation":{}},'
        b'"io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"},'
        b'"io.modelcontextprotocol/logLevel":"warning"},"name":"t","x":1E400}'
    )
    assert (modern.id, modern.method) == (b"7", "tools/call")


@pytest.mark.requirement("bridge.envelope.modern-to-legacy")
def test_a_modern_call_loses_its_envelope_and_nothing_else() -> None:
    message = jsonrpc.request(
        b"7",
        "tools/call",
        Raw(
            b'{"name":"t","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",'
            b'"progressToken":"p","io.modelcontextprotocol/clientCapabilities":{},"traceparent":"00-1",'
            b'"io.modelcontextprotocol/new":1,"io.modelcontextprotocolx/y":2},"inputResponses":{},"requestState":"s","x":1E400}'
        ),
    )

    legacy = to_legacy(message)

    assert legacy.params == Raw(
        b'{"name":"t","_meta":{"progressToken":"p","traceparent":"00-1","io.modelcontextprotocolx/y":2},"x":1E400}'
    )


@pytest.mark.requirement("5.translation")
@given(requests, senders)
def test_a_request_survives_there_and_back(message: Message, sender: Sender) -> None:
    modern = to_modern(message, sender)
    back = to_legacy(modern)

    oracle.request(message, oracle.LEGACY)
    oracle.request(modern, oracle.MODERN)
    oracle.request(back, oracle.LEGACY)
    assert list(members_of(back.params).items()) == list(members_of(message.params).items())
    assert (back.id, back.method) == (message.id, message.method)
    assert to_modern(modern, sender).params == modern.params
    assert to_legacy(back).params == back.params


@given(requests, senders)
def test_an_envelope_says_what_its_sender_is_and_no_more(message: Message, sender: Sender) -> None:
    modern = to_modern(message, sender)

    seen = envelope.read(modern.params)
    assert seen is not None
    assert (seen.revision, seen.capabilities) == ("2026-07-28", sender.capabilities)
    assert (seen.client_info, seen.log_level) == (sender.client_info, sender.log_level)
    before, after = (members_of(members_of(each.params).get("_meta")) for each in (message, modern))
    assert after.keys() - before.keys() == sender.entries().keys()
    assert {key: after[key] for key in before} == before


@given(requests, senders)
def test_the_headers_of_what_crosses_agree_with_it(message: Message, sender: Sender) -> None:
    modern = to_modern(message, sender)

    made = headers.request_headers(modern)

    assert headers.check(made, (), modern).revision == "2026-07-28"
    assert (headers.NAME in made) is (modern.method in TARGETS)


def test_a_forged_envelope_is_replaced() -> None:
    forged = dict.fromkeys(Sender(Raw(b"{}"), Raw(b"{}"), "debug").entries(), "x")
    message = jsonrpc.request(b"1", "tools/list", {"_meta": {**forged, "v": 1}})

    modern = to_modern(message, Sender(Raw(b"{}")))

    assert value_of(members_of(modern.params)["_meta"]) == {
        "v": 1,
        envelope.PROTOCOL_VERSION: "2026-07-28",
        envelope.CLIENT_CAPABILITIES: {},
    }


@pytest.mark.parametrize("params", [None, Raw(b"null"), Raw(b"{}"), Raw(b'{"_meta":null}')])
def test_params_that_say_nothing_come_back_as_none(params: Raw | None) -> None:
    message = jsonrpc.classify({"jsonrpc": Raw(b'"2.0"'), "id": Raw(b"1"), "method": Raw(b'"tools/list"')})
    modern = to_modern(message.replace(params=params), SENDER)

    oracle.request(modern, oracle.MODERN)
    assert to_legacy(modern).params is None


@pytest.mark.parametrize("method", ["tools/call", "prompts/get", "resources/read"])
def test_a_retry_is_the_gateways_own_business(method: str) -> None:
    message = jsonrpc.request(b"1", method, {**PARAMS[method], "inputResponses": {"k": {}}, "requestState": "s"})

    for crossed in (to_modern(message, SENDER), to_legacy(message)):
        assert members_of(crossed.params).keys() - {"_meta"} == PARAMS[method].keys()


def test_what_asks_for_a_task_asks_for_a_result_in_the_other_era() -> None:
    call = jsonrpc.request(b"1", "tools/call", {"name": "t", "task": {"ttl": 1}})
    own = jsonrpc.request(b"1", "com.example/own", {"task": 1, "requestState": 2})

    for crossed in (to_modern(call, SENDER), to_legacy(call)):
        assert "task" not in members_of(crossed.params)
    assert to_legacy(own).params == own.params


@pytest.mark.parametrize(
    ("initialize", "sender"),
    [
        (
            {
                "capabilities": {"roots": {"listChanged": True}, "tasks": {}},
                "clientInfo": {"name": "c", "version": "1"},
            },
            Sender(Raw(b'{"roots":{}}'), Raw(b'{"name":"c","version":"1"}')),
        ),
        ({"capabilities": {}, "clientInfo": {"name": "c"}}, Sender(Raw(b"{}"))),
        ({"clientInfo": 7, "capabilities": None}, Sender(Raw(b"{}"))),
        ({}, Sender(Raw(b"{}"))),
        (None, Sender(Raw(b"{}"))),
    ],
)
def test_a_session_introduces_the_sender_of_its_calls(initialize: JSON, sender: Sender) -> None:
    assert sender_of(raw_of(initialize)) == sender
    oracle.request(to_modern(jsonrpc.request(b"1", "tools/list"), sender), oracle.MODERN)


@pytest.mark.parametrize("params", [b"[]", b"7", b'{"_meta":7}', b'{"_meta":[]}'])
def test_params_of_another_shape_are_invalid(params: bytes) -> None:
    message = jsonrpc.request(b"1", "tools/list").replace(params=Raw(params))

    with pytest.raises(InvalidParams):
        to_modern(message, SENDER)
    with pytest.raises(InvalidParams):
        to_legacy(message)


@pytest.mark.parametrize("initialize", [b"[]", b'{"capabilities":7}'])
def test_an_introduction_of_another_shape_is_invalid(initialize: bytes) -> None:
    with pytest.raises(InvalidParams):
        sender_of(Raw(initialize))
