"""What servers' answers to our handshake mean."""

from __future__ import annotations

import pytest
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.errors import JSON, ServerMisbehaved
from mcpgateway.jsonrpc import Message, raw_of, value_of
from mcpgateway.protocol.answers import answer_initialize, discover_result
from mcpgateway.protocol.envelope import SERVER_INFO
from mcpgateway.protocol.handshake import Verdict, initialize_params, judge_probe, read_discover, read_initialize
from mcpgateway.protocol.revisions import LATEST_LEGACY, LEGACY_REVISIONS, MODERN_REVISIONS, Era

NOW = MODERN_REVISIONS[-1]
LEGACY, MODERN = Verdict(modern=False), Verdict(modern=True)


def failed(code: int, data: JSON = None, id: bytes = b"1") -> Message:
    body = raw_of({"code": code, "message": "no", "data": data})
    return jsonrpc.classify({"jsonrpc": Raw(b'"2.0"'), "id": Raw(id), "error": body})


def discovered(*revisions: JSON) -> Message:
    return jsonrpc.result(b"1", {"supportedVersions": list(revisions), "capabilities": {}})


@pytest.mark.parametrize(
    ("message", "status", "verdict"),
    [
        pytest.param(failed(-32000, id=b"null"), 400, LEGACY, id="TypeScript SDK 1.32 over HTTP"),
        pytest.param(failed(-32600, id=b'"server-error"'), 400, LEGACY, id="Python SDK 1.30 over HTTP"),
        pytest.param(None, 405, LEGACY, id="Python SDK 1.30, HTTP+SSE: text"),
        pytest.param(failed(-32601), None, LEGACY, id="TypeScript SDK 1.x on stdio"),
        pytest.param(failed(-32602), None, LEGACY, id="Python SDK 1.30 on stdio"),
        pytest.param(discovered("2025-11-25", "2025-06-18"), 200, LEGACY, id="go-sdk, stateful"),
        pytest.param(
            failed(-32022, {"supported": [NOW]}), 400, Verdict(True, retry=NOW), id="modern-only TypeScript 2.x"
        ),
        pytest.param(discovered(NOW), 200, MODERN, id="modern"),
        pytest.param(discovered("2099-01-01", NOW), None, MODERN, id="modern, and more"),
        pytest.param(None, None, LEGACY, id="no answer in time"),
        pytest.param(failed(-32020), 400, MODERN, id="header mismatch"),
        pytest.param(failed(-32021), 400, MODERN, id="missing capability"),
        pytest.param(
            failed(-32022, {"supported": ["2099-01-01"]}), 400, MODERN, id="modern, but no revision in common"
        ),
        pytest.param(failed(-32022), 400, MODERN, id="refuses the revision and names none"),
        pytest.param(failed(-32022, {"supported": []}), 400, MODERN, id="refuses every revision"),
        pytest.param(failed(-32022, {"supported": ["2025-11-25"]}), 400, LEGACY, id="names legacy revisions only"),
        pytest.param(discovered(NOW), 500, LEGACY, id="a result with an error status"),
        pytest.param(discovered(7), 200, LEGACY, id="a result of another shape"),
        pytest.param(jsonrpc.result(b"1", {}), 200, LEGACY, id="a result of something else"),
        pytest.param(jsonrpc.result(b"1", None), 200, LEGACY, id="a null result"),
        pytest.param(failed(-32603), 200, LEGACY, id="an internal error"),
    ],
)
def test_only_positive_evidence_makes_a_server_modern(
    message: Message | None, status: int | None, verdict: Verdict
) -> None:
    assert judge_probe(message, status) == verdict


def test_what_initialize_settles() -> None:
    result = Raw(
        b'{"protocolVersion":"2025-06-18","capabilities":{"tools":{"x":1.0}},'
        b'"serverInfo":{"name":"s","version":"1.2","title":"S"},"x":1e3}'
    )

    agreed = read_initialize(result, server="s", stateful=True)

    assert (agreed.era, agreed.revision, agreed.name, agreed.version) == (Era.LEGACY, "2025-06-18", "s", "1.2")
    assert (agreed.capabilities, agreed.result, agreed.stateful) == (Raw(b'{"tools":{"x":1.0}}'), result, True)


