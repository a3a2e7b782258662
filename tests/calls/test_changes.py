"""What servers say outside calls: to whom it goes, in which words, and to whom it does not."""

from __future__ import annotations

import attrs
import pytest
import trio
import trio.testing
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Link, Offer, Receive
from mcpgateway.calls.relay import answer
from mcpgateway.config.limits import Limits
from mcpgateway.config.model import Config, HttpServer, InProcessServer, Isolation, Links, Listen
from mcpgateway.errors import InvalidRequest, MethodNotFound
from mcpgateway.jsonrpc import value_of
from mcpgateway.protocol.revisions import Era
from mcpgateway.servers.ledger import LinkKey
from mcpgateway.wire.waiting import Wait
from tests.calls.doubles import ask, gateway_of, handshake, host, legacy, names, session_of, space, use
from tests.calls.newsroom import Newsroom, Stream, asks, listening, newsroom, room, says
from tests.servers.doubles import Counting

ROOTS = b'{"roots":{}}'
OWN = {"a": InProcessServer("a", module="m:s", isolation=Isolation.SESSION)}
EVENTS = Limits().outbox_events_per_session


# ---- listings --------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("feature.70")
@pytest.mark.parametrize("listing", ["tools", "prompts", "resources"])
async def test_a_changed_list_is_told_to_all_who_share_the_link_and_to_no_other(
    listing: str, autojump_clock: trio.testing.MockClock
) -> None:
    one, two = newsroom("a"), newsroom("b")
    async with gateway_of(one, two) as gateway:
        a, b = space(gateway, "a"), space(gateway, "b")
        callers = [legacy(), legacy(), legacy(ROOTS)]
        for number, caller in enumerate(callers):
            session_of(gateway, a, caller, str(number))
        foreign = session_of(gateway, b, legacy(), "foreign")
        async with (
            listening(gateway, a, callers[0]) as first,
            listening(gateway, a, callers[1]) as second,
            listening(gateway, a, callers[2]) as other,
            listening(gateway, b, foreign) as away,
        ):
            await says(one.links[0], f"{listing}/list_changed")

    assert first.methods == second.methods == [f"{listing}/list_changed"]
    assert other.methods == away.methods == []


@pytest.mark.requirement("3.changes.refreshed")
async def test_merged_namespaces_are_made_anew_before_clients_are_told_and_only_if_they_see_a_change(
    autojump_clock: trio.testing.MockClock,
) -> None:
    one, two = newsroom("a"), newsroom("b")
    async with gateway_of(one, two) as gateway:
        merged = space(gateway)
        caller = session_of(gateway, merged, legacy())
        async with listening(gateway, merged, caller) as stream:
            await ask(merged, caller, "tools/list")
            await says(one.links[0], "tools/list_changed")
            assert stream.methods == []
            tools = room(one).tools
            tools["fresh"] = tools["echo"]
            room(one).seen.clear()
            await says(one.links[0], "tools/list_changed")
            assert stream.methods == ["tools/list_changed"]
            assert len(room(one).asked("tools/list")) == 1
            assert "a_fresh" in names(await ask(merged, caller, "tools/list"))
            await says(one.links[0], "tools/list_changed")
            assert stream.methods == ["tools/list_changed"]


async def test_a_client_that_listed_meanwhile_is_not_told_and_the_others_are(
    autojump_clock: trio.testing.MockClock,
) -> None:
    one = newsroom("a")
    async with gateway_of(one, newsroom("b")) as gateway:
        merged = space(gateway)
        quick, slow = (session_of(gateway, merged, legacy(), id) for id in ("quick", "slow"))
        for caller in (quick, slow):
            await ask(merged, caller, "tools/list")
        room(one).tools.pop("big")
        await ask(merged, quick, "tools/list")
        async with listening(gateway, merged, quick) as knows, listening(gateway, merged, slow) as does_not:
            await says(one.links[0], "tools/list_changed")

    assert (knows.methods, does_not.methods) == ([], ["tools/list_changed"])


async def test_many_changes_at_once_make_one_listing_more(autojump_clock: trio.testing.MockClock) -> None:
    one = newsroom("a")
    async with gateway_of(one, newsroom("b")) as gateway:
        merged = space(gateway)
        caller = session_of(gateway, merged, legacy())
        await ask(merged, caller, "tools/list")
        room(one).seen.clear()
        for _ in range(50):
            one.links[0].send(jsonrpc.notification("notifications/tools/list_changed"))
        await trio.testing.wait_all_tasks_blocked()

        assert len(room(one).asked("tools/list")) == 1


