"""What Go's ``encoding/json`` would make of a document."""

from __future__ import annotations

import pytest

from mcpgateway.config.dialects.go import fields, items, quoted, strings
from mcpgateway.config.document import Node, plain
from mcpgateway.config.formats import parse


def read(text: str) -> Node:
    return parse(text, "json")[0]


@pytest.mark.parametrize(
    ("text", "found", "others"),
    [
        ('{"name": 1, "Other": 2}', {"name": 1}, ["Other"]),
        ('{"NAME": 1, "keepAlive": {}}', {"name": 1, "keepalive": {}}, []),
        ('{"name": 1, "Name": 2}', {"name": 2}, []),
        ('{"name": 1, "name": 2, "name": 3}', {"name": 3}, []),
        ('{"name": 1, "name": null}', {"name": 1}, []),
        ('{"name": null}', {}, []),
        ('{"x": null, "x": 1}', {}, ["x", "x"]),
        ("[1]", {}, []),
    ],
)
def test_fields(text: str, found: dict[str, object], others: list[str]) -> None:
    fields_found, strangers = fields(read(text), ("name", "keepalive"))

    assert {name: plain(node) for name, node in fields_found.items()} == found
    assert [key for key, _ in strangers] == others


def test_objects_given_twice_are_merged_to_any_depth_and_the_later_value_wins() -> None:
    text = '{"o": {"a": 1, "b": {"c": 1, "d": 1}}, "O": {"b": {"d": 2}}, "o": {"a": 3, "a": 4}}'

    outer = fields(read(text), ("o",))[0]["o"]
    found, _ = fields(outer, ("a", "b"))
    inner, _ = fields(found["b"], ("c", "d"))

    assert found["a"].value == 4
    assert {name: node.value for name, node in inner.items()} == {"c": 1, "d": 2}


def test_of_a_key_of_a_map_that_is_given_twice_the_last_value_counts_alone() -> None:
    found = items(read('{"a": {"x": 1}, "b": 1, "a": {"y": 2}}'))

    assert {key: plain(node) for key, node in found.items()} == {"a": {"y": 2}, "b": 1}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('["a", null, 1]', ["a", "", 1]),
        ('{"a": null, "b": "x", "b": "y"}', {"a": "", "b": "y"}),
        ('["\\ud800x", "\\ud83d\\ude00"]', ["\ufffdx", "\U0001f600"]),
        ('"\\udc00"', "\ufffd"),
        ("5", 5),
    ],
)
def test_strings(text: str, found: object) -> None:
    assert plain(strings(read(text))) == found


def test_quoted() -> None:
    assert quoted('a "b"\n小智') == '"a \\"b\\"\\n小智"'
