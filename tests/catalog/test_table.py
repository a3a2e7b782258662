"""Routing tables: names are legal, unique, stable and lead back; filters hold whatever name is used."""

import json
import re
import time
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mcpgateway.catalog.items import SERVER_META, Item, Kind, read
from mcpgateway.catalog.naming import Clash, Target, legal
from mcpgateway.catalog.patterns import matcher
from mcpgateway.catalog.rules import Collision, Naming, NamingMode, ServerView, ToolRules
from mcpgateway.catalog.table import Table, build
from mcpgateway.jsonrpc import members_of
from tests import strategies
from tests.strategies import Namespace, listings, namespaces

RAW, PREFIXED = NamingMode.RAW, NamingMode.PREFIXED
PLAIN = ServerView()
LEGAL = re.compile(r"[A-Za-z0-9_-]{1,64}")


def table_of(namespace: Namespace, kind: Kind = Kind.TOOLS) -> Table:
    return build(kind, namespace.views, namespace.listings, namespace.naming, namespace.mode)


def items(*names: str, kind: Kind = Kind.TOOLS) -> tuple[Item, ...]:
    return read(kind, [Raw(json.dumps({kind.key: name, "x": 1}).encode()) for name in names])


def show(
    servers: Mapping[str, tuple[Item, ...]],
    mode: NamingMode = PREFIXED,
    views: Mapping[str, ServerView] | None = None,
    collision: Collision = Collision.PREFIX,
    kind: Kind = Kind.TOOLS,
) -> Table:
    given = dict.fromkeys(servers, PLAIN) | dict(views or {})
    return build(kind, given, servers, Naming(collision=collision), mode)


def names(table: Table) -> dict[str, tuple[str, str]]:
    return {entry.name: (entry.target.server, entry.target.original) for entry in table.entries}


def rules(**fields: object) -> ServerView:
    return ServerView(rules=(ToolRules(**fields),))  # type: ignore[arg-type]  # shorthand of these tests


# ---- the modes -------------------------------------------------------------------------------------------------------


def test_prefixed() -> None:
    table = show({"time": items("get", "größe"), "web": items("get")})
    assert names(table) == {
        "time_get": ("time", "get"),
        legal("time_größe"): ("time", "größe"),
        "web_get": ("web", "get"),
    }


def test_a_prefix_may_be_another_or_none() -> None:
    table = show(
        {"zai-server": items("look"), "x": items("look"), "y": items("look")},
        views={"zai-server": ServerView(prefix="zhipu"), "x": ServerView(prefix=""), "y": ServerView(prefix="")},
    )
    assert names(table) == {"zhipu_look": ("zai-server", "look"), "look": ("x", "look"), "y_look": ("y", "look")}


@given(listings(others=strategies.json_objects))
def test_raw_over_one_server_changes_nothing_at_all(listing: tuple[Item, ...]) -> None:
    table = show({"s": listing}, RAW)

    assert [entry.name for entry in table.entries] == [item.name for item in listing]
    assert all(raw is item.raw for raw, item in zip(table.items, listing, strict=True))
    assert all(table.route(item.name) == Target("s", item.name) for item in listing)
    assert table.clashes == ()


def test_raw_over_several_servers_prefixes_only_what_collides_by_config_order() -> None:
    servers = {"b": items("search", "größe"), "a": items("search", "fetch")}
    table = show(servers, RAW)
    assert names(table) == {
        "search": ("b", "search"),
        "größe": ("b", "größe"),
        "a_search": ("a", "search"),
        "fetch": ("a", "fetch"),
    }
    assert table.clashes == (Clash("search", (Target("b", "search"), Target("a", "search"))),)
    arrived = build(Kind.TOOLS, {"b": PLAIN, "a": PLAIN}, dict(reversed(servers.items())), Naming(), RAW)
    assert arrived.entries == table.entries


def test_two_servers_that_prefix_to_one_name() -> None:
    """The one configured first keeps the name; the other's has a mark of server and tool."""
    table = show({"a": items("b_c"), "a_b": items("c")})
    (first, second) = table.entries
    assert (first.name, first.target) == ("a_b_c", Target("a", "b_c"))
    assert re.fullmatch("a_b_c_[a-z2-7]{8}", second.name)
    assert table.route(second.name) == Target("a_b", "c")

    (other,) = show({"a_b": items("c")}).entries
    assert other.name == "a_b_c"
    turned = show({"a_b": items("c"), "a": items("b_c")})
    assert turned.route("a_b_c") == Target("a_b", "c")


