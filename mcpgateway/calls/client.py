"""A client of a namespace without any wire: what Python code that embeds the gateway calls.

Values are decoded JSON, as MCP spells it. The era does not matter here: each server is spoken to in its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import trio

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Event
from mcpgateway.calls.namespace import Namespace
from mcpgateway.errors import JSON
from mcpgateway.protocol.revisions import LATEST_LEGACY
from mcpgateway.sessions.caller import Caller
from mcpgateway.wire.waiting import Wait

OnProgress: TypeAlias = Callable[[dict[str, JSON]], Awaitable[None]]
"""Gets the params of each progress notification (``progress``, ``total``, ``message``), in order, before the reply."""

_TOKEN = 1


class Client:
    """Calls on one namespace. Holds nothing that needs closing; made by `mcpgateway.gateway.Gateway.client`.

    Every method raises `ErrorReply` for a JSON-RPC error of the server, another `GatewayError` where no server could
    answer, and `trio.TooSlowError` past its ``timeout`` (seconds). A call that is cancelled is cancelled at the server.

    ``find`` gives the namespace as it is when a call is made; it may be another one after a reload.
    """

    def __init__(self, find: Callable[[], Namespace]) -> None:
        self._find = find
        self._caller = Caller(None, LATEST_LEGACY, jsonrpc.raw_of({}))

    async def request(
        self,
        method: str,
        params: Mapping[str, object] | None = None,
        *,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> dict[str, JSON]:
        """Any request; the result."""
        message = jsonrpc.request(b"1", method, params or {})
        wait = Wait()
        with trio.fail_after(timeout) if timeout is not None else trio.CancelScope():
            reply = await self._find().serve(self._caller, message, wait, _ProgressBack(on_progress))
        if reply.message.error is not None:
            raise jsonrpc.error_reply(reply.message)
        result = jsonrpc.value_of(reply.message.result or b"{}")
        return result if isinstance(result, dict) else {}

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, object] | None = None,
        *,
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> dict[str, JSON]:
        """Call a tool by its exposed name; the ``CallToolResult``. A tool that failed has ``isError`` set in it."""
        params: dict[str, object] = {"name": name, "arguments": arguments or {}}
        if on_progress is not None:
            params["_meta"] = {"progressToken": _TOKEN}
        return await self.request("tools/call", params, timeout=timeout, on_progress=on_progress)

    async def get_prompt(
        self, name: str, arguments: Mapping[str, str] | None = None, *, timeout: float | None = None
    ) -> dict[str, JSON]:
        """The ``GetPromptResult``."""
        return await self.request("prompts/get", {"name": name, "arguments": arguments or {}}, timeout=timeout)

    async def read_resource(self, uri: str, *, timeout: float | None = None) -> dict[str, JSON]:
        """The ``ReadResourceResult``."""
        return await self.request("resources/read", {"uri": uri}, timeout=timeout)

    async def list_tools(self) -> list[JSON]:
        """All tools, of all pages; each as its server lists it, under its exposed name."""
        return await self._list("tools/list", "tools")

    async def list_prompts(self) -> list[JSON]:
        """All prompts, of all pages."""
        return await self._list("prompts/list", "prompts")

    async def list_resources(self) -> list[JSON]:
        """All resources, of all pages."""
        return await self._list("resources/list", "resources")

    async def list_resource_templates(self) -> list[JSON]:
        """All resource templates, of all pages."""
        return await self._list("resources/templates/list", "resourceTemplates")

    async def _list(self, method: str, member: str) -> list[JSON]:
        entries: list[JSON] = []
        cursor: JSON = None
        while True:
            result = await self.request(method, {} if cursor is None else {"cursor": cursor})
            page = result.get(member)
            entries += page if isinstance(page, list) else []
            following = result.get("nextCursor")
            if following is None or following == cursor:
                return entries
            cursor = following


class Clients(ABC):
    """What Python code asks of a whole gateway: a client of a namespace, or at once what that can do."""

    @abstractmethod
    def client(self, namespace: str = "") -> Client:
        """A client of a namespace, in this process.

        :raises UnknownNamespace: there is none of that name
        """

    async def list_tools(self, *, namespace: str = "") -> list[JSON]:
        """See `Client.list_tools`."""
        return await self.client(namespace).list_tools()

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, object] | None = None,
        *,
        namespace: str = "",
        timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> dict[str, JSON]:
        """See `Client.call_tool`."""
        return await self.client(namespace).call_tool(name, arguments, timeout=timeout, on_progress=on_progress)

    async def list_prompts(self, *, namespace: str = "") -> list[JSON]:
        """See `Client.list_prompts`."""
        return await self.client(namespace).list_prompts()

    async def get_prompt(
        self, name: str, arguments: Mapping[str, str] | None = None, *, namespace: str = ""
    ) -> dict[str, JSON]:
        """See `Client.get_prompt`."""
        return await self.client(namespace).get_prompt(name, arguments)

    async def list_resources(self, *, namespace: str = "") -> list[JSON]:
        """See `Client.list_resources`."""
        return await self.client(namespace).list_resources()

    async def list_resource_templates(self, *, namespace: str = "") -> list[JSON]:
        """See `Client.list_resource_templates`."""
        return await self.client(namespace).list_resource_templates()

    async def read_resource(self, uri: str, *, namespace: str = "") -> dict[str, JSON]:
        """See `Client.read_resource`."""
        return await self.client(namespace).read_resource(uri)


class _ProgressBack:
    """Hands progress to a callback; other events of a call have nobody to go to."""

    def __init__(self, on_progress: OnProgress | None) -> None:
        self._on_progress = on_progress

    async def send(self, event: Event) -> None:
        message = event.message
        if self._on_progress is None or message is None or message.method != "notifications/progress":
            await trio.lowlevel.checkpoint()
            return
        params = jsonrpc.value_of(message.params or b"{}")
        await self._on_progress(params if isinstance(params, dict) else {})
