"""The everything-server of the SDK as a server that speaks the legacy era and nothing else; see `fixture_server`.

Its tools that answer a modern client with ``input_required`` ask here during the call, as legacy servers do. So a
modern client can pass the modern scenarios, if somebody in between translates.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.prompts.base import Prompt, UserMessage
from mcp.types import ListRootsRequest, ListRootsResult, SamplingMessage, TextContent


async def elicit(ctx: Any, message: str, name: str, kind: str = "string") -> dict[str, Any]:
    schema = {"type": "object", "properties": {name: {"type": kind}}, "required": [name]}
    answer = await ctx.session.elicit_form(message, schema, related_request_id=ctx.request_id)
    return answer.content or {}


async def sample(ctx: Any, text: str) -> str:
    content = TextContent(type="text", text=text)
    messages = [SamplingMessage(role="user", content=content)]
    answer = await ctx.session.create_message(messages=messages, max_tokens=50, related_request_id=ctx.request_id)
    return str(answer.content.text)


async def roots(ctx: Any) -> int:
    return len((await ctx.session.send_request(ListRootsRequest(), ListRootsResult)).roots)


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


def replace(everything: Any, ask: Callable[[Any], Awaitable[str]]) -> None:
    """Put a tool in the place of the one that does the same in the modern era."""
    name = f"test_input_required_result_{ask.__name__}"

    async def tool(ctx: Context) -> str:
        return await ask(ctx)

    everything.mcp.remove_tool(name)
    everything.mcp.add_tool(tool, name=name, description="Asks during the call.")


async def prompt(ctx: Context) -> list[Any]:
    context = (await elicit(ctx, "What context should the prompt use?", "context")).get("context")
    content = TextContent(type="text", text=f"Use the following context: {context}")
    return [UserMessage(role="user", content=content)]


def change(everything: Any) -> None:
    """Have the tools and the prompt ask; ``everything`` is the server's module."""
    for ask in ASKING:
        replace(everything, ask)
    name = "test_input_required_result_prompt"
    everything.mcp.remove_prompt(name)
    everything.mcp.add_prompt(Prompt.from_function(prompt, name=name, description="Asks."))
