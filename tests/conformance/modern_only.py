"""The everything-server of the SDK as a server that speaks 2026-07-28 and nothing else; see `fixture_server`.

Its tools that push requests to their clients do in this revision what it has instead: they answer ``input_required``,
and go on when they are called again with the answers. So a legacy client can pass the legacy scenarios, if somebody in
between translates.
"""

from __future__ import annotations

import json
from typing import Any, Final

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

KEY: Final = "answer"


def change(everything: Any) -> None:
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
