"""What clients ask of servers that lasts: resource subscriptions and log levels, on links that sessions share.

The server of a channel is asked once for all who want the same, and once more when the last of them does not; a link
that is made anew is told again. `mcpgateway.sessions.interests` keeps the books, `mcpgateway.calls.changes` brings what
the servers say.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, TypeAlias

import trio

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Back, NoBack, Reply
from mcpgateway.calls.call import Dispatcher
from mcpgateway.calls.keys import key_for
from mcpgateway.calls.targets import named
from mcpgateway.errors import GatewayError, InvalidParams, TooBusy
from mcpgateway.jsonrpc import Message, raw_of
from mcpgateway.protocol.levels import louder
from mcpgateway.protocol.revisions import Era
from mcpgateway.servers.ledger import LinkKey
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller
from mcpgateway.sessions.interests import LEVELS, MAX_URI, LevelTable, Subscriptions
from mcpgateway.sessions.store import Session
from mcpgateway.wire.waiting import Wait, interruptible

log = logging.getLogger("mcpgateway.server")

SUBSCRIBE: Final = "resources/subscribe"
UNSUBSCRIBE: Final = "resources/unsubscribe"
SET_LEVEL: Final = "logging/setLevel"
LASTING: Final = frozenset({SUBSCRIBE, UNSUBSCRIBE, SET_LEVEL})
"""Methods whose effect outlives the call, and would be seen by all who share the link."""

Channel: TypeAlias = "tuple[Server, LinkKey]"
Soon: TypeAlias = "Callable[[Callable[[], Awaitable[None]]], None]"
"""Runs something in a task of the gateway's."""


