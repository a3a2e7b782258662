"""A legacy client of a modern server: handshake, calls, listings, and what it is asked."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.calls.keys import era_for
from mcpgateway.calls.legacy_clients import ROUNDS
from mcpgateway.calls.relay import answer
from mcpgateway.config.model import EraPolicy, HttpServer, InProcessServer
from mcpgateway.errors import (
    JSON,
    CallCancelled,
    HeaderMismatch,
    InvalidParams,
    MethodNotFound,
    ServerTimeout,
)
from mcpgateway.jsonrpc import Message, members_of, value_of
from mcpgateway.protocol.envelope import CLIENT_CAPABILITIES, CLIENT_INFO, LOG_LEVEL, PROTOCOL_VERSION
from mcpgateway.protocol.revisions import LATEST_MODERN, Era
from mcpgateway.protocol.translation.questions import KEY
from mcpgateway.sessions.store import QUESTIONS
from tests.calls.doubles import (
    Collecting,
    Library,
    ask,
    gateway_of,
    handshake,
    legacy,
    library,
    modern,
    names,
    result,
    space,
    use,
)
from tests.calls.doubles import host as library_of
from tests.calls.seminar import (
    EVERYTHING,
    FORM,
    MODERN_ONLY,
    ROOTS,
    SAMPLE,
    URL,
    calling,
    host,
    opened,
    seminar,
)
from tests.servers.doubles import Counting

BOTH_NAMESPACES = pytest.mark.parametrize("name", ["a", ""])
HTTP = HttpServer("a", url="http://a/mcp")
PREFIX = {"a": "", "": "a_"}


def meta_of(message: Message) -> dict[str, JSON]:
    meta = value_of(members_of(message.params)["_meta"])
    assert isinstance(meta, dict)
    return meta


# ---- handshakes ------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("bridge.handshake.legacy-to-modern")
@pytest.mark.parametrize("config", [InProcessServer("a", module="m:s"), HTTP])
async def test_the_handshake_is_answered_from_the_servers_discovery(
    config: InProcessServer | HttpServer, autojump_clock: trio.testing.MockClock
) -> None:
    adapter = library("a", eras=MODERN_ONLY)
    async with gateway_of(adapter, configs={"a": config}) as gateway:
        namespace = space(gateway, "a")
        raw, kept = await namespace.initialize(legacy(), handshake(), "id")
        older, _ = await namespace.initialize(legacy(revision="2025-03-26"), handshake(revision="2025-03-26"), "2")
        got = value_of(raw)

        assert kept
        assert namespace.keeps_sessions
        assert not namespace.passes_through
        assert isinstance(got, dict)
        assert got["protocolVersion"] == "2025-11-25"
        assert got["serverInfo"] == {"name": "a", "version": "1"}
        assert got["instructions"] == Library.instructions
        assert isinstance(got["capabilities"], dict)
        assert {"tools", "prompts", "resources", "completions", "logging"} <= got["capabilities"].keys()
        assert not got.keys() & {"resultType", "supportedVersions", "ttlMs", "cacheScope"}
        assert value_of(members_of(older)["protocolVersion"]) == "2025-03-26"
        assert all(link.negotiated.era is Era.MODERN for link in adapter.links)


async def test_a_merged_namespace_offers_what_the_servers_of_both_eras_have(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Extended(Library):
        def _capabilities(self) -> dict[str, JSON]:
            return {**super()._capabilities(), "extensions": {"x/y": {}}, "tasks": {}}

    old, new = library("old", eras={Era.LEGACY}), Counting("new", Extended, eras=MODERN_ONLY)
    async with gateway_of(old, new) as gateway:
        raw, _ = await space(gateway).initialize(legacy(), handshake(), "id")

    got = value_of(raw)
    assert isinstance(got, dict)
    assert isinstance(got["capabilities"], dict)
    assert set(got["capabilities"]) == {"tools", "prompts", "resources", "completions", "logging"}
    assert got["instructions"] == f"# old\n\n{Library.instructions}\n\n# new\n\n{Library.instructions}"


# ---- calls -----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("bridge.envelope.legacy-to-modern")
@BOTH_NAMESPACES
async def test_a_call_goes_out_with_what_the_session_says_of_its_client(
    name: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with gateway_of(library("a", eras=MODERN_ONLY)) as gateway:
        namespace = space(gateway, name)
        caller = await opened(gateway, namespace, EVERYTHING)
        params = {"name": PREFIX[name] + "unknown", "arguments": {"n": 1}, "_meta": {"vendor/x": 1}, "x-odd": [1.0]}
        got = result(await ask(namespace, caller, "tools/call", params))

    received = got.pop("received")
    assert isinstance(received, dict)
    assert received.pop("_meta") == {
        "vendor/x": 1,
        PROTOCOL_VERSION: LATEST_MODERN,
        CLIENT_CAPABILITIES: {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}},
    }
    assert received == {"name": "unknown", "arguments": {"n": 1}, "x-odd": [1.0]}
    assert "resultType" not in got
    assert got["x-top"] == 123456789012345678901234567890


async def test_who_the_client_says_it_is_goes_along(autojump_clock: trio.testing.MockClock) -> None:
    info = {"name": "reader", "version": "7", "x": 1}
    params = jsonrpc.raw_of({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info})
    adapter = library("a", eras=MODERN_ONLY)
    async with gateway_of(adapter) as gateway:
        for name in ("a", ""):
            caller = legacy()
            await space(gateway, name).initialize(caller, params, "id")
            await ask(space(gateway, name), caller, "prompts/get", {"name": "greet" if name else "a_greet"})
        prompts = library_of(adapter).asked("prompts/get")

    assert [meta_of(message)[CLIENT_INFO] for message in prompts] == [info, info]


@pytest.mark.requirement("bridge.result.legacy-to-modern")
async def test_everything_listed_is_used_in_a_merged_namespace_of_both_eras(
    autojump_clock: trio.testing.MockClock,
) -> None:
    new = library("new", eras=MODERN_ONLY)
    async with gateway_of(library("old", eras={Era.LEGACY}), new) as gateway:
        namespace = space(gateway)
        caller = await opened(gateway, namespace)
        tools = result(await ask(namespace, caller, "tools/list"))
        assert {tool.partition("_")[0] for tool in names(await ask(namespace, caller, "tools/list"))} == {"old", "new"}
        assert not tools.keys() & {"resultType", "ttlMs", "cacheScope", "_meta"}
        for server in ("old", "new"):
            text = {"content": [{"type": "text", "text": "hi"}], "_meta": {"io.github.mcpgateway/server": server}}
            assert await use(namespace, caller, f"{server}_echo", text="hi") == text
            prompt = result(await ask(namespace, caller, "prompts/get", {"name": f"{server}_greet"}))
            assert prompt["description"] == f"greet of {server}"
            read = result(await ask(namespace, caller, "resources/read", {"uri": f"book://{server}/1"}))
            assert read["contents"] == [{"uri": f"book://{server}/1", "text": f"book://{server}/1 of {server}"}]
            assert not read.keys() & {"resultType", "ttlMs", "cacheScope"}
            reference = {"type": "ref/prompt", "name": f"{server}_greet"}
            argument = {"name": "x", "value": ""}
            completed = await ask(namespace, caller, "completion/complete", {"ref": reference, "argument": argument})
            assert result(completed)["completion"] == {"values": [{"type": "ref/prompt", "name": "greet"}]}


@pytest.mark.requirement("bridge.ping.legacy-to-modern")
@BOTH_NAMESPACES
async def test_pings_are_answered_here(name: str, autojump_clock: trio.testing.MockClock) -> None:
    adapter = library("a", eras=MODERN_ONLY)
    async with gateway_of(adapter) as gateway:
        caller = await opened(gateway, space(gateway, name))
        assert result(await ask(space(gateway, name), caller, "ping")) == {}
        assert library_of(adapter).asked("ping") == []


@pytest.mark.requirement("bridge.tasks.legacy-to-modern")
@pytest.mark.parametrize(
    "method", ["server/discover", "subscriptions/listen", "tasks/get", "tasks/list", "tasks/result", "tasks/cancel"]
)
async def test_methods_that_mean_something_else_do_not_cross(
    method: str, autojump_clock: trio.testing.MockClock
) -> None:
    adapter = library("a", eras=MODERN_ONLY)
    async with gateway_of(adapter) as gateway:
        caller = await opened(gateway, space(gateway, "a"), b'{"tasks":{}}')
        with pytest.raises(MethodNotFound):
            await ask(space(gateway, "a"), caller, method, {"taskId": "t"})
        called = {"name": "unknown", "task": {"ttl": 1}}
        received = result(await ask(space(gateway, "a"), caller, "tools/call", called))["received"]
        assert isinstance(received, dict)
        assert received.keys() == {"name", "_meta"}


@pytest.mark.requirement("bridge.progress.legacy-to-modern", "bridge.ids.legacy-to-modern")
async def test_progress_comes_under_the_clients_token_and_ids_are_new(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = library("a", eras=MODERN_ONLY)
    async with gateway_of(adapter) as gateway:
        namespace, back = space(gateway, "a"), Collecting()
        caller = await opened(gateway, namespace)
        params = {"name": "progress", "arguments": {"n": 2}, "_meta": {"progressToken": "mine"}}
        await ask(namespace, caller, "tools/call", params, back=back)
        await use(namespace, caller, "echo")

        ids = library_of(adapter).ids
        assert [value_of(members_of(message.params)["progressToken"]) for message in back.messages] == ["mine", "mine"]
        assert len(set(map(bytes, ids))) == len(ids)
        assert Raw(b'"c1"') not in ids


@pytest.mark.requirement("bridge.paging.legacy-to-modern")
async def test_a_raw_namespace_passes_cursors_on(autojump_clock: trio.testing.MockClock) -> None:
    class Pages(Library):
        def handle(self, message: Message) -> list[Message]:
            if message.method != "tools/list":
                return super().handle(message)
            self.seen.append(message)
            return [jsonrpc.result(message.id or b"", {"tools": [], "nextCursor": "é 2"})]

    adapter = Counting("a", Pages, eras=MODERN_ONLY)
    async with gateway_of(adapter) as gateway:
        caller = await opened(gateway, space(gateway, "a"))
        got = result(await ask(space(gateway, "a"), caller, "tools/list", {"cursor": "é 1"}))
        (seen,) = library_of(adapter).asked("tools/list")

    assert got == {"tools": [], "nextCursor": "é 2"}
    assert value_of(members_of(seen.params)["cursor"]) == "é 1"


@pytest.mark.requirement("bridge.errors.legacy-to-modern")
async def test_an_error_is_the_servers_in_words_that_the_client_knows(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Strict(Library):
        def handle(self, message: Message) -> list[Message]:
            if message.method in ("tools/call", "resources/read"):
                data: dict[str, JSON] = {"uri": "book://x"}
                problem = InvalidParams("not here", data=data)
                if message.method == "tools/call":
                    problem = HeaderMismatch("odd")  # type: ignore[assignment]  # another error
                return [jsonrpc.error(message.id, problem)]
            return super().handle(message)

    async with gateway_of(Counting("a", Strict, eras=MODERN_ONLY)) as gateway:
        caller = await opened(gateway, space(gateway, "a"))
        read = await ask(space(gateway, "a"), caller, "resources/read", {"uri": "book://x"})
        called = await ask(space(gateway, "a"), caller, "tools/call", {"name": "echo"})

    assert (read.status, jsonrpc.error_code(read.message)) == (200, -32002)
    assert (called.status, jsonrpc.error_code(called.message)) == (200, -32603)


@pytest.mark.requirement("bridge.cancel.legacy-to-modern")
@BOTH_NAMESPACES
async def test_a_cancelled_call_is_cancelled_at_the_server(name: str, autojump_clock: trio.testing.MockClock) -> None:
    adapter = library("a", eras=MODERN_ONLY)
    async with gateway_of(adapter) as gateway:
        caller = await opened(gateway, space(gateway, name))
        slow = {"name": PREFIX[name] + "slow", "arguments": {"name": "it"}}
        async with calling(space(gateway, name), caller, params=slow) as asked:
            asked.wait.end(CallCancelled("cancelled by the client"))
        await trio.testing.wait_all_tasks_blocked()

        assert isinstance(asked.problem, CallCancelled)
        assert library_of(adapter).cancelled == ["it"]


@pytest.mark.requirement("bridge.handshake.legacy-to-modern")
async def test_notifications_that_no_modern_server_knows_stay_here(autojump_clock: trio.testing.MockClock) -> None:
    adapter = library("a", eras=MODERN_ONLY)
    async with gateway_of(adapter) as gateway:
        for name in ("a", ""):
            caller = await opened(gateway, space(gateway, name), EVERYTHING, id=f"session of {name}")
            for method in ("initialized", "roots/list_changed", "cancelled"):
                await space(gateway, name).notify(caller, jsonrpc.notification(f"notifications/{method}", {}))
        await space(gateway, "a").notify(caller, jsonrpc.notification("notifications/vendor", {}))

        assert library_of(adapter).heard == ["notifications/vendor"]


# ---- the choice of the era -------------------------------------------------------------------------------------------


@pytest.mark.requirement("5.era-choice")
async def test_a_server_of_both_eras_is_spoken_to_in_the_clients(autojump_clock: trio.testing.MockClock) -> None:
    adapter = library("a")
    async with gateway_of(adapter, library("b")) as gateway:
        caller = await opened(gateway, space(gateway, "a"), EVERYTHING)
        await use(space(gateway, "a"), caller, "echo")
        await use(space(gateway), modern(), "a_echo")

        assert [link.negotiated.era for link in adapter.links] == [Era.MODERN, Era.LEGACY]
        assert [message.method for message in library_of(adapter).asked("tools/call")] == ["tools/call"]


@pytest.mark.requirement("5.era-choice")
async def test_a_server_may_be_spoken_to_in_one_era_always(autojump_clock: trio.testing.MockClock) -> None:
    adapter = library("a")
    fixed = InProcessServer("a", module="m:s", era=EraPolicy.MODERN)
    async with gateway_of(adapter, configs={"a": fixed}) as gateway:
        for name in ("a", ""):
            caller = await opened(gateway, space(gateway, name), id=f"session of {name}")
            assert await use(space(gateway, name), caller, PREFIX[name] + "echo", text="hi")

        assert [link.negotiated.era for link in adapter.links] == [Era.MODERN]


@pytest.mark.requirement("5.era-choice")
@pytest.mark.parametrize(("capabilities", "era"), [(b"{}", Era.LEGACY), (EVERYTHING, Era.MODERN)])
async def test_a_client_that_can_be_asked_is_bridged_where_the_legacy_leg_keeps_no_session(
    capabilities: bytes, era: Era, autojump_clock: trio.testing.MockClock
) -> None:
    adapter = library("a")
    adapter.stateful = False
    async with gateway_of(adapter, configs={"a": HTTP}) as gateway:
        caller = legacy(capabilities)
        raw, kept = await space(gateway, "a").initialize(caller, handshake(capabilities=capabilities), "id")

        assert kept is (era is Era.MODERN)
        assert era_for(caller, gateway.servers["a"]) is era
        assert value_of(members_of(raw)["protocolVersion"]) == "2025-11-25"
        assert await use(space(gateway, "a"), caller, "echo", text="hi")


async def test_a_session_goes_on_when_its_server_comes_back_without_its_era(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = library("a", eras={Era.LEGACY})
    async with gateway_of(adapter) as gateway:
        namespace = space(gateway, "a")
        caller = await opened(gateway, namespace, EVERYTHING)
        await use(namespace, caller, "echo")
        adapter._eras = MODERN_ONLY
        for link in adapter.links:
            link.crash("went away")
        await trio.sleep(5)
        assert await use(namespace, caller, "echo", text="hi")
        assert result(await ask(namespace, caller, "logging/setLevel", {"level": "debug"})) == {}
        assert await use(namespace, caller, "echo", text="hi")

        (call,) = library_of(adapter).asked("tools/call")[-1:]
        assert meta_of(call)[LOG_LEVEL] == "debug"


# ---- questions -------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("bridge.asks.legacy-to-modern", "5.legacy-client")
@pytest.mark.parametrize("name", ["a", ""])
@pytest.mark.parametrize(
    ("method", "params"),
    [("tools/call", {"name": "echo"}), ("prompts/get", {"name": "greet"}), ("resources/read", {"uri": "book://a/1"})],
)
async def test_all_questions_of_a_round_are_asked_at_once_and_the_answers_come_with_the_exact_state(
    name: str, method: str, params: dict[str, str], autojump_clock: trio.testing.MockClock
) -> None:
    state = 'a "state" é\n\\'
    first: dict[str, JSON] = {"inputRequests": {"who é": FORM, "what": SAMPLE, "where": ROOTS}, "requestState": state}
    second: dict[str, JSON] = {"inputRequests": {"url": URL}}
    adapter = seminar("a", first, second)
    if not name and "name" in params:
        params = {"name": f"a_{params['name']}"}
    async with gateway_of(adapter) as gateway:
        namespace = space(gateway, name)
        caller = await opened(gateway, namespace, EVERYTHING)
        async with calling(namespace, caller, method, params) as asked:
            form, sample, roots = asked.questions
            assert await asked.answers(roots)
            assert await asked.answers(form)
            assert len(asked.questions) == 3
            assert await asked.answers(sample)
            (url,) = asked.questions[3:]
            assert await asked.answers(url, {"action": "decline"})
        server = host(adapter)

        assert asked.reply is not None
        assert "resultType" not in result(asked.reply)
        assert len({question.id for question in asked.questions}) == 4
        assert [meta_of(question)[KEY] for question in asked.questions] == ["who é", "what", "where", "url"]
        assert value_of(members_of(url.params)["elicitationId"]) == value_of(Raw(url.id or b""))
        given = server.received("inputResponses")
        assert given[0] is None
        assert isinstance(given[1], dict)
        assert given[1].keys() == {"who é", "what", "where"}
        assert given[2] == {"url": {"action": "decline"}}
        assert server.received("requestState") == [None, state, None]
        assert len({message.id for message in server.asking}) == 3
        assert all(
            told == {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}} for told in server.told()
        )
        assert caller.session is not None
        assert caller.session.questions == {}


async def test_a_server_that_asks_nothing_is_called_again_soon(autojump_clock: trio.testing.MockClock) -> None:
    adapter = seminar("a", {"requestState": "1"}, {"requestState": "2"})
    async with gateway_of(adapter) as gateway:
        began = trio.current_time()
        reply = await ask(space(gateway, "a"), legacy(), "tools/call", {"name": "echo"})

        assert "content" in result(reply)
        assert host(adapter).received("requestState") == [None, "1", "2"]
        assert 0.1 < trio.current_time() - began < 1


async def test_rounds_have_an_end(autojump_clock: trio.testing.MockClock) -> None:
    again: dict[str, JSON] = {"requestState": "again"}
    adapter = seminar("a", *[again] * (ROUNDS + 5))
    async with gateway_of(adapter) as gateway:
        began = trio.current_time()
        reply = result(await ask(space(gateway, "a"), legacy(), "tools/call", {"name": "echo"}))

        assert reply["isError"] is True
        assert f"wants input more than {ROUNDS} times" in str(reply["content"])
        assert len(host(adapter).asking) == ROUNDS + 1
        pauses = 0.05 + 0.1 + 0.2 + (ROUNDS - 3) * 0.25  # none after the last round
        assert trio.current_time() - began == pytest.approx(pauses)


@pytest.mark.requirement("bridge.capability-gate.legacy-to-modern", "5.bad")
@pytest.mark.parametrize(
    ("capabilities", "question", "what"),
    [
        (b"{}", FORM, "elicitation.form"),
        (b'{"elicitation":{}}', URL, "elicitation.url"),
        (b'{"elicitation":{}}', SAMPLE, "sampling"),
        (b'{"sampling":{}}', {"method": "tools/call", "params": {}}, "no client can be asked"),
    ],
)
async def test_what_the_client_did_not_declare_never_reaches_it(
    capabilities: bytes, question: dict[str, JSON], what: str, autojump_clock: trio.testing.MockClock
) -> None:
    adapter = seminar("a", {"inputRequests": {"q": question}}, {"inputRequests": {"q": question}})
    async with gateway_of(adapter) as gateway:
        caller = await opened(gateway, space(gateway, "a"), capabilities)
        async with calling(space(gateway, "a"), caller) as called:
            pass
        async with calling(space(gateway, "a"), caller, "prompts/get", {"name": "greet"}) as got:
            pass

        assert called.messages == got.messages == []
        assert called.reply is not None
        assert got.reply is not None
        assert what.partition(".")[0] in str(result(called.reply)["content"])
        assert result(called.reply)["isError"] is True
        assert jsonrpc.error_code(got.reply.message) == -32603


@pytest.mark.requirement("5.bad")
@pytest.mark.parametrize(
    "said",
    [
        jsonrpc.error(b"1", InvalidParams("the user is not here")),
        jsonrpc.result(b"1", {"action": "perhaps"}),
        jsonrpc.result(b"1", None),
        jsonrpc.result(b"1", {"action": "accept", "content": {"name": {}}}),
    ],
)
async def test_an_answer_that_is_an_error_or_of_another_shape_ends_the_call(
    said: Message, autojump_clock: trio.testing.MockClock
) -> None:
    adapter = seminar("a", {"inputRequests": {"one": FORM, "two": FORM}})
    async with gateway_of(adapter) as gateway:
        caller = await opened(gateway, space(gateway, "a"), EVERYTHING)
        async with calling(space(gateway, "a"), caller) as asked:
            first, second = asked.questions
            assert await answer(caller, said.replace(id=Raw(first.id or b"")))
        withdrawn = asked.messages[-1]

        assert asked.reply is not None
        assert result(asked.reply)["isError"] is True
        assert withdrawn.method == "notifications/cancelled"
        assert bytes(members_of(withdrawn.params)["requestId"]) == second.id
        assert not await asked.answers(second)  # late
        assert len(host(adapter).asking) == 1


@pytest.mark.requirement("5.bad")
async def test_answers_that_come_twice_or_to_what_was_not_asked_are_nobodys(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = seminar("a", {"inputRequests": {"one": FORM, "two": FORM}})
    async with gateway_of(adapter) as gateway:
        caller = await opened(gateway, space(gateway, "a"), EVERYTHING)
        other = await opened(gateway, space(gateway, "a"), EVERYTHING, id="another")
        async with calling(space(gateway, "a"), caller) as asked:
            first, second = asked.questions
            assert not await answer(other, jsonrpc.result(first.id or b"", {"action": "cancel"}))
            assert await asked.answers(first)
            assert not await asked.answers(first, {"action": "cancel"})
            assert not await answer(caller, jsonrpc.result(b'"one"', {"action": "cancel"}))
            assert asked.reply is None
            assert await asked.answers(second)

        given = host(adapter).received("inputResponses")[1]
        assert isinstance(given, dict)
        assert {str(each) for each in given.values()} == {str({"action": "accept", "content": {"name": "Ada"}})}


@pytest.mark.requirement("5.bad")
async def test_a_client_that_does_not_answer_has_as_long_as_a_call(autojump_clock: trio.testing.MockClock) -> None:
    adapter = seminar("a", {"inputRequests": {"one": FORM}}, {"inputRequests": {"two": FORM}})
    patient = InProcessServer("a", module="m:s", timeout=10.0, max_timeout=15.0)
    async with gateway_of(adapter, configs={"a": patient}) as gateway:
        caller = await opened(gateway, space(gateway, "a"), EVERYTHING)
        began = trio.current_time()
        async with calling(space(gateway, "a"), caller) as asked:
            await trio.sleep(9)
            await asked.answers(asked.questions[0])
        assert caller.session is not None

        assert asked.reply is not None
        assert "did not answer what it was asked" in str(result(asked.reply)["content"])
        assert 15 <= trio.current_time() - began < 17
        assert caller.session.questions == {}
        assert len(gateway.sweeper) == 0
        assert asked.messages[-1].method == "notifications/cancelled"


@pytest.mark.requirement("5.bad")
@pytest.mark.parametrize("how", ["cancels", "ends its session"])
async def test_a_client_that_leaves_while_it_is_asked_leaves_nothing_behind(
    how: str, autojump_clock: trio.testing.MockClock
) -> None:
    adapter = seminar("a", {"inputRequests": {"one": FORM}})
    async with gateway_of(adapter) as gateway:
        caller = await opened(gateway, space(gateway, "a"), EVERYTHING)
        session = caller.session
        assert session is not None
        async with calling(space(gateway, "a"), caller) as asked:
            session.begin(b"1", asked.wait)
            if how == "cancels":
                session.cancel(b"1", "cancelled by the client")
            else:
                gateway.sessions.close(session)

        assert isinstance(asked.problem, CallCancelled)
        assert session.questions == {}
        assert len(host(adapter).asking) == 1
        assert [link.in_flight for server in gateway.statistics().servers for link in server.links] == [0]


@pytest.mark.requirement("5.bad")
async def test_a_server_that_dies_while_its_client_is_asked_is_named(autojump_clock: trio.testing.MockClock) -> None:
    adapter = seminar("a", {"inputRequests": {"one": FORM}})
    async with gateway_of(adapter) as gateway:
        caller = await opened(gateway, space(gateway, "a"), EVERYTHING)
        async with calling(space(gateway, "a"), caller) as asked:
            adapter.dead = True
            adapter.links[-1].crash("went away")
            await asked.answers(asked.questions[0])

        assert "'a'" in str(asked.problem)
        assert caller.session is not None
        assert caller.session.questions == {}


async def test_a_client_is_asked_so_much_at_a_time(autojump_clock: trio.testing.MockClock) -> None:
    questions: dict[str, JSON] = {str(number): FORM for number in range(QUESTIONS + 1)}
    async with gateway_of(seminar("a", {"inputRequests": questions})) as gateway:
        caller = await opened(gateway, space(gateway, "a"), EVERYTHING)
        async with calling(space(gateway, "a"), caller) as asked:
            pass

        assert "requests of servers to answer" in str(asked.problem)
        assert caller.session is not None
        assert caller.session.questions == {}


async def test_all_rounds_together_have_the_longest_time_of_a_call(autojump_clock: trio.testing.MockClock) -> None:
    adapter = seminar("a", {"inputRequests": {"one": FORM}})
    short = InProcessServer("a", module="m:s", timeout=10.0, max_timeout=12.0)
    async with gateway_of(adapter, configs={"a": short}) as gateway:
        caller = await opened(gateway, space(gateway, "a"), EVERYTHING)
        began = trio.current_time()
        async with calling(space(gateway, "a"), caller) as asked:
            await trio.sleep(9)
            adapter.links[-1].hold()
            await asked.answers(asked.questions[0])

        assert isinstance(asked.problem, ServerTimeout)
        assert 12 <= trio.current_time() - began < 14


# ---- log levels ------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("bridge.logging.legacy-to-modern")
@BOTH_NAMESPACES
async def test_the_level_of_a_session_goes_out_with_each_of_its_calls(
    name: str, autojump_clock: trio.testing.MockClock
) -> None:
    adapter = library("a", eras=MODERN_ONLY)
    async with gateway_of(adapter) as gateway:
        namespace = space(gateway, name)
        caller, other = [await opened(gateway, namespace, id=id) for id in ("one", "two")]
        with pytest.raises(InvalidParams, match="unknown log level"):
            await ask(namespace, caller, "logging/setLevel", {"level": "loud"})
        for each, level in ((caller, "warning"), (other, "debug")):
            assert result(await ask(namespace, each, "logging/setLevel", {"level": level})) == {}
        for each in (caller, other, legacy()):
            await use(namespace, each, PREFIX[name] + "echo")
        calls = library_of(adapter).asked("tools/call")

    assert [meta_of(message).get(LOG_LEVEL) for message in calls] == ["warning", "debug", None]
    assert library_of(adapter).asked("logging/setLevel") == []
