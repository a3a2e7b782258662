"""Calls that a legacy server asks something about, and their modern clients, who may come again or not."""

from __future__ import annotations

import math

import attrs
import pytest
import trio
import trio.testing

from mcpgateway import jsonrpc
from mcpgateway.calls.askable import TOGETHER
from mcpgateway.calls.parking import Abandoned, ParkingStatistics
from mcpgateway.config.limits import Parking
from mcpgateway.config.model import HttpServer, InProcessServer, Isolation, Links
from mcpgateway.errors import JSON, ClientGone, InvalidParams, ServerUnavailable, ShuttingDown, TooBusy
from mcpgateway.gateway import Gateway
from mcpgateway.jsonrpc import error_code, members_of, value_of
from mcpgateway.protocol import envelope
from mcpgateway.wire.waiting import Wait
from tests.calls.doubles import Collecting, modern, space, use
from tests.calls.inquirer import ACCEPTED, ALL, FORMS, ROOTS, SAMPLE, Asked, asking, form, hosts, inquirer, quiz, settle

HTTP = HttpServer("a", url="http://a/mcp", links=Links(min=0))
PIPE = InProcessServer("a", module="m:s", links=Links(min=0))
EITHER = pytest.mark.parametrize("config", [HTTP, PIPE], ids=["sessions", "pipe"])
NAME = form("name")


def parking(gateway: Gateway) -> ParkingStatistics:
    return gateway.statistics().parking


def answers(result: dict[str, JSON]) -> JSON:
    content = result["structuredContent"]
    assert isinstance(content, dict)
    return content["answers"]


@pytest.mark.requirement("5.modern-client", "bridge.asks.modern-to-legacy")
@EITHER
async def test_a_question_parks_the_call_and_its_answer_brings_the_reply(
    config: HttpServer | InProcessServer, autojump_clock: trio.testing.MockClock
) -> None:
    adapter = inquirer()
    async with asking(adapter, configs={"a": config}) as gateway:
        asked = quiz(space(gateway, "a"), [NAME])
        before = trio.current_time()
        got = await asked.send()
        took = trio.current_time() - before
        parked = parking(gateway)
        await trio.sleep(500)  # longer than a server may take, for this is its client's time
        done = await asked.send({"name": ACCEPTED})

        assert got["inputRequests"] == {"name": NAME}
        assert took == pytest.approx(TOGETHER, abs=0.2)
        assert (parked.parked, parked.running, parking(gateway).parked, parking(gateway).running) == (1, 1, 0, 0)
        assert (done["resultType"], answers(done)) == ("complete", [ACCEPTED])
        (question,) = (answer for host in hosts(adapter) for answer in host.answers)
        assert value_of(question.result or b"") == ACCEPTED
        assert len(gateway.sweeper) == 0


