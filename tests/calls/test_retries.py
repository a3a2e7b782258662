"""Calls that failed: which are sent again, when, and which never."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import Back, Event, Link, Offer, Receive, Reply, Request
from mcpgateway.calls import listing
from mcpgateway.calls.retries import REPEATABLE, Retries, may_be_called_twice
from mcpgateway.config.model import HttpServer, InProcessServer, Isolation, Links, Recovery
from mcpgateway.errors import (
    CallCancelled,
    NotTried,
    ServerError,
    ServerMisbehaved,
    ServerSessionLost,
    ServerTimeout,
    ServerUnavailable,
    TooBusy,
)
from mcpgateway.jsonrpc import Message, raw_of
from mcpgateway.protocol.methods import REQUESTS
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.memory import MemoryLink
from mcpgateway.wire.waiting import Wait
from tests.calls.doubles import Collecting, Library, ask, gateway_of, legacy, library, result, session_of, space, use
from tests.servers.doubles import Counting

HTTP = HttpServer("a", url="http://a/mcp", isolation=InProcessServer("x", module="m:x").isolation)


def broken(*, unsent: bool = False) -> ServerUnavailable:
    problem = ServerUnavailable("a", "the connection broke")
    problem.unsent = unsent
    return problem


# ---- the decision ----------------------------------------------------------------------------------------------------


REFUSED = ServerUnavailable("a", "HTTP 401")
REFUSED.unwell = False


@pytest.mark.requirement("4.http.lost-session")
@pytest.mark.parametrize(
    ("problem", "repeatable", "shown", "again"),
    [
        (broken(unsent=True), False, False, True),
        (broken(unsent=True), False, True, True),
        (broken(), False, False, False),
        (broken(), True, False, True),
        (broken(), True, True, False),
        (ServerSessionLost("a", "gone"), False, False, True),
        (ServerSessionLost("a", "gone"), False, True, False),
        (REFUSED, True, False, False),
        (ServerTimeout("a", "silent"), True, False, False),
        (ServerMisbehaved("a", "nonsense"), True, False, False),
        (NotTried("a", "keeps failing"), True, False, False),
    ],
)
def test_what_is_sent_again(problem: ServerError, repeatable: bool, shown: bool, again: bool) -> None:
    assert Retries(repeatable, 2.0).judge(problem, 0.0, shown=shown) is again


def test_methods_that_may_be_repeated_are_mcps_and_change_nothing_twice() -> None:
    known = REQUESTS[Era.LEGACY] | REQUESTS[Era.MODERN]

    assert known >= REPEATABLE
    assert known - REPEATABLE == {"initialize", "subscriptions/listen", "tasks/cancel", "tasks/update", "tools/call"}


PROBLEMS = st.sampled_from(
    [broken(unsent=True), broken(), ServerSessionLost("a", "gone"), ServerTimeout("a", "silent"), NotTried("a", "no")]
)


@given(
    st.booleans(),
    st.lists(st.tuples(PROBLEMS, st.floats(0, 3), st.booleans(), st.floats(0, 0.99)), max_size=30),
)
def test_what_was_sent_is_repeated_once_at_most_and_what_was_not_only_for_so_long(
    repeatable: bool, history: list[tuple[ServerError, float, bool, float]]
) -> None:
    retries, now, repeated = Retries(repeatable, 2.0), 0.0, 0
    first: float | None = None
    for problem, took, shown, unit in history:
        now += took
        if not isinstance(problem, NotTried):
            first = now if first is None else first
        again = retries.judge(problem, now, shown=shown)
        unsent = isinstance(problem, ServerUnavailable) and problem.unsent
        if unsent:
            assert first is not None
            assert again == (now < first + 2.0)
            assert 0 < retries.pause(problem, unit) <= 0.5
        else:
            repeated += again
            assert retries.pause(problem, unit) == 0
            assert not (again and shown)
    assert repeated <= 1


@pytest.mark.parametrize(
    ("annotations", "may"),
    [
        ({"readOnlyHint": True}, True),
        ({"idempotentHint": True}, True),
        ({"idempotentHint": True, "destructiveHint": True}, True),
        ({"readOnlyHint": False}, False),
        ({"readOnlyHint": "true"}, False),
        ({"destructiveHint": False}, False),
        ({}, False),
        (None, False),
        ([], False),
    ],
)
def test_what_tools_say_of_themselves(annotations: object, may: bool) -> None:
    assert may_be_called_twice(raw_of({"name": "t", "annotations": annotations})) is may


def test_a_tool_that_says_nothing_or_is_none_is_not_called_twice() -> None:
    assert not may_be_called_twice(raw_of({"name": "t"}))
    assert not may_be_called_twice(Raw(b"[]"))


# ---- through the gateway ---------------------------------------------------------------------------------------------


class Annotated(Library):
    """``echo`` says that it only reads, ``big`` that it may be called twice; the others say nothing."""

    name = "a"

    def __init__(self, **options: object) -> None:
        super().__init__(eras={Era.LEGACY})
        for name, hint in ("echo", "readOnlyHint"), ("big", "idempotentHint"):
            tool = self.tools[name]
            self.tools[name] = tool._replace(definition={**tool.definition, "annotations": {hint: True}})


class Faulty(MemoryLink):
    """Fails calls of methods that are not the gateway's own as ``fault`` says, after the server has seen them."""

    fault: Callable[[Request], ServerError | None] = staticmethod(lambda request: None)
    seen: list[str] = []  # noqa: RUF012  # one for all links of a test, which makes a class of its own
    tells: bool = False

    async def call(self, request: Request, back: Back) -> Reply:
        method = request.message.method or ""
        self.seen.append(method)
        problem = self.fault(request)
        if problem is None:
            return await super().call(request, back)
        if self.tells:
            await back.send(Event(jsonrpc.notification("notifications/progress", {"progressToken": 1, "progress": 1})))
        await trio.lowlevel.checkpoint()
        raise problem


