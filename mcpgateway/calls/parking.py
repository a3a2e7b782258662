"""Calls that wait for their clients: kept in number and time, found again by the state that their clients carry.

A modern client that is asked something gets ``input_required`` with a ``requestState``, and comes again with its
answers and that state (MCP 2026-07-28, basic/patterns/mrtr). The state is sealed: bound to the principal, the server,
the method and the arguments, it opens once, for as long as the call is parked here. One that was changed, or never was
ours, is refused as invalid params.

A parked call that ends without its client is cancelled at the server, its questions are answered with an error, and its
link, where it had it to itself, is closed and not used again.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import attrs
import msgspec
import trio

from mcpgateway.adapters.base import Reply
from mcpgateway.calls.askable import COURTESY, AskableCall
from mcpgateway.calls.call import Dispatcher
from mcpgateway.calls.visits import Visitor, info_of, replied
from mcpgateway.config.limits import Parking as Terms
from mcpgateway.errors import CallEnded, GatewayError, InvalidParams, ShuttingDown, TooBusy
from mcpgateway.jsonrpc import Message, members_of, raw_of, result, value_of
from mcpgateway.protocol.translation import parked
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller
from mcpgateway.sessions.sealing import Broken, Sealer
from mcpgateway.wire.waiting import Sweeper

PURPOSE: Final = "parked"
_canonical = msgspec.json.Encoder(order="deterministic").encode


class Abandoned(CallEnded):
    """The client did not come again in time; the server has been told to cancel."""

    status = 504


@attrs.frozen
class ParkingStatistics:
    """Parked calls at one moment."""

    parked: int
    limit: int
    running: int
    """Calls that a server may ask something about, the parked ones included."""
    abandoned: int
    """Parked calls whose clients did not come again in time, so far."""
    displaced: int
    """Parked calls that had to make room for others at their server, so far."""
    refused: int
    """Calls that could not be parked, because there were too many, so far."""


@attrs.define(eq=False)
class _Place:
    """A call that was parked, until it is over; its client may be here just now."""

    id: str
    call: AskableCall
    principal: str
    round: int = 0
    expires: float = 0.0
    claimed: trio.Event = attrs.field(factory=trio.Event)


class Parking:
    """The calls of modern clients that legacy servers may ask something about. `run` it in a nursery of the gateway's.

    ``new_id`` makes a name that nobody guesses.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        sealer: Sealer,
        sweeper: Sweeper,
        terms: Terms,
        new_id: Callable[[], str] = secrets.token_urlsafe,
    ) -> None:
        self.terms = terms
        self._dispatcher = dispatcher
        self._sealer = sealer
        self._sweeper = sweeper
        self._new_id = new_id
        self._nursery: trio.Nursery | None = None
        self._running: set[AskableCall] = set()
        self._ids: dict[AskableCall, str] = {}
        self._places: dict[str, _Place] = {}
        self._of: Counter[str] = Counter()
        """Parked calls by principal."""
        self._moved = trio.lowlevel.ParkingLot()
        self._abandoned = 0
        self._displaced = 0
        self._refused = 0

    def statistics(self) -> ParkingStatistics:
        return ParkingStatistics(
            parked=len(self._places),
            limit=self.terms.max,
            running=len(self._running),
            abandoned=self._abandoned,
            displaced=self._displaced,
            refused=self._refused,
        )

    # ---- life --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run the calls; ends with the gateway, and they with it."""
        async with trio.open_nursery() as self._nursery:
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def aclose(self) -> None:
        """End all calls and begin no more; waits a moment for their servers to be told."""
        nursery, self._nursery = self._nursery, None
        for call in self._running:
            call.wait.end(ShuttingDown("the gateway is shutting down"))
        with trio.move_on_after(COURTESY):
            while self._running:
                await self._moved.park()
        if nursery is not None:
            nursery.cancel_scope.cancel(reason="the gateway is closed")

    async def _run(self, call: AskableCall) -> None:
        self._running.add(call)
        try:
            await call.run(self._dispatcher)
        finally:
            self._running.discard(call)
            self._moved.unpark_all()
            place = self._places.get(self._ids.pop(call, ""))
            if place is not None and (call.visitor is not None or isinstance(call.outcome, CallEnded)):
                self._leave(place)
                place = None
        if place is not None:  # it ended while its client was away: the client is to hear of it
            with trio.move_on_at(place.expires):
                await place.claimed.wait()
            self._leave(place)

    def _leave(self, place: _Place) -> None:
        """A call is parked no more."""
        if self._places.pop(place.id, None) is not None:
            self._of[place.principal] -= 1
            if not self._of[place.principal]:
                del self._of[place.principal]

    # ---- visits ------------------------------------------------------------------------------------------------------

    async def begin(self, server: Server, client: Caller, message: Message, visitor: Visitor) -> Reply:
        """Make a call, in the server's words; the reply, or the questions that come first.

        :raises TooBusy: the server asks, and as many calls are parked as may be
        :raises GatewayError: as `mcpgateway.calls.call.Dispatcher.call`
        """
        await self._sealer.load()
        if self._nursery is None:
            raise ShuttingDown("the gateway is shutting down")
        call = AskableCall(server, client, message, visitor)
        call.enter(visitor)
        self._nursery.start_soon(self._run, call, name=f"call of {server.name}")
        return await self._visited(call, visitor, {})

    async def resume(self, state: str, server: Server, message: Message, visitor: Visitor) -> Reply:
        """Go on with a parked call, with the answers of a retry; the reply, or further questions.

        :raises InvalidParams: the state is none of a call that is parked here for this request, or an answer is
            malformed, in which case the state is still good
        """
        await self._sealer.load()
        place = self._find(state, _binding(visitor.caller, server, message))
        call = place.call
        asked = {key: each.question.method for key, each in call.questions.items()}
        answers = parked.answers(visitor.message.params, asked)
        call.enter(visitor)
        if call.outcome is not None:
            place.claimed.set()
            self._leave(place)
        return await self._visited(call, visitor, answers)

    def _find(self, state: str, binding: Sequence[str]) -> _Place:
        try:
            claims = self._sealer.open(PURPOSE, state, binding=binding)
        except Broken as problem:
            raise InvalidParams(f"params.requestState is not one that this request can have: {problem}") from None
        place = self._places.get(str(claims.get("call")))
        if place is None:
            raise InvalidParams(
                "params.requestState is of a call that is not parked here any more: it was answered, its time was over "
                "(parking.ttl), its server had no link left for others (links.max), or the gateway was restarted; "
                "make the call again"
            )
        if claims.get("round") != place.round or place.call.visitor is not None:
            raise InvalidParams("params.requestState was used already; it is good for one request")
        return place

    async def _visited(self, call: AskableCall, visitor: Visitor, answers: dict[str, msgspec.Raw]) -> Reply:
        self._sweeper.add(visitor.wait)
        try:
            over = await call.visit(answers)
        finally:
            self._sweeper.discard(visitor.wait)
        if not over:
            return self._park(call, visitor)
        outcome = call.outcome
        assert outcome is not None
        if isinstance(outcome, GatewayError):
            raise outcome
        return replied(call.server, visitor.caller, call.message.method or "", outcome)

    def _park(self, call: AskableCall, visitor: Visitor) -> Reply:
        """Answer a visitor with the questions of the server, and have the call wait for the next visit."""
        place = self._place(call, visitor.caller.principal)
        place.round += 1
        place.expires = trio.current_time() + self.terms.ttl
        call.park(place.expires, self._displace, self._abandon)
        state = self._sealer.seal(
            PURPOSE,
            {"call": self._ids[call], "round": place.round},
            binding=_binding(visitor.caller, call.server, call.message),
            lifetime=self.terms.ttl,
        )
        questions = {key: asked.question for key, asked in call.questions.items()}
        asked = parked.input_required(questions, state=state, server_info=info_of(call.server))
        return Reply(result(visitor.message.id or b"null", asked))

    def _place(self, call: AskableCall, principal: str) -> _Place:
        """The place of a call among the parked ones.

        :raises TooBusy: there is none; the call is ended
        """
        id = self._ids.get(call)
        if id is not None:
            return self._places[id]
        terms = self.terms
        own = max(1, terms.max // 2) if terms.max_per_principal is None else terms.max_per_principal
        problem: TooBusy | None = None
        if len(self._places) >= terms.max:
            problem = TooBusy(f"no more than {terms.max} calls may wait for their clients' answers (parking.max)")
        elif self._of[principal] >= own:
            problem = TooBusy(
                f"no more than {own} calls of one principal may wait for its answers (parking.max_per_principal)"
            )
        if problem is not None:
            self._refused += 1
            call.wait.end(problem)
            raise problem
        id = self._ids[call] = self._new_id()
        self._of[principal] += 1
        place = self._places[id] = _Place(id, call, principal)
        return place

    def _displace(self) -> Abandoned:
        self._displaced += 1
        return Abandoned("the call had to make room: other calls need the links of its server (links.max)")

    def _abandon(self) -> Abandoned:
        self._abandoned += 1
        return Abandoned("the client did not answer the server's question in time (parking.ttl)")


def _binding(caller: Caller, server: Server, message: Message) -> tuple[str, ...]:
    """What the state of a parked call is good for; ``message`` is in the server's words."""
    params = members_of(message.params)
    params.pop("_meta", None)
    digest = hashlib.sha256(_canonical(value_of(raw_of(params)))).hexdigest()
    return caller.principal, server.name, message.method or "", digest
