"""Content for clients of revisions that have no word for it."""

from __future__ import annotations

import pytest
from msgspec import Raw

from mcpgateway.errors import JSON
from mcpgateway.jsonrpc import members_of, raw_of, value_of
from mcpgateway.protocol.revisions import LEGACY_REVISIONS
from mcpgateway.protocol.translation.content import readable

TEXT: JSON = {"type": "text", "text": "hello"}
IMAGE: JSON = {"type": "image", "data": "", "mimeType": "image/png"}
EMBEDDED: JSON = {"type": "resource", "resource": {"uri": "x:/r", "text": ""}}
AUDIO: JSON = {"type": "audio", "data": "AAAA", "mimeType": "audio/wav", "annotations": {"priority": 1.0}}
LINK: JSON = {"type": "resource_link", "uri": "x:/r", "name": "r", "title": "The R"}


def translated(method: str, result: JSON, revision: str) -> dict[str, Raw]:
    members = members_of(raw_of(result))
    readable(method, members, revision)
    return members


@pytest.mark.parametrize(
    ("block", "since", "told"),
    [
        (TEXT, "2024-11-05", ""),
        (IMAGE, "2024-11-05", ""),
        (EMBEDDED, "2024-11-05", ""),
        (AUDIO, "2025-03-26", "[audio/wav: revision 2024-11-05 of MCP cannot carry it]"),
        (LINK, "2025-06-18", "The R: x:/r"),
    ],
)
def test_a_block_is_text_before_its_kind_was_there(block: dict[str, JSON], since: str, told: str) -> None:
    for revision in LEGACY_REVISIONS:
        called = translated("tools/call", {"content": [TEXT, block]}, revision)
        prompted = translated("prompts/get", {"messages": [{"role": "user", "content": block, "x": 1.0}]}, revision)

        if revision >= since:
            assert value_of(called["content"]) == [TEXT, block]
            shown: JSON = block
        else:
            shown = {"type": "text", "text": told.replace("2024-11-05", revision)}
            if "annotations" in block:
                shown["annotations"] = block["annotations"]
            assert value_of(called["content"]) == [TEXT, shown]
        assert value_of(prompted["messages"]) == [{"role": "user", "content": shown, "x": 1.0}]


def test_what_is_readable_stays_to_the_byte() -> None:
    raw = b'{"content":[ {"type":"text", "text":"\\u0031", "x":1E400} ],"messages":[{"content": {} }]}'

    for method in ("tools/call", "prompts/get"):
        members = members_of(raw)
        readable(method, members, LEGACY_REVISIONS[0])
        assert members == members_of(raw)


@pytest.mark.parametrize(
    "odd", [None, 7, {}, [7, None, []], [{}], [{"type": 7}], [{"type": "hologram"}], [{"content": 7}]]
)
def test_what_is_of_another_shape_is_the_clients_to_see(odd: JSON) -> None:
    for method, name in (("tools/call", "content"), ("prompts/get", "messages"), ("tools/list", "tools")):
        assert value_of(translated(method, {name: odd}, LEGACY_REVISIONS[0])[name]) == odd


def test_a_link_says_what_it_can() -> None:
    told = translated("tools/call", {"content": [{"type": "resource_link"}]}, LEGACY_REVISIONS[0])

    assert value_of(told["content"]) == [{"type": "text", "text": "resource: no URI"}]
