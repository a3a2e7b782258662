"""In which era a server is spoken to: every policy, whatever is known of the server."""

from __future__ import annotations

import pytest
from msgspec import Raw

from mcpgateway.calls.eras import CROSSED, OTHER, choose, serves
from mcpgateway.config.model import EraPolicy
from mcpgateway.protocol.negotiated import Negotiated
from mcpgateway.protocol.revisions import LATEST_LEGACY, LATEST_MODERN, Era

LEGACY, MODERN = Era.LEGACY, Era.MODERN


def spoken(
    *, legacy: bool | None = None, modern: bool | None = None, stateful: bool = True
) -> dict[Era, Negotiated | None]:
    """What is known of a server: whether it speaks an era; ``None``: nobody knows."""
    known: dict[Era, Negotiated | None] = {}
    for era, revision, speaks in ((LEGACY, LATEST_LEGACY, legacy), (MODERN, LATEST_MODERN, modern)):
        if speaks is not None:
            negotiated = Negotiated(era, revision, Raw(b"{}"), Raw(b"{}"), "s", "1", stateful)
            known[era] = negotiated if speaks else None
    return known


def chosen(client: Era | None, policy: EraPolicy, known: dict[Era, Negotiated | None], *, askable: bool = False) -> Era:
    return choose(client, askable=askable, policy=policy, spoken=known, crossings=set(Era))


@pytest.mark.requirement("5.era-choice")
@pytest.mark.parametrize(
    ("client", "known", "era"),
    [
        (LEGACY, spoken(), LEGACY),
        (LEGACY, spoken(modern=True), LEGACY),
        (LEGACY, spoken(legacy=True, modern=True), LEGACY),
        (LEGACY, spoken(legacy=False, modern=True), MODERN),
        (MODERN, spoken(), MODERN),
        (MODERN, spoken(legacy=True, modern=True), MODERN),
        (MODERN, spoken(legacy=True, modern=False), LEGACY),
        (None, spoken(legacy=True, modern=True), MODERN),
        (None, spoken(legacy=False, modern=True), MODERN),
        (None, spoken(legacy=True, modern=False), LEGACY),
    ],
)
def test_the_clients_era_where_the_server_speaks_it_or_might(
    client: Era | None, known: dict[Era, Negotiated | None], era: Era
) -> None:
    assert chosen(client, EraPolicy.AUTO, known) is era


@pytest.mark.requirement("5.era-choice")
@pytest.mark.parametrize(
    ("askable", "known", "era"),
    [
        (True, spoken(legacy=True, modern=True, stateful=False), MODERN),
        (False, spoken(legacy=True, modern=True, stateful=False), LEGACY),
        (True, spoken(legacy=True, modern=True), LEGACY),
        (True, spoken(legacy=True, modern=False, stateful=False), LEGACY),
    ],
)
def test_a_legacy_side_that_keeps_no_session_cannot_ask_its_clients(
    askable: bool, known: dict[Era, Negotiated | None], era: Era
) -> None:
    assert chosen(LEGACY, EraPolicy.AUTO, known, askable=askable) is era


@pytest.mark.requirement("5.era-choice")
@pytest.mark.parametrize("client", Era)
@pytest.mark.parametrize("known", [spoken(), spoken(legacy=True, modern=False), spoken(legacy=False, modern=True)])
def test_a_policy_that_leaves_no_choice(client: Era, known: dict[Era, Negotiated | None]) -> None:
    assert chosen(client, EraPolicy.MIRROR, known) is client
    assert chosen(client, EraPolicy.MODERN, known) is MODERN
    assert chosen(client, EraPolicy.LEGACY, known) is LEGACY


@pytest.mark.parametrize("client", Era)
@pytest.mark.parametrize("policy", EraPolicy)
def test_where_nobody_translates_there_is_only_the_clients_era(client: Era, policy: EraPolicy) -> None:
    known = spoken(legacy=client is MODERN, modern=client is LEGACY)
    assert choose(client, askable=True, policy=policy, spoken=known, crossings=()) is client


@pytest.mark.parametrize("client", sorted(CROSSED, key=str))
def test_who_has_to_do_with_a_server(client: Era) -> None:
    other = spoken(legacy=OTHER[client] is LEGACY, modern=OTHER[client] is MODERN)
    assert serves(None, policy=EraPolicy.MIRROR, spoken=other)
    assert serves(client, policy=EraPolicy.AUTO, spoken=other)
    assert serves(client, policy=EraPolicy.MIRROR, spoken={})
    assert not serves(client, policy=EraPolicy.MIRROR, spoken=other)
    assert not serves(client, policy=EraPolicy.AUTO, spoken=spoken(legacy=False, modern=False))
