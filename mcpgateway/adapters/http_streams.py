"""What a legacy server of Streamable HTTP says to a GET: streams of what belongs to no call, and of calls cut off.

Server-sent events have ids, after which a stream can be resumed with ``Last-Event-ID`` (2025-03-26 and later,
transports); 2025-11-25 lets a server end the stream of a call on purpose, to be asked again after ``retry``. Who does
all that is told by ``Offer.hears``: the client whose session passes through (`Streams.relay`), or the link itself
(`Streams.hear`, `Streams.resume`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

import attrs
import trio
from msgspec import Raw

from mcpgateway.adapters.base import Back, Event, NoStream, Receive, Reply, StreamEnded
from mcpgateway.adapters.http_replies import EventReader, explain, follow, go_on, is_stream, refusal
from mcpgateway.backoff import Backoff
from mcpgateway.errors import ServerError, ServerMisbehaved, ServerSessionLost
from mcpgateway.jsonrpc import Message, members_of, raw_of
from mcpgateway.wire.http_client import HttpError, Response
from mcpgateway.wire.waiting import Wait, interruptible

log = logging.getLogger("mcpgateway.server")

RETRY: Final = 1.0
"""Seconds before a stream is resumed whose server did not say; the SDKs take as long."""
IN_VAIN: Final = 5
"""Times in a row that the stream of a call is resumed without anything coming."""
NOTED: Final = 1000
"""Calls of a session whose streams its client may still resume."""
_BACKOFF: Final = Backoff(initial=RETRY, maximum=60.0, jitter=0.5)

Get: TypeAlias = Callable[[bytes | None, Wait], Awaitable[Response]]
"""Asks for a stream, after the event of that id if there is one."""


class Streams:
    """The streams of one session. Owns no task: each runs in its caller's."""

    def __init__(self, server: str, get: Get, chance: Callable[[], float], *, stateful: bool) -> None:
        self._server = server
        self._stateful = stateful
        self._get = get
        self._chance = chance
        self._noted: dict[bytes, bytes] = {}
        """The client's ids of calls whose streams can be resumed, by our own; the oldest go first."""
        self._read: dict[bytes, tuple[bytes, Wait]] = {}
        """The same of calls whose streams are being read, and what their readers wait under."""
        self._alone: list[_Shared] = []
        """Calls in flight that have the link to themselves."""
        self.answered = trio.Event()
        """Set when the server has said for the first time whether there is a stream."""

    # ---- whose call it was -------------------------------------------------------------------------------------------

    def note(self, id: bytes, client: bytes) -> None:
        """Our id of a call stands for the client's on streams that the client resumes."""
        self._noted[id] = client
        if len(self._noted) > NOTED:
            del self._noted[next(iter(self._noted))]

    def reads(self, id: bytes, client: bytes, wait: Wait) -> None:
        """The stream of a call is being read, until it is `left`."""
        self._read[id] = client, wait

    def left(self, id: bytes) -> None:
        self._read.pop(id, None)

    def under_the_clients_id(self, message: Message) -> Message | None:
        """A response as the client knows it; ``None`` for one that it did not ask for.

        Whoever still reads the stream on which it would have come, without its client, need not wait for it any more.
        """
        own = message.id or b""
        client, wait = self._read.get(own, (self._noted.get(own), None))
        if wait is not None:
            wait.end(StreamEnded(self._server, "gave its reply on the stream that the client resumed"))
        return None if client is None else message.replace(id=Raw(client))

    def cancellation(self, message: Message) -> Message | None:
        """A client's ``notifications/cancelled`` in the server's words; ``None`` where no such call is noted."""
        params = members_of(message.params)
        wanted = bytes(params.get("requestId", b""))
        for id, client in reversed(self._noted.items()):
            if client == wanted:
                return message.replace(params=raw_of({**params, "requestId": Raw(id)}))
        return None

    # ---- for a client ------------------------------------------------------------------------------------------------

    async def relay(
        self, last_event: bytes | None, wait: Wait, back: Back, opened: Callable[[], Awaitable[None]]
    ) -> None:
        """Hand on one stream, to its end; see `mcpgateway.adapters.base.Listens`.

        :raises HttpError: it broke
        """
        response = await self._get(last_event, wait)
        if not is_stream(response):
            await response.aclose()
            if response.status in _REFUSALS:
                raise NoStream(f"the server has no such stream: HTTP {response.status}", response.status)
            raise refusal(self._server, response, b"", stateful=False)
        try:
            await opened()
            await follow(response, EventReader(self._server, 200, None), wait, _ToClient(self, back))
        finally:
            await response.aclose()

    # ---- for the link itself -----------------------------------------------------------------------------------------

    @contextmanager
    def alone(self, back: Back) -> Iterator[Back]:
        """The back-channel of a call that has the link to itself: what the server asks meanwhile is about that call."""
        shared = _Shared(back)
        self._alone.append(shared)
        try:
            yield shared
        finally:
            shared.over = True
            self._alone.remove(shared)

    async def ask(self, message: Message) -> bool:
        """Give a request that names no call to the only one there is; false if there are none or several."""
        if len(self._alone) != 1:
            return False
        try:
            await self._alone[0].send(Event(message))
        except Exception as problem:  # of the client's connection, which the call finds out about itself
            log.info("server %r: its request could not be handed on: %r", self._server, problem)
        return True

    async def hear(self, receive: Receive) -> None:
        """Keep a stream open and hand over what comes; returns where the server offers none.

        :raises ServerSessionLost: the server does not know the session any more
        """
        reader = EventReader(self._server, 200, None)
        back = _ToReceiver(self, receive)
        opened, attempt = False, 0
        while True:
            before = back.heard
            try:
                response = await self._get(reader.last_event, Wait())
                self.answered.set()
                try:
                    if is_stream(response):
                        opened = True
                        reader.restart()
                        await follow(response, reader, Wait(), back)
                    elif response.status == 404 and opened:
                        raise self._lost()
                    elif response.status < 500:
                        log.info("server %r: nothing is heard outside calls: HTTP %d", self._server, response.status)
                        return
                finally:
                    await response.aclose()
            except (HttpError, ServerMisbehaved) as problem:
                log.info("server %r: its stream outside calls broke: %s", self._server, problem)
            attempt = 0 if back.heard != before else attempt + 1
            backoff = _BACKOFF.delay(attempt, self._chance())
            await trio.sleep(backoff if reader.retry is None or attempt else reader.retry)

    async def resume(self, reader: EventReader, wait: Wait, back: Back) -> Reply:
        """The reply of a call whose stream was cut off, and what comes before it; as long as its ``wait`` allows.

        :raises ServerSessionLost: the server does not know the session any more
        :raises ServerMisbehaved: the server refuses, or says nothing any more
        """
        in_vain = 0
        while True:
            with interruptible(wait):
                await trio.sleep(RETRY if reader.retry is None else reader.retry)
            last_event = reader.last_event
            try:
                response = await self._get(last_event, wait)
                try:
                    if response.status == 404 and self._stateful:
                        raise self._lost()
                    if not is_stream(response):
                        raise self._not_resumed(explain(response.status, response.headers))
                    reader.restart()
                    return await go_on(response, reader, wait, back)
                finally:
                    await response.aclose()
            except (HttpError, StreamEnded) as problem:
                in_vain = in_vain + 1 if reader.last_event == last_event else 0
                if in_vain == IN_VAIN:
                    raise self._not_resumed(str(problem)) from None

    def _lost(self) -> ServerError:
        return ServerSessionLost(self._server, "no longer knows the session; initialise again")

    def _not_resumed(self, reason: str) -> ServerError:
        return ServerMisbehaved(self._server, f"the stream of a call was cut off and cannot be resumed: {reason}")


