"""What servers list: tools, prompts, resources and resource templates, one level deep and otherwise raw."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final

import attrs
import msgspec
from msgspec import Raw

from mcpgateway.errors import InvalidParams
from mcpgateway.jsonrpc import members_of, raw_of

SERVER_META: Final = "io.github.mcpgateway/server"
"""The member of ``_meta`` that names the server in merged namespaces."""


class Kind(enum.Enum):
    """What is listed. The value is the member of the list result that holds the items (MCP, ``*/list``)."""

    TOOLS = "tools"
    PROMPTS = "prompts"
    RESOURCES = "resources"
    TEMPLATES = "resourceTemplates"

    @property
    def key(self) -> str:
        """The member by which an item is told from others and asked for."""
        return _KEYS[self]

    @property
    def named(self) -> bool:
        """Whether items have names, which are prefixed and made legal, rather than URIs, which are not."""
        return self.key == "name"


_KEYS = {Kind.TOOLS: "name", Kind.PROMPTS: "name", Kind.RESOURCES: "uri", Kind.TEMPLATES: "uriTemplate"}


@attrs.frozen
class Item:
    """One listed thing: the server's own name (or URI) for it, and all that the server said about it.

    ``raw`` is a slice of the listing it came in and keeps that alive.
    """

    name: str
    raw: Raw


def read(kind: Kind, listing: Iterable[Raw]) -> tuple[Item, ...]:
    """The items of a server's listing, all pages of it, in its order.

    What cannot be asked for is left out: an entry without a name, and one whose name was there before (servers whose
    list changes between two pages repeat themselves). 0.8 µs an item.
    """
    items: dict[str, Item] = {}
    for raw in listing:
        name = _name(kind, raw)
        if name is not None and name not in items:
            items[name] = Item(name, raw)
    return tuple(items.values())


def _name(kind: Kind, raw: Raw) -> str | None:
    try:
        return _decode_name(members_of(raw)[kind.key])
    except (KeyError, InvalidParams, msgspec.DecodeError):
        return None


_decode_name = msgspec.json.Decoder(str).decode


def respell(kind: Kind, item: Item, name: str, server: str | None) -> Raw:
    """The item under another name and, where ``server`` is given, with it named in ``_meta``.

    All other members keep their bytes and their order; an item that does not change is the very same bytes.
    """
    if name == item.name and server is None:
        return item.raw
    members = members_of(item.raw)
    if name != item.name:
        members[kind.key] = raw_of(name)
    if server is not None:
        members["_meta"] = _stamped(members.get("_meta"), server)
    return raw_of(members)


def _stamped(meta: Raw | None, server: str) -> Raw:
    """``_meta`` with the server's name; one that is not an object is the server's mistake and passes as it is."""
    try:
        members = members_of(meta)
    except InvalidParams:
        assert meta is not None
        return meta
    members[SERVER_META] = raw_of(server)
    return raw_of(members)