def faulty(*problems: ServerError, method: str = "tools/call", tells: bool = False) -> Counting:
    """A server whose calls of one method fail with these problems, one after the other, and then succeed."""
    left = list(problems)

    def fault(request: Request) -> ServerError | None:
        return left.pop(0) if left and request.message.method == method else None

    adapter = Counting("a", Annotated, eras={Era.LEGACY})
    adapter.link_class = type("Fault", (Faulty,), {"fault": staticmethod(fault), "seen": [], "tells": tells})
    return adapter


def seen(adapter: Counting, method: str = "tools/call") -> int:
    link = adapter.links[0]
    assert isinstance(link, Faulty)
    return link.seen.count(method)


@pytest.mark.requirement("4.http.lost-session")
@pytest.mark.parametrize("name", ["a", ""])
@pytest.mark.parametrize(("tool", "calls"), [("echo", 2), ("big", 2), ("waiting", 1)])
async def test_a_tool_is_called_again_if_it_was_seen_to_say_that_it_may_be(
    name: str, tool: str, calls: int, autojump_clock: trio.testing.MockClock
) -> None:
    adapter = faulty(broken())
    async with gateway_of(adapter) as gateway:
        await ask(space(gateway, name), legacy(), "tools/list")
        arguments = {"kib": 1} if tool == "big" else {"count": 0}
        if calls == 2:
            assert "content" in await use(space(gateway, name), legacy(), tool if name else f"a_{tool}", **arguments)
        else:
            with pytest.raises(ServerUnavailable, match="the connection broke"):
                await use(space(gateway, name), legacy(), tool if name else f"a_{tool}", **arguments)
        assert seen(adapter) == calls


async def test_a_call_of_a_tool_that_was_never_listed_fails_at_once(autojump_clock: trio.testing.MockClock) -> None:
    adapter = faulty(broken())
    async with gateway_of(adapter) as gateway:
        began = trio.current_time()
        with pytest.raises(ServerUnavailable):
            await use(space(gateway, "a"), legacy(), "echo")
        assert (trio.current_time(), seen(adapter)) == (began, 1)


async def test_a_tool_that_does_not_say_it_any_more_is_not_called_again(autojump_clock: trio.testing.MockClock) -> None:
    adapter = faulty(broken())
    async with gateway_of(adapter) as gateway:
        await ask(space(gateway, "a"), legacy(), "tools/list")
        tools = adapter.host.tools
        tools["echo"] = tools["slow"]
        await ask(space(gateway, "a"), legacy(), "tools/list")
        with pytest.raises(ServerUnavailable):
            await use(space(gateway, "a"), legacy(), "echo")
        assert seen(adapter) == 1


async def test_what_fails_twice_has_failed(autojump_clock: trio.testing.MockClock) -> None:
    adapter = faulty(broken(), broken())
    async with gateway_of(adapter) as gateway:
        await ask(space(gateway, "a"), legacy(), "tools/list")
        with pytest.raises(ServerUnavailable):
            await use(space(gateway, "a"), legacy(), "echo")
        assert seen(adapter) == 2