_REFUSALS: Final = frozenset({400, 404, 405, 406, 409, 410, 429})
"""What a server says to its client about a stream, not to the gateway about a server."""


class _ToClient:
    """The back-channel of a client that listens, which knows its calls by its own ids."""

    def __init__(self, streams: Streams, back: Back) -> None:
        self._streams = streams
        self._back = back

    async def send(self, event: Event) -> None:
        message = event.message
        if message is not None and message.method is None:
            response = self._streams.under_the_clients_id(message)
            if response is None:
                log.info("dropped the response to a request that the client did not make, or long ago")
            event = attrs.evolve(event, message=response)
        await self._back.send(event)


class _ToReceiver:
    """The back-channel of nobody's call: what comes goes to the link's receiver."""

    def __init__(self, streams: Streams, receive: Receive) -> None:
        self.heard = 0
        """Events that came."""
        self._streams = streams
        self._receive = receive

    async def send(self, event: Event) -> None:
        self.heard += 1
        message = event.message
        if message is None:
            return
        if message.method is None:
            log.info("dropped a response that belongs to no request from a stream")
        elif message.id is None or not await self._streams.ask(message):
            self._receive(message)


class _Shared:
    """The back-channel of a call to which two streams lead, one event at a time."""

    def __init__(self, back: Back) -> None:
        self.over = False
        self._back = back
        self._turn = trio.Lock()

    async def send(self, event: Event) -> None:
        async with self._turn:
            if not self.over:
                await self._back.send(event)
