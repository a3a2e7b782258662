"""What the contract is made of: the adapter under test, and the table of rules.

The rules themselves are in `mcpgateway.testing.link_rules` and `mcpgateway.testing.call_rules`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeAlias

import attrs

from mcpgateway.adapters.base import Adapter
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.client import Client, open_client


@attrs.frozen
class AdapterUnderTest:
    """An adapter that reaches the fixture server, and what else is needed to see whether it keeps the rules."""

    adapter: Adapter
    eras: frozenset[Era] = frozenset(Era)
    """The eras of the server."""
    dead: Adapter | None = None
    """An adapter of the same kind where no server is to be had."""
    silent: Adapter | None = None
    """One whose server takes everything and never answers."""
    only: Mapping[Era, Adapter] = attrs.field(factory=dict)
    """Adapters whose server speaks just that era."""
    last_words: str = ""
    """What `Link.failure` must say after a crash; for a child process, its last words."""
    leftovers: Callable[[], Sequence[object]] = tuple
    """Children, sockets and the like that are still there; must be empty when a link is gone."""
    lacks: Mapping[str, str] = attrs.field(factory=dict)
    """Checks that cannot hold for this kind of adapter, with the reason."""


Run: TypeAlias = Callable[[AdapterUnderTest, Era], Awaitable[None]]


@attrs.frozen
class Check:
    """One rule. ``run`` raises `AssertionError` where an adapter breaks it."""

    name: str
    eras: frozenset[Era]
    run: Run


CHECKS: Final[dict[str, Check]] = {}
"""All checks by name, for whoever wants one test for each."""


def rule(*eras: Era) -> Callable[[Run], Run]:
    """Enter a rule into `CHECKS`; of all eras unless some are named."""

    def register(run: Run) -> Run:
        name = run.__name__.removeprefix("_")
        CHECKS[name] = Check(name, frozenset(eras or Era), run)
        return run

    return register


def open_subject(subject: AdapterUnderTest, era: Era) -> AbstractAsyncContextManager[Client]:
    """A client on a link to the fixture server."""
    return open_client(subject.adapter, era, hears=True)