@pytest.mark.parametrize(
    ("collision", "shown"),
    [
        (Collision.FIRST, {"a_b_c": ("a", "b_c"), "x_y": ("x", "y")}),
        (Collision.LAST, {"a_b_c": ("a_b", "c"), "x_y": ("x", "y")}),
        (Collision.ERROR, {"x_y": ("x", "y")}),
    ],
)
def test_other_policies_hide_losers(collision: Collision, shown: dict[str, tuple[str, str]]) -> None:
    table = show({"a": items("b_c"), "a_b": items("c"), "x": items("y")}, collision=collision)
    assert names(table) == shown
    assert table.clashes == (Clash("a_b_c", (Target("a", "b_c"), Target("a_b", "c"))),)


def test_a_server_that_lists_in_another_order_names_nothing_else() -> None:
    view = {"s": rules(rename={"b": "a"})}
    for listing in (items("a", "b", "a.c", "a:c"), items("a:c", "a.c", "b", "a")):
        for mode in (RAW, PREFIXED):
            table = show({"s": listing}, mode, view)
            assert table.route("a" if mode is RAW else "s_a") == Target("s", "b")
            assert [entry.target.original for entry in table.entries] == [item.name for item in listing]
    assert names(show({"s": items("a", "b")}, RAW, view)) == {"a": ("s", "b"), "s_a": ("s", "a")}


# ---- properties of every table ---------------------------------------------------------------------------------------


@given(namespaces())
def test_names_are_unique_and_lead_back(namespace: Namespace) -> None:
    table = table_of(namespace)

    listed = {Target(server, item.name) for server, items in namespace.listings.items() for item in items}
    exposed = [entry.name for entry in table.entries]
    assert len(set(exposed)) == len(exposed)
    assert len({entry.target for entry in table.entries}) == len(exposed)
    assert {entry.target for entry in table.entries} <= listed
    for entry in table.entries:
        assert table.route(entry.name) == entry.target
    if all(not view.rules for view in namespace.views.values()) and namespace.naming.collision is Collision.PREFIX:
        assert len(exposed) == len(listed)


@given(namespaces(modes=st.just(PREFIXED)))
def test_prefixed_names_are_legal(namespace: Namespace) -> None:
    assert all(LEGAL.fullmatch(entry.name) for entry in table_of(namespace).entries)


@given(namespaces(others=strategies.json_objects))
def test_a_listing_says_what_the_table_routes_and_keeps_the_rest(namespace: Namespace) -> None:
    table = table_of(namespace)
    merged = namespace.mode is PREFIXED or len(namespace.views) > 1
    listed = {Target(server, item.name): item for server, items in namespace.listings.items() for item in items}

    assert table.items == tuple(entry.raw for entry in table.entries)
    for entry in table.entries:
        before, after = members_of(listed[entry.target].raw), members_of(entry.raw)
        assert json.loads(bytes(after["name"])) == entry.name
        assert {**after, "name": None, "_meta": None} == {**before, "name": None, "_meta": None}
        meta = json.loads(bytes(after.get("_meta", Raw(b"{}"))))
        assert not merged or meta[SERVER_META] == entry.target.server


@given(namespaces())
def test_entries_are_in_config_order(namespace: Namespace) -> None:
    order = list(namespace.views)
    places = [order.index(entry.target.server) for entry in table_of(namespace).entries]
    assert places == sorted(places)


stable = st.builds(Naming, collision=st.just(Collision.PREFIX))


@given(namespaces(namings=stable), strategies.server_names, listings())
def test_a_server_added_at_the_end_renames_nothing(
    namespace: Namespace, server: str, listing: tuple[Item, ...]
) -> None:
    before, known = table_of(namespace), dict(namespace.views)
    if server in known:
        return
    views, listed = {**known, server: PLAIN}, {**namespace.listings, server: listing}
    after = build(Kind.TOOLS, views, listed, namespace.naming, namespace.mode)
    assert {name: target for name, target in routes(after).items() if target.server != server} == routes(before)


def routes(table: Table) -> dict[str, Target]:
    return {entry.name: entry.target for entry in table.entries}


unambiguous = namespaces(
    servers=strategies.plain_names,
    names=strategies.plain_names | st.just("größe") | st.just("x" * 70),
    views=st.just(PLAIN),
    namings=stable,
    modes=st.just(PREFIXED),
)


