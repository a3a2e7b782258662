"""The Hypothesis strategies of all tests. What a new test needs to generate is added here, not beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import attrs
from hypothesis import strategies as st
from msgspec import Raw

from mcpgateway.catalog.items import Item, Kind, read
from mcpgateway.catalog.rules import Collision, Naming, NamingMode, ServerView, ToolRules
from mcpgateway.errors import JSON
from mcpgateway.jsonrpc import raw_of

# ---- JSON ------------------------------------------------------------------------------------------------------------

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)
json_values: st.SearchStrategy[JSON] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(st.text(max_size=6), json_values, max_size=4)


@st.composite
def json_texts(draw: st.DrawFn, values: st.SearchStrategy[JSON] = json_values) -> bytes:
    """JSON as other programs write it: with and without spaces, escaped or as UTF-8."""
    compact = draw(st.booleans())
    text = json.dumps(
        draw(values), ensure_ascii=draw(st.booleans()), separators=(",", ":") if compact else (" , ", ": ")
    )
    return text.encode()


# ---- JSON-RPC --------------------------------------------------------------------------------------------------------

odd_ids = st.sampled_from(
    [
        *(b"0", b"-1", b"1", b"1.0", b"-0", b"1e2", b"1E400", b"9007199254740993", b"1" * 40),
        *(b'""', b'"1"', b'"\\u0031"', '"größe"'.encode(), b'"a\\nb"'),
    ]
)
ids = st.one_of(odd_ids, st.integers().map(lambda number: b"%d" % number), json_texts(st.text(max_size=8)))
"""Raw JSON-RPC ids of every type."""
methods = st.sampled_from(["tools/call", "ping", "notifications/progress", "x/größe"]) | st.text(max_size=12)

_reserved = {"jsonrpc", "id", "method", "params", "result", "error"}
_extra_members = st.dictionaries(
    st.text(max_size=6).filter(lambda name: name not in _reserved), json_texts(), max_size=3
).map(lambda members: [(json.dumps(name).encode(), value) for name, value in members.items()])


@attrs.frozen
class Frame:
    """One JSON-RPC message as bytes, with the parts that it was made of."""

    data: bytes
    members: tuple[tuple[bytes, bytes], ...]
    """Raw name and raw value, in order."""
    id: bytes | None
    method: str | None


@st.composite
def _frames(draw: st.DrawFn, id: bytes | None, method: str | None, body: Sequence[tuple[bytes, bytes]]) -> Frame:
    members = [(b'"jsonrpc"', b'"2.0"'), *body, *draw(_extra_members)]
    if id is not None:
        members.append((b'"id"', id))
    if method is not None:
        members.append((b'"method"', json.dumps(method).encode()))
    members = draw(st.permutations(members))
    space = draw(st.sampled_from([b"", b" ", b"\n\t"]))
    data = b"{" + b",".join(space + name + space + b":" + space + value for name, value in members) + space + b"}"
    return Frame(data, tuple(members), id, method)


_params = st.lists(st.tuples(st.just(b'"params"'), json_texts(json_objects)), max_size=1)
requests = st.tuples(ids, methods, _params).flatmap(lambda parts: _frames(*parts))
notifications = st.tuples(st.none(), methods, _params).flatmap(lambda parts: _frames(*parts))
responses = st.tuples(ids, st.none(), st.tuples(st.tuples(st.sampled_from([b'"result"', b'"error"']), json_texts())))
frames = requests | notifications | responses.flatmap(lambda parts: _frames(*parts))
"""JSON-RPC messages of every sort as `Frame`."""

# ---- names and listings ----------------------------------------------------------------------------------------------

LEGAL_CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
legal_names = st.text(LEGAL_CHARACTERS, min_size=1, max_size=64)
tool_names = st.one_of(
    st.text("ab_-", min_size=1, max_size=4),
    st.sampled_from(["search", "get.time", "größe", "a/b:c", "", " ", "x" * 64, "x" * 65, "y" * 200]),
    st.text(max_size=80),
)
"""Names as servers list them: colliding, odd, empty, too long."""
server_names = st.text("ab_-", min_size=1, max_size=3)
plain_names = st.text("abc", min_size=1, max_size=6)
"""Without separators, so that prefixed names cannot be ambiguous."""


few_members: st.SearchStrategy[dict[str, JSON]] = st.dictionaries(st.just("title"), scalars, max_size=1)
"""For what is about names: `json_objects` take four times as long to make."""


@st.composite
def tools(
    draw: st.DrawFn,
    names: st.SearchStrategy[str] = tool_names,
    key: str = "name",
    others: st.SearchStrategy[dict[str, JSON]] = json_objects,
) -> Raw:
    """One listed item, with ``others``, members that nobody knows."""
    members = [(key, draw(names)), *draw(others).items()]
    if draw(st.booleans()):
        members.append(("_meta", draw(others)))
    unique = dict(reversed(members))
    return Raw(json.dumps(dict(draw(st.permutations(list(unique.items()))))).encode())


def listings(
    names: st.SearchStrategy[str] = tool_names,
    kind: Kind = Kind.TOOLS,
    others: st.SearchStrategy[dict[str, JSON]] = few_members,
) -> st.SearchStrategy[tuple[Item, ...]]:
    """What one server lists."""
    return st.lists(tools(names, kind.key, others), max_size=4).map(lambda raws: read(kind, raws))


patterns = st.lists(
    st.sampled_from(["*", "a*", "*_a", "?", "[ab]", "search", "a_b", "größe"]) | tool_names, max_size=2
).map(tuple)
rules = st.builds(
    ToolRules,
    allow=st.just(("*",)) | patterns,
    deny=patterns,
    rename=st.dictionaries(tool_names, tool_names, max_size=2),
)
views = st.builds(
    ServerView, prefix=st.none() | st.sampled_from(["", "a", "p"]), rules=st.lists(rules, max_size=2).map(tuple)
)
namings = st.builds(Naming, separator=st.sampled_from(["_", "-", "__"]), collision=st.sampled_from(Collision))
modes = st.sampled_from([NamingMode.RAW, NamingMode.PREFIXED])


@attrs.frozen
class Namespace:
    """The arguments of `mcpgateway.catalog.table.build` after the kind."""

    views: Mapping[str, ServerView]
    listings: Mapping[str, tuple[Item, ...]]
    naming: Naming
    mode: NamingMode


@st.composite
def namespaces(
    draw: st.DrawFn,
    servers: st.SearchStrategy[str] = server_names,
    names: st.SearchStrategy[str] = tool_names,
    views: st.SearchStrategy[ServerView] = views,
    namings: st.SearchStrategy[Naming] = namings,
    modes: st.SearchStrategy[NamingMode] = modes,
    kind: Kind = Kind.TOOLS,
    others: st.SearchStrategy[dict[str, JSON]] = few_members,
) -> Namespace:
    """Servers with their listings, of which some may be missing, and how they are shown."""
    order = draw(st.lists(servers, min_size=1, max_size=4, unique=True))
    listed = [server for server in order if draw(st.integers(0, 5))]
    return Namespace(
        {server: draw(views) for server in order},
        {server: draw(listings(names, kind, others)) for server in draw(st.permutations(listed))},
        draw(namings),
        draw(modes),
    )


# ---- what crosses between the eras -----------------------------------------------------------------------------------

odd_values = st.sampled_from(
    [b"9007199254740993", b"1.0", b"-0", b"1e2", b"1E400", b"1" * 40, b'"\\u0031"', b"[ 1 , {} ]", b"{ }"]
)
"""Raw JSON that does not survive being decoded and encoded, or cannot be decoded at all."""
raw_values = st.one_of(odd_values, json_texts()).map(Raw)
unknown_members = st.dictionaries(st.text(max_size=6).map(lambda name: f"x-{name}"), raw_values, max_size=3)
"""Members that no revision names."""
progress_tokens = st.sampled_from([b"7", b'"7"', b"1.0", b"9007199254740993", b'"gr\\u00f6\\u00dfe"']).map(Raw)
vendor_metas = st.builds(
    lambda token, vendor, trace: {**token, **{f"com.example/{key}": value for key, value in vendor.items()}, **trace},
    st.dictionaries(st.just("progressToken"), progress_tokens, max_size=1),
    st.dictionaries(st.text(max_size=6), raw_values, max_size=2),
    st.dictionaries(st.just("traceparent"), st.just(Raw(b'"00-0af7-b7ad-01"')), max_size=1),
)
"""What a ``_meta`` holds that is not the specification's envelope."""


