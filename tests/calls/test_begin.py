"""Calls that are begun without a task: what is leased and watched is given back, whatever becomes of the call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Back, Event, Reply
from mcpgateway.errors import CallCancelled, ServerSessionLost, ServerTimeout, ServerUnavailable
from mcpgateway.gateway import Gateway
from mcpgateway.protocol.revisions import Era
from mcpgateway.sessions.caller import Caller
from mcpgateway.wire.waiting import Wait
from tests.calls.doubles import Collecting, ask, gateway_of, legacy, library, names, result, session_of, space
from tests.calls.held import CALL, HeldLink, begin, begun

PROGRESS = jsonrpc.notification("notifications/progress", {"progressToken": 1, "progress": 1})


@asynccontextmanager
async def one_server() -> AsyncIterator[tuple[Gateway, HeldLink]]:
    adapter = library("a", eras={Era.LEGACY})
    adapter.link_class = HeldLink
    async with gateway_of(adapter) as gateway:
        link = adapter.links[-1]
        assert isinstance(link, HeldLink)
        await ask(space(gateway, "a"), legacy(), "tools/call", CALL)  # the first call has its link found
        yield gateway, link


def reply(text: str) -> Reply:
    content = {"content": [{"type": "text", "text": text}], "x": Raw(b"1.0")}
    return Reply(jsonrpc.result(b"7", content))


def nothing_is_left(gateway: Gateway, *, waits: int = 0) -> bool:
    (server,) = gateway.statistics().servers
    return (
        gateway.statistics().waits == waits and gateway.servers["a"]._links.slots[0].calls == 0 and server.waiting == 0
    )


async def test_a_reply_comes_as_it_is_and_all_is_given_back() -> None:
    async with one_server() as (gateway, link):
        settled = begun(space(gateway, "a"), legacy(), Wait())
        assert not nothing_is_left(gateway)
        answer = reply("hi")
        link.held[0][1](answer)

        assert settled.only is answer
        assert nothing_is_left(gateway)


async def test_an_error_goes_on_in_a_task_and_all_is_given_back() -> None:
    async with one_server() as (gateway, link):
        settled = begun(space(gateway, "a"), legacy(), Wait())
        link.held[0][1](ServerUnavailable("a", "went away"))

        with pytest.raises(ServerUnavailable, match="went away"):
            await settled.go_on(Collecting())
        assert nothing_is_left(gateway)


async def test_what_comes_before_the_reply_is_delivered_by_the_continuation() -> None:
    async with one_server() as (gateway, link):
        settled = begun(space(gateway, "a"), legacy(), Wait())

        async def rest(back: Back) -> Reply:
            await back.send(Event(PROGRESS))
            return reply("late")

        link.held[0][1](rest)
        back = Collecting()

        assert result(await settled.go_on(back))["content"] == [{"type": "text", "text": "late"}]
        assert [message.method for message in back.messages] == ["notifications/progress"]
        assert nothing_is_left(gateway)


async def test_a_continuation_that_is_cancelled_gives_all_back() -> None:
    async with one_server() as (gateway, link):
        settled = begun(space(gateway, "a"), legacy(), Wait())

        async def forever(back: Back) -> Reply:
            await trio.sleep_forever()
            raise AssertionError

        link.held[0][1](forever)
        with trio.move_on_after(0):
            await settled.go_on(Collecting())
        assert nothing_is_left(gateway)


async def test_the_deadline_of_the_server_is_kept(autojump_clock: trio.testing.MockClock) -> None:
    async with one_server() as (gateway, _link):
        settled = begun(space(gateway, "a"), legacy(), Wait())
        await trio.sleep(62)

        with pytest.raises(ServerTimeout, match="did not answer within 60 s"):
            await settled.go_on(Collecting())
        assert nothing_is_left(gateway)


async def test_ending_the_wait_ends_the_call() -> None:
    async with one_server() as (gateway, _link):
        wait = Wait()
        settled = begun(space(gateway, "a"), legacy(), wait)
        wait.end(CallCancelled("enough"))

        with pytest.raises(CallCancelled, match="enough"):
            await settled.go_on(Collecting())
        assert nothing_is_left(gateway)


async def test_a_session_that_the_server_lost_is_opened_again_where_it_is_nobodys_own() -> None:
    async with one_server() as (gateway, link):
        settled = begun(space(gateway, "a"), legacy(), Wait())
        link.held[0][1](ServerSessionLost("a", "no longer knows the session"))

        assert result(await settled.go_on(Collecting()))["content"] == [{"type": "text", "text": "hi"}]
        assert nothing_is_left(gateway)


async def test_a_lost_session_of_the_clients_own_is_the_clients_to_open() -> None:
    async with one_server() as (gateway, link):
        namespace = space(gateway, "a")
        caller = session_of(gateway, namespace, legacy())
        caller.handshake = Raw(b"{}")
        settled = begun(namespace, caller, Wait())
        link.held[0][1](ServerSessionLost("a", "no longer knows the session"))

        with pytest.raises(ServerSessionLost):
            await settled.go_on(Collecting())
        assert caller.session is not None
        assert caller.session.lost


@pytest.mark.parametrize("case", ["may be asked", "takes any era", "no link yet", "the link declines"])
async def test_what_may_have_to_wait_is_not_begun(case: str) -> None:
    async with one_server() as (gateway, link):
        caller = legacy()
        if case == "may be asked":
            caller = legacy(b'{"elicitation":{}}')
        elif case == "takes any era":
            caller = Caller(None, "2025-11-25", Raw(b"{}"))
        elif case == "no link yet":
            caller = legacy(b'{"tasks":{"x":{}}}')
        else:
            link.takes = False

        assert begin(space(gateway, "a"), caller, Wait()) is None
        assert nothing_is_left(gateway)


async def test_merged_namespaces_begin_what_their_table_knows_and_name_the_server() -> None:
    async with one_server() as (gateway, link):
        merged, caller = space(gateway), legacy()
        params = {"name": "a_echo", "arguments": {}}
        assert begin(merged, caller, Wait(), params) is None

        assert "a_echo" in names(await ask(merged, caller, "tools/list"))
        settled = begun(merged, caller, Wait(), params)
        request, done = link.held[0]
        done(reply("hi"))

        assert jsonrpc.members_of(request.message.params)["name"] == Raw(b'"echo"')
        answer = settled.only
        assert isinstance(answer, Reply)
        assert jsonrpc.members_of(answer.message.result)["x"] == Raw(b"1.0")
        assert result(answer)["_meta"] == {"io.github.mcpgateway/server": "a"}
        assert begin(merged, caller, Wait(), {"name": "a_nothing"}) is None


async def test_a_continuation_in_a_merged_namespace_names_the_server_too() -> None:
    async with one_server() as (gateway, link):
        merged, caller = space(gateway), legacy()
        await ask(merged, caller, "tools/list")
        settled = begun(merged, caller, Wait(), {"name": "a_echo", "arguments": {}})

        async def rest(back: Back) -> Reply:
            await trio.lowlevel.checkpoint()
            return reply("late")

        link.held[0][1](rest)

        assert result(await settled.go_on(Collecting()))["_meta"] == {"io.github.mcpgateway/server": "a"}
