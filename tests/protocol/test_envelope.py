"""Reading and stamping the envelope of modern requests."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mcpgateway.errors import JSON, InvalidParams
from mcpgateway.jsonrpc import raw_of, value_of
from mcpgateway.protocol import envelope
from mcpgateway.protocol.envelope import (
    CLIENT_CAPABILITIES,
    CLIENT_INFO,
    LOG_LEVEL,
    OWN_PREFIX,
    PROTOCOL_VERSION,
    read,
    stamp,
    with_meta,
)
from tests.strategies import json_objects, json_values

COMPLETE: dict[str, JSON] = {PROTOCOL_VERSION: "2026-07-28", CLIENT_CAPABILITIES: {"roots": {}}}


def params(meta: JSON) -> Raw:
    return raw_of({"name": "echo", "_meta": meta})


def test_everything_is_read() -> None:
    found = read(params({**COMPLETE, CLIENT_INFO: {"name": "c"}, LOG_LEVEL: "debug", "vendor/x": [1.0]}))

    assert found is not None
    assert (found.revision, found.log_level) == ("2026-07-28", "debug")
    assert (found.capabilities, found.client_info) == (Raw(b'{"roots":{}}'), Raw(b'{"name":"c"}'))


@pytest.mark.parametrize("info", [{}, {CLIENT_INFO: None}])
def test_a_client_need_not_say_who_it_is(info: dict[str, JSON]) -> None:
    found = read(params({**COMPLETE, **info}))

    assert found is not None
    assert found.client_info is None


@pytest.mark.parametrize(
    "raw",
    [
        None,
        Raw(b"null"),
        Raw(b"{}"),
        Raw(b"[]"),
        params(None),
        params(7),
        params({"progressToken": 1}),
        params({CLIENT_CAPABILITIES: {}}),
    ],
)
def test_without_a_protocol_version_there_is_no_envelope(raw: Raw | None) -> None:
    assert read(raw) is None


@pytest.mark.parametrize(
    ("meta", "named"),
    [
        ({PROTOCOL_VERSION: "2026-07-28"}, CLIENT_CAPABILITIES),
        ({**COMPLETE, PROTOCOL_VERSION: 7}, PROTOCOL_VERSION),
        ({**COMPLETE, PROTOCOL_VERSION: None}, PROTOCOL_VERSION),
        ({**COMPLETE, CLIENT_CAPABILITIES: None}, CLIENT_CAPABILITIES),
        ({**COMPLETE, CLIENT_CAPABILITIES: ["roots"]}, CLIENT_CAPABILITIES),
        ({**COMPLETE, LOG_LEVEL: 3}, LOG_LEVEL),
    ],
)
def test_half_an_envelope_is_refused_by_name(meta: dict[str, JSON], named: str) -> None:
    with pytest.raises(InvalidParams, match=named.replace(".", r"\.")):
        read(params(meta))


def test_nesting_without_end_is_no_envelope() -> None:
    assert read(Raw(b'{"_meta":' + b"[" * 100_000 + b"]" * 100_000 + b"}")) is None


@given(json_objects, st.none() | json_objects, json_objects, st.none() | json_objects)
def test_a_stamp_is_read_back_and_leaves_all_else_alone(
    others: dict[str, JSON], meta: dict[str, JSON] | None, capabilities: dict[str, JSON], info: dict[str, JSON] | None
) -> None:
    others.pop("_meta", None)
    before = raw_of({**others, "_meta": meta} if meta is not None else others)

    after = stamp(
        before,
        revision="2026-07-28",
        capabilities=raw_of(capabilities),
        client_info=None if info is None else raw_of(info),
    )

    found = read(after)
    assert found is not None
    assert value_of(found.capabilities) == capabilities
    assert (found.client_info is None) == (info is None)
    decoded = json.loads(bytes(after))
    stamped = decoded.pop("_meta")
    assert decoded == others
    assert {key: value for key, value in stamped.items() if not key.startswith("io.modelcontextprotocol/")} == (
        meta or {}
    )


def test_numbers_keep_their_spelling_under_a_stamp() -> None:
    stamped = stamp(Raw(b'{"a":1.0,"b":1e3,"_meta":{"c":1.50}}'), revision="r", capabilities=Raw(b'{"x":1.0}'))

    for part in (b'"a":1.0,"b":1e3', b'"c":1.50', b'{"x":1.0}'):
        assert part in bytes(stamped)


@pytest.mark.parametrize("broken", [Raw(b"[]"), Raw(b'{"_meta":7}')])
def test_what_is_no_object_cannot_be_stamped(broken: Raw) -> None:
    with pytest.raises(InvalidParams):
        stamp(broken, revision="r", capabilities=Raw(b"{}"))


@given(json_values)
def test_our_own_keys_are_added_to_a_result(value: JSON) -> None:
    result = with_meta(Raw(b'{"content":[],"_meta":{"theirs":1.0}}'), {f"{OWN_PREFIX}server": value})

    assert value_of(result) == {"content": [], "_meta": {"theirs": 1.0, f"{OWN_PREFIX}server": value}}


def test_an_empty_object_takes_the_place_of_no_params() -> None:
    assert value_of(with_meta(None, {"a": 1})) == {"_meta": {"a": 1}}
    assert envelope.OWN_PREFIX.split("/")[0].split(".")[1] not in ("mcp", "modelcontextprotocol")
