"""Clients that come, do something and go, each in another way: politely, or by dropping the connection somewhere.

Nothing of any of them may be left in the gateway, once the time has passed for which a session is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
import trio

from tests.fronts.site import POST, Client, Session, call, modern, request

SSE: Final = {"Accept": "text/event-stream"}
LISTEN: Final = {"notifications": {"toolsListChanged": True}}


@attrs.frozen
class Place:
    """A namespace, and what its names of tools begin with."""

    path: str
    prefix: str = ""
    legacy_only: bool = False

    def call(self, tool: str, **arguments: object) -> dict[str, Any]:
        return call(1, self.prefix + tool, arguments)


Reached = Callable[[str], Awaitable[None]]
"""Waits until the gateway holds one of these at least; the name is that of the bound."""


async def deletes_its_session(client: Client, place: Place, reached: Reached) -> None:
    session = await calls_once(client, place)
    assert (await client.ask("DELETE", place.path, headers=session.headers)).status == 200


async def drops_its_session(client: Client, place: Place, reached: Reached) -> None:
    await calls_once(client, place)


async def calls_once(client: Client, place: Place) -> Session:
    session = await client.initialize(place.path)
    answer = await session.post(client, place.call("echo", text="x"))
    assert b'"text":"x"' in answer.body, answer
    return session


async def drops_its_call(client: Client, place: Place, reached: Reached) -> None:
    session = await client.initialize(place.path)
    await session.start(client, place.call("slow", name="dropped"))
    await reached("calls")


async def drops_its_stream(client: Client, place: Place, reached: Reached) -> None:
    session = await client.initialize(place.path)
    await client.start("GET", place.path, headers={**SSE, **session.headers})
    await reached("streams")


async def drops_its_events(client: Client, place: Place, reached: Reached) -> None:
    """The server has asked it something in the stream of its call."""
    session = await client.initialize(place.path, {"elicitation": {}})
    await session.start(client, place.call("ask"))
    await client.until(1)


async def drops_in_its_head(client: Client, place: Place, reached: Reached) -> None:
    await client.send(f"POST {place.path} HTTP/1.1\r\nHost: h\r\nContent-Le".encode())


async def drops_in_its_body(client: Client, place: Place, reached: Reached) -> None:
    session = await client.initialize(place.path)
    await client.start("POST", place.path, b"{", {**POST, **session.headers, "Content-Length": "200000"})
    await client.send(b"x" * 100_000)


async def calls_in_the_modern_era(client: Client, place: Place, reached: Reached) -> None:
    assert (await client.modern(place.path, place.call("echo", text="x"))).status == 200


async def drops_its_modern_call(client: Client, place: Place, reached: Reached) -> None:
    message, headers = modern(place.call("slow", name="modern"))
    await client.start("POST", place.path, message, {**POST, **headers})
    await reached("calls")


async def drops_its_subscription(client: Client, place: Place, reached: Reached) -> None:
    message, headers = modern(request(1, "subscriptions/listen", LISTEN))
    await client.start("POST", place.path, message, {**POST, **headers})
    await client.until(1)


LEGACY: Final = (
    *(deletes_its_session, drops_its_session, drops_its_call, drops_its_stream, drops_its_events),
    *(drops_in_its_head, drops_in_its_body),
)
MODERN: Final = (calls_in_the_modern_era, drops_its_modern_call, drops_its_subscription)


async def run(
    places: list[Place], cycles: int, dial: Callable[[], Awaitable[Client]], reached: Reached
) -> Counter[str]:
    """So many clients, one after the other: every way at every place, round and round. How many went each way."""
    went = Counter[str]()
    ways = [(way, place) for place in places for way in (*LEGACY, *(() if place.legacy_only else MODERN))]
    for number in range(cycles):
        way, place = ways[number % len(ways)]
        client = await dial()
        try:
            await way(client, place, reached)
            went[way.__name__] += 1
        finally:
            await trio.aclose_forcefully(client)
    return went
