"""A small MCP server, sans-IO, that speaks both eras on one channel.

What the bundled demo servers are made of, and the fixture server of `mcpgateway.testing`. A message goes in, the
messages that it causes come out; `serve_stdio` is the only I/O. Nothing heavy is imported, so that a server answers
50 ms after it was started. For real servers there is the ``mcp`` SDK.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from typing import Final, NamedTuple

from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.errors import JSON, GatewayError, InvalidParams, MethodNotFound, UnsupportedVersion
from mcpgateway.jsonrpc import Message, members_of, raw_of, value_of
from mcpgateway.protocol import envelope
from mcpgateway.protocol.answers import answer_initialize, discover_result, requested_revision
from mcpgateway.protocol.methods import CACHEABLE, REQUESTS
from mcpgateway.protocol.revisions import MODERN_REVISIONS, Era

BOTH: Final = frozenset(Era)


class ToolError(Exception):
    """A tool that failed, or was given arguments that do not fit: a result with ``isError``."""


class Tool(NamedTuple):
    """A tool: its ``Tool`` definition without the name, and what runs it.

    ``run`` takes the arguments and returns structured content, which is also given as text.
    """

    definition: Mapping[str, JSON]
    run: Callable[[dict[str, JSON]], dict[str, JSON]]


class Incoming(NamedTuple):
    """A request being served."""

    id: bytes
    method: str
    params: dict[str, Raw]
    era: Era

    def text(self, name: str) -> str:
        """A parameter that must be a string; raises `InvalidParams`."""
        value = value_of(self.params.get(name, Raw(b"null")))
        if not isinstance(value, str):
            raise InvalidParams(f"{name!r} must be a string")
        return value

    def arguments(self) -> dict[str, JSON]:
        """The parameter ``arguments``, decoded; raises `InvalidParams` where it is not an object."""
        return {name: value_of(raw) for name, raw in members_of(self.params.get("arguments")).items()}


class MiniServer:
    """One server and its state; subclasses say what it offers. Serves one channel."""

    name = "mini"
    version = "1.0"
    instructions: str | None = None
    notifies: Collection[str] = ()
    """The listings that change: of ``tools``, ``prompts``, ``resources``."""

    def __init__(self, *, eras: Collection[Era] = BOTH) -> None:
        self.eras = eras
        self.tools: dict[str, Tool] = {}
        self._legacy_client = False
        self._listening: dict[bytes, list[str]] = {}

    # ---- what a subclass may offer ----------------------------------------------------------------------------------

    def resources(self) -> list[JSON]:
        """The ``Resource`` values there are."""
        return []

    def templates(self) -> list[JSON]:
        """The ``ResourceTemplate`` values there are."""
        return []

    def read(self, uri: str) -> list[JSON] | None:
        """The contents of a resource; ``None`` where there is no such resource."""
        return None

    def prompts(self) -> list[JSON]:
        """The ``Prompt`` values there are."""
        return []

    def prompt(self, name: str, arguments: dict[str, JSON]) -> dict[str, JSON] | None:
        """A ``GetPromptResult``; ``None`` where there is no such prompt."""
        return None

    def call_tool(self, call: Incoming) -> list[Message]:
        """Serve a ``tools/call``."""
        tool = self.tools.get(call.text("name"))
        if tool is None:
            raise InvalidParams(f"no tool {call.text('name')!r}")
        try:
            value = tool.run(call.arguments())
        except ToolError as problem:
            return [self.reply(call, {"content": [text_part(str(problem))], "isError": True})]
        text = jsonrpc.encode(value).decode()
        return [self.reply(call, {"content": [text_part(text)], "structuredContent": value})]

    # ---- messages in, messages out ----------------------------------------------------------------------------------

    def handle_bytes(self, data: bytes) -> list[Message]:
        """`handle` for a message as it came from the wire, which may be none."""
        try:
            return self.handle(jsonrpc.decode(data))
        except GatewayError as problem:
            return [jsonrpc.error(None, problem)]

    def handle(self, message: Message) -> list[Message]:
        """Take one message; returns what is to be sent, in this order."""
        if message.is_response:
            return self.answered(message)
        if message.method is None or message.id is None:
            return self.notified(message)
        try:
            return self._serve(message, message.method, message.id)
        except GatewayError as problem:
            return [jsonrpc.error(message.id, problem)]

    def answered(self, message: Message) -> list[Message]:
        """Take the client's response to a request of ours."""
        return []

    def notified(self, message: Message) -> list[Message]:
        """Take a notification."""
        if message.method == "notifications/cancelled":
            self._listening.pop(bytes(members_of(message.params).get("requestId", Raw(b"null"))), None)
        return []

    def changed(self, listing: str) -> list[Message]:
        """What tells all who want to know that a listing changed."""
        method = f"notifications/{listing}/list_changed"
        messages = [
            jsonrpc.notification(method, {"_meta": {envelope.SUBSCRIPTION_ID: Raw(id)}})
            for id, listings in self._listening.items()
            if listing in listings
        ]
        return [*messages, jsonrpc.notification(method)] if self._legacy_client else messages

    def reply(self, request: Incoming, result: Mapping[str, object]) -> Message:
        """A successful response, with what its era requires of every result."""
        if request.era is Era.LEGACY:
            return jsonrpc.result(request.id, result)
        complete: dict[str, object] = {"resultType": "complete", **result}
        if request.method in CACHEABLE:
            complete = {"ttlMs": 0, "cacheScope": "private", **complete}
        return jsonrpc.result(request.id, envelope.with_meta(raw_of(complete), {envelope.SERVER_INFO: self._info()}))

    # ---- the methods ------------------------------------------------------------------------------------------------

    def _serve(self, message: Message, method: str, id: bytes) -> list[Message]:
        modern = Era.MODERN in self.eras and envelope.read(message.params) is not None and method != "initialize"
        era = Era.MODERN if modern else Era.LEGACY
        request = Incoming(id, method, members_of(message.params), era)
        if era not in self.eras:
            raise _wrong_era(request, message)
        serve = self._METHODS.get(method)
        if serve is None or method not in REQUESTS[era]:
            raise MethodNotFound(f"no method {method!r}")
        return serve(self, request)

    def _initialize(self, request: Incoming) -> list[Message]:
        self._legacy_client = True
        result = answer_initialize(
            raw_of(request.params),
            capabilities=self._capabilities(),
            server_info=self._info(),
            instructions=self.instructions,
        )
        return [self.reply(request, result)]

    def _discover(self, request: Incoming) -> list[Message]:
        result = discover_result(
            capabilities=self._capabilities(), server_info=self._info(), instructions=self.instructions
        )
        return [self.reply(request, result)]

    def _ping(self, request: Incoming) -> list[Message]:
        return [self.reply(request, {})]

    def _listen(self, request: Incoming) -> list[Message]:
        wanted = members_of(request.params.get("notifications"))
        honoured = {f"{listing}ListChanged": True for listing in self.notifies if f"{listing}ListChanged" in wanted}
        self._listening[request.id] = [listing for listing in self.notifies if f"{listing}ListChanged" in wanted]
        params = {"notifications": honoured, "_meta": {envelope.SUBSCRIPTION_ID: Raw(request.id)}}
        return [jsonrpc.notification("notifications/subscriptions/acknowledged", params)]

    def _list_tools(self, request: Incoming) -> list[Message]:
        return self._page(request, "tools", [{"name": name, **tool.definition} for name, tool in self.tools.items()])

    def _list_resources(self, request: Incoming) -> list[Message]:
        return self._page(request, "resources", self.resources())

    def _list_templates(self, request: Incoming) -> list[Message]:
        return self._page(request, "resourceTemplates", self.templates())

    def _list_prompts(self, request: Incoming) -> list[Message]:
        return self._page(request, "prompts", self.prompts())

    def _page(self, request: Incoming, member: str, entries: list[JSON]) -> list[Message]:
        if "cursor" in request.params:
            raise InvalidParams("no such cursor: there is one page")
        return [self.reply(request, {member: entries})]

    def _read(self, request: Incoming) -> list[Message]:
        uri = request.text("uri")
        contents = self.read(uri)
        if contents is None:
            raise InvalidParams(f"no resource {uri!r}", data={"uri": uri})
        return [self.reply(request, {"contents": contents})]

    def _get_prompt(self, request: Incoming) -> list[Message]:
        result = self.prompt(request.text("name"), request.arguments())
        if result is None:
            raise InvalidParams(f"no prompt {request.text('name')!r}")
        return [self.reply(request, result)]

    def _call_tool(self, request: Incoming) -> list[Message]:
        return self.call_tool(request)

    _METHODS: Final[Mapping[str, Callable[[MiniServer, Incoming], list[Message]]]] = {
        "initialize": _initialize,
        "ping": _ping,
        "prompts/get": _get_prompt,
        "prompts/list": _list_prompts,
        "resources/list": _list_resources,
        "resources/read": _read,
        "resources/templates/list": _list_templates,
        "server/discover": _discover,
        "subscriptions/listen": _listen,
        "tools/call": _call_tool,
        "tools/list": _list_tools,
    }

    def _info(self) -> dict[str, JSON]:
        return {"name": self.name, "version": self.version}

    def _capabilities(self) -> dict[str, JSON]:
        offered = {
            "tools": bool(self.tools),
            "prompts": type(self).prompts is not MiniServer.prompts,
            "resources": type(self).read is not MiniServer.read,
        }
        return {
            name: {"listChanged": True} if name in self.notifies else {} for name, offers in offered.items() if offers
        }


def _wrong_era(request: Incoming, message: Message) -> GatewayError:
    if request.era is Era.LEGACY and request.method == "initialize":
        data: dict[str, JSON] = {
            "supported": list(MODERN_REVISIONS),
            "requested": requested_revision(message.params),
        }
        return UnsupportedVersion("this server speaks the modern era of MCP only", data=data)
    return InvalidParams("params._meta must carry the envelope of a modern request")


def text_part(text: str) -> dict[str, JSON]:
    """A text content block."""
    return {"type": "text", "text": text}


def serve_stdio(server: MiniServer) -> None:
    """Serve one client over stdin and stdout until stdin ends."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    try:
        for line in source:
            if line.strip():
                sink.write(b"".join(message.encode() + b"\n" for message in server.handle_bytes(line)))
                sink.flush()
    except (KeyboardInterrupt, BrokenPipeError):
        pass