@st.composite
def bodies(draw: st.DrawFn, known: Mapping[str, object]) -> dict[str, Raw]:
    """The members of params or of a result: known ones (values to encode), unknown ones, perhaps a ``_meta``."""
    members = {name: raw_of(value) for name, value in known.items()} | draw(unknown_members)
    meta = draw(vendor_metas)
    if meta:
        members["_meta"] = raw_of(meta)
    return dict(draw(st.permutations(list(members.items()))))


def hostile(names: Sequence[str], texts: Sequence[str] = ()) -> st.SearchStrategy[Raw]:
    """Raw JSON of which some parts have names and values that mean something, in places where they should not."""
    keys = st.sampled_from([json.dumps(name).encode() for name in names] + [b'"x"'])
    leaves = st.one_of(
        odd_values,
        st.sampled_from([b"null", b"true", b"false", b"7", b'""', b"[]", b"{}"]),
        st.sampled_from([json.dumps(text).encode() for text in texts] or [b'"x"']),
    )
    nested = st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3).map(lambda parts: b"[" + b",".join(parts) + b"]"),
            st.lists(st.tuples(keys, inner), max_size=4).map(
                lambda parts: b"{" + b",".join(key + b":" + value for key, value in parts) + b"}"
            ),
        ),
        max_leaves=20,
    )
    return nested.map(Raw)


