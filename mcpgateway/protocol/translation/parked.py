"""A legacy server's questions, put to a modern client as an ``input_required`` (MCP 2026-07-28, basic/patterns/mrtr).

The server's requests become the entries of one result, by key; the answers come back in ``inputResponses`` of the
client's retry. A question that the retry leaves unanswered is asked again, an answer to nothing that was asked is
ignored, and one of the wrong shape is refused: so the specification wants it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Raw

from mcpgateway.errors import InvalidParams, ServerMisbehaved
from mcpgateway.jsonrpc import NULL, Message, members_of, raw_of
from mcpgateway.protocol.envelope import SERVER_INFO
from mcpgateway.protocol.translation.questions import ELICIT, Question, key_of, read_entry, to_modern
from mcpgateway.protocol.translation.requests import INPUT_RESPONSES, REQUEST_STATE
from mcpgateway.protocol.translation.results import INPUT_REQUIRED
from mcpgateway.protocol.translation.shapes import check
from mcpgateway.protocol.translation.splicing import META, entries, of_server, text


def input_required(questions: Mapping[str, Question], *, state: str | None, server_info: Raw | None = None) -> Raw:
    """The raw result that asks a modern client; ``state`` is what its retry has to give back, if anything."""
    result: dict[str, object] = {
        "resultType": INPUT_REQUIRED,
        "inputRequests": {key: to_modern(question) for key, question in questions.items()},
    }
    if state is not None:
        result[REQUEST_STATE] = state
    if server_info is not None:
        result[META] = {SERVER_INFO: server_info}
    return raw_of(result)


def state_of(params: Raw | None) -> str | None:
    """The state that a retry gives back; ``None`` where the request is no retry of a parked call.

    :raises InvalidParams: it is not a string
    """
    raw = members_of(params).get(REQUEST_STATE, NULL)
    if raw == NULL:
        return None
    state = text(raw)
    if state is None:
        raise InvalidParams(f"params.{REQUEST_STATE} must be a string")
    return state


def answers(params: Raw | None, asked: Mapping[str, str]) -> dict[str, Raw]:
    """The raw answers in a retry, by the keys of what was ``asked`` (each with its method); some may be missing.

    :raises InvalidParams: they are no object, or one of them has not the shape of an answer to its question
    """
    raw = members_of(params).get(INPUT_RESPONSES, NULL)
    try:
        given = members_of(raw)
    except InvalidParams:
        raise InvalidParams(f"params.{INPUT_RESPONSES} must be an object") from None
    found = {key: given[key] for key in asked if key in given}
    for key, answer in found.items():
        try:
            check(asked[key], answer)
        except InvalidParams as problem:
            raise InvalidParams(f"params.{INPUT_RESPONSES}, {key[:100]!r}: {problem.message}") from None
    return found


# ---- -32042, "URL elicitation required" (2025-11-25) ---------------------------------------------------------------

URL_REQUIRED: Final = -32042


def required_urls(message: Message, *, server: str) -> dict[str, Question]:
    """The elicitations, by key, that a legacy server's error -32042 lists; the call may be made again after them.

    :raises ServerMisbehaved: it lists none, or something else
    """
    error = of_server(message.error, server, "its error")
    data = of_server(error.get("data"), server, "the data of its error -32042")
    listed = entries(data.get("elicitations", NULL))
    if not listed:
        raise ServerMisbehaved(server, "its error -32042 lists no elicitations")
    questions: dict[str, Question] = {}
    for entry in listed:
        params = of_server(entry, server, "an elicitation of its error -32042")
        if text(params.get("mode")) != "url" or text(params.get("url")) is None or text(params.get("message")) is None:
            raise ServerMisbehaved(server, "its error -32042 lists an elicitation that is not of a URL")
        question = read_entry(raw_of({"method": ELICIT, "params": entry}), server=server)
        questions[key_of(question, questions)] = question
    return questions
