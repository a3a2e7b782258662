"""The server behind the gateway in the soak: the fixture server, and a tool that begins and never ends by itself.

======================= ===============================================================================================
hold {name}             tells one step of progress, then waits until it is cancelled; the name is reported then
======================= ===============================================================================================

``python -m tests.soak.server FILE`` serves it over stdio and appends the names of cancelled calls to the file: a child
may be one of several, and may be gone when the test looks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from pathlib import Path

from mcpgateway import jsonrpc
from mcpgateway.demo.server import BOTH, Incoming, Tool, ToolError, serve_stdio
from mcpgateway.errors import JSON
from mcpgateway.jsonrpc import Message, members_of
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.fixture_server import FixtureServer


class SoakServer(FixtureServer):
    """``report`` is told the name of every call of ``hold`` that was cancelled."""

    def __init__(self, *, eras: Collection[Era] = BOTH, report: Callable[[str], None]) -> None:
        super().__init__(eras=eras)
        self.tools["hold"] = Tool({"inputSchema": {"type": "object"}}, _never)
        self._report = report

    def call_tool(self, call: Incoming) -> list[Message]:
        if call.text("name") != "hold":
            return super().call_tool(call)
        self.slow[call.id] = call
        token = members_of(call.params["_meta"])["progressToken"]
        return [jsonrpc.notification("notifications/progress", {"progressToken": token, "progress": 1})]

    def cancel(self, id: bytes) -> None:
        before = len(self.cancelled)
        super().cancel(id)
        for name in self.cancelled[before:]:
            self._report(name)


def _never(arguments: dict[str, JSON]) -> dict[str, JSON]:
    raise ToolError("the fixture server runs its tools itself")


def main(file: str) -> None:
    def report(name: str) -> None:
        with Path(file).open("a") as log:
            log.write(f"{name}\n")

    serve_stdio(SoakServer(report=report))


if __name__ == "__main__":
    main(sys.argv[1])
