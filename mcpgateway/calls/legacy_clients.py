"""Legacy clients in front of modern servers: a session here, none there, and every call made in the other era.

The pure part is `mcpgateway.protocol.translation`. A call goes out with the envelope that the session's handshake gives
it (`counterparts`). What the server asks instead of answering is asked of the client on the stream of the call
(`asking`), and the call made again with the answers, until it is answered. What a session wants to last stands in the
books of `interests`; from there the server is told what to tell (`watches`), and its log level goes out with each call.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import Final

import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Back, Continuation, Done, Event, Outcome, Reply
from mcpgateway.backoff import Backoff
from mcpgateway.calls.asking import Round
from mcpgateway.calls.call import Dispatcher
from mcpgateway.calls.counterparts import counterpart, sender
from mcpgateway.calls.interests import SET_LEVEL, SUBSCRIBE, UNSUBSCRIBE
from mcpgateway.calls.relay import LOG
from mcpgateway.calls.targets import level_of, named
from mcpgateway.calls.watches import Watches
from mcpgateway.errors import GatewayError, InvalidParams, MethodNotFound, ServerMisbehaved
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.revisions import Era
from mcpgateway.protocol.translation import notifications, replies, rounds
from mcpgateway.protocol.translation.requests import to_modern
from mcpgateway.protocol.translation.results import is_input_required
from mcpgateway.protocol.translation.rounds import InputRequired, Unanswered
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller
from mcpgateway.sessions.interests import LEVELS, passes
from mcpgateway.wire.waiting import Sweeper, Wait, interruptible

log = logging.getLogger("mcpgateway.server")

ROUNDS: Final = 10
"""Times that a server may want input for one call; the SDKs' clients stop there too."""

_ANSWERED_HERE: Final = frozenset({"ping", SET_LEVEL, SUBSCRIBE, UNSUBSCRIBE})
_PAUSES: Final = Backoff(initial=0.05, maximum=0.25, jitter=0.0)
"""Before a call is made again for a server that asked nothing and only wants to be called again; as in the SDKs."""