@given(unambiguous, strategies.plain_names, listings(strategies.plain_names), st.integers(0, 4))
def test_with_prefixes_a_name_depends_on_server_and_tool_only(
    namespace: Namespace, server: str, listing: tuple[Item, ...], place: int
) -> None:
    """A server added at any place renames nothing, as long as no two pairs spell the same name."""
    order = [name for name in namespace.views if name != server]
    order.insert(place, server)
    listed = {**namespace.listings, server: listing}
    table = build(Kind.TOOLS, dict.fromkeys(order, PLAIN), listed, namespace.naming, PREFIXED)
    separator = namespace.naming.separator
    assert routes(table) == {
        legal(f"{name}{separator}{item.name}"): Target(name, item.name)
        for name in order
        for item in listed.get(name, ())
    }


@given(namespaces(views=st.just(PLAIN), namings=stable, modes=st.just(PREFIXED)), st.integers(0, 3))
def test_a_server_added_in_between_renames_only_what_spells_one_of_its_names(namespace: Namespace, place: int) -> None:
    server = list(namespace.views)[place % len(namespace.views)]
    without = {name: view for name, view in namespace.views.items() if name != server}
    before = routes(build(Kind.TOOLS, without, namespace.listings, namespace.naming, PREFIXED))

    spelled = {legal(f"{server}{namespace.naming.separator}{item.name}") for item in namespace.listings.get(server, ())}
    names = {entry.target: entry.name for entry in table_of(namespace).entries}
    for name, target in before.items():
        plain = legal(f"{target.server}{namespace.naming.separator}{target.original}")
        assert names.get(target) == name or plain in spelled


# ---- filters ---------------------------------------------------------------------------------------------------------


def test_patterns_match_the_original_and_the_exposed_name() -> None:
    servers = {"fs": items("read", "write", "admin_drop"), "db": items("read", "write")}
    deny = rules(deny=("admin_*", "fs_write"))
    assert list(names(show(servers, views={"fs": deny, "db": deny}))) == ["fs_read", "db_read", "db_write"]
    allow = rules(allow=("fs_*", "write"))
    assert list(names(show(servers, views={"fs": allow, "db": allow}))) == [
        "fs_read",
        "fs_write",
        "fs_admin_drop",
        "db_write",
    ]


def test_rename_comes_before_the_prefix_and_is_no_way_around_a_filter() -> None:
    view = rules(deny=("drop",), rename={"read": "open", "drop": "harmless"})
    table = show({"fs": items("read", "drop")}, views={"fs": view})
    assert names(table) == {"fs_open": ("fs", "read")}


def test_what_is_filtered_claims_no_name() -> None:
    servers = {"a": items("search"), "b": items("search")}
    table = show(servers, RAW, {"a": rules(deny=("search",))})
    assert names(table) == {"search": ("b", "search")}
    assert table.clashes == ()


def test_a_name_that_a_collision_gave_can_be_denied() -> None:
    servers = {"a": items("search"), "b": items("search")}
    table = show(servers, RAW, {"b": rules(deny=("b_search",))})
    assert names(table) == {"search": ("a", "search")}
    assert table.route("b-search") is None


@pytest.mark.parametrize("kind", [Kind.PROMPTS, Kind.RESOURCES, Kind.TEMPLATES])
def test_rules_are_for_tools_only(kind: Kind) -> None:
    view = rules(allow=(), rename={"n": "m"})
    assert show({"s": items("n", kind=kind)}, RAW, {"s": view}, kind=kind).route("n") == Target("s", "n")


@given(namespaces())
def test_what_is_denied_is_reached_by_no_name(namespace: Namespace) -> None:
    table = table_of(namespace)

    shown = {entry.target for entry in table.entries}
    moved = {target for clash in table.clashes for target in clash.targets}
    assert set(table._routes.values()) <= shown
    for entry in table.entries:
        for rule in namespace.views[entry.target.server].rules:
            denied, allowed = matcher(rule.deny), matcher(rule.allow)
            assert not denied(entry.target.original)
            assert not denied(entry.name)
            assert entry.target in moved or allowed(entry.target.original) or allowed(entry.name)


@given(namespaces(views=st.just(PLAIN)), strategies.rules)
def test_rules_only_ever_take_away(namespace: Namespace, rule: ToolRules) -> None:
    ruled = Namespace(
        dict.fromkeys(namespace.views, ServerView(rules=(ToolRules(rule.allow, rule.deny),))),
        namespace.listings,
        Naming(namespace.naming.mode, namespace.naming.separator),
        namespace.mode,
    )
    whole = Namespace(namespace.views, namespace.listings, ruled.naming, namespace.mode)
    assert {entry.target for entry in table_of(ruled).entries} <= {entry.target for entry in table_of(whole).entries}