async def test_a_call_of_which_the_client_has_seen_something_is_not_made_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter, back = faulty(broken(), tells=True), Collecting()
    async with gateway_of(adapter) as gateway:
        with pytest.raises(ServerUnavailable):
            await ask(space(gateway, "a"), legacy(), "tools/call", {"name": "echo"}, back=back)
        assert len(back.messages) == 1
        assert seen(adapter) == 1


@pytest.mark.requirement("4.http.lost-session")
async def test_what_was_not_sent_is_sent_when_the_server_is_there_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = faulty(*[broken(unsent=True)] * 3)
    async with gateway_of(adapter, configs={"a": HTTP}) as gateway:
        began = trio.current_time()
        assert "structuredContent" in await use(space(gateway, "a"), legacy(), "waiting", count=0)
        assert seen(adapter) == 4
        assert trio.current_time() - began < 1


async def test_it_is_given_up_when_it_takes_too_long(autojump_clock: trio.testing.MockClock) -> None:
    adapter = faulty(*[broken(unsent=True)] * 1000)
    config = attrs.evolve(HTTP, recovery=Recovery(failures=1000))
    async with gateway_of(adapter, configs={"a": config}) as gateway:
        began = trio.current_time()
        with pytest.raises(ServerUnavailable):
            await use(space(gateway, "a"), legacy(), "waiting", count=0)
        assert 2 <= trio.current_time() - began < 2.6
        assert seen(adapter) < 20


async def test_a_call_that_waits_to_be_sent_again_can_be_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    adapter, wait = faulty(*[broken(unsent=True)] * 1000), Wait()
    problems: list[Exception] = []

    async def one() -> None:
        try:
            await ask(space(gateway, "a"), legacy(), "tools/call", {"name": "waiting"}, wait=wait)
        except CallCancelled as problem:
            problems.append(problem)

    async with gateway_of(adapter, configs={"a": HTTP}) as gateway, trio.open_nursery() as nursery:
        nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked()
        wait.end(CallCancelled("not needed"))
        await trio.testing.wait_all_tasks_blocked()
        assert len(problems) == 1
        assert gateway.statistics().waits == 0


# ---- the breaker, the bulkhead ---------------------------------------------------------------------------------------


class Deaf(Library):
    """Answers nothing but handshakes, and pings once it ``hears``."""

    name = "a"

    def __init__(self, **options: object) -> None:
        super().__init__(eras={Era.LEGACY})
        self.hears = True

    def handle(self, message: jsonrpc.Message) -> list[jsonrpc.Message]:
        return super().handle(message) if self.hears or message.method == "initialize" else []


@pytest.mark.requirement("4.http.breaker")
async def test_a_server_that_answers_nobody_gets_no_calls_until_it_answers_a_ping(
    autojump_clock: trio.testing.MockClock,
) -> None:
    adapter = Counting("a", Deaf, eras={Era.LEGACY})
    config = attrs.evolve(InProcessServer("a", module="m:s"), timeout=10.0, recovery=Recovery(failures=3))
    async with gateway_of(adapter, library("b"), configs={"a": config}) as gateway:
        host = adapter.host
        assert isinstance(host, Deaf)
        await use(space(gateway, "a"), legacy(), "echo")
        host.hears = False
        for _ in range(3):
            with pytest.raises(ServerTimeout):
                await use(space(gateway, "a"), legacy(), "echo")
        (state, _) = gateway.statistics().servers
        assert (state.state, state.circuit, state.failures) == ("failed", "open", 3)
        await trio.sleep(20)
        began = trio.current_time()
        with pytest.raises(NotTried, match=r"did not answer a ping within 5 s \(next attempt in \d+ s\)"):
            await use(space(gateway, "a"), legacy(), "echo")
        assert trio.current_time() - began <= 2

        host.hears = True
        await trio.sleep(60)
        assert gateway.statistics().servers[0].circuit == "half-open"
        assert "content" in await use(space(gateway, "a"), legacy(), "echo")
        assert gateway.statistics().servers[0].circuit == "closed"


