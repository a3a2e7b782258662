from hypothesis import given
from hypothesis import strategies as st

from mcpgateway.catalog.direct import direct
from mcpgateway.catalog.items import Item, Kind
from mcpgateway.catalog.naming import Target
from mcpgateway.catalog.rules import Naming, NamingMode, ServerView, ToolRules
from mcpgateway.catalog.table import build
from tests.strategies import listings, tool_names, views


def view(**rules: object) -> ServerView:
    return ServerView(rules=(ToolRules(**rules),))  # type: ignore[arg-type]  # shorthand of these tests


def test_a_name_given_to_a_hidden_tool_is_free_for_its_own() -> None:
    table = direct("s", view(deny=("drop",), rename={"drop": "show"}))
    assert table.route("show") == Target("s", "show")


@given(tool_names)
def test_without_rules_every_name_is_the_servers_own(name: str) -> None:
    assert direct("s", ServerView()).route(name) == Target("s", name)


def test_rules_apply_to_what_nobody_listed() -> None:
    table = direct("s", view(allow=("get_*", "show"), deny=("get_secret",), rename={"list": "show", "old": "get_new"}))

    assert table.route("get_time") == Target("s", "get_time")
    assert table.route("show") == Target("s", "list")
    assert table.route("get_new") == Target("s", "old")
    for hidden in ("get_secret", "list", "old", "other"):
        assert table.route(hidden) is None


def test_a_denied_original_stays_denied_under_its_new_name() -> None:
    table = direct("s", view(deny=("drop",), rename={"drop": "harmless"}))
    assert table.route("drop") is None
    assert table.route("harmless") == Target("s", "harmless")


def test_two_tools_may_swap_their_names() -> None:
    table = direct("s", view(rename={"a": "b", "b": "a"}))
    assert table.route("a") == Target("s", "b")
    assert table.route("b") == Target("s", "a")


@given(views, listings(), tool_names)
def test_it_agrees_with_every_table(view: ServerView, listing: tuple[Item, ...], name: str) -> None:
    table = build(Kind.TOOLS, {"s": view}, {"s": listing}, Naming(), NamingMode.RAW)
    routes = direct("s", view)

    listed = {item.name for item in listing}
    moved = {target for clash in table.clashes for target in clash.targets}
    given_in_vain = {shown for original, shown in view.renames.items() if original not in listed}
    for entry in table.entries:
        if entry.target not in moved and entry.name not in given_in_vain:
            assert routes.route(entry.name) == entry.target
    hidden = listed - {entry.target.original for entry in table.entries}
    found = routes.route(name)
    assert found is None or found.original not in hidden


@given(views, st.lists(tool_names, max_size=5))
def test_a_tool_has_one_name_at_most(view: ServerView, names: list[str]) -> None:
    routes = direct("s", view)
    asked = {*names, *view.renames, *view.renames.values()}
    found = [target for name in asked if (target := routes.route(name)) is not None]
    assert len(set(found)) == len(found)