@pytest.mark.requirement("4.children.restart")
@pytest.mark.parametrize("name", ["a", ""])
async def test_a_server_that_comes_back_with_other_tools_has_changed(
    name: str, autojump_clock: trio.testing.MockClock
) -> None:
    one = newsroom("a")
    async with gateway_of(one, newsroom("b")) as gateway:
        namespace = space(gateway, name)
        caller = session_of(gateway, namespace, legacy())
        for method in ("tools/list", "prompts/list", "resources/list", "resources/templates/list"):
            await ask(namespace, caller, method)
        async with listening(gateway, namespace, caller) as stream:
            type(room(one)).prompts = lambda self: [{"name": "new"}]  # type: ignore[method-assign]  # the next
            one.links[0].crash("killed")
            await trio.sleep(60)

    changed = [method for method in stream.methods if method.endswith("list_changed")]
    assert "prompts/list_changed" in changed
    if name == "":  # where the gateway knows what was listed
        assert changed == ["prompts/list_changed"]


async def test_the_link_of_somebody_who_listens_outlasts_the_idle_time_and_no_longer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    one = newsroom("a")
    none = {"a": InProcessServer("a", module="m:s", links=Links(min=0))}
    async with gateway_of(one, configs=none) as gateway:
        namespace = space(gateway, "a")
        caller = session_of(gateway, namespace, legacy(ROOTS))
        await use(namespace, caller, "echo")
        async with listening(gateway, namespace, caller) as stream:
            await trio.sleep(1000)
            assert len(one.open) == 1
            await says(one.links[-1], "tools/list_changed")
            assert stream.methods == ["tools/list_changed"]
        await trio.sleep(1000)
        assert one.open == []


# ---- streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("feature.15")
async def test_what_is_said_while_nobody_listens_waits_for_the_next_stream(
    autojump_clock: trio.testing.MockClock,
) -> None:
    one = newsroom("a")
    async with gateway_of(one) as gateway:
        namespace = space(gateway, "a")
        caller = session_of(gateway, namespace, legacy())
        await says(one.links[0], "tools/list_changed")
        await says(one.links[0], "prompts/list_changed")
        await says(one.links[0], "tools/list_changed")
        assert gateway.statistics().changes.waiting == 2
        async with listening(gateway, namespace, caller) as stream:
            assert stream.methods == ["tools/list_changed", "prompts/list_changed"]
        assert gateway.statistics().changes.waiting == 0


