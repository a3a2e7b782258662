"""The routing table of a namespace: from the names that clients see to servers and their own names.

A table is built from listings by pure rules, in this order: filter, rename, prefix, make legal, settle collisions.
It is immutable; a changed listing makes a new one. `Table.route` is one dict lookup.

Allow patterns see the original name and the exposed one, as it is before collisions. Deny patterns see these and the
name that a collision gave: what is shown under a denied name is not shown, and nobody else gets the name for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import attrs
from msgspec import Raw

from mcpgateway.catalog.items import Item, Kind, respell
from mcpgateway.catalog.naming import Claim, Clash, Target, assign, legal, name_spares, uri_spares
from mcpgateway.catalog.patterns import denies, permits
from mcpgateway.catalog.rules import Naming, NamingMode, ServerView, ToolRules

_ALIAS_SEPARATORS = ("-", "_", "__")


@attrs.frozen
class Entry:
    """One thing as clients see it. ``raw`` is the item with its name, and where merged its server, spliced in."""

    name: str
    target: Target
    raw: Raw


@attrs.frozen(eq=False)
class Table:
    """Everything of one kind that a namespace shows. Made by `build`."""

    kind: Kind
    entries: tuple[Entry, ...]
    """In config order, and within a server in the order of its listing."""
    clashes: tuple[Clash, ...]
    """Names that more than one wanted, for the log and for ``check``."""
    _routes: Mapping[str, Target] = attrs.field(repr=False)
    """Exposed names and aliases."""

    @property
    def items(self) -> tuple[Raw, ...]:
        """The merged listing."""
        return tuple(entry.raw for entry in self.entries)

    @property
    def fingerprint(self) -> int:
        """Equal for tables that list the same, as far as 64 bits tell; of no meaning outside this process."""
        return hash(b"\n".join(entry.raw for entry in self.entries))

    def route(self, name: str) -> Target | None:
        """What a name stands for: an exposed name, or else an unambiguous alias. 0.05 µs."""
        return self._routes.get(name)

    def restrict(self, allowed: Callable[[Target], bool]) -> Table:
        """The part of the table that a principal may use. Nothing has another name than in the whole table."""
        return Table(
            self.kind,
            tuple(entry for entry in self.entries if allowed(entry.target)),
            tuple(clash for clash in self.clashes if all(allowed(target) for target in clash.targets)),
            {name: target for name, target in self._routes.items() if allowed(target)},
        )


def build(
    kind: Kind,
    views: Mapping[str, ServerView],
    listings: Mapping[str, Sequence[Item]],
    naming: Naming,
    mode: NamingMode,
) -> Table:
    """Merge what the servers of a namespace list.

    ``views`` has every server of the namespace, in config order; ``listings`` has what those that answered list, in
    any order. (For a server that is away for a moment pass its last known listing: without it, names that others gave
    way to would move.) ``mode`` is ``naming.mode`` after `resolve_mode`. Rules apply to tools only, and only collisions
    change URIs. Takes 6 ms for 1000 tools.
    """
    merged = mode is not NamingMode.RAW or len(views) > 1
    spellings = {server: _Spelling.of(kind, server, view, naming, mode) for server, view in views.items()}
    claims = {
        server: {claim.target.original: claim for claim in spelling.claims(listings.get(server, ()))}
        for server, spelling in spellings.items()
    }
    assignment = assign((claim for of_server in claims.values() for claim in of_server.values()), naming.collision)
    entries = tuple(
        Entry(name, claim.target, respell(kind, item, name, server if merged else None))
        for server, spelling in spellings.items()
        for item in listings.get(server, ())
        if (claim := claims[server].get(item.name)) is not None
        and (name := assignment.names.get(claim.target)) is not None
        and (name == claim.name or not denies(spelling.rules, name))
    )
    routes = {entry.name: entry.target for entry in entries}
    aliases = _aliases(spellings, routes.values()) if kind.named else {}
    return Table(kind, entries, assignment.clashes, {**aliases, **routes})


@attrs.frozen
class _Spelling:
    """How one server's items are filtered and named, before collisions."""

    kind: Kind
    server: str
    prefix: str | None
    separator: str
    raw: bool
    rules: tuple[ToolRules, ...]
    renames: Mapping[str, str]

    @classmethod
    def of(cls, kind: Kind, server: str, view: ServerView, naming: Naming, mode: NamingMode) -> _Spelling:
        rules, renames = (view.rules, view.renames) if kind is Kind.TOOLS else ((), {})
        return cls(kind, server, view.prefix, naming.separator, mode is NamingMode.RAW, rules, renames)

    def claims(self, items: Iterable[Item]) -> Iterator[Claim]:
        """The claims of what passes the filter: names given by the configuration first, then by original name."""
        for original in sorted((item.name for item in items), key=lambda name: (name not in self.renames, name)):
            claim = self._claim(original)
            if permits(self.rules, original, claim.name):
                yield claim

    def _claim(self, original: str) -> Claim:
        target = Target(self.server, original)
        if not self.kind.named:
            return Claim(target, original, uri_spares(target))
        shown = self.shown(original)
        full = legal(f"{self.prefix or self.server}{self.separator}{shown}")
        return Claim(target, self._exposed(shown, full), name_spares(target, full))

    def _exposed(self, shown: str, full: str) -> str:
        if self.raw:
            return shown
        return legal(shown) if self.prefix == "" else full

    def shown(self, original: str) -> str:
        return self.renames.get(original, original)


def _aliases(spellings: Mapping[str, _Spelling], targets: Iterable[Target]) -> dict[str, Target]:
    """``server-tool``, ``server_tool`` and ``server__tool`` of what is shown, where they mean one thing only."""
    meanings: dict[str, Target | None] = {}
    for target in targets:
        for tool in {target.original, spellings[target.server].shown(target.original)}:
            for separator in _ALIAS_SEPARATORS:
                alias = f"{target.server}{separator}{tool}"
                meanings[alias] = target if meanings.get(alias, target) == target else None
    return {alias: target for alias, target in meanings.items() if target is not None}
