"""The contract can be broken: for every rule an adapter with one fault, and the check that has to find it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Back, Event, Link, LinkStatistics, Offer, Receive, Reply, Request
from mcpgateway.errors import ServerMisbehaved, ServerUnavailable
from mcpgateway.jsonrpc import Message, members_of
from mcpgateway.protocol import correlator
from mcpgateway.protocol.correlator import Pending
from mcpgateway.protocol.negotiated import Negotiated
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing import AdapterUnderTest, MemoryAdapter, check_adapter
from mcpgateway.testing.contract import CHECKS
from mcpgateway.testing.memory import MemoryLink
from mcpgateway.wire.waiting import Wait

FAULTS: dict[str, type[MemoryLink | MemoryAdapter]] = {}


def breaks(check: str) -> Callable[[Any], Any]:
    def register(faulty: Any) -> Any:
        assert check not in FAULTS
        FAULTS[check] = faulty
        return faulty

    return register


# ---- faulty adapters -----------------------------------------------------------------------------------------------


@breaks("shakes_hands")
class ForgetsWhoAnswered(MemoryAdapter):
    def _shake(self, host: Any, offer: Offer) -> Negotiated:
        return attrs.evolve(super()._shake(host, offer), name="")


@breaks("finds_out_the_era")
class AssumesLegacy(MemoryAdapter):
    def _shake(self, host: Any, offer: Offer) -> Negotiated:
        return super()._shake(host, attrs.evolve(offer, era=offer.era or Era.LEGACY))


@breaks("refuses_the_wrong_era")
class SpeaksItAnyway(MemoryAdapter):
    def _shake(self, host: Any, offer: Offer) -> Negotiated:
        (era,) = self._eras if len(self._eras) == 1 else (offer.era,)
        return super()._shake(host, attrs.evolve(offer, era=era))


@breaks("says_when_nobody_is_there")
class LetsOsErrorsOut(MemoryAdapter):
    async def connect(self, nursery: trio.Nursery, offer: Offer, receive: Receive) -> Link:
        try:
            return await super().connect(nursery, offer, receive)
        except ServerUnavailable:
            raise ConnectionRefusedError from None


@breaks("leaves_nothing_when_connecting_is_cancelled")
class StartsATaskTooEarly(MemoryAdapter):
    async def connect(self, nursery: trio.Nursery, offer: Offer, receive: Receive) -> Link:
        nursery.start_soon(trio.sleep, 5)
        return await super().connect(nursery, offer, receive)


# ---- faulty links --------------------------------------------------------------------------------------------------


class Tampering(MemoryLink):
    """Changes replies on their way."""

    def tamper(self, reply: Reply) -> Reply:
        return reply

    async def call(self, request: Request, back: Back) -> Reply:
        return self.tamper(await super().call(request, back))


@breaks("echoes_under_ids_of_every_type")
class RefusesFloatIds(Tampering):
    async def call(self, request: Request, back: Back) -> Reply:
        assert request.message.id != b"1.0"
        return await super().call(request, back)


@breaks("gives_every_call_an_id_of_its_own")
class PassesIdsOn(MemoryLink):
    def _to_server(self, message: Message) -> None:
        if message.is_request:
            self.host.ids.append(Raw(b'"client"'))  # type: ignore[attr-defined]  # it is a FixtureServer
        super()._to_server(message)


@breaks("never_mixes_calls_up")
class GivesTheLastReplyToTheFirst(MemoryLink):
    def _deliver(self, delivery: correlator.Delivery) -> None:
        if isinstance(delivery, correlator.Reply) and delivery.pending.method == "tools/call":
            others = [pending for pending in self._inboxes if pending.wire < delivery.pending.wire]
            delivery = attrs.evolve(delivery, pending=others[0] if others else delivery.pending)
        super()._deliver(delivery)


@breaks("keeps_unknown_members")
class KnowsBetter(Tampering):
    def tamper(self, reply: Reply) -> Reply:
        members = members_of(reply.message.result)
        members.pop("x-top", None)
        return Reply(reply.message.replace(result=jsonrpc.raw_of(members))) if reply.message.result else reply


@breaks("passes_errors_on_as_replies")
class RaisesErrors(Tampering):
    def tamper(self, reply: Reply) -> Reply:
        if reply.message.error is not None:
            raise ServerMisbehaved("fixture", "answered with an error")
        return reply


@breaks("carries_large_replies")
class Truncates(Tampering):
    def tamper(self, reply: Reply) -> Reply:
        if len(reply.message.encode()) > 65_536:
            raise ServerMisbehaved("fixture", "a line is too long")
        return reply


@breaks("counts_its_calls")
class CountsNothing(MemoryLink):
    def statistics(self) -> LinkStatistics:
        return LinkStatistics(in_flight=0, calls=0)


@breaks("delivers_progress_in_order_before_the_reply")
class TurnsProgressRound(MemoryLink):
    async def call(self, request: Request, back: Back) -> Reply:
        later = Later()
        reply = await super().call(request, later)
        for event in reversed(later.events):
            await back.send(event)
        return reply


class Later:
    def __init__(self) -> None:
        self.events: list[Event] = []

    async def send(self, event: Event) -> None:
        self.events.append(event)


@breaks("relays_what_the_server_asks_a_call_that_is_alone")
class KnowsNoLeases(MemoryLink):
    async def call(self, request: Request, back: Back) -> Reply:
        return await super().call(Request(request.message, request.wait), back)


@breaks("passes_requests_for_input_on")
class LosesTheState(Tampering):
    def tamper(self, reply: Reply) -> Reply:
        members = members_of(reply.message.result)
        if members.pop("requestState", None) is None:
            return reply
        return Reply(reply.message.replace(result=jsonrpc.raw_of(members)))


@breaks("keeps_a_subscription_under_the_clients_id")
class ForgetsSubscriptions(MemoryLink):
    def _deliver(self, delivery: correlator.Delivery) -> None:
        if isinstance(delivery, correlator.ToCall) and delivery.pending.method == "subscriptions/listen":
            params = Raw(bytes(delivery.message.params or b"").replace(b'"listen 7"', delivery.pending.wire))
            delivery = attrs.evolve(delivery, message=delivery.message.replace(params=params))
        super()._deliver(delivery)


@breaks("hands_over_what_belongs_to_no_call")
class DropsNotifications(MemoryLink):
    def _deliver(self, delivery: correlator.Delivery) -> None:
        if not isinstance(delivery, correlator.Outside):
            super()._deliver(delivery)


@breaks("sends_notifications")
class SwallowsNotifications(MemoryLink):
    async def notify(self, message: Message) -> None:
        await trio.lowlevel.checkpoint()


class Untold(MemoryLink):
    """Does not tell the server to cancel."""

    def _give_up(self, pending: Pending) -> None:
        self._correlator.cancel(pending, "")


FAULTS["ends_a_call_whose_wait_ends"] = Untold
FAULTS["ends_a_call_that_is_cancelled"] = Untold


@breaks("does_not_begin_a_call_whose_wait_is_over")
class ReplacesTheWait(MemoryLink):
    async def call(self, request: Request, back: Back) -> Reply:
        with trio.fail_after(0.05):
            return await super().call(Request(request.message, Wait(), alone=request.alone), back)


@breaks("ends_a_call_at_its_deadline")
class IgnoresDeadlines(MemoryLink):
    async def call(self, request: Request, back: Back) -> Reply:
        request.wait.deadline = math.inf
        return await super().call(request, back)


@breaks("fails_calls_when_the_server_crashes")
class BlamesTheServer(MemoryLink):
    async def call(self, request: Request, back: Back) -> Reply:
        try:
            return await super().call(request, back)
        except ServerUnavailable as problem:
            raise ServerMisbehaved(problem.server, problem.reason) from None


@breaks("closes_once_and_for_all")
class ClosesOnce(MemoryLink):
    async def aclose(self) -> None:
        if self.closed.is_set():
            raise trio.ClosedResourceError
        await super().aclose()


@breaks("ends_with_its_nursery")
class OutlivesItsNursery(MemoryLink):
    async def live(self) -> None:
        await trio.sleep_forever()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


def adapter_with(fault: type[MemoryLink | MemoryAdapter], **options: Any) -> MemoryAdapter:
    if issubclass(fault, MemoryAdapter):
        return fault("fixture", **options)
    adapter = MemoryAdapter("fixture", **options)
    adapter.link_class = fault
    return adapter


def subject_with(
    fault: type[MemoryLink | MemoryAdapter], **changes: Any
) -> Callable[[], AbstractAsyncContextManager[AdapterUnderTest]]:
    @asynccontextmanager
    async def make() -> AsyncIterator[AdapterUnderTest]:
        dead = adapter_with(fault)
        dead.dead = True
        only = {era: adapter_with(fault, eras={era}) for era in Era}
        yield AdapterUnderTest(adapter_with(fault), dead=dead, only=only, **changes)

    return make


@pytest.mark.parametrize("check", CHECKS)
async def test_every_rule_can_be_broken(check: str, autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(BaseException) as caught:  # a group or not, by where the fault shows
        await check_adapter(subject_with(FAULTS[check]), only=check)

    assert [note for note in caught.value.__notes__ if check in note]


async def test_what_is_left_behind_is_found() -> None:
    make = subject_with(MemoryLink, leftovers=lambda: ["a child"])

    with pytest.raises(AssertionError, match="a child"):
        await check_adapter(make, only="echoes_under_ids_of_every_type")


async def test_a_check_that_cannot_hold_is_left_out() -> None:
    await check_adapter(subject_with(KnowsBetter, lacks={"keeps_unknown_members": "knows better"}))


async def test_the_whole_contract_at_once() -> None:
    await check_adapter(subject_with(MemoryLink))
