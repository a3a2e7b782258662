"""A server of the ``mcp`` SDK: as an object for ``module:``, and as a process that serves Streamable HTTP on a port."""

from __future__ import annotations

import sys

from mcp.server.mcpserver import MCPServer

server = MCPServer("sdk", version="3.2.1")


@server.tool()
def add(a: int, b: int) -> int:
    """The sum."""
    return a + b


@server.resource("greeting://world")
def greeting() -> str:
    """A greeting."""
    return "hello, world"


@server.prompt()
def ask(what: str) -> str:
    """A question."""
    return f"What is {what}?"


if __name__ == "__main__":
    transport = "sse" if "--sse" in sys.argv else "streamable-http"
    server.run(transport, host="127.0.0.1", port=int(sys.argv[1]))
