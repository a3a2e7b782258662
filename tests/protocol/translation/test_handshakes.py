"""A server's introduction of itself, as the other era reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from msgspec import Raw

from mcpgateway.errors import JSON, ServerMisbehaved
from mcpgateway.jsonrpc import members_of, raw_of, value_of
from mcpgateway.protocol.envelope import SERVER_INFO
from mcpgateway.protocol.handshake import read_discover, read_initialize
from mcpgateway.protocol.revisions import LATEST_LEGACY, LEGACY_REVISIONS, MODERN_REVISIONS
from mcpgateway.protocol.translation.handshakes import discover_result, initialize_result, server_info
from tests.protocol.translation import oracle
from tests.strategies import bodies, unknown_members

INFO: dict[str, JSON] = {"name": "s", "version": "1.2", "title": "S"}
CAPABILITIES: dict[str, JSON] = {"tools": {"listChanged": True}, "logging": {}}


def discovered(**members: object) -> Raw:
    return raw_of(
        {
            "resultType": "complete",
            "supportedVersions": MODERN_REVISIONS,
            "capabilities": {**CAPABILITIES, "extensions": {"e": {}}},
            "ttlMs": 60_000,
            "cacheScope": "public",
            "instructions": "do",
            "_meta": {SERVER_INFO: INFO, "com.example/x": 1},
            **members,
        }
    )


def initialized(**members: object) -> Raw:
    return raw_of(
        {
            "protocolVersion": LATEST_LEGACY,
            "capabilities": {**CAPABILITIES, "tasks": {}},
            "serverInfo": INFO,
            "instructions": "do",
            **members,
        }
    )


def test_initialize_is_answered_from_a_discovery() -> None:
    result = initialize_result(discovered(), raw_of({"protocolVersion": "2025-06-18"}), server="gate")

    assert value_of(result) == {
        "protocolVersion": "2025-06-18",
        "capabilities": CAPABILITIES,
        "serverInfo": INFO,
        "instructions": "do",
        "_meta": {"com.example/x": 1},
    }
    oracle.initialize_result(result)


@pytest.mark.parametrize("requested", [*LEGACY_REVISIONS, "2026-07-28", "x", 7, None])
def test_the_revision_is_the_clients_or_our_latest(requested: JSON) -> None:
    result = initialize_result(discovered(), raw_of({"protocolVersion": requested}), server="gate")

    answered = requested if requested in LEGACY_REVISIONS else LATEST_LEGACY
    assert read_initialize(result, server="gate", stateful=True).revision == answered
    assert value_of(members_of(initialize_result(discovered(), None, server="x"))["protocolVersion"]) == LATEST_LEGACY


@pytest.mark.parametrize(
    ("info", "told"),
    [
        (None, {"name": "gate", "version": ""}),
        (7, {"name": "gate", "version": ""}),
        ({"title": "T"}, {"title": "T", "name": "gate", "version": ""}),
        ({"name": "s", "version": 2}, {"name": "s", "version": ""}),
        (INFO, INFO),
    ],
)
def test_a_server_that_does_not_say_who_it_is_goes_by_its_name_here(info: JSON, told: JSON) -> None:
    result = initialize_result(discovered(_meta={SERVER_INFO: info}), None, server="gate")

    assert value_of(members_of(result)["serverInfo"]) == told
    assert "_meta" not in members_of(result)
    oracle.initialize_result(result)


def test_discover_is_answered_from_a_handshake() -> None:
    result = discover_result(initialized(_meta={"com.example/x": 1}), server="s")

    assert value_of(result) == {
        "resultType": "complete",
        "supportedVersions": list(MODERN_REVISIONS),
        "capabilities": CAPABILITIES,
        "instructions": "do",
        "ttlMs": 0,
        "cacheScope": "private",
        "_meta": {"com.example/x": 1, SERVER_INFO: INFO},
    }
    oracle.result("server/discover", result, oracle.MODERN)


def test_a_legacy_server_is_introduced_with_what_it_says_of_itself() -> None:
    assert value_of(server_info(initialized()) or b"") == INFO
    for odd in (raw_of({"serverInfo": 7}), raw_of({}), Raw(b"[]")):
        assert server_info(odd) is None
    assert "_meta" not in members_of(discover_result(raw_of({"capabilities": {}}), server="s"))


@pytest.mark.parametrize("instructions", [None, 7, ["do"]])
@pytest.mark.parametrize("capabilities", [None, 7, []])
def test_what_clients_would_refuse_the_handshake_over_is_left_out(instructions: JSON, capabilities: JSON) -> None:
    odd = {"instructions": instructions, "capabilities": capabilities}

    legacy = initialize_result(discovered(**odd), None, server="s")
    modern = discover_result(initialized(**odd), server="s")

    for result in (legacy, modern):
        assert "instructions" not in members_of(result)
        assert members_of(result)["capabilities"] == Raw(b"{}")
    oracle.initialize_result(legacy)
    oracle.result("server/discover", modern, oracle.MODERN)


@given(bodies({"capabilities": CAPABILITIES, "serverInfo": INFO, "instructions": "do"}))
def test_a_handshake_survives_there_and_back(body: dict[str, Raw]) -> None:
    result = raw_of({**body, "protocolVersion": "2025-03-26"})

    modern = discover_result(result, server="s")
    back = initialize_result(modern, raw_of({"protocolVersion": "2025-03-26"}), server="s")

    assert members_of(back) == members_of(result)
    assert members_of(discover_result(back, server="s")) == members_of(modern)
    assert read_discover(modern, server="s").name == "s"


@given(unknown_members)
def test_what_nobody_knows_of_a_discovery_stays_to_the_byte(unknown: dict[str, Raw]) -> None:
    back = members_of(initialize_result(discovered(**unknown), None, server="s"))

    assert {name: back[name] for name in unknown} == unknown


@pytest.mark.parametrize("raw", [b"null", b"[]", b"7"])
def test_what_introduces_nobody_is_the_servers_fault(raw: bytes) -> None:
    with pytest.raises(ServerMisbehaved, match="'s'"):
        initialize_result(Raw(raw), None, server="s")
    with pytest.raises(ServerMisbehaved, match="'s'"):
        discover_result(Raw(raw), server="s")


def test_a_meta_that_is_no_object_is_the_servers_fault() -> None:
    with pytest.raises(ServerMisbehaved, match="server/discover"):
        initialize_result(discovered(_meta=7), None, server="s")
    with pytest.raises(ServerMisbehaved, match="initialize"):
        discover_result(initialized(_meta=[]), server="s")
