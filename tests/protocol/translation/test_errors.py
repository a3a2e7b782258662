"""Error responses in the words of the other era."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_types import URL_ELICITATION_REQUIRED
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.errors import JSON, ServerMisbehaved
from mcpgateway.jsonrpc import Message, error_code, members_of, raw_of, value_of
from mcpgateway.protocol.translation.errors import to_legacy, to_modern
from mcpgateway.protocol.translation.parked import URL_REQUIRED
from tests.protocol.translation import oracle
from tests.strategies import unknown_members

URL = Raw(b'{"elicitation":{"url":{}}}')
NOTHING = Raw(b"{}")
SAME = (-32700, -32600, -32601, -32602, -32603, -32000, -32800, -32099, 0, 1)


def failed(code: JSON, data: JSON = None, **members: object) -> Message:
    error: dict[str, object] = {"code": code, "message": "no", **members}
    if data is not None:
        error["data"] = data
    return jsonrpc.classify({"jsonrpc": Raw(b'"2.0"'), "id": Raw(b"7"), "error": raw_of(error)})


def error_of(message: Message) -> dict[str, JSON]:
    value = value_of(message.error or b"")
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("code", SAME)
@given(unknown_members)
def test_an_error_that_both_eras_have_stays_to_the_byte(code: int, unknown: dict[str, Raw]) -> None:
    message = failed(code, None, **unknown)

    assert to_legacy("tools/call", message, server="s") is message
    assert to_modern("tools/call", message, capabilities=NOTHING, server="s") is message


@pytest.mark.requirement("bridge.errors.legacy-to-modern")
@pytest.mark.parametrize(
    ("method", "code", "data", "told"),
    [
        ("tools/call", -32020, {"h": 1}, -32603),
        ("tools/call", -32022, {"supported": [], "requested": "x"}, -32603),
        ("tools/call", -32021, {"requiredCapabilities": {"sampling": {"tools": {}}, "roots": {}}}, -32602),
        ("resources/read", -32602, {"uri": "x:/r"}, -32002),
        ("resources/read", -32602, {"uri": 7}, -32602),
        ("resources/read", -32602, "x:/r", -32602),
        ("tools/call", -32602, {"uri": "x:/r"}, -32602),
    ],
)
def test_codes_that_a_legacy_client_must_not_see(method: str, code: int, data: JSON, told: int) -> None:
    legacy = to_legacy(method, failed(code, data, x=1.0), server="s")

    assert error_code(legacy) == told
    assert legacy.id == b"7"


def test_what_is_between_gateway_and_server_says_so_and_keeps_what_was_said() -> None:
    refused = failed(-32020, {"header": "mcp-name"})

    legacy = to_legacy("tools/call", refused, server="s")

    assert error_of(legacy) == {
        "code": -32603,
        "message": "server 's' refused the headers of a request that the gateway made: no",
        "data": {"server": "s", "error": {"code": -32020, "message": "no", "data": {"header": "mcp-name"}}},
    }


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"requiredCapabilities": {"elicitation": {"url": {}}, "roots": {}}}, "elicitation.url, roots"),
        ({"requiredCapabilities": {"sampling": {"tools": {}, "context": {}}}}, "sampling.tools, sampling.context"),
        ({"requiredCapabilities": {"sampling": True}}, "sampling"),
        ({"requiredCapabilities": 7}, "no"),
        ({}, "no"),
        (7, "no"),
        (None, "no"),
    ],
)
def test_a_missing_capability_is_named(data: JSON, named: str) -> None:
    legacy = to_legacy("tools/call", failed(-32021, data), server="s")

    expected: dict[str, JSON] = {
        "code": -32602,
        "message": f"server 's' needs what this client did not declare: {named}",
    }
    assert error_of(legacy) == (expected if data is None else {**expected, "data": data})


def test_an_error_without_words_has_some() -> None:
    bare = jsonrpc.classify({"jsonrpc": Raw(b'"2.0"'), "id": Raw(b"1"), "error": Raw(b'{"code":-32022}')})

    assert str(error_of(to_legacy("ping", bare, server="s"))["message"]).endswith("with it: no reason given")


def test_a_resource_that_is_not_found_is_invalid_params_in_the_modern_era() -> None:
    modern = to_modern("resources/read", failed(-32002, {"uri": "x:/r"}, x=1.0), capabilities=NOTHING, server="s")

    assert error_of(modern) == {"code": -32602, "message": "no", "data": {"uri": "x:/r"}, "x": 1.0}
    assert error_code(to_legacy("resources/read", modern, server="s")) == -32002


# ---- URLs to be visited ----------------------------------------------------------------------------------------------

VISIT: dict[str, JSON] = {"mode": "url", "elicitationId": "e1", "url": "https://e.example/", "message": "Visit"}
VISITS: JSON = {"elicitations": [VISIT, {**VISIT, "elicitationId": "e2", "x": 1.0}]}


@pytest.mark.parametrize("state", [None, "sealed"])
@pytest.mark.parametrize("method", ["tools/call", "prompts/get", "resources/read"])
def test_urls_to_be_visited_are_asked_for(method: str, state: str | None) -> None:
    required = failed(URL_REQUIRED, VISITS)
    oracle.url_required(required)

    modern = to_modern(method, required, capabilities=URL, server="s", state=state, server_info=Raw(b'{"name":"s"}'))

    assert URL_REQUIRED == URL_ELICITATION_REQUIRED
    assert modern.id == b"7"
    assert modern.result is not None
    asked = oracle.input_required(modern.result)
    assert asked.request_state == state
    assert value_of(members_of(modern.result)["inputRequests"]) == {
        "e1": {
            "method": "elicitation/create",
            "params": {"mode": "url", "url": "https://e.example/", "message": "Visit"},
        },
        "e2": {
            "method": "elicitation/create",
            "params": {"mode": "url", "url": "https://e.example/", "message": "Visit", "x": 1.0},
        },
    }


@pytest.mark.parametrize("capabilities", [b"{}", b'{"elicitation":{}}', b'{"elicitation":{"form":{}}}'])
def test_a_client_that_visits_no_urls_is_told_what_it_lacks(capabilities: bytes) -> None:
    modern = to_modern("tools/call", failed(URL_REQUIRED, VISITS), capabilities=Raw(capabilities), server="s")

    assert error_of(modern) == {
        "code": -32021,
        "message": "no",
        "data": {"requiredCapabilities": {"elicitation": {"url": {}}}},
    }
    assert error_code(to_legacy("tools/call", modern, server="s")) == -32602


def test_a_method_for_which_nothing_may_be_asked_fails() -> None:
    modern = to_modern("completion/complete", failed(URL_REQUIRED, VISITS), capabilities=URL, server="s")

    assert error_of(modern) == {"code": -32603, "message": "no", "data": VISITS}


@pytest.mark.parametrize(
    "data",
    [
        None,
        7,
        {},
        {"elicitations": []},
        {"elicitations": {}},
        {"elicitations": [7]},
        {"elicitations": [{**VISIT, "mode": "form"}]},
        {"elicitations": [{**VISIT, "url": None}]},
        {"elicitations": [{**VISIT, "message": 7}]},
        {"elicitations": [{**VISIT, "_meta": 7}]},
    ],
)
def test_a_list_of_no_urls_is_the_servers_fault(data: JSON) -> None:
    with pytest.raises(ServerMisbehaved, match="'s'"):
        to_modern("tools/call", failed(URL_REQUIRED, data), capabilities=URL, server="s")


@given(st.sampled_from([b"null", b"[]", b"7", b'"x"']))
def test_an_error_that_is_none_is_the_servers_fault(raw: bytes) -> None:
    message = failed(1).replace(error=Raw(raw))

    with pytest.raises(ServerMisbehaved):
        to_legacy("tools/call", message, server="s")
    with pytest.raises(ServerMisbehaved):
        to_modern("tools/call", message, capabilities=URL, server="s")
