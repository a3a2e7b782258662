"""A server of the ``mcp`` SDK over Streamable HTTP, or HTTP+SSE, run by uvicorn in a process of its own."""

from __future__ import annotations

import argparse

import uvicorn
from mcp.server.mcpserver import Context, MCPServer


def make() -> MCPServer:
    server = MCPServer("sdk-over-http", version="7")

    @server.tool()
    def add(a: int, b: int) -> int:
        return a + b

    @server.tool()
    async def report(context: Context) -> str:
        await context.report_progress(1, 2, "half")
        return "done"

    @server.tool()
    def fail() -> str:
        raise ValueError("as asked")

    return server


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--stateless", action="store_true")
    parser.add_argument("--sse", action="store_true")
    options = parser.parse_args()
    if options.sse:
        app = make().sse_app()
    else:
        app = make().streamable_http_app(json_response=options.json, stateless_http=options.stateless)
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
