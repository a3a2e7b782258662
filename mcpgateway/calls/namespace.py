"""A namespace at work: which server answers a client's request, and what the gateway answers itself.

Two shapes share one interface. `RawNamespace` shows one server as it is: what it does not have to look at passes
through to the byte. `MergedNamespace` shows several as one, by tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from msgspec import Raw

from mcpgateway.adapters.base import Back, Done, Reply
from mcpgateway.calls.eras import serves
from mcpgateway.catalog.items import Kind
from mcpgateway.catalog.naming import Target
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.revisions import Era
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller
from mcpgateway.wire.waiting import Wait


class StreamBack(Back, Protocol):
    """The way to a client that may be opened before there is something to say."""

    async def open(self) -> None:
        """Tell the client that the stream is there."""


class Namespace(Protocol):
    """What clients on one path see."""

    name: str
    """The path below ``/mcp/``; empty for ``/mcp`` itself."""

    @property
    def servers(self) -> tuple[Server, ...]: ...

    @property
    def keeps_sessions(self) -> bool:
        """Whether legacy requests need a session; otherwise they may come without one, as the server takes them."""

    @property
    def passes_through(self) -> bool:
        """Whether each legacy session here has a link of its own to the one server, on which all is as it is said."""

    @property
    def verbatim(self) -> bool:
        """Whether what is listed here passes unseen, so that nobody but its clients knows what they were shown."""

    async def initialize(self, caller: Caller, params: Raw, session: str) -> tuple[Raw, bool]:
        """Answer a legacy handshake: the raw ``InitializeResult``, and whether a session is to be kept.

        ``session`` is the id that the session will have if so; links opened for it carry it.

        :raises ErrorReply: the one server here refused the handshake, in these words
        :raises EraMismatch: no server here speaks the legacy era
        :raises ServerError: the one server here cannot be reached
        """

    async def serve(
        self, caller: Caller, message: Message, wait: Wait, back: Back, headers: Mapping[bytes, bytes] | None = None
    ) -> Reply:
        """Answer a request. ``headers`` are the MCP headers it came with, to go along where the server takes them.

        :raises GatewayError: no server could answer
        """

    def begin(
        self, caller: Caller, message: Message, wait: Wait, headers: Mapping[bytes, bytes] | None, done: Done
    ) -> bool:
        """`serve` without a task, where that is possible; see `mcpgateway.adapters.base.Begins`."""

    def passes_streams(self, caller: Caller) -> bool:
        """Whether a legacy client's session is one with its server's, streams and their ids and all.

        Otherwise they are the gateway's own, and it is the session's outbox from which they are resumed.
        """

    def owner(self, caller: Caller, tool: str) -> Target | None:
        """Whose a tool is, as it was last listed for such a caller; ``None`` where nobody was seen to list it."""

    async def listen(self, caller: Caller, last_event: bytes | None, wait: Wait, back: StreamBack) -> None:
        """Give a legacy session what its servers say outside calls, until the stream or the ``wait`` ends.

        ``last_event`` is the ``Last-Event-ID`` of a client that resumes the stream. ``back.open`` is called as soon as
        it is known that there is a stream, before there is anything to send.

        :raises MethodNotFound: there is no such stream here (HTTP 405)
        :raises InvalidRequest: the session has one already (HTTP 409)
        """

    async def renew(self, caller: Caller, kind: Kind) -> int | None:
        """A server's listing has changed: make anew what such a caller sees; its fingerprint, ``None`` if unknown.

        Two listings with equal fingerprints show the same, so that nobody has to be told.
        """

    async def notify(self, caller: Caller, message: Message) -> None:
        """Pass a notification of a client on to whom it concerns."""

    def retire(self) -> None:
        """Another namespace takes its place, or none: end its subscriptions, whose clients are to subscribe anew."""


def forwarded(headers: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """The MCP headers of a modern request that go along to the server; nothing else does, least of all credentials."""
    return {name: value for name, value in headers.items() if name[:4] == b"mcp-" and name != b"mcp-session-id"}


def speaks(server: Server, era: Era | None) -> bool:
    """Whether clients of an era have to do with a server."""
    return serves(era, policy=server.config.era, spoken=server.spoken)
