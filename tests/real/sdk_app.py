"""A server of the ``mcp`` SDK: as an object for ``module:``, and as a process that serves Streamable HTTP,
or HTTP+SSE, on a port."""

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
    if "--sse" in sys.argv:
        server.run("sse", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
