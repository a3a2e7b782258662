"""The seam between the gateway and a transport: `Adapter` and `Link`.

Above: calls and leases, which know nothing of pipes and sockets. Below: one module per transport, which knows nothing
of namespaces, clients and rights. Third parties write adapters, so this is public API;
`mcpgateway.testing.check_adapter` holds an adapter to what is written here.

Rules that the types cannot express:

* An adapter gives each call an id of its own on its wire and never lets a client's id reach it. The `Reply` carries
  the server's message as it came; whoever asked puts the client's id back with `Message.encode_as`.
* `Link.call` raises `mcpgateway.errors.ServerError` for what the server or the transport did, and whatever the
  `Wait` of the request was ended with. In every case, a plain cancellation included, the server is told to cancel in
  its era's way, without making the caller wait for it.
* The bytes on a shared wire belong to one writer task of the link: a call never writes there itself.
* What arrives while a call runs and belongs to it goes to its `Back`, awaited in the call's own task; what belongs to
  no call goes to the callback given at `Adapter.connect`, which must not block.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol, TypeAlias

import attrs
import trio
from msgspec import Raw

from mcpgateway.errors import MethodNotFound, ServerMisbehaved
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.negotiated import Negotiated
from mcpgateway.protocol.revisions import Era
from mcpgateway.wire.waiting import Wait


@attrs.frozen
class Event:
    """One message on the stream of a call, with what its SSE frame said, where the server's wire is SSE.

    ``message`` is ``None`` for a frame that carries none (a priming event: an id and empty data).
    """

    message: Message | None
    id: bytes | None = None
    retry: bytes | None = None


class Back(Protocol):
    """The back-channel of one call: towards this client and no other."""

    async def send(self, event: Event) -> None:
        """Deliver a progress, a log or a server's request: one at a time, in the order of arrival.

        Called in the call's own task, but for what came on another stream to a call that has its link to itself.
        """


class Request:
    """One request on its way to a server.

    ``message`` is the client's, already under the server's own names; ``wait`` is how the call is ended early;
    ``headers`` are MCP headers to send along on transports that have headers (lower-case name to value);
    ``alone`` says that the link is leased to this call only, so that whatever the server sends meanwhile belongs to it
    (a pipe does not say which call a server's request is about).
    """

    __slots__ = ("alone", "headers", "message", "wait")

    def __init__(
        self, message: Message, wait: Wait, headers: Mapping[bytes, bytes] | None = None, *, alone: bool = False
    ) -> None:
        self.message = message
        self.wait = wait
        self.headers = headers
        self.alone = alone


class Reply:
    """What a server answered: a result or an error, verbatim.

    ``status`` is the HTTP status it came with (200 where there is none); ``event`` is its SSE frame where the server
    answered with a stream, and ``None`` where it answered with plain JSON or over a pipe.
    """

    __slots__ = ("event", "message", "status")

    def __init__(self, message: Message, status: int = 200, event: Event | None = None) -> None:
        self.message = message
        self.status = status
        self.event = event


@attrs.frozen
class Offer:
    """What to negotiate with when a link is made.

    ``era`` is the era to speak, or ``None`` to find out (modern first, as MCP 2026-07-28 says).
    ``initialize`` holds the raw params of the legacy handshake, a client's own where the link is for one client.
    ``capabilities`` are the client capabilities (raw object) that our own modern requests carry.
    ``hears`` says that nobody else looks after the streams of a legacy HTTP session: the link opens the one for what
    belongs to no call, and resumes the stream of a call that is cut off. Otherwise the session is a client's own,
    which does both itself (`Listens`, `StreamEnded`).
    """

    era: Era | None
    initialize: Raw
    capabilities: Raw = Raw(b"{}")
    hears: bool = False


@attrs.frozen
class LinkStatistics:
    """A link at one moment."""

    in_flight: int
    """Calls waiting for their reply."""
    calls: int
    """Calls begun since the link was made."""
    pid: int | None = None
    """The child process, where the link has one."""


Continuation: TypeAlias = "Callable[[Back], Awaitable[Reply]]"
"""Goes on, in a task, with a call that `Begins.begin` began and that turned out to be more than one reply."""

Outcome: TypeAlias = "Reply | Exception | Continuation"
Done: TypeAlias = Callable[[Outcome], None]
"""Takes what became of a call that was begun, once, from whichever task it happened in. Must not block or raise."""


Receive: TypeAlias = Callable[[Message], None]
"""Takes what a link receives outside a call. Must not block."""


class Link(Protocol):
    """One live connection, or HTTP session, with a server. Made by `Adapter.connect`, which owns its tasks."""

    @property
    def negotiated(self) -> Negotiated: ...

    @property
    def closed(self) -> trio.Event:
        """Set when the link can carry no further call, for whatever reason."""

    @property
    def failure(self) -> str:
        """Why the link closed, for people: exit status and last words of a child, the error of a socket."""

    async def call(self, request: Request, back: Back) -> Reply:
        """Send a request and wait for its reply. Errors and cancellation: see the rules of this module."""

    async def notify(self, message: Message) -> None:
        """Send a notification, or the response to a request of the server, as it is.

        Nothing is sent where the link's era has no such messages on its transport.

        :raises ServerError: it cannot be sent, or the server does not take it
        """

    async def aclose(self) -> None:
        """End the link gracefully, within its own bounds; idempotent. Calls in flight fail with `ServerUnavailable`."""

    def statistics(self) -> LinkStatistics: ...


class Begins(Protocol):
    """What a `Link` may have beside: calls without a task, for the many that are one request and one reply.

    The task of a caller costs a call two switches, a third of all it costs. A link that has a ``begin`` is given its
    plain calls here; it has to have `Link.call` all the same.
    """

    def begin(self, request: Request, done: Done) -> bool:
        """Send a request and have ``done`` called with its reply, or with what `Link.call` would have raised.

        What the server sends before its reply cannot be taken here: ``done`` gets a continuation then, which whoever
        began the call runs in a task. Ending the request's `Wait` ends the call, as ever. False if nothing was sent,
        and the call has to be made with `Link.call`. Never blocks, never raises.
        """


class StreamEnded(ServerMisbehaved):
    """The server ended the stream of a call before the reply, and the client resumes it with `Listens.listen`.

    Servers may (2025-11-25, transports: polling). The call goes on; its id stays the client's on the resumed stream.
    """


class NoStream(MethodNotFound):
    """There is no stream of what servers say outside calls; ``status`` is what the server answered, or 405."""

    def __init__(self, message: str, status: int = 405) -> None:
        super().__init__(message)
        self.status = status  # type: ignore[misc]  # a constant of every other class


class Listens(Protocol):
    """What a `Link` may have beside: streams that the client of its session asks for and resumes."""

    async def listen(
        self, last_event: bytes | None, wait: Wait, back: Back, opened: Callable[[], Awaitable[None]]
    ) -> None:
        """Hand on what the server says outside calls, until the server ends the stream or the ``wait`` is ended.

        ``last_event`` resumes after the event of that id: the reply of a call that was cut off then comes too, as an
        event, under the id of the client's request. ``opened`` is called once it is known that there is a stream.

        :raises NoStream: the server refuses, with the status that it answered
        :raises ServerError: what else it did instead
        """


class Adapter(Protocol):
    """A way to reach one server. Cheap to make, holds configuration and what is shared between links, no tasks."""

    @property
    def server(self) -> str:
        """The name of the server, for errors and logs."""

    async def connect(self, nursery: trio.Nursery, offer: Offer, receive: Receive) -> Link:
        """Make a link: start or dial, shake hands, return when calls can be made.

        The link's tasks live in ``nursery`` and never raise into it. Cancelling the call leaves nothing behind;
        cancelling the nursery ends the link at once, children included.

        :raises ServerUnavailable: not reachable, exited, or did not shake hands
        :raises EraMismatch: ``offer.era`` is not spoken here
        """


@asynccontextmanager
async def open_link(adapter: Adapter, offer: Offer, receive: Receive = lambda message: None) -> AsyncIterator[Link]:
    """`Adapter.connect` with a nursery of its own; closes the link at the end."""
    async with trio.open_nursery() as nursery:
        link = await adapter.connect(nursery, offer, receive)
        try:
            yield link
        finally:
            await link.aclose()
            nursery.cancel_scope.cancel(reason="the link is closed")


class NoBack:
    """The back-channel of a caller that wants only the reply."""

    async def send(self, event: Event) -> None:
        await trio.lowlevel.checkpoint()
