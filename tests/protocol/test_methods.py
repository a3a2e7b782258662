"""The tables of methods agree with the SDK's, but for the tasks, which the SDK does not know."""

from __future__ import annotations

import pytest
from mcp.shared import inbound
from mcp_types import methods as sdk
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS

from mcpgateway.protocol.methods import (
    CACHEABLE,
    CLIENT_CAPABILITIES,
    LISTS,
    MAY_ASK,
    REQUESTS,
    TARGETS,
    http_status,
)
from mcpgateway.protocol.revisions import Era

VERSIONS = {Era.LEGACY: HANDSHAKE_PROTOCOL_VERSIONS, Era.MODERN: MODERN_PROTOCOL_VERSIONS}


def without_tasks(methods: frozenset[str]) -> set[str]:
    return {method for method in methods if "tasks/" not in method}


@pytest.mark.parametrize("era", Era)
def test_requests_of_clients(era: Era) -> None:
    versions = VERSIONS[era]

    assert without_tasks(REQUESTS[era]) == {method for method, version in sdk.CLIENT_REQUESTS if version in versions}


def test_requests_of_servers() -> None:
    assert {*CLIENT_CAPABILITIES, "ping"} == {method for method, _ in sdk.SERVER_REQUESTS}


def test_what_may_be_cached_and_during_what_the_client_may_be_asked() -> None:
    assert CACHEABLE == sdk.CACHEABLE_METHODS
    assert MAY_ASK == sdk.INPUT_REQUIRED_METHODS
    assert set(LISTS) <= CACHEABLE


def test_what_methods_are_about() -> None:
    assert {method: name for method, name in TARGETS.items() if "tasks/" not in method} == dict(
        inbound.NAME_BEARING_METHODS
    )
    assert set(TARGETS) <= REQUESTS[Era.MODERN]


@pytest.mark.parametrize("code", [*inbound.ERROR_CODE_HTTP_STATUS, -32603, -32002, 0, 1234])
def test_the_status_of_an_error(code: int) -> None:
    assert http_status(code, Era.MODERN) == inbound.ERROR_CODE_HTTP_STATUS.get(code, 200)
    assert http_status(code, Era.LEGACY) == 200


def test_the_status_of_a_result() -> None:
    assert {http_status(None, era) for era in Era} == {200}