class Interests:
    """The lasting wishes of all sessions of a gateway. ``soon`` runs what nobody waits for."""

    def __init__(self, dispatcher: Dispatcher, soon: Soon) -> None:
        self.subscriptions: Subscriptions[Channel, Session] = Subscriptions()
        self.levels: LevelTable[Channel, Session] = LevelTable()
        self._dispatcher = dispatcher
        self._soon = soon
        self._listening: Counter[Channel] = Counter()
        self._streams: dict[Session, tuple[Channel, ...]] = {}
        """What each client listens to that has a stream open."""
        self._turns: dict[tuple[Channel, str], trio.Lock] = {}

    # ---- what clients ask --------------------------------------------------------------------------------------------

    async def serve(
        self, server: Server, session: Session, message: Message, wait: Wait, back: Back, *, shown: str | None = None
    ) -> Reply:
        """Answer a request of `LASTING`, which is in the server's own words; ``shown`` is the URI in the client's.

        :raises InvalidParams: it names no URI, one longer than `MAX_URI`, or no level
        :raises TooBusy: the session, or the server's links, have as many subscriptions as they may
        """
        channel = (server, key_for(session.caller, server))
        if message.method == SET_LEVEL:
            return await self._set_level(channel, session, message, wait, back)
        uri = named(message, "uri")
        if message.method == SUBSCRIBE:
            if len(uri) > MAX_URI:
                raise InvalidParams(f"params.uri is longer than {MAX_URI} characters")
            return await self._subscribe(channel, session, message, uri, shown or uri, wait, back)
        return await self._unsubscribe(channel, session, message, uri, wait, back)

    async def _subscribe(
        self, channel: Channel, session: Session, message: Message, uri: str, shown: str, wait: Wait, back: Back
    ) -> Reply:
        server, key = channel
        self.subscriptions.check(session)
        try:
            async with self._turn(channel, uri, wait):
                if self.subscriptions.anyone(channel, uri):
                    self.subscriptions.add(channel, uri, session, shown)
                    return _done(message)
                if not server.keep(key):
                    raise TooBusy(f"server {server.name!r}: other clients' subscriptions use its links (links.max)")
                # Before it is asked: the first update may follow its answer in the same breath.
                self.subscriptions.add(channel, uri, session, shown)
                reply: Reply | None = None
                try:
                    reply = await self._dispatcher.call(server, session.caller, message, wait, back)
                finally:
                    if reply is None or reply.message.result is None:
                        self.subscriptions.remove(channel, uri, session)
                if reply.message.result is not None:
                    if session.ended:
                        self._unsubscribe_soon(channel, uri, session.caller)
                    else:
                        server.kept.check()
                return reply
        finally:
            self._settle([channel])

    async def _unsubscribe(
        self, channel: Channel, session: Session, message: Message, uri: str, wait: Wait, back: Back
    ) -> Reply:
        try:
            async with self._turn(channel, uri, wait):
                self.subscriptions.remove(channel, uri, session)
                if self.subscriptions.anyone(channel, uri):
                    return _done(message)
                # Also where there was none: what to say to that is the server's business.
                return await self._dispatcher.call(channel[0], session.caller, message, wait, back)
        finally:
            self._settle([channel])

    async def _set_level(self, channel: Channel, session: Session, message: Message, wait: Wait, back: Back) -> Reply:
        level = named(message, "level")
        if level not in LEVELS:
            raise InvalidParams(f"unknown log level {level[:50]!r}")
        async with self._turn(channel, "", wait):
            before, own = self._level(channel), self.levels.level(channel, session)
            self.levels.set(channel, session, level)
            needed = self._level(channel)
            assert needed is not None
            reply: Reply | None = None
            try:
                if needed == before:
                    reply = _done(message)
                else:
                    told = self._note_level(channel, needed)
                    asked = message if told == level else message.replace(params=raw_of({"level": told}))
                    reply = await self._dispatcher.call(channel[0], session.caller, asked, wait, back)
            finally:
                if reply is None or reply.message.result is None:
                    self._restore_level(channel, session, own)
                elif session.ended:
                    self.levels.drop(session)
                else:
                    session.level = level
                    self._note_level(channel, needed)  # also on a link that had to be made
                    channel[0].keep(channel[1])
            return reply

    def _level(self, channel: Channel) -> str | None:
        found = self.levels.most_verbose(channel)
        return None if found is None else found[0]

    def _note_level(self, channel: Channel, needed: str) -> str:
        """Note on the link what its sessions need; the level that its server is to be told, with what calls want."""
        server, key = channel
        slot = server.carrier(key)
        if slot is None:
            return needed
        slot.sessions_level = needed
        return louder(needed, slot.level)

    def _restore_level(self, channel: Channel, session: Session, level: str | None) -> None:
        if level is None or session.ended:
            self.levels.unset(channel, session)
        else:
            self.levels.set(channel, session, level)

    # ---- what follows from it ----------------------------------------------------------------------------------------

    def listen(self, session: Session, channels: Iterable[Channel]) -> None:
        """Have the links of these channels kept while a client listens to what their servers say, and of no others."""
        before = self._streams.pop(session, ())
        channels = tuple(channels)
        if channels:
            self._streams[session] = channels
        self._listening.update(channels)
        for server, key in channels:
            if not server.lazy:
                server.keep(key)
        self._listening.subtract(before)
        self._listening = +self._listening
        self._settle(before)

    @property
    def listeners(self) -> tuple[Session, ...]:
        """The sessions whose clients listen."""
        return tuple(self._streams)

    def reconfigured(self, concerns: Callable[[Session, Server], bool]) -> None:
        """Servers, or their links, are other ones: what sessions want goes on where they still have to do with it.

        ``concerns`` says whether a session still sees a server.
        """
        left: set[Channel] = set()
        moved: set[Channel] = set()
        for channel, uri, session, shown in self.subscriptions.entries():
            now = self._channel_now(channel, session, concerns)
            if now != channel:
                left.add(channel)
                if self.subscriptions.remove(channel, uri, session):
                    self._unsubscribe_soon(channel, uri, session.caller)
                if now is not None:
                    self.subscriptions.add(now, uri, session, shown)
                    moved.add(now)
        for channel, session, level in self.levels.entries():
            now = self._channel_now(channel, session, concerns)
            if now != channel:
                left.add(channel)
                self.levels.unset(channel, session)
                if now is not None:
                    self.levels.set(now, session, level)
                    moved.add(now)
        for channel in moved:
            channel[0].keep(channel[1])
            self._soon(partial(self._restore, channel, anew=True))
        self._settle(left)

    def _channel_now(
        self, channel: Channel, session: Session, concerns: Callable[[Session, Server], bool]
    ) -> Channel | None:
        server = channel[0]
        return (server, key_for(session.caller, server)) if concerns(session, server) else None

    def ended(self, session: Session) -> None:
        """A session has ended, and with it what it alone wanted."""
        unwanted = self.subscriptions.drop(session)
        before = {channel: self._level(channel) for channel in self.levels.drop(session)}
        for channel, uri in unwanted:
            self._unsubscribe_soon(channel, uri, session.caller)
        for channel in before:
            if not channel[1].sessional and self._level(channel) is not None:
                self._soon(partial(self._relevel, channel))
        self._settle({channel for channel, _ in unwanted} | before.keys())

    def relinked(self, channel: Channel) -> None:
        """The link of a channel is another one: its server has to be told again."""
        self._soon(partial(self._restore, channel))

    def _settle(self, channels: Iterable[Channel]) -> None:
        """Let links go that nobody listens to any more."""
        for channel in channels:
            wanted = self._listening[channel] or self.subscriptions.uris(channel) or self._level(channel) is not None
            waiting = any(turn[0] == channel for turn in self._turns)
            if not wanted and not waiting:
                channel[0].kept.discard(channel[1])

    def _unsubscribe_soon(self, channel: Channel, uri: str, caller: Caller) -> None:
        if not channel[1].sessional or channel[1].era is Era.MODERN:  # the link of a session goes with it
            self._soon(partial(self._unsubscribe_for_all, channel, uri, caller))

    async def _unsubscribe_for_all(self, channel: Channel, uri: str, caller: Caller) -> None:
        async with self._turn(channel, uri, Wait()):
            if not self.subscriptions.anyone(channel, uri) and channel[0].is_linked(channel[1]):
                await self._ask(channel[0], caller, UNSUBSCRIBE, {"uri": uri})
        self._settle([channel])

    async def _relevel(self, channel: Channel, *, anew: bool = False) -> None:
        async with self._turn(channel, "", Wait()):
            found = self.levels.most_verbose(channel)
            if found is not None and (anew or channel[0].is_linked(channel[1])):
                level, session = found
                told = self._note_level(channel, level)
                await self._ask(channel[0], session.caller, SET_LEVEL, {"level": told})
                self._note_level(channel, level)

    async def _restore(self, channel: Channel, *, anew: bool = False) -> None:
        """Tell a server what is wanted of it; with ``anew`` also where that has a link made."""
        await self._relevel(channel, anew=anew)
        for uri, session in self.subscriptions.uris(channel).items():
            async with self._turn(channel, uri, Wait()):
                if self.subscriptions.anyone(channel, uri):
                    await self._ask(channel[0], session.caller, SUBSCRIBE, {"uri": uri})

    async def _ask(self, server: Server, caller: Caller, method: str, params: dict[str, object]) -> None:
        try:
            message = jsonrpc.request(b"0", method, params)
            reply = await self._dispatcher.call(server, caller, message, Wait(), NoBack())
        except GatewayError as problem:
            log.info("server %r was not asked for %s: %s", server.name, method, problem.message)
            return
        if reply.message.error is not None:
            log.warning("server %r refuses %s: %s", server.name, method, jsonrpc.error_reply(reply.message).message)

    @asynccontextmanager
    async def _turn(self, channel: Channel, uri: str, wait: Wait) -> AsyncIterator[None]:
        """One at a time: what is asked of a server about one URI, or (the empty one) about its level."""
        turn = (channel, uri)
        lock = self._turns.setdefault(turn, trio.Lock())
        try:
            with interruptible(wait):
                await lock.acquire()
            try:
                wait.check()
                yield
            finally:
                lock.release()
        finally:
            if not lock.locked():
                self._turns.pop(turn, None)


def _done(message: Message) -> Reply:
    return Reply(jsonrpc.result(message.id or b"null", {}))
