"""The contract's rules about calls: their replies, their back-channel, and how they end without a reply."""

from __future__ import annotations

from typing import Final

import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.errors import ServerTimeout
from mcpgateway.jsonrpc import members_of, value_of
from mcpgateway.protocol.envelope import SUBSCRIPTION_ID
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.client import Client, Collector, expect, params_of, structured, text_of
from mcpgateway.testing.fixture_server import UNKNOWN, Failure
from mcpgateway.testing.subject import AdapterUnderTest, open_subject, rule
from mcpgateway.wire.waiting import Sweeper, Wait

CLIENT_IDS: Final = (b"0", b"7", b'"7"', b"-1", b"1.0", b"9007199254740993", b'"client"', b'""')
_TOKENS: Final = (b"7", b'"7"', b'"a token"', b"9007199254740993")

# ---- calls and replies ---------------------------------------------------------------------------------------------


@rule()
async def _echoes_under_ids_of_every_type(subject: AdapterUnderTest, era: Era) -> None:
    async with open_subject(subject, era) as client:
        for id in CLIENT_IDS:
            reply = await client.call("echo", {"text": f"é {id!r}"}, id=id)
            expect(text_of(reply) == f"é {id!r}", f"echo under id {id!r} answered {text_of(reply)!r}")


@rule()
async def _gives_every_call_an_id_of_its_own(subject: AdapterUnderTest, era: Era) -> None:
    async with open_subject(subject, era) as client:
        for id in (b'"client"', b"987654321", b"987654321"):
            await client.call("echo", id=id)
        seen = structured(await client.call("echo_ids", id=b'"client"'))["values"]
        assert isinstance(seen, list)
        expect(len(seen) >= 4 and len({repr(id) for id in seen}) == len(seen), f"ids used twice: {seen!r}")
        expect("client" not in seen and 987654321 not in seen, f"ids of the client reached the server: {seen!r}")


@rule()
async def _never_mixes_calls_up(subject: AdapterUnderTest, era: Era) -> None:
    async with open_subject(subject, era) as client, trio.open_nursery() as nursery:
        calls = {f"slow {n}": client.start(nursery, "slow", {"name": f"slow {n}"}) for n in range(8)}
        waiting = structured(await client.call("waiting", {"count": 8}))["values"]
        assert isinstance(waiting, list)
        expect(set(calls) == set(waiting), f"the server knows of {waiting!r}")
        calls |= {text: client.start(nursery, "echo", {"text": text}) for text in map(str, range(16))}
        await client.call("release")
        for name, call in calls.items():
            answer = text_of(await call.outcome())
            expect(answer == name, f"{name!r} was answered with {answer!r}")


@rule()
async def _keeps_unknown_members(subject: AdapterUnderTest, era: Era) -> None:
    async with open_subject(subject, era) as client:
        params = {**members_of(params_of(client.link, "unknown", {})), "x-param": Raw(b'{"deep":[1.0,1e3,null]}')}
        reply = await client.request("tools/call", jsonrpc.raw_of(params))
        result = members_of(reply.message.result)
        for name, raw in members_of(UNKNOWN).items():
            if name != "_meta" or era is Era.LEGACY:
                expect(result.get(name) == raw, f"result member {name!r} came as {result.get(name)!r}")
        received = members_of(result.get("received"))
        expect(received.get("x-param") == params["x-param"], "an unknown parameter did not reach the server as it was")


@rule()
async def _passes_errors_on_as_replies(subject: AdapterUnderTest, era: Era) -> None:
    async with open_subject(subject, era) as client:
        reply = await client.call("fail")
        expect(jsonrpc.error_code(reply.message) == Failure.code, f"answered {reply.message!r}")
        error = members_of(reply.message.error)
        expect(value_of(error.get("data", Raw(b"null"))) == {"why": "asked"}, "the error's data is lost")
        expect(value_of(members_of((await client.call("tool_error")).message.result)["isError"]) is True, "no isError")
        unknown = await client.request("tools/call", params_of(client.link, "no such tool", {}))
        expect(unknown.message.error is not None, "an unknown tool was answered with a result")


