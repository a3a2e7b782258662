"""What the links over a pipe share: calls that meet on one stream.

`PipeLink` is the `Link` of every transport that carries all messages in one stream (stdio, in-process). It owns no
task and does no I/O: the transport feeds it what comes in, and gives it a `Wire` to put on what goes out. A call parks
its own task and is woken by what arrives for it; it has no nursery, no cancel scope and no channel.
"""

from __future__ import annotations

import logging
from collections import deque
from functools import partial
from typing import Final, Protocol

import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Back, Done, Event, LinkStatistics, NoBack, Receive, Reply, Request
from mcpgateway.errors import (
    GatewayError,
    InvalidRequest,
    ParseError,
    ServerError,
    ServerMisbehaved,
    ServerUnavailable,
    TooBusy,
)
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol import correlator
from mcpgateway.protocol.correlator import Correlator, Pending, one_line
from mcpgateway.protocol.negotiated import Negotiated
from mcpgateway.wire.waiting import Wait

log = logging.getLogger(__name__)

INBOX_EVENTS: Final = 10_000
INBOX_BYTES: Final = 64 * 1024 * 1024
"""What may wait for the client of one call to take it; beyond, the call fails."""
BATCH_MESSAGES: Final = 100
BATCH_BYTES: Final = 1024 * 1024
"""The largest batch of a server. It has no cause to send one: it is never sent one."""


class Wire(Protocol):
    """The way out of a `PipeLink`."""

    def put(self, data: bytes) -> None:
        """Send one message; never waits.

        :raises TooBusy: too much is waiting to be sent
        :raises trio.BrokenResourceError, trio.ClosedResourceError: nothing can be sent any more
        """

    async def aclose(self) -> None:
        """End the transport gracefully, within its own bounds; idempotent."""


class _Call:
    """One call, and what has come for it; its task is parked on ``wait`` while there is nothing to do."""

    __slots__ = ("events", "message", "problem", "size", "wait")

    def __init__(self, wait: Wait) -> None:
        self.wait = wait
        self.events: deque[Message] = deque()
        self.size = 0
        self.message: Message | None = None
        self.problem: Exception | None = None

    def answer(self, message: Message) -> None:
        self.message = message
        self.wait.resume()

    def fail(self, problem: Exception) -> None:
        if self.message is None and self.problem is None:
            self.problem = problem
            self.wait.resume()

    def add(self, message: Message, size: int) -> None:
        if message.method == "notifications/progress":
            self.wait.renew()
        self.size += size
        if len(self.events) >= INBOX_EVENTS or self.size > INBOX_BYTES:
            self.fail(TooBusy("the client does not take what the server sends during this call"))
        else:
            self.events.append(message)
            self.wait.resume()


class _Begun:
    """A call without a task; what comes for it that is no reply makes it a `_Call`, to be gone on with in a task."""

    __slots__ = ("_done", "_link", "_pending", "_wait")

    def __init__(self, link: PipeLink, pending: Pending, wait: Wait, done: Done) -> None:
        self._link = link
        self._pending = pending
        self._wait = wait
        self._done = done

    def answer(self, message: Message) -> None:
        self._settle(Reply(message))

    def fail(self, problem: Exception) -> None:
        self._link._give_up(self._pending, problem)
        self._settle(problem)

    def ended(self) -> None:
        assert self._wait.ended is not None
        self.fail(self._wait.ended)

    def add(self, message: Message, size: int) -> None:
        call = _Call(self._wait)
        call.add(message, size)
        self._wait.wake = None
        self._link._calls[self._pending] = call
        self._done(partial(self._link._follow, self._pending, call))

    def _settle(self, outcome: Reply | Exception) -> None:
        self._wait.wake = None
        del self._link._calls[self._pending]
        self._done(outcome)