def test_what_discover_settles() -> None:
    result = raw_of(discover_result(capabilities={"tools": {}}, server_info={"name": "s", "version": "2"}))

    agreed = read_discover(result, server="s")

    assert (agreed.era, agreed.revision, agreed.name, agreed.version) == (Era.MODERN, NOW, "s", "2")
    assert (agreed.capabilities, agreed.result, agreed.stateful) == (Raw(b'{"tools":{}}'), result, False)


@pytest.mark.parametrize("info", [None, {}, {"name": 7, "version": None}, []])
def test_a_server_need_not_say_who_it_is(info: JSON) -> None:
    legacy = raw_of({"protocolVersion": LATEST_LEGACY, "serverInfo": info, "capabilities": info})
    modern = raw_of({"supportedVersions": [NOW], "_meta": {SERVER_INFO: info}})

    for agreed in (read_initialize(legacy, server="s", stateful=True), read_discover(modern, server="s")):
        assert (agreed.name, agreed.version) == ("", "")
        assert bytes(agreed.capabilities)[:1] == b"{"


@pytest.mark.parametrize(
    "result",
    [
        b"null",
        b"[]",
        b"{}",
        b'{"protocolVersion":7,"supportedVersions":7}',
        b'{"protocolVersion":"2026-07-28","supportedVersions":["2025-11-25"]}',
    ],
)
def test_what_settles_nothing_is_the_servers_fault(result: bytes) -> None:
    with pytest.raises(ServerMisbehaved, match="'s'"):
        read_initialize(Raw(result), server="s", stateful=True)
    with pytest.raises(ServerMisbehaved, match="'s'"):
        read_discover(Raw(result), server="s")


@pytest.mark.parametrize(
    ("requested", "answered"),
    [
        *((revision, revision) for revision in LEGACY_REVISIONS),
        (NOW, LATEST_LEGACY),
        ("x", LATEST_LEGACY),
        (7, LATEST_LEGACY),
    ],
)
def test_a_client_gets_the_legacy_revision_it_asks_for_or_a_counter_offer(requested: JSON, answered: str) -> None:
    params = raw_of({"protocolVersion": requested})

    result = answer_initialize(params, capabilities=Raw(b"{}"), server_info={"name": "g", "version": "1"})

    assert result["protocolVersion"] == answered
    assert read_initialize(raw_of(result), server="g", stateful=True).revision == answered


@pytest.mark.parametrize("params", [None, Raw(b"[]"), Raw(b"{}"), Raw(b'{"protocolVersion":1e400}')])
def test_an_initialize_without_params_gets_a_counter_offer(params: Raw | None) -> None:
    assert answer_initialize(params, capabilities={}, server_info={})["protocolVersion"] == LATEST_LEGACY


def test_instructions_are_given_where_there_are_any() -> None:
    assert answer_initialize(None, capabilities={}, server_info={}, instructions="do")["instructions"] == "do"
    assert "instructions" not in discover_result(capabilities={}, server_info={})
    assert discover_result(capabilities={}, server_info={}, instructions="do")["instructions"] == "do"


def test_what_we_discover_to_clients_may_not_be_cached() -> None:
    result = value_of(raw_of(discover_result(capabilities={}, server_info={"name": "g"})))

    assert result == {
        "resultType": "complete",
        "supportedVersions": [NOW],
        "capabilities": {},
        "ttlMs": 0,
        "cacheScope": "private",
        "_meta": {SERVER_INFO: {"name": "g"}},
    }


def test_what_we_offer_in_the_legacy_handshake() -> None:
    offered = initialize_params("2025-11-25", Raw(b'{"roots":{}}'), Raw(b'{"name":"g"}'))

    assert offered == Raw(b'{"protocolVersion":"2025-11-25","capabilities":{"roots":{}},"clientInfo":{"name":"g"}}')
