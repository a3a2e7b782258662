"""The way out of a link over HTTP+SSE: each message is a POST of its own.

Requests go side by side, and so do responses to what the server asks: there are servers that answer the POST of a
request when the request is done, and what they ask meanwhile has to be answered before. Notifications keep their place:
``initialized`` must come before the requests after it, and a cancellation after the request that it is about.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

import trio

from mcpgateway import jsonrpc
from mcpgateway.adapters.http_replies import refusal
from mcpgateway.errors import ServerError, ServerUnavailable, TooBusy
from mcpgateway.wire.http_client import HttpError, Prepared
from mcpgateway.wire.waiting import Wait

log = logging.getLogger("mcpgateway.server")

QUEUE_LIMIT: Final = 64 * 1024 * 1024
"""Bytes of messages that the server has not answered yet."""
ATTENTION: Final = 1.0
"""Seconds that a notification waits for the answers to what went before, and what goes after for its own."""
ANSWER_LIMIT: Final = 1024 * 1024
"""Bytes of the answer to a POST, which has nothing to say."""

Undelivered: TypeAlias = Callable[[bytes, ServerError, bool], None]
"""Takes a message that the server did not take, why, and whether it may have taken it all the same. Must not block."""


class Posts:
    """The messages on their way to one endpoint. ``timeout`` is how long the server may take to answer a POST."""

    def __init__(self, server: str, prepared: Prepared, timeout: float) -> None:
        self._server = server
        self._prepared = prepared
        self._timeout = timeout
        self._messages: deque[bytes] = deque()
        self._size = 0
        """Bytes of the messages that have not been answered."""
        self._something = trio.Event()
        self._awaited: set[trio.Event] = set()
        """The answers to come that a notification has to wait for; what was late once is not waited for again."""

    def put(self, data: bytes) -> None:
        """Send a message; never waits.

        :raises TooBusy: more would be under way than may
        """
        if self._size + len(data) > QUEUE_LIMIT:
            raise TooBusy(f"{self._size} bytes are waiting for a server that does not take them")
        self._size += len(data)
        self._messages.append(data)
        self._something.set()

    async def run(self, undelivered: Undelivered) -> None:
        """Send what is put, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                data = await self._next()
                notification = jsonrpc.decode(data).is_notification
                if notification:
                    await self._until_answered()
                answered = trio.Event()
                self._awaited.add(answered)
                nursery.start_soon(self._post, data, undelivered, answered)
                if notification:
                    await self._until_answered()

    async def _next(self) -> bytes:
        while not self._messages:
            self._something = trio.Event()
            await self._something.wait()
        return self._messages.popleft()

    async def _until_answered(self) -> None:
        with trio.move_on_after(ATTENTION):
            while self._awaited:
                await next(iter(self._awaited)).wait()
        self._awaited.clear()

    async def _post(self, data: bytes, undelivered: Undelivered, answered: trio.Event) -> None:
        try:
            # A call has a deadline of its own: a server that answers late is not to blame for that.
            with trio.move_on_after(self._timeout):
                await self._exchange(data)
        except HttpError as problem:
            broken = ServerUnavailable(self._server, str(problem), unsent=problem.unsent)
            undelivered(data, broken, not problem.unsent)
        except ServerError as problem:
            undelivered(data, problem, False)
        finally:
            self._size -= len(data)
            self._awaited.discard(answered)
            answered.set()

    async def _exchange(self, data: bytes) -> None:
        wait = Wait()
        response = await self._prepared.exchange(wait, data)
        try:
            body = await response.read(wait, ANSWER_LIMIT)
        finally:
            await response.aclose()
        if response.status >= 300:
            raise refusal(self._server, response, body, stateful=True)
