"""Calls that are begun on a link that holds them, so that the test says what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Back, Done, Outcome, Reply, Request
from mcpgateway.calls.namespace import Namespace
from mcpgateway.sessions.caller import Caller
from mcpgateway.testing.memory import MemoryLink
from mcpgateway.wire.waiting import Wait

CALL = {"name": "echo", "arguments": {"text": "hi"}}


class HeldLink(MemoryLink):
    """Takes every call that it is given to begin, and leaves what becomes of it to the test."""

    held: list[tuple[Request, Done]]
    takes = True

    def begin(self, request: Request, done: Done) -> bool:
        if not self.takes:
            return False
        self.__dict__.setdefault("held", []).append((request, done))
        request.wait.wake = lambda: done(request.wait.ended or AssertionError("not ended"))
        return True


class Settled:
    """Takes the outcome, as a front does."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def __call__(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    @property
    def only(self) -> Outcome:
        (outcome,) = self.outcomes
        return outcome

    async def go_on(self, back: Back) -> Reply:
        outcome = self.only
        if isinstance(outcome, Exception):
            raise outcome
        assert not isinstance(outcome, Reply)
        return await outcome(back)


def begin(namespace: Namespace, caller: Caller, wait: Wait, params: Mapping[str, object] = CALL) -> Settled | None:
    settled = Settled()
    message = jsonrpc.request(b'"c1"', "tools/call", params)
    return settled if namespace.begin(caller, message, wait, None, settled) else None


def begun(namespace: Namespace, caller: Caller, wait: Wait, params: Mapping[str, object] = CALL) -> Settled:
    settled = begin(namespace, caller, wait, params)
    assert settled is not None
    return settled