# ---- aliases ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [RAW, PREFIXED])
def test_aliases(mode: NamingMode) -> None:
    view = {"time": ServerView(prefix="t", rules=(ToolRules(rename={"get": "now"}),))}
    table = show({"time": items("get"), "web": items("get")}, mode, view)
    for tool in ("get", "now"):
        for separator in ("-", "_", "__"):
            assert table.route(f"time{separator}{tool}") == Target("time", "get")
    assert table.route("web-get") == Target("web", "get")
    assert table.route("time.get") is None
    assert table.route("now") == (Target("time", "get") if mode is RAW else None)


def test_an_ambiguous_alias_means_nothing() -> None:
    table = show({"a": items("b-c", "b_c"), "a-b": items("c"), "a_b": items("c")})
    assert table.route("a-b-c") is None
    assert table.route("a_b_c") == Target("a", "b_c")
    assert table.route("a__b_c") == Target("a", "b_c")


def test_an_exposed_name_comes_before_the_only_meaning_of_an_alias() -> None:
    views = {"a": ServerView(prefix="x"), "x": ServerView(prefix="y")}
    table = show({"a": items("b"), "x": items("b")}, views=views)
    assert table.route("x_b") == Target("a", "b")
    assert table.route("x-b") == Target("x", "b")


def test_uris_have_no_aliases() -> None:
    table = show({"a": items("x:y", kind=Kind.RESOURCES)}, kind=Kind.RESOURCES)
    assert table.route("x:y") == Target("a", "x:y")
    assert table.route("a_x:y") is None


@given(namespaces(), st.sampled_from(["-", "_", "__"]))
def test_an_alias_means_what_it_says_or_an_exposed_name(namespace: Namespace, separator: str) -> None:
    table = table_of(namespace)
    exposed = routes(table)
    for entry in table.entries:
        alias = f"{entry.target.server}{separator}{entry.target.original}"
        found = table.route(alias)
        assert found == exposed[alias] if alias in exposed else found in (entry.target, None)


# ---- resources -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Kind.RESOURCES, Kind.TEMPLATES])
def test_uris_stay_as_they_are_unless_two_servers_collide(kind: Kind) -> None:
    table = show({"b": items("file:///{x}", kind=kind), "a": items("file:///{x}", "db://y", kind=kind)}, kind=kind)
    assert names(table) == {
        "file:///{x}": ("b", "file:///{x}"),
        "mcpgateway://a/file:///{x}": ("a", "file:///{x}"),
        "db://y": ("a", "db://y"),
    }


@given(namespaces(kind=Kind.RESOURCES, names=st.text("ab:/", max_size=3)))
def test_uris_are_unique_and_lead_back(namespace: Namespace) -> None:
    table = table_of(namespace, Kind.RESOURCES)
    assert len(routes(table)) == len(table.entries)
    for entry in table.entries:
        assert table.route(entry.name) == entry.target
        assert entry.name.endswith(entry.target.original)


# ---- rights ----------------------------------------------------------------------------------------------------------


@given(namespaces(), st.integers(0, 2**16))
def test_a_restricted_table_is_part_of_the_whole_under_the_same_names(namespace: Namespace, bits: int) -> None:
    whole = table_of(namespace)
    mine = {entry.target for place, entry in enumerate(whole.entries) if bits >> place & 1}
    part = whole.restrict(mine.__contains__)

    assert part.entries == tuple(entry for entry in whole.entries if entry.target in mine)
    for name, target in whole._routes.items():
        assert part.route(name) == (target if target in mine else None)
    assert all(set(clash.targets) <= mine for clash in part.clashes)


# ---- cost ------------------------------------------------------------------------------------------------------------


def test_a_thousand_tools_take_a_few_milliseconds() -> None:
    """Of the processor, whoever else has it meanwhile. The bound is wide; the point is that nothing is quadratic."""
    listing = {f"server{number}": items(*(f"tool_{tool}" for tool in range(250))) for number in range(16)}
    views = {server: rules(deny=("admin_*",), rename={"tool_1": "one"}) for server in listing}
    began = time.process_time()
    table = show(listing, views=views)
    assert time.process_time() - began < 1
    assert len(table.entries) == 4000
