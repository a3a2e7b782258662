"""Modern tools as legacy clients understand them."""

from __future__ import annotations

import pytest
from msgspec import Raw

from mcpgateway.errors import JSON
from mcpgateway.jsonrpc import members_of, raw_of, value_of
from mcpgateway.protocol.translation import results, tools
from tests.protocol.translation import oracle

OBJECT: JSON = {"type": "object", "properties": {"n": {"type": "number"}}}


def tool(**members: JSON) -> dict[str, JSON]:
    return {"name": "t", "inputSchema": {"type": "object"}, **members}


@pytest.mark.requirement("bridge.result.legacy-to-modern")
@pytest.mark.parametrize(
    ("schema", "shown"),
    [
        (OBJECT, True),
        ({"type": "array"}, False),
        ({"type": ["object", "null"]}, False),
        ({"anyOf": [OBJECT]}, False),
        ({}, False),
        (True, False),
        (None, False),
    ],
)
def test_an_output_schema_is_of_objects_or_left_out(schema: JSON, shown: bool) -> None:
    listed = raw_of(
        {"resultType": "complete", "ttlMs": 0, "cacheScope": "private", "tools": [tool(outputSchema=schema)]}
    )

    legacy = results.to_legacy("tools/list", listed, server="s")

    assert value_of(legacy) == {"tools": [tool(outputSchema=schema) if shown else tool()]}
    oracle.result("tools/list", legacy, oracle.LEGACY)


def test_a_listing_that_can_be_read_stays_to_the_byte() -> None:
    listing = Raw(
        b'[ {"name":"t","inputSchema":{"type":"object"} , "outputSchema":{"type":"\\u006fbject"}}, 7, {"x":1E400} ]'
    )

    assert tools.to_legacy(listing, over_http=True) is listing
    assert bytes(tools.to_legacy(Raw(b'[{"x":1E400},{"outputSchema":7,"x":1.0}]'), over_http=False)) == (
        b'[{"x":1E400},{"x":1.0}]'
    )
    assert tools.to_legacy(Raw(b"7"), over_http=True) == Raw(b"7")


MARKED = {"type": "string", "x-mcp-header": "Region"}


@pytest.mark.parametrize(
    ("schema", "bad"),
    [
        ({"type": "object", "properties": {"r": MARKED}}, False),
        ({"type": "object", "properties": {"r": {**MARKED, "type": "number"}}}, True),
        ({"type": "object", "properties": {"r": MARKED, "s": MARKED}}, True),
        ({"type": "object", "anyOf": [{"properties": {"r": MARKED}}]}, True),
    ],
)
def test_a_tool_with_a_bad_mark_is_not_shown_where_the_gateway_mirrors_it(schema: JSON, bad: bool) -> None:
    good = tool()
    listing = raw_of([good, {"name": "marked", "inputSchema": schema}])

    shown = value_of(tools.to_legacy(listing, over_http=True))

    assert shown == ([good] if bad else value_of(listing))
    assert tools.to_legacy(listing, over_http=False) is listing


@pytest.mark.parametrize(
    ("raw", "bad"),
    [
        (b'{"inputSchema":{"x\\u002dmcp-header":"R"}}', True),
        (b'{"inputSchema":{"x-mcp-header":"R","maximum":1E400}}', True),
        (b'{"inputSchema":{"maximum":1E400}}', False),
        (b'{"description":"x-mcp-header"}', False),
        (b'"x-mcp-header"', False),
    ],
)
def test_a_bad_mark_is_found_however_it_is_written(raw: bytes, bad: bool) -> None:
    assert tools.has_bad_mark(Raw(raw)) is bad


@pytest.mark.requirement("bridge.result.legacy-to-modern")
@pytest.mark.parametrize(
    ("content", "wrapped"),
    [([1, 2], {"result": [1, 2]}), ("x", {"result": "x"}), (0, {"result": 0}), (False, {"result": False}), ({}, {})],
)
def test_structured_content_is_an_object_and_nothing_of_it_is_lost(content: JSON, wrapped: JSON) -> None:
    modern = raw_of({"resultType": "complete", "content": [], "structuredContent": content})

    legacy = results.to_legacy("tools/call", modern, server="s")

    assert value_of(legacy) == {"content": [], "structuredContent": wrapped}
    oracle.result("tools/call", modern, oracle.MODERN)
    oracle.result("tools/call", legacy, oracle.LEGACY)
    assert results.to_legacy("tools/call", legacy, server="s") == legacy


def test_no_structured_content_is_none() -> None:
    members = members_of(b'{"structuredContent":null}')
    tools.wrap_structured(members)
    assert members == {}
    raw = members_of(b'{"structuredContent":1E400}')
    tools.wrap_structured(raw)
    assert raw == {"structuredContent": Raw(b'{"result":1E400}')}
