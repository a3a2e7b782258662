"""What the responses of a Streamable HTTP server mean: a reply, an event stream that leads to one, or a refusal.

Servers answer a request with plain JSON or with an event stream, as they like (2025-03-26 and later, transports). Their
errors come under any status, with any body and often under no id or a wrong one; whatever is no reply becomes a
`ServerError` whose text says what to do and quotes nothing of the body, which may hold anything.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Final

import attrs
import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Back, Event, Reply, StreamEnded
from mcpgateway.errors import (
    GatewayError,
    InvalidParams,
    ServerError,
    ServerMisbehaved,
    ServerSessionLost,
    ServerUnavailable,
)
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.envelope import SUBSCRIPTION_ID, with_meta
from mcpgateway.wire import sse
from mcpgateway.wire.http_client import HttpError, Response, is_event_stream, is_json
from mcpgateway.wire.waiting import Wait

log = logging.getLogger("mcpgateway.server")

MAX_REPLY: Final = 64 * 1024 * 1024
"""Bytes of one JSON reply, and of one event."""

SHORTEST_RETRY: Final = 0.05
"""Seconds that a server's ``retry`` means at least: a stream that ends at once must not make a busy loop."""
LONGEST_RETRY: Final = 60.0
"""Seconds that it means at most."""

_BREATH: Final = 16
"""Pieces of a stream after which others get a turn, however fast the server sends."""

_NAMES_SESSION: Final = re.compile(rb"session|not initialized", re.IGNORECASE)


class Refused(ServerUnavailable):
    """The server answered with an HTTP error instead of a reply: it has not taken the request on."""

    def __init__(self, server: str, message: str, answered: int) -> None:
        super().__init__(server, message)
        self.answered = answered
        self.unwell = answered >= 500


async def read_reply(
    server: str, response: Response, id: bytes, wait: Wait, back: Back, *, stateful: bool = False
) -> Reply:
    """Read a response to its reply, and hand what comes before that to ``back``.

    ``stateful`` says that the request named a session. Ended early, the connection of the response is closed.

    :raises ServerSessionLost: the server does not know the session
    :raises Refused: an HTTP error
    :raises ServerMisbehaved: anything else that is no reply to the request ``id``
    :raises HttpError: the connection broke
    """
    if is_json(response.headers):
        return from_json(server, response, await response.read(wait, MAX_REPLY), id, stateful=stateful)
    if is_stream(response):
        try:
            return await _from_stream(server, response, id, wait, back)
        finally:
            await response.aclose()
    body = await response.read(wait, MAX_REPLY) if stateful and response.status == 400 else b""
    await response.aclose()
    raise refusal(server, response, body, stateful=stateful)


def is_stream(response: Response) -> bool:
    return response.status == 200 and is_event_stream(response.headers)


def refusal(server: str, response: Response, body: bytes, *, stateful: bool) -> ServerError:
    """What a response that is no reply says about the server."""
    if stateful and session_lost(response.status, body):
        return ServerSessionLost(server, "no longer knows the session; initialise again")
    text = explain(response.status, response.headers)
    return Refused(server, text, response.status) if response.status >= 400 else ServerMisbehaved(server, text)


def session_lost(status: int, body: bytes) -> bool:
    """Whether a refusal is about the session: 404, as the specification has it, or a 400 that speaks of it.

    Servers written after the TypeScript SDK's examples answer 400 "no valid session ID" once they were restarted.
    """
    return status == 404 or (status == 400 and _NAMES_SESSION.search(body) is not None)


def explain(
    status: int, headers: Mapping[bytes, bytes], *, speaks: str = "Streamable HTTP (HTTP+SSE is 'type: sse')"
) -> str:
    """What to do about a response that is not MCP, from a server that should have spoken another transport."""
    if 300 <= status < 400:
        return f"answered with HTTP {status}, a redirect; configure the URL that it leads to"
    if status in (401, 403):
        return f"answered with HTTP {status}; check the credentials in its headers"
    if status in (404, 405):
        return f"answered with HTTP {status}; check the path of its URL, and that it speaks {speaks}"
    kind = headers.get(b"content-type", b"").partition(b";")[0].decode("latin-1")
    return f"answered with HTTP {status} and {kind[:60] or 'no content'}"


def from_json(server: str, response: Response, body: bytes, id: bytes, *, stateful: bool) -> Reply:
    """The reply in a JSON body; raises as `read_reply` does."""
    status = response.status
    if status != 200 and stateful and session_lost(status, body):
        raise refusal(server, response, body, stateful=True)
    try:
        message = jsonrpc.decode(body)
    except GatewayError as problem:
        if status >= 400:
            raise refusal(server, response, body, stateful=False) from None
        raise ServerMisbehaved(server, f"its reply is not JSON-RPC: {problem.message}") from None
    if not _answers(message, id, status):
        raise ServerMisbehaved(server, "its reply does not belong to the request")
    return Reply(message, status)


def _answers(message: Message, id: bytes, status: int) -> bool:
    """Whether a message is the reply: by its id, or as an error of a server that could not know or keep the id."""
    if message.method is not None:
        return False
    if message.id == id:
        return True
    return message.error is not None and (status >= 400 or message.id in (None, b"null"))


async def _from_stream(server: str, response: Response, id: bytes, wait: Wait, back: Back) -> Reply:
    return await go_on(response, EventReader(server, response.status, id), wait, back)