class PipeLink:
    """A link over one stream. The transport calls `received` and `broken`, and shakes hands before the first call
    (`mcpgateway.adapters.pipe_handshake.negotiate`).

    ``receive`` gets what belongs to no call, but for the server's pings, which the link answers itself.
    """

    def __init__(self, server: str, wire: Wire, receive: Receive, *, pid: int | None = None) -> None:
        self.server = server
        self.closed = trio.Event()
        self.failure = ""
        self.junk = 0
        """Messages of the server that were no MCP messages, or belonged to nothing."""
        self._wire = wire
        self._receive = receive
        self._pid = pid
        self._correlator = Correlator()
        self._calls: dict[Pending, _Call | _Begun] = {}
        self._negotiated: Negotiated | None = None

    @property
    def negotiated(self) -> Negotiated:
        if self._negotiated is None:
            raise RuntimeError("the link has not shaken hands yet")
        return self._negotiated

    def statistics(self) -> LinkStatistics:
        return LinkStatistics(in_flight=len(self._correlator), calls=self._correlator.begun, pid=self._pid)

    # ---- going out ---------------------------------------------------------------------------------------------------

    async def call(self, request: Request, back: Back) -> Reply:
        """See `mcpgateway.adapters.base.Link.call`. About 7 µs over stdio with 16 in flight."""
        wait = request.wait
        wait.check()
        pending, data = self._correlator.begin(request.message, alone=request.alone)
        call = _Call(wait)
        self._calls[pending] = call
        return await self._follow(pending, call, back, data)

    async def _follow(self, pending: Pending, call: _Call, back: Back, data: bytes | None = None) -> Reply:
        """Send a call, unless it has been sent, and wait for its reply."""
        wait = call.wait
        try:
            if data is not None:
                self._put(data)
            while True:
                while call.events:
                    await back.send(Event(call.events.popleft()))
                    wait.check()
                call.size = 0
                if call.problem is not None:
                    raise call.problem
                if call.message is not None:
                    return Reply(call.message)
                await wait.park()
        except BaseException as problem:
            self._give_up(pending, problem)
            raise
        finally:
            del self._calls[pending]

    def begin(self, request: Request, done: Done) -> bool:
        """See `mcpgateway.adapters.base.Begins`."""
        wait = request.wait
        if self.closed.is_set() or wait.ended is not None:
            return False
        pending, data = self._correlator.begin(request.message, alone=request.alone)
        try:
            self._put(data)
        except GatewayError:
            self._correlator.cancel(pending, "not sent")
            return False
        call = _Begun(self, pending, wait, done)
        self._calls[pending] = call
        wait.wake = call.ended
        return True

    def undelivered(self, data: bytes, problem: ServerError, *, known: bool) -> None:
        """The server did not take what was put, as the transport found out later: fail the call that it began.

        ``known`` says that it may have taken it all the same, and is to be told to cancel.
        """
        message = jsonrpc.decode(data)
        pending = self._correlator.find(message.id) if message.is_request else None
        if pending is None:
            log.info("a %s was not delivered: %s", message.method or "response", problem.message)
        else:
            if not known:
                self._correlator.withdraw(pending)
            self._calls[pending].fail(problem)

    async def notify(self, message: Message) -> None:
        """See `mcpgateway.adapters.base.Link.notify`."""
        self._put(one_line(message.encode()))
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """See `mcpgateway.adapters.base.Link.aclose`."""
        self.broken("the link was closed")
        await self._wire.aclose()

    def _put(self, data: bytes) -> None:
        if self.closed.is_set():
            raise ServerUnavailable(self.server, self.failure, unsent=True)
        try:
            self._wire.put(data)
        except trio.BrokenResourceError as problem:
            raise ServerUnavailable(self.server, str(problem), unsent=True) from None
        except trio.ClosedResourceError:
            raise ServerUnavailable(self.server, "the link is closing", unsent=True) from None

    def _give_up(self, pending: Pending, problem: BaseException) -> None:
        reason = problem.message if isinstance(problem, GatewayError) else "the call was cancelled"
        data = self._correlator.cancel(pending, reason)
        if data is not None:
            self._put_if_possible(data)

    def _put_if_possible(self, data: bytes) -> None:
        try:
            self._put(data)
        except GatewayError as problem:
            log.debug("server %r was not told: %s", self.server, problem)

    # ---- coming in ---------------------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Take one message of the server (or a batch, revision 2025-03-26). Never raises, never waits."""
        first = data[:1]
        if first == b"{":
            self._take(data)
        elif first == b"[":
            for part in self._split(data):
                self._take(part)
        else:
            self.drop("it is no JSON object")  # most junk is text; this costs a fifth of parsing it

    def _split(self, data: bytes) -> list[bytes]:
        if len(data) > BATCH_BYTES:
            self.drop(f"a batch of more than {BATCH_BYTES} bytes")
            return []
        try:
            parts = jsonrpc.decode_batch(data)
        except (ParseError, InvalidRequest) as problem:
            self.drop(problem.message)
            return []
        if len(parts) > BATCH_MESSAGES:
            self.drop(f"a batch of more than {BATCH_MESSAGES} messages")
            return []
        return parts

    def _take(self, data: bytes) -> None:
        delivery = self._correlator.received(data)
        match delivery:
            case correlator.Reply():
                self._calls[delivery.pending].answer(delivery.message)
            case correlator.ToCall():
                self._calls[delivery.pending].add(delivery.message, len(data))
            case correlator.Outside():
                self._outside(delivery.message)
            case correlator.NoReply():
                self._calls[delivery.pending].fail(ServerMisbehaved(self.server, delivery.reason))
            case correlator.Late():
                log.debug("server %r: dropped a message for a call that was cancelled", self.server)
            case correlator.Junk():
                self.drop(delivery.reason)

    def _outside(self, message: Message) -> None:
        if message.method == "ping" and message.id is not None:
            self._put_if_possible(jsonrpc.result(message.id, {}).encode())
            return
        try:
            self._receive(message)
        except Exception:
            log.exception("server %r: what it sent outside a call could not be handled", self.server)

    def drop(self, reason: str) -> None:
        """Note that something of the server could not be used."""
        self.junk += 1
        level = logging.WARNING if self.junk == 1 else logging.DEBUG
        if not log.isEnabledFor(level):
            return
        log.log(level, "server %r sent something that is not used (number %d): %s", self.server, self.junk, reason)

    def broken(self, reason: str) -> None:
        """The transport has ended: fail all calls at once. The first reason counts. Never raises, never waits."""
        if self.closed.is_set():
            return
        self.failure = reason
        self.closed.set()
        for pending in self._correlator.fail_all():
            self._calls[pending].fail(ServerUnavailable(self.server, reason))

    # ---- shaking hands -----------------------------------------------------------------------------------------------

    def agreed(self, negotiated: Negotiated) -> None:
        """The handshake is done; whoever did it says so here."""
        self._negotiated = negotiated

    async def ask(self, method: str, params: Raw) -> Message:
        """A request of the link itself; its result or error."""
        request = Request(jsonrpc.request(b"0", method, params), Wait())
        return (await self.call(request, NoBack())).message
