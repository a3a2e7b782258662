"""Routing without a listing: a raw namespace of one server.

The names are the server's own, so that a call can go through before, or without, anything was ever listed: an unknown
tool is the server's to refuse. Only filters and new names have to be looked at, and both are known from the rules.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from mcpgateway.catalog.naming import Target
from mcpgateway.catalog.patterns import permits
from mcpgateway.catalog.rules import ServerView, ToolRules


@attrs.frozen(eq=False)
class Direct:
    """The tools of a raw namespace of one server, none of which is known. Made by `direct`.

    Agrees with the `Table` of any listing on every name that this table shows, but for two things that only a listing
    tells: that two of the server's names clash, and that a tool which was given a new name does not exist.
    """

    server: str
    _rules: tuple[ToolRules, ...]
    _renames: Mapping[str, str]
    _originals: Mapping[str, tuple[str, ...]]
    """New name to the tools that it was given to, in the order of their claims."""

    def route(self, name: str) -> Target | None:
        """What a tool's name stands for; ``None`` where a rule hides it, or shows it under another name."""
        candidates = self._originals.get(name, ())
        if self._renames.get(name, name) == name:
            candidates = (*candidates, name)
        return next((Target(self.server, tool) for tool in candidates if permits(self._rules, tool, name)), None)


def direct(server: str, view: ServerView) -> Direct:
    """The routes of a server in a raw namespace of its own."""
    originals: dict[str, tuple[str, ...]] = {}
    for original, shown in sorted(view.renames.items()):
        originals[shown] = (*originals.get(shown, ()), original)
    return Direct(server, view.rules, view.renames, originals)
