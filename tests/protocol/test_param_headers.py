"""Mirrored arguments, held against the reference implementation of the SDK (`mcp.shared.inbound`)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared import inbound

from mcpgateway.errors import HeaderMismatch
from mcpgateway.protocol.param_headers import (
    check_parameters,
    find_invalid,
    header_parameters,
    mirrored,
    param_headers,
)

names = st.sampled_from(["a", "b", "größe", "properties"])
marks = st.sampled_from(["X", "x", "Region", "y-1", "not a token", "", 7, None])
types = st.sampled_from(["string", "integer", "boolean", "integer", "number", "object", ["string"], None])


def part(inner: dict[str, Any], mark: Any, kind: Any, marked: bool) -> dict[str, Any]:
    return {**inner, "type": kind, **({"x-mcp-header": mark} if marked else {})}


leaves = st.builds(part, st.just({}), marks, types, st.booleans())
good_leaves = st.builds(part, st.just({}), st.sampled_from(["X", "Y", "Z", "W"]), types, st.booleans())


def grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    properties = st.dictionaries(names, inner, max_size=3).map(lambda value: {"type": "object", "properties": value})
    elsewhere = st.builds(
        lambda keyword, value: {
            keyword: [value] if keyword == "anyOf" else {"n": value} if keyword == "$defs" else value
        },
        st.sampled_from(["items", "anyOf", "$defs", "default", "const", "not"]),
        inner,
    )
    return st.one_of(properties, properties, elsewhere)


schemas = st.one_of(
    st.recursive(leaves, grown, max_leaves=5),
    grown(good_leaves),
    grown(grown(good_leaves)),
    st.sampled_from([None, True, [], 7]),
)
values: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([42, 42.0, 42.5, True, False, None, "42", "x", " x", "größe", -0.0, 10**30, [], {}, 1e300]),
    st.dictionaries(names, st.integers(0, 3) | st.text(max_size=3), max_size=2),
)
arguments = st.dictionaries(names, values, max_size=3)


@given(schemas)
def test_marks_are_judged_as_the_sdk_does(schema: Any) -> None:
    assert (find_invalid(schema) is None) == (inbound.find_invalid_x_mcp_header(schema) is None)


@given(schemas, arguments)
def test_arguments_are_mirrored_as_the_sdk_does(schema: Any, given_arguments: dict[str, Any]) -> None:
    if find_invalid(schema) is not None:
        assert header_parameters(schema) == ()
        return
    theirs = inbound.mcp_param_headers(inbound.x_mcp_header_map(schema), given_arguments)

    ours = mirrored(header_parameters(schema), given_arguments)

    assert ours == {name.lower().encode(): value.encode() for name, value in theirs.items()}
    check_parameters(header_parameters(schema), given_arguments, ours)


@given(
    grown(good_leaves),
    arguments,
    arguments,
    st.dictionaries(
        st.sampled_from(["mcp-param-x", "mcp-param-y", "mcp-param-other"]),
        st.sampled_from(["42", "42.0", "42.5", "4.2e1", "true", "x", "=?base64?IHg=?=", "=?base64?#?="]),
    ),
)
def test_headers_are_compared_as_the_sdk_does(
    schema: Any, said: dict[str, Any], meant: dict[str, Any], extra: dict[str, str]
) -> None:
    parameters = header_parameters(schema)
    headers = {**mirrored(parameters, said), **{name.encode(): value.encode() for name, value in extra.items()}}
    theirs = {name.decode(): value.decode() for name, value in headers.items()}

    try:
        check_parameters(parameters, meant, headers)
        agree = True
    except HeaderMismatch:
        agree = False

    assert agree == (inbound.validate_mcp_param_headers(schema, meant, theirs) is None)


COUNT: Any = {"properties": {"count": {"type": "integer", "x-mcp-header": "Count"}}}


@pytest.mark.parametrize(
    ("value", "header", "equal"),
    [
        (42, b"42", True),
        (42, b"42.0", True),
        (42.0, b"42", True),
        (42, b" 42 ", True),
        (42, b"=?base64?NDI=?=", True),
        (10**30, b"1" + b"0" * 30, True),
        (42, b"42.5", False),
        (42, b"4.2e1", False),
        (True, b"1", False),
        (42, b"=?base64?NDI?=", False),
        (42, b"9" * 5000, False),
    ],
)
def test_integers_are_compared_as_numbers(value: Any, header: bytes, equal: bool) -> None:
    headers = {b"mcp-param-count": header}
    if equal:
        check_parameters(header_parameters(COUNT), {"count": value}, headers)
    else:
        with pytest.raises(HeaderMismatch, match="differs"):
            check_parameters(header_parameters(COUNT), {"count": value}, headers)


@pytest.mark.parametrize(
    ("given_arguments", "headers", "duplicates", "why"),
    [
        ({"count": 1}, {}, (), "is missing"),
        ({}, {b"mcp-param-count": b"1"}, (), "absent"),
        ({"count": None}, {b"mcp-param-count": b"1"}, (), "absent"),
        ({"count": [1]}, {b"mcp-param-count": b"1"}, (), "absent"),
        ({"count": 1}, {b"mcp-param-count": b"1"}, (b"mcp-param-count",), "more than once"),
    ],
)
def test_header_and_argument_stand_or_fall_together(
    given_arguments: dict[str, Any], headers: dict[bytes, bytes], duplicates: tuple[bytes, ...], why: str
) -> None:
    with pytest.raises(HeaderMismatch, match=why):
        check_parameters(header_parameters(COUNT), given_arguments, headers, duplicates)


def test_unknown_mirrored_arguments_are_found_and_nothing_else() -> None:
    headers = {b"mcp-param-x": b"1", b"mcp-name": b"n", b"mcp-parameter": b"2", b"mcp-param-y": b"3"}

    assert param_headers(headers) == {b"mcp-param-x": b"1", b"mcp-param-y": b"3"}


def test_a_schema_without_end_is_walked_without_recursion() -> None:
    schema: Any = {}
    for _ in range(5000):
        schema = {"items": schema}

    assert find_invalid(schema) is None
