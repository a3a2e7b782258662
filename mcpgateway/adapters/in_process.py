"""Servers that are objects of the ``mcp`` SDK, hosted inside the gateway's process.

The SDK reads and writes message objects, so a message is parsed once by us and once by it; what it does not model is
lost in the server's results, as with any server built on it. Its loop takes the era of the first request for all that
follow, so a link has one era, as everywhere. The SDK costs 0.4 s and 40 MB to import, hence only in a worker thread,
when the first link is made.
"""

from __future__ import annotations

import importlib
import logging
import math
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

import trio

from mcpgateway.adapters.base import Link, Offer, Receive
from mcpgateway.adapters.pipe import PipeLink
from mcpgateway.adapters.pipe_handshake import negotiate
from mcpgateway.errors import GatewayError, InvalidRequest, NotStarted, ServerUnavailable, TooBusy

if TYPE_CHECKING:
    from mcp.server import Server
    from mcp.shared.message import SessionMessage

    # The type of the server's own lifespan state, which is none of our business.
    AnyServer: TypeAlias = Server[Any]

log = logging.getLogger(__name__)

BACKLOG: Final = 10_000
"""Messages that may wait for the server to read them; beyond, calls fail with `TooBusy`."""
GRACE: Final = 2.0
"""Seconds that a server has to end by itself once its input has ended; then it is cancelled."""


class InProcessAdapter:
    """Hosts a server object: a ``Server`` or ``MCPServer`` of the ``mcp`` SDK.

    ``target`` is the object, a function that returns one, or ``"package.module:attribute"`` naming either. Links of
    one adapter share the object, each with a run (and a lifespan) of its own; a function is called for every link.
    """

    def __init__(self, server: str, target: object, *, startup_timeout: float = 60.0) -> None:
        self._server = server
        self._target = target
        self._startup_timeout = startup_timeout

    @property
    def server(self) -> str:
        return self._server

    async def connect(self, nursery: trio.Nursery, offer: Offer, receive: Receive) -> Link:
        """Run the server and shake hands, in ``startup_timeout`` seconds; see `mcpgateway.adapters.base.Adapter`."""
        target = await trio.to_thread.run_sync(self._load)
        host = _Host(self._server, self._make(target), receive)
        nursery.start_soon(host.run, name=f"in-process server {self._server}")
        try:
            with trio.move_on_after(self._startup_timeout) as startup:
                await negotiate(host.link, offer)
        except GatewayError:
            await host.link.aclose()
            raise
        except BaseException:
            host.cancel("the connection attempt was cancelled")
            raise
        if startup.cancelled_caught:
            await host.link.aclose()
            raise ServerUnavailable(self._server, f"did not shake hands within {self._startup_timeout:g} s")
        return host.link

    def _load(self) -> object:
        importlib.import_module("mcp.server")
        if not isinstance(self._target, str):
            return self._target
        module, _, attribute = self._target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except Exception as problem:
            log.exception("server %r: %s could not be imported", self._server, self._target)
            raise NotStarted(
                self._server, f"{self._target} could not be imported: {type(problem).__name__} (see the log)"
            ) from None

    def _make(self, target: object) -> AnyServer:
        from mcp.server import Server
        from mcp.server.mcpserver import MCPServer

        made = target() if callable(target) and not isinstance(target, Server | MCPServer) else target
        if isinstance(made, MCPServer):
            # The SDK has no public name for it; its own in-memory transport does the same.
            made = made._lowlevel_server
        if not isinstance(made, Server):
            raise NotStarted(self._server, f"is not a server of the mcp SDK but a {type(made).__name__}")
        return made


class _Host:
    """One run of a server, which is at once the `mcpgateway.adapters.pipe.Wire` of its link."""

    def __init__(self, name: str, server: AnyServer, receive: Receive) -> None:
        from mcp_types import jsonrpc_message_adapter

        self.link = PipeLink(name, self, receive)
        self._name = name
        self._server = server
        self._parse = jsonrpc_message_adapter.validate_json
        self._to_server: trio.MemorySendChannel[SessionMessage | Exception]
        self._to_server, self._from_link = trio.open_memory_channel(BACKLOG)
        self._scope = trio.CancelScope()
        self._ended = trio.Event()

    async def run(self) -> None:
        """Run the server until either side ends it; whatever it raises ends the link and nothing else."""
        reason = "the server stopped"
        try:
            with self._scope:
                options = self._server.create_initialization_options()
                await self._server.run(self._from_link, _Output(self.link), options)
        except* (Exception, SystemExit) as problems:
            log.error("server %r crashed", self._name, exc_info=problems)
            reason = f"crashed with {_first(problems)} (see the log)"
        finally:
            self._to_server.close()
            self.link.broken(reason)
            self._ended.set()

    def put(self, data: bytes) -> None:
        """Give the server one message; see `mcpgateway.adapters.pipe.Wire`."""
        from mcp.shared.message import SessionMessage

        try:
            message = self._parse(data, by_name=False)
        except ValueError:
            raise InvalidRequest("the mcp SDK cannot represent this message") from None
        try:
            self._to_server.send_nowait(SessionMessage(message))
        except trio.WouldBlock:
            raise TooBusy(f"server {self._name!r} does not read: {BACKLOG} messages wait for it") from None

    async def aclose(self) -> None:
        """End the server's input and wait for it to stop; cancel it after `GRACE` seconds, or when cancelled."""
        self._to_server.close()
        try:
            with trio.move_on_after(GRACE):
                await self._ended.wait()
        finally:
            self.cancel("the server did not stop by itself")
        await self._ended.wait()

    def cancel(self, reason: str) -> None:
        """End the run at once."""
        self.link.broken(reason)
        self._scope.cancel(reason=reason)


def _first(problems: BaseExceptionGroup[BaseException]) -> str:
    problem: BaseException = problems
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return type(problem).__name__


class _Output:
    """The stream that the SDK writes to; what is written reaches the link at once, in the writer's own task."""

    def __init__(self, link: PipeLink) -> None:
        self._link = link

    async def send(self, item: SessionMessage, /) -> None:
        if not _is_farewell(item):
            self._link.received(item.message.model_dump_json(by_alias=True, exclude_unset=True).encode())
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


def _is_farewell(item: SessionMessage) -> bool:
    """Whether this is the error with which the SDK answers what is in flight when its loop is torn down.

    The end of the run says it better. Such a write is the only one in a scope with a deadline: a handler's own error,
    which may have the same code, is written outside all scopes of the handler.
    """
    from mcp_types import JSONRPCError
    from mcp_types.jsonrpc import CONNECTION_CLOSED

    message = item.message
    closing = isinstance(message, JSONRPCError) and message.error.code == CONNECTION_CLOSED
    return closing and trio.current_effective_deadline() < math.inf