@pytest.mark.parametrize("path", ["a", ""])
async def test_what_is_asked_for_a_resource_and_in_merged_namespaces(
    path: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with asking(inquirer()) as gateway:
        if path:
            asked = Asked(space(gateway, path), modern(FORMS), {"uri": "book://a/quiz"}, "resources/read")
        else:
            asked = quiz(space(gateway), [NAME])
            asked.params = {**asked.params, "name": "a_quiz"}
        got = await asked.send()
        done = await asked.send({"name": ACCEPTED})

    assert got["inputRequests"] == {"name": NAME}
    assert answers(done) == [ACCEPTED]


async def test_questions_that_come_together_are_asked_together(autojump_clock: trio.testing.MockClock) -> None:
    sampled: JSON = {"role": "assistant", "model": "m", "content": {"type": "text", "text": "x"}}
    async with asking(inquirer()) as gateway:
        asked = quiz(space(gateway, "a"), [NAME, SAMPLE, ROOTS], [form("color")], capabilities=ALL)
        first = await asked.send()
        partly = await asked.send({"name": ACCEPTED, "unasked": {"action": "accept"}})
        second = await asked.send({"sampling": sampled, "roots": {"roots": []}})
        done = await asked.send({"color": {"action": "decline"}})

    assert first["inputRequests"] == {"name": NAME, "sampling": SAMPLE, "roots": ROOTS}
    assert partly["inputRequests"] == {"sampling": SAMPLE, "roots": ROOTS}
    assert second["inputRequests"] == {"color": form("color")}
    assert answers(done) == [ACCEPTED, sampled, {"roots": []}, {"action": "decline"}]


@pytest.mark.requirement("bridge.progress.modern-to-legacy", "bridge.logging.modern-to-legacy")
async def test_progress_and_logs_go_to_whoever_is_there_under_its_own_token(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seen: list[list[tuple[str, object]]] = []
    async with asking(inquirer()) as gateway:
        asked = quiz(space(gateway, "a"), [form("a")], [form("b")], [form("c")])
        metas: list[dict[str, object]] = [
            {"progressToken": "one"},
            {"progressToken": 2, envelope.LOG_LEVEL: "info"},
            {},
        ]
        for meta, given in zip(metas, ({}, {"a": ACCEPTED}, {"b": ACCEPTED}), strict=True):
            back = Collecting()
            await asked.send(given, back=back, meta=meta)
            seen.append([(each.method or "", _token(each)) for each in back.messages])

    progress, log = "notifications/progress", "notifications/message"
    assert seen == [[(progress, b'"one"')], [(progress, b"2"), (log, b"")], []]


@pytest.mark.requirement("bridge.capability-gate.modern-to-legacy", "5.bad", "bridge.ping.modern-to-legacy")
async def test_what_the_client_did_not_declare_it_is_not_asked(autojump_clock: trio.testing.MockClock) -> None:
    adapter = inquirer()
    url: JSON = {"method": "elicitation/create", "params": {"mode": "url", "url": "https://x.example", "message": "m"}}
    async with asking(adapter) as gateway:
        namespace = space(gateway, "a")
        done = await quiz(namespace, [SAMPLE, ROOTS, url, {"method": "x/odd"}, {"method": "ping"}]).send()
        plain = await quiz(namespace, [NAME], capabilities=b"{}").send()

        assert sorted(given(done), key=str) == [-32601, -32601, -32601, -32601, {}]  # the ping may be answered first
        assert parking(gateway).parked == 0
        assert given(plain) == [-32601]


@pytest.mark.requirement("bridge.capability-gate.modern-to-legacy")
async def test_a_retry_that_declares_less_is_asked_less(autojump_clock: trio.testing.MockClock) -> None:
    async with asking(inquirer()) as gateway:
        asked = quiz(space(gateway, "a"), [NAME, ROOTS], [SAMPLE], capabilities=ALL)
        await asked.send()
        asked.caller = modern(FORMS)
        done = await asked.send({"name": ACCEPTED})

    assert given(done) == [ACCEPTED, -32601, -32601]


def given(result: dict[str, JSON]) -> list[JSON]:
    """What the server was answered; of an error, its code."""
    found = answers(result)
    assert isinstance(found, list)
    return [each["code"] if isinstance(each, dict) and "code" in each else each for each in found]


def _token(message: jsonrpc.Message) -> bytes:
    return bytes(members_of(message.params).get("progressToken", b""))


# ---- the state -------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("5.bad")
async def test_a_state_is_good_once_for_one_request_of_one_principal(autojump_clock: trio.testing.MockClock) -> None:
    async with asking(inquirer(), inquirer("b")) as gateway:
        asked = quiz(space(gateway, "a"), [form("a")], [form("b")])
        await asked.send()
        state = asked.state
        assert state is not None

        def variant(**changes: object) -> Asked:
            return attrs.evolve(asked, **{"state": state, **changes})  # type: ignore[arg-type]  # as given

        somebody = modern(FORMS)
        somebody.principal = "somebody"
        node, _, rest = state.partition(".")
        other = {"name": "quiz", "arguments": {"rounds": []}}
        refused = {
            "tampered": variant(state=f"{node}.{rest[:-8]}AAAAAAAA"),
            "of another node": variant(state=f"other.{rest}"),
            "no state": variant(state="nonsense"),
            "foreign": variant(caller=somebody),
            "for another server": variant(namespace=space(gateway, "b")),
            "for other arguments": variant(params=other),
            "for another method": variant(method="prompts/get"),
        }
        for what, each in refused.items():
            with pytest.raises(InvalidParams, match=r"params\.requestState is not one that this request can have"):
                print(what, await each.send({"a": ACCEPTED}))
        with pytest.raises(InvalidParams, match="must be a string"):
            await variant(state=None).send({"a": ACCEPTED}, requestState=7)
        assert parking(gateway).parked == 1

        await asked.send({"a": ACCEPTED})
        with pytest.raises(InvalidParams, match="was used already"):
            await variant().send({"a": ACCEPTED})
        await asked.send({"b": ACCEPTED})
        with pytest.raises(InvalidParams, match="not parked here any more"):
            await variant().send({"a": ACCEPTED})


@pytest.mark.requirement("5.bad")
async def test_two_retries_at_once_are_one_and_a_refusal(autojump_clock: trio.testing.MockClock) -> None:
    adapter = inquirer()
    async with asking(adapter) as gateway:
        asked = quiz(space(gateway, "a"), [form("a")], [form("b")])
        await asked.send()
        twice = attrs.evolve(asked)
        outcomes: list[str] = []

        async def retry(each: Asked) -> None:
            try:
                await each.send({"a": ACCEPTED})
                outcomes.append("asked")
            except InvalidParams as problem:
                outcomes.append(problem.message)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(retry, asked)
            nursery.start_soon(retry, twice)

        assert sorted(outcomes) == ["asked", "params.requestState was used already; it is good for one request"]
        assert len(hosts(adapter)[-1].answers) == 1


@pytest.mark.requirement("5.bad")
async def test_answers_of_the_wrong_shape_are_refused_and_may_be_given_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with asking(inquirer()) as gateway:
        asked = quiz(space(gateway, "a"), [NAME])
        await asked.send()
        state = asked.state
        for wrong in ({"name": 7}, {"name": {"action": "perhaps"}}, {"name": {"action": "accept", "content": [1]}}):
            with pytest.raises(InvalidParams, match=r"inputResponses, 'name'"):
                await asked.send(wrong)  # type: ignore[arg-type]  # that is the point
        with pytest.raises(InvalidParams, match="inputResponses must be an object"):
            await asked.send(inputResponses=[])
        asked.state = state
        done = await asked.send({"name": ACCEPTED})

    assert answers(done) == [ACCEPTED]


@pytest.mark.requirement("5.bad")
async def test_answers_to_what_was_not_asked_are_nobodys_and_what_is_missing_is_asked_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = inquirer()
    async with asking(adapter) as gateway:
        asked = quiz(space(gateway, "a"), [form("a"), form("b")])
        await asked.send()
        again = await asked.send({"a": ACCEPTED, "odd": {"action": "perhaps"}})
        assert (again["resultType"], list(asked.questions)) == ("input_required", ["b"])
        nothing = await asked.send({})
        assert (nothing["resultType"], list(asked.questions)) == ("input_required", ["b"])
        done = await asked.send({"a": {"action": "cancel"}, "b": ACCEPTED})
        assert answers(done) == [ACCEPTED, ACCEPTED]
        assert len(hosts(adapter)[-1].answers) == 2
        assert (parking(gateway).parked, parking(gateway).running) == (0, 0)


# ---- ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("5.parked.bounds", "bridge.cancel.modern-to-legacy", "5.bad")
@EITHER
async def test_a_client_that_does_not_come_again_has_its_call_cancelled_and_its_link_closed(
    config: HttpServer | InProcessServer, autojump_clock: trio.testing.MockClock
) -> None:
    adapter = inquirer()
    async with asking(adapter, configs={"a": config}, parking=Parking(ttl=30.0)) as gateway:
        asked = quiz(space(gateway, "a"), [NAME])
        await asked.send()
        mine = adapter.links[-1]
        await trio.sleep(29)
        before = mine.closed.is_set(), parking(gateway).parked
        await trio.sleep(3)
        server = hosts(adapter)[-1]

        assert before == (False, 1)
        assert mine.closed.is_set()
        assert (parking(gateway).parked, parking(gateway).running, parking(gateway).abandoned) == (0, 0, 1)
        assert len(server.given_up) == 1
        assert [error_code(each) for each in server.answers] == [-32603]
        with pytest.raises(InvalidParams, match="make the call again"):
            await asked.send({"name": ACCEPTED})
        await use(space(gateway, "a"), modern(FORMS), "echo")


@pytest.mark.requirement("5.bad")
async def test_a_client_that_goes_while_it_is_there_ends_the_call(autojump_clock: trio.testing.MockClock) -> None:
    adapter = inquirer()
    async with asking(adapter) as gateway:
        asked = quiz(space(gateway, "a"), [NAME], [])
        await asked.send()
        wait = Wait()
        adapter.links[-1].hold()  # the server takes its time after the answer
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def retry() -> None:
                with pytest.raises(ClientGone):
                    await asked.send({"name": ACCEPTED}, wait=wait)

            await settle()
            wait.end(ClientGone("closed"))
        await settle()

        assert len(hosts(adapter)[-1].given_up) == 1
        assert adapter.links[-1].closed.is_set()
        assert (parking(gateway).parked, parking(gateway).running) == (0, 0)


@pytest.mark.requirement("5.bad")
async def test_a_server_that_dies_while_its_client_is_away_is_told_to_the_client(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = inquirer()
    async with asking(adapter) as gateway:
        asked = quiz(space(gateway, "a"), [NAME])
        await asked.send()
        adapter.links[-1].crash("fell over")
        await settle()
        with pytest.raises(ServerUnavailable, match="fell over"):
            await asked.send({"name": ACCEPTED})
        assert parking(gateway).parked == 0


@pytest.mark.requirement("5.bad")
@EITHER
async def test_a_server_that_dies_under_one_parked_call_takes_no_other_along(
    config: HttpServer | InProcessServer, autojump_clock: trio.testing.MockClock
) -> None:
    adapter = inquirer()
    async with asking(adapter, configs={"a": config}) as gateway:
        one, two = [quiz(space(gateway, "a"), [NAME]) for _ in range(2)]
        await one.send()
        doomed = adapter.links[-1]
        await two.send()
        doomed.crash("fell over")
        await settle()
        await use(space(gateway, "a"), modern(), "echo")
        assert answers(await two.send({"name": ACCEPTED})) == [ACCEPTED]
        with pytest.raises(ServerUnavailable, match="fell over"):
            await one.send({"name": ACCEPTED})
        assert (parking(gateway).parked, parking(gateway).running) == (0, 0)
        (server,) = gateway.statistics().servers
        assert not any(link.in_flight for link in server.links)


async def test_a_reply_that_needs_no_answer_any_more_waits_for_its_client(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = inquirer()
    async with asking(adapter, parking=Parking(ttl=30.0)) as gateway:
        for came in (True, False):
            asked = quiz(space(gateway, "a"), [NAME])
            await asked.send()
            link, server = adapter.links[-1], hosts(adapter)[-1]
            (pending,) = server.quizzes.values()
            link.send(jsonrpc.notification("notifications/cancelled", {"requestId": "q1"}))
            link.send(jsonrpc.result(pending.call.id, {"content": [], "structuredContent": {"answers": ["none"]}}))
            await settle()
            server.quizzes.clear()
            if came:
                assert answers(await asked.send({"name": ACCEPTED})) == ["none"]
            else:
                await trio.sleep(31)
                with pytest.raises(InvalidParams, match="not parked here any more"):
                    await asked.send({"name": ACCEPTED})
            assert parking(gateway).parked == 0
            assert not link.closed.is_set()
            server._number = 0


@pytest.mark.requirement("5.parked.bounds")
async def test_the_end_of_the_gateway_is_the_end_of_parked_calls(autojump_clock: trio.testing.MockClock) -> None:
    adapter = inquirer()
    async with asking(adapter) as gateway:
        asked = quiz(space(gateway, "a"), [NAME])
        await asked.send()
        await gateway.aclose()

        assert len(hosts(adapter)[-1].given_up) == 1
        assert parking(gateway).running == 0
        with pytest.raises(ShuttingDown):
            await quiz(space(gateway, "a"), [NAME]).send()


# ---- bounds ----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("5.parked.bounds")
@pytest.mark.parametrize(
    ("terms", "rule"),
    [
        (Parking(max=2, max_per_principal=2), r"parking\.max\)"),
        (Parking(max=4), r"parking\.max_per_principal"),
    ],
)
async def test_more_than_may_be_parked_fail_and_take_nothing_from_the_others(
    terms: Parking, rule: str, autojump_clock: trio.testing.MockClock
) -> None:
    adapter = inquirer()
    async with asking(adapter, parking=terms) as gateway:
        calls = [quiz(space(gateway, "a"), [NAME]) for _ in range(3)]
        await calls[0].send()
        await calls[1].send()
        with pytest.raises(TooBusy, match=rule):
            await calls[2].send()
        await settle()

        assert (parking(gateway).parked, parking(gateway).refused, parking(gateway).running) == (2, 1, 2)
        assert [answers(await each.send({"name": ACCEPTED})) for each in calls[:2]] == [[ACCEPTED], [ACCEPTED]]
        await calls[2].send()


@pytest.mark.requirement("5.parked.bounds")
async def test_who_has_not_answered_for_longest_makes_room_at_a_server_without_links(
    autojump_clock: trio.testing.MockClock,
) -> None:
    config = attrs.evolve(PIPE, links=Links(min=0, max=2))
    async with asking(inquirer(), configs={"a": config}) as gateway:
        first, second, third = (quiz(space(gateway, "a"), [NAME]) for _ in range(3))
        await first.send()
        await trio.sleep(1)
        await second.send()
        await trio.sleep(1)
        before = trio.current_time()
        await third.send()
        took = trio.current_time() - before

        assert took < 1  # nobody waits for somebody who thinks
        assert (parking(gateway).parked, parking(gateway).displaced) == (2, 1)
        with pytest.raises(InvalidParams, match=r"links\.max"):
            await first.send({"name": ACCEPTED})
        assert [answers(await each.send({"name": ACCEPTED})) for each in (second, third)] == [[ACCEPTED]] * 2


async def test_on_a_link_in_common_only_the_call_ends(autojump_clock: trio.testing.MockClock) -> None:
    config = attrs.evolve(PIPE, isolation=Isolation.SHARED)
    adapter = inquirer()
    async with asking(adapter, configs={"a": config}) as gateway:
        wait = Wait()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def call() -> None:
                with pytest.raises(ClientGone):
                    await Asked(space(gateway, "a"), modern(FORMS), {"name": "slow"}).send(wait=wait)

            await settle()
            wait.end(ClientGone("closed"))
        await settle()
        assert len(hosts(adapter)[-1].given_up) == 1
        assert not adapter.links[-1].closed.is_set()


def test_an_abandoned_call_is_an_end_and_not_the_servers_fault() -> None:
    assert Abandoned("x").status == 504
    assert math.isfinite(Parking().ttl)