@rule()
async def _carries_large_replies(subject: AdapterUnderTest, era: Era) -> None:
    async with open_subject(subject, era) as client:
        text = text_of(await client.call("big", {"kib": 1024}))
        expect(len(text) == 1024 * 1024 and set(text) == {"x"}, f"{len(text)} characters came")


@rule()
async def _counts_its_calls(subject: AdapterUnderTest, era: Era) -> None:
    async with open_subject(subject, era) as client, trio.open_nursery() as nursery:
        before = client.link.statistics()
        expect(before.in_flight == 0, f"idle, and {before!r}")
        call = client.start(nursery, "slow", {"name": "one"})
        await client.call("waiting", {"count": 1})
        expect(client.link.statistics().in_flight == 1, f"one call runs, and {client.link.statistics()!r}")
        await client.call("release")
        await call.outcome()
        after = client.link.statistics()
        expect((after.in_flight, after.calls - before.calls) == (0, 3), f"three calls later: {after!r}")


# ---- the back-channel ----------------------------------------------------------------------------------------------


@rule()
async def _delivers_progress_in_order_before_the_reply(subject: AdapterUnderTest, era: Era) -> None:
    async with open_subject(subject, era) as client, trio.open_nursery() as nursery:
        backs = [(token, Collector()) for token in (*_TOKENS, *_TOKENS)]
        for token, back in backs:
            client.start(nursery, "progress", {"n": 5}, token=token, back=back)
        silent = Collector()
        client.start(nursery, "progress", {"n": 5}, back=silent)
    for token, back in backs:
        steps = [members_of(message.params) for message in back.messages]
        expect([value_of(step["progress"]) for step in steps] == [1, 2, 3, 4, 5], f"progress came as {back.messages!r}")
        expect(
            {bytes(step["progressToken"]) for step in steps} == {token}, f"progress for {token!r} under another token"
        )
    expect(not silent.messages, "a call without a token got progress")


@rule(Era.LEGACY)
async def _relays_what_the_server_asks_a_call_that_is_alone(subject: AdapterUnderTest, era: Era) -> None:
    async with open_subject(subject, era) as client, trio.open_nursery() as nursery:
        back = Collector()
        call = client.start(nursery, "ask", {}, back=back, alone=True)
        question = await back.next()
        expect(question.method == "elicitation/create" and question.id is not None, f"got {question!r}")
        answer = {"action": "accept", "content": {"name": "me"}}
        await client.link.notify(jsonrpc.result(question.id or b"", answer))
        heard = structured(await call.outcome())
        expect(heard.get("result") == answer, f"the server was answered {heard!r}")


@rule(Era.MODERN)
async def _passes_requests_for_input_on(subject: AdapterUnderTest, era: Era) -> None:
    async with open_subject(subject, era) as client:
        asked = members_of((await client.call("ask")).message.result)
        expect(bytes(asked["resultType"]) == b'"input_required"', f"answered {asked!r}")
        responses = Raw(b'{"name":{"action":"accept","content":{"name":"me"}}}')
        more = {"inputResponses": responses, "requestState": asked["requestState"]}
        params = {**members_of(params_of(client.link, "ask", {})), **more}
        heard = structured(await client.request("tools/call", jsonrpc.raw_of(params)))
        expect(heard.get("inputResponses") == value_of(responses), f"the server was answered {heard!r}")
        expect(heard.get("requestState") == value_of(asked["requestState"]), "the state of the request was lost")


@rule(Era.MODERN)
async def _keeps_a_subscription_under_the_clients_id(subject: AdapterUnderTest, era: Era) -> None:
    async with open_subject(subject, era) as client, trio.open_nursery() as nursery:
        back, wait = Collector(), Wait()
        params = {"notifications": {"toolsListChanged": True}}
        listen = client.start_request(
            nursery, "subscriptions/listen", client.stamped(params), id=b'"listen 7"', back=back, wait=wait
        )
        acknowledged = await back.next()
        expect(acknowledged.method == "notifications/subscriptions/acknowledged", f"got {acknowledged!r}")
        await client.call("notify")
        changed = await back.next()
        expect(changed.method == "notifications/tools/list_changed", f"got {changed!r}")
        for message in (acknowledged, changed):
            id = members_of(members_of(message.params)["_meta"]).get(SUBSCRIPTION_ID)
            expect(id == Raw(b'"listen 7"'), f"the subscription's id came as {id!r}")
        wait.end(ServerTimeout("fixture", "unsubscribed"))
        expect(isinstance(await listen.problem(), ServerTimeout), "the subscription did not end")


