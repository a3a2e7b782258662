"""The header ladder, held against the reference implementation of the SDK (`mcp.shared.inbound`)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared import inbound
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.errors import GatewayError, HeaderMismatch, InvalidParams, UnsupportedVersion
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.envelope import CLIENT_CAPABILITIES, PROTOCOL_VERSION, stamp
from mcpgateway.protocol.header_values import decode_value, encode_value
from mcpgateway.protocol.headers import check, request_headers
from mcpgateway.protocol.param_headers import header_parameters

NOW = "2026-07-28"
ABSENT = object()


def request(method: str = "tools/call", **params: object) -> Message:
    given_params = stamp(jsonrpc.raw_of(params), revision=NOW, capabilities=Raw(b"{}"))
    return jsonrpc.request(b"1", method, given_params)


# ---- the codec -----------------------------------------------------------------------------------------------------

header_texts = st.text(max_size=12) | st.text("=?base64 x\t", max_size=16) | st.just("=?base64?eA==?=")


@given(header_texts)
def test_values_are_encoded_as_the_sdk_does_and_read_back(text: str) -> None:
    value = encode_value(text)

    assert value == inbound.encode_header_value(text).encode()
    assert decode_value(value) == text
    assert decode_value(b" \t" + value + b" ") == text


encoded = st.tuples(st.text("AQgw=+#", max_size=8), st.booleans()).map(
    lambda parts: f"=?base64?{parts[0]}{'?=' if parts[1] else ''}"
)


@given(encoded | header_texts.map(lambda text: text.encode("latin-1", "ignore").decode("latin-1").strip(" \t")))
def test_values_are_decoded_as_the_sdk_does(value: str) -> None:
    # The SDK's pattern stops at a line break, which no header can hold.
    value = value.replace("\n", "").replace("\r", "")

    assert decode_value(value.encode("latin-1")) == inbound.decode_header_value(value)


def test_an_encoding_beyond_ascii_is_malformed() -> None:
    """The SDK (2.3.0) raises `ValueError` here."""
    assert decode_value("=?base64?é?=".encode("latin-1")) is None


# ---- the ladder ----------------------------------------------------------------------------------------------------


def verdict(headers: dict[str, str], message: Message, duplicates: tuple[bytes, ...] = ()) -> int | None:
    raw_headers = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
    try:
        check(raw_headers, duplicates, message)
    except GatewayError as problem:
        return problem.code
    return None


def reference(headers: dict[str, str], body: dict[str, Any]) -> int | None:
    answer = inbound.classify_inbound_request(body, headers=headers)
    return answer.code if isinstance(answer, inbound.InboundLadderRejection) else None


revisions = st.sampled_from([NOW, NOW, NOW, NOW, "2025-11-25", "2099-01-01", "", "größe", ABSENT])
capabilities = st.sampled_from([{}, {}, {}, {"roots": {}}, ABSENT])
metas = st.builds(
    lambda revision, capable: {
        name: value
        for name, value in ((PROTOCOL_VERSION, revision), (CLIENT_CAPABILITIES, capable), ("progressToken", 1))
        if value is not ABSENT
    },
    revisions,
    capabilities,
)
all_params = st.builds(
    lambda meta, name, uri: {
        key: value for key, value in (("_meta", meta), ("name", name), ("uri", uri)) if value is not ABSENT
    },
    st.one_of(metas, metas, metas, st.sampled_from([ABSENT, None, 7, []])),
    st.sampled_from(["echo", "größe", " x", "=?base64?eA==?=", 'a"b\\c', "", 5, None, ABSENT]),
    st.sampled_from(["file:///a b", "x", ABSENT]),
)
bodies = st.builds(
    lambda method, params: {"jsonrpc": "2.0", "id": 1, "method": method, "params": params},
    st.sampled_from(["tools/call", "tools/call", "prompts/get", "resources/read", "tools/list", "x/größe"]),
    all_params,
)


@st.composite
def exchanges(draw: st.DrawFn) -> tuple[dict[str, str], dict[str, Any]]:
    """A request with its headers, of which any may be wrong."""
    body = draw(bodies)
    params = body["params"]
    meta = params.get("_meta")
    named = params.get("uri" if body["method"] == "resources/read" else "name")
    right = {
        "mcp-protocol-version": meta.get(PROTOCOL_VERSION, NOW) if isinstance(meta, dict) else NOW,
        "mcp-method": body["method"],
        "mcp-name": inbound.encode_header_value(named) if isinstance(named, str) else "5",
    }
    headers = {}
    for name, value in right.items():
        kind = draw(st.sampled_from(["right", "right", "right", "right", "absent", "other", "broken", "encoded"]))
        other = {"absent": None, "other": value + "x", "broken": "=?base64?#?=", "encoded": "=?base64?ZWNobw==?="}
        sent = other.get(kind, value)
        if sent is not None:
            headers[name] = sent.encode("latin-1", "ignore").decode("latin-1")
    return headers, body


@given(exchanges())
def test_the_verdict_is_the_sdks(exchange: tuple[dict[str, str], dict[str, Any]]) -> None:
    headers, body = exchange
    message = jsonrpc.decode(json.dumps(body).encode())

    assert verdict(headers, message) == reference(headers, body)


@pytest.mark.parametrize(
    ("meta", "ours", "theirs", "reason"),
    [
        (
            {PROTOCOL_VERSION: 7},
            -32602,
            -32020,
            "a version that is no string is a defect of shape, whatever a header says",
        ),
        ({PROTOCOL_VERSION: None}, -32602, -32020, "the same"),
        ({CLIENT_CAPABILITIES: None}, -32602, None, "the SDK finds this out later, with the same code"),
        ({CLIENT_CAPABILITIES: []}, -32602, None, "the same"),
        ({"io.modelcontextprotocol/logLevel": 7}, -32602, None, "the same"),
    ],
)
def test_where_the_verdict_is_not_the_sdks(meta: dict[str, Any], ours: int, theirs: int | None, reason: str) -> None:
    meta = {PROTOCOL_VERSION: NOW, CLIENT_CAPABILITIES: {}, **meta}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}}
    headers = {"mcp-protocol-version": NOW, "mcp-method": "tools/list"}

    verdicts = verdict(headers, jsonrpc.decode(json.dumps(body).encode())), reference(headers, body)

    assert verdicts == (ours, theirs), reason


@pytest.mark.parametrize("method", ["tasks/get", "tasks/update", "tasks/cancel"])
def test_tasks_are_named_too(method: str) -> None:
    message = request(method, taskId="t1")
    headers = request_headers(message)

    assert headers[b"mcp-name"] == b"t1"
    check(headers, (), message)
    with pytest.raises(HeaderMismatch):
        check({**headers, b"mcp-name": b"t2"}, (), message)


@pytest.mark.parametrize("name", [b"mcp-protocol-version", b"mcp-method", b"mcp-name"])
def test_white_space_round_a_value_is_no_difference_but_a_second_value_is(name: bytes) -> None:
    message = request(name="echo")
    headers = request_headers(message)

    check({**headers, name: b"\t " + headers[name] + b" "}, (b"accept",), message)
    with pytest.raises(HeaderMismatch, match=name.decode()):
        check(headers, (name,), message)


def test_a_missing_header_is_not_an_empty_one() -> None:
    odd = jsonrpc.request(b"1", "", stamp(None, revision="", capabilities=Raw(b"{}")))

    for headers in ({}, {b"mcp-protocol-version": b""}, {b"mcp-method": b""}):
        with pytest.raises(HeaderMismatch):
            check(headers, (), odd)


def test_the_envelope_comes_first_and_the_revision_last() -> None:
    with pytest.raises(InvalidParams, match="_meta must carry"):
        check({}, (b"mcp-name",), jsonrpc.request(b"1", "tools/list"))
    old = jsonrpc.request(b"1", "tools/list", stamp(None, revision="1999-01-01", capabilities=Raw(b"{}")))
    with pytest.raises(HeaderMismatch):
        check({}, (), old)
    with pytest.raises(UnsupportedVersion) as caught:
        check({b"mcp-protocol-version": b"1999-01-01", b"mcp-method": b"tools/list"}, (), old)
    assert caught.value.data == {"supported": [NOW], "requested": "1999-01-01"}


# ---- our own requests ----------------------------------------------------------------------------------------------

SCHEMA: Any = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}


@given(st.text(max_size=12), st.sampled_from(["tools/call", "prompts/get", "resources/read", "tools/list"]))
def test_what_we_send_passes_our_own_check_and_the_sdks(name: str, method: str) -> None:
    message = request(method, name=name, uri=name, arguments={"region": name})

    headers = request_headers(message, header_parameters(SCHEMA))

    assert check(headers, (), message).revision == NOW
    theirs = {key.decode(): value.decode("latin-1") for key, value in headers.items()}
    assert reference(theirs, json.loads(message.encode())) is None
    assert decode_value(headers[b"mcp-param-region"]) == name


def test_a_request_without_an_envelope_has_no_headers() -> None:
    with pytest.raises(InvalidParams):
        request_headers(jsonrpc.request(b"1", "tools/list", {}))


def test_nothing_that_a_client_says_can_break_out_of_a_header() -> None:
    evil = "x\r\nEvil: 1"
    odd = jsonrpc.request(b"1", evil, stamp(None, revision=evil, capabilities=Raw(b"{}")))

    sent = [*request_headers(odd).values(), *request_headers(request(name=evil)).values()]

    assert not [value for value in sent if b"\r" in value or b"\n" in value]
