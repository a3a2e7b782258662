"""A server's results in the words of the other era."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mcpgateway.errors import JSON, ServerMisbehaved
from mcpgateway.jsonrpc import members_of, raw_of, value_of
from mcpgateway.protocol.envelope import SERVER_INFO
from mcpgateway.protocol.methods import CACHEABLE
from mcpgateway.protocol.translation.requests import SHARED
from mcpgateway.protocol.translation.results import is_input_required, to_legacy, to_modern
from tests.protocol.translation import oracle
from tests.strategies import bodies

INFO = Raw(b'{"name":"s","version":"1"}')
RESULTS: dict[str, dict[str, JSON]] = {
    "completion/complete": {"completion": {"values": ["a"], "total": 1}},
    "prompts/get": {"messages": [{"role": "user", "content": {"type": "text", "text": "größe"}}]},
    "prompts/list": {"prompts": [{"name": "p"}], "nextCursor": "c"},
    "resources/list": {"resources": [{"name": "r", "uri": "x:/r", "size": 9007199254740993}]},
    "resources/read": {"contents": [{"uri": "x:/r", "text": ""}]},
    "resources/templates/list": {"resourceTemplates": [{"name": "t", "uriTemplate": "x:/{t}"}]},
    "tools/call": {"content": [{"type": "text", "text": "1.0"}], "structuredContent": {"n": 1.0}, "isError": True},
    "tools/list": {
        "tools": [{"name": "t", "inputSchema": {"type": "object"}, "outputSchema": {"type": "object", "x": 1}}]
    },
}
SHARED_RESULTS = st.sampled_from(sorted(SHARED)).flatmap(
    lambda method: st.tuples(st.just(method), bodies(RESULTS[method]).map(raw_of))
)


@pytest.mark.requirement("5.translation")
@given(SHARED_RESULTS, st.none() | st.just(INFO))
def test_a_result_survives_there_and_back(case: tuple[str, Raw], info: Raw | None) -> None:
    method, result = case

    modern = to_modern(method, result, server="s", server_info=info)
    back = to_legacy(method, modern, server="s")

    oracle.result(method, modern, oracle.MODERN)
    oracle.result(method, back, oracle.LEGACY)
    assert list(members_of(back).items()) == list(members_of(result).items())
    assert to_legacy(method, back, server="s") == back
    assert members_of(to_modern(method, modern, server="s", server_info=info)) == members_of(modern)


@pytest.mark.requirement("bridge.result.modern-to-legacy")
@given(SHARED_RESULTS)
def test_a_modern_result_says_what_the_era_requires_and_nothing_else_is_added(case: tuple[str, Raw]) -> None:
    method, result = case
    before = members_of(result)

    after = members_of(to_modern(method, result, server="s", server_info=INFO))

    assert after.pop("resultType") == Raw(b'"complete"')
    if method in CACHEABLE:
        assert (after.pop("ttlMs"), after.pop("cacheScope")) == (Raw(b"0"), Raw(b'"private"'))
    meta = members_of(after.pop("_meta"))
    assert meta.pop(SERVER_INFO) == INFO
    assert meta == members_of(before.pop("_meta", None))
    assert after == before


@pytest.mark.requirement("bridge.result.legacy-to-modern")
@pytest.mark.parametrize("method", sorted(SHARED))
def test_a_legacy_result_has_no_modern_members(method: str) -> None:
    modern = raw_of(
        {
            "resultType": "complete",
            **RESULTS[method],
            **({"ttlMs": 5, "cacheScope": "public"} if method in CACHEABLE else {}),
            "_meta": {SERVER_INFO: {"name": "s", "version": "1"}, "v": 1},
        }
    )

    legacy = to_legacy(method, modern, server="s")

    oracle.result(method, modern, oracle.MODERN)
    oracle.result(method, legacy, oracle.LEGACY)
    assert value_of(legacy) == {**RESULTS[method], "_meta": {"v": 1}}


def test_meta_goes_with_the_last_key_that_was_the_eras() -> None:
    result = raw_of({"tools": [], "_meta": {SERVER_INFO: {"name": "s", "version": "1"}}})

    assert value_of(to_legacy("tools/list", result, server="s")) == {"tools": []}
    assert value_of(to_legacy("tools/list", raw_of({"tools": [], "_meta": {}}), server="s")) == {
        "tools": [],
        "_meta": {},
    }


def test_a_legacy_server_that_sends_modern_members_means_nothing_by_them() -> None:
    odd = raw_of({"resultType": "input_required", "ttlMs": 99, "cacheScope": "public", "tools": []})

    assert value_of(to_modern("tools/list", odd, server="s")) == {
        "tools": [],
        "resultType": "complete",
        "ttlMs": 0,
        "cacheScope": "private",
    }
    assert value_of(to_modern("tools/call", odd, server="s")) == {
        "ttlMs": 99,
        "cacheScope": "public",
        "tools": [],
        "resultType": "complete",
    }


@pytest.mark.parametrize(
    ("kind", "complete"),
    [("complete", True), (None, True), ("input_required", False), ("task", False), ("", False), (7, False)],
)
def test_only_a_complete_result_is_one(kind: JSON, complete: bool) -> None:
    result = raw_of({"resultType": kind, "content": []})

    if complete:
        assert value_of(to_legacy("tools/call", result, server="s")) == {"content": []}
    else:
        with pytest.raises(ServerMisbehaved, match="type"):
            to_legacy("tools/call", result, server="s")


def test_a_type_may_be_spelled_with_escapes() -> None:
    assert to_legacy("tools/call", Raw(b'{"resultType":"\\u0063omplete","content":[]}'), server="s") == Raw(
        b'{"content":[]}'
    )


@pytest.mark.parametrize(
    ("raw", "asks"),
    [
        (b'{"resultType":"input_required"}', True),
        (b'{ "x":{"resultType":"complete"}, "resultType" : "input_required" }', True),
        (b'{"x":{"resultType":"input_required"}}', False),
        (b'{"resultType":"complete"}', False),
        (b"{}", False),
        (b"[]", False),
        (b"null", False),
        (None, False),
    ],
)
def test_who_asks_instead_of_answering(raw: bytes | None, asks: bool) -> None:
    assert is_input_required(None if raw is None else Raw(raw)) is asks


@pytest.mark.parametrize("raw", [b"null", b"[]", b'"x"', b'{"_meta":7}'])
def test_what_is_no_result_is_the_servers_fault(raw: bytes) -> None:
    for method in ("tools/call", "tools/list"):
        with pytest.raises(ServerMisbehaved, match="'s'"):
            to_legacy(method, Raw(raw), server="s")
        with pytest.raises(ServerMisbehaved, match="'s'"):
            to_modern(method, Raw(raw), server="s", server_info=INFO)
