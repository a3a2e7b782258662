from __future__ import annotations

import json
from pathlib import Path

import attrs
from hypothesis import given
from hypothesis import strategies as st

from mcpgateway.catalog.rules import Collision, Naming, NamingMode, ToolRules
from mcpgateway.config.explain import describe
from mcpgateway.config.loading import from_value
from mcpgateway.config.model import (
    Config,
    HttpServer,
    InProcessServer,
    Isolation,
    Links,
    Listen,
    NamespaceConfig,
    ServerConfig,
    StdioServer,
)

names = st.from_regex(r"[a-z]{1,4}", fullmatch=True)
seconds = st.integers(1, 3600).map(float)
texts = st.text(st.sampled_from("ab$ {}é"), max_size=5)
rules = st.builds(ToolRules, st.just(("*",)), st.lists(texts, max_size=2).map(tuple))
links = st.builds(Links, st.integers(0, 3), st.none() | st.integers(3, 5), seconds, seconds)
common: dict[str, st.SearchStrategy[object]] = {
    "name": st.just(""),
    "enabled": st.booleans(),
    "isolation": st.sampled_from(Isolation),
    "links": links,
    "timeout": seconds,
    "tools": rules,
    "prefix": st.none() | texts,
}
servers: st.SearchStrategy[ServerConfig] = st.one_of(
    st.builds(StdioServer, command=names, args=st.lists(texts, max_size=2).map(tuple), **common),
    st.builds(HttpServer, url=names.map("https://{}/mcp".format), connect_timeout=seconds, **common),
    st.builds(InProcessServer, module=names.map("{}:server".format), **common),
)
namings = st.builds(Naming, st.sampled_from(NamingMode), st.sampled_from("_-"), st.sampled_from(Collision))


@st.composite
def configs(draw: st.DrawFn) -> Config:
    declared = draw(st.dictionaries(names, servers, min_size=1, max_size=3))
    namespace = NamespaceConfig("n", tuple(declared), naming=draw(namings), tools=draw(rules))
    return Config(
        listen=Listen(port=draw(st.integers(0, 65535))),
        state_dir=Path("/state"),
        servers={name: attrs.evolve(server, name=name) for name, server in declared.items()},
        namespaces=draw(st.sampled_from([{}, {"n": namespace}])),
        naming=draw(namings),
        expose_servers=draw(st.none() | st.booleans()),
        startup_wait=draw(seconds),
    )


@given(configs(), st.booleans())
def test_what_is_described_loads_again(config: Config, defaults: bool) -> None:
    described = describe(config, defaults=defaults)

    assert json.loads(json.dumps(described)) == described
    assert from_value(described).config == config


def test_defaults_are_left_out_unless_asked_for() -> None:
    config = Config(servers={"a": StdioServer("a", command="x")}, source="gateway.yaml")

    assert describe(config) == {"servers": {"a": {"type": "stdio", "command": "x"}}}
    everything = describe(config, defaults=True)
    assert everything.keys() == attrs.fields_dict(Config).keys() - {"source"}
    assert everything["startup_wait"] == "5s"
