"""A modern server's ``input_required``, played as requests to a legacy client (MCP 2026-07-28, basic/patterns/mrtr).

One round: `read` the result; put each of its questions to the client (`mcpgateway.protocol.translation.questions`);
take each answer with `answer_of`; send what `retry` makes of the request. A round without questions is a server that
wants to be asked again. What goes wrong on the client's side ends the call as `failure` says. A user who declines or
dismisses an elicitation has answered it: that is for the server to deal with.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.errors import GatewayError, ServerMisbehaved
from mcpgateway.jsonrpc import NULL, Message, members_of, raw_of
from mcpgateway.protocol.methods import MAY_ASK
from mcpgateway.protocol.translation.capabilities import missing
from mcpgateway.protocol.translation.questions import Question, read_entry
from mcpgateway.protocol.translation.requests import INPUT_RESPONSES, REQUEST_STATE
from mcpgateway.protocol.translation.shapes import check
from mcpgateway.protocol.translation.splicing import of_server, text


class Unanswered(GatewayError):
    """The client answered a question of the server with an error; the call cannot go on."""


@attrs.frozen
class InputRequired:
    """What a server needs before it goes on: its questions by key, and the state to give back, raw and to the byte."""

    questions: Mapping[str, Question]
    state: Raw | None


def read(method: str, result: Raw, *, capabilities: Raw, server: str) -> InputRequired:
    """Read a result whose type is ``input_required``; ``capabilities`` are the client's, an object.

    :raises ServerMisbehaved: the method has no such results, it is malformed, or it asks for what the client did not
        declare
    """
    members = of_server(result, server, f"the result of {method}")
    if method not in MAY_ASK:
        raise ServerMisbehaved(server, f"wants input for {method}, for which it may not ask")
    entries = members.get("inputRequests", NULL)
    asked = of_server(entries, server, "its inputRequests") if entries != NULL else {}
    questions = {key: read_entry(entry, server=server) for key, entry in asked.items()}
    state = members.get(REQUEST_STATE, NULL)
    if state != NULL and text(state) is None:
        raise ServerMisbehaved(server, "its requestState is not a string")
    if not questions and state == NULL:
        raise ServerMisbehaved(server, "wants input and does not say which")
    for question in questions.values():
        undeclared = missing(question.method, question.params, capabilities)
        if undeclared is not None:
            raise ServerMisbehaved(server, f"asks for {undeclared}, which the client did not declare")
    return InputRequired(questions, None if state == NULL else state)


def answer_of(question: Question, response: Message) -> Raw:
    """What a client's response to a question adds to ``inputResponses``.

    :raises Unanswered: it is an error
    :raises InvalidParams: it has not the shape of an answer to this
    """
    if response.result is None:
        reply = jsonrpc.error_reply(response)
        raise Unanswered(
            f"the client did not answer {question.method}: {reply.message[:200] or 'no reason given'}",
            data={"question": question.method, "code": reply.reply_code},
        )
    check(question.method, response.result)
    return response.result


def retry(message: Message, required: InputRequired, answers: Mapping[str, Raw]) -> Message:
    """The modern request once more, with the answers by key and the exact state; the link gives it an id of its own.

    Answers to what was not asked in this round are left out.

    :raises InvalidParams: the params are not an object
    """
    params = members_of(message.params)
    given = {key: answers[key] for key in required.questions if key in answers}
    for name, value in ((INPUT_RESPONSES, raw_of(given) if given else None), (REQUEST_STATE, required.state)):
        if value is None:
            params.pop(name, None)
        else:
            params[name] = value
    return message.replace(params=raw_of(params))


def failure(message: Message, problem: GatewayError) -> Message:
    """How a legacy request ends whose questions were not answered.

    A tool's failure is a result, which models can read; prompts and resources fail with an error.
    """
    id = message.id or b"null"
    if message.method != "tools/call":
        return jsonrpc.error(id, problem)
    return jsonrpc.result(id, {"content": [{"type": "text", "text": problem.message}], "isError": True})
