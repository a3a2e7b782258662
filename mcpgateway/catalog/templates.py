"""Which server reads a resource that nobody listed.

Servers with resource templates, and those with more resources than they list, read URIs that are in no listing. Such a
URI goes to the server whose template begins like it: the literal part before the first expression (RFC 6570 §2) is
compared, and the longest one wins; of equal ones the first in config order. That is coarser than expanding the
template, and enough: the server checks the rest, and refuses what is not its own.
"""

from __future__ import annotations

import attrs

from mcpgateway.catalog.naming import Target
from mcpgateway.catalog.table import Table


@attrs.frozen
class _Route:
    literal: str
    """The template up to its first expression."""
    whole: bool
    """The template has no expression and stands for one URI."""
    server: str
    added: int
    """How many characters of the exposed template a collision has put before the server's own."""

    def matches(self, uri: str) -> bool:
        return uri == self.literal if self.whole else uri.startswith(self.literal)


@attrs.frozen(eq=False)
class TemplateRoutes:
    """Made by `template_routes` from the table of a namespace's resource templates."""

    _routes: tuple[_Route, ...]

    def route(self, uri: str) -> Target | None:
        """The server to ask, and the URI in that server's own words; ``None`` where no template begins like it."""
        for route in self._routes:
            if route.matches(uri):
                return Target(route.server, uri[route.added :])
        return None


def template_routes(table: Table) -> TemplateRoutes:
    """The routes of a table of `Kind.TEMPLATES`, longest literal part first."""
    routes = (_route(entry.name, entry.target) for entry in table.entries)
    return TemplateRoutes(tuple(sorted(routes, key=lambda route: len(route.literal), reverse=True)))


def _route(exposed: str, target: Target) -> _Route:
    literal, brace, _ = exposed.partition("{")
    return _Route(literal, not brace, target.server, len(exposed) - len(target.original))
