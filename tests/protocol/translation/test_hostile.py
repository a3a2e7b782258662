"""Whatever a peer sends, a translation translates it or says whose fault it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.errors import GatewayError, InvalidParams, MethodNotFound, ServerMisbehaved
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.methods import CLIENT_CAPABILITIES, MAY_ASK
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
from mcpgateway.protocol.translation.questions import Question
from mcpgateway.protocol.translation.requests import SHARED, Sender
from tests.strategies import hostile

NAMES = (
    "_meta action arguments capabilities clientInfo code content data elicitation elicitationId elicitations "
    "extensions inputRequests inputResponses inputSchema instructions level listChanged message messages "
    "method mode model name notifications outputSchema params properties protocolVersion requestState "
    "requestedSchema requiredCapabilities resources resourceSubscriptions resultType role roots sampling "
    "serverInfo structuredContent subscribe tasks tools toolsListChanged type uri url version x-mcp-header "
    "io.modelcontextprotocol/serverInfo io.github.mcpgateway/key"
).split()
TEXTS = (
    "accept assistant audio complete elicitation/create form input_required object resource_link roots/list url".split()
)
RAW = hostile(NAMES, TEXTS)
EVERYTHING = Raw(b'{"elicitation":{"form":{},"url":{}},"sampling":{"tools":{}},"roots":{}}')
SENDER = Sender(Raw(b"{}"), Raw(b"{}"), "info")


def message(method: str, params: Raw) -> Message:
    return jsonrpc.request(b"1", method).replace(params=params)


def response(**members: Raw) -> Message:
    return Message({"jsonrpc": Raw(b'"2.0"'), "id": Raw(b"1"), **members}, None, b"1")


def of_error(code: int, raw: Raw) -> Message:
    return response(error=Raw(b'{"code":%d,"data":%b}' % (code, bytes(raw))))


OF_CLIENTS: dict[str, Callable[[Raw], object]] = {
    "of_client": capabilities.of_client,
    "of_session": capabilities.of_session,
    "sender_of": requests.sender_of,
    "missing": lambda raw: [capabilities.missing(method, raw, raw) for method in CLIENT_CAPABILITIES],
    "to_modern": lambda raw: [requests.to_modern(message(method, raw), SENDER) for method in SHARED],
    "to_legacy": lambda raw: [requests.to_legacy(message(method, raw)) for method in SHARED],
    "elicited": lambda raw: shapes.check("elicitation/create", raw),
    "sampled": lambda raw: shapes.check("sampling/createMessage", raw),
    "listed": lambda raw: shapes.check("roots/list", raw),
    "answers": lambda raw: parked.answers(raw, dict.fromkeys(NAMES, "elicitation/create")),
    "state_of": parked.state_of,
    "of_listen": lambda raw: subscriptions.of_listen(raw, Raw(b'{"tools":{"listChanged":true}}')),
    "of_legacy_client": lambda raw: notifications.of_legacy_client(message("notifications/x", raw)),
}
OF_SERVERS: dict[str, Callable[[Raw], object]] = {
    "initialize_result": lambda raw: handshakes.initialize_result(raw, raw, server="s"),
    "discover_result": lambda raw: handshakes.discover_result(raw, server="s"),
    "server_info": handshakes.server_info,
    "results.to_legacy": lambda raw: [
        results.to_legacy(method, raw, server="s", revision="2024-11-05", over_http=True)
        for method in SHARED
        if not results.is_input_required(raw)
    ],
    "results.to_modern": lambda raw: [
        results.to_modern(method, raw, server="s", server_info=Raw(b"{}")) for method in SHARED
    ],
    "errors": lambda raw: [
        errors.to_legacy("resources/read", response(error=raw), server="s"),
        errors.to_modern("tools/call", response(error=raw), capabilities=EVERYTHING, server="s"),
    ],
    "errors.to_legacy": lambda raw: [
        errors.to_legacy("resources/read", of_error(code, raw), server="s") for code in (-32020, -32021, -32022, -32602)
    ],
    "errors.to_modern": lambda raw: errors.to_modern(
        "tools/call", of_error(-32042, raw), capabilities=EVERYTHING, server="s"
    ),
    "rounds.read": lambda raw: [
        rounds.read(method, raw, capabilities=EVERYTHING, server="s") for method in MAY_ASK
    ],
    "read_entry": lambda raw: questions.read_entry(raw, server="s"),
}  # fmt: skip
OF_EITHER: dict[str, Callable[[Raw], object]] = {
    "of_modern_server": capabilities.of_modern_server,
    "of_legacy_server": capabilities.of_legacy_server,
    "of_session": lambda raw: subscriptions.of_session(raw, ["x:/a"]),
    "question": lambda raw: [
        (
            questions.to_modern(questions.read_request(message(method, raw), server="s")),
            questions.to_legacy(Question(method, raw), key="k", id=b"1", elicitation_id="e"),
            questions.key_of(Question(method, raw), ()),
        )
        for method in CLIENT_CAPABILITIES
    ],
    "answer_of": lambda raw: rounds.answer_of(Question("roots/list"), response(error=raw)),
    "told": lambda raw: [
        notifications.of_modern_server(message("notifications/x", raw)),
        notifications.of_legacy_server(message("notifications/message", raw), log_level="info"),
        subscriptions.stamped(message("notifications/x", raw), b"1"),
    ],
    "hears": lambda raw: subscriptions.Interest((), ("x:/a",)).hears(message("notifications/resources/updated", raw)),
}


def outcome(function: Callable[[Raw], object], raw: Raw) -> type[GatewayError] | None:
    try:
        function(raw)
    except GatewayError as problem:
        return type(problem)
    return None


@pytest.mark.requirement("5.translation")
@pytest.mark.parametrize("name", OF_CLIENTS)
@given(raw=RAW)
def test_what_a_client_sends_is_translated_or_invalid(name: str, raw: Raw) -> None:
    assert outcome(OF_CLIENTS[name], raw) in (None, InvalidParams)


@pytest.mark.requirement("5.translation")
@pytest.mark.parametrize("name", OF_SERVERS)
@given(raw=RAW)
def test_what_a_server_sends_is_translated_or_its_fault(name: str, raw: Raw) -> None:
    assert outcome(OF_SERVERS[name], raw) in (None, ServerMisbehaved)


@pytest.mark.parametrize("name", OF_EITHER)
@given(raw=RAW)
def test_what_either_sends_is_translated_or_refused(name: str, raw: Raw) -> None:
    assert outcome(OF_EITHER[name], raw) in (None, InvalidParams, ServerMisbehaved, MethodNotFound, rounds.Unanswered)
