"""The registry of server types, with a type as a third party brings it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import attrs
import pytest

from mcpgateway.config import adapters
from mcpgateway.config.explain import describe
from mcpgateway.config.loading import from_value
from mcpgateway.config.model import Secret, ServerConfig, StdioServer
from mcpgateway.durations import Seconds
from mcpgateway.errors import ConfigError


@attrs.frozen
class Socket:
    path: str
    mode: int = 0o600


@attrs.frozen
class PigeonServer(ServerConfig):
    type: ClassVar[str] = "pigeon"

    loft: str = attrs.field(kw_only=True)
    rest: Seconds = attrs.field(default=5.0, kw_only=True)
    weight: float = attrs.field(default=0.5, kw_only=True, validator=attrs.validators.gt(0.0))
    credentials: Mapping[str, Secret] = attrs.field(factory=dict, kw_only=True)
    socket: Socket | None = attrs.field(default=None, kw_only=True)
    url: str | None = attrs.field(default=None, kw_only=True)


@pytest.fixture(autouse=True)
def pigeons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "_TYPES", dict(adapters._TYPES))
    monkeypatch.setattr(adapters, "_TELLING", dict(adapters._TELLING))
    monkeypatch.setattr(adapters, "_SCHEMES", dict(adapters._SCHEMES))
    adapters.register(PigeonServer, key="loft", schemes=["coo"])


def servers(entry: dict[str, object]) -> Mapping[str, ServerConfig]:
    return from_value({"servers": {"a": entry}}).config.servers


def problems(entry: dict[str, object]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        servers(entry)
    return caught.value.problems


@pytest.mark.parametrize("type", [{}, {"type": "pigeon"}])
def test_a_type_with_keys_of_its_own(type: dict[str, object]) -> None:
    entry = {"loft": "roof", "rest": "1m", "weight": 1, "socket": {"path": "x"}, "credentials": {"ring": "hidden"}}

    found = servers(type | entry)

    assert found == {
        "a": PigeonServer(
            "a", loft="roof", rest=60.0, weight=1.0, socket=Socket("x"), credentials={"ring": Secret("hidden")}
        )
    }


def test_its_keys_are_described_and_its_secrets_are_not() -> None:
    loaded = from_value({"servers": {"a": {"loft": "roof", "rest": "1m", "credentials": {"ring": "hidden"}}}})

    assert describe(loaded.config) == {
        "servers": {"a": {"type": "pigeon", "loft": "roof", "rest": "1m0s", "credentials": {"ring": "***"}}}
    }


def test_its_keys_are_as_strict_as_ours() -> None:
    entry: dict[str, object] = {"loft": "roof", "rest": None, "weight": "1", "socket": {"mode": "x"}, "wieght": 1}

    assert sorted(problems(entry)) == [
        "configuration: servers['a'].rest: expected a duration such as \"30s\", got nothing",
        "configuration: servers['a'].socket.mode: expected a whole number, got 'x'",
        "configuration: servers['a'].socket: missing key 'path'",
        "configuration: servers['a'].weight: expected a number, got '1'",
        "configuration: servers['a']: unknown key 'wieght' (did you mean 'weight'?)",
    ]


def test_its_own_validators_speak_for_themselves() -> None:
    assert problems({"loft": "roof", "weight": -1}) == ["configuration: servers['a']: 'weight' must be > 0.0: -1.0"]


def test_a_key_of_another_type_is_no_contradiction_where_the_class_has_it() -> None:
    found = servers({"type": "pigeon", "loft": "roof", "url": "coo://"})

    assert found == {"a": PigeonServer("a", loft="roof", url="coo://")}


def test_a_type_and_a_key_belong_to_one_class() -> None:
    @attrs.frozen
    class Other(ServerConfig):
        type: ClassVar[str] = "pigeon"

    @attrs.frozen
    class Another(ServerConfig):
        type: ClassVar[str] = "another"

    with pytest.raises(ValueError, match="'pigeon' is already registered by PigeonServer"):
        adapters.register(Other)
    with pytest.raises(ValueError, match="'command' is already registered by StdioServer"):
        adapters.register(Another, key="command")
    with pytest.raises(ValueError, match="'ws' is already registered by WebSocketServer"):
        adapters.register(Another, schemes=["ws"])
    assert adapters.register(PigeonServer, key="loft") is PigeonServer


def test_the_scheme_of_a_url_tells_a_type() -> None:
    found = servers({"url": "COO://roof", "loft": "roof"})

    assert found == {"a": PigeonServer("a", loft="roof", url="COO://roof")}


@pytest.mark.parametrize(
    "type", ["http", "HTTP", "streamablehttp", "streamableHttp", "streamable-http", "streamable_http"]
)
def test_names_of_streamable_http(type: str) -> None:
    assert servers({"type": type, "url": "https://example.com"})["a"].type == "streamable-http"


@pytest.mark.parametrize("type", ["ws", "WS", "websocket", "WebSocket", "web-socket"])
def test_names_of_websocket(type: str) -> None:
    assert servers({"type": type, "url": "ws://example.com"})["a"].type == "websocket"


@pytest.mark.parametrize("url", ["ws://example.com", "WSS://example.com/x"])
def test_a_websocket_is_told_by_its_url(url: str) -> None:
    assert servers({"url": url})["a"].type == "websocket"


def test_local_is_stdio() -> None:
    assert servers({"type": "local", "command": "x"}) == {"a": StdioServer("a", command="x")}