async def go_on(response: Response, reader: EventReader, wait: Wait, back: Back) -> Reply:
    """Read an event stream to the reply in it, from wherever its reader has come to; see `read_reply`.

    :raises StreamEnded: it ended or broke before the reply, and can be resumed
    """
    try:
        await follow(response, reader, wait, back)
    except HttpError as problem:
        if not reader.resumable:
            raise
        raise StreamEnded(reader.server, str(problem)) from None
    if reader.reply is None:
        kind = StreamEnded if reader.resumable else ServerMisbehaved
        raise kind(reader.server, "ended its event stream without a reply")
    return reader.reply


async def follow(response: Response, reader: EventReader, wait: Wait, back: Back) -> None:
    """Hand the events of a stream to ``back`` until it ends, or the reply has come; progress renews the ``wait``."""
    pieces = 0
    while True:
        for event in reader.take():
            if event.message is not None and event.message.method == "notifications/progress":
                wait.renew()
            await back.send(event)
            wait.check()
        if reader.reply is not None:
            response.leave()
            return
        pieces += 1
        if not pieces % _BREATH:
            wait.check()
            await trio.lowlevel.checkpoint()
        piece = await response.more(wait)
        if not piece:
            return
        reader.feed(piece)


class EventReader:
    """The events of the stream that answers one request. ``reply`` is set by the one that is the reply.

    Without an ``id`` the stream belongs to no request, and responses are events as well. ``last_event`` is the id
    after which the stream can be resumed, where ``resumes`` says that there is such a thing, and ``retry`` the seconds
    that the server wants to have passed before.
    """

    __slots__ = (
        *("_dropped", "_events", "_id", "_parser", "_resumes", "_status"),
        *("last_event", "reply", "retry", "server"),
    )

    def __init__(self, server: str, status: int, id: bytes | None, *, resumes: bool = False) -> None:
        self.server = server
        self.reply: Reply | None = None
        self.last_event: bytes | None = None
        self.retry: float | None = None
        self._resumes = resumes
        self._status = status
        self._id = id
        self._parser = sse.Parser(MAX_REPLY)
        self._events: list[Event] = []
        self._dropped = 0

    @property
    def resumable(self) -> bool:
        return self._resumes and self.last_event is not None

    def restart(self) -> None:
        """The stream begins again, after the last event."""
        self._parser = sse.Parser(MAX_REPLY)

    @property
    def waiting(self) -> bool:
        """Whether there are events to be taken."""
        return bool(self._events)

    def take(self) -> list[Event]:
        """The events before the reply, or so far."""
        events, self._events = self._events, []
        return events

    def feed(self, piece: bytes) -> None:
        """Read on.

        :raises ServerMisbehaved: an event is too large, or the reply is none
        """
        try:
            frames = self._parser.feed(piece)
        except sse.EventTooLarge as problem:
            raise ServerMisbehaved(self.server, str(problem)) from None
        for frame in frames:
            if self.reply is not None:
                return  # nothing belongs to the call any more
            if frame.id is not None:
                self.last_event = frame.id or None
            if frame.retry is not None:
                self.retry = min(max(int(frame.retry[:9]) / 1000, SHORTEST_RETRY), LONGEST_RETRY)
            try:
                event = _event(frame)
            except GatewayError as problem:
                if self._id is not None and problem.request_id == self._id:
                    raise ServerMisbehaved(self.server, f"its reply is not JSON-RPC: {problem.message}") from None
                self._dropped = _drop(self.server, self._dropped, problem.message)
                continue
            if event is None:
                continue
            message = event.message
            if message is None or message.method is not None or self._id is None:
                self._events.append(event)
            elif _answers(message, self._id, self._status):
                self.reply = Reply(message, self._status, event)
            else:
                self._dropped = _drop(self.server, self._dropped, "a reply that belongs to no request")


def _event(frame: sse.Frame) -> Event | None:
    """What a frame brings; ``None`` for nothing (servers keep streams alive with events of their own, too).

    :raises GatewayError: it is not JSON-RPC
    """
    if frame.event != b"message":
        return None
    if frame.data:
        return Event(jsonrpc.decode(frame.data), frame.id, frame.retry)
    return None if frame.id is None and frame.retry is None else Event(None, frame.id, frame.retry)


def _drop(server: str, before: int, reason: str) -> int:
    level = logging.DEBUG if before else logging.WARNING
    log.log(level, "server %r: dropped an event of its stream (number %d): %s", server, before + 1, reason)
    return before + 1


class Subscription:
    """The back-channel of a subscription, whose notifications name the request: by our id, and here by the client's."""

    __slots__ = ("_back", "_request")

    def __init__(self, back: Back, request: Message) -> None:
        self._back = back
        self._request = request

    async def send(self, event: Event) -> None:
        if event.message is not None:
            event = attrs.evolve(event, message=under_own_id(event.message, self._request))
        await self._back.send(event)


def under_own_id(message: Message, request: Message) -> Message:
    """A message of a subscription with the id of the client's request in it, where it names one."""
    member = "result" if message.method is None else "params"
    body = message.members.get(member)
    try:
        if SUBSCRIPTION_ID not in jsonrpc.members_of(jsonrpc.members_of(body).get("_meta")):
            return message
    except InvalidParams:
        return message
    return message.replace(**{member: with_meta(body, {SUBSCRIPTION_ID: Raw(request.id or b"null")})})
