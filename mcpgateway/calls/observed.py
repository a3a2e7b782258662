"""A namespace whose calls are watched: each one that a client makes ends as one event, and may be logged as a whole.

This is where every call of every front passes, in both eras, with a task or without, parked or not: the client's own
words go in, what the client is answered comes out. While nobody watches, clients find the namespace itself, and a call
pays nothing. Watched, a plain call pays 3 µs (1.2 µs in a loop of its own).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from typing import Final

import attrs
import msgspec
from msgspec import Raw

from mcpgateway.adapters.base import Back, Continuation, Done, Reply, StreamEnded
from mcpgateway.adapters.base import Outcome as Settled
from mcpgateway.calls.namespace import Namespace
from mcpgateway.calls.wrapped import WrappedNamespace
from mcpgateway.config.model import Config
from mcpgateway.config.secrets import secrets_of
from mcpgateway.jsonrpc import Message
from mcpgateway.recording.events import CallEvent, Recorder
from mcpgateway.recording.outcomes import Outcome, of_problem, of_reply
from mcpgateway.recording.payloads import Payloads
from mcpgateway.sessions.caller import Caller
from mcpgateway.wire.waiting import Wait

_CALL: Final = "tools/call"
_numbers = count(1)
"""Numbers of calls in the log, by which a response is found for its call."""


class _Tool(msgspec.Struct, gc=False):
    name: str = ""


class _ToolAndArguments(_Tool):
    arguments: Raw = Raw(b"{}")


_read_tool = msgspec.json.Decoder(_Tool).decode
_read_call = msgspec.json.Decoder(_ToolAndArguments).decode


class ObservedNamespace(WrappedNamespace):
    """A namespace under observation; see `mcpgateway.calls.namespace.Namespace`.

    ``upstream`` names the upstream whose calls these are, for the log; empty for all others. ``recorder`` gets an event
    for each call, ``payloads`` logs what is said in calls of tools. ``clock`` gives seconds.
    """

    def __init__(
        self,
        namespace: Namespace,
        upstream: str = "",
        *,
        recorder: Recorder | None,
        payloads: Payloads | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(namespace)
        self._find = namespace.owner
        self._upstream = upstream
        self._clock = clock
        self._recorder = recorder
        self._payloads = payloads
        self._only = namespace.servers[0].name if len(namespace.servers) == 1 else ""

    # ---- what is watched ---------------------------------------------------------------------------------------------

    async def serve(
        self, caller: Caller, message: Message, wait: Wait, back: Back, headers: Mapping[bytes, bytes] | None = None
    ) -> Reply:
        if self._payloads is None or message.method != _CALL:
            return await self._serve(caller, message, wait, back, headers)
        payloads, number, began = self._payloads, next(_numbers), self._clock()
        payloads.called(self._fields(number, caller, message), _arguments(message))
        try:
            reply = await self._serve(caller, message, wait, back, headers)
        except BaseException as problem:
            payloads.failed(self._fields(number, caller, message, began), problem)
            raise
        payloads.answered(self._fields(number, caller, message, began), reply.message)
        return reply

    async def _serve(
        self, caller: Caller, message: Message, wait: Wait, back: Back, headers: Mapping[bytes, bytes] | None
    ) -> Reply:
        began = self._clock()
        try:
            reply = await self.namespace.serve(caller, message, wait, back, headers)
        except StreamEnded:
            raise  # the call goes on: its client resumes its stream
        except BaseException as problem:
            self._ended(caller, message, of_problem(problem), began)
            raise
        self._ended(caller, message, of_reply(reply.message), began)
        return reply

    def begin(
        self, caller: Caller, message: Message, wait: Wait, headers: Mapping[bytes, bytes] | None, done: Done
    ) -> bool:
        if self._payloads is not None:
            return False  # nobody asks what it costs
        settled = partial(self._settled, caller, message, self._clock(), done)
        return self.namespace.begin(caller, message, wait, headers, settled)

    def _settled(self, caller: Caller, message: Message, began: float, done: Done, outcome: Settled) -> None:
        if isinstance(outcome, Reply):
            self._ended(caller, message, of_reply(outcome.message), began)
            done(outcome)
        elif isinstance(outcome, Exception):
            self._ended(caller, message, of_problem(outcome), began)
            done(outcome)
        else:
            done(partial(self._go_on, caller, message, began, outcome))

    async def _go_on(
        self, caller: Caller, message: Message, began: float, continuation: Continuation, back: Back
    ) -> Reply:
        try:
            reply = await continuation(back)
        except StreamEnded:
            raise
        except BaseException as problem:
            self._ended(caller, message, of_problem(problem), began)
            raise
        self._ended(caller, message, of_reply(reply.message), began)
        return reply

    async def initialize(self, caller: Caller, params: Raw, session: str) -> tuple[Raw, bool]:
        began = self._clock()
        try:
            answer = await self.namespace.initialize(caller, params, session)
        except BaseException as problem:
            self._shook_hands(of_problem(problem), began)
            raise
        self._shook_hands(Outcome.OK, began)
        return answer

    def _shook_hands(self, outcome: Outcome, began: float) -> None:
        if self._recorder is not None:
            self._recorder.record(
                CallEvent(self.name, "initialize", self._only, "", False, outcome, self._clock() - began)
            )

    def _ended(self, caller: Caller, message: Message, outcome: Outcome, began: float) -> None:
        """A call has ended, in whichever way."""
        if self._recorder is None:
            return
        method = message.method or ""
        server, tool, listed = self._only, "", False
        if method == _CALL:
            server, tool, listed = self._target(caller, message)
        seconds = self._clock() - began
        self._recorder.record(CallEvent(self.name, method, server, tool, listed, outcome, seconds))

    def _target(self, caller: Caller, message: Message) -> tuple[str, str, bool]:
        """The server that a call of a tool is for, the tool, and whether the server has it; as far as is known."""
        try:
            tool = _read_tool(message.members["params"]).name
        except (KeyError, msgspec.DecodeError, RecursionError):
            tool = ""
        target = self._find(caller, tool)
        return (self._only, tool, False) if target is None else (target.server, target.original, True)

    def _fields(
        self, number: int, caller: Caller, message: Message, began: float | None = None
    ) -> dict[str, float | str]:
        """What an entry of the log says about a call, beside payloads; how long it took, where it is over."""
        server, tool, _ = self._target(caller, message)
        fields: dict[str, float | str] = {
            "call": number,
            "upstream": self._upstream,
            "namespace": self.name,
            "server": server,
            "tool": tool,
        }
        if began is not None:
            fields["seconds"] = round(self._clock() - began, 6)
        return fields


@attrs.frozen
class Observer:
    """Puts namespaces under observation; equal to one that does so in the same way."""

    recorder: Recorder | None
    payloads: Payloads | None
    _watched: dict[tuple[str, str], ObservedNamespace] = attrs.field(factory=dict, init=False, eq=False, repr=False)

    def watch(self, namespace: Namespace, upstream: str) -> ObservedNamespace:
        """A namespace under observation, for an upstream or for all others; the same for the same namespace, by which
        clients know that they may go on in their sessions."""
        watched = self._watched.get((namespace.name, upstream))
        if watched is None or watched.namespace is not namespace:
            watched = ObservedNamespace(namespace, upstream, recorder=self.recorder, payloads=self.payloads)
            self._watched[namespace.name, upstream] = watched
        return watched


def observer(
    config: Config, recorder: Recorder, former: Observer | None, namespaces: Mapping[str, Namespace]
) -> Observer:
    """What watches calls as a configuration says: the ``former``, if it does so already. It forgets what is none of the
    ``namespaces`` any more."""
    payloads = Payloads(secrets_of(config), config.logging.payload) if config.logging.verbose else None
    found = Observer(recorder if config.metrics.enabled else None, payloads)
    if former != found:
        return found
    for key, watched in list(former._watched.items()):
        if namespaces.get(watched.name) is not watched.namespace:
            del former._watched[key]
    return former


def _arguments(message: Message) -> Raw:
    try:
        return _read_call(message.params or b"{}").arguments
    except (msgspec.DecodeError, RecursionError):
        return Raw(b"{}")
