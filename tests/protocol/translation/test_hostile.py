"""Whatever a peer sends, a translation translates it or says whose fault it is.

Each function is given what it expects with one part spoiled: by another type, or by names that mean something
elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.errors import GatewayError, InvalidParams, ServerMisbehaved
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.translation import (
    capabilities,
    errors,
    handshakes,
    notifications,
    parked,
    questions,
    requests,
    results,
    rounds,
    shapes,
    subscriptions,
)
from mcpgateway.protocol.translation.questions import KEY
from mcpgateway.protocol.translation.requests import Sender
from tests.protocol.translation.test_content import AUDIO, LINK
from tests.protocol.translation.test_errors import VISITS
from tests.protocol.translation.test_handshakes import discovered, initialized
from tests.protocol.translation.test_questions import FORM, SAMPLE, URL
from tests.protocol.translation.test_requests import PARAMS
from tests.protocol.translation.test_results import RESULTS
from tests.protocol.translation.test_rounds import ANSWERS, ASKED
from tests.strategies import hostile, spoiled

Case: TypeAlias = "tuple[Callable[[Raw], object], object]"
"""A function, and what it expects."""

SPOILERS = hostile(
    ["_meta", "content", "elicitations", "method", "mode", "params", "properties", "tools", "type", "url", KEY],
    ["complete", "elicitation/create", "form", "input_required", "object", "roots/list", "url"],
)
EVERYTHING = Raw(b'{"elicitation":{"form":{},"url":{}},"sampling":{"tools":{}},"roots":{}}')
SENDER = Sender(Raw(b"{}"), Raw(b"{}"), "info")
CLIENT = {
    "elicitation": {"url": {}},
    "sampling": {"tools": {}},
    "roots": {"listChanged": True},
    "extensions": {"x": {}},
    "tasks": {},
}
SERVER = {"tools": {"listChanged": True}, "resources": {"subscribe": True}, "extensions": {"x": {}}, "tasks": {}}
TOOL = {
    "name": "t",
    "inputSchema": {"properties": {"r": {"type": "string", "x-mcp-header": "R"}}},
    "outputSchema": {"type": "object"},
}
WITH_TOOLS = jsonrpc.raw_of({**SAMPLE, "tools": []})
META = {"_meta": {"v": 1}}


def message(method: str, params: Raw) -> Message:
    return jsonrpc.request(b"1", method).replace(params=params)


def failed(error: Raw) -> Message:
    return Message({"jsonrpc": Raw(b'"2.0"'), "id": Raw(b"1"), "error": error}, None, b"1")


def request_to_modern(method: str) -> Callable[[Raw], object]:
    return lambda raw: requests.to_modern(message(method, raw), SENDER)


def request_to_legacy(method: str) -> Callable[[Raw], object]:
    return lambda raw: requests.to_legacy(message(method, raw))


def asked(method: str) -> Callable[[Raw], object]:
    def translated(raw: Raw) -> object:
        question = questions.read_request(message(method, raw), server="s")
        return questions.key_of(question, ()), questions.to_modern(question)

    return translated


def play_round(raw: Raw) -> object:
    asked = rounds.read("tools/call", raw, capabilities=EVERYTHING, server="s")
    return [
        questions.to_legacy(question, key=key, id=b"1", elicitation_id="e") for key, question in asked.questions.items()
    ]


def to_legacy(method: str) -> Callable[[Raw], object]:
    return lambda raw: results.to_legacy(method, raw, server="s", revision="2024-11-05", over_http=True)


def to_modern(method: str) -> Callable[[Raw], object]:
    return lambda raw: results.to_modern(method, raw, server="s", server_info=Raw(b"{}"))


def needs(method: str, params: object) -> Case:
    return lambda raw: capabilities.missing(method, raw, EVERYTHING), params


def fails(code: int) -> Case:
    error = {"code": code, "message": "no", "data": {"uri": "x:/", "requiredCapabilities": {"roots": {}}}}
    return lambda raw: errors.to_legacy("resources/read", failed(raw), server="s"), error


OF_CLIENTS: dict[str, Case] = {
    "capabilities": (capabilities.of_client, CLIENT),
    "a session's capabilities": (capabilities.of_session, CLIENT),
    "what is declared": (lambda raw: capabilities.missing("sampling/createMessage", WITH_TOOLS, raw), CLIENT),
    "a form": needs("elicitation/create", FORM),
    "a URL": needs("elicitation/create", URL),
    "a sample": needs("sampling/createMessage", {**SAMPLE, "tools": []}),
    "initialize": (
        requests.sender_of,
        {"capabilities": CLIENT, "clientInfo": {"name": "c", "version": "1"}, "protocolVersion": "x"},
    ),
    **{f"{method} to modern": (request_to_modern(method), {**params, **META}) for method, params in PARAMS.items()},
    **{f"{method} to legacy": (request_to_legacy(method), {**params, **META}) for method, params in PARAMS.items()},
    "an elicitation's answer": (lambda raw: shapes.check("elicitation/create", raw), ANSWERS["who"]),
    "a sample's answer": (lambda raw: shapes.check("sampling/createMessage", raw), ANSWERS["what"]),
    "the roots": (lambda raw: shapes.check("roots/list", raw), ANSWERS["roots"]),
    "a retry": (
        lambda raw: (parked.state_of(raw), parked.answers(raw, {"who": "elicitation/create", "roots": "roots/list"})),
        {"inputResponses": ANSWERS, "requestState": "s"},
    ),
    "a listen": (
        lambda raw: subscriptions.of_listen(raw, Raw(b'{"resources":{"subscribe":true}}')),
        {"notifications": {"toolsListChanged": True, "resourceSubscriptions": ["x:/a"]}},
    ),
}
OF_SERVERS: dict[str, Case] = {
    "a discovery": (
        lambda raw: handshakes.initialize_result(raw, None, server="s"),
        jsonrpc.value_of(discovered(capabilities=SERVER)),
    ),
    "a handshake": (
        lambda raw: (handshakes.discover_result(raw, server="s"), handshakes.server_info(raw)),
        jsonrpc.value_of(initialized(capabilities=SERVER)),
    ),
    **{f"{method}'s result to legacy": (to_legacy(method), {**result, **META}) for method, result in RESULTS.items()},
    **{f"{method}'s result to modern": (to_modern(method), {**result, **META}) for method, result in RESULTS.items()},
    "tools": (to_legacy("tools/list"), {"tools": [TOOL, TOOL]}),
    "content": (to_legacy("tools/call"), {"content": [AUDIO, LINK], "structuredContent": [1]}),
    "messages": (to_legacy("prompts/get"), {"messages": [{"role": "user", "content": AUDIO}]}),
    **{f"error {code}": fails(code) for code in (-32020, -32021, -32022, -32602)},
    "error -32042": (
        lambda raw: errors.to_modern("tools/call", failed(raw), capabilities=EVERYTHING, server="s"),
        {"code": -32042, "message": "no", "data": VISITS},
    ),
    "a round": (play_round, {"inputRequests": ASKED, "requestState": "s", "resultType": "input_required"}),
    "a form": (asked("elicitation/create"), {**FORM, "_meta": {KEY: "k"}}),
    "a URL": (asked("elicitation/create"), {**URL, "elicitationId": "e"}),
    "a sample": (asked("sampling/createMessage"), {**SAMPLE, **META}),
}
OF_EITHER: dict[str, Case] = {
    "a server's capabilities": (
        lambda raw: (
            capabilities.of_modern_server(raw),
            capabilities.of_legacy_server(raw),
            subscriptions.of_session(raw, ["x:/a"]),
        ),
        SERVER,
    ),
    "a notification": (
        lambda raw: (
            notifications.of_modern_server(message("notifications/resources/updated", raw)),
            subscriptions.Interest((), ("x:/a",)).hears(message("notifications/resources/updated", raw)),
            subscriptions.stamped(message("notifications/x", raw), b"1"),
        ),
        {"uri": "x:/a", **META},
    ),
    "a log": (
        lambda raw: notifications.of_legacy_server(message("notifications/message", raw), log_level="info"),
        {"level": "info", "data": "x"},
    ),
}


def outcome(case: Case, raw: Raw) -> type[GatewayError] | None:
    function, _ = case
    try:
        function(raw)
    except GatewayError as problem:
        return type(problem)
    return None


def spoilt(cases: dict[str, Case]) -> st.SearchStrategy[tuple[str, Raw]]:
    """The name of a case, and what it expects, spoiled."""
    return st.sampled_from(sorted(cases)).flatmap(
        lambda name: st.tuples(st.just(name), spoiled(cases[name][1], SPOILERS))
    )


@pytest.mark.parametrize("case", [*OF_CLIENTS.values(), *OF_SERVERS.values(), *OF_EITHER.values()])
def test_what_is_whole_is_translated(case: Case) -> None:
    function, valid = case
    function(jsonrpc.raw_of(valid))


@pytest.mark.requirement("5.translation")
@settings(parent=settings(), max_examples=4 * settings().max_examples)
@given(spoilt(OF_CLIENTS))
def test_what_a_client_sends_is_translated_or_invalid(case: tuple[str, Raw]) -> None:
    name, raw = case
    assert outcome(OF_CLIENTS[name], raw) in (None, InvalidParams)


@pytest.mark.requirement("5.translation")
@settings(parent=settings(), max_examples=4 * settings().max_examples)
@given(spoilt(OF_SERVERS))
def test_what_a_server_sends_is_translated_or_its_fault(case: tuple[str, Raw]) -> None:
    name, raw = case
    assert outcome(OF_SERVERS[name], raw) in (None, ServerMisbehaved)


@given(spoilt(OF_EITHER))
def test_what_either_sends_is_translated_or_refused(case: tuple[str, Raw]) -> None:
    name, raw = case
    assert outcome(OF_EITHER[name], raw) in (None, InvalidParams)
