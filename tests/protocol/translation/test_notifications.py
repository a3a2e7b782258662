"""Notifications in the words of the other era."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.errors import InvalidParams
from mcpgateway.jsonrpc import Message, members_of
from mcpgateway.protocol.envelope import SUBSCRIPTION_ID
from mcpgateway.protocol.levels import LEVELS
from mcpgateway.protocol.translation.notifications import (
    checked_level,
    of_legacy_client,
    of_legacy_server,
    of_modern_server,
)
from mcpgateway.protocol.translation.subscriptions import stamped
from tests.protocol.translation import oracle
from tests.strategies import bodies, ids, progress_tokens

TOLD = [
    "notifications/tools/list_changed",
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
]
NOTIFICATIONS = st.one_of(
    st.sampled_from(TOLD).flatmap(lambda method: st.builds(jsonrpc.notification, st.just(method), bodies({}))),
    st.builds(jsonrpc.notification, st.just("notifications/resources/updated"), bodies({"uri": "x:/r"})),
    progress_tokens.flatmap(
        lambda token: st.builds(
            jsonrpc.notification,
            st.just("notifications/progress"),
            bodies({"progressToken": token, "progress": Raw(b"1.50")}),
        )
    ),
)


@pytest.mark.requirement("5.translation")
@given(NOTIFICATIONS, ids)
def test_a_notification_survives_there_and_back(message: Message, id: bytes) -> None:
    modern = of_legacy_server(message, log_level=None)
    assert modern is message
    heard = stamped(modern, id)
    back = of_modern_server(heard)

    assert back is not None
    assert list(members_of(back.params).items()) == list(members_of(message.params).items())
    assert members_of(members_of(heard.params)["_meta"])[SUBSCRIPTION_ID] == Raw(id)
    assert of_modern_server(back) is back
    if bytes(id)[:1] == b'"' or bytes(id).lstrip(b"-").isdigit():
        oracle.notification(heard, oracle.MODERN)
    if b"progressToken" not in bytes(message.params or b"") or b"1.0" not in bytes(message.params or b""):
        oracle.notification(back, oracle.LEGACY)


@pytest.mark.parametrize(
    "method",
    [
        "notifications/initialized",
        "notifications/progress",
        "notifications/roots/list_changed",
        "notifications/tasks/status",
    ],
)
def test_what_a_modern_server_is_not_told(method: str) -> None:
    assert of_legacy_client(jsonrpc.notification(method, {"x": 1})) is None


@pytest.mark.parametrize("method", ["notifications/cancelled", "com.example/own"])
def test_what_a_modern_server_is_told(method: str) -> None:
    message = jsonrpc.notification(method, {"requestId": 7})

    assert of_legacy_client(message) is message


@pytest.mark.parametrize(
    "method", ["notifications/cancelled", "notifications/elicitation/complete", "notifications/tasks/status"]
)
def test_what_a_modern_client_is_not_told(method: str) -> None:
    assert of_legacy_server(jsonrpc.notification(method, {}), log_level="debug") is None


@pytest.mark.parametrize(
    "method", ["notifications/cancelled", "notifications/subscriptions/acknowledged", "notifications/tasks"]
)
def test_what_a_legacy_client_is_not_told(method: str) -> None:
    assert of_modern_server(jsonrpc.notification(method, {"_meta": {SUBSCRIPTION_ID: 1}})) is None


def test_a_subscription_id_goes_and_leaves_no_trace() -> None:
    told = jsonrpc.notification("notifications/tools/list_changed", {"_meta": {SUBSCRIPTION_ID: 1}})

    back = of_modern_server(told)

    assert back is not None
    assert back.params is None
    oracle.notification(back, oracle.LEGACY)


@pytest.mark.parametrize("level", [*LEVELS, "deafening", None])
@pytest.mark.parametrize("wanted", [*LEVELS, None])
def test_logs_are_for_calls_that_asked_for_their_level(level: str | None, wanted: str | None) -> None:
    message = jsonrpc.notification("notifications/message", {"level": level, "data": "x"})

    heard = of_legacy_server(message, log_level=wanted)

    if wanted is None:
        assert heard is None
    elif level in LEVELS:
        assert (heard is message) is (LEVELS[level] >= LEVELS[wanted])
    else:
        assert heard is message


def test_a_log_in_odd_params_is_read_by_who_reads_logs() -> None:
    message = jsonrpc.notification("notifications/message").replace(params=Raw(b"[]"))

    assert of_legacy_server(message, log_level="emergency") is message


def test_a_level_that_nobody_knows_is_invalid() -> None:
    assert checked_level("notice") == "notice"
    assert checked_level(None) is None
    for check in (
        lambda: checked_level("loud"),
        lambda: of_legacy_server(jsonrpc.notification("notifications/message"), log_level="loud"),
    ):
        with pytest.raises(InvalidParams, match="loud"):
            check()


@pytest.mark.parametrize("params", [b"[]", b'{"_meta":7}'])
def test_odd_params_are_invalid(params: bytes) -> None:
    message = jsonrpc.notification("notifications/tools/list_changed").replace(params=Raw(params))

    with pytest.raises(InvalidParams):
        of_modern_server(message)
    with pytest.raises(InvalidParams):
        stamped(message, b"1")
