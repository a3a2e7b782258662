"""A modern server's questions, put to a legacy client on the stream of its call (MCP 2026-07-28, basic/patterns/mrtr).

All questions of one round are asked at once and answered in any order. The client gets each under an id of its session
and answers once: what comes a second time, late, or to what was not asked is nobody's (`mcpgateway.calls.relay`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Back, Event
from mcpgateway.errors import GatewayError, InvalidParams
from mcpgateway.jsonrpc import Message, raw_of, value_of
from mcpgateway.protocol.translation.questions import Question, to_legacy
from mcpgateway.protocol.translation.rounds import Unanswered, answer_of
from mcpgateway.sessions.store import Session
from mcpgateway.wire.waiting import Sweeper, Wait, interruptible

log = logging.getLogger("mcpgateway.server")


class Round:
    """The questions of one round, by key, and who takes their answers (a `mcpgateway.sessions.store.Asker`)."""

    def __init__(self, session: Session, questions: Mapping[str, Question]) -> None:
        self.closed = trio.Event()
        self._session = session
        self._questions = questions
        self._open: dict[str, bytes] = {}
        """What has not been answered: the id under which the client was asked, by key."""
        self._answers: dict[str, Raw] = {}
        self._problem: GatewayError | None = None
        self._settled = trio.Event()

    async def ask(self, wait: Wait, back: Back, sweeper: Sweeper, patience: float) -> Mapping[str, Raw]:
        """Ask, and wait for all answers, for at most ``patience`` seconds; raw results by key.

        :raises Unanswered: the client answered with an error, or not in time
        :raises InvalidParams: an answer has another shape than its question asks for
        :raises TooBusy: the client has too many questions to answer
        """
        try:
            for key, question in self._questions.items():
                id = self._open[key] = self._session.ask(self, bytes(raw_of(key)))
                message = to_legacy(question, key=key, id=id, elicitation_id=str(value_of(Raw(id))))
                await back.send(Event(message))
            await self._wait(wait, sweeper, patience)
        except (Unanswered, InvalidParams) as problem:
            await self._take_back(back, problem.message)
            raise
        finally:
            self.closed.set()
            for id in self._open.values():
                self._session.questions.pop(id, None)
        return self._answers

    async def _wait(self, wait: Wait, sweeper: Sweeper, patience: float) -> None:
        wait.deadline = min(wait.latest, trio.current_time() + patience)
        wait.on_deadline = lambda: Unanswered(f"the client did not answer what it was asked within {patience:g} s")
        sweeper.add(wait)
        try:
            with interruptible(wait):
                await self._settled.wait()
        finally:
            sweeper.discard(wait)
        if self._problem is not None:
            raise self._problem

    async def notify(self, message: Message) -> None:
        """Take an answer; its id is that of `Session.ask`, the key of the question."""
        await trio.lowlevel.checkpoint()
        key = value_of(Raw(message.id or b"null"))
        assert isinstance(key, str)
        del self._open[key]
        try:
            self._answers[key] = answer_of(self._questions[key], message)
        except GatewayError as problem:
            log.info("%s", problem.message)
            self._problem = self._problem or problem
        if not self._open or self._problem is not None:
            self._settled.set()

    async def _take_back(self, back: Back, reason: str) -> None:
        """Tell the client what it need not answer any more."""
        for id in self._open.values():
            params = {"requestId": Raw(id), "reason": reason}
            await back.send(Event(jsonrpc.notification("notifications/cancelled", params)))
