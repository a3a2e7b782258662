"""The fixture server, keeping books about calls that carry a ``token``: ``python -m tests.real.ledger_server [PORT]``,
over HTTP on a port, else over stdio.

Its tool ``fates {tokens}`` tells how many tokens have ``come``, which ones came more than once (``twice``), which have
come and met no end yet (``unended``), and the ends of those that it was asked for: ``answered``, ``cancelled``, or
nothing at all. A call is answered here once its reply was made, whoever is there to take it.
"""

from __future__ import annotations

import sys
from collections import Counter
from functools import partial
from typing import Any

import attrs
import trio

from mcpgateway.demo.server import Incoming, Tool, serve_stdio
from mcpgateway.jsonrpc import Message
from mcpgateway.testing.fixture_server import FixtureServer
from mcpgateway.testing.http import serve_fixture


@attrs.define
class Books:
    """What became of tokens."""

    came: Counter[str] = attrs.field(factory=Counter)
    ended: dict[str, str] = attrs.field(factory=dict)

    def fates(self, tokens: Any) -> dict[str, Any]:
        return {
            "come": len(self.came),
            "twice": [token for token, count in self.came.items() if count > 1],
            "unended": [token for token in self.came if token not in self.ended],
            "ends": {token: self.ended[token] for token in tokens if token in self.ended},
        }


class Ledger(FixtureServer):
    """A fixture server with such books, which it may share with others."""

    def __init__(self, books: Books, **keys: Any) -> None:
        super().__init__(**keys)
        self._books = books
        self.tools = {**self.tools, "fates": Tool({"inputSchema": {"type": "object"}}, lambda arguments: {})}

    def call_tool(self, call: Incoming) -> list[Message]:
        arguments = call.arguments()
        if call.text("name") == "fates":
            return [self.reply(call, {"content": [], "structuredContent": self._books.fates(arguments["tokens"])})]
        token = arguments.get("token")
        if not isinstance(token, str):
            return super().call_tool(call)
        self._books.came[token] += 1
        replies = super().call_tool(call)
        if replies:
            self._books.ended[token] = "answered"
        return replies

    def cancel(self, id: bytes) -> None:
        call = self.slow.get(id)
        super().cancel(id)
        if call is not None:
            self._books.ended[str(call.arguments().get("token"))] = "cancelled"


async def over_http(port: int) -> None:
    async with serve_fixture(partial(Ledger, Books()), json=True, port=port):
        await trio.sleep_forever()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        trio.run(over_http, int(sys.argv[1]))
    else:
        serve_stdio(Ledger(Books()))
