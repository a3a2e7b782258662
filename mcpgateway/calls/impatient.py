"""What a client gets that gives up early and takes no more than so much: an AI cloud behind an upstream.

`Impatience` is what an upstream's calls have in common, `Impatience.view` a namespace as such a client sees it:

- A call that takes longer than the deadline is answered before the client gives up: with a tool error that says so, for
  a model to read, or with an error to any other request. The server is told to cancel.
- A reply that is longer than the client takes becomes such an error; a list of tools loses those at its end, for the
  others are of use.
- It is told of changed tools in the way that it understands, and may ask for the first of them with an empty cursor.

Calls in flight are kept in the order in which they came, all with the same patience, so that one task that sleeps until
the oldest is due keeps every deadline: a call costs an entry in a dict.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import attrs
import msgspec
import trio
from msgspec import Raw

from mcpgateway import durations, jsonrpc
from mcpgateway.adapters.base import Back, Continuation, Done, Event, Outcome, Reply
from mcpgateway.calls.namespace import Namespace, StreamBack
from mcpgateway.calls.outcomes import complete
from mcpgateway.calls.wrapped import WrappedNamespace
from mcpgateway.errors import CallOverdue, InvalidParams, ReplyTooLong, ServerError
from mcpgateway.jsonrpc import Message, members_of, raw_of, value_of
from mcpgateway.protocol.revisions import Era
from mcpgateway.protocol.translation.subscriptions import LISTEN
from mcpgateway.sessions.caller import Caller
from mcpgateway.wire.waiting import Wait

log = logging.getLogger("mcpgateway.upstream")

TOOLS_CHANGED: Final = "notifications/tools/list_changed"

_EMPTY: Final = Raw(b'""')
_ENVELOPE: Final = 256
"""Bytes beside the raw members of a message, at most."""


@attrs.frozen
class Terms:
    """What a client that is called ``who`` has the patience for; ``None`` where there is no bound."""

    who: str
    deadline: float | None = None
    """Seconds for a call."""
    reply_bytes: int | None = None
    """Bytes of a message to it."""


class Impatience:
    """The calls of one impatient client. Run `keep` beside them.

    ``tools_changed``, where there is such a thing, is called in place of telling the client that its tools have
    changed. It must not block.
    """

    def __init__(self, terms: Terms, tools_changed: Callable[[], None] | None = None) -> None:
        self.terms = terms
        self.tools_changed = tools_changed
        self.calls = 0
        """Requests so far."""
        self.overdue = 0
        """Those of them that took too long."""
        self.flying: dict[Wait, float] = {}
        """When each call in flight came, oldest first."""
        self._view: View | None = None

    def view(self, namespace: Namespace | None) -> Namespace | None:
        """A namespace as this client sees it; the same for the same namespace."""
        if namespace is None:
            return None
        if self._view is None or self._view.namespace is not namespace:
            self._view = View(namespace, self)
        return self._view

    async def keep(self) -> None:
        """End calls that take too long, for ever.

        A call that comes while this sleeps is due after it wakes up, for all have the same patience.
        """
        patience = self.terms.deadline
        if patience is None:
            return
        while True:
            oldest = next(iter(self.flying.values()), trio.current_time())
            await trio.sleep_until(oldest + patience)
            now = trio.current_time()
            for wait, began in list(self.flying.items()):
                if began + patience > now:
                    break
                del self.flying[wait]
                if wait.ended is None:
                    self.overdue += 1
                    wait.end(self._late(wait, patience))

    def _late(self, wait: Wait, patience: float) -> CallOverdue:
        problem = wait.on_deadline()  # what it was waiting for, if it came so far
        server = problem.server if isinstance(problem, ServerError) else None
        text = f"no answer within {durations.format(patience)}, the call_deadline of {self.terms.who}"
        if server is not None:
            text = f"server {server!r}: {text}; it has been told to cancel"
        log.warning("%s: a call was given up: %s", self.terms.who, text)
        return CallOverdue(text)

    def enter(self, wait: Wait, message: Message) -> None:
        """A call has come."""
        self.calls += 1
        if message.method != LISTEN:
            self.flying[wait] = trio.current_time()

    def leave(self, wait: Wait) -> None:
        """It is over; idempotent."""
        self.flying.pop(wait, None)

    # ---- replies -----------------------------------------------------------------------------------------------------

    def failed(self, caller: Caller, message: Message, problem: CallOverdue | ReplyTooLong) -> Reply:
        """What the client gets in place of a reply: an error, which of a tool is a result, for models to read."""
        id = message.id or b"null"
        if message.method != "tools/call":
            return Reply(jsonrpc.error(id, problem))
        result = {"content": [{"type": "text", "text": problem.message}], "isError": True}
        reply = Reply(jsonrpc.result(id, result))
        return complete("tools/call", reply) if caller.era is Era.MODERN else reply

    def fitting(self, caller: Caller, message: Message, reply: Reply) -> Reply:
        """A reply that is as long as the client takes."""
        limit = self.terms.reply_bytes
        if limit is None or sum(map(_length, reply.message.members.values())) + _ENVELOPE <= limit:
            return reply
        size = len(reply.message.encode_as(message.id or b"null"))
        if size <= limit:
            return reply
        shorter = self._shorter(reply, size - limit) if message.method == "tools/list" else None
        if shorter is not None:
            return shorter
        text = f"the answer has {size} bytes, and {self.terms.who} takes {limit} (reply_bytes)"
        log.warning("%s: %s was answered with an error: %s", self.terms.who, _described(message), text)
        return self.failed(caller, message, ReplyTooLong(text))

    def _shorter(self, reply: Reply, excess: int) -> Reply | None:
        """A list of tools without so many bytes of those at its end; ``None`` if nothing would be left of it."""
        try:
            members = members_of(reply.message.result)
            tools = msgspec.json.decode(members["tools"], type=list[Raw])
        except (InvalidParams, KeyError, msgspec.DecodeError):
            return None
        dropped: list[Raw] = []
        while excess > 0 and tools:
            dropped.append(tools.pop())
            excess -= _length(dropped[-1]) + 1
        if not tools:
            return None
        names = ", ".join(map(_name_of, reversed(dropped)))
        log.warning(
            "%s takes %d bytes (reply_bytes), so %d tools are left out at the end of its list: %s",
            *(self.terms.who, self.terms.reply_bytes, len(dropped), names),
        )
        members["tools"] = raw_of(tools)
        return Reply(reply.message.replace(result=raw_of(members)), reply.status, reply.event)


class View(WrappedNamespace):
    """A namespace before an impatient client: a `mcpgateway.calls.namespace.Namespace` that changes what it has to."""

    def __init__(self, namespace: Namespace, impatience: Impatience) -> None:
        super().__init__(namespace)
        self._impatience = impatience

    async def serve(
        self, caller: Caller, message: Message, wait: Wait, back: Back, headers: Mapping[bytes, bytes] | None = None
    ) -> Reply:
        impatience = self._impatience
        impatience.enter(wait, message)
        if message.method == LISTEN:
            back = self._telling(back)
        elif message.method == "tools/list":
            message = _without_empty_cursor(message)
        try:
            reply = await self.namespace.serve(caller, message, wait, back, headers)
        except CallOverdue as problem:
            return impatience.failed(caller, message, problem)
        finally:
            impatience.leave(wait)
        return impatience.fitting(caller, message, reply)

    def begin(
        self, caller: Caller, message: Message, wait: Wait, headers: Mapping[bytes, bytes] | None, done: Done
    ) -> bool:
        impatience = self._impatience

        def settled(outcome: Outcome) -> None:
            if isinstance(outcome, Reply):
                impatience.leave(wait)
                done(impatience.fitting(caller, message, outcome))
            elif isinstance(outcome, Exception):
                impatience.leave(wait)
                done(impatience.failed(caller, message, outcome) if isinstance(outcome, CallOverdue) else outcome)
            else:
                done(partial(self._go_on, caller, message, wait, outcome))

        if message.method == "tools/list":
            message = _without_empty_cursor(message)
        impatience.enter(wait, message)  # before it is begun, for it may be over at once
        if self.namespace.begin(caller, message, wait, headers, settled):
            return True
        impatience.leave(wait)
        impatience.calls -= 1
        return False

    async def _go_on(
        self, caller: Caller, message: Message, wait: Wait, continuation: Continuation, back: Back
    ) -> Reply:
        impatience = self._impatience
        try:
            reply = await continuation(back)
        except CallOverdue as problem:
            return impatience.failed(caller, message, problem)
        finally:
            impatience.leave(wait)
        return impatience.fitting(caller, message, reply)

    async def listen(self, caller: Caller, last_event: bytes | None, wait: Wait, back: StreamBack) -> None:
        await self.namespace.listen(caller, last_event, wait, self._telling(back))

    def _telling(self, back: Back) -> StreamBack:
        changed = self._impatience.tools_changed
        return back if changed is None else _Telling(back, changed)  # type: ignore[return-value]  # as it was given


class _Telling:
    """The way to a client that learns of changed tools otherwise."""

    def __init__(self, back: Back, changed: Callable[[], None]) -> None:
        self._back = back
        self._changed = changed

    async def send(self, event: Event) -> None:
        if event.message is not None and event.message.method == TOOLS_CHANGED:
            self._changed()
            await trio.lowlevel.checkpoint()
        else:
            await self._back.send(event)

    async def open(self) -> None:
        opening: Callable[[], object] | None = getattr(self._back, "open", None)
        if opening is not None:
            await opening()  # type: ignore[misc]  # a stream's


def _without_empty_cursor(message: Message) -> Message:
    """A listing as MCP has it: xiaozhi's cloud asks for the first page with an empty cursor."""
    if message.params is None or b'""' not in bytes(message.params):
        return message
    params = members_of(message.params)
    if params.get("cursor") != _EMPTY:
        return message
    del params["cursor"]
    return message.replace(params=raw_of(params))


def _length(raw: Raw) -> int:
    return memoryview(raw).nbytes


def _name_of(tool: Raw) -> str:
    try:
        name = value_of(members_of(tool)["name"])
    except (InvalidParams, KeyError):
        return "one without a name"
    return name[:100] if isinstance(name, str) else "one without a name"


def _described(message: Message) -> str:
    if message.method != "tools/call":
        return f"a {message.method}"
    try:
        return f"a call of {_name_of(message.params or Raw(b'{}'))!r}"
    except InvalidParams:
        return "a call"
