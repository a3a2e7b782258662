"""What differs between the configuration that runs and the next one, and so what a reload has to do. Pure.

Configurations are compared by value. Servers are compared as they are reached: how their tools are shown is a matter of
the namespaces, and costs no server its links.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import attrs

from mcpgateway.catalog.rules import ToolRules
from mcpgateway.config.model import Config, ServerConfig
from mcpgateway.config.plan import dialled, enabled, plans

FIXED: Final = ("login_shell", "state_dir")
"""Keys that take effect at the next start."""


@attrs.frozen
class Fates:
    """What becomes of the things of one kind, each as names in config order."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()


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
    upstreams: Fates = Fates()
    """Upstreams to dial, to dial in another way, to leave and to leave alone."""

    def __str__(self) -> str:
        """For the log: ``1 server added (x), 1 changed (y), 7 unchanged; 1 upstream unchanged``."""
        servers = Fates(self.added, self.changed, self.removed, self.unchanged)
        return "; ".join([", ".join(_counted("server", servers)) or "no servers", *_told(self.upstreams)])


def compare(before: Config, after: Config) -> Differences:
    """What has to be done to get from one configuration to another."""
    servers = _fates(
        {name: _reached(server) for name, server in enabled(before).items()},
        {name: _reached(server) for name, server in enabled(after).items()},
    )
    were, will_be = plans(before), plans(after)
    return Differences(
        servers.added,
        servers.changed,
        servers.removed,
        servers.unchanged,
        renewed=tuple(
            name
            for name, plan in will_be.items()
            if name in were and (plan != were[name] or not {*servers.changed}.isdisjoint(plan.servers))
        ),
        opened=tuple(name for name in will_be if name not in were),
        gone=tuple(name for name in were if name not in will_be),
        fixed=tuple(key for key in FIXED if getattr(before, key) != getattr(after, key)),
        upstreams=_fates(dialled(before), dialled(after)),
    )


def _fates(before: Mapping[str, object], after: Mapping[str, object]) -> Fates:
    return Fates(
        added=tuple(name for name in after if name not in before),
        changed=tuple(name for name in after if name in before and after[name] != before[name]),
        removed=tuple(name for name in before if name not in after),
        unchanged=tuple(name for name in after if name in before and after[name] == before[name]),
    )


def _reached(server: ServerConfig) -> ServerConfig:
    """A server as far as its links are concerned."""
    return attrs.evolve(server, description="", title="", prefix=None, tools=ToolRules())


# ---- for the log -----------------------------------------------------------------------------------------------------


def _told(upstreams: Fates) -> Iterator[str]:
    if upstreams != Fates():
        yield ", ".join(_counted("upstream", upstreams))


def _counted(noun: str, fates: Fates) -> Iterator[str]:
    """``1 server added (x)``, ``2 removed (y, z)``, ``7 unchanged``: the first one says of what."""
    for what, names in attrs.asdict(fates, recurse=False).items():
        if names:
            listed = "" if what == "unchanged" else f" ({', '.join(names)})"
            things = f" {noun}{'' if len(names) == 1 else 's'}" if noun else ""
            yield f"{len(names)}{things} {what}{listed}"
            noun = ""
