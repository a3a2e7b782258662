"""What is told of outside calls, in the words of either era."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.errors import JSON, InvalidParams
from mcpgateway.jsonrpc import members_of, raw_of, value_of
from mcpgateway.protocol.envelope import SUBSCRIPTION_ID
from mcpgateway.protocol.translation.requests import Sender
from mcpgateway.protocol.translation.subscriptions import (
    CHANGES,
    UPDATED,
    Interest,
    acknowledgement,
    ended,
    of_listen,
    of_session,
)
from tests.protocol.translation import oracle
from tests.strategies import ids

ALL: dict[str, JSON] = {
    "tools": {"listChanged": True},
    "prompts": {"listChanged": True},
    "resources": {"listChanged": True, "subscribe": True},
}
SUBSETS = st.fixed_dictionaries(
    {},
    optional={
        "tools": st.sampled_from([{}, {"listChanged": True}, {"listChanged": False}, 7]),
        "prompts": st.sampled_from([{}, {"listChanged": True}, {"listChanged": "yes"}, None]),
        "resources": st.fixed_dictionaries({}, optional={"listChanged": st.booleans(), "subscribe": st.booleans()}),
    },
)
WANTED = st.fixed_dictionaries(
    {},
    optional={
        **{name: st.none() | st.booleans() for name in CHANGES},
        "resourceSubscriptions": st.lists(st.sampled_from(["x:/a", "x:/b"]), max_size=3),
        "taskIds": st.just(["t"]),
    },
)


def offered(capabilities: dict[str, JSON], name: str, what: str) -> bool:
    part = capabilities.get(name)
    return isinstance(part, dict) and part.get(what) is True


@given(SUBSETS, st.lists(st.sampled_from(["x:/a", "x:/b"]), max_size=3))
def test_a_session_listens_to_all_that_is_offered_and_to_its_uris(
    capabilities: dict[str, JSON], uris: list[str]
) -> None:
    interest = of_session(raw_of(capabilities), uris)

    assert set(interest.changes) == {
        name for name, (part, _) in CHANGES.items() if offered(capabilities, part, "listChanged")
    }
    assert interest.uris == (tuple(dict.fromkeys(uris)) if offered(capabilities, "resources", "subscribe") else ())
    assert bool(interest) is bool(interest.notifications())
    listen = interest.request(b"7", Sender(Raw(b"{}"), log_level="debug"))
    oracle.request(listen, oracle.MODERN)
    assert (listen.id, listen.method) == (b"7", "subscriptions/listen")
    assert of_listen(listen.params, raw_of(capabilities)) == interest


@given(SUBSETS, WANTED)
def test_a_client_hears_what_it_asks_for_and_is_offered(capabilities: dict[str, JSON], wanted: dict[str, JSON]) -> None:
    interest = of_listen(raw_of({"notifications": wanted}), raw_of(capabilities))

    everything = of_session(raw_of(capabilities), ["x:/a", "x:/b"])
    assert set(interest.changes) == {name for name in everything.changes if wanted.get(name) is True}
    assert set(interest.uris) <= set(everything.uris)
    assert of_listen(raw_of({"notifications": interest.notifications()}), raw_of(ALL)) == interest


@given(WANTED, ids)
def test_the_acknowledgement_says_what_is_honoured_under_the_listens_id(wanted: dict[str, JSON], id: bytes) -> None:
    interest = of_listen(raw_of({"notifications": wanted}), raw_of(ALL))

    params = members_of(acknowledgement(id, interest).params)

    assert members_of(params["_meta"]) == {SUBSCRIPTION_ID: Raw(id)}
    assert value_of(params["notifications"]) == interest.notifications()


def test_the_acknowledgement_and_the_end_are_messages_of_their_era() -> None:
    interest = Interest(("toolsListChanged",), ("x:/a",))

    acknowledged, end = acknowledgement(b'"l"', interest), ended(b'"l"')

    oracle.notification(acknowledged, oracle.MODERN)
    assert end.result is not None
    oracle.result("subscriptions/listen", end.result, oracle.MODERN)
    assert value_of(end.result) == {"resultType": "complete", "_meta": {SUBSCRIPTION_ID: "l"}}
    assert end.id == b'"l"'


@pytest.mark.parametrize(
    ("method", "uri", "heard"),
    [
        ("notifications/tools/list_changed", None, True),
        ("notifications/prompts/list_changed", None, False),
        ("notifications/message", None, False),
        (UPDATED, "x:/a", True),
        (UPDATED, "x:/a/b", True),
        (UPDATED, "x:/ab", False),
        (UPDATED, None, False),
    ],
)
def test_only_what_was_asked_for_is_heard(method: str, uri: str | None, heard: bool) -> None:
    interest = Interest(("toolsListChanged",), ("x:/a",))

    assert interest.hears(jsonrpc.notification(method, {"uri": uri})) is heard
    assert not Interest((), ()).hears(jsonrpc.notification(method, {"uri": uri}))


def test_odd_updates_are_heard_by_nobody() -> None:
    assert not Interest((), ("x:/a",)).hears(jsonrpc.notification(UPDATED).replace(params=Raw(b"[]")))


@pytest.mark.parametrize(
    "params",
    [
        None,
        {},
        {"notifications": None},
        {"notifications": []},
        {"notifications": {"toolsListChanged": 1}},
        {"notifications": {"promptsListChanged": "true"}},
        {"notifications": {"resourceSubscriptions": "x:/a"}},
        {"notifications": {"resourceSubscriptions": {}}},
        {"notifications": {"resourceSubscriptions": ["x:/a", 7]}},
    ],
)
def test_what_filters_nothing_is_invalid(params: JSON) -> None:
    with pytest.raises(InvalidParams, match=r"params\.notifications"):
        of_listen(raw_of(params), raw_of(ALL))
