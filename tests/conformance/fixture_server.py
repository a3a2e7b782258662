"""The fixture server of the conformance suite: the SDK's everything-server, which speaks both eras, or one of them.

Runs in the suite's own environment. ``fixture_server.py FOLDER ERA PORT``, with the folder of the everything-server,
serves on 127.0.0.1 Streamable HTTP at ``/mcp``, HTTP+SSE at ``/sse``, WebSocket at ``/ws``; ``stdio`` in the place of
the port serves standard input and output. ``ERA`` is ``both``, ``modern`` or ``legacy``. Whatever the transport, a
connection on which all messages travel keeps to the era of its first request: that is how the SDK does it.
"""

import importlib
import sys
from typing import Any

import anyio
import uvicorn
from mcp.server.sse import SseServerTransport
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

folder, era, where = sys.argv[1:]
one_era: Any = importlib.import_module("one_era")
sys.path.insert(0, folder)
everything: Any = importlib.import_module("mcp_everything_server.server")
if era != "both":
    importlib.import_module(f"{era}_only").change(everything)
sse = SseServerTransport("/messages/")


async def converse(read: Any, write: Any) -> None:
    """Serve one connection."""
    server = everything.mcp._lowlevel_server
    await server.run(one_era.filtered(era, read, write), write, server.create_initialization_options())


async def over_stdio() -> None:
    async with stdio_server() as streams:
        await converse(*streams)


async def over_sse(request: Request) -> Response:
    async with sse.connect_sse(request.scope, request.receive, request._send) as streams:
        await converse(*streams)
    return Response()


async def over_websocket(socket: WebSocket) -> None:
    """One message per text frame; the SDK has no such transport."""
    await socket.accept(subprotocol="mcp")
    incoming, read = anyio.create_memory_object_stream[Any]()
    write, outgoing = anyio.create_memory_object_stream[Any]()

    async def send() -> None:
        async for message in outgoing:
            await socket.send_text(message.message.model_dump_json(by_alias=True, exclude_unset=True))

    async with anyio.create_task_group() as group, incoming:
        group.start_soon(send)
        group.start_soon(converse, read, write)
        async for text in socket.iter_text():
            await incoming.send(SessionMessage(jsonrpc_message_adapter.validate_json(text, by_name=False)))


async def steady(scope: Any, receive: Any, send: Any) -> None:
    """Keep a connection whose request has been answered.

    The SDK answers a notification before it takes it in, and fails if the session has ended meanwhile; the connection
    would be reset then, in the middle of the next call on it, which may be anybody's.
    """
    answered = False

    async def watched(message: Any) -> None:
        nonlocal answered
        await send(message)
        answered = message["type"] == "http.response.body" and not message.get("more_body")

    try:
        await served(scope, receive, watched)
    except Exception:
        if not answered:
            raise


if where == "stdio":
    anyio.run(over_stdio)
else:
    app = everything.mcp.streamable_http_app(event_store=everything.event_store, retry_interval=100)
    app.router.routes += [
        Route("/sse", over_sse),
        Mount("/messages/", sse.handle_post_message),
        WebSocketRoute("/ws", over_websocket),
    ]
    served = one_era.over_http(era, app)
    uvicorn.run(steady, host="127.0.0.1", port=int(where), log_level="warning", timeout_graceful_shutdown=1)
