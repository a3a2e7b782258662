"""A server at the far end of a `PipeLink`, and its wire: a fake that tests tell what to say."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import trio

from mcpgateway.adapters.pipe import PipeLink
from mcpgateway.jsonrpc import Message


class Server:
    """The far end of a link, and its wire: records what is sent, answers what it is told to answer."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.outside: list[Message] = []
        self.answers: dict[str, Callable[[], dict[str, Any] | None]] = {}
        self.broken: Exception | None = None
        self.closed = 0
        self.link = PipeLink("s", self, self.outside.append, pid=7)

    def put(self, data: bytes) -> None:
        if self.broken is not None:
            raise self.broken
        message = json.loads(data)
        self.sent.append(message)
        answer = self.answers.get(message["method"], lambda: None)() if "method" in message else None
        if answer is not None:
            self.says(id=message["id"], **answer)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self.closed += 1

    def says(self, **members: object) -> None:
        self.link.received(json.dumps({"jsonrpc": "2.0", **members}).encode())

    def replies(self, id: object, text: object = "ok") -> None:
        self.says(id=id, result={"text": text})

    def progress(self, token: object, amount: int) -> None:
        self.says(method="notifications/progress", params={"progressToken": token, "progress": amount})

    def methods(self) -> list[str]:
        return [message.get("method", "response") for message in self.sent]
