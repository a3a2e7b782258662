"""``python -m tests.real.newsroom_server``: a stdio server that is another one at every start, and tells who it is.

It has one tool more than at its last start (counted in the file that ``$STARTS`` names), and says of every resource
that is subscribed to, at once, that it was updated.
"""

from __future__ import annotations

import os
from pathlib import Path

from mcpgateway import jsonrpc
from mcpgateway.demo.server import Tool, serve_stdio
from mcpgateway.jsonrpc import Message, members_of
from mcpgateway.protocol.revisions import Era
from tests.calls.newsroom import Newsroom


class Restarted(Newsroom):
    name = "restarted"

    def __init__(self, start: int) -> None:
        super().__init__(eras={Era.LEGACY})
        self.tools = {f"tool{number}": Tool({"inputSchema": {"type": "object"}}, dict) for number in range(start)}

    def handle(self, message: Message) -> list[Message]:
        answers = super().handle(message)
        if message.method == "resources/subscribe":
            uri = members_of(message.params)["uri"]
            return [*answers, jsonrpc.notification("notifications/resources/updated", {"uri": uri})]
        return answers


def main() -> None:
    starts = Path(os.environ["STARTS"])
    with starts.open("a") as file:
        file.write(".")
    serve_stdio(Restarted(len(starts.read_text())))


if __name__ == "__main__":
    main()