@st.composite
def spoiled(draw: st.DrawFn, valid: object, spoilers: st.SearchStrategy[Raw]) -> Raw:
    """Raw JSON of a valid value (which may hold `Raw` parts) in which one part, or the whole, is something else."""

    def spoil(value: object) -> object:
        if isinstance(value, dict) and value and draw(st.integers(0, 4)):
            name = draw(st.sampled_from(sorted(value)))
            return {**value, name: spoil(value[name])}
        if isinstance(value, list) and value and draw(st.integers(0, 4)):
            place = draw(st.integers(0, len(value) - 1))
            return [*value[:place], spoil(value[place]), *value[place + 1 :]]
        return draw(spoilers)

    return raw_of(spoil(valid))


# ---- configurations of dlmufei/mcp-gateway ---------------------------------------------------------------------------

_words = st.sampled_from(["a", "b", "files", "my server", "搜索", "a.files", "wss://x/?token=hidden", "", "x" * 70])
_durations: st.SearchStrategy[object] = st.one_of(
    st.integers(-2, 5000),
    st.floats(-2, 5000),
    st.sampled_from(["0", "0s", "-1s", "30s", "1.5h", "2h45m", "300ms", ".5s", "1m1h", "100µs", "1ns", "10000h"]),
)
_unknown = st.sampled_from([{}, {}, {"_comment": "x"}, {"autoApprove": []}, {"Alias": {"a": None}}])


def _some(**keys: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    """An object with any of these keys, and perhaps one that nobody knows."""
    known = st.fixed_dictionaries({}, optional=keys)
    return st.builds(lambda found, others: found | others, known, _unknown)


_values = st.sampled_from(["", "x", "pa$$word 5$", "y z"])
_texts = st.dictionaries(st.sampled_from(["A", "B"]), _values, max_size=2)
_common: dict[str, st.SearchStrategy[object]] = {
    "timeout": _durations,
    "disabled": st.none() | st.just(value=False),
    "shared": st.booleans(),
    "description": _values,
}


def _declared(types: Sequence[str], **needed: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    parts = st.fixed_dictionaries({"type": st.sampled_from(types), **needed})
    return st.builds(lambda part, rest: rest | part, parts, _some(**_common))


bridge_servers = st.one_of(
    _declared(["stdio"], command=st.sampled_from(["npx", "uvx"]), args=st.lists(_values, max_size=2), env=_texts),
    _declared(
        ["http", "sse", "streamablehttp"],
        url=st.sampled_from(["https://one.example.com/mcp", "http://two.example.com/mcp"]),
        headers=_texts,
    ),
)
bridge_upstreams = st.builds(
    lambda needed, rest: rest | needed,
    st.fixed_dictionaries(
        {
            "name": _words.filter(bool),
            "endpoint": st.sampled_from(["wss://example.com/mcp/?token=hidden", "ws://example.com", "example.com"]),
            "mcpServers": st.dictionaries(_words, bridge_servers, min_size=1, max_size=3),
        }
    ),
    _some(
        reconnect=_some(
            enabled=st.booleans(),
            initialBackoff=_durations,
            maxBackoff=_durations,
            multiplier=st.floats(-1, 5),
        ),
        keepalive=_some(interval=_durations, timeout=_durations),
    ),
)
"""Upstreams as that program took them, whatever it made of them."""

bridge_files = st.builds(
    lambda upstreams, rest: rest | {"upstreams": upstreams},
    st.lists(bridge_upstreams, min_size=1, max_size=3),
    _some(
        logging=_some(level=_values, format=_values, verbose=st.booleans()),
        metrics=_some(enabled=st.booleans(), port=st.integers(-1, 70000)),
    ),
)


# ---- secrets ---------------------------------------------------------------------------------------------------------

secret_texts = st.text('abcXYZ019-_.~+/="\\ \u00e4', min_size=6, max_size=20).map(lambda text: f"Zq{text}qZ")
"""Texts that nothing else generated holds by chance."""


def planted(secret: str) -> st.SearchStrategy[JSON]:
    """JSON values that hold a text in values and names, by itself and within others."""
    around = st.text(max_size=6)
    holding = st.builds(lambda before, after: before + secret + after, around, around)
    return st.recursive(
        scalars | holding,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(around | holding, inner, max_size=3),
        max_leaves=8,
    )
