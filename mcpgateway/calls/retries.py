"""Which failed calls may be sent to a server once more, and when. Pure.

What was not sent may be: nobody can have acted upon it. It is tried again for as long as a call waits for a server that
has just failed. What was sent may be only where doing it twice is the same as doing it once: that is so for the methods
in `REPEATABLE`, and for tools whose annotations say so; and only while the client has seen nothing of the call.
"""

from __future__ import annotations

from typing import Final

import attrs
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.backoff import Backoff
from mcpgateway.errors import InvalidParams, NotTried, ServerError, ServerSessionLost, ServerUnavailable
from mcpgateway.jsonrpc import members_of, value_of

REPEATABLE: Final = frozenset(
    {
        *("completion/complete", "logging/setLevel", "ping", "prompts/get", "server/discover"),
        *("prompts/list", "resources/list", "resources/templates/list", "tools/list"),
        *("resources/read", "resources/subscribe", "resources/unsubscribe"),
        *("tasks/get", "tasks/list", "tasks/result"),
    }
)
"""Methods that ask, or that say what is to be."""

_PAUSES: Final = Backoff(initial=0.05, maximum=0.5, jitter=0.5)


@attrs.define
class Retries:
    """The attempts of one call. Times are absolute seconds."""

    repeatable: bool
    """Whether the call may be made twice."""
    patience: float
    """Seconds after the first failure in which what was not sent is tried again."""
    _until: float | None = None
    _repeated: bool = False
    _unsent: int = 0

    def judge(self, problem: ServerError, now: float, *, shown: bool) -> bool:
        """Whether to send it again after a failure; ``shown``: the client has seen something of the call already."""
        if isinstance(problem, NotTried):
            return False
        if self._until is None:
            self._until = now + self.patience
        if isinstance(problem, ServerUnavailable) and problem.unsent:
            return now < self._until
        if self._repeated or shown:
            return False
        # A call in a session that the server has lost was not looked at.
        lost = isinstance(problem, ServerSessionLost)
        self._repeated = lost or (isinstance(problem, ServerUnavailable) and problem.unwell and self.repeatable)
        return self._repeated

    def pause(self, problem: ServerError, unit: float) -> float:
        """Seconds before the next attempt; ``unit`` is a random number in [0, 1)."""
        if not (isinstance(problem, ServerUnavailable) and problem.unsent):
            return 0.0
        self._unsent += 1
        return _PAUSES.delay(self._unsent - 1, unit)


def may_be_called_twice(tool: Raw) -> bool:
    """Whether the annotations of a listed tool say that a second call does nothing that the first did not.

    ``readOnlyHint``, or ``idempotentHint`` (MCP, tools: annotations); both are false where they are not given.
    """
    try:
        annotations = members_of(members_of(tool).get("annotations"))
    except InvalidParams:
        return False
    return any(value_of(annotations.get(hint, jsonrpc.NULL)) is True for hint in ("readOnlyHint", "idempotentHint"))
