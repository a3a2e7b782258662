"""Streams that are the gateway's own: their ids, and clients that lose their connection and come back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Back, Event, Reply, Request
from mcpgateway.config.limits import Limits
from mcpgateway.config.model import Listen
from mcpgateway.demo.server import Incoming
from mcpgateway.jsonrpc import members_of
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.http import serve_fixture
from mcpgateway.testing.memory import MemoryLink
from mcpgateway.wire.sse import Frame, Parser
from tests.fronts.site import Client, Session, Site, adapters, call, events, gone, notification, request, site
from tests.wire.http1.peers import Answer

LISTEN = {"Accept": "text/event-stream"}
MODERN = frozenset({Era.MODERN})
LEGACY = frozenset({Era.LEGACY})
ASKABLE: dict[str, Any] = {"elicitation": {}}
SAID = {"action": "accept", "content": {"name": "Ada"}}


@attrs.frozen
class Place:
    """Where a client is: a site, a path there, and what the tools of the fixture are called on it."""

    gateway: Site
    path: str
    prefix: str

    async def begin(self, capabilities: dict[str, Any] | None = None, revision: str = "2025-11-25") -> Session:
        return await (await self.gateway.dial()).initialize(self.path, capabilities, revision)

    def call(self, id: object, tool: str, arguments: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
        return call(id, self.prefix + tool, arguments, **params)

    async def start(self, session: Session, message: object) -> Client:
        client = await self.gateway.dial()
        await session.start(client, message)
        return client

    async def say(self, session: Session, message: object) -> Answer:
        return await session.post(await self.gateway.dial(), message)

    async def listen(self, session: Session, last_event: bytes | None = None) -> Client:
        client = await self.gateway.dial()
        headers = {**LISTEN, **session.headers}
        if last_event is not None:
            headers["Last-Event-ID"] = last_event.decode()
        await client.start("GET", session.path, b"", headers)
        return client

    async def progresses(self, step: int, **more: str) -> None:
        """Have the slow call that there is make progress."""
        (incoming,) = self._slow().values()
        token = members_of(incoming.params["_meta"])["progressToken"]
        (link,) = [link for link in self.gateway.adapters["one"].links if link.host.slow]  # type: ignore[attr-defined]  # of a FixtureServer
        link.send(jsonrpc.notification("notifications/progress", {"progressToken": token, "progress": step, **more}))
        await trio.testing.wait_all_tasks_blocked(0.01)

    def _slow(self) -> dict[bytes, Incoming]:
        found: dict[bytes, Incoming] = {}
        for link in self.gateway.adapters["one"].links:
            found |= link.host.slow  # type: ignore[attr-defined]  # of a FixtureServer
        return found

    async def slow(self, session: Session, id: object = 1) -> Client:
        """A slow call, begun, and seen by the server."""
        client = await self.start(session, self.call(id, "slow", {"name": "s"}, _meta={"progressToken": "p"}))
        while not self._slow():
            await trio.testing.wait_all_tasks_blocked(0.001)
        return client

    async def under_way(self, session: Session) -> tuple[Client, Frame, Frame]:
        """A slow call that has made a step: where its stream is read, and the frames that began it and told of that."""
        client = await self.slow(session)
        await self.progresses(1)
        prime, step = await read(client, 2)
        return client, prime, step

    async def release(self, session: Session) -> None:
        await self.say(session, self.call(99, "release"))


PLACES = {
    "of a modern server": ("/mcp/one", "", MODERN),
    "of modern servers, merged": ("/mcp", "one_", MODERN),
    "of a legacy server on a pipe": ("/mcp/one", "", LEGACY),
    "of legacy servers, merged": ("/mcp", "one_", LEGACY),
}


@pytest.fixture(params=PLACES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def place(kind: str, limits: Limits | None = None) -> AsyncIterator[Place]:
    path, prefix, eras = PLACES[kind]
    listen = Listen(limits=limits or Limits())
    async with site(adapters("one", eras=eras), listen, shutdown_timeout=0.1) as gateway:
        yield Place(gateway, path, prefix)


def frames(data: bytes) -> list[Frame]:
    return Parser().feed(data)


async def read(client: Client, count: int) -> list[Frame]:
    """The frames of the response that is being received, once there are so many."""
    while len(frames(bytes(client._answers.body))) < count:
        await client.more()
    return frames(bytes(client._answers.body))


def id_of(frame: Frame) -> bytes:
    assert frame.id is not None
    return frame.id


# ---- ids -------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("bridge.resumability.legacy-to-modern")
async def test_each_stream_begins_with_an_id_and_has_one_with_every_event(kind: str) -> None:
    async with place(kind) as at:
        session = await at.begin()
        steps = at.call(1, "progress", {"n": 3}, _meta={"progressToken": "p"})
        first, second = [await at.say(session, {**steps, "id": id}) for id in (1, 2)]
        listener = await at.listen(session)
        (prime,) = await read(listener, 1)
        told = [*frames(first.body), *frames(second.body), prime]
        for frame in (frames(first.body)[0], frames(second.body)[0], prime):
            assert (frame.data, frame.retry) == (b"", b"1000")
        assert [json.loads(frame.data).get("id") for frame in frames(first.body)[1:]] == [None, None, None, 1]
        ids = [frame.id for frame in told]
        assert None not in ids
        assert len(set(ids)) == len(ids) == 11


@pytest.mark.requirement("bridge.resumability.legacy-to-modern")
@pytest.mark.parametrize("revision", ["2024-11-05", "2025-03-26", "2025-06-18"])
async def test_clients_of_older_revisions_get_ids_and_no_event_without_a_message(kind: str, revision: str) -> None:
    async with place(kind) as at:
        session = await at.begin(revision=revision)
        steps = at.call(1, "progress", {"n": 1}, _meta={"progressToken": "p"})
        told = frames((await at.say(session, steps)).body)
        assert [(frame.data == b"", frame.id is None, frame.retry) for frame in told] == [(False, False, None)] * 2


@pytest.mark.requirement("bridge.resumability.legacy-to-modern")
async def test_a_call_that_nothing_precedes_is_answered_with_json_and_nothing_is_kept(kind: str) -> None:
    async with place(kind) as at:
        session = await at.begin()
        answer = await at.say(session, at.call(1, "echo", {"text": "a"}))
        assert answer.headers["content-type"] == "application/json"
        assert at.gateway.gateway.bounds.outboxes.held == 0


# ---- calls -----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("bridge.resumability.legacy-to-modern")
async def test_a_client_that_loses_its_connection_gets_what_it_missed_and_the_reply_on_another(kind: str) -> None:
    async with place(kind) as at:
        session = await at.begin()
        client, _, seen = await at.under_way(session)
        await client.aclose()
        await at.progresses(2)

        again = await at.listen(session, id_of(seen))
        missed = (await read(again, 2))[1]
        assert json.loads(missed.data)["params"] == {"progressToken": "p", "progress": 2}
        await at.progresses(3)
        await at.release(session)
        answer = await again.answer()
        assert [message.get("id") for message in events(answer)] == [None, None, 1]
        assert events(answer)[-1]["result"]["content"][0]["text"] == "s"
        await gone(at.gateway)


async def test_a_reply_waits_for_a_client_that_is_away_and_may_be_fetched_again(kind: str) -> None:
    """A client that was cut off while it fetched the reply comes with the same id as before."""
    async with place(kind) as at:
        session = await at.begin()
        client, prime, _ = await at.under_way(session)
        await client.aclose()
        await at.release(session)
        await at.gateway.idle()
        for _ in range(2):
            told = events(await (await at.listen(session, id_of(prime))).answer())
            assert [message.get("id") for message in told] == [None, 1]


async def test_what_was_sent_to_a_dead_connection_comes_again_on_the_one_that_takes_its_place(kind: str) -> None:
    """Nobody has noticed that the first is dead: it is open, and read no more."""
    async with place(kind) as at:
        session = await at.begin()
        dead, prime, _ = await at.under_way(session)
        again = await at.listen(session, id_of(prime))
        assert len(await read(again, 2)) == 2
        await at.progresses(2)
        await at.release(session)
        told = events(await again.answer())
        assert [message.get("id", message.get("params", {}).get("progress")) for message in told] == [1, 2, 1]
        assert events(await dead.answer()) == told[:1]
        assert await dead.ended()


async def test_a_connection_that_is_stuck_does_not_hold_up_the_one_that_takes_its_place(kind: str) -> None:
    """It would be given up after ``write_timeout`` only."""
    async with place(kind) as at:
        session = await at.begin()
        _dead, prime, _ = await at.under_way(session)
        await at.progresses(2, message="x" * 16_000_000)
        again = await at.listen(session, id_of(prime))
        await at.progresses(3)
        await at.release(session)
        told = events(await again.answer())
        assert [message.get("id", message.get("params", {}).get("progress")) for message in told] == [1, 3, 1]


@pytest.mark.requirement("bridge.resumability.legacy-to-modern")
async def test_a_question_waits_for_a_client_that_is_away_and_its_answer_brings_the_reply(kind: str) -> None:
    async with place(kind) as at:
        session = await at.begin(ASKABLE)
        client = await at.start(session, at.call(1, "ask"))
        prime, _ = await read(client, 2)
        await client.aclose()

        again = await at.listen(session, id_of(prime))
        (question,) = [json.loads(frame.data) for frame in (await read(again, 2))[1:]]
        assert question["method"] == "elicitation/create"
        await again.aclose()  # parked in the question, and gone once more
        given = {"jsonrpc": "2.0", "id": question["id"], "result": SAID}
        assert (await at.say(session, given)).status == 202

        told = events(await (await at.listen(session, id_of(frames(bytes(again._answers.body))[1]))).answer())
        (reply,) = told
        assert reply["id"] == 1
        content = reply["result"]["structuredContent"]
        assert SAID in (content.get("result"), content.get("inputResponses", {}).get("name"))


async def test_a_call_that_is_cancelled_by_a_client_that_came_back_ends_its_stream(kind: str) -> None:
    async with place(kind) as at:
        session = await at.begin()
        client, prime, _ = await at.under_way(session)
        await client.aclose()
        again = await at.listen(session, id_of(prime))
        await read(again, 2)
        await at.say(session, notification("notifications/cancelled", {"requestId": 1}))
        assert [message["method"] for message in events(await again.answer())] == ["notifications/progress"]
        await gone(at.gateway)


async def test_the_end_of_a_session_ends_a_stream_that_was_resumed(kind: str) -> None:
    async with place(kind) as at:
        session = await at.begin()
        _client, prime, _ = await at.under_way(session)
        again = await at.listen(session, id_of(prime))
        await read(again, 2)
        deleted = await (await at.gateway.dial()).ask("DELETE", session.path, headers=session.headers)
        assert deleted.status == 200
        assert (await again.answer()).status == 200
        assert at.gateway.gateway.bounds.outboxes.held == 0


async def test_a_gateway_that_shuts_down_answers_on_a_stream_that_was_resumed(kind: str) -> None:
    async with place(kind) as at:
        session = await at.begin()
        _client, prime, _ = await at.under_way(session)
        again = await at.listen(session, id_of(prime))
        await read(again, 2)
        at.gateway.stop.set()
        last = events(await again.answer())[-1]
        assert (last["id"], last["error"]["message"]) == (1, "the gateway is shutting down")


async def test_the_streams_of_two_calls_are_told_apart(kind: str) -> None:
    async with place(kind) as at:
        session = await at.begin(ASKABLE)
        clients = [await at.start(session, at.call(id, "ask")) for id in (1, 2)]
        primes = [(await read(client, 2))[0] for client in clients]
        for client in clients:
            await client.aclose()
        again = [await at.listen(session, id_of(prime)) for prime in primes]
        asked = [json.loads((await read(client, 2))[1].data)["id"] for client in again]
        for id in reversed(asked):
            assert (await at.say(session, {"jsonrpc": "2.0", "id": id, "result": SAID})).status == 202
        told = [events(await client.answer()) for client in again]
        assert [[message["id"] for message in each] for each in told] == [[asked[0], 1], [asked[1], 2]]


@pytest.mark.requirement("bridge.resumability.legacy-to-modern")
async def test_what_is_kept_for_a_client_has_bounds_and_the_reply_outlasts_what_came_before_it(kind: str) -> None:
    async with place(kind, Limits(outbox_events_per_session=3)) as at:
        session = await at.begin()
        client, prime, _ = await at.under_way(session)
        await client.aclose()
        for step in range(2, 6):
            await at.progresses(step)
        await at.release(session)
        told = events(await (await at.listen(session, id_of(prime))).answer())
        assert [message.get("id", message.get("params", {}).get("progress")) for message in told] == [4, 5, 1]


# ---- what cannot be resumed ------------------------------------------------------------------------------------------


@pytest.mark.requirement("bridge.resumability.legacy-to-modern")
@pytest.mark.parametrize("id", [b"7-0", b"0-99", b"another-server's", b"1-1"])
async def test_an_event_that_is_not_known_is_a_400_and_the_session_goes_on(kind: str, id: bytes) -> None:
    async with place(kind) as at:
        session = await at.begin()
        answer = await (await at.listen(session, id)).answer()
        assert (answer.status, answer.json["error"]["code"]) == (400, -32600)
        assert "Last-Event-ID" in answer.json["error"]["message"]
        assert (await at.say(session, request(5, "ping"))).json["result"] == {}


async def test_the_events_of_another_session_are_not_to_be_had(kind: str) -> None:
    async with place(kind) as at:
        mine, other = await at.begin(), await at.begin()
        client, prime, _ = await at.under_way(mine)
        await client.aclose()
        assert (await (await at.listen(other, id_of(prime))).answer()).status == 400
        stolen = {**LISTEN, **other.headers, "Mcp-Session-Id": "s.unknown", "Last-Event-ID": id_of(prime).decode()}
        assert (await (await at.gateway.dial()).ask("GET", at.path, b"", stolen)).status == 404
        await at.release(mine)


async def test_streams_that_are_resumed_count_as_streams(kind: str) -> None:
    async with place(kind, Limits(streams=1, streams_per_address=1)) as at:
        session = await at.begin()
        client, prime, _ = await at.under_way(session)
        await client.aclose()
        standing = await at.listen(session)
        await read(standing, 1)
        assert (await (await at.listen(session, id_of(prime))).answer()).status == 503
        await standing.aclose()
        await gone_but_calls(at.gateway)
        again = await at.listen(session, id_of(prime))
        await at.release(session)
        assert [message.get("id") for message in events(await again.answer())] == [None, 1]


async def gone_but_calls(gateway: Site) -> None:
    while gateway.gateway.bounds.streams.held:
        await trio.testing.wait_all_tasks_blocked(0.01)


# ---- the standing stream ---------------------------------------------------------------------------------------------


async def test_the_standing_stream_goes_on_after_the_last_event_and_takes_the_place_of_a_dead_connection() -> None:
    servers = adapters("one", eras=LEGACY)
    async with site(servers) as gateway:
        at = Place(gateway, "/mcp/one", "")
        session = await at.begin()
        dead = await at.listen(session)
        await read(dead, 1)
        link = servers["one"].links[0]
        for listing in ("tools", "prompts"):
            link.send(jsonrpc.notification(f"notifications/{listing}/list_changed"))
        _, first, second = await read(dead, 3)

        again = await at.listen(session, id_of(first))
        assert (await read(again, 2))[1] == second
        assert events(await dead.answer()) == [json.loads(first.data), json.loads(second.data)]
        (listener,) = gateway.gateway.changes.interests.listeners
        assert listener.id == session.id
        link.send(jsonrpc.notification("notifications/resources/list_changed"))
        assert json.loads((await read(again, 3))[2].data)["method"] == "notifications/resources/list_changed"


class Crashes(MemoryLink):
    """A link with a bug, behind which calls tell something and then fail in a way that nobody expects."""

    async def call(self, request: Request, back: Back) -> Reply:
        await back.send(Event(jsonrpc.notification("notifications/message", {"level": "info", "data": 1})))
        raise RuntimeError("a bug")


async def test_the_stream_of_a_call_that_crashes_ends(caplog: pytest.LogCaptureFixture) -> None:
    servers = adapters("one", eras=LEGACY)
    servers["one"].link_class = Crashes
    async with site(servers) as gateway:
        at = Place(gateway, "/mcp/one", "")
        session = await at.begin()
        client = await at.start(session, at.call(1, "echo"))
        prime, _ = await read(client, 2)
        again = await (await at.listen(session, id_of(prime))).answer()
        assert [message["method"] for message in events(again)] == ["notifications/message"]
    assert "a bug" in caplog.text


@pytest.mark.parametrize("eras", [MODERN, LEGACY])
async def test_a_reply_that_the_server_streamed_comes_as_json_if_nothing_came_before_it(eras: frozenset[Era]) -> None:
    """There is nothing that could be resumed, and to begin a stream is not the server's to choose here."""
    async with serve_fixture(eras=eras) as fixture, site(urls={"one": fixture.url}) as gateway:
        at = Place(gateway, "/mcp", "one_")
        session = await at.begin()
        for id in range(3):  # the later ones without a task
            answer = await at.say(session, at.call(id, "echo", {"text": "a"}))
            assert answer.headers["content-type"] == "application/json"
        steps = at.call(2, "progress", {"n": 1}, _meta={"progressToken": "p"})
        assert len(frames((await at.say(session, steps)).body)) == 3


async def test_a_batch_that_became_a_stream_is_resumed_likewise(kind: str) -> None:
    async with place(kind) as at:
        session = await at.begin(ASKABLE, "2025-03-26")
        client = await at.start(session, [at.call(1, "ask"), at.call(2, "echo", {"text": "a"})])
        first = (await read(client, 1))[0]
        await client.aclose()
        told = await at.listen(session, id_of(first))
        asked = json.loads(first.data)
        given = [{"jsonrpc": "2.0", "id": asked["id"], "result": SAID}]
        if "method" in asked:
            assert (await at.say(session, given)).status == 202
        assert {message["id"] for message in events(await told.answer())} == {1, 2}


# ---- through two gateways --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("is_done", [False, True])
async def test_a_call_through_two_gateways_is_resumed_likewise(merged: bool, is_done: bool) -> None:
    """The outer one passes streams through, ids and all, unless it merges: then it resumes at the inner by itself."""
    async with (
        site(adapters("one", eras=MODERN), shutdown_timeout=0.1) as inner,
        site(urls={"far": f"http://{inner.host}/mcp/one"}, shutdown_timeout=0.1) as outer,
    ):
        at = Place(inner, "/mcp/one", "")
        there = Place(outer, "/mcp", "far_") if merged else Place(outer, "/mcp/far", "")
        session, beside = await there.begin(), await at.begin()
        client = await there.start(session, there.call(1, "slow", {"name": "s"}, _meta={"progressToken": "p"}))
        while not at._slow():
            await trio.testing.wait_all_tasks_blocked(0.001)
        await at.progresses(1)
        prime, _ = await read(client, 2)
        await client.aclose()
        await at.progresses(2)
        if is_done:
            await at.release(beside)
            await outer.idle()
        again = await there.listen(session, id_of(prime))
        assert len(await read(again, 3)) >= 3
        if not is_done:
            await at.release(beside)
        told = events(await again.answer())
        assert [message.get("params", {}).get("progress", message.get("id")) for message in told] == [1, 2, 1]
        assert told[-1]["result"]["content"][0]["text"] == "s"
