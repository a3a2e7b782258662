"""A modern server's questions, played to a legacy client."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.errors import JSON, GatewayError, InvalidParams, ServerMisbehaved, TooBusy
from mcpgateway.jsonrpc import members_of, raw_of, value_of
from mcpgateway.protocol.translation.questions import Question
from mcpgateway.protocol.translation.requests import Sender, to_legacy, to_modern
from mcpgateway.protocol.translation.rounds import InputRequired, Unanswered, answer_of, failure, read, retry
from tests.protocol.translation import oracle
from tests.protocol.translation.test_questions import FORM, SAMPLE, URL

EVERYTHING = raw_of({"elicitation": {"form": {}, "url": {}}, "sampling": {"tools": {}}, "roots": {}})
CALL = to_modern(
    jsonrpc.request(b"7", "tools/call", Raw(b'{"name":"t","arguments":{"n":1E400},"x":1.0}')), Sender(EVERYTHING)
)
ASKED: dict[str, JSON] = {
    "who": {"method": "elicitation/create", "params": FORM},
    "where": {"method": "elicitation/create", "params": URL},
    "what": {"method": "sampling/createMessage", "params": SAMPLE},
    "roots": {"method": "roots/list"},
}
ANSWERS: dict[str, JSON] = {
    "who": {"action": "accept", "content": {"name": "ann"}},
    "where": {"action": "decline"},
    "what": {"role": "assistant", "content": {"type": "text", "text": "x"}, "model": "m"},
    "roots": {"roots": [{"uri": "file:///a"}]},
}


def required(questions: JSON = None, state: JSON = None) -> Raw:
    result = {"resultType": "input_required", "inputRequests": questions, "requestState": state}
    return raw_of({name: value for name, value in result.items() if value is not None})


def test_a_round_asks_answers_and_tries_again() -> None:
    result = required(ASKED, "s1")
    oracle.input_required(result)

    asked = read("tools/call", result, capabilities=EVERYTHING, server="s")
    answers = {
        key: answer_of(question, jsonrpc.result(b"1", ANSWERS[key])) for key, question in asked.questions.items()
    }
    again = retry(CALL, asked, answers)

    assert list(asked.questions) == list(ASKED)
    params = members_of(again.params)
    assert value_of(params.pop("inputResponses")) == ANSWERS
    assert params.pop("requestState") == Raw(b'"s1"')
    assert params == members_of(CALL.params)
    oracle.request(again, oracle.MODERN)


@given(st.text(max_size=20).map(lambda text: raw_of(text)) | st.just(Raw(b'"\\u0031\\/x"')))
def test_the_state_goes_back_to_the_byte(state: Raw) -> None:
    asked = read("tools/call", Raw(b'{"requestState":%b}' % bytes(state)), capabilities=EVERYTHING, server="s")

    again = retry(CALL, asked, {})

    assert members_of(again.params)["requestState"] == state
    assert "inputResponses" not in members_of(again.params)


def test_what_an_earlier_round_left_does_not_stay() -> None:
    first = read("tools/call", required({"who": ASKED["who"]}, "s1"), capabilities=EVERYTHING, server="s")
    second = read("tools/call", required({"roots": ASKED["roots"]}), capabilities=EVERYTHING, server="s")
    answers = {key: raw_of(answer) for key, answer in ANSWERS.items()}

    once = retry(CALL, first, answers)
    twice = retry(once, second, answers)

    assert value_of(members_of(once.params)["inputResponses"]) == {"who": ANSWERS["who"]}
    assert value_of(members_of(twice.params)["inputResponses"]) == {"roots": ANSWERS["roots"]}
    assert "requestState" not in members_of(twice.params)
    assert to_legacy(twice).params == to_legacy(CALL).params


@pytest.mark.parametrize("method", ["prompts/get", "resources/read"])
def test_prompts_and_resources_may_ask_too(method: str) -> None:
    assert read(method, required(None, "s"), capabilities=Raw(b"{}"), server="s") == InputRequired({}, Raw(b'"s"'))


@pytest.mark.parametrize(
    ("method", "result"),
    [
        ("completion/complete", {"requestState": "s"}),
        ("tools/list", {"inputRequests": ASKED}),
        ("tools/call", {}),
        ("tools/call", {"inputRequests": {}}),
        ("tools/call", {"inputRequests": [], "requestState": "s"}),
        ("tools/call", {"inputRequests": {"k": 7}}),
        ("tools/call", {"inputRequests": {"k": {"method": "ping"}}}),
        ("tools/call", {"requestState": 7}),
        ("tools/call", 7),
        ("tools/call", None),
    ],
)
def test_a_result_that_asks_badly_is_the_servers_fault(method: str, result: JSON) -> None:
    with pytest.raises(ServerMisbehaved, match="'s'"):
        read(method, raw_of(result), capabilities=EVERYTHING, server="s")


@pytest.mark.parametrize(
    ("key", "capabilities", "named"),
    [
        ("who", {}, "elicitation"),
        ("who", {"elicitation": {"url": {}}}, r"elicitation\.form"),
        ("where", {"elicitation": {}}, r"elicitation\.url"),
        ("what", {"elicitation": {}}, "sampling"),
        ("roots", {"sampling": {}}, "roots"),
    ],
)
def test_what_the_client_did_not_declare_is_never_asked(key: str, capabilities: JSON, named: str) -> None:
    with pytest.raises(ServerMisbehaved, match=f"asks for {named}, which the client did not declare"):
        read("tools/call", required({key: ASKED[key]}), capabilities=raw_of(capabilities), server="s")


def refused() -> jsonrpc.Message:
    body = raw_of({"code": -1, "message": "User rejected sampling request"})
    return jsonrpc.classify({"jsonrpc": Raw(b'"2.0"'), "id": Raw(b"1"), "error": body})


def test_a_client_that_answers_with_an_error_ends_the_call() -> None:
    with pytest.raises(Unanswered) as refusal:
        answer_of(Question("sampling/createMessage"), refused())

    assert refusal.value.message == "the client did not answer sampling/createMessage: User rejected sampling request"
    assert refusal.value.data == {"question": "sampling/createMessage", "code": -1}
    assert refusal.value.code == -32603


def test_an_error_without_a_reason_says_so() -> None:
    with pytest.raises(Unanswered, match="no reason given"):
        answer_of(Question("roots/list"), refused().replace(error=Raw(b"7")))


@pytest.mark.parametrize("action", ["decline", "cancel"])
def test_a_user_who_declines_has_answered(action: str) -> None:
    answer = answer_of(Question("elicitation/create"), jsonrpc.result(b"1", {"action": action}))

    assert value_of(answer) == {"action": action}


def test_an_answer_of_the_wrong_shape_is_invalid() -> None:
    with pytest.raises(InvalidParams, match="action"):
        answer_of(Question("elicitation/create"), jsonrpc.result(b"1", {"action": "maybe"}))


@pytest.mark.parametrize("problem", [Unanswered("the client did not answer"), InvalidParams("no"), TooBusy("later")])
def test_a_tool_fails_with_a_result_and_all_else_with_an_error(problem: GatewayError) -> None:
    tool = failure(jsonrpc.request(b'"c"', "tools/call"), problem)
    prompt = failure(jsonrpc.request(b'"c"', "prompts/get"), problem)

    assert tool.result is not None
    assert value_of(tool.result) == {"content": [{"type": "text", "text": problem.message}], "isError": True}
    oracle.result("tools/call", tool.result, oracle.LEGACY)
    assert prompt.error is not None
    assert jsonrpc.error_code(prompt) == problem.code
    assert tool.id == prompt.id == b'"c"'
