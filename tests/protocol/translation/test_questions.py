"""What a server asks of a client, in the words of either era."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.errors import JSON, MethodNotFound, ServerMisbehaved
from mcpgateway.jsonrpc import members_of, raw_of, value_of
from mcpgateway.protocol.translation.questions import (
    KEY,
    MAX_KEY,
    Question,
    key_of,
    read_entry,
    read_request,
    to_legacy,
    to_modern,
)
from tests.protocol.translation import oracle
from tests.strategies import unknown_members

FORM: dict[str, JSON] = {
    "message": "Who?",
    "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
}
URL: dict[str, JSON] = {"mode": "url", "message": "Visit", "url": "https://e.example/"}
SAMPLE: dict[str, JSON] = {
    "messages": [{"role": "user", "content": {"type": "text", "text": "größe"}}],
    "maxTokens": 100,
    "temperature": 0.5,
}


def with_unknown(method: str, params: dict[str, JSON]) -> st.SearchStrategy[Question]:
    return unknown_members.map(lambda unknown: Question(method, raw_of({**params, **unknown})))


questions = st.one_of(
    with_unknown("elicitation/create", FORM),
    with_unknown("elicitation/create", {**FORM, "mode": "form"}),
    with_unknown("elicitation/create", URL),
    with_unknown("sampling/createMessage", SAMPLE),
    with_unknown("roots/list", {"_meta": {"com.example/v": 1}}),
    st.just(Question("roots/list")),
)
"""Of what both eras can ask."""
keys = st.text(min_size=1, max_size=12)


def members(raw: Raw) -> dict[str, JSON]:
    value = value_of(raw)
    assert isinstance(value, dict)
    return value


@pytest.mark.requirement("5.translation")
@given(questions, keys)
def test_a_modern_question_survives_a_second_gateway_under_its_key(question: Question, key: str) -> None:
    entry = to_modern(question)
    asked = read_entry(entry, server="s")

    request = to_legacy(asked, key=key, id=b"7", elicitation_id="made up")
    relayed = read_request(request, server="s")

    oracle.question(request)
    oracle.input_required(raw_of({"resultType": "input_required", "inputRequests": {key: entry}}))
    assert key_of(relayed, ()) == key
    assert members_of(to_modern(relayed)) == members_of(entry)
    assert request.id == b"7"


@given(questions)
def test_a_question_keeps_what_both_eras_know_and_what_none_does(question: Question) -> None:
    before = members_of(question.params)
    modern = members_of(members_of(to_modern(question)).get("params"))
    legacy = members_of(to_legacy(question, key="k", id=b"1", elicitation_id="e").params)

    assert modern == before
    assert {name: legacy[name] for name in before.keys() - {"_meta"}} == {
        name: before[name] for name in before.keys() - {"_meta"}
    }
    assert legacy.keys() - before.keys() <= {"_meta", "elicitationId"}


@pytest.mark.parametrize(
    ("params", "id"),
    [
        (URL, b'"e7"'),
        ({**URL, "elicitationId": None}, b'"e7"'),
        ({**URL, "elicitationId": "own"}, b'"own"'),
        (FORM, None),
    ],
)
def test_a_url_has_an_id_in_the_legacy_era_and_none_in_the_modern(params: dict[str, JSON], id: bytes | None) -> None:
    request = to_legacy(Question("elicitation/create", raw_of(params)), key="k", id=b"1", elicitation_id="e7")

    assert members_of(request.params).get("elicitationId") == (None if id is None else Raw(id))
    oracle.question(request)
    assert members(to_modern(read_request(request, server="s")))["params"] == (FORM if params is FORM else URL)


def test_what_is_about_the_legacy_request_itself_stays_there() -> None:
    meta: JSON = {"progressToken": 1, "io.modelcontextprotocol/related-task": {}, "v": 1}
    params = {**FORM, "task": {"ttl": 1}, "_meta": meta}

    assert members(to_modern(Question("elicitation/create", raw_of(params)))) == {
        "method": "elicitation/create",
        "params": {**FORM, "_meta": {"v": 1}},
    }
    assert members(to_modern(Question("roots/list", Raw(b'{"_meta":{"progressToken":1}}')))) == {"method": "roots/list"}


def test_a_task_is_not_asked_of_a_legacy_client_either() -> None:
    request = to_legacy(
        Question("sampling/createMessage", raw_of({**SAMPLE, "task": {}})), key="k", id=b"1", elicitation_id=""
    )

    assert value_of(request.params or b"") == {**SAMPLE, "_meta": {KEY: "k"}}


@pytest.mark.parametrize(
    ("method", "params", "key"),
    [
        ("elicitation/create", {**FORM, "_meta": {KEY: "user_name"}}, "user_name"),
        ("elicitation/create", {**URL, "elicitationId": "e1", "_meta": {KEY: "visit"}}, "visit"),
        ("elicitation/create", {**URL, "elicitationId": "e1"}, "e1"),
        ("elicitation/create", URL, "elicitation"),
        ("elicitation/create", FORM, "name"),
        ("elicitation/create", {"requestedSchema": {"properties": {"a": {}, "b": {}}}}, "elicitation"),
        ("elicitation/create", {"requestedSchema": {"properties": {}}}, "elicitation"),
        ("elicitation/create", {"requestedSchema": {"properties": {"": {}}}}, "elicitation"),
        ("elicitation/create", {"requestedSchema": {"properties": {"x" * MAX_KEY: {}}}}, "x" * MAX_KEY),
        ("elicitation/create", {"requestedSchema": {"properties": {"x" * (MAX_KEY + 1): {}}}}, "elicitation"),
        ("elicitation/create", {"requestedSchema": {"properties": 7}}, "elicitation"),
        ("elicitation/create", {"requestedSchema": 7, "elicitationId": 7, "_meta": {KEY: 7}}, "elicitation"),
        ("sampling/createMessage", SAMPLE, "sampling"),
        ("roots/list", None, "roots"),
        ("roots/list", {"_meta": {KEY: "r"}}, "r"),
    ],
)
def test_a_question_is_called_as_the_server_calls_it(method: str, params: JSON, key: str) -> None:
    question = Question(method, None if params is None else raw_of(params))

    assert key_of(question, ()) == key
    assert key_of(question, {key}) == f"{key}-2"
    assert key_of(question, {key, f"{key}-2"}) == f"{key}-3"


@given(st.lists(questions, max_size=6))
def test_keys_are_unique_and_the_same_each_time(asked: list[Question]) -> None:
    def named() -> list[str]:
        taken: list[str] = []
        for question in asked:
            taken.append(key_of(question, taken))
        return taken

    assert len(set(named())) == len(asked)
    assert named() == named()


@pytest.mark.parametrize(
    "entry",
    [
        None,
        7,
        [],
        {},
        {"method": 7},
        {"method": "tools/call"},
        {"method": "ping"},
        {"method": "roots/list", "params": 7},
    ],
)
def test_an_entry_that_asks_nothing_is_the_servers_fault(entry: JSON) -> None:
    with pytest.raises(ServerMisbehaved, match="'s'"):
        read_entry(raw_of(entry), server="s")


@pytest.mark.parametrize("method", ["ping", "tasks/get", "com.example/ask", "tools/call"])
def test_a_request_that_is_no_question_is_a_method_not_found(method: str) -> None:
    with pytest.raises(MethodNotFound, match=method):
        read_request(jsonrpc.request(b"1", method), server="s")


def test_a_question_without_params_is_one() -> None:
    request = jsonrpc.request(b"1", "roots/list")

    assert read_request(request, server="s") == read_request(request.replace(params=Raw(b"null")), server="s")
    assert read_entry(Raw(b'{"method":"roots/list","params":null}'), server="s") == Question("roots/list")


@pytest.mark.parametrize("params", [{**FORM, "_meta": 7}, 7, []])
def test_params_that_cannot_be_translated_are_the_servers_fault(params: JSON) -> None:
    request = jsonrpc.request(b"1", "elicitation/create").replace(params=raw_of(params))

    with pytest.raises(ServerMisbehaved, match="elicitation/create"):
        read_request(request, server="s")
    with pytest.raises(ServerMisbehaved, match="elicitation/create"):
        read_entry(raw_of({"method": "elicitation/create", "params": params}), server="s")
