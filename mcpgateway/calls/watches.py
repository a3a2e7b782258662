"""What modern servers tell legacy sessions outside calls: one ``subscriptions/listen`` for all that share a channel.

A channel is listened to from the time at which a client on it opens a stream, or subscribes to a resource, until the
last of their sessions has ended. A subscription cannot be changed, so when what is wanted changes a second one is made,
and the first is ended once that has been acknowledged: there is no moment without one. One that is lost is made again;
since nobody knows what it would have told meanwhile, the sessions are told that all of it has changed.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Collection
from functools import partial
from typing import Final, TypeAlias

import attrs
import trio

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Event
from mcpgateway.backoff import Backoff
from mcpgateway.calls.call import Dispatcher
from mcpgateway.calls.counterparts import counterpart, sender
from mcpgateway.calls.interests import Channel, Soon
from mcpgateway.calls.keys import key_for
from mcpgateway.errors import CallCancelled, EraMismatch, GatewayError, InvalidParams, Reconfigured, ServerMisbehaved
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.headers import request_headers
from mcpgateway.protocol.revisions import Era
from mcpgateway.protocol.translation.notifications import of_modern_server
from mcpgateway.protocol.translation.subscriptions import ACKNOWLEDGED, Interest, of_listen, of_session
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller
from mcpgateway.sessions.interests import Subscriptions
from mcpgateway.sessions.store import Session
from mcpgateway.wire.waiting import Wait, interruptible

log = logging.getLogger("mcpgateway.server")

_BACKOFF: Final = Backoff(initial=1.0, maximum=60.0)
_NOTHING: Final = Interest((), ())

Heard: TypeAlias = "Callable[[Channel, Message], None]"
"""Takes what a modern server tells, in legacy words."""
Missed: TypeAlias = "Callable[[Channel, Interest], None]"
"""Is told that nobody knows what became of all this meanwhile."""


@attrs.define(eq=False)
class _Listen:
    """One ``subscriptions/listen``."""

    interest: Interest
    wait: Wait = attrs.Factory(Wait)
    heard: trio.Event = attrs.Factory(trio.Event)
    """Set when it is acknowledged, or over."""
    honoured: Interest = _NOTHING
    problem: GatewayError | None = None
    """Why it is over."""


@attrs.define(eq=False)
class _Watch:
    """What is listened to on one channel."""

    channel: Channel
    caller: Caller
    """The first of its clients, in whose name the server is asked."""
    sessions: set[Session] = attrs.Factory(set)
    """Those whose clients have listened; sessions with subscriptions are in their books."""
    current: _Listen | None = None
    lost: bool = False
    """There was a time without a subscription."""
    kept_up: bool = False
    """A task sees to it that there is one again."""
    turn: trio.Lock = attrs.Factory(trio.Lock)


class Watches:
    """The subscriptions of legacy sessions at modern servers.

    ``subscriptions`` are the books of who wants to hear of which resource; ``soon`` runs tasks. ``heard`` and
    ``missed`` are set by who brings the news to the sessions.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        subscriptions: Subscriptions[Channel, Session],
        soon: Soon,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.heard: Heard = lambda channel, message: None
        self.missed: Missed = lambda channel, interest: None
        self._dispatcher = dispatcher
        self._subscriptions = subscriptions
        self._soon = soon
        self._chance = chance
        self._watches: dict[Channel, _Watch] = {}

    def __len__(self) -> int:
        """The channels that are listened to, or are to be."""
        return len(self._watches)

    # ---- who wants to hear -------------------------------------------------------------------------------------------

    def listen(self, session: Session, channel: Channel) -> None:
        """Have a session, whose client listens now, hear of a channel until it ends."""
        if channel[1].era is Era.MODERN and not session.ended:
            watch = self._watch(channel, session)
            watch.sessions.add(session)
            self._soon(partial(self._keep_up, watch))

    def woken(self, server: Server, session: Session) -> None:
        """A session has used a server that sleeps until it is used, and so was not listened to yet."""
        channel = (server, key_for(session.caller, server))
        watch = self._watches.get(channel)
        if session.streams and (watch is None or (watch.current is None and self._wanted(watch))):
            self.listen(session, channel)

    async def renew(self, server: Server, session: Session, wait: Wait) -> Interest:
        """The books have changed: have the server told, and return what it tells of from now on.

        :raises ServerError: it could not be told
        """
        channel = (server, key_for(session.caller, server))
        if channel not in self._watches and not self._subscriptions.uris(channel):
            await trio.lowlevel.checkpoint()
            return _NOTHING
        watch = self._watch(channel, session)
        try:
            with interruptible(wait):
                await self._settle(watch)
        finally:
            self._soon(partial(self._tidy, watch))
        return _NOTHING if watch.current is None else watch.current.honoured

    async def _tidy(self, watch: _Watch) -> None:
        """What could not be had is out of the books by now."""
        try:
            if watch.current is not None:
                await self._settle(watch)
        except GatewayError as problem:
            log.info("%s", problem.message)
        finally:
            self._close_if_idle(watch)

    def ended(self, session: Session) -> None:
        """A session has ended; its subscriptions are out of the books."""
        for watch in list(self._watches.values()):
            watch.sessions.discard(session)
            self._close_if_idle(watch)

    def reconfigured(self, sees: Callable[[Session, Server], bool], changed: Collection[Server]) -> None:
        """Namespaces and servers are other ones; see `mcpgateway.calls.changes.Changes.reconfigured`."""
        for watch in list(self._watches.values()):
            server = watch.channel[0]
            for session in list(watch.sessions):
                now = (server, key_for(session.caller, server))
                if not sees(session, server) or now != watch.channel:
                    watch.sessions.discard(session)
                    if sees(session, server):
                        self.listen(session, now)
            if server in changed and watch.current is not None:
                watch.current.wait.end(Reconfigured(f"the configuration of server {server.name!r} has changed"))
            self._close_if_idle(watch)

    def _watch(self, channel: Channel, session: Session) -> _Watch:
        watch = self._watches.get(channel)
        if watch is None:
            watch = self._watches[channel] = _Watch(channel, session.caller)
        return watch

    def _close_if_idle(self, watch: _Watch) -> None:
        if watch.sessions or self._subscriptions.uris(watch.channel) or watch.turn.locked():
            return  # who has its turn looks afterwards
        if self._watches.get(watch.channel) is watch:
            del self._watches[watch.channel]
        listen, watch.current = watch.current, None
        if listen is not None:
            listen.wait.end(CallCancelled("nobody listens any more"))

    def _wanted(self, watch: _Watch) -> Interest:
        negotiated = watch.channel[0].spoken.get(Era.MODERN)
        if negotiated is None:
            return _NOTHING
        return of_session(negotiated.capabilities, self._subscriptions.uris(watch.channel))

    # ---- the subscriptions -------------------------------------------------------------------------------------------

    async def _settle(self, watch: _Watch) -> None:
        """Listen to what is wanted now, and to nothing else."""
        async with watch.turn:
            await self._reach(watch)
            wanted, before = self._wanted(watch), watch.current
            if wanted == (_NOTHING if before is None else before.interest):
                return
            watch.current = await self._open(watch, wanted) if wanted else None
            if before is not None:
                before.wait.end(CallCancelled("another subscription has taken its place"))

    async def _reach(self, watch: _Watch) -> None:
        """Know what a server offers that was not reached yet, or is another one now; a lazy one stays asleep."""
        server, key = watch.channel
        if server.spoken.get(Era.MODERN) is None and not server.lazy:
            server.release(await server.acquire(key))

    async def _open(self, watch: _Watch, wanted: Interest) -> _Listen:
        server = watch.channel[0]
        listen = _Listen(wanted)
        self._soon(partial(self._listen, watch, listen))
        try:
            with trio.move_on_after(server.config.timeout):
                await listen.heard.wait()
            if not listen.heard.is_set():
                raise server.timed_out()
            if listen.problem is not None:
                raise listen.problem
        except BaseException:
            listen.wait.end(CallCancelled("the subscription is not wanted any more"))
            raise
        return listen

    async def _listen(self, watch: _Watch, listen: _Listen) -> None:
        """The life of one subscription; one that the server ended, or that was lost, is made again."""
        server = watch.channel[0]
        envelope = attrs.evolve(sender(watch.caller), log_level=None)
        message = listen.interest.request(b"0", envelope)
        headers, caller = request_headers(message), counterpart(watch.caller)
        try:
            reply = await self._dispatcher.straight(
                server, caller, message, listen.wait, _Told(self, watch, listen), headers
            )
            problem: GatewayError = _over(server, reply.message)
        except GatewayError as failure:
            problem = failure
        listen.problem = problem
        listen.heard.set()
        if watch.current is listen:
            log.info("server %r is not listened to any more: %s", server.name, problem.message)
            watch.current, watch.lost = None, True
            await self._keep_up(watch)

    async def _keep_up(self, watch: _Watch) -> None:
        """Have a watch listen, however often that has to be tried."""
        if watch.kept_up:
            return
        watch.kept_up = True
        attempt = 0
        try:
            while watch.current is None and self._watches.get(watch.channel) is watch:
                if watch.lost:
                    await trio.sleep(_BACKOFF.delay(attempt, self._chance()))
                    attempt += 1
                try:
                    await self._settle(watch)
                except EraMismatch:
                    break
                except GatewayError as problem:
                    log.info("server %r cannot be listened to: %s", watch.channel[0].name, problem.message)
                    watch.lost = True
                else:
                    if watch.current is None:
                        break  # it tells nothing
                finally:
                    self._close_if_idle(watch)
        finally:
            watch.kept_up = False
        if watch.lost and watch.current is not None:
            watch.lost = False
            self.missed(watch.channel, watch.current.honoured)

    def told(self, watch: _Watch, listen: _Listen, message: Message) -> None:
        """Take a message of a subscription. Of two at a time both are heard: better twice than not at all."""
        if message.method == ACKNOWLEDGED:
            negotiated = watch.channel[0].spoken.get(Era.MODERN)
            if negotiated is not None:
                listen.honoured = of_listen(message.params, negotiated.capabilities)
            listen.heard.set()
            return
        translated = of_modern_server(message)
        if translated is not None:
            self.heard(watch.channel, translated)


class _Told:
    """The back-channel of a subscription."""

    def __init__(self, watches: Watches, watch: _Watch, listen: _Listen) -> None:
        self._watches = watches
        self._watch = watch
        self._listen = listen

    async def send(self, event: Event) -> None:
        await trio.lowlevel.checkpoint()
        message = event.message
        if message is None or not message.is_notification:
            return
        try:
            self._watches.told(self._watch, self._listen, message)
        except InvalidParams as problem:
            name = self._watch.channel[0].name
            log.info("server %r sent a malformed %s: %s", name, message.method, problem.message)


def _over(server: Server, reply: Message) -> GatewayError:
    """Why a subscription ended that got a reply."""
    if reply.error is None:
        return ServerMisbehaved(server.name, "ended the subscription")
    refusal = jsonrpc.error_reply(reply)
    return ServerMisbehaved(server.name, f"refuses subscriptions/listen: {refusal.message[:200]}")
