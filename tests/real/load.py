"""Clients that call tools one after the other over their own connections, and remember how each call went."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Final
from urllib.parse import urlsplit

import attrs
import trio

from tests.fronts.site import Client, Session, call

PATIENCE: Final = 60.0
"""Seconds after which a call hangs, in any test."""
FEW: Final = 100
"""Calls that some clients make in no time."""


@attrs.frozen
class Called:
    """One call: when it was made and answered (`time.monotonic`), and the message of its error, if it is one."""

    began: float
    ended: float
    problem: str

    @property
    def seconds(self) -> float:
        return self.ended - self.began


async def dial(url: str) -> Client:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return Client(await trio.open_tcp_stream(parts.hostname, parts.port), parts.netloc)


async def calling(
    url: str, path: str, tool: str, until: trio.Event, called: list[Called], *, think: float = 0.0
) -> None:
    """One client that calls ``tool`` with a text of its own until the event is set; every reply is checked.

    ``think`` are the seconds between two calls.
    """
    client = await dial(url)
    async with client:
        session = await client.initialize(path)
        number = 0
        while not until.is_set():
            number += 1
            text = f"{id(client)}-{number}"
            called.append(await one(client, session, number, tool, {"text": text}, expect=text))
            if think:
                await trio.sleep(think)


async def one(
    client: Client, session: Session, number: int, tool: str, arguments: Mapping[str, object], *, expect: str | None
) -> Called:
    """Make one call; ``expect`` is the text that a result must have."""
    began = time.monotonic()
    with trio.fail_after(PATIENCE):
        answer = await session.post(client, call(number, tool, arguments))
    reply: dict[str, Any] = json.loads(answer.body)
    assert reply["id"] == number, reply
    if "error" in reply:
        return Called(began, time.monotonic(), reply["error"]["message"])
    if expect is not None:
        assert reply["result"]["content"][0]["text"] == expect, reply
    return Called(began, time.monotonic(), "")


def percentile(called: list[Called], share: float) -> float:
    """Seconds within which this share of the calls was answered."""
    seconds = sorted(each.seconds for each in called)
    return seconds[min(int(len(seconds) * share), len(seconds) - 1)]


async def begun(called: list[Called]) -> None:
    """Wait until clients are there, and have made some calls."""
    with trio.fail_after(PATIENCE):
        while len(called) < FEW:  # noqa: ASYNC110 - another process
            await trio.sleep(0.01)


async def lasting(seconds: float, until: trio.Event) -> None:
    """Let clients call for so long: for what is measured over real time."""
    await trio.sleep(seconds)
    until.set()


@attrs.frozen
class Killed:
    """When a server was killed: just before, and when that was done."""

    began: float
    over: float


async def killing(times: int, kill: Callable[[], Killed], called: list[Called]) -> list[Killed]:
    """Kill a server so many times, in a thread, each time a second after the last and once it has answered again."""
    killed: list[Killed] = []

    def answers() -> bool:
        return not killed or any(not each.problem and each.began > killed[-1].over for each in called[-100:])

    while len(killed) < times:
        await trio.sleep(1)
        with trio.fail_after(PATIENCE):
            while not answers():  # noqa: ASYNC110 - another process
                await trio.sleep(0.05)
        killed.append(await trio.to_thread.run_sync(kill))
    return killed


async def until_well(url: str, path: str, tool: str) -> None:
    """Call a tool until it answers."""
    async with await dial(url) as client:
        session = await client.initialize(path)
        with trio.fail_after(90):
            for number in count(1):
                if not (await one(client, session, number, tool, {"text": "x"}, expect="x")).problem:
                    return
                await trio.sleep(0.2)
