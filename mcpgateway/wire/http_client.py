"""The seam between what speaks MCP over HTTP and the HTTP clients: `HttpClient`, `Prepared`, `Response`.

There are two clients. `mcpgateway.wire.http1.client.Pool` is the fast one: HTTP/1.1, straight to the server.
`mcpgateway.wire.httpx_client.HttpxClient` does what is rare: proxies and HTTP/2. Nobody above can tell them apart.

A client reaches one URL. What the requests of a link have in common is prepared once; a request is then the fields and
the body that are its own. Whoever waits does so under a `Wait`, and ending it interrupts at any point; a request that
was interrupted costs its connection, which is how a peer learns that nobody wants its answer any more.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final, Protocol, TypeAlias
from urllib.parse import quote, urlsplit

import attrs
import trio

from mcpgateway.wire.waiting import Phase, Wait

Fields: TypeAlias = Mapping[bytes, bytes | None]
"""Header fields under their lower-case names; ``None`` for one that is not sent."""

KEPT: Final = 60.0
"""Seconds after which a connection that nobody needs is closed."""

BODY_STALL: Final = 30.0
"""Seconds of silence within a body that is no event stream, where no ``stall_timeout`` is configured."""


class HttpError(Exception):
    """The peer did not answer as HTTP says, or not at all.

    ``unsent`` is true where no byte of the request can have been acted upon, so that it may be sent again. A kept
    connection that ends before a byte of a response proves nothing of the kind: most likely the peer had closed it
    while it was idle, but it may as well have crashed over the request.
    """

    def __init__(self, message: str, *, unsent: bool = False) -> None:
        super().__init__(message)
        self.unsent = unsent


@attrs.frozen
class Deadlines:
    """How long a server may take for each phase of an exchange, in seconds; ``None``: as long as the `Wait` allows.

    ``late`` makes the exception that a `Wait` ends with when a phase after connecting took too long.
    """

    connect: float = 10.0
    """Name look-up, TCP, proxy and TLS together. Too late is an `HttpError`, for nothing was sent."""
    first_byte: float | None = None
    """From the request sent to the head of the response."""
    body: float | None = BODY_STALL
    """The longest silence within a body that is no event stream."""
    stream: float | None = None
    """The longest silence of an event stream."""
    late: Callable[[str], Exception] = TimeoutError

    def patient(self) -> Deadlines:
        """The same for requests whose answer may be silent for as long as it likes: streams that are listened to."""
        return attrs.evolve(self, first_byte=None, body=None, stream=None)

    def head(self) -> Phase | None:
        """The phase that begins when a request has been sent."""
        if self.first_byte is None:
            return None
        return self._phase(self.first_byte, "sent no first byte of its response within %g s (first_byte_timeout)")

    def silence(self, headers: Mapping[bytes, bytes]) -> Phase | None:
        """The phase that begins, anew with every piece, when more of a response is waited for."""
        limit = self.stream if is_event_stream(headers) else self.body
        return None if limit is None else self._phase(limit, "stalled within its response for %g s (stall_timeout)")

    def _phase(self, seconds: float, what: str) -> Phase:
        return Phase(trio.current_time() + seconds, lambda: self.late(what % seconds))


DEFAULT: Final = Deadlines()


class Response(Protocol):
    """A response whose head is here and whose body may still be coming.

    Take all of it with `read`, or piece by piece with `more` until ``b""``; then its connection is used again by
    itself. `aclose` gives up what is left. Forgetting to do either costs the connection.
    """

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """The fields under their lower-case names; several of a name are joined with a comma."""

    async def read(self, wait: Wait, limit: int) -> bytes:
        """The whole body.

        :raises HttpError: it is larger than ``limit`` bytes, cut short or malformed
        """

    async def more(self, wait: Wait) -> bytes:
        """The next piece of the body; ``b""`` at its end.

        :raises HttpError: it is cut short or malformed
        """

    def leave(self) -> None:
        """Nothing more is wanted of a response that is all but over (an event stream after its last event).

        What is left of it may still be on its way; the connection is used again if that has come until it is needed.
        """

    async def aclose(self) -> None:
        """Close the connection of a response that is not wanted any more; idempotent, waits for nobody."""


class Arrived(Response, Protocol):
    """A response that came without a task: what is here of it can be taken without waiting."""

    def whole(self) -> bytes | None:
        """The whole body if it is here; ``None`` if more is to come."""

    def piece(self) -> bytes:
        """What has come of the body and was not taken yet; never waits."""


Done: TypeAlias = Callable[[Arrived | HttpError], None]
Abandon: TypeAlias = Callable[[], None]


class Prepared(Protocol):
    """What several requests have in common: their method, and most of their fields."""

    def begin(self, fields: Fields | None, body: bytes, wait: Wait, done: Done) -> Abandon | None:
        """Send a request and have ``done`` called with its response, without a task.

        The response is whole, unless it is no JSON: then its body may still be coming. ``done`` must not block or
        raise. Gives what abandons the request (``done`` is not called then), or ``None`` if nothing was sent, and
        `exchange` has to be used. Whoever ends the ``wait`` abandons the request; its phases are kept here.
        """

    async def exchange(self, wait: Wait, body: bytes | None = None, fields: Fields | None = None) -> Response:
        """Send a request and wait for the head of its response; ``fields`` are those beside the prepared ones.

        Tries once more, on a new connection, if a kept one turns out to have ended before a byte was sent.

        :raises HttpError: not reachable, or no HTTP response; `HttpError.unsent` says whether it may have had effect
        """


class HttpClient(Protocol):
    """Connections to the origin of one URL. Whoever made it closes it, with `close_idle` once nothing is in flight."""

    @property
    def deadlines(self) -> Deadlines: ...

    @property
    def open_connections(self) -> int:
        """Connections that are open, idle ones included."""

    def prepare(self, method: bytes, fields: Fields, *, patient: bool = False) -> Prepared:
        """Prepare requests; ``patient`` for those whose response may be silent as long as it likes."""

    async def close_idle(self) -> None:
        """Close the connections that are not in use. Waits for nobody; those in use belong to who uses them."""


def target_of(url: str) -> bytes:
    """What stands in the request line for a URL."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return quote(target, safe="/?%:@!$&'()*+,;=-._~").encode()


def is_json(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a body is JSON, by its headers."""
    return headers.get(b"content-type", b"")[:16].lower() == b"application/json"


def is_event_stream(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a body is an event stream, by its headers."""
    return headers.get(b"content-type", b"")[:17].lower() == b"text/event-stream"


def innermost(problem: BaseException) -> str:
    """The innermost reason of a failure to connect: trio, ssl and httpcore wrap it."""
    if isinstance(problem, OSError) and problem.errno is not None and problem.strerror:
        # trio puts the address before what the system says, as a tuple; ssl and getaddrinfo have codes of their own
        system = os.strerror(problem.errno)
        return system if problem.strerror.endswith(system) else problem.strerror
    inner = problem.__cause__ or problem.__context__
    if isinstance(inner, BaseExceptionGroup) and inner.exceptions:
        return innermost(inner.exceptions[0])
    return innermost(inner) if inner is not None else str(problem) or type(problem).__name__


def advised(reason: str) -> str:
    """A reason for which a connection broke, and what to do about it where a server misses a certificate."""
    if "CERTIFICATE_REQUIRED" not in reason.upper():
        return reason
    return f"{reason}; the server asks for a certificate, so set 'http.client_cert'"
