"""The back-channel of a call: to the client that asked, under ids of its session, and never beyond what it declared."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Event
from mcpgateway.calls.relay import Relay, answer
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.revisions import Era
from mcpgateway.sessions.caller import Caller
from mcpgateway.sessions.store import Session
from mcpgateway.testing import MemoryAdapter
from mcpgateway.testing.client import Client, open_client
from mcpgateway.testing.fixture_server import FixtureServer
from mcpgateway.wire.waiting import Wait
from tests.calls.doubles import Collecting, ask, gateway_of, legacy, library, result, session_of, space

ASKABLE = b'{"elicitation":{}}'


class Hears(FixtureServer):
    """Keeps the client's answers."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]  # passed on as they are
        self.answers: list[Message] = []

    def answered(self, message: Message) -> list[Message]:
        self.answers.append(message)
        return super().answered(message)


def answers(client: Client) -> list[Message]:
    host = client.link.host  # type: ignore[attr-defined]  # a link in memory
    assert isinstance(host, Hears)
    return host.answers


def relay(client: Client, caller: Caller) -> tuple[Relay, Collecting]:
    back = Collecting()
    return Relay(caller, client.link, back, Wait()), back


def event(message: Message) -> Event:
    return Event(message, b"id", b"retry")


@pytest.mark.parametrize("tools", [("ask",), ("ask", "ask")])
async def test_a_servers_question_reaches_the_asking_client_and_its_answer_the_server(
    tools: tuple[str, ...], autojump_clock: trio.testing.MockClock
) -> None:
    adapter = library("a", eras={Era.LEGACY})
    async with gateway_of(adapter) as gateway, trio.open_nursery() as nursery:
        namespace = space(gateway, "a")
        caller = session_of(gateway, namespace, legacy(ASKABLE), "one")
        other = session_of(gateway, namespace, legacy(ASKABLE), "two")
        backs = [Collecting() for _ in tools]
        replies: list[object] = []

        async def one(tool: str, back: Collecting) -> None:
            replies.append(result(await ask(namespace, caller, "tools/call", {"name": tool}, back=back)))

        for tool, back in zip(tools, backs, strict=True):
            nursery.start_soon(partial(one, tool, back))
        await trio.testing.wait_all_tasks_blocked()

        questions = [message for back in backs for message in back.messages]
        assert [message.method for message in questions] == ["elicitation/create"] * len(tools)
        assert len({message.id for message in questions}) == len(tools)
        assert not await answer(other, jsonrpc.result(questions[0].id or b"", {"action": "stolen"}))
        for number, question in enumerate(questions):
            assert await answer(caller, jsonrpc.result(question.id or b"", {"action": f"accept {number}"}))
            assert not await answer(caller, jsonrpc.result(question.id or b"", {"action": "twice"}))
        await trio.testing.wait_all_tasks_blocked()

        assert sorted(str(reply) for reply in replies) == [
            str({"content": [], "structuredContent": {"jsonrpc": "2.0", "id": 1, "result": {"action": f"accept {n}"}}})
            for n in range(len(tools))
        ]
        assert caller.session is not None
        assert caller.session.questions == {}


async def test_what_the_client_did_not_declare_is_refused_and_never_reaches_it() -> None:
    async with open_client(MemoryAdapter("s", Hears), Era.LEGACY) as client:
        caller = legacy(b'{"roots":{}}')
        Session("id", "", caller)
        channel, back = relay(client, caller)
        for method in ("elicitation/create", "sampling/createMessage", "roots/list"):
            await channel.send(event(jsonrpc.request(b"1", method)))

        assert [message.method for message in back.messages] == ["roots/list"]
        assert [jsonrpc.error_code(message) for message in answers(client)] == [-32601, -32601]
        assert [message.id for message in answers(client)] == [b"1", b"1"]


async def test_a_caller_without_a_session_cannot_be_asked_but_the_server_may_ping() -> None:
    async with open_client(MemoryAdapter("s", Hears), Era.LEGACY) as client:
        channel, back = relay(client, legacy(ASKABLE))
        await channel.send(event(jsonrpc.request(b"1", "elicitation/create")))
        await channel.send(event(jsonrpc.request(b'"p"', "ping")))

        assert back.messages == []
        assert [message.encode() for message in answers(client)][1] == b'{"jsonrpc":"2.0","id":"p","result":{}}'
        assert jsonrpc.error_code(answers(client)[0]) == -32601


async def test_questions_are_forgotten_with_the_call() -> None:
    async with open_client(MemoryAdapter("s", Hears), Era.LEGACY) as client:
        caller = legacy(ASKABLE)
        session = Session("id", "", caller)
        channel, back = relay(client, caller)
        await channel.send(event(jsonrpc.request(b"1", "elicitation/create")))
        assert len(session.questions) == 1
        channel.forget()

        assert session.questions == {}
        assert not await answer(caller, jsonrpc.result(back.messages[0].id or b"", {}))


async def test_a_server_that_cannot_be_told_of_a_refusal_harms_nothing() -> None:
    adapter = MemoryAdapter("s", Hears)
    async with open_client(adapter, Era.LEGACY) as client:
        channel, back = relay(client, legacy())
        adapter.links[0].crash("gone")
        await channel.send(event(jsonrpc.request(b"1", "elicitation/create")))

        assert back.messages == []


async def test_other_events_pass_as_they_are_and_only_progress_renews_the_deadline() -> None:
    async with open_client(MemoryAdapter("s"), Era.LEGACY) as client:
        back, wait = Collecting(), Wait(patience=10.0)
        channel = Relay(legacy(), client.link, back, wait)
        log = jsonrpc.notification("notifications/message", {"x": Raw(b"1.0")})
        await channel.send(event(log))
        assert wait.deadline == float("inf")
        await channel.send(event(jsonrpc.notification("notifications/progress")))
        assert wait.deadline < float("inf")

        assert back.messages[0] is log
