import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mcpgateway.catalog.items import SERVER_META, Item, Kind, read, respell
from mcpgateway.jsonrpc import members_of
from tests.strategies import server_names, tool_names, tools

kinds = st.sampled_from(Kind)


@pytest.mark.parametrize(
    ("kind", "key", "named"),
    [
        (Kind.TOOLS, "name", True),
        (Kind.PROMPTS, "name", True),
        (Kind.RESOURCES, "uri", False),
        (Kind.TEMPLATES, "uriTemplate", False),
    ],
)
def test_kinds(kind: Kind, key: str, named: bool) -> None:
    assert (kind.key, kind.named) == (key, named)


def test_read_leaves_out_what_cannot_be_asked_for_and_what_is_there_twice() -> None:
    raws = [
        Raw(text)
        for text in (
            b'{"name":"b"}',
            b'{"title":"nameless"}',
            b'{"name":7}',
            b"[]",
            b"null",
            b'{"name":"a"}',
            b'{"name":"b","again":1}',
        )
    ]
    assert read(Kind.TOOLS, raws) == (Item("b", raws[0]), Item("a", raws[5]))


@given(st.data(), kinds, tool_names, st.none() | server_names)
def test_other_members_keep_their_bytes_and_order(
    data: st.DataObject, kind: Kind, name: str, server: str | None
) -> None:
    (item,) = read(kind, [data.draw(tools(key=kind.key))])

    after = members_of(respell(kind, item, name, server))

    before = members_of(item.raw)
    assert json.loads(bytes(after[kind.key])) == name
    assert [member for member in after if member != "_meta"] == [member for member in before if member != "_meta"]
    changed = {kind.key, "_meta"}
    assert all(after[member] == before[member] for member in before if member not in changed)
    if server is None:
        assert after.get("_meta") == before.get("_meta")


@given(st.data(), kinds)
def test_what_does_not_change_is_the_same_bytes(data: st.DataObject, kind: Kind) -> None:
    raw = data.draw(tools(key=kind.key))
    (item,) = read(kind, [raw])
    assert respell(kind, item, item.name, None) is raw


@pytest.mark.parametrize(
    ("meta", "stamped"),
    [
        (b"", b',"_meta":{"io.github.mcpgateway/server":"time"}'),
        (b',"_meta":null', b',"_meta":{"io.github.mcpgateway/server":"time"}'),
        (b',"_meta":{ "x" : 1.0 }', b',"_meta":{"x":1.0,"io.github.mcpgateway/server":"time"}'),
        (b',"_meta":{"io.github.mcpgateway/server":"liar"}', b',"_meta":{"io.github.mcpgateway/server":"time"}'),
        (b',"_meta":[1]', b',"_meta":[1]'),
    ],
)
def test_the_server_is_named_in_meta(meta: bytes, stamped: bytes) -> None:
    (item,) = read(Kind.TOOLS, [Raw(b'{"name":"n"%s}' % meta)])
    assert bytes(respell(Kind.TOOLS, item, "n", "time")) == b'{"name":"n"%s}' % stamped


def test_our_members_of_meta_are_under_our_name() -> None:
    assert SERVER_META.startswith("io.github.mcpgateway/")