@rule(Era.LEGACY)
async def _hands_over_what_belongs_to_no_call(subject: AdapterUnderTest, era: Era) -> None:
    async with open_subject(subject, era) as client:
        await client.call("notify")
        changed = await client.received.next()
        expect(changed.method == "notifications/tools/list_changed", f"got {changed!r}")


@rule(Era.LEGACY)
async def _sends_notifications(subject: AdapterUnderTest, era: Era) -> None:
    async with open_subject(subject, era) as client:
        await client.link.notify(jsonrpc.notification("notifications/roots/list_changed"))
        heard = structured(await client.call("heard", {"count": 2}))["values"]
        expect(
            heard == ["notifications/initialized", "notifications/roots/list_changed"], f"the server heard {heard!r}"
        )


# ---- how a call ends without a reply -------------------------------------------------------------------------------


@rule()
async def _ends_a_call_whose_wait_ends(subject: AdapterUnderTest, era: Era) -> None:
    async with open_subject(subject, era) as client, trio.open_nursery() as nursery:
        wait, why = Wait(), ServerTimeout("fixture", "enough")
        call = client.start(nursery, "slow", {"name": "ended"}, wait=wait)
        other = client.start(nursery, "slow", {"name": "other"})
        await client.call("waiting", {"count": 2})
        wait.end(why)
        expect(await call.problem() is why, "the call did not raise what its wait was ended with")
        await _was_told(client, "ended")
        expect(wait.wake is None, "the wait still holds on to the call")
        await client.call("release")
        expect(text_of(await other.outcome()) == "other", "another call was hit")


@rule()
async def _does_not_begin_a_call_whose_wait_is_over(subject: AdapterUnderTest, era: Era) -> None:
    async with open_subject(subject, era) as client, trio.open_nursery() as nursery:
        wait, why = Wait(), ServerTimeout("fixture", "too late")
        wait.end(why)
        call = client.start(nursery, "slow", {"name": "never"}, wait=wait)
        expect(await call.problem() is why, "the call did not raise what its wait was ended with")


@rule()
async def _ends_a_call_that_is_cancelled(subject: AdapterUnderTest, era: Era) -> None:
    async with open_subject(subject, era) as client, trio.open_nursery() as nursery:
        call = client.start(nursery, "slow", {"name": "cancelled"})
        await client.call("waiting", {"count": 1})
        call.scope.cancel(reason="the caller has gone")
        await call.done.wait()
        expect(call.scope.cancelled_caught, "the call swallowed its cancellation")
        await _was_told(client, "cancelled")
        expect(text_of(await client.call("echo", {"text": "still here"})) == "still here", "the link is broken")


@rule()
async def _ends_a_call_at_its_deadline(subject: AdapterUnderTest, era: Era) -> None:
    sweeper = Sweeper()
    async with open_subject(subject, era) as client, trio.open_nursery() as nursery:
        nursery.start_soon(sweeper.run)
        why = ServerTimeout("fixture", "did not answer in time")
        wait = Wait(trio.current_time() + 0.1, lambda: why)
        sweeper.add(wait)
        call = client.start(nursery, "slow", {"name": "late"}, wait=wait)
        expect(await call.problem() is why, "the call outlived its deadline")
        await _was_told(client, "late")
        nursery.cancel_scope.cancel(reason="the sweeper is not needed any more")


async def _was_told(client: Client, name: str) -> None:
    told = structured(await client.call("cancelled", {"count": 1}))["values"]
    expect(told == [name], f"the server was told to cancel {told!r}")
