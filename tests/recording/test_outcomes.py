"""How a call ended."""

from __future__ import annotations

import pytest
import trio

from mcpgateway import jsonrpc
from mcpgateway.calls.parking import Abandoned
from mcpgateway.errors import (
    CallCancelled,
    ClientGone,
    EraMismatch,
    ErrorReply,
    GatewayError,
    InvalidParams,
    MethodNotFound,
    Reconfigured,
    ServerMisbehaved,
    ServerSessionLost,
    ServerTimeout,
    ServerUnavailable,
    ShuttingDown,
    TooBusy,
    TooMany,
)
from mcpgateway.jsonrpc import Message
from mcpgateway.recording.outcomes import Outcome, of_problem, of_reply


def reply(result: object) -> Message:
    return jsonrpc.result(b"1", result)


@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        (reply({"content": []}), Outcome.OK),
        (reply({"content": [{"type": "text", "text": '"isError":true'}], "isError": False}), Outcome.OK),
        (reply({"content": [], "isError": True}), Outcome.TOOL_ERROR),
        (reply({"resultType": "complete"}), Outcome.OK),
        (reply({"resultType": "input_required", "inputRequests": {}}), Outcome.INPUT_REQUIRED),
        (reply({"isError": "yes"}), Outcome.OK),
        (reply([1]), Outcome.OK),
        (reply(None), Outcome.OK),
        (jsonrpc.error(b"1", InvalidParams("no")), Outcome.ERROR),
    ],
)
def test_the_outcome_of_a_reply(message: Message, outcome: Outcome) -> None:
    assert of_reply(message) is outcome


@pytest.mark.parametrize(
    ("problem", "outcome"),
    [
        (ServerTimeout("s", "slow"), Outcome.TIMEOUT),
        (Abandoned("late"), Outcome.TIMEOUT),
        (CallCancelled("by the client"), Outcome.CANCELLED),
        (ClientGone("gone"), Outcome.CANCELLED),
        (ShuttingDown("ends"), Outcome.CANCELLED),
        (Reconfigured("other"), Outcome.CANCELLED),
        (KeyboardInterrupt(), Outcome.CANCELLED),
        (ErrorReply(-1, "no"), Outcome.ERROR),
        (ServerUnavailable("s", "down"), Outcome.UNAVAILABLE),
        (ServerMisbehaved("s", "odd"), Outcome.UNAVAILABLE),
        (ServerSessionLost("s", "404"), Outcome.UNAVAILABLE),
        (TooBusy("full"), Outcome.REFUSED),
        (TooMany("full", rule="calls"), Outcome.REFUSED),
        (InvalidParams("Unknown tool"), Outcome.REFUSED),
        (MethodNotFound("no"), Outcome.REFUSED),
        (EraMismatch("s", client="modern", server_era="legacy"), Outcome.REFUSED),
        (GatewayError("bug"), Outcome.FAILED),
        (KeyError("bug"), Outcome.FAILED),
    ],
)
def test_the_outcome_of_a_problem(problem: BaseException, outcome: Outcome) -> None:
    assert of_problem(problem) is outcome


async def test_a_task_that_is_cancelled_is_a_call_that_is() -> None:
    outcomes: list[Outcome] = []
    with trio.CancelScope() as scope:
        scope.cancel(reason="the test says so")
        try:
            await trio.lowlevel.checkpoint()
        except BaseException as problem:
            outcomes.append(of_problem(problem))
            raise
    assert outcomes == [Outcome.CANCELLED]
