"""A legacy server's questions, put to a modern client."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.errors import JSON, InvalidParams
from mcpgateway.jsonrpc import members_of, raw_of, value_of
from mcpgateway.protocol.envelope import SERVER_INFO
from mcpgateway.protocol.translation.parked import answers, input_required, state_of
from mcpgateway.protocol.translation.questions import Question, key_of, read_request
from mcpgateway.protocol.translation.results import is_input_required
from mcpgateway.protocol.translation.rounds import InputRequired, read, retry
from tests.protocol.translation import oracle
from tests.protocol.translation.test_questions import FORM, SAMPLE, questions
from tests.protocol.translation.test_rounds import ANSWERS, CALL, EVERYTHING

METHODS = {
    "who": "elicitation/create",
    "where": "elicitation/create",
    "what": "sampling/createMessage",
    "roots": "roots/list",
}


def keyed(asked: list[Question]) -> dict[str, Question]:
    found: dict[str, Question] = {}
    for question in asked:
        found[key_of(question, found)] = question
    return found


@pytest.mark.requirement("5.translation")
@given(st.lists(questions, min_size=1, max_size=4), st.none() | st.text(max_size=9))
def test_questions_are_asked_in_one_result_and_read_back(asked: list[Question], state: str | None) -> None:
    requests = [jsonrpc.request(b"%d" % n, each.method, each.params) for n, each in enumerate(asked)]
    entries = keyed([read_request(request, server="s") for request in requests])

    result = input_required(entries, state=state)

    oracle.input_required(result)
    assert is_input_required(result)
    back = read("tools/call", result, capabilities=EVERYTHING, server="s")
    assert list(back.questions) == list(entries)
    assert back.state == (None if state is None else raw_of(state))
    for before, after in zip(asked, back.questions.values(), strict=True):
        assert after.method == before.method
        assert members_of(after.params) == members_of(before.params)


def test_an_input_required_says_no_more_than_it_must() -> None:
    named = {
        "name": Question("elicitation/create", raw_of(FORM)),
        "sampling": Question("sampling/createMessage", raw_of(SAMPLE)),
    }

    assert value_of(input_required(named, state=None)) == {
        "resultType": "input_required",
        "inputRequests": {
            "name": {"method": "elicitation/create", "params": FORM},
            "sampling": {"method": "sampling/createMessage", "params": SAMPLE},
        },
    }
    whole = value_of(input_required({}, state="s", server_info=Raw(b'{"name":"s"}')))
    assert whole == {
        "resultType": "input_required",
        "inputRequests": {},
        "requestState": "s",
        "_meta": {SERVER_INFO: {"name": "s"}},
    }


@given(st.sets(st.sampled_from(sorted(ANSWERS))), st.booleans())
def test_a_retry_answers_what_it_likes(given_keys: set[str], more: bool) -> None:
    asked = InputRequired({key: Question(method) for key, method in METHODS.items()}, Raw(b'"s"'))
    again = retry(CALL, asked, {key: raw_of(ANSWERS[key]) for key in given_keys})
    if more:
        responses = {**members_of(members_of(again.params).get("inputResponses")), "unasked": Raw(b"7")}
        again = again.replace(params=raw_of({**members_of(again.params), "inputResponses": responses}))

    found = answers(again.params, METHODS)

    assert {key: value_of(answer) for key, answer in found.items()} == {key: ANSWERS[key] for key in given_keys}
    assert state_of(again.params) == "s"
    for key, answer in found.items():
        oracle.answer(METHODS[key], answer)


def test_an_answer_goes_to_the_server_to_the_byte() -> None:
    raw = b'{ "action":"accept", "content":{"n":1E400,"s":"\\u0031"}, "x":1.0 }'

    found = answers(Raw(b'{"inputResponses":{"who":%b}}' % raw), METHODS)

    assert bytes(found["who"]) == raw


@pytest.mark.parametrize("params", [None, {}, {"inputResponses": None}, {"inputResponses": {}}])
def test_a_request_that_answers_nothing_is_to_be_asked_again(params: JSON) -> None:
    assert answers(raw_of(params), METHODS) == {}
    assert state_of(raw_of(params)) is None


@pytest.mark.parametrize(
    ("responses", "named"),
    [
        (7, "inputResponses must be an object"),
        ([], "inputResponses must be an object"),
        ({"who": {"action": "maybe"}}, "'who'"),
        ({"who": None}, "'who'"),
        ({"what": {"action": "accept"}}, "'what'"),
        ({"roots": {"roots": {}}}, "'roots'"),
    ],
)
def test_answers_of_the_wrong_shape_are_invalid(responses: JSON, named: str) -> None:
    with pytest.raises(InvalidParams, match=named):
        answers(raw_of({"inputResponses": responses}), METHODS)


@pytest.mark.parametrize("state", [7, {}, [], True])
def test_a_state_that_is_no_string_is_invalid(state: JSON) -> None:
    with pytest.raises(InvalidParams, match="requestState"):
        state_of(raw_of({"requestState": state}))
