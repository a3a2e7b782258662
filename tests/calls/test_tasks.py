"""Tasks of both eras in merged namespaces: whose a task is, and who may ask about it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import trio
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.calls.tasks import EXTENSION, RELATED, Tasks
from mcpgateway.catalog.items import SERVER_META
from mcpgateway.catalog.naming import Target
from mcpgateway.errors import JSON, InvalidParams, MethodNotFound
from mcpgateway.gateway import Gateway
from mcpgateway.jsonrpc import Message, members_of, raw_of, value_of
from mcpgateway.protocol import envelope
from mcpgateway.protocol.revisions import LATEST_LEGACY, Era
from mcpgateway.sessions.caller import Caller
from tests.calls.doubles import CALLERS_OF_BOTH as CALLERS
from tests.calls.doubles import Library, ask, gateway_of, host, legacy, modern, result, space
from tests.servers.doubles import Counting


class TaskServer(Library):
    """Makes a task of every call, in the way of its era, and counts them from 1: as careless as servers are."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]  # passed on
        self.made: list[str] = []

    def _capabilities(self) -> dict[str, JSON]:
        return {**super()._capabilities(), "tasks": {"list": {}}, "extensions": {EXTENSION: {}, "vendor/x": {}}}

    def handle(self, message: Message) -> list[Message]:
        method = message.method or ""
        if method == "tools/call":
            self.seen.append(message)
            self.made.append(str(len(self.made) + 1))
            return [jsonrpc.result(message.id or b"", self._created(message, self.made[-1]))]
        if method.startswith("tasks/"):
            self.seen.append(message)
            return [jsonrpc.result(message.id or b"", self._about(method, message))]
        return super().handle(message)

    def _created(self, message: Message, id: str) -> Mapping[str, object]:
        if envelope.read(message.params) is not None:
            return {"resultType": "task", "taskId": id, "status": "working", "ttlMs": None}
        return {"task": {"taskId": id, "status": "working", "x-unknown": 1.0}}

    def _about(self, method: str, message: Message) -> Mapping[str, object]:
        if method == "tasks/list":
            return {"tasks": [{"taskId": id, "status": "working"} for id in self.made]}
        id = members_of(message.params)["taskId"]
        if method == "tasks/result":
            return {"content": [], "_meta": {RELATED: {"taskId": id}}}
        return {"taskId": id, "status": "completed", "of": self.name}


def tasks(name: str) -> Counting:
    return Counting(name, type(name, (TaskServer,), {"name": name}))


async def make(gateway: Gateway, caller: Caller, server: str) -> str:
    """Have a server make a task; the id that the client sees."""
    params = {"name": f"{server}_echo", "arguments": {}, "task": {}}
    made = result(await ask(space(gateway), caller, "tools/call", params))
    task = made.get("task", made)
    assert isinstance(task, dict)
    return str(task["taskId"])


@pytest.mark.requirement("3.tasks", "bridge.tasks.same")
@pytest.mark.parametrize("era", Era)
async def test_what_is_asked_about_a_task_goes_to_its_server(era: Era, autojump_clock: trio.testing.MockClock) -> None:
    one, two = tasks("a"), tasks("b")
    async with gateway_of(one, two) as gateway:
        caller = CALLERS[era]()
        ids = [await make(gateway, caller, server) for server in ("a", "b", "a")]
        assert ids == ["1", "b:1", "2"]
        other = "tasks/result" if era is Era.LEGACY else "tasks/update"
        for server, id in zip("aba", ids, strict=True):
            for method in ("tasks/get", "tasks/cancel"):
                got = result(await ask(space(gateway), caller, method, {"taskId": id}))
                assert (got["taskId"], got["of"]) == (id, server)
                assert got["_meta"] == {SERVER_META: server}
            answer = result(await ask(space(gateway), caller, other, {"taskId": id}))
            assert answer.get("taskId", id) == id
            if era is Era.LEGACY:
                assert answer["_meta"] == {SERVER_META: server, RELATED: {"taskId": id}}
        asked = [value_of(members_of(message.params)["taskId"]) for message in host(two).asked("tasks/get")]
        assert asked == ["1"]


