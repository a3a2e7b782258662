"""The fixture server of the conformance suite in the legacy era alone, for modern clients in front of a gateway.

Runs in the suite's own environment. ``legacy_server.py FOLDER PORT``, with the folder of the everything-server, serves
Streamable HTTP on ``http://127.0.0.1:PORT/mcp``; ``stdio`` in the place of the port serves standard input and output.
Modern requests are refused in the words of an SDK that knows nothing of them. The tools that answer a modern client
with ``input_required`` ask here during the call, as legacy servers do.
"""

import importlib
import json
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

folder, where = sys.argv[1], sys.argv[2]
sys.path.insert(0, folder)
everything = importlib.import_module("mcp_everything_server.server")
Context = everything.Context
MODERN = "io.modelcontextprotocol/protocolVersion"


async def elicit(ctx: Any, message: str, name: str, kind: str = "string") -> dict[str, Any]:
    schema = {"type": "object", "properties": {name: {"type": kind}}, "required": [name]}
    answer = await ctx.session.elicit_form(message, schema, related_request_id=ctx.request_id)
    return answer.content or {}


async def sample(ctx: Any, text: str) -> str:
    content = everything.TextContent(type="text", text=text)
    messages = [everything.SamplingMessage(role="user", content=content)]
    answer = await ctx.session.create_message(messages=messages, max_tokens=50, related_request_id=ctx.request_id)
    return str(answer.content.text)


async def roots(ctx: Any) -> int:
    return len((await ctx.session.send_request(everything.ListRootsRequest(), everything.ListRootsResult)).roots)


# ---- the tools ---------------------------------------------------------------------------------------------------


async def elicitation(ctx: Any) -> str:
    return f"Hello, {(await elicit(ctx, 'What is your name?', 'name')).get('name', 'stranger')}!"


async def sampling(ctx: Any) -> str:
    return f"Model said: {await sample(ctx, 'What is the capital of France?')}"


async def list_roots(ctx: Any) -> str:
    return f"Client exposed {await roots(ctx)} root(s)."


async def request_state(ctx: Any) -> str:
    await elicit(ctx, "Please confirm", "ok", "boolean")
    return "state-ok: confirmation received"


async def multiple_inputs(ctx: Any) -> str:
    import anyio

    async with anyio.create_task_group() as group:
        group.start_soon(elicit, ctx, "What is your name?", "name")
        group.start_soon(sample, ctx, "Generate a greeting")
        group.start_soon(roots, ctx)
    return "All inputs received."


async def multi_round(ctx: Any) -> str:
    name = (await elicit(ctx, "Step 1: What is your name?", "name")).get("name")
    color = (await elicit(ctx, "Step 2: What is your favorite color?", "color")).get("color")
    return f"{name} likes {color}."


async def tampered_state(ctx: Any) -> str:
    await elicit(ctx, "Please confirm", "ok", "boolean")
    return "state-ok: round-1"


async def capabilities(ctx: Any) -> str:
    declared = ctx.client_capabilities
    if declared is not None and declared.sampling is not None:
        await sample(ctx, "Say hello")
    if declared is not None and declared.elicitation is not None:
        await elicit(ctx, "What is your name?", "name")
    return "done"


ASKING = (elicitation, sampling, list_roots, request_state, multiple_inputs, multi_round, tampered_state, capabilities)


def replace(ask: Callable[[Any], Awaitable[str]]) -> None:
    """Put a tool in the place of the one that does the same in the modern era."""
    name = f"test_input_required_result_{ask.__name__}"

    async def tool(ctx: Context) -> str:  # type: ignore[valid-type]  # known at run time
        return await ask(ctx)

    everything.mcp.remove_tool(name)
    everything.mcp.add_tool(tool, name=name, description="Asks during the call.")


async def prompt(ctx: Context) -> list[Any]:  # type: ignore[valid-type]  # known at run time
    context = (await elicit(ctx, "What context should the prompt use?", "context")).get("context")
    content = everything.TextContent(type="text", text=f"Use the following context: {context}")
    return [everything.UserMessage(role="user", content=content)]


def become_legacy() -> None:
    for ask in ASKING:
        replace(ask)
    name = "test_input_required_result_prompt"
    everything.mcp.remove_prompt(name)
    everything.mcp.add_prompt(everything.Prompt.from_function(prompt, name=name, description="Asks."))


# ---- the transports ----------------------------------------------------------------------------------------------


def serve_stdio() -> None:
    """Serve in a child, with a filter in front: the SDK's own loop would speak the era of the first request."""
    command = [sys.executable, __file__, folder, "unfiltered"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        turn = threading.Lock()

        def write(line: bytes) -> None:
            with turn:
                sys.stdout.buffer.write(line)
                sys.stdout.buffer.flush()

        def relay(lines: Any) -> None:
            for line in lines:
                write(line)

        threading.Thread(target=relay, args=(child.stdout,), daemon=True).start()
        for line in sys.stdin.buffer:
            message = json.loads(line)
            modern = message.get("method") == "server/discover" or MODERN in line.decode()
            if modern and "id" in message:
                error = {"code": -32601, "message": "Method not found"}
                write(json.dumps({"jsonrpc": "2.0", "id": message["id"], "error": error}).encode() + b"\n")
            else:
                child.stdin.write(line)
                child.stdin.flush()
        child.stdin.close()


def serve_http(port: int) -> None:
    import uvicorn

    inner = everything.mcp.streamable_http_app(event_store=everything.event_store, retry_interval=100)
    known = importlib.import_module("mcp_types.version").HANDSHAKE_PROTOCOL_VERSIONS

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = {name.decode(): value.decode() for name, value in scope.get("headers", ())}
        version = headers.get("mcp-protocol-version")
        if version is None or version in known:
            await inner(scope, receive, send)
            return
        error = {"code": -32000, "message": f"Bad Request: Unsupported protocol version: {version}"}
        body = json.dumps({"jsonrpc": "2.0", "error": error, "id": None}).encode()
        fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 400, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=1)


if where == "stdio":
    serve_stdio()
else:
    become_legacy()
    if where == "unfiltered":
        everything.mcp.run("stdio")
    else:
        serve_http(int(where))
