"""One client on one channel that carries messages both ways: what HTTP+SSE, WebSocket and stdio have in common.

A front carries bytes: it gives what comes to `Channel.received`, and writes what its `Outgoing` holds. Everything else
is here. A channel carries both eras: a request with an envelope is modern, ``initialize`` opens a legacy session, which
lasts as long as the channel (2026-07-28, basic/lifecycle, "Backward compatibility"). What servers say outside calls
comes on the channel too, and what they ask, as the client's answers do.

Whoever reads never waits: a request is begun without a task where that can be (`Namespace.begin`), and has one of its
own otherwise. They are bounded (``listen.limits.calls``).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import attrs
import trio

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Back, Continuation, Event, Outcome, Reply
from mcpgateway.calls.namespace import Namespace
from mcpgateway.calls.relay import answer
from mcpgateway.errors import (
    ClientGone,
    GatewayError,
    InvalidRequest,
    Reconfigured,
    ShuttingDown,
    TooBusy,
    UnknownNamespace,
)
from mcpgateway.fronts.batches import REVISION as BATCH_REVISION
from mcpgateway.fronts.batches import read_batch
from mcpgateway.fronts.handshakes import EMPTY, shake_hands
from mcpgateway.fronts.in_flight import Batch, Call, InFlight, attempt, envelope_of, go_on, internal, response
from mcpgateway.fronts.kept_sessions import KeptSessions
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.envelope import Envelope
from mcpgateway.protocol.headers import unsupported
from mcpgateway.protocol.revisions import MODERN_REVISIONS, REVISION_WITHOUT_HEADER, Era
from mcpgateway.sessions.caller import Caller, ModernCallers
from mcpgateway.sessions.store import Session, SessionStore
from mcpgateway.wire.bounds import Bounds
from mcpgateway.wire.outgoing import Outgoing
from mcpgateway.wire.waiting import Sweeper, Wait

log = logging.getLogger("mcpgateway.channel")

WAITING: Final = 1000
"""Messages that wait for the handshake before them, and notifications that wait for those before them."""

_CANCELLED: Final = "notifications/cancelled"
_INITIALIZE: Final = "initialize"


@attrs.frozen
class Commons:
    """What all channels of a gateway share; ``find`` gives a namespace as it is at the moment."""

    find: Callable[[str], Namespace | None]
    sessions: SessionStore
    callers: ModernCallers
    sweeper: Sweeper
    bounds: Bounds
    channels: set[Channel] = attrs.field(factory=set)
    """Those that are open."""

    def drain(self, problem: GatewayError) -> None:
        """Let channels take no further request, and close each as soon as it has answered those that it has."""
        for channel in list(self.channels):
            channel.drain(problem)

    def end_calls(self, problem: GatewayError) -> None:
        """End every call in flight; their clients get the problem as an error."""
        for channel in list(self.channels):
            channel.end_calls(problem)


class Channel:
    """The gateway's side of one channel; made by `open_channel`. Is the back-channel of its calls too."""

    def __init__(
        self,
        commons: Commons,
        name: str,
        address: str,
        out: Outgoing,
        nursery: trio.Nursery,
        encode: Callable[[bytes], bytes],
        end: Callable[[], None],
    ) -> None:
        self.name = name
        self.remark: Callable[[str], None] = log.debug
        """Takes what is odd about a client and is its own business; a front may want to know."""
        self.kept: KeptSessions | None = None
        """Sessions that outlive the channel, where it has such."""
        self._commons = commons
        self._address = address
        self._out = out
        self._nursery = nursery
        self._encode = encode
        self._end = end
        self._calls = InFlight(commons.bounds, address)
        self._busy = 0
        """Things that the client waits for."""
        self._caller: Caller | None = None
        """The legacy client, once hands are shaken."""
        self._held: deque[Callable[[], None]] | None = None
        """What came during a handshake, to be taken after it."""
        self._notices: deque[Message] = deque()
        self._refusal: GatewayError | None = None
        """Why nothing more is taken."""
        self._ending = False
        """It ends as soon as the client waits for nothing."""
        self._finished = False

    # ---- coming in ---------------------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Take one message of the client, or one batch. Never waits.

        :raises GatewayError: it is none, which whoever carries it has to tell the client (`complain`)
        """
        if data.lstrip()[:1] == b"[":
            self._in_order(partial(self._take_batch, data))
            return
        message = jsonrpc.decode(data)
        if message.method == _CANCELLED:
            self._calls.cancel(message)
            return
        try:
            envelope = envelope_of(message)
        except GatewayError as problem:
            self._refuse(message, problem)
            return
        if envelope is not None:
            self._modern(message, envelope, len(data))
        else:
            self._in_order(partial(self._legacy, message, len(data)))

    def complain(self, problem: GatewayError) -> None:
        """Tell the client what was wrong with something that was no message."""
        self._put(jsonrpc.error(None, problem).encode())

    def _in_order(self, take: Callable[[], None]) -> None:
        """Take something of the legacy era now, or after the handshake that it follows."""
        if self._held is None:
            take()
        elif len(self._held) < WAITING:
            self._held.append(take)
        else:
            raise TooBusy(f"{WAITING} messages are waiting for the answer to initialize")

    def _legacy(self, message: Message, size: int) -> None:
        if message.method == _INITIALIZE and message.id is not None:
            if self._refusal is not None:
                self._refuse(message, self._refusal)
                return
            self._held = deque()
            self._start(partial(self._initialize, message))
        elif message.is_request:
            self._request(message, size)
        elif message.method is None:
            self._answered(message)
        elif self._caller is not None:
            self._notice(message)

    def _request(self, message: Message, size: int, batch: Batch | None = None) -> None:
        if message.method == "ping" and self._caller is None:
            self._answer(batch, jsonrpc.result(message.id or b"", {}).encode())
            return
        try:
            caller = self._caller or self._stateless()
        except GatewayError as problem:
            self.remark(f"refused a {(message.method or '')[:100]!r}: {problem.message}")
            self._refuse(message, problem, batch)
        else:
            self._begin(Call(caller, message, size, batch))

    def _stateless(self) -> Caller:
        """A client that has not shaken hands, where servers do not need it."""
        if self._namespace().keeps_sessions:
            raise InvalidRequest("initialise first")
        return Caller(Era.LEGACY, REVISION_WITHOUT_HEADER, EMPTY, resumes=False)

    def _modern(self, message: Message, envelope: Envelope, size: int) -> None:
        if envelope.revision not in MODERN_REVISIONS:
            self._refuse(message, unsupported(envelope.revision))
            return
        self._begin(Call(self._commons.callers.of(envelope), message, size))

    def _take_batch(self, data: bytes) -> None:
        if self._caller is None or self._caller.revision != BATCH_REVISION:
            raise InvalidRequest(f"batches exist in revision {BATCH_REVISION} only; send one message at a time")
        entries = read_batch(data)
        batch = Batch(sum(not isinstance(entry, Message) or entry.is_request for entry in entries))
        for entry in entries:
            if isinstance(entry, GatewayError):
                self._answer(batch, jsonrpc.error(None, entry).encode())
            elif entry.is_request:
                self._request(entry, 0, batch)
            elif entry.method == _CANCELLED:
                self._calls.cancel(entry)
            else:
                self._legacy(entry, 0)

    # ---- requests ----------------------------------------------------------------------------------------------------

    def _begin(self, call: Call) -> None:
        if self._refusal is not None:
            self._refuse(call.message, self._refusal, call.batch)
            return
        try:
            self._calls.enter(call)
        except GatewayError as problem:
            self._refuse(call.message, problem, call.batch)
            return
        self._busy += 1
        namespace = self._commons.find(self.name)
        settled = partial(self._settled, call)
        try:
            begun = namespace is not None and namespace.begin(call.caller, call.message, call.wait, None, settled)
        except Exception as bug:  # must not cost more than this call
            settled(bug)
        else:
            if not begun:
                self._spawn(partial(self._serve, call, partial(self._ask, call)))

    def _settled(self, call: Call, outcome: Outcome) -> None:
        """Answer a call that was begun without a task, if that is all there is to do; the rest is a task's."""
        if isinstance(outcome, Reply) and self._out.roomy:
            self._calls.over(call)
            self._answer(call.batch, outcome.message.encode_as(call.id))
            self._calls.give_back(call)
            self._over()
        else:
            self._spawn(partial(self._serve, call, partial(go_on, outcome)))

    async def _ask(self, call: Call, back: Back) -> Reply:
        return await self._namespace().serve(call.caller, call.message, call.wait, back)

    async def _serve(self, call: Call, serving: Continuation) -> None:
        """Have a request answered, and put its answer; the call counts until the client takes what it is told."""
        try:
            try:
                data = await response(call, serving, self)
            finally:
                self._calls.over(call)
            self._answer(call.batch, data)
            await self._out.room()
        finally:
            self._calls.give_back(call)

    def _namespace(self) -> Namespace:
        namespace = self._commons.find(self.name)
        if namespace is None:
            raise UnknownNamespace(f"there is no namespace or server {self.name[:100]!r} here")
        return namespace

    # ---- the legacy session ------------------------------------------------------------------------------------------

    async def _initialize(self, message: Message) -> None:
        try:
            sessions = self._commons.sessions
            caller, result = await shake_hands(message, self._namespace(), sessions, self._address, self.kept)
        except GatewayError as problem:
            self._refuse(message, problem)
        except Exception:
            log.exception("a handshake failed")
            self._refuse(message, internal())
        else:
            self._become(caller)
            self._put(message.replace(method=None, params=None, result=result).encode())
        held, self._held = self._held or deque(), None
        self._catch_up(held)

    def _catch_up(self, held: deque[Callable[[], None]]) -> None:
        """Take what came during a handshake, up to the next one."""
        while held and self._held is None:
            try:
                held.popleft()()
            except GatewayError as problem:
                self.complain(problem)
        if self._held is not None:
            self._held.extend(held)

    def _become(self, caller: Caller) -> None:
        """Be this client from now on; one that shakes hands again begins anew."""
        former, self._caller = self._caller, caller
        if former is caller:
            return
        if former is not None and former.session is not None:
            self._leave(former.session)
        if caller.session is not None:
            self._nursery.start_soon(self._bring, caller, caller.session)

    def _leave(self, session: Session) -> None:
        """Not be the client of a session any more."""
        if self.kept is None:
            self._commons.sessions.close(session)
        else:
            for wait in session.streams:
                wait.end(ClientGone("the client has shaken hands again"))

    async def _bring(self, caller: Caller, session: Session) -> None:
        """Bring what servers say outside calls, until the session ends, and with it the channel."""
        while not session.ended:
            wait = Wait()
            with session.listening(wait):
                try:
                    await self._namespace().listen(caller, None, wait, self)
                except Reconfigured:
                    continue  # there is more to hear of those that are there now
                except GatewayError as problem:
                    log.debug("nothing more is heard outside calls: %s", problem.message)
                    break
        if session.ended and self._caller is caller:
            self._finish()

    def _answered(self, message: Message) -> None:
        """The client's answer to what a server asked."""
        caller = self._caller
        if caller is None or caller.session is None or (message.id or b"") not in caller.session.questions:
            self.remark("dropped the answer to a question that nobody asked")
            return
        self._start(partial(attempt, partial(answer, caller, message)))

    def _notice(self, message: Message) -> None:
        """A notification, which is passed on after those before it."""
        if len(self._notices) >= WAITING:
            log.info("dropped a %s: %d notifications are waiting", message.method, WAITING)
            return
        self._notices.append(message)
        if len(self._notices) == 1:
            self._start(self._pass_on)

    async def _pass_on(self) -> None:
        while self._notices:
            caller = self._caller
            if caller is not None:
                await attempt(partial(self._tell, caller, self._notices[0]))
            self._notices.popleft()

    async def _tell(self, caller: Caller, message: Message) -> None:
        await self._namespace().notify(caller, message)

    # ---- going out ---------------------------------------------------------------------------------------------------

    async def send(self, event: Event) -> None:
        """See `mcpgateway.adapters.base.Back`."""
        if event.message is not None:
            self._put(event.message.encode())
            await self._out.room()

    async def open(self) -> None:
        """See `mcpgateway.calls.namespace.StreamBack`: the channel is open as long as it is there."""
        await trio.lowlevel.checkpoint()

    def _put(self, data: bytes) -> None:
        self._out.put(self._encode(data))

    def _answer(self, batch: Batch | None, data: bytes | None) -> None:
        if batch is not None:
            data = batch.add(data)
        if data is not None:
            self._put(data)

    def _refuse(self, message: Message, problem: GatewayError, batch: Batch | None = None) -> None:
        self._answer(batch, jsonrpc.error(message.id, problem).encode())

    # ---- its end -----------------------------------------------------------------------------------------------------

    def _start(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do what the client waits for, so that the channel stays open for it."""
        self._busy += 1
        self._spawn(work)

    def _spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(self._run, work)

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        finally:
            self._over()

    def _over(self) -> None:
        """The client waits for one thing less."""
        self._busy -= 1
        if self._ending and not self._busy:
            self._finish()

    def drain(self, problem: GatewayError) -> None:
        """Take no further request, and `end`."""
        self._refusal = problem
        self.end(problem)

    def end(self, problem: GatewayError) -> None:
        """Close as soon as all requests are answered; subscriptions end now, with the problem."""
        self._ending = True
        self._calls.end(problem, lasting=True)
        if not self._busy:
            self._finish()

    def end_calls(self, problem: GatewayError) -> None:
        """End every call in flight; the client gets the problem as an error."""
        self._calls.end(problem)

    def _finish(self) -> None:
        if not self._finished:
            self._finished = True
            self._end()

    def close(self) -> None:
        """The client has gone, or is to go: end all that it has in flight, and tell the servers."""
        self._refusal = self._refusal or ShuttingDown("the channel is closed")
        self._finished = True
        self.end_calls(ClientGone("the client has gone"))
        if self._caller is not None and self._caller.session is not None:
            self._leave(self._caller.session)


@asynccontextmanager
async def open_channel(
    commons: Commons,
    name: str,
    address: str,
    out: Outgoing,
    encode: Callable[[bytes], bytes],
    end: Callable[[], None] | None = None,
) -> AsyncIterator[tuple[Channel, trio.Nursery]]:
    """A channel of a client that counts as ``address``, with the namespace ``name``; closed at the end of the block.

    ``encode`` makes a message what ``out`` writes. ``end`` is called when the gateway has nothing more to say, and
    closes ``out``, at once or after a last word. The nursery is the channel's, for whoever reads beside.
    """
    async with trio.open_nursery() as nursery:
        channel = Channel(commons, name, address, out, nursery, encode, end or out.close)
        commons.channels.add(channel)
        try:
            yield channel, nursery
        finally:
            commons.channels.discard(channel)
            channel.close()
            nursery.cancel_scope.cancel(reason="the channel is closed")
