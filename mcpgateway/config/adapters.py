"""The registry of server types: which class a server of the configuration becomes.

A third party brings its own transport with its own keys by registering a subclass of `ServerConfig`; the fields of the
class are the keys that the file may have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import attrs

from mcpgateway.config.document import Refused, unexpected
from mcpgateway.config.model import HttpServer, InProcessServer, ServerConfig, StdioServer

_Server = TypeVar("_Server", bound=type[ServerConfig])

_TYPES: dict[str, type[ServerConfig]] = {}
_TELLING: dict[str, type[ServerConfig]] = {}

_ALIASES = {"http": "streamable-http", "streamablehttp": "streamable-http", "local": "stdio", "inprocess": "in-process"}
_NOT_YET = {"sse", "websocket", "ws"}


def register(cls: _Server, *, key: str | None = None) -> _Server:
    """Make a server type known under ``cls.type``; usable as a class decorator.

    ``key`` is a key that gives the type away where the file does not name it, as ``command`` does for stdio.

    :raises ValueError: the type, or the key, belongs to another class
    """
    for table, name in (_TYPES, cls.type), (_TELLING, key):
        if name is not None and table.setdefault(name, cls) is not cls:
            raise ValueError(f"{name!r} is already registered by {table[name].__qualname__}")
    return cls


register(StdioServer, key="command")
register(HttpServer, key="url")
register(InProcessServer, key="module")


def choose(entry: Mapping[str, object]) -> type[ServerConfig]:
    """The class for one server of the configuration: its ``type``, or the key that gives it away.

    :raises Refused: no type, an unknown one, or one that contradicts the keys
    """
    telling = [key for key in _TELLING if key in entry]
    if "type" in entry:
        cls = _named(entry["type"])
        strays = [key for key in telling if key not in attrs.fields_dict(cls)]
        if strays and strays == telling:
            raise Refused(f"type {cls.type!r} does not agree with {_described(strays[0])}")
        if not strays:
            return cls
    if not telling:
        raise Refused(f"needs one of {', '.join(map(repr, _TELLING))}", absent=True)
    if len(telling) > 1:
        raise Refused(f"has both {' and '.join(map(_described, telling))}: keep one")
    return _TELLING[telling[0]]


def _described(key: str) -> str:
    return f"{key!r} (of a {_TELLING[key].type} server)"


def _named(name: object) -> type[ServerConfig]:
    if not isinstance(name, str):
        raise unexpected("the name of a server type", name, key="type")
    folded = name.lower().replace("_", "").replace("-", "")
    cls = _TYPES.get(name) or _TYPES.get(_ALIASES.get(folded, ""))
    if cls is not None:
        return cls
    if folded in _NOT_YET:
        raise Refused(f"{name!r} is not supported by this version yet", key="type")
    raise unexpected(f"one of {', '.join(map(repr, _TYPES))}", name, key="type")