async def test_a_second_stream_of_a_session_is_refused_and_a_stream_ends_with_its_session(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with gateway_of(newsroom("a")) as gateway:
        namespace = space(gateway, "a")
        caller = session_of(gateway, namespace, legacy())
        async with listening(gateway, namespace, caller):
            with pytest.raises(InvalidRequest, match="has a stream open") as refused:
                await namespace.listen(caller, None, Wait(), Stream())
            assert refused.value.status == 409
            assert caller.session is not None
            gateway.sessions.close(caller.session)
            await trio.testing.wait_all_tasks_blocked()
            assert caller.session.streams == set()


async def test_there_is_no_stream_without_a_session(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway_of(newsroom("a"), newsroom("b")) as gateway:
        for name in ("", "a"):
            with pytest.raises(MethodNotFound) as refused:
                await space(gateway, name).listen(legacy(), None, Wait(), Stream())
            assert refused.value.status == 405


async def test_a_session_whose_client_listens_is_not_idle(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway_of(newsroom("a")) as gateway:
        namespace = space(gateway, "a")
        caller = session_of(gateway, namespace, legacy())
        async with listening(gateway, namespace, caller):
            await trio.sleep(50_000)
            assert len(gateway.sessions) == 1
        await trio.sleep(50_000)
        assert len(gateway.sessions) == 0


async def test_what_finds_no_room_is_dropped_and_counted(autojump_clock: trio.testing.MockClock) -> None:
    one = newsroom("a")
    async with gateway_of(one) as gateway:
        namespace = space(gateway, "a")
        caller = session_of(gateway, namespace, legacy())
        await ask(namespace, caller, "logging/setLevel", {"level": "debug"})
        for number in range(EVENTS + 3):
            await says(one.links[0], "message", level="info", data=number)
        assert gateway.statistics().changes.dropped == 3
        async with listening(gateway, namespace, caller) as stream:
            assert stream.params("data") == list(range(3, EVENTS + 3))


# ---- sessions with a link of their own -------------------------------------------------------------------------------


async def test_a_link_of_ones_own_brings_everything_as_it_is(autojump_clock: trio.testing.MockClock) -> None:
    one = newsroom("a")
    async with gateway_of(one, configs=OWN) as gateway:
        namespace = space(gateway, "a")
        callers = [legacy(), legacy()]
        for number, caller in enumerate(callers):
            await namespace.initialize(caller, handshake(), str(number))
            gateway.sessions.open(str(number), "a", caller)
        await ask(namespace, callers[0], "resources/subscribe", {"uri": "x:/1"})
        await ask(namespace, callers[0], "resources/subscribe", {"uri": "x:/1"})
        assert room(one, 1).asked_for("resources/subscribe") == ["x:/1", "x:/1"]
        async with (
            listening(gateway, namespace, callers[0]) as mine,
            listening(gateway, namespace, callers[1]) as other,
        ):
            for method in ("resources/updated", "message", "x/unknown", "tasks/status"):
                await says(one.links[1], method, uri="x:/9", level="debug", deep=[1.0])
            assert mine.methods == ["resources/updated", "message", "x/unknown", "tasks/status"]
            assert other.methods == []


@pytest.mark.requirement("feature.15")
async def test_a_servers_request_reaches_its_one_client_and_the_answer_goes_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    one = newsroom("a")
    async with gateway_of(one, configs=OWN) as gateway:
        namespace, caller = space(gateway, "a"), legacy(ROOTS)
        await namespace.initialize(caller, handshake("me", ROOTS), "id")
        gateway.sessions.open("id", "a", caller)
        link = one.links[-1]
        async with listening(gateway, namespace, caller) as stream:
            await asks(link, b"7", "roots/list")
            await asks(link, b"8", "sampling/createMessage")
            await asks(link, b"9", "ping")
            (question,) = stream.messages
            assert question.method == "roots/list"
            assert question.id not in (b"7", None)
            assert await answer(caller, jsonrpc.result(question.id or b"", {"roots": []}))
            assert not await answer(caller, jsonrpc.result(question.id or b"", {"roots": []}))
            await asks(link, b'"x"', "roots/list")
            again = stream.messages[-1].id
            await says(link, "cancelled", requestId="x")
            await says(link, "cancelled", requestId="never asked")

    answers = {message.id: message for message in room(one).answers}
    assert value_of(answers[b"7"].result or b"") == {"roots": []}
    assert jsonrpc.error_code(answers[b"8"]) == -32601
    assert value_of(answers[b"9"].result or b"") == {}
    assert stream.methods == ["roots/list", "roots/list", "cancelled"]
    assert [stream.messages[-1].encode().count(again or b"?")] == [1]


async def test_a_servers_request_on_a_link_of_many_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    one = newsroom("a")
    async with gateway_of(one) as gateway:
        namespace = space(gateway, "a")
        caller = session_of(gateway, namespace, legacy(ROOTS))
        await use(namespace, caller, "echo")
        async with listening(gateway, namespace, caller) as stream:
            await asks(one.links[-1], b"7", "roots/list")
            assert stream.messages == []
    (refusal,) = room(one).answers
    assert jsonrpc.error_code(refusal) == -32601


async def test_a_request_that_the_client_never_takes_is_refused_in_the_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    one = newsroom("a")
    async with gateway_of(one, configs=OWN) as gateway:
        namespace, caller = space(gateway, "a"), legacy(ROOTS)
        await namespace.initialize(caller, handshake("me", ROOTS), "id")
        session = gateway.sessions.open("id", "a", caller)
        await asks(one.links[-1], b"7", "roots/list")
        for _ in range(EVENTS):
            await says(one.links[-1], "message", level="info", data=1)
        assert session.questions == {}
        (refusal,) = room(one).answers
        assert (refusal.id, refusal.error is not None) == (b"7", True)


async def test_a_link_of_ones_own_in_a_merged_namespace_is_told_apart(autojump_clock: trio.testing.MockClock) -> None:
    one, two = newsroom("a"), newsroom("b")
    configs = {name: HttpServer(name, url=f"http://{name}/mcp") for name in "ab"}
    async with gateway_of(one, two, configs=configs) as gateway:
        merged = space(gateway)
        callers = [session_of(gateway, merged, legacy(ROOTS), id) for id in ("ann", "bob")]
        for caller in callers:
            await use(merged, caller, "a_echo")
        ann = one.links[1]
        async with listening(gateway, merged, callers[0]) as mine, listening(gateway, merged, callers[1]) as other:
            await ask(merged, callers[0], "resources/subscribe", {"uri": "book://a/1"})
            await says(ann, "resources/updated", uri="book://a/1")
            await says(ann, "tools/list_changed")
            await asks(ann, b"1", "roots/list")
            assert mine.methods[0] == "resources/updated"
            assert mine.methods[-1] == "roots/list"
            assert other.methods == []
        for caller in callers:
            assert caller.session is not None
            gateway.sessions.close(caller.session)
        await trio.testing.wait_all_tasks_blocked()
        assert room(one, 1).asked("resources/unsubscribe") == []
        assert gateway.statistics().changes.subscriptions == 0


async def test_a_request_that_waits_is_refused_when_what_comes_for_others_needs_its_room(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """All outboxes have one bound together; who has been away for longest loses the oldest, which may be a question."""
    one = newsroom("a")
    limits = Limits(outbox_bytes=400)
    async with gateway_of(one, configs=OWN, config=Config(listen=Listen(limits=limits))) as gateway:
        namespace = space(gateway, "a")
        callers = [legacy(ROOTS), legacy()]
        for number, caller in enumerate(callers):
            await namespace.initialize(caller, handshake(), str(number))
            gateway.sessions.open(str(number), "a", caller)
        asking, telling = one.links[-2:]
        await asks(asking, b"7", "roots/list")
        assert room(one, -2).answers == []
        await says(telling, "message", level="info", data="x" * 300)

        (refusal,) = room(one, -2).answers
        assert (jsonrpc.error_code(refusal), refusal.id) == (-32603, b"7")
        assert callers[0].session is not None
        assert callers[0].session.questions == {}
        assert gateway.statistics().changes.dropped == 1
        outboxes = gateway.statistics().clients["outbox_bytes"]
        assert (outboxes.displaced, 300 < outboxes.held <= 400) == (1, True)


class Hasty(Counting):
    """A server that asks before its handshake has been seen to the end."""

    async def connect(self, nursery: trio.Nursery, offer: Offer, receive: Receive) -> Link:
        link = await super().connect(nursery, offer, receive)
        self.links[-1].send(jsonrpc.request(b"7", "roots/list", {}))
        for number in range(100):
            self.links[-1].send(jsonrpc.notification("notifications/message", {"level": "info", "data": number}))
        return link


async def test_what_comes_before_the_handshake_is_over_is_heard_within_bounds(
    autojump_clock: trio.testing.MockClock,
) -> None:
    one = Hasty("a", Newsroom, eras={Era.LEGACY})
    async with gateway_of(one, configs=OWN) as gateway:
        await trio.testing.wait_all_tasks_blocked()
        assert [jsonrpc.error_code(message) for message in room(one).answers] == [-32601]
        caller = session_of(gateway, space(gateway, "a"), legacy())
        await use(space(gateway, "a"), caller, "echo")
        await trio.testing.wait_all_tasks_blocked()
        assert caller.session is not None
        assert len(caller.session.outbox) == 63  # of 64 messages kept, the first being the request


@pytest.mark.parametrize("capabilities", [b'{"tools":1e999}', b'{"tools":{"listChanged":1e999}}', b'{"tools":[]}'])
async def test_a_server_whose_capabilities_cannot_be_read_announces_nothing(
    capabilities: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    one = newsroom("a")
    async with gateway_of(one) as gateway:
        server = gateway.servers["a"]
        session_of(gateway, space(gateway, "a"), caller := legacy())
        await use(space(gateway, "a"), caller, "echo", text="x")
        negotiated = server.spoken[Era.LEGACY]
        assert negotiated is not None
        server.spoken[Era.LEGACY] = attrs.evolve(negotiated, capabilities=Raw(capabilities))

        gateway.changes.relinked(server, LinkKey(Era.LEGACY, b"{}"))
        await trio.testing.wait_all_tasks_blocked()

        assert host(one).asked("tools/list") == []
