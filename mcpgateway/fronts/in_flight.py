"""The requests of one channel that are in flight: who they are from, what they count as, how they end."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Back, Continuation, Outcome, Reply
from mcpgateway.errors import CallCancelled, ClientGone, GatewayError, InvalidParams, InvalidRequest
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.envelope import Envelope, read
from mcpgateway.protocol.translation.subscriptions import LISTEN
from mcpgateway.sessions.caller import Caller
from mcpgateway.wire.bounds import Bound, Bounds
from mcpgateway.wire.waiting import Wait

log = logging.getLogger("mcpgateway.channel")

LARGE: Final = 64 * 1024
"""Bytes from which on a request counts in ``listen.limits.bodies_bytes`` until it is answered."""


_MARK: Final = b"protocolVersion"  # not the whole key, which may be spelt with escapes


def envelope_of(message: Message) -> Envelope | None:
    """The envelope of a modern request; ``None`` for everything else.

    :raises InvalidParams: it is not right
    """
    params = message.params
    if params is None or message.id is None or message.method in (None, "initialize") or _MARK not in bytes(params):
        return None
    return read(params)


class Batch:
    """The responses of a batch (2025-03-26), ``due`` of them: one array, in the order in which they come."""

    def __init__(self, due: int) -> None:
        self._due = due
        self._ready: list[bytes] = []

    def add(self, data: bytes | None) -> bytes | None:
        """Note one response, or that there will be none; the array once that was the last one."""
        self._due -= 1
        if data is not None:
            self._ready.append(data)
        return b"[%b]" % b",".join(self._ready) if self._ready and not self._due else None


class Call:
    """A request of ``size`` bytes. ``batch`` is the one that it came in."""

    __slots__ = ("batch", "caller", "id", "lasting", "message", "size", "wait")

    def __init__(self, caller: Caller, message: Message, size: int, batch: Batch | None = None) -> None:
        self.caller = caller
        self.message = message
        self.id = message.id or b""
        self.size = size if size > LARGE else 0
        self.batch = batch
        self.lasting = message.method == LISTEN
        self.wait = Wait()


class InFlight:
    """The calls of a client that counts as ``address``, whatever their era: its ids are of one channel."""

    def __init__(self, bounds: Bounds, address: str) -> None:
        self._bounds = bounds
        self._address = address
        self._calls: dict[bytes, Call] = {}
        """By the client's raw id."""

    def enter(self, call: Call) -> None:
        """Note a call.

        :raises InvalidRequest: its id is in use
        :raises TooBusy: there is too much
        """
        if call.id in self._calls:
            raise InvalidRequest("a request with this id is already in flight on this channel")
        bound = self._bound(call)
        bound.take(self._address)
        try:
            if call.size:
                self._bounds.bodies.take(self._address, call.size)
        except GatewayError:
            bound.release(self._address)
            raise
        self._calls[call.id] = call
        try:
            if call.caller.session is not None:
                call.caller.session.begin(call.id, call.wait)
        except GatewayError:
            self.over(call)
            self.give_back(call)
            raise

    def over(self, call: Call) -> None:
        """Note that it will be answered now, or not at all: its id is free; idempotent."""
        if self._calls.get(call.id) is call:
            del self._calls[call.id]
        if call.caller.session is not None:
            call.caller.session.end(call.id, call.wait)

    def give_back(self, call: Call) -> None:
        """Count it no more; once."""
        self._bound(call).release(self._address)
        if call.size:
            self._bounds.bodies.release(self._address, call.size)

    def cancel(self, message: Message) -> None:
        """End the call that a ``notifications/cancelled`` names; none, if there is no such call."""
        try:
            id = jsonrpc.members_of(message.params).get("requestId")
        except InvalidParams:
            return
        call = None if id is None else self._calls.get(bytes(id))
        if call is not None:
            call.wait.end(CallCancelled("cancelled by the client"))

    def end(self, problem: GatewayError, *, lasting: bool = False) -> None:
        """End all calls with a problem, or those which last until somebody does that."""
        for call in list(self._calls.values()):
            if call.lasting or not lasting:
                call.wait.end(problem)

    def _bound(self, call: Call) -> Bound:
        return self._bounds.streams if call.lasting else self._bounds.calls


async def response(call: Call, serving: Continuation, back: Back) -> bytes | None:
    """Have a call served to its end, and give the response to it; ``None`` where none is due."""
    try:
        reply = await serving(back)
        return reply.message.encode_as(call.id)
    except (CallCancelled, ClientGone):
        return None
    except GatewayError as problem:
        return jsonrpc.error(call.id, problem).encode()
    except Exception:
        log.exception("a %s failed", call.message.method)
        return jsonrpc.error(call.id, internal()).encode()


async def go_on(outcome: Outcome, back: Back) -> Reply:
    """Go on with a call that was begun, from wherever it has come to."""
    if isinstance(outcome, Reply):
        return outcome
    if isinstance(outcome, Exception):
        raise outcome
    return await outcome(back)


def internal() -> GatewayError:
    """The error for a mistake of ours."""
    return GatewayError("internal error; the gateway's log has the details")


async def attempt(work: Callable[[], Awaitable[object]]) -> None:
    """Bring something to a server; that it cannot be brought is nobody's to know who said it."""
    try:
        await work()
    except GatewayError as problem:
        log.info("what a client said was not delivered: %s", problem.message)
    except Exception:
        log.exception("what a client said was not delivered")
