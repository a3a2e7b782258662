"""The registry of server types: which class a server of the configuration becomes.

A third party brings its own transport with its own keys by registering a subclass of `ServerConfig`; the fields of the
class are the keys that the file may have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import attrs

from mcpgateway.config.document import Refused, did_you_mean, unexpected
from mcpgateway.config.model import (
    HttpServer,
    InProcessServer,
    ServerConfig,
    SseServer,
    StdioServer,
    WebSocketServer,
)

_Server = TypeVar("_Server", bound=type[ServerConfig])

_TYPES: dict[str, type[ServerConfig]] = {}
_TELLING: dict[str, type[ServerConfig]] = {}
_SCHEMES: dict[str, type[ServerConfig]] = {}

_ALIASES = {
    "http": "streamable-http",
    "streamablehttp": "streamable-http",
    "ws": "websocket",
    "local": "stdio",
    "inprocess": "in-process",
}


def register(cls: _Server, *, key: str | None = None, schemes: Sequence[str] = ()) -> _Server:
    """Make a server type known under ``cls.type``; usable as a class decorator.

    ``key`` is a key that gives the type away where the file does not name it, as ``command`` does for stdio; so do
    the ``schemes`` of a ``url``, in lower case.

    :raises ValueError: the type, the key or a scheme belongs to another class
    """
    for table, name in ((_TYPES, cls.type), (_TELLING, key), *((_SCHEMES, scheme) for scheme in schemes)):
        if name is not None and table.setdefault(name, cls) is not cls:
            raise ValueError(f"{name!r} is already registered by {table[name].__qualname__}")
    return cls


register(StdioServer, key="command")
register(HttpServer, key="url")
register(SseServer)
register(WebSocketServer, schemes=("ws", "wss"))
register(InProcessServer, key="module")


def choose(entry: Mapping[str, object]) -> type[ServerConfig]:
    """The class for one server of the configuration: its ``type``, or the key or URL that gives it away.

    :raises Refused: no type, an unknown one, or one that contradicts the keys
    """
    telling = {key: _told_by(key, entry[key]) for key in _TELLING if key in entry}
    if "type" in entry:
        cls = _named(entry["type"])
        strays = [key for key in telling if key not in attrs.fields_dict(cls)]
        if strays and len(strays) == len(telling):
            raise Refused(f"type {cls.type!r} does not agree with {_described(strays[0], telling)}")
        if not strays:
            return cls
    if not telling:
        hints = (f", not {key!r}{hint}" for key in entry if (hint := did_you_mean(key, list(_TELLING))))
        raise Refused(f"needs one of {', '.join(map(repr, _TELLING))}{next(hints, '')}", absent=True)
    if "type" in entry or len(set(telling.values())) > 1:
        raise Refused(f"has both {' and '.join(_described(key, telling) for key in telling)}: keep one")
    return next(iter(telling.values()))


def _told_by(key: str, value: object) -> type[ServerConfig]:
    """The class that a key gives away, or its value: that of ``url`` begins with a scheme."""
    scheme = value.partition("://")[0].lower() if key == "url" and isinstance(value, str) else ""
    return _SCHEMES.get(scheme) or _TELLING[key]


def _described(key: str, telling: Mapping[str, type[ServerConfig]]) -> str:
    return f"{key!r} (of a {telling[key].type} server)"


def _named(name: object) -> type[ServerConfig]:
    if not isinstance(name, str):
        raise unexpected("the name of a server type", name, key="type")
    folded = name.lower().replace("_", "").replace("-", "")
    cls = _TYPES.get(name) or _TYPES.get(_ALIASES.get(folded, folded))
    if cls is not None:
        return cls
    raise unexpected(f"one of {', '.join(map(repr, _TYPES))}", name, key="type")
