"""The correlator never mixes two calls up, and loses none."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from mcpgateway import jsonrpc
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.correlator import (
    REMEMBERED,
    Correlator,
    Junk,
    Late,
    NoReply,
    Outside,
    Pending,
    Reply,
    ToCall,
)
from mcpgateway.protocol.envelope import SUBSCRIPTION_ID

ids = st.one_of(st.integers(-3, 12), st.integers(0, 12).map(str), st.sampled_from(["", "é", "1.0"]))


def a_request(id: object = 1, method: str = "tools/call", params: object = None) -> Message:
    return jsonrpc.request(json.dumps(id).encode(), method, params)


def a_call(token: object, id: object = 1) -> Message:
    return a_request(id, params={"name": "t", "_meta": {"progressToken": token}})


def loads(data: bytes) -> Any:  # the shape is the test's to know
    return json.loads(data)


def dumps(value: object) -> bytes:
    return json.dumps(value).encode()


def reply_to(wire: object, text: str = "ok") -> bytes:
    return dumps({"jsonrpc": "2.0", "id": wire, "result": {"text": text}})


def progress(token: object, amount: int = 1) -> bytes:
    params = {"progressToken": token, "progress": amount, "extra": 1.0}
    return dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})


def a_question() -> bytes:
    return dumps({"jsonrpc": "2.0", "id": "s1", "method": "roots/list"})


def a_log(text: str = "hello") -> bytes:
    return dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": text}})


def test_a_call_goes_out_under_a_fresh_integer_and_nothing_else_changes() -> None:
    message = jsonrpc.decode(
        b'{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"a":1.0,"b":[1, 2]},"odd":1e3}'
    )
    pending, data = Correlator().begin(message)
    assert data == b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"a":1.0,"b":[1, 2]},"odd":1e3}'
    assert (pending.id, pending.wire, pending.token) == (b'"x"', b"1", None)


@pytest.mark.parametrize("breaks", ["\n", "\r", "\r\n"])
def test_line_breaks_of_a_client_do_not_reach_the_wire(breaks: str) -> None:
    raw = '{"jsonrpc":"2.0","id":1,"method":"m","params":{@"a": 1.0,@"b": "x\\n"}}'.replace("@", breaks)
    _, data = Correlator().begin(jsonrpc.decode(raw.encode()))
    assert data == b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":1.0,"b":"x\\n"}}'


def test_a_reply_finds_its_call_and_keeps_its_bytes() -> None:
    correlator = Correlator()
    first, _ = correlator.begin(a_request(7))
    second, _ = correlator.begin(a_request("7"))
    data = b'{"jsonrpc":"2.0","result":{"n":1.0},"extra":[ ],"id":2}'
    delivery = correlator.received(data)
    assert isinstance(delivery, Reply)
    assert delivery.pending is second
    assert delivery.message.encode() == data
    assert correlator.fail_all() == [first]


@pytest.mark.parametrize("id", ["1", 1.0, 2, 0, -1, None])
def test_an_id_of_another_type_or_value_is_junk(id: object) -> None:
    correlator = Correlator()
    correlator.begin(a_request())
    error = dumps({"jsonrpc": "2.0", "id": id, "error": {"code": -1, "message": "secret"}})
    delivery = correlator.received(error)
    assert isinstance(delivery, Junk)
    assert "secret" not in delivery.reason
    assert len(correlator) == 1


def test_a_second_reply_is_junk() -> None:
    correlator = Correlator()
    correlator.begin(a_request())
    assert isinstance(correlator.received(reply_to(1)), Reply)
    assert isinstance(correlator.received(reply_to(1)), Junk)


@pytest.mark.parametrize(
    "data",
    [
        b"Server listening on port 3000",
        b"\xff\xfe",
        b"[1]",
        b"{}",
        b'{"jsonrpc":"2.0","id":true,"result":{}}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":7,"result":{}}',
        b"[" * 100_000,
        b'{"jsonrpc":"2.0","method":"notifications/progress","params":[]}',
        b'{"jsonrpc":"2.0","method":"notifications/x","params":{"_meta":"subscriptionId"}}',
    ],
)
def test_junk_is_junk_and_harms_no_call(data: bytes) -> None:
    correlator = Correlator()
    pending, _ = correlator.begin(a_request())
    assert isinstance(correlator.received(data), Junk)
    assert correlator.fail_all() == [pending]


@pytest.mark.parametrize("rest", ['"result":{},"error":{}', '"reply":1'])
def test_a_broken_reply_fails_its_call_at_once(rest: str) -> None:
    correlator = Correlator()
    pending, _ = correlator.begin(a_request())
    delivery = correlator.received(f'{{"jsonrpc":"2.0","id":1,{rest}}}'.encode())
    assert isinstance(delivery, NoReply)
    assert delivery.pending is pending
    assert len(correlator) == 0


def test_a_request_of_the_server_is_never_a_reply() -> None:
    correlator = Correlator()
    pending, _ = correlator.begin(a_request())
    delivery = correlator.received(dumps({"jsonrpc": "2.0", "id": 1, "method": "roots/list"}))
    assert isinstance(delivery, Outside)
    assert delivery.message.id == b"1"
    assert correlator.fail_all() == [pending]


# ---- progress tokens ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [0, 7, "7", "tök/en", 12345678901234567890, 1.5])
def test_a_token_is_ours_on_the_wire_and_the_clients_on_the_way_back(token: object) -> None:
    correlator = Correlator()
    correlator.begin(a_request())
    pending, data = correlator.begin(a_call(token))
    assert loads(data)["params"] == {"name": "t", "_meta": {"progressToken": 2}}
    delivery = correlator.received(progress(2))
    assert isinstance(delivery, ToCall)
    assert delivery.pending is pending
    assert loads(delivery.message.encode())["params"] == {"progressToken": token, "progress": 1, "extra": 1.0}


def test_a_token_keeps_its_raw_bytes() -> None:
    message = jsonrpc.decode(b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"_meta":{"progressToken":"\\u0041/"}}}')
    correlator = Correlator()
    correlator.begin(message)
    delivery = correlator.received(progress(1))
    assert isinstance(delivery, ToCall)
    assert b'"progressToken":"\\u0041/"' in delivery.message.encode()


@pytest.mark.parametrize(
    "params",
    [
        rb'{"_meta":{"progress\u0054oken":1}}',
        rb'{"\u005fmeta":{"\u0070rogressToken":1}}',
        rb'{"_meta":{"progressToken":1,"progressToken":null}}',
        rb'{"_meta":{"progressToken":1},"_meta":{}}',
        rb'{"_meta":{"progressToken":1},"_meta":7}',
        rb'{"_meta":{"progressToken":1},"_meta":null}',
        rb'{"_meta":{"progressToken":null,"progressToken":1}}',
    ],
)
def test_no_spelling_smuggles_a_token_of_another_call_through(params: bytes) -> None:
    correlator = Correlator()
    correlator.begin(a_call("a"))
    _, data = correlator.begin(jsonrpc.decode(b'{"jsonrpc":"2.0","id":1,"method":"m","params":' + params + b"}"))
    seen: list[tuple[str, object]] = []
    json.loads(data, object_pairs_hook=seen.extend)
    assert ("progressToken", 1) not in seen


@pytest.mark.parametrize(
    "params", [None, {}, {"progressToken": 1}, {"_meta": {"progressToken": None}}, {"_meta": None}]
)
def test_what_is_no_token_passes(params: object) -> None:
    pending, data = Correlator().begin(a_request(params=params))
    assert loads(data).get("params") == params
    assert pending.token is None


@pytest.mark.parametrize("token", [1, "2", 3, None])
def test_progress_under_a_token_that_nobody_gave_is_junk(token: object) -> None:
    correlator = Correlator()
    correlator.begin(a_request())
    correlator.begin(a_call("t"))
    assert isinstance(correlator.received(progress(token)), Junk)


# ---- cancelling ----------------------------------------------------------------------------------------------------


def test_a_cancel_names_the_id_of_the_wire_and_a_late_reply_is_known_as_such() -> None:
    correlator = Correlator()
    correlator.begin(a_request())
    pending, _ = correlator.begin(a_call("t", id="abc"))
    cancel = correlator.cancel(pending, "too slow")
    assert cancel is not None
    assert loads(cancel) == {
        "jsonrpc": "2.0",
        "method": "notifications/cancelled",
        "params": {"requestId": 2, "reason": "too slow"},
    }
    assert correlator.cancel(pending, "again") is None
    assert correlator.received(progress(2)) == Late(pending)
    assert correlator.received(reply_to(2)) == Late(pending)
    assert isinstance(correlator.received(reply_to(2)), Junk)
    assert len(correlator) == 1


def test_what_is_answered_is_not_cancelled() -> None:
    correlator = Correlator()
    pending, _ = correlator.begin(a_request())
    correlator.received(reply_to(1))
    assert correlator.cancel(pending, "too late") is None


def test_what_the_server_knows_nothing_of_is_withdrawn_in_silence() -> None:
    correlator = Correlator()
    pending, _ = correlator.begin(a_request())
    other, _ = correlator.begin(a_request())
    assert correlator.find(pending.wire) is pending
    correlator.withdraw(pending)
    correlator.withdraw(pending)
    assert correlator.find(pending.wire) is None
    assert correlator.find(None) is None
    assert correlator.cancel(pending, "enough") is None
    assert isinstance(correlator.received(reply_to(1)), Junk)
    assert (len(correlator), correlator.find(other.wire)) == (1, other)


def test_the_handshake_is_given_up_in_silence() -> None:
    correlator = Correlator()
    pending, _ = correlator.begin(a_request(method="initialize"))
    assert correlator.cancel(pending, "too slow") is None
    assert correlator.received(reply_to(1)) == Late(pending)


def test_cancelled_calls_are_not_remembered_for_ever() -> None:
    correlator = Correlator()
    for _ in range(REMEMBERED + 1):
        correlator.cancel(correlator.begin(a_request())[0], "")
    assert isinstance(correlator.received(reply_to(1)), Junk)
    assert isinstance(correlator.received(reply_to(2)), Late)


# ---- subscriptions -------------------------------------------------------------------------------------------------


def listening(correlator: Correlator, id: object) -> Pending:
    return correlator.begin(a_request(id, "subscriptions/listen"))[0]


def stamped(wire: object, method: str = "notifications/tools/list_changed") -> bytes:
    return dumps({"jsonrpc": "2.0", "method": method, "params": {"a": 1, "_meta": {SUBSCRIPTION_ID: wire, "x": 1}}})


@pytest.mark.parametrize("id", [2, "2", "sub"])
def test_a_subscription_id_is_mapped_back_to_the_id_of_the_listen(id: object) -> None:
    correlator = Correlator()
    other, pending = listening(correlator, 2), listening(correlator, id)
    delivery = correlator.received(stamped(2).replace(b"io.modelcontextprotocol/", b"io.modelcontextprotocol\\/"))
    assert isinstance(delivery, ToCall)
    assert delivery.pending is pending
    assert loads(delivery.message.encode())["params"] == {"a": 1, "_meta": {SUBSCRIPTION_ID: id, "x": 1}}
    end = dumps({"jsonrpc": "2.0", "id": 2, "result": {"_meta": {SUBSCRIPTION_ID: 2}}})
    reply = correlator.received(end)
    assert isinstance(reply, Reply)
    assert loads(reply.message.encode()) == {"jsonrpc": "2.0", "id": 2, "result": {"_meta": {SUBSCRIPTION_ID: id}}}
    assert correlator.fail_all() == [other]


def test_a_subscription_id_of_no_subscription_reaches_nobody() -> None:
    correlator = Correlator()
    correlator.begin(a_request(), alone=True)
    assert isinstance(correlator.received(stamped(1)), Junk)
    assert isinstance(correlator.received(stamped(9)), Junk)
    given_up = listening(correlator, 5)
    correlator.cancel(given_up, "")
    assert correlator.received(stamped(2)) == Late(given_up)


def test_a_subscription_cancelled_by_the_server_is_over() -> None:
    correlator = Correlator()
    call, _ = correlator.begin(a_request())
    pending = listening(correlator, "sub")
    by_server = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2}}
    delivery = correlator.received(dumps(by_server))
    assert isinstance(delivery, NoReply)
    assert delivery.pending is pending
    by_server["params"] = {"requestId": 1}
    assert isinstance(correlator.received(dumps(by_server)), Outside), "its own request 1, not our call 1"
    assert correlator.fail_all() == [call]


# ---- what carries no pointer -----------------------------------------------------------------------------------------


def test_without_a_pointer_a_message_belongs_to_the_only_call_if_it_is_alone() -> None:
    correlator = Correlator()
    pending, _ = correlator.begin(a_request(), alone=True)
    asked = dumps({"jsonrpc": "2.0", "id": 1, "method": "elicitation/create", "params": {}})
    for data in (a_log(), asked):
        delivery = correlator.received(data)
        assert isinstance(delivery, ToCall)
        assert delivery.pending is pending
        assert delivery.message.encode() == jsonrpc.decode(data).encode()


@pytest.mark.parametrize(
    "method",
    ["notifications/tools/list_changed", "notifications/resources/updated", "notifications/tasks/status"],
)
def test_news_of_the_server_belong_to_no_call(method: str) -> None:
    correlator = Correlator()
    correlator.begin(a_request(), alone=True)
    assert isinstance(correlator.received(dumps({"jsonrpc": "2.0", "method": method})), Outside)
    assert isinstance(correlator.received(dumps({"jsonrpc": "2.0", "id": "p", "method": "ping"})), Outside)


def test_without_a_pointer_a_message_is_not_guessed_at() -> None:
    correlator = Correlator()
    assert isinstance(correlator.received(a_log()), Outside), "no call at all"
    only, _ = correlator.begin(a_request())
    log = correlator.received(a_log())
    assert isinstance(log, ToCall)
    assert log.pending is only, "what is logged during the only call is its client's to read"
    assert isinstance(correlator.received(a_question()), Outside), "not alone"
    correlator.begin(a_request(), alone=True)
    assert isinstance(correlator.received(a_log()), Outside), "two calls"
    assert isinstance(correlator.received(a_question()), Outside), "two calls"


def test_a_log_beside_subscriptions_is_that_of_the_call() -> None:
    correlator = Correlator()
    correlator.cancel(listening(correlator, 1), "")
    listening(correlator, 2)
    assert isinstance(correlator.received(a_log("nobody's")), Outside)
    call, _ = correlator.begin(a_request())
    delivery = correlator.received(a_log("of the call"))

    assert isinstance(delivery, ToCall)
    assert delivery.pending is call


def test_the_log_of_a_cancelled_call_is_not_shown_to_the_next() -> None:
    correlator = Correlator()
    first, _ = correlator.begin(a_request())
    correlator.cancel(first, "")
    correlator.begin(a_request())
    assert isinstance(correlator.received(a_log("for the first")), Outside)


def test_a_cancelled_exclusive_call_does_not_talk_to_the_next() -> None:
    correlator = Correlator()
    first, _ = correlator.begin(a_request(), alone=True)
    correlator.cancel(first, "")
    correlator.begin(a_request(), alone=True)
    assert isinstance(correlator.received(a_log("for the first")), Outside)
    assert correlator.received(reply_to(1)) == Late(first)
    assert isinstance(correlator.received(a_log("for the second")), ToCall)


# ---- properties ------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=64))
def test_received_never_raises(data: bytes) -> None:
    correlator = Correlator()
    correlator.begin(a_request(), alone=True)
    delivery = correlator.received(data)
    assert isinstance(delivery, Junk | Outside | ToCall | Reply | NoReply)


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=6)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["_meta", "progressToken", "id", "\0", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(
    params=st.dictionaries(st.sampled_from(["_meta", "progressToken", "a"]), values),
    ascii=st.booleans(),
    indent=st.none() | st.just(1),
)
def test_begin_changes_the_id_and_the_token_only(params: dict[str, Any], ascii: bool, indent: int | None) -> None:
    raw = json.dumps(params, ensure_ascii=ascii, indent=indent).encode()
    pending, data = Correlator().begin(jsonrpc.request(b'"c"', "m", msgspec.Raw(raw)))
    assert b"\n" not in data
    seen = json.loads(data)
    assert seen["id"] == 1
    meta = params.get("_meta")
    if isinstance(meta, dict) and meta.get("progressToken") is not None:
        assert pending.token is not None
        assert json.loads(bytes(pending.token)) == meta["progressToken"]
        meta["progressToken"] = 1
    else:
        assert pending.token is None
    assert seen["params"] == params


class Interleaving(RuleBasedStateMachine):
    """Clients with clashing ids and tokens, one server that works on several calls at once, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.correlator = Correlator()
        self.open: dict[int, tuple[Pending, object, object]] = {}
        self.given_up: set[int] = set()
        self.done: set[int] = set()

    def some(self, numbers: set[int], pick: int) -> int:
        return sorted(numbers)[pick % len(numbers)]

    @rule(id=ids, token=st.none() | ids, listen=st.booleans(), alone=st.booleans())
    def begin(self, id: object, token: object, listen: bool, alone: bool) -> None:
        params = {"_meta": {"progressToken": token}} if token is not None else {"_meta": {}}
        method = "subscriptions/listen" if listen else "tools/call"
        pending, data = self.correlator.begin(a_request(id, method, params), alone=alone)
        wire = loads(data)["id"]
        assert wire not in self.open
        assert wire not in self.given_up | self.done
        self.open[wire] = (pending, id, token)

    @precondition(lambda self: self.open)
    @rule(pick=st.integers(0))
    def reply(self, pick: int) -> None:
        wire = self.some(set(self.open), pick)
        delivery = self.correlator.received(reply_to(wire))
        pending, id, _ = self.open.pop(wire)
        assert isinstance(delivery, Reply)
        assert delivery.pending is pending
        assert pending.id == dumps(id)
        self.done.add(wire)

    @precondition(lambda self: self.open)
    @rule(pick=st.integers(0))
    def progress(self, pick: int) -> None:
        wire = self.some(set(self.open), pick)
        pending, _, token = self.open[wire]
        delivery = self.correlator.received(progress(wire))
        if token is None:
            assert isinstance(delivery, Junk)
        else:
            assert isinstance(delivery, ToCall)
            assert delivery.pending is pending
            assert loads(delivery.message.encode())["params"]["progressToken"] == token

    @precondition(lambda self: self.open)
    @rule(pick=st.integers(0))
    def notify_subscription(self, pick: int) -> None:
        wire = self.some(set(self.open), pick)
        pending, id, _ = self.open[wire]
        delivery = self.correlator.received(stamped(wire))
        if pending.method == "subscriptions/listen":
            assert isinstance(delivery, ToCall)
            assert delivery.pending is pending
            assert loads(delivery.message.encode())["params"]["_meta"][SUBSCRIPTION_ID] == id
        else:
            assert isinstance(delivery, Junk)

    @precondition(lambda self: self.open)
    @rule(pick=st.integers(0))
    def cancel(self, pick: int) -> None:
        wire = self.some(set(self.open), pick)
        data = self.correlator.cancel(self.open.pop(wire)[0], "")
        assert data is not None
        assert loads(data)["params"]["requestId"] == wire
        self.given_up.add(wire)

    @precondition(lambda self: self.given_up)
    @rule(pick=st.integers(0))
    def late_reply(self, pick: int) -> None:
        wire = self.some(self.given_up, pick)
        assert isinstance(self.correlator.received(progress(wire)), Late)
        assert isinstance(self.correlator.received(reply_to(wire)), Late)
        self.given_up.remove(wire)
        self.done.add(wire)

    @precondition(lambda self: self.done)
    @rule(pick=st.integers(0))
    def second_reply(self, pick: int) -> None:
        assert isinstance(self.correlator.received(reply_to(self.some(self.done, pick))), Junk)

    @rule(id=ids)
    def ask(self, id: object) -> None:
        delivery = self.correlator.received(dumps({"jsonrpc": "2.0", "id": id, "method": "roots/list"}))
        if isinstance(delivery, ToCall):
            calls = [entry[0] for entry in self.open.values() if entry[0].method != "subscriptions/listen"]
            assert calls == [delivery.pending]
            assert delivery.pending.alone
        else:
            assert isinstance(delivery, Outside)
        assert delivery.message.id == dumps(id)

    @invariant()
    def none_is_lost(self) -> None:
        assert len(self.correlator) == len(self.open)

    def teardown(self) -> None:
        assert {id(p) for p in self.correlator.fail_all()} == {id(entry[0]) for entry in self.open.values()}


@pytest.mark.requirement("2.protocol.correlator")
def test_no_interleaving_mixes_up_two_calls() -> None:
    run_state_machine_as_test(
        Interleaving,
        settings=settings(
            max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )
