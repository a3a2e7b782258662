"""Clients whose connections break in the middle of a stream, and which come back with the id of any event they got."""

from __future__ import annotations

import json
import socket
from random import Random
from typing import Any, Final

import attrs
import trio

from mcpgateway.wire.sse import Frame, Parser
from tests.chaos.clients import Call, Client, message_of, send
from tests.chaos.world import World
from tests.wire.http1.peers import Answers

KINDS: Final = ("progress", "progress", "ask", "echo", "list")
PLACES: Final = {"": ("pipe", "safe"), "pipe": ("pipe",), "safe": ("safe",)}
"""Namespaces whose streams are the gateway's own, and servers there."""
VISITS: Final = 8
"""Connections of one call; the last one is read to its end."""


@attrs.define
class _Stream:
    """What a client has of one stream: every event once, in order."""

    events: list[Frame] = attrs.field(factory=list)
    places: list[tuple[bytes, int]] = attrs.field(factory=list)
    """Ids that it may come back with, and how many events it has up to there."""
    wrong: str = ""

    def take(self, since: int, came: list[Frame]) -> None:
        """Take what came after so many events: first what is known already, then what is new."""
        for frame in came:
            if frame.data and since == len(self.events):
                self.events.append(frame)
            elif frame.data and self.events[since] != frame:
                self.wrong = self.wrong or f"{self.events[since]} came again as {frame}"
            since += bool(frame.data)
            if frame.id is not None:
                self.places.append((frame.id, since))
        ids = [frame.id for frame in self.events if frame.id is not None]
        if len(ids) != len(set(ids)):
            self.wrong = self.wrong or f"an event came twice: {ids}"

    @property
    def messages(self) -> list[Any]:
        return [json.loads(frame.data) for frame in self.events]


async def resume(world: World, random: Random) -> str:
    """A client makes a call, and loses its connection again and again."""
    path = random.choice(list(PLACES))
    client = Client(len(world.clients), path, False, askable=True)
    world.clients.append(client)
    if not await world.open(client):
        return f"client {client.number} is not let in at /{path}"
    client.ids += 1
    kind, server = random.choice(KINDS), random.choice(PLACES[path])
    servers = client.servers if kind == "list" else (server,)
    made = Call(client, client.ids, kind, servers, trio.current_time())
    world.calls.append(made)
    world.nursery.start_soon(_perform, world, made, Random(random.random()))
    return f"{made} loses its connections"


async def _perform(world: World, made: Call, random: Random) -> None:
    client, stream, answered, since = made.client, _Stream(), set[str](), 0
    message, fields = message_of(made)
    left, begun = VISITS, False
    while left:
        if begun and not stream.places:
            world.note(f"resumed: {made.kind} has nothing to come back with")
            made.excused = True
            break
        # What a client says that it has, nobody keeps for it; so it never says less than before.
        id, since = random.choice([place for place in stream.places if place[1] >= since]) if begun else (b"", 0)
        sock = world.dial()
        made.connection = sock
        try:
            if begun:
                fields = {**client.headers, "Accept": "text/event-stream", "Last-Event-ID": id.decode()}
                await send(sock, f"GET {client.url}", b"", fields)
            else:
                await send(sock, f"POST {client.url}", json.dumps(message).encode(), fields)
            status, came = await _read(sock, random.randrange(1, 900) if left > 1 else 1 << 20, answered)
        except OSError:
            status, came = 0, []
        finally:
            sock.close()
        left, begun = left - 1, True
        if status not in (0, 200):
            made.status, made.excused = status, made.excused or _lost(world, made)
            made.ended = True
            break
        stream.take(since, came)
        for each in stream.messages:
            if "method" in each and "id" in each and each["id"] not in answered:
                answered.add(each["id"])
                result = {"action": "accept", "content": {"name": made.text}}
                await world.ask(client, {"jsonrpc": "2.0", "id": each["id"], "result": result})
                left += 1
        if any("method" not in each for each in stream.messages):
            made.ended = True
            if random.random() < 0.5:
                break
        if random.random() < 0.3:
            await trio.sleep(random.random())
    made.replies = [each for each in stream.messages if "method" not in each]
    made.events = [each for each in stream.messages if "method" in each and "id" not in each]
    made.excused = made.excused or _lost(world, made)
    made.over = True
    if stream.wrong:
        world.violated(f"{made}: {stream.wrong}")
    world.note(f"resumed: {made.kind} {made.outcome}")
    world.judge.judge(made)
    client.used = trio.current_time()


def _lost(world: World, made: Call) -> bool:
    """Whether its session, or a server of it, may have gone meanwhile."""
    return world.judge.troubled(made.servers, made.client.since)


def _asked(frames: list[Frame], answered: set[str]) -> bool:
    """Whether there is a question among some events that was not answered."""
    messages = [json.loads(frame.data) for frame in frames if frame.data]
    return any("method" in each and "id" in each and each["id"] not in answered for each in messages)


async def _read(sock: socket.socket, count: int, answered: set[str]) -> tuple[int, list[Frame]]:
    """The status and the whole events of a response, of which so many bytes are taken at most, up to a question."""
    answers, taken = Answers(), 0
    with trio.move_on_after(30):
        while taken < count and not answers.done:
            await trio.lowlevel.wait_readable(sock)
            data = sock.recv(min(count - taken, 200))
            if not data:
                break
            taken += len(data)
            answers.feed(data)
            if _asked(Parser().feed(bytes(answers.body)), answered):
                break
    body = answers.done[-1].body if answers.done else bytes(answers.body)
    headers = answers.done[-1].headers if answers.done else answers._headers
    status = answers.done[-1].status if answers.done else 0
    if headers.get("content-type") == "application/json":
        return status, [Frame(data=body)] if answers.done and status == 200 else []
    return status, Parser().feed(body)
