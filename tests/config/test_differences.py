"""What a reload has to do, found out by comparing two configurations."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpgateway.catalog.rules import Naming, ToolRules
from mcpgateway.config.differences import Differences, Fates, compare
from mcpgateway.config.model import (
    Config,
    HttpServer,
    Isolation,
    Links,
    NamespaceConfig,
    Secret,
    ServerConfig,
    StdioServer,
    UpstreamConfig,
)
from mcpgateway.config.plan import plans

A = StdioServer("a", command="a", env={"KEY": Secret("one")})
B = HttpServer("b", url="http://b/mcp", headers={"x": Secret("one")})


def config_of(*servers: ServerConfig, **keys: object) -> Config:
    return Config(servers={server.name: server for server in servers}, **keys)  # type: ignore[arg-type]  # as given


@pytest.mark.requirement("4.life.reload")
@pytest.mark.parametrize(
    "other",
    [
        attrs.evolve(A, command="b"),
        attrs.evolve(A, args=("x",)),
        attrs.evolve(A, env={"KEY": Secret("two")}),
        attrs.evolve(A, cwd=Path("/")),
        attrs.evolve(A, isolation=Isolation.EXCLUSIVE),
        attrs.evolve(A, links=Links(max=7)),
        attrs.evolve(A, timeout=1.0),
        HttpServer("a", url="http://a/mcp"),
    ],
    ids=["command", "args", "env", "cwd", "isolation", "links", "timeout", "type"],
)
def test_a_server_that_is_reached_in_another_way_is_changed(other: ServerConfig) -> None:
    found = compare(config_of(A, B), config_of(other, B))
    assert (found.changed, found.unchanged, found.renewed) == (("a",), ("b",), ("", "a"))


@pytest.mark.parametrize(
    ("other", "renewed"),
    [
        (attrs.evolve(A, description="new", title="new"), ()),
        (attrs.evolve(A, prefix="p"), ("", "a")),
        (attrs.evolve(A, tools=ToolRules(deny=("x",))), ("", "a")),
    ],
    ids=["description", "prefix", "tools"],
)
def test_a_server_that_is_shown_in_another_way_is_unchanged(other: ServerConfig, renewed: tuple[str, ...]) -> None:
    found = compare(config_of(A, B), config_of(other, B))
    assert (found.changed, found.unchanged, found.renewed) == ((), ("a", "b"), renewed)


def test_a_server_that_is_disabled_is_removed() -> None:
    found = compare(config_of(A, B), config_of(A, attrs.evolve(B, enabled=False)))
    assert (found.removed, found.gone, found.renewed) == (("b",), ("b",), ("",))
    back = compare(config_of(A, attrs.evolve(B, enabled=False)), config_of(A, B))
    assert (back.added, back.opened) == (("b",), ("b",))


@pytest.mark.parametrize(
    ("keys", "renewed"),
    [
        ({"naming": Naming(separator="-")}, ("",)),
        ({"page_size": 5}, ("", "a", "b")),
        ({"list_timeout": 5.5}, ("", "a", "b")),
        ({"startup_wait": 5.5}, ("", "a", "b")),
        ({"shutdown_timeout": 5.5}, ()),
        ({"insecure": True}, ()),
        ({"source": "elsewhere"}, ()),
    ],
)
def test_keys_of_the_gateway_concern_the_namespaces_that_use_them(
    keys: dict[str, object], renewed: tuple[str, ...]
) -> None:
    found = compare(config_of(A, B), config_of(A, B, **keys))
    assert (found.renewed, found.changed, found.fixed) == (renewed, (), ())


def test_namespaces_come_and_go_and_hide_the_implicit_ones() -> None:
    work = {"work": NamespaceConfig("work", ("a",))}
    found = compare(config_of(A, B), config_of(A, B, namespaces=work))
    assert (found.opened, found.gone, found.unchanged) == (("work",), ("", "a", "b"), ("a", "b"))


def test_the_order_of_servers_is_part_of_what_is_shown() -> None:
    assert compare(config_of(A, B), config_of(B, A)) == Differences(unchanged=("b", "a"), renewed=("",))


def test_what_cannot_change_while_it_runs_is_named() -> None:
    assert compare(config_of(), config_of(state_dir=Path("/elsewhere"))).fixed == ("state_dir",)


CLOUD = UpstreamConfig("cloud", Secret("wss://example.com/?token=one"))
OTHER = UpstreamConfig("other", Secret("wss://example.com/?token=two"), namespace="a")


@pytest.mark.parametrize(
    ("after", "fates"),
    [
        ((CLOUD, OTHER), Fates(unchanged=("cloud", "other"))),
        ((OTHER, CLOUD), Fates(unchanged=("other", "cloud"))),
        ((CLOUD,), Fates(removed=("other",), unchanged=("cloud",))),
        ((attrs.evolve(CLOUD, enabled=False), OTHER), Fates(removed=("cloud",), unchanged=("other",))),
        (
            (attrs.evolve(CLOUD, endpoint=Secret("wss://example.com/?token=new")), OTHER),
            Fates((), ("cloud",), (), ("other",)),
        ),
        ((attrs.evolve(CLOUD, name="new"), OTHER), Fates(("new",), (), ("cloud",), ("other",))),
        ((CLOUD, attrs.evolve(OTHER, namespace="")), Fates((), ("other",), (), ("cloud",))),
    ],
    ids=["same", "order", "removed", "disabled", "token", "renamed", "namespace"],
)
def test_an_upstream_is_compared_by_value_and_the_others_are_left_alone(
    after: tuple[UpstreamConfig, ...], fates: Fates
) -> None:
    found = compare(config_of(A, upstreams=(CLOUD, OTHER)), config_of(A, upstreams=after))

    assert found == Differences(unchanged=("a",), upstreams=fates)


@pytest.mark.parametrize(
    ("differences", "said"),
    [
        (
            Differences(unchanged=("a",), upstreams=Fates(("x",), ("y", "z"), unchanged=("c",))),
            "1 server unchanged; 1 upstream added (x), 2 changed (y, z), 1 unchanged",
        ),
        (Differences(upstreams=Fates(removed=("x", "y"))), "no servers; 2 upstreams removed (x, y)"),
        (Differences(), "no servers"),
        (Differences(unchanged=("a",)), "1 server unchanged"),
        (Differences(unchanged=("a", "b")), "2 servers unchanged"),
        (
            Differences(added=("x",), changed=("y",), unchanged=tuple("abcdefg")),
            "1 server added (x), 1 changed (y), 7 unchanged",
        ),
        (Differences(added=("x", "y"), removed=("z",)), "2 servers added (x, y), 1 removed (z)"),
    ],
)
def test_the_log_says_what_was_done(differences: Differences, said: str) -> None:
    assert str(differences) == said


SERVERS = st.dictionaries(
    st.sampled_from("abcd"), st.tuples(st.sampled_from("xy"), st.sampled_from(["", "p"]), st.booleans()), max_size=4
)
CONFIGS = st.builds(
    lambda servers, separator: config_of(
        *(StdioServer(name, command=at, prefix=prefix, enabled=on) for name, (at, prefix, on) in servers.items()),
        naming=Naming(separator=separator),
    ),
    SERVERS,
    st.sampled_from("_-"),
)


@given(before=CONFIGS, after=CONFIGS)
def test_every_server_and_namespace_has_one_fate_and_the_way_back_is_the_mirror_image(
    before: Config, after: Config
) -> None:
    found, back = compare(before, after), compare(after, before)
    now = [name for name, server in after.servers.items() if server.enabled]
    assert sorted([*found.added, *found.changed, *found.unchanged]) == sorted(now)
    assert {*found.opened, *found.renewed} <= {*plans(after)}
    assert {*found.gone} == {*plans(before)} - {*plans(after)}
    for one, other in (("added", "removed"), ("opened", "gone"), ("changed", "changed"), ("renewed", "renewed")):
        assert sorted(getattr(found, one)) == sorted(getattr(back, other))
    same = compare(before, before)
    assert same == Differences(unchanged=same.unchanged)
