"""A modern server that asks before it answers, as a test says, and legacy clients that it asks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager

import trio
import trio.testing
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Reply
from mcpgateway.calls.namespace import Namespace
from mcpgateway.calls.relay import answer
from mcpgateway.demo.server import BOTH
from mcpgateway.errors import JSON
from mcpgateway.gateway import Gateway
from mcpgateway.jsonrpc import Message, members_of, value_of
from mcpgateway.protocol.envelope import CLIENT_CAPABILITIES
from mcpgateway.protocol.revisions import Era
from mcpgateway.sessions.caller import Caller
from mcpgateway.wire.waiting import Wait
from tests.calls.doubles import Collecting, Library, ask, handshake, legacy
from tests.servers.doubles import Counting

MODERN_ONLY = frozenset({Era.MODERN})
EVERYTHING = b'{"elicitation":{"form":{},"url":{}},"sampling":{},"roots":{"listChanged":true}}'

FORM: dict[str, JSON] = {"method": "elicitation/create", "params": {"message": "Who?", "requestedSchema": {}}}
URL: dict[str, JSON] = {
    "method": "elicitation/create",
    "params": {"mode": "url", "message": "Visit", "url": "https://example.test"},
}
SAMPLE: dict[str, JSON] = {"method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1}}
ROOTS: dict[str, JSON] = {"method": "roots/list"}
ANSWERS: dict[str, JSON] = {
    "elicitation/create": {"action": "accept", "content": {"name": "Ada"}},
    "sampling/createMessage": {"role": "assistant", "model": "m", "content": {"type": "text", "text": "hi"}},
    "roots/list": {"roots": [{"uri": "file:///a"}]},
}


class Seminar(Library):
    """A library that wants input: ``rounds`` are its ``input_required`` results, one for each time it is called."""

    rounds: tuple[dict[str, JSON], ...] = ()

    def __init__(self, *, eras: Collection[Era] = BOTH) -> None:
        super().__init__(eras=eras)
        self.asking: list[Message] = []
        """The requests for which it may want input."""

    def handle(self, message: Message) -> list[Message]:
        if message.method not in ("tools/call", "prompts/get", "resources/read") or not self.rounds:
            return super().handle(message)
        self.ids.append(Raw(message.id or b""))
        self.asking.append(message)
        number = len(self.asking) - 1
        if number < len(self.rounds):
            return [jsonrpc.result(message.id or b"", {"resultType": "input_required", **self.rounds[number]})]
        return [jsonrpc.result(message.id or b"", {"resultType": "complete", "content": [], "contents": []})]

    def received(self, member: str) -> list[JSON]:
        """A member of the params of each request, ``None`` where it was not there."""
        return [value_of(members_of(message.params).get(member, jsonrpc.NULL)) for message in self.asking]

    def told(self) -> list[JSON]:
        """The capabilities in the envelope of each request."""
        metas = [members_of(members_of(message.params)["_meta"]) for message in self.asking]
        return [value_of(meta[CLIENT_CAPABILITIES]) for meta in metas]


def seminar(name: str, *rounds: dict[str, JSON]) -> Counting:
    """An adapter to a modern-only `Seminar` of this name."""
    return Counting(name, type(name, (Seminar,), {"name": name, "rounds": rounds}), eras=MODERN_ONLY)


def host(adapter: Counting) -> Seminar:
    found = adapter.host
    assert isinstance(found, Seminar)
    return found


async def opened(
    gateway: Gateway, namespace: Namespace, capabilities: bytes = b"{}", id: str = "session", revision: str = ""
) -> Caller:
    """A client with a session, as a front opens one."""
    caller = legacy(capabilities, revision) if revision else legacy(capabilities)
    _, kept = await namespace.initialize(caller, handshake("reader", capabilities, caller.revision), id)
    assert kept
    gateway.sessions.open(id, namespace.name, caller)
    return caller


class Asked(Collecting):
    """One call of a client, and what it is asked meanwhile; the reply is there when it is over."""

    def __init__(self, caller: Caller) -> None:
        super().__init__()
        self.caller = caller
        self.wait = Wait()
        self.reply: Reply | None = None
        self.problem: Exception | None = None

    @property
    def questions(self) -> list[Message]:
        return [message for message in self.messages if message.is_request]

    async def run(self, namespace: Namespace, method: str, params: Mapping[str, object]) -> None:
        try:
            self.reply = await ask(namespace, self.caller, method, params, wait=self.wait, back=self)
        except Exception as problem:
            self.problem = problem

    async def answers(self, question: Message, result: JSON = None) -> bool:
        """Answer a question, by default as one would; whether anybody took it."""
        said = ANSWERS[question.method or ""] if result is None else result
        taken = await answer(self.caller, jsonrpc.result(question.id or b"", said))
        await trio.testing.wait_all_tasks_blocked()
        return taken


@asynccontextmanager
async def calling(
    namespace: Namespace,
    caller: Caller,
    method: str = "tools/call",
    params: Mapping[str, object] | None = None,
    settle: Callable[[], object] | None = None,
) -> AsyncIterator[Asked]:
    """A call that has come as far as it can without its client; over at the end of the block."""
    asked = Asked(caller)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asked.run, namespace, method, params or {"name": "echo"})
        await trio.testing.wait_all_tasks_blocked()
        yield asked