async def test_the_loss_of_a_link_with_many_calls_opens_no_breaker(autojump_clock: trio.testing.MockClock) -> None:
    adapter = library("a", eras={Era.LEGACY})
    problems: list[Exception] = []

    async def one() -> None:
        try:
            await use(space(gateway, "a"), legacy(), "slow", name="x")
        except ServerUnavailable as problem:
            problems.append(problem)

    async with gateway_of(adapter) as gateway, trio.open_nursery() as nursery:
        await use(space(gateway, "a"), legacy(), "echo")
        for _ in range(20):
            nursery.start_soon(one)
        await trio.testing.wait_all_tasks_blocked()
        adapter.links[0].crash("was killed by SIGKILL")
        await trio.testing.wait_all_tasks_blocked()
        assert len(problems) == 20
        assert gateway.statistics().servers[0].circuit == "closed"
        assert "content" in await use(space(gateway, "a"), legacy(), "echo")


@pytest.mark.requirement("4.bulkheads")
async def test_a_server_has_so_many_calls_and_no_more(autojump_clock: trio.testing.MockClock) -> None:
    adapter = library("a", eras={Era.LEGACY})
    config = attrs.evolve(InProcessServer("a", module="m:s"), max_calls=3, links=Links(max=1))
    async with gateway_of(adapter, library("b"), configs={"a": config}) as gateway, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(lambda: use(space(gateway, "a"), legacy(), "slow", name="x"))
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(TooBusy, match="3 calls are with it already"):
            await use(space(gateway, "a"), legacy(), "echo")
        assert "content" in await use(space(gateway, "b"), legacy(), "echo")
        nursery.cancel_scope.cancel(reason="the test is over")
    assert gateway.servers["a"]._leases.calls == 0


async def test_a_server_that_is_away_for_a_moment_costs_nobody_a_call(autojump_clock: trio.testing.MockClock) -> None:
    """It cannot be reached for a second; calls of that second wait for it."""

    class Away(Counting):
        async def connect(self, nursery: trio.Nursery, offer: Offer, receive: Receive) -> Link:
            self.dead = trio.current_time() < until
            return await super().connect(nursery, offer, receive)

    adapter, until = Away("a", Annotated, eras={Era.LEGACY}), 0.0
    results: list[object] = []

    async def one(delay: float) -> None:
        await trio.sleep(delay)
        results.append(await ask(space(gateway, "a"), legacy(), "tools/call", {"name": "echo", "arguments": {}}))

    async with gateway_of(adapter) as gateway, trio.open_nursery() as nursery:
        await use(space(gateway, "a"), legacy(), "echo")
        until = trio.current_time() + 0.9
        adapter.links[0].crash("was killed")
        for step in range(10):
            nursery.start_soon(one, step / 10)
    assert [result(reply) for reply in results if isinstance(reply, Reply)] == [
        {"content": [{"type": "text", "text": ""}]}
    ] * 10


async def test_a_session_that_has_ended_gets_no_link_any_more(autojump_clock: trio.testing.MockClock) -> None:
    configs = {"a": InProcessServer("a", module="m:s", isolation=Isolation.SESSION)}
    async with gateway_of(library("a"), configs=configs) as gateway:
        caller = session_of(gateway, space(gateway, "a"), legacy())
        assert caller.session is not None
        gateway.sessions.close(caller.session)
        message = jsonrpc.request(b"0", "tools/list", {})

        with pytest.raises(CallCancelled):
            await gateway.dispatcher.call(gateway.servers["a"], caller, message, Wait(), Collecting())

        assert len(gateway.statistics().servers[0].links) == 1


class Restless(Library):
    """Lists other tools every time."""

    def handle(self, message: Message) -> list[Message]:
        if message.method != "tools/list":
            return super().handle(message)
        self.seen.append(message)
        names = [f"tool-{len(self.seen)}-{n}" for n in range(3)]
        tools = [{"name": name, "inputSchema": {}, "annotations": {"readOnlyHint": True}} for name in names]
        return [jsonrpc.result(message.id or b"", {"tools": tools})]


async def test_what_is_remembered_of_tools_is_bounded(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "NOTED", 10)
    async with gateway_of(Counting("a", Restless)) as gateway:
        for _ in range(20):
            listed = result(await ask(space(gateway, "a"), legacy(), "tools/list"))["tools"]
        assert isinstance(listed, list)
        server = gateway.servers["a"]
        last = {tool["name"] for tool in listed if isinstance(tool, dict)}
        assert last <= server.tools.keys()
        assert last <= server.repeatable <= server.tools.keys()
        assert len(server.tools) < 10 + 3
