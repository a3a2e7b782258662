"""The everything-server of the SDK as a server that speaks 2026-07-28 and nothing else; see `fixture_server`.

Its tools that push requests to their clients do in this revision what it has instead: they answer ``input_required``,
and go on when they are called again with the answers. So a legacy client can pass the legacy scenarios, if somebody in
between translates.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

from mcp.server.mcpserver import Context
from mcp.types import (
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
    SamplingMessage,
    TextContent,
)

Asgi: TypeAlias = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]

MODERN: Final = "2026-07-28"
KEY: Final = "answer"


def refusal(id: object, requested: str) -> bytes:
    """What a modern-only server says to a client of the other era."""
    data = {"supported": [MODERN], "requested": requested}
    error = {"code": -32022, "message": "Unsupported protocol version", "data": data}
    return json.dumps({"jsonrpc": "2.0", "id": id, "error": error}).encode()


def over_http(inner: Asgi) -> Asgi:
    """An application that refuses whatever is not modern."""

    async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        headers = dict(scope.get("headers", ()))
        if scope["type"] != "http" or headers.get(b"mcp-protocol-version") == MODERN.encode():
            await inner(scope, receive, send)
            return
        status, body = (400, refusal(None, "initialize")) if scope["method"] == "POST" else (405, b"")
        fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    return app


def over_stdio(command: list[str]) -> None:
    """Stand in front of a process whose loop takes the era of the first request, and refuse the legacy handshake."""
    with subprocess.Popen(command, stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        for line in sys.stdin.buffer:
            message = json.loads(line)
            if message.get("method") == "initialize":
                # One write of less than PIPE_BUF bytes: never in the middle of a line of the child's.
                sys.stdout.buffer.write(refusal(message["id"], "initialize") + b"\n")
                sys.stdout.buffer.flush()
            else:
                child.stdin.write(line)
                child.stdin.flush()
        child.stdin.close()


def ask_in_results(everything: Any) -> None:
    """Have the tools that push requests answer ``input_required`` instead; ``everything`` is the server's module."""
    schemas = {
        name: getattr(everything, name).model_json_schema()
        for name in ("UserResponse", "SEP1034DefaultsSchema", "EnumSchemasTestSchema")
    }

    async def test_sampling(prompt: str, ctx: Context) -> str | InputRequiredResult:
        """Ask the client's model."""
        answer = (ctx.input_responses or {}).get(KEY)
        if isinstance(answer, CreateMessageResult):
            assert isinstance(answer.content, TextContent)
            return f"LLM response: {answer.content.text}"
        message = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
        params = CreateMessageRequestParams(messages=[message], max_tokens=100)
        return InputRequiredResult(input_requests={KEY: CreateMessageRequest(params=params)}, request_state="sampling")

    async def test_elicitation(message: str, ctx: Context) -> str | InputRequiredResult:
        """Ask the user."""
        return _elicited(ctx, "User response", message, schemas["UserResponse"])

    async def test_elicitation_sep1034_defaults(ctx: Context) -> str | InputRequiredResult:
        """Ask the user, with defaults."""
        message = "Please provide user information"
        return _elicited(ctx, "Elicitation result", message, schemas["SEP1034DefaultsSchema"])

    async def test_elicitation_sep1330_enums(ctx: Context) -> str | InputRequiredResult:
        """Ask the user to choose."""
        message = "Please select values using different enum schema types"
        return _elicited(ctx, "Elicitation completed", message, schemas["EnumSchemasTestSchema"])

    for tool in (
        test_sampling,
        test_elicitation,
        test_elicitation_sep1034_defaults,
        test_elicitation_sep1330_enums,
    ):
        everything.mcp.remove_tool(tool.__name__)
        everything.mcp.add_tool(tool, name=tool.__name__)


def _elicited(ctx: Context, heading: str, message: str, schema: dict[str, Any]) -> str | InputRequiredResult:
    answer = (ctx.input_responses or {}).get(KEY)
    if isinstance(answer, ElicitResult):
        return f"{heading}: action={answer.action}, content={json.dumps(answer.content or {})}"
    params = ElicitRequestFormParams(message=message, requested_schema=schema)
    return InputRequiredResult(input_requests={KEY: ElicitRequest(params=params)}, request_state="elicitation")
