import json

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mcpgateway.catalog.items import Kind, read
from mcpgateway.catalog.naming import Target
from mcpgateway.catalog.rules import Naming, NamingMode, ServerView
from mcpgateway.catalog.table import build
from mcpgateway.catalog.templates import TemplateRoutes, template_routes


def routes_of(**servers: list[str]) -> TemplateRoutes:
    listings = {
        server: read(Kind.TEMPLATES, [Raw(json.dumps({"uriTemplate": uri}).encode()) for uri in templates])
        for server, templates in servers.items()
    }
    views = dict.fromkeys(servers, ServerView())
    return template_routes(build(Kind.TEMPLATES, views, listings, Naming(), NamingMode.PREFIXED))


def test_the_longest_literal_part_wins() -> None:
    routes = routes_of(files=["file:///{+path}"], logs=["file:///var/log/{name}"], all=["{+uri}"])
    assert routes.route("file:///etc/hosts") == Target("files", "file:///etc/hosts")
    assert routes.route("file:///var/log/syslog") == Target("logs", "file:///var/log/syslog")
    assert routes.route("https://example.com/") == Target("all", "https://example.com/")


def test_of_equal_ones_the_first_in_config_order_wins() -> None:
    routes = routes_of(b=["db://{table}"], a=["db://{row}"])
    assert routes.route("db://users") == Target("b", "db://users")


def test_a_template_without_an_expression_stands_for_one_uri() -> None:
    routes = routes_of(a=["config://main"])
    assert routes.route("config://main") == Target("a", "config://main")
    assert routes.route("config://main/sub") is None


def test_what_begins_like_none_goes_nowhere() -> None:
    assert routes_of(a=["db://{table}"]).route("file:///x") is None
    assert routes_of().route("file:///x") is None


def test_a_template_that_two_servers_list_reaches_both() -> None:
    routes = routes_of(a=["file:///{path}"], b=["file:///{path}"])
    assert routes.route("file:///x") == Target("a", "file:///x")
    assert routes.route("mcpgateway://b/file:///x") == Target("b", "file:///x")


@given(st.text("abc/:", max_size=6), st.text("abc/:", max_size=6))
def test_what_is_expanded_from_a_template_comes_back(literal: str, value: str) -> None:
    routes = routes_of(a=[literal + "{value}"], b=[literal + "{value}"])
    assert routes.route(literal + value) == Target("a", literal + value)
    assert routes.route(f"mcpgateway://b/{literal}{value}") == Target("b", literal + value)
