"""Recognition by shape; what the translations lead to is in the golden files."""

from __future__ import annotations

import pytest

from mcpgateway.config.dialects import Dialect, detect, translate
from mcpgateway.config.document import Invalid, from_value, plain, show

SERVER = {"command": "x"}


@pytest.mark.parametrize(
    ("value", "dialect", "mark"),
    [
        ({}, Dialect.CANONICAL, ""),
        ({"servers": {}}, Dialect.CANONICAL, "servers"),
        ({"servers": {"a": SERVER}, "upstreams": []}, Dialect.CANONICAL, "servers"),
        ({"namespaces": {"a": {"servers": []}}}, Dialect.CANONICAL, ""),
        ({"upstreams": [{"endpoint": "x"}]}, Dialect.CANONICAL, ""),
        ({"server": {"a": SERVER}}, Dialect.CANONICAL, ""),
        ({"Logging": {}}, Dialect.CANONICAL, ""),
        ({"mcpServers": {}}, Dialect.DESKTOP, "mcpServers"),
        ({"mcpServers": {}, "theme": "dark"}, Dialect.DESKTOP, "mcpServers"),
        ({"upstream": {}, "mcpServers": {}, "metrics": {}}, Dialect.BRIDGE, "upstream"),
        ({"upstreams": [{}, {"mcpServers": {}}], "logging": {}}, Dialect.BRIDGE, "upstreams[1].mcpServers"),
        ({"Upstreams": [{"MCPservers": {}}], "Comment": 1}, Dialect.BRIDGE, "Upstreams[0].MCPservers"),
        (
            {"upstreams": [{"mcpServers": {}}], "mcpServers": {}, "upstream": {}},
            Dialect.BRIDGE,
            "upstreams[0].mcpServers",
        ),
        ({"upstream": {}, "servers": []}, Dialect.BRIDGE, "upstream"),
        ({"server": {"port": 1}, "auth": {}}, Dialect.NAMESPACES, "server"),
        ({"namespaces": {"a": {"url": "x"}}, "database": {}}, Dialect.NAMESPACES, "namespaces['a'].url"),
        ({"servers": [], "pool": {}}, Dialect.POOLED, "servers"),
        ({"Bind": "x"}, Dialect.DEPLOYING, "Bind"),
        ({"a": SERVER, "b": {"url": "x"}}, Dialect.DEPLOYING, "a"),
    ],
)
def test_shapes(value: object, dialect: Dialect, mark: str) -> None:
    found, node = detect(from_value(value))

    assert (found, show(node.at)) == (dialect, mark)


@pytest.mark.parametrize(
    ("value", "both"),
    [
        ({"mcpServers": {}, "servers": {}}, ("'mcpServers'", "'servers'")),
        ({"mcpServers": {}, "listen": {}}, ("'mcpServers'", "'listen'")),
        ({"servers": [], "listen": {}}, ("'servers'", "'listen'")),
        ({"upstreams": [{"mcpServers": {}}], "listen": {}}, ("'upstreams[0].mcpServers'", "'listen'")),
        ({"upstream": {}, "servers": {}}, ("'upstream'", "'servers'")),
        ({"server": {"port": 1}, "servers": {}}, ("'server'", "'servers'")),
        ({"Bind": "x", "mcpServers": {}}, ("'Bind'", "'mcpServers'")),
    ],
)
def test_a_mix_is_refused_and_names_both(value: object, both: tuple[str, str]) -> None:
    with pytest.raises(Invalid) as caught:
        translate(from_value(value))

    message = caught.value.problems[0].text
    assert message.startswith("mixes ")
    assert all(name in message for name in both)


def test_desktop_keys_become_canonical_ones_and_keep_their_address() -> None:
    server = {"transport": "http", "httpUrl": "https://x", "disabled": True, "headers": {"A": "${env:B} ${input:c}"}}

    translation = translate(from_value({"mcpServers": {"a": server}}))

    assert plain(translation.root) == {
        "servers": {
            "a": {"type": "http", "url": "https://x", "enabled": False, "headers": {"A": "${B} ${input:c}"}},
        }
    }
    assert translation.root.entries["servers"].entries["a"].entries["url"].at == ("mcpServers", "a", "httpUrl")
    assert (translation.problems, translation.warnings) == ([], [])


def test_two_names_of_one_desktop_key_may_agree() -> None:
    server = {"url": "x", "serverUrl": "x", "disabled": False, "enabled": True}

    translation = translate(from_value({"mcpServers": {"a": server}}))

    assert plain(translation.root) == {"servers": {"a": {"url": "x", "enabled": True}}}
    assert translation.problems == []
