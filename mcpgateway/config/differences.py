"""What differs between the configuration that runs and the next one, and so what a reload has to do. Pure.

Configurations are compared by value. Servers are compared as they are reached: how their tools are shown is a matter of
the namespaces, and costs no server its links.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

from mcpgateway.catalog.rules import ToolRules
from mcpgateway.config.model import Config, ServerConfig
from mcpgateway.config.plan import enabled, plans

FIXED: Final = ("login_shell", "state_dir")
"""Keys that take effect at the next start."""


@attrs.frozen
class Differences:
    """What a reload does, each as names in config order."""

    added: tuple[str, ...] = ()
    """Servers to start."""
    changed: tuple[str, ...] = ()
    """Servers to be reached in another way."""
    removed: tuple[str, ...] = ()
    """Servers to drain and stop."""
    unchanged: tuple[str, ...] = ()
    """Servers that keep running as they are."""
    renewed: tuple[str, ...] = ()
    """Namespaces that there are before and after, and that show something else, or may."""
    opened: tuple[str, ...] = ()
    """Namespaces that there were not."""
    gone: tuple[str, ...] = ()
    """Namespaces that there are no more."""
    fixed: tuple[str, ...] = ()
    """Keys that differ and have no effect before the next start."""

    def __str__(self) -> str:
        """For the log: ``1 server added (x), 1 changed (y), 7 unchanged``."""
        return ", ".join(_counted(self)) or "no servers"


def compare(before: Config, after: Config) -> Differences:
    """What has to be done to get from one configuration to another."""
    old, new = enabled(before), enabled(after)
    shared = [name for name in new if name in old]
    changed = tuple(name for name in shared if _reached(old[name]) != _reached(new[name]))
    were, will_be = plans(before), plans(after)
    return Differences(
        added=tuple(name for name in new if name not in old),
        changed=changed,
        removed=tuple(name for name in old if name not in new),
        unchanged=tuple(name for name in shared if name not in changed),
        renewed=tuple(
            name
            for name, plan in will_be.items()
            if name in were and (plan != were[name] or not {*changed}.isdisjoint(plan.servers))
        ),
        opened=tuple(name for name in will_be if name not in were),
        gone=tuple(name for name in were if name not in will_be),
        fixed=tuple(key for key in FIXED if getattr(before, key) != getattr(after, key)),
    )


def _reached(server: ServerConfig) -> ServerConfig:
    """A server as far as its links are concerned."""
    return attrs.evolve(server, description="", prefix=None, tools=ToolRules())


def _counted(differences: Differences) -> Iterator[str]:
    noun = "server "
    for what in "added", "changed", "removed", "unchanged":
        names = getattr(differences, what)
        if names:
            listed = "" if what == "unchanged" else f" ({', '.join(names)})"
            yield f"{len(names)} {noun if len(names) == 1 or not noun else 'servers '}{what}{listed}"
            noun = ""
