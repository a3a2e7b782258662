"""Clients that do at random what clients do, and check all that comes back.

A player is one legacy client with a few calls in flight at any time. Every player uses the same ids and the same
progress tokens, so that whatever reaches the wrong one is noticed: texts, names and answers carry the player's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any, Final, Protocol

import attrs
import trio

LANES: Final = 3
"""Calls that a player has in flight."""
PLAYERS: Final = 16
SERVERS: Final = ("child", "web")

OnEvent = Callable[[dict[str, Any]], Awaitable[None]]


class Channel(Protocol):
    """How a player reaches the gateway: one session."""

    async def call(
        self, id: int, tool: str, arguments: Mapping[str, object], on_event: OnEvent
    ) -> dict[str, Any] | None:
        """Call a tool with its id as the progress token. The reply, or ``None`` where there was none."""

    async def send(self, message: dict[str, Any]) -> None:
        """Send a notification, or the answer to a question."""


@attrs.define
class Tally:
    """What happened to all players together."""

    counts: Counter[str] = attrs.field(factory=Counter)
    """Calls by what became of them: ``echo``, ``progress``, ``answered``, ``refused``, ``cancelled``, ``left``."""
    cancelled: list[str] = attrs.field(factory=list)
    """The names of the calls that were cancelled."""

    def check(self, seen: list[str]) -> None:
        """That everything happened, and that the servers saw these cancellations and no other."""
        assert sorted(seen) == sorted(self.cancelled)
        assert self.counts["cancelled"] == len(self.cancelled)
        assert set(self.counts) - {"left"} == {"echo", "progress", "answered", "refused", "cancelled"}


class Player:
    """One client. ``prefixes`` are what its namespace puts before the names of tools; ``leaves`` says that it drops
    connections in the middle of calls, which then go on, as legacy calls do."""

    def __init__(
        self,
        name: str,
        channel: Channel,
        random: Random,
        tally: Tally,
        *,
        askable: bool,
        prefixes: tuple[str, ...],
        leaves: bool = False,
    ) -> None:
        self._name = name
        self._channel = channel
        self._random = random
        self._tally = tally
        self._askable = askable
        self._prefixes = prefixes
        self._leaves = leaves
        self._ids = 0
        self._questions = 0
        self._answered = 0

    async def play(self, going: Callable[[], bool]) -> None:
        """Make calls, several at a time, as long as ``going`` says so."""
        async with trio.open_nursery() as lanes:
            for _ in range(LANES):
                lanes.start_soon(self._lane, going)
        assert self._questions == self._answered  # nobody else's, and none twice

    async def _lane(self, going: Callable[[], bool]) -> None:
        actions = {self._echo: 4, self._progress: 4, self._ask: 2, self._cancel: 1}
        if self._leaves:
            actions |= {self._leave: 1, self._leave_and_cancel: 1}
        while going():
            (action,) = self._random.choices(list(actions), list(actions.values()))
            await action()

    # ---- what a client does ------------------------------------------------------------------------------------------

    async def _echo(self) -> None:
        id, text = self._next()
        result = await self._result(id, "echo", {"text": text}, _nothing)
        assert result["content"][0]["text"] == text
        self._tally.counts["echo"] += 1

    async def _progress(self) -> None:
        id, _ = self._next()
        total, steps = self._random.randint(1, 20), list[int]()

        async def step(message: dict[str, Any]) -> None:
            await trio.lowlevel.checkpoint()
            assert message["method"] == "notifications/progress"
            assert (message["params"]["progressToken"], message["params"]["total"]) == (id, total)
            steps.append(message["params"]["progress"])

        result = await self._result(id, "progress", {"n": total}, step)
        assert result["content"][0]["text"] == f"{total} steps"
        assert steps == list(range(1, total + 1))
        self._tally.counts["progress"] += 1

    async def _ask(self) -> None:
        id, _ = self._next()
        heard = (await self._result(id, "ask", {}, _nothing))["structuredContent"]
        if self._askable:
            assert heard["result"] == {"action": "accept", "content": {"name": self._name}}
            self._answered += 1
            self._tally.counts["answered"] += 1
        else:
            assert heard["error"]["code"] == -32601
            self._tally.counts["refused"] += 1

    async def _cancel(self) -> None:
        id, name = self._next()

        async def cancel(message: dict[str, Any]) -> None:
            assert message["params"]["progressToken"] == id
            await self._cancelled(id, name)

        assert await self._call(id, "hold", {"name": name}, cancel) is None
        self._tally.counts["cancelled"] += 1

    async def _leave(self) -> None:
        id, text = self._next()
        with trio.move_on_after(self._random.random() * 0.01):
            await self._call(id, "echo", {"text": text}, _nothing)
        self._tally.counts["left"] += 1

    async def _leave_and_cancel(self) -> None:
        id, name = self._next()

        async def leave(message: dict[str, Any]) -> None:
            await trio.lowlevel.checkpoint()
            scope.cancel(reason="the client drops its connection")

        with trio.CancelScope() as scope:
            await self._call(id, "hold", {"name": name}, leave)
        await self._cancelled(id, name)
        self._tally.counts["cancelled"] += 1

    async def _cancelled(self, id: int, name: str) -> None:
        self._tally.cancelled.append(name)
        await self._channel.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}})

    # ---- how ---------------------------------------------------------------------------------------------------------

    def _next(self) -> tuple[int, str]:
        self._ids += 1
        return self._ids, f"{self._name}-{self._ids}"

    async def _result(self, id: int, tool: str, arguments: Mapping[str, object], on_event: OnEvent) -> dict[str, Any]:
        reply = await self._call(id, tool, arguments, on_event)
        assert reply is not None
        assert (reply["id"], reply.get("error")) == (id, None), reply
        result: dict[str, Any] = reply["result"]
        return result

    async def _call(
        self, id: int, tool: str, arguments: Mapping[str, object], on_event: OnEvent
    ) -> dict[str, Any] | None:
        """Call a tool; questions are answered whichever call they come with, which not every wire can tell."""

        async def on_message(message: dict[str, Any]) -> None:
            if "id" in message:
                await self._answer(message)
            else:
                await on_event(message)

        return await self._channel.call(id, self._random.choice(self._prefixes) + tool, arguments, on_message)

    async def _answer(self, question: dict[str, Any]) -> None:
        assert self._askable
        assert question["method"] == "elicitation/create"
        self._questions += 1
        result = {"action": "accept", "content": {"name": self._name}}
        await self._channel.send({"jsonrpc": "2.0", "id": question["id"], "result": result})


async def _nothing(message: dict[str, Any]) -> None:
    raise AssertionError(f"nothing was to come before the reply: {message}")


def capabilities(number: int) -> dict[str, Any]:
    """What player ``number`` declares: every second one may be asked."""
    return {"elicitation": {}} if number % 2 else {}


def place(number: int) -> tuple[str, tuple[str, ...]]:
    """The namespace of player ``number``, and the prefixes of tools there: each server by itself, and both as one."""
    return [("child", ("",)), ("web", ("",)), ("", ("child_", "web_"))][number // 2 % 3]
