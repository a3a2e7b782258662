"""The fixture server once more, as a server object of the ``mcp`` SDK: the far side of in-process links in tests.

Its tools are those of `mcpgateway.testing.fixture_server`, but for ``unknown``: the SDK's results hold what it models.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import attrs
import mcp_types as types
import trio
from mcp.server import Server
from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ToolsListChanged
from mcp.shared.exceptions import MCPError

from mcpgateway.testing.fixture_server import LAST_WORDS, Failure

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"name": {"type": "string"}}}


@attrs.define(eq=False)
class State:
    """What one run of the server knows."""

    ids: list[object] = attrs.field(factory=list)
    slow: dict[str, trio.Event] = attrs.field(factory=dict)
    cancelled: list[str] = attrs.field(factory=list)
    heard: list[str] = attrs.field(factory=list)
    news: trio.Event = attrs.field(factory=trio.Event)

    def changed(self) -> None:
        self.news.set()
        self.news = trio.Event()

    async def count(self, names: Callable[[], list[str]], count: int) -> types.CallToolResult:
        while len(names()) < count:
            await self.news.wait()
        return values(names())


Context: TypeAlias = ServerRequestContext[State, Any]
Result: TypeAlias = types.CallToolResult | types.InputRequiredResult
Arguments: TypeAlias = dict[str, Any]


def text(words: str, *, is_error: bool = False) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=words)], is_error=is_error)


def values(names: list[Any]) -> types.CallToolResult:
    return structured({"values": names})


def structured(value: dict[str, Any]) -> types.CallToolResult:
    return types.CallToolResult(content=[], structured_content=value)


async def echo(context: Context, arguments: Arguments) -> Result:
    return text(arguments.get("text", ""))


async def slow(context: Context, arguments: Arguments) -> Result:
    state, name = context.lifespan_context, arguments["name"]
    released = state.slow[name] = trio.Event()
    state.changed()
    try:
        await released.wait()
    except trio.Cancelled:
        state.cancelled.append(name)
        raise
    finally:
        del state.slow[name]
        state.changed()
    return text(name)


async def release(context: Context, arguments: Arguments) -> Result:
    for released in context.lifespan_context.slow.values():
        released.set()
    return text("released")


async def waiting(context: Context, arguments: Arguments) -> Result:
    state = context.lifespan_context
    return await state.count(lambda: list(state.slow), arguments["count"])


async def cancelled(context: Context, arguments: Arguments) -> Result:
    state = context.lifespan_context
    return await state.count(lambda: state.cancelled, arguments["count"])


async def heard(context: Context, arguments: Arguments) -> Result:
    state = context.lifespan_context
    return await state.count(lambda: state.heard, arguments["count"])


async def echo_ids(context: Context, arguments: Arguments) -> Result:
    return values(context.lifespan_context.ids)


async def progress(context: Context, arguments: Arguments) -> Result:
    total = arguments["n"]
    for step in range(1, total + 1):
        await context.session.report_progress(step, total)
    return text(f"{total} steps")


async def ask(context: Context, arguments: Arguments) -> Result:
    answer = await context.session.elicit_form("Who are you?", SCHEMA)
    return structured({"result": answer.model_dump(by_alias=True, exclude_none=True)})


async def fail(context: Context, arguments: Arguments) -> Result:
    raise MCPError(code=Failure.code, message="failed as asked", data={"why": "asked"})


async def tool_error(context: Context, arguments: Arguments) -> Result:
    return text("no", is_error=True)


async def big(context: Context, arguments: Arguments) -> Result:
    return text("x" * 1024 * arguments["kib"])


async def crash(context: Context, arguments: Arguments) -> Result:
    raise SystemExit(LAST_WORDS)


TOOLS: dict[str, Callable[[Context, Arguments], Awaitable[Result]]] = {
    tool.__name__: tool
    for tool in (echo, slow, release, waiting, cancelled, heard, echo_ids, progress, ask, fail, tool_error, big, crash)
}


def make() -> Server[State]:
    """A fixture server; each run of it has a state of its own."""
    bus = InMemorySubscriptionBus()

    async def list_tools(context: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[types.Tool(name=name, input_schema={"type": "object"}) for name in TOOLS])

    async def call_tool(context: Context, params: types.CallToolRequestParams) -> Result:
        context.lifespan_context.ids.append(context.request_id)
        arguments = params.arguments or {}
        if params.name == "notify":
            await bus.publish(ToolsListChanged())
            if context.protocol_version < "2026":
                await context.session.send_tool_list_changed()
            return text("told")
        if params.name == "ask" and context.protocol_version >= "2026":
            return ask_modern(params)
        if params.name not in TOOLS:
            raise MCPError(code=types.INVALID_PARAMS, message="no such tool")
        return await TOOLS[params.name](context, arguments)

    server = Server(
        "fixture",
        version="1",
        lifespan=lifespan,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_subscriptions_listen=ListenHandler(bus),
    )
    for method in ("notifications/initialized", "notifications/roots/list_changed"):
        server.add_notification_handler(method, types.NotificationParams, hearing(method))
    return server


def ask_modern(params: types.CallToolRequestParams) -> Result:
    if params.input_responses is None:
        question = {"method": "elicitation/create", "params": {"message": "?", "requestedSchema": SCHEMA}}
        return types.InputRequiredResult.model_validate(
            {"resultType": "input_required", "inputRequests": {"name": question}, "requestState": "asked-once"}
        )
    given = params.model_dump(by_alias=True, mode="json", exclude_none=True)
    return structured({"inputResponses": given["inputResponses"], "requestState": given["requestState"]})


def hearing(method: str) -> Callable[[Context, types.NotificationParams], Awaitable[None]]:
    async def hear(context: Context, params: types.NotificationParams) -> None:
        context.lifespan_context.heard.append(method)
        context.lifespan_context.changed()

    return hear


@asynccontextmanager
async def lifespan(server: Server[State]) -> AsyncIterator[State]:
    yield State()


def make_silent() -> Server[State]:
    """A server that never gets ready."""

    @asynccontextmanager
    async def lifespan(server: Server[State]) -> AsyncIterator[State]:
        await trio.Event().wait()
        yield State()

    return Server("silent", lifespan=lifespan)
