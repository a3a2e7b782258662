"""Calls over HTTP that are begun without a task (`mcpgateway.adapters.base.Begins`), and how they go on in one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from mcpgateway.adapters.base import Back, Continuation, Done, Reply, Request
from mcpgateway.adapters.http_replies import EventReader, from_json, is_stream, read_reply
from mcpgateway.errors import ServerError, ServerUnavailable
from mcpgateway.wire.http_client import Arrived, HttpError, Response, is_json

if TYPE_CHECKING:
    from mcpgateway.adapters.http_link import StreamableHttpLink


class Flight:
    """A call that was begun without a task."""

    __slots__ = ("_done", "_id", "_link", "_request", "abandon")

    def __init__(self, link: StreamableHttpLink, request: Request, id: bytes, done: Done) -> None:
        self._link = link
        self._request = request
        self._id = id
        self._done = done
        self.abandon: Callable[[], None] | None = None

    def arrived(self, outcome: Arrived | HttpError) -> None:
        """The response is here: whole if it is JSON, begun if it is not. Or there will be none."""
        self._request.wait.wake = None
        if isinstance(outcome, HttpError):
            if outcome.unsent:
                self._hand_on(self._again)
            else:
                self._fail(outcome)
            return
        try:
            reply = self._reply(outcome)
        except ServerError as problem:
            self._hand_on(partial(self._refuse, outcome, problem))
        else:
            if reply is not None:
                self._link.over(self._request.wait)
                self._done(reply)

    def _reply(self, response: Arrived) -> Reply | None:
        """The reply, if it is here; if not, the call goes on in a task."""
        link = self._link
        if is_json(response.headers):
            body = response.whole()
            assert body is not None
            return from_json(link.server, response, body, self._id, stateful=link.stateful)
        if not is_stream(response):
            self._hand_on(partial(self._read, response))
            return None
        reader = link.reader(response, self._id)
        reader.feed(response.piece())
        if reader.reply is not None and not reader.waiting:
            response.leave()
            link.note(reader, self._id, self._request)
            return reader.reply
        self._hand_on(partial(self._go_on, response, reader))
        return None

    def ended(self) -> None:
        """The wait of the request was ended."""
        wait = self._request.wait
        if self.abandon is not None:
            self.abandon()
        assert wait.ended is not None
        self._fail(wait.ended)

    def _fail(self, problem: Exception) -> None:
        link = self._link
        link.give_up(self._request.wait, self._id, problem)
        if isinstance(problem, HttpError):
            problem = ServerUnavailable(link.server, str(problem), unsent=problem.unsent)
        self._done(problem)

    def _hand_on(self, continuation: Continuation) -> None:
        self._link.over(self._request.wait)
        self._done(continuation)

    async def _again(self, back: Back) -> Reply:
        return await self._link.call(self._request, back)

    async def _refuse(self, response: Response, problem: ServerError, back: Back) -> Reply:
        return await self._link.followed(self._request.wait, self._id, _refused(response, problem))

    async def _read(self, response: Response, back: Back) -> Reply:
        link = self._link
        return await link.followed(
            self._request.wait,
            self._id,
            read_reply(link.server, response, self._id, self._request.wait, back, stateful=link.stateful),
        )

    async def _go_on(self, response: Response, reader: EventReader, back: Back) -> Reply:
        link, request = self._link, self._request
        reading = link.read_on(response, reader, self._id, request, back)
        return await link.followed(request.wait, self._id, reading)


async def _refused(response: Response, problem: ServerError) -> Reply:
    await response.aclose()
    raise problem