async def test_a_listing_has_the_tasks_of_this_principal_and_no_others(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway_of(tasks("a"), tasks("b")) as gateway:
        stranger = Caller(Era.LEGACY, LATEST_LEGACY, Raw(b"{}"), principal="stranger")
        for server in "ab":
            await make(gateway, legacy(), server)
        theirs = await make(gateway, stranger, "a")

        mine = result(await ask(space(gateway), legacy(), "tasks/list"))
        assert mine == {"tasks": [{"taskId": "1", "status": "working"}, {"taskId": "b:1", "status": "working"}]}
        got = result(await ask(space(gateway), stranger, "tasks/list"))
        assert got == {"tasks": [{"taskId": theirs, "status": "working"}]}
        for caller, id in ((legacy(), theirs), (stranger, "1"), (legacy(), "never")):
            with pytest.raises(InvalidParams, match="Unknown task") as refused:
                await ask(space(gateway), caller, "tasks/get", {"taskId": id})
            assert refused.value.code == -32602
        with pytest.raises(InvalidParams, match="Invalid cursor"):
            await ask(space(gateway), legacy(), "tasks/list", {"cursor": "x"})


@pytest.mark.parametrize(
    ("era", "method"), [(Era.MODERN, "tasks/list"), (Era.MODERN, "tasks/result"), (Era.LEGACY, "tasks/update")]
)
async def test_the_eras_have_different_methods(era: Era, method: str, autojump_clock: trio.testing.MockClock) -> None:
    async with gateway_of(tasks("a"), tasks("b")) as gateway:
        with pytest.raises(MethodNotFound):
            await ask(space(gateway), CALLERS[era](), method, {"taskId": "1"})


async def test_each_era_is_offered_its_own(autojump_clock: trio.testing.MockClock) -> None:
    async with gateway_of(tasks("a"), tasks("b")) as gateway:
        discovered = result(await ask(space(gateway), modern(), "server/discover"))["capabilities"]
        params = raw_of({"protocolVersion": LATEST_LEGACY, "capabilities": {}, "clientInfo": {"name": "t"}})
        raw, _ = await space(gateway).initialize(legacy(), params, "id")

        assert isinstance(discovered, dict)
        assert discovered["extensions"] == {EXTENSION: {}}
        assert "tasks" not in discovered
        offered = members_of(members_of(raw)["capabilities"])
        assert value_of(offered["tasks"]) == {"list": {}}
        assert "extensions" not in offered


@pytest.mark.parametrize("era", Era)
async def test_a_raw_namespace_passes_them_as_they_are(era: Era, autojump_clock: trio.testing.MockClock) -> None:
    async with gateway_of(tasks("a")) as gateway:
        caller = CALLERS[era]()
        namespace = space(gateway, "a")
        made = result(await ask(namespace, caller, "tools/call", {"name": "echo", "task": {}}))
        assert made == (
            {"task": {"taskId": "1", "status": "working", "x-unknown": 1.0}}
            if era is Era.LEGACY
            else {"resultType": "task", "taskId": "1", "status": "working", "ttlMs": None}
        )
        for method in ("tasks/get", "tasks/list", "tasks/result", "tasks/update", "tasks/cancel"):
            await ask(namespace, caller, method, {"taskId": "nobody's"})
        assert len(host_of(gateway).asked("tasks/get")) == 1


def host_of(gateway: Gateway) -> Library:
    """The server behind the newest link of the one server."""
    (server,) = gateway.servers.values()
    adapter = server._links.adapter
    assert isinstance(adapter, Counting)
    return host(adapter)


# ---- the table -------------------------------------------------------------------------------------------------------

PRINCIPALS = st.sampled_from(["p", "q"])
TARGETS = st.builds(Target, st.sampled_from(["a", "b", "a:1"]), st.sampled_from(["1", "2", "b:1", "a:1:1"]))


class TaskTable(RuleBasedStateMachine):
    """No principal finds another's task, no two tasks of one have one id, and the oldest go first."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks = Tasks(limit=6)
        self.model: dict[tuple[str, str], Target] = {}

    @rule(principal=PRINCIPALS, task=TARGETS)
    def learn(self, principal: str, task: Target) -> None:
        shown = self.tasks.learn(principal, task)
        if (principal, shown) not in self.model and len(self.model) >= 6:
            del self.model[next(iter(self.model))]
        assert self.model.setdefault((principal, shown), task) == task

    @rule(principal=PRINCIPALS, task=TARGETS)
    def find(self, principal: str, task: Target) -> None:
        shown = self.tasks.shown(principal, task)
        if shown is None:
            assert task not in {found for (owner, _), found in self.model.items() if owner == principal}
            return
        assert self.tasks.find(principal, shown) == task == self.model[principal, shown]
        self.model[principal, shown] = self.model.pop((principal, shown))

    @invariant()
    def same(self) -> None:
        assert len(self.tasks) == len(self.model) <= 6


TestTaskTable = TaskTable.TestCase