class LegacyClients:
    """Makes the calls of legacy clients on modern servers; see `mcpgateway.calls.call.Dispatcher.crossings`."""

    def __init__(self, dispatcher: Dispatcher, watches: Watches, sweeper: Sweeper) -> None:
        self._dispatcher = dispatcher
        self._watches = watches
        self._sweeper = sweeper

    async def call(
        self,
        server: Server,
        caller: Caller,
        message: Message,
        wait: Wait,
        back: Back,
        headers: Mapping[bytes, bytes] | None = None,
    ) -> Reply:
        """Answer a legacy client's request, which is in the server's own words; ``headers`` are not sent on.

        :raises ServerError: what the server or its transport did
        :raises MethodNotFound: a method that cannot cross
        """
        key = caller.keys.get(server.name)
        if key is not None and key.era is Era.LEGACY:  # from before the server was another one
            caller.forget(server.name)
        method = message.method
        if method == "ping":
            await trio.lowlevel.checkpoint()
            return _done(message)
        if method == SET_LEVEL:
            await trio.lowlevel.checkpoint()
            return _leveled(message)
        if method in (SUBSCRIBE, UNSUBSCRIBE):
            return await self._subscribe(server, caller, message, wait)
        return await self._converse(server, caller, message, to_modern(message, sender(caller)), wait, back)

    def begin(self, server: Server, caller: Caller, message: Message, wait: Wait, done: Done) -> bool:
        """`call` without a task, for what is a request and a reply; see `mcpgateway.calls.helpers.CrossingBegun`."""
        if message.method in _ANSWERED_HERE:
            return False
        try:
            request = to_modern(message, sender(caller))
        except GatewayError:
            return False  # which `call` will say

        def settled(outcome: Outcome) -> None:
            if isinstance(outcome, Reply):
                told = self._plain(server, caller, message, outcome)
                done(partial(go_on, partial(_as_it_came, outcome)) if told is None else told)
            elif isinstance(outcome, Exception):
                done(outcome)
            else:
                done(partial(go_on, outcome))

        async def go_on(begun: Continuation, back: Back) -> Reply:
            return await self._converse(server, caller, message, request, wait, back, begun)

        return self._dispatcher.begin(server, counterpart(caller), request, wait, None, settled)

    def _plain(self, server: Server, caller: Caller, message: Message, reply: Reply) -> Reply | None:
        """A reply for the client; ``None`` where there is more to be done first, or to be said."""
        if server.lazy:
            return None
        try:
            answer = self._translated(server, caller, message, reply)
        except GatewayError:
            return None
        return None if isinstance(answer, InputRequired) else Reply(answer)

    async def _converse(
        self,
        server: Server,
        caller: Caller,
        message: Message,
        request: Message,
        wait: Wait,
        back: Back,
        begun: Continuation | None = None,
    ) -> Reply:
        """Make a request, and make it again with what the server wants, until there is an answer for the client.

        ``begun`` goes on with the first round, where that was begun.
        """
        told = _Told(caller, back)
        for number in range(ROUNDS + 1):
            if begun is None:
                reply = await self._dispatcher.straight(server, counterpart(caller), request, wait, told)
            else:
                reply, begun = await begun(told), None
            if server.lazy and caller.session is not None:
                self._watches.woken(server, caller.session)
            try:
                answer = self._translated(server, caller, message, reply)
                if not isinstance(answer, InputRequired):
                    return Reply(answer)
                if number < ROUNDS:
                    request = await self._play(server, caller, request, answer, wait, back, number)
            except (Unanswered, InvalidParams) as problem:
                return Reply(rounds.failure(message, problem))
        return Reply(rounds.failure(message, ServerMisbehaved(server.name, f"wants input more than {ROUNDS} times")))

    async def _subscribe(self, server: Server, caller: Caller, message: Message, wait: Wait) -> Reply:
        """Have a server told what its sessions want to hear of: the books, which `Interests` keeps, are changed."""
        session, uri = caller.session, named(message, "uri")
        if session is None:
            raise MethodNotFound(f"Method not found: {message.method}")
        told = await self._watches.renew(server, session, wait)
        if message.method == SUBSCRIBE and uri not in told.uris:
            raise InvalidParams(f"server {server.name!r} does not tell of changes of {uri[:200]}")
        return _done(message)

    def _translated(self, server: Server, caller: Caller, message: Message, reply: Reply) -> Message | InputRequired:
        try:
            return replies.to_legacy(
                message.method or "",
                reply.message,
                capabilities=counterpart(caller).capabilities,
                server=server.name,
                revision=caller.revision,
                over_http=not server.pipe,
            )
        except ServerMisbehaved as problem:
            if not is_input_required(reply.message.result):
                raise
            return rounds.failure(message, problem)  # it asks for what the client cannot be asked

    async def _play(
        self,
        server: Server,
        caller: Caller,
        request: Message,
        required: InputRequired,
        wait: Wait,
        back: Back,
        number: int,
    ) -> Message:
        """Get what a server needs, and make the request with it."""
        answers: Mapping[str, Raw] = {}
        if not required.questions:
            with interruptible(wait):
                await trio.sleep(_PAUSES.delay(number, 0.0))
        elif caller.session is None:
            raise Unanswered("the client has no session in which it could be asked")
        else:
            asked = Round(caller.session, required.questions)
            answers = await asked.ask(wait, back, self._sweeper, server.config.timeout)
        return rounds.retry(request, required, answers)


class _Told:
    """What a modern server tells during a call, in legacy words and of the levels that the session wants."""

    def __init__(self, caller: Caller, back: Back) -> None:
        self._session = caller.session
        self._back = back

    async def send(self, event: Event) -> None:
        message = event.message
        if message is None or (message.method == LOG and not self._wanted(message)):
            return
        try:
            told = notifications.of_modern_server(message)
        except InvalidParams as problem:
            log.info("dropped a malformed %s: %s", message.method, problem.message)
            return
        if told is not None:
            await self._back.send(Event(told))

    def _wanted(self, message: Message) -> bool:
        return self._session is None or self._session.level is None or passes(level_of(message), self._session.level)


async def _as_it_came(reply: Reply, back: Back) -> Reply:
    """A first round that is over; see `LegacyClients._converse`."""
    await trio.lowlevel.checkpoint()
    return reply


def _leveled(message: Message) -> Reply:
    """The answer to ``logging/setLevel``: a session's level is kept by `mcpgateway.calls.interests`."""
    level = named(message, "level")
    if level not in LEVELS:
        raise InvalidParams(f"unknown log level {level[:50]!r}")
    return _done(message)


def _done(message: Message) -> Reply:
    return Reply(jsonrpc.result(message.id or b"null", {}))
