"""Capability sets are compared by value, and united."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mcpgateway.errors import JSON, InvalidParams
from mcpgateway.jsonrpc import raw_of, value_of
from mcpgateway.protocol.capabilities import capability_key, may_be_asked, merge_capabilities
from tests.strategies import json_objects, json_texts

bool_trees: st.SearchStrategy[JSON] = st.recursive(
    st.booleans(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=6
)
sets = st.dictionaries(st.sampled_from(["tools", "resources", "logging"]), bool_trees, max_size=3)


@given(json_objects, st.data())
def test_equal_sets_have_one_key_however_they_are_written(value: dict[str, JSON], data: st.DataObject) -> None:
    shuffled = dict(data.draw(st.permutations(list(value.items()))))

    assert capability_key(Raw(data.draw(json_texts(st.just(shuffled))))) == capability_key(raw_of(value))


@given(json_objects)
def test_a_key_tells_what_the_set_is(value: dict[str, JSON]) -> None:
    assert value_of(capability_key(raw_of(value))) == value


@pytest.mark.parametrize(
    ("capabilities", "asked"),
    [
        (b"{}", False),
        (b'{"experimental":{"elicitation":{}}}', False),
        (b'{"elicitation":{}}', True),
        (b'{"sampling":{"tools":{}}}', True),
        (b'{"x":1,"roots":{"listChanged":true}}', True),
    ],
)
def test_clients_that_declare_it_may_be_asked(capabilities: bytes, asked: bool) -> None:
    assert may_be_asked(Raw(capabilities)) is asked


def test_what_is_no_object_is_no_capability_set() -> None:
    with pytest.raises(InvalidParams):
        may_be_asked(Raw(b"[]"))


def test_a_union_has_what_any_server_has() -> None:
    first = Raw(b'{"tools":{"listChanged":false},"extensions":{"a/x":{"limit":1}}}')
    second = Raw(
        b'{"tools":{"listChanged":true},"resources":{"subscribe":true},"extensions":{"b/y":{},"a/x":{"limit":2}}}'
    )

    assert merge_capabilities([first, second]) == {
        "tools": {"listChanged": True},
        "resources": {"subscribe": True},
        "extensions": {"a/x": {"limit": 1}, "b/y": {}},
    }
    assert merge_capabilities([]) == {}


def holds(merged: JSON, part: JSON) -> bool:
    if isinstance(merged, dict) and isinstance(part, dict):
        return all(name in merged and holds(merged[name], value) for name, value in part.items())
    return merged is True or merged == part or isinstance(merged, dict) != isinstance(part, dict)


@given(st.lists(sets, min_size=1, max_size=3))
def test_nothing_that_a_server_can_do_is_lost(all_sets: list[dict[str, JSON]]) -> None:
    merged = merge_capabilities(map(raw_of, all_sets))

    assert all(holds(merged, one) for one in all_sets)
    assert merge_capabilities([raw_of(merged), raw_of(merged)]) == merged
