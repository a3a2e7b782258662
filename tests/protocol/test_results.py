"""What every modern result carries, and what several results together may be kept for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mcpgateway.errors import JSON
from mcpgateway.jsonrpc import members_of, raw_of
from mcpgateway.protocol.methods import CACHEABLE
from mcpgateway.protocol.results import COMPLETE, UNKEPT, Hints, completed, hints_of, strictest
from tests.strategies import json_objects, json_texts


def _both(one: dict[str, JSON], two: dict[str, object]) -> JSON:
    return {**one, **two}  # type: ignore[dict-item]  # strings and numbers


METHODS = st.sampled_from([*sorted(CACHEABLE), "tools/call", "prompts/get", "x/y"])
RESULTS = st.tuples(json_objects, st.fixed_dictionaries({}, optional={
    "resultType": st.sampled_from(["complete", "input_required", "task"]),
    "ttlMs": st.integers(0, 9),
    "cacheScope": st.sampled_from(["public", "private"]),
})).flatmap(lambda parts: json_texts(st.just(_both(*parts)))).map(Raw)  # fmt: skip
HINTS = st.builds(Hints, st.integers(0, 10**9), st.booleans())


@pytest.mark.requirement("bridge.result.same")
@given(METHODS, RESULTS)
def test_what_is_there_stays_to_the_byte_and_what_is_missing_is_filled_in(method: str, result: Raw) -> None:
    before, whole = members_of(result), completed(method, result)
    after = members_of(whole)

    assert {name: after[name] for name in before} == before
    assert list(after)[: len(before)] == list(before)
    assert after["resultType"] == before.get("resultType", COMPLETE)
    if method in CACHEABLE and after["resultType"] == COMPLETE:
        assert after["ttlMs"] == before.get("ttlMs", Raw(b"0"))
        assert after["cacheScope"] == before.get("cacheScope", Raw(b'"private"'))
    else:
        assert after.keys() - before.keys() <= {"resultType"}
    assert (whole is result) is (after.keys() == before.keys())


@pytest.mark.parametrize("method", ["tools/call", "tools/list"])
@pytest.mark.parametrize("result", [b"7", b"null", b"[]", b'"resultType"'])
def test_what_is_not_an_object_is_the_clients_to_see(method: str, result: bytes) -> None:
    raw = Raw(result)
    assert completed(method, raw) is raw


def test_a_type_deeper_down_is_not_the_results() -> None:
    result = Raw(b'{"structuredContent":{"resultType":"x"},"content":[]}')
    assert members_of(completed("tools/call", result))["resultType"] == COMPLETE


@pytest.mark.requirement("3.merged")
@given(st.lists(HINTS, min_size=1), HINTS)
def test_several_hints_are_as_strict_as_the_strictest(hints: list[Hints], more: Hints) -> None:
    together = strictest(hints)

    assert together.ttl_ms == min(one.ttl_ms for one in hints)
    assert together.public is all(one.public for one in hints)
    assert strictest([together, more]) == strictest([*hints, more])
    assert hints_of(members_of(raw_of(together.members()))) == together


@pytest.mark.parametrize(
    ("result", "hints"),
    [
        ({}, UNKEPT),
        ({"ttlMs": 5}, Hints(5, False)),
        ({"ttlMs": -5, "cacheScope": "public"}, Hints(0, True)),
        ({"ttlMs": "5", "cacheScope": "public"}, UNKEPT),
        ({"ttlMs": 5, "cacheScope": "everybody"}, Hints(5, False)),
    ],
)
def test_hints_that_make_no_sense_keep_nothing(result: dict[str, object], hints: Hints) -> None:
    assert hints_of(members_of(raw_of(result))) == hints


def test_nothing_may_be_kept_of_nothing() -> None:
    assert strictest([]) == UNKEPT
