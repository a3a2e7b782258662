"""What may become of a call, and what must not: the accounts of a world."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import trio
import trio.testing

from tests.chaos.clients import Call
from tests.chaos.faults import Failing

SESSION_IDLE: Final = 300.0
"""Seconds after which the gateway ends a session that nobody uses."""


class Judge:
    """Looks at every call that is over. ``violated`` is told what must not have happened."""

    def __init__(self, failing: Mapping[str, Failing], violated: Callable[[str], None]) -> None:
        self._failing = failing
        self._violated = violated

    def judge(self, made: Call) -> None:
        """Nothing of others; exactly one answer, and the right one; or a failure with a reason that explains it."""
        own = [reply for reply in made.replies if reply.get("id") == made.id]
        foreign = [reply for reply in made.replies if reply.get("id") not in (made.id, None)]
        if foreign or len(made.replies) > 1:
            self._violated(f"{made} was answered with {made.replies}")
        for event in made.events:
            token = event.get("params", {}).get("progressToken", made.text)
            if token != made.text:
                self._violated(f"{made} got what belongs to another: {event}")
        if made.kind == "listen" or (made.excused and not own):
            return
        if not made.replies:
            if not self._may_be_lost(made):
                self._violated(f"{made} was not answered (HTTP {made.status}, {'an' if made.ended else 'no'} end)")
        elif "error" in made.replies[0]:
            self._judge_error(made, made.replies[0]["error"])
        else:
            self._judge_result(made, made.replies[0]["result"])

    def _may_be_lost(self, made: Call) -> bool:
        """Whether a response may have ended without a reply: the session is gone."""
        return made.ended and made.excused

    def _judge_error(self, made: Call, error: dict[str, Any]) -> None:
        if made.excused:
            return
        if made.kind == "hold" and "within" in error["message"]:  # it never answers, and a deadline is a deadline
            self._failing[made.servers[0]].trouble()
            return
        if made.status == 404 and self._lost_session(made):
            made.client.session = None
            return
        self.excused(f"{made} (HTTP {made.status})", made.servers, made.began, error)
        if not any(repr(name) in error["message"] for name in made.servers):
            self._violated(f"{made} failed without saying whose fault it is: {error}")

    def _lost_session(self, made: Call) -> bool:
        client = made.client
        if client.modern:
            return False
        expired = trio.current_time() - client.used > SESSION_IDLE
        return expired or any(self._failing[name].troubled(client.since) for name in client.servers)

    def _judge_result(self, made: Call, result: dict[str, Any]) -> None:
        if made.kind == "list":
            self._judge_listing(made, result)
        elif made.kind == "echo" and result["content"][0]["text"] != made.text:
            self._violated(f"{made} got the answer of another: {result}")
        elif made.kind == "progress":
            steps = [event["params"]["progress"] for event in made.events]
            if steps != [1, 2, 3] or result["content"][0]["text"] != "3 steps":
                self._violated(f"{made}: progress came as {steps}, then {result}")
        elif made.kind == "ask" and made.client.askable and not made.client.modern:
            heard = result["structuredContent"]
            if heard.get("result", {}).get("content") != {"name": made.text} and not made.excused:
                self._violated(f"{made} was answered for with {heard}")

    def _judge_listing(self, made: Call, result: dict[str, Any]) -> None:
        names = {tool["name"] for tool in result["tools"]}
        for server in made.servers:
            well = not self._failing[server].troubled(made.began)
            if well and ("echo" if made.client.path else f"{server}_echo") not in names:
                self._violated(f"{made} lacks the tools of {server}, which was well")
        for server in result.get("_meta", {}).get("io.github.mcpgateway/missing", {}):
            if not self._failing[server].troubled(made.began):
                self._violated(f"{made} says that {server} is missing, which was well")

    def troubled(self, servers: tuple[str, ...], began: float) -> bool:
        """Whether any of these servers may have failed since then."""
        return any(self._failing[name].troubled(began) for name in servers)

    def excused(self, what: str, servers: tuple[str, ...], began: float, outcome: object) -> None:
        if not self.troubled(servers, began):
            self._violated(f"{what} failed although {servers} were well: {outcome}")
