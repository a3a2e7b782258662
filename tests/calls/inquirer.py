"""A legacy server that asks, and the modern client that is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

import attrs
import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Adapter, Back, NoBack, Reply
from mcpgateway.calls.namespace import Namespace
from mcpgateway.config.limits import Parking
from mcpgateway.config.model import Config, ServerConfig
from mcpgateway.demo.server import BOTH, Incoming
from mcpgateway.errors import JSON
from mcpgateway.gateway import Gateway
from mcpgateway.jsonrpc import Message, members_of, value_of
from mcpgateway.protocol import envelope
from mcpgateway.protocol.headers import request_headers
from mcpgateway.protocol.revisions import LATEST_MODERN, Era
from mcpgateway.sessions.caller import Caller
from mcpgateway.wire.waiting import Wait
from tests.calls.doubles import Library, gateway_of, modern, result
from tests.servers.doubles import Counting

LEGACY = frozenset({Era.LEGACY})
FORMS = b'{"elicitation":{}}'
ALL = b'{"elicitation":{"form":{},"url":{}},"sampling":{},"roots":{}}'


def form(name: str) -> dict[str, JSON]:
    """A question for one value."""
    schema: dict[str, JSON] = {"type": "object", "properties": {name: {"type": "string"}}}
    return {"method": "elicitation/create", "params": {"message": f"{name}?", "requestedSchema": schema}}


SAMPLE: dict[str, JSON] = {"method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1}}
ROOTS: dict[str, JSON] = {"method": "roots/list"}
ACCEPTED: dict[str, JSON] = {"action": "accept", "content": {"name": "Ada"}}


@attrs.define(eq=False)
class _Quiz:
    call: Incoming
    rounds: list[list[JSON]]
    open: set[bytes] = attrs.field(factory=set)
    answers: list[JSON] = attrs.field(factory=list)


class Inquirer(Library):
    """Has a tool ``quiz {rounds}``: rounds of questions, each asked when the last was answered, then all the answers.

    Before each round there is progress, and a log of level ``info``.
    """

    def __init__(self, *, eras: Collection[Era] = BOTH) -> None:
        super().__init__(eras=eras)
        self.tools |= dict.fromkeys(("quiz", "urls"), self.tools["echo"])
        self.quizzes: dict[bytes, _Quiz] = {}
        self.given_up: list[bytes] = []
        """The calls that were cancelled."""
        self.answers: list[Message] = []
        """All responses to questions."""
        self._number = 0

    def handle(self, message: Message) -> list[Message]:
        if message.method == "resources/read" and b"quiz" in bytes(message.params or b""):
            self.seen.append(message)
            call = Incoming(message.id or b"", "resources/read", members_of(message.params), Era.LEGACY)
            return self._next(_Quiz(call, [[form("name")]]))
        return super().handle(message)

    def call_tool(self, call: Incoming) -> list[Message]:
        if call.text("name") == "urls":
            error = {"code": -32042, "message": "visit", "data": {"elicitations": [URL]}}
            return [
                Message({"jsonrpc": Raw(b'"2.0"'), "id": Raw(call.id), "error": jsonrpc.raw_of(error)}, None, call.id)
            ]
        if call.text("name") != "quiz":
            return super().call_tool(call)
        rounds = call.arguments().get("rounds")
        assert isinstance(rounds, list)
        return self._next(_Quiz(call, [each for each in rounds if isinstance(each, list)]))

    def _next(self, quiz: _Quiz) -> list[Message]:
        if not quiz.rounds:
            return [
                self.reply(quiz.call, {"content": [], "contents": [], "structuredContent": {"answers": quiz.answers}})
            ]
        told: list[Message] = []
        token = members_of(quiz.call.params.get("_meta")).get("progressToken")
        if token is not None:
            params = {"progressToken": token, "progress": len(quiz.answers)}
            told.append(jsonrpc.notification("notifications/progress", params))
        told.append(jsonrpc.notification("notifications/message", {"level": "info", "data": "asking"}))
        for question in quiz.rounds.pop(0):
            assert isinstance(question, dict)
            self._number += 1
            id = b'"q%d"' % self._number
            quiz.open.add(id)
            self.quizzes[id] = quiz
            told.append(jsonrpc.request(id, str(question["method"]), question.get("params")))
        return told

    def answered(self, message: Message) -> list[Message]:
        self.answers.append(message)
        quiz = self.quizzes.pop(message.id or b"", None)
        if quiz is None:
            return super().answered(message)
        quiz.open.discard(message.id or b"")
        quiz.answers.append(value_of(message.result or message.error or b"null"))
        return [] if quiz.open or quiz.call.id in self.given_up else self._next(quiz)

    def notified(self, message: Message) -> list[Message]:
        if message.method == "notifications/cancelled":
            self.given_up.append(bytes(members_of(message.params)["requestId"]))
        return super().notified(message)


URL: dict[str, JSON] = {"mode": "url", "url": "https://a.example/x", "message": "go", "elicitationId": "e-1"}


def inquirer(name: str = "a") -> Counting:
    return Counting(name, type(name, (Inquirer,), {"name": name}), eras=LEGACY)


@asynccontextmanager
async def asking(
    *adapters: Adapter, configs: Mapping[str, ServerConfig] | None = None, parking: Parking | None = None
) -> AsyncIterator[Gateway]:
    """`gateway_of`, with terms of parking."""
    async with gateway_of(*adapters, configs=configs, config=Config(parking=parking or Parking())) as gateway:
        yield gateway


def hosts(adapter: Counting) -> list[Inquirer]:
    """The servers behind all links, the oldest first."""
    found = [link.host for link in adapter.links]
    assert all(isinstance(host, Inquirer) for host in found)
    return found  # type: ignore[return-value]  # just looked at


@attrs.define
class Asked:
    """A modern client's call, with what it takes to come again."""

    namespace: Namespace
    caller: Caller
    params: Mapping[str, object]
    method: str = "tools/call"
    state: str | None = None
    questions: Mapping[str, JSON] = attrs.field(factory=dict)

    async def send(
        self,
        answers: Mapping[str, JSON] | None = None,
        *,
        wait: Wait | None = None,
        back: Back | None = None,
        meta: Mapping[str, object] | None = None,
        **params: object,
    ) -> dict[str, JSON]:
        """Make the call, or make it again; the result."""
        reply = await self.reply(answers, wait=wait, back=back, meta=meta, **params)
        found = result(reply)
        self.state = None
        if found["resultType"] == "input_required":
            state, questions = found.get("requestState"), found["inputRequests"]
            assert state is None or isinstance(state, str)
            assert isinstance(questions, dict)
            self.state, self.questions = state, questions
        return found

    async def reply(
        self,
        answers: Mapping[str, JSON] | None = None,
        *,
        wait: Wait | None = None,
        back: Back | None = None,
        meta: Mapping[str, object] | None = None,
        **params: object,
    ) -> Reply:
        sent: dict[str, object] = {**self.params, **({"_meta": meta} if meta else {})}
        if answers is not None:
            sent |= {"inputResponses": answers}
        if self.state is not None:
            sent |= {"requestState": self.state}
        message = jsonrpc.request(b'"c1"', self.method, {**sent, **params})
        stamped = envelope.stamp(message.params, revision=LATEST_MODERN, capabilities=self.caller.capabilities)
        message = message.replace(params=stamped)
        return await self.namespace.serve(
            self.caller, message, wait or Wait(), back or NoBack(), request_headers(message)
        )


def quiz(namespace: Namespace, *rounds: Sequence[JSON], capabilities: bytes = FORMS, tool: str = "quiz") -> Asked:
    params = {"name": tool, "arguments": {"rounds": [list(each) for each in rounds]}}
    return Asked(namespace, modern(capabilities), params)


async def settle() -> None:
    """Let everybody do what is to be done at this moment."""
    await trio.testing.wait_all_tasks_blocked()
