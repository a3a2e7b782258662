"""A namespace around another: whoever looks at its calls, or changes them, says only what is different."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Raw

from mcpgateway.adapters.base import Back, Done, Reply
from mcpgateway.calls.namespace import Namespace, StreamBack
from mcpgateway.catalog.items import Kind
from mcpgateway.catalog.naming import Target
from mcpgateway.jsonrpc import Message
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller
from mcpgateway.wire.waiting import Wait


class WrappedNamespace:
    """All that ``namespace`` does, passed on to it; see `mcpgateway.calls.namespace.Namespace`."""

    def __init__(self, namespace: Namespace) -> None:
        self.name = namespace.name
        self.namespace = namespace

    async def initialize(self, caller: Caller, params: Raw, session: str) -> tuple[Raw, bool]:
        return await self.namespace.initialize(caller, params, session)

    async def serve(
        self, caller: Caller, message: Message, wait: Wait, back: Back, headers: Mapping[bytes, bytes] | None = None
    ) -> Reply:
        return await self.namespace.serve(caller, message, wait, back, headers)

    def begin(
        self, caller: Caller, message: Message, wait: Wait, headers: Mapping[bytes, bytes] | None, done: Done
    ) -> bool:
        return self.namespace.begin(caller, message, wait, headers, done)

    @property
    def servers(self) -> tuple[Server, ...]:
        return self.namespace.servers

    @property
    def keeps_sessions(self) -> bool:
        return self.namespace.keeps_sessions

    @property
    def passes_through(self) -> bool:
        return self.namespace.passes_through

    @property
    def verbatim(self) -> bool:
        return self.namespace.verbatim

    def owner(self, caller: Caller, tool: str) -> Target | None:
        return self.namespace.owner(caller, tool)

    def passes_streams(self, caller: Caller) -> bool:
        return self.namespace.passes_streams(caller)

    async def listen(self, caller: Caller, last_event: bytes | None, wait: Wait, back: StreamBack) -> None:
        await self.namespace.listen(caller, last_event, wait, back)

    async def renew(self, caller: Caller, kind: Kind) -> int | None:
        return await self.namespace.renew(caller, kind)

    async def notify(self, caller: Caller, message: Message) -> None:
        await self.namespace.notify(caller, message)

    def retire(self) -> None:
        self.namespace.retire()
