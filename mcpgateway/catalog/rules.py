"""What a namespace says about names: the values that configuration and catalogue share."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import attrs


class NamingMode(enum.Enum):
    AUTO = "auto"
    PREFIXED = "prefixed"
    RAW = "raw"


class Collision(enum.Enum):
    """Which of two tools with one name keeps it."""

    PREFIX = "prefix"
    """The first in config order; the others get a name of their own."""
    FIRST = "first"
    """The first in config order; the others are not shown."""
    LAST = "last"
    """The last in config order; the others are not shown."""
    ERROR = "error"
    """None: no tool of that name is shown, and the collision is reported."""


@attrs.frozen
class Naming:
    mode: NamingMode = NamingMode.AUTO
    separator: str = "_"
    """One to four characters of ``A-Za-z0-9_-``, between server and tool."""
    collision: Collision = Collision.PREFIX


@attrs.frozen
class ToolRules:
    """Which tools there are, and under which names. Patterns are names or globs; deny wins over allow."""

    allow: tuple[str, ...] = ("*",)
    deny: tuple[str, ...] = ()
    rename: Mapping[str, str] = attrs.field(factory=dict)
    """Original name to the name shown instead."""


@attrs.frozen
class ServerView:
    """How one server is shown in one namespace."""

    prefix: str | None = None
    """What stands before the separator; ``None``: the server's name; empty: nothing, and no separator."""
    rules: tuple[ToolRules, ...] = ()
    """The server's own rules, then the namespace's. A tool has to pass all of them; of two new names for one tool the
    later rule's counts."""

    @property
    def renames(self) -> Mapping[str, str]:
        return {original: shown for rule in self.rules for original, shown in rule.rename.items()}


def resolve_mode(mode: NamingMode, *, configured: bool, servers: int) -> NamingMode:
    """`NamingMode.RAW` or `NamingMode.PREFIXED` for a namespace of so many servers.

    ``configured`` says that the namespace was made for just these servers: one from the configuration, or the implicit
    one of a single server (``/mcp/{server}``). The implicit one of all servers is not, and so stays prefixed when there
    is only one, because the next server must not rename its tools.
    """
    if mode is not NamingMode.AUTO:
        return mode
    return NamingMode.RAW if configured and servers == 1 else NamingMode.PREFIXED
