"""A call of a modern client that a legacy server may ask something about.

The client cannot be asked while it waits: it is answered with the questions, and comes again with the answers. So the
call has a task of its own, and its client visits it. What the server sends while a visitor is there goes to that
visitor; a question ends the visit, after a moment in which others may join it. Without a visitor progress and logs are
lost, as the era wants it, and questions and the reply wait.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Final

import attrs
import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Back, Event, Link, Reply, Request
from mcpgateway.calls.call import Dispatcher, bound
from mcpgateway.calls.levels import tell_level, wants_logs
from mcpgateway.calls.visits import Visitor
from mcpgateway.errors import CallEnded, GatewayError, MethodNotFound, TooBusy
from mcpgateway.jsonrpc import Message, members_of
from mcpgateway.protocol.translation.capabilities import missing
from mcpgateway.protocol.translation.questions import Question, key_of, read_request
from mcpgateway.servers.ledger import Slot
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller
from mcpgateway.wire.shield import shielded
from mcpgateway.wire.waiting import Wait, interruptible

log = logging.getLogger("mcpgateway.server")

TOGETHER: Final = 0.03
"""Seconds after a server's question in which others may join it. Servers ask several at once by sending one after the
other; a modern client is to see them as one."""

QUESTIONS: Final = 100
"""Questions of one call that may be open."""

COURTESY: Final = 2.0
"""Seconds for telling a server that its questions will not be answered."""


@attrs.frozen
class _Asked:
    """A question, where it came from, and under which id."""

    question: Question
    link: Link
    id: bytes


class AskableCall:
    """One call, run by `run` in a task of the gateway's, and visited by its client with `visit`.

    ``message`` is in the server's own words and era, ``caller`` the client as the server sees it. Ending `wait` ends
    the call; whoever ends a visit before it is over does so too.
    """

    def __init__(self, server: Server, caller: Caller, message: Message, first: Visitor) -> None:
        self.server = server
        self.caller = caller
        self.message = message
        self.wait = Wait()
        self.questions: dict[str, _Asked] = {}
        """What the server has asked and the client not answered, by the keys under which the client knows it."""
        self.outcome: Reply | GatewayError | None = None
        self.visitor: Visitor | None = None
        self._slot: Slot | None = None
        """The link that it is made on."""
        self._token = first.token
        self._level = first.level
        self._capabilities = first.caller.capabilities
        self._events: trio.MemorySendChannel[Event | None] | None = None
        """To the visitor; ``None`` on it says that there is a question."""

    # ---- the task of the call ----------------------------------------------------------------------------------------

    async def run(self, dispatcher: Dispatcher) -> None:
        """Make the call and see it to its end, whatever that is."""
        outcome: Reply | GatewayError = CallEnded("the gateway has ended the call")
        try:
            outcome = await dispatcher.straight(self.server, self.caller, self.message, self.wait, self, escort=self)
        except GatewayError as problem:
            outcome = problem
        finally:
            self.outcome = outcome
            if self._events is not None:
                self._events.close()

    async def carry(self, slot: Slot, request: Request, back: Back) -> Reply:
        """See `mcpgateway.calls.helpers.Escort`."""
        link = slot.link
        assert link is not None
        self._slot = slot
        if self._level is not None and wants_logs(self.server, self._level):
            await tell_level(slot, self._level, request.wait)
        try:
            return await link.call(request, back)
        finally:
            slot.give_up = self._slot = None
            await self._withdraw(link)

    async def send(self, event: Event) -> None:
        """The back-channel: what the server sends that is no question."""
        message = event.message
        if message is not None and message.method == "notifications/cancelled":
            self._take_back(message)
        await self._show(event)

    def _take_back(self, message: Message) -> None:
        """The server does not want its question answered any more."""
        id = bytes(members_of(message.params).get("requestId", b""))
        self.questions = {key: asked for key, asked in self.questions.items() if asked.id != id}

    async def asked(self, link: Link, message: Message) -> None:
        """See `mcpgateway.calls.helpers.Escort`."""
        id = message.id or b"null"
        if message.method == "ping":
            await _answer(link, jsonrpc.result(id, {}))
            return
        try:
            question = self._admitted(message)
        except GatewayError as refusal:
            await _answer(link, jsonrpc.error(id, refusal))
            return
        self.questions[key_of(question, self.questions)] = _Asked(question, link, id)
        await self._show(None)

    def _admitted(self, message: Message) -> Question:
        """The question in a server's request, which the client may be asked."""
        question = read_request(message, server=self.server.name)
        self._check(question)
        if len(self.questions) >= QUESTIONS:
            raise TooBusy(f"the client has {QUESTIONS} questions of this call to answer")
        return question

    def _check(self, question: Question) -> None:
        undeclared = missing(question.method, question.params, self._capabilities)
        if undeclared is not None:
            raise MethodNotFound(f"the client did not declare {undeclared}, which {question.method} needs")

    async def _show(self, event: Event | None) -> None:
        events = self._events
        if events is None:
            await trio.lowlevel.checkpoint()
            return
        try:
            await events.send(event)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the visit has ended meanwhile

    async def _withdraw(self, link: Link) -> None:
        """Answer what is still open on a link in the place of a client that will not."""
        left = [asked for asked in self.questions.values() if asked.link is link]
        self.questions = {key: asked for key, asked in self.questions.items() if asked.link is not link}
        if left and not link.closed.is_set():
            with shielded(COURTESY):
                for asked in left:
                    await _answer(link, jsonrpc.error(asked.id, CallEnded("the client does not answer any more")))

    def park(self, until: float, give_up: Callable[[], CallEnded], on_deadline: Callable[[], CallEnded]) -> None:
        """Let the call wait for its next visitor, but no longer than ``until``; then it ends as ``on_deadline`` says.

        If another call cannot do without its link, it ends at once, as ``give_up`` says.
        """
        wait, now = self.wait, trio.current_time()
        wait.patience, wait.deadline, wait.latest = until - now, until, until
        wait.on_deadline = on_deadline
        if self._slot is not None and self._slot.alone:
            self._slot.idle_since = now
            self._slot.give_up = lambda: wait.end(give_up())

    # ---- the task of a visitor ---------------------------------------------------------------------------------------

    def enter(self, visitor: Visitor) -> None:
        """Let a visitor in; there is one at a time. It has to `visit` now."""
        self.visitor = visitor
        if self._slot is not None:
            self._slot.give_up = None
        if self.outcome is None:
            self.wait.latest = math.inf  # the time of its client is not that of the server
            bound(self.wait, self.server)
        self._capabilities = visitor.caller.capabilities

    async def visit(self, answers: dict[str, Raw]) -> bool:
        """Bring the server the answers of the visitor, and the visitor what happens; whether the call is over then.

        If it is not, the server asks something. If this raises, the call is ended.
        """
        visitor = self.visitor
        assert visitor is not None
        self._events, events = trio.open_memory_channel[Event | None](0)
        try:
            with events:
                await self._deliver(answers, visitor.wait)
                return await self._attend(visitor, events)
        except BaseException as problem:
            self.wait.end(problem if isinstance(problem, CallEnded) else CallEnded("its client has gone"))
            raise
        finally:
            self._events = self.visitor = None

    async def _attend(self, visitor: Visitor, events: trio.MemoryReceiveChannel[Event | None]) -> bool:
        due = trio.current_time() + TOGETHER if self.questions else math.inf
        while self.outcome is None:
            event: Event | None = None
            with interruptible(visitor.wait), trio.move_on_at(due) as late:
                try:
                    event = await events.receive()
                except trio.EndOfChannel:
                    break
            if late.cancelled_caught:
                due = math.inf
                if self.questions and self.outcome is None:
                    return False
            elif event is None:
                due = min(due, trio.current_time() + TOGETHER)
            else:
                await visitor.show(event, self._token)
        return True

    async def _deliver(self, answers: dict[str, Raw], wait: Wait) -> None:
        """Bring answers to whom they belong; what the visitor cannot be asked again is refused."""
        for key, asked in list(self.questions.items()):
            if key in answers:
                message = jsonrpc.result(asked.id, answers[key])
            else:
                try:
                    self._check(asked.question)
                    continue
                except MethodNotFound as refusal:
                    message = jsonrpc.error(asked.id, refusal)
            self.questions.pop(key, None)
            with interruptible(wait):
                await _answer(asked.link, message)


async def _answer(link: Link, message: Message) -> None:
    try:
        await link.notify(message)
    except GatewayError as problem:
        log.info("%s", problem.message)
