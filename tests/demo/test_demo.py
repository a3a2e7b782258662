"""The demo servers answer correctly in both eras; the SDK's models are the judge of their results."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import mcp_types.methods
import pytest
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.demo.clock import Clock
from mcpgateway.demo.notes import LIMIT, Notes
from mcpgateway.demo.server import MiniServer
from mcpgateway.protocol.envelope import stamp
from mcpgateway.protocol.revisions import LATEST_LEGACY, LATEST_MODERN, Era

NOON = datetime(2026, 7, 28, 12, tzinfo=UTC)
INFO = {"name": "t", "version": "0"}


class Caller:
    """Asks a server in one era, and has every result judged by the SDK."""

    def __init__(self, server: MiniServer, era: Era) -> None:
        self.server = server
        self.era = era
        self.version = LATEST_LEGACY if era is Era.LEGACY else LATEST_MODERN
        self.told: list[str] = []

    def ask(self, method: str, **params: object) -> Any:
        raw = jsonrpc.raw_of(params)
        if self.era is Era.MODERN:
            raw = stamp(raw, revision=self.version, capabilities=Raw(b"{}"))
        *told, answer = self.server.handle(jsonrpc.request(b'"1"', method, raw))
        self.told += [message.method or "" for message in told]
        assert answer.id == b'"1"'
        if answer.error is not None:
            return json.loads(bytes(answer.error))
        result = json.loads(bytes(answer.result or b""))
        mcp_types.methods.validate_server_result(method, self.version, result)
        return result

    def call(self, tool: str, **arguments: object) -> Any:
        result = self.ask("tools/call", name=tool, arguments=arguments)
        if result.get("isError"):
            return result["content"][0]["text"]
        assert json.loads(result["content"][0]["text"]) == result["structuredContent"]
        return result["structuredContent"]


@pytest.fixture(params=Era)
def era(request: pytest.FixtureRequest) -> Era:
    assert isinstance(request.param, Era)
    return request.param


@pytest.fixture
def clock(era: Era) -> Caller:
    return Caller(Clock(lambda: NOON), era)


@pytest.fixture
def notes(era: Era) -> Caller:
    caller = Caller(Notes(), era)
    if era is Era.LEGACY:
        caller.ask("initialize", protocolVersion=LATEST_LEGACY, capabilities={}, clientInfo=INFO)
    return caller


@pytest.mark.parametrize("make", [Clock, Notes])
def test_the_first_question_is_answered(make: type[MiniServer], era: Era) -> None:
    caller = Caller(make(), era)
    if era is Era.LEGACY:
        result = caller.ask("initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=INFO)
        assert result["protocolVersion"] == "2025-06-18"
        assert caller.ask("ping") == {}
        assert caller.ask("server/discover")["code"] == -32601
    else:
        result = caller.ask("server/discover")
        assert result["supportedVersions"] == [LATEST_MODERN]
        assert caller.ask("ping")["code"] == -32601
    assert "tools" in result["capabilities"]
    assert result["instructions"]


@pytest.mark.parametrize("make", [Clock, Notes])
def test_every_tool_is_listed_with_its_schemas(make: type[MiniServer], era: Era) -> None:
    caller = Caller(make(), era)
    tools = caller.ask("tools/list")["tools"]

    assert [tool["name"] for tool in tools] == list(caller.server.tools)
    for tool in tools:
        assert tool["inputSchema"]["type"] == tool["outputSchema"]["type"] == "object"
        assert tool["description"]
        assert "readOnlyHint" in tool["annotations"]
    assert caller.ask("tools/list", cursor="x")["code"] == -32602


def test_the_time_is_told_anywhere(clock: Caller) -> None:
    assert clock.call("now") == {"time": "2026-07-28T12:00:00+00:00", "timezone": "UTC", "weekday": "Tuesday"}
    assert clock.call("now", timezone="Asia/Tokyo")["time"] == "2026-07-28T21:00:00+09:00"


@pytest.mark.parametrize(
    ("arguments", "time"),
    [
        ({"time": "2026-07-28T12:00", "to": "Asia/Tokyo"}, "2026-07-28T21:00:00+09:00"),
        ({"time": "2026-07-28T12:00", "from": "Asia/Tokyo"}, "2026-07-28T03:00:00+00:00"),
        ({"time": "2026-07-28T12:00+02:00", "from": "Asia/Tokyo"}, "2026-07-28T10:00:00+00:00"),
    ],
)
def test_times_are_converted(clock: Caller, arguments: dict[str, str], time: str) -> None:
    assert clock.call("convert", **arguments)["time"] == time


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("now", {"timezone": "Mars/Olympus"}, "no time zone"),
        ("now", {"timezone": "../../etc/passwd"}, "no time zone"),
        ("now", {"timezone": ""}, "no time zone"),
        ("now", {"timezone": 7}, "must be a string"),
        ("convert", {}, "ISO 8601"),
        ("convert", {"time": "noon"}, "ISO 8601"),
        ("convert", {"time": "0001-01-01T00:00", "to": "America/New_York"}, "out of range"),
    ],
)
def test_what_cannot_be_told_is_an_error_of_the_tool(
    clock: Caller, tool: str, arguments: dict[str, object], said: str
) -> None:
    assert said in clock.call(tool, **arguments)


def test_notes_are_kept_found_and_read(notes: Caller) -> None:
    first = notes.call("add", title="Milk", text="buy some")
    second = notes.call("add", title="Straße", text="sweep")

    assert notes.call("list") == {"notes": [first, second]}
    assert notes.call("search", query="STRASSE") == {"notes": [second]}
    assert [entry["uri"] for entry in notes.ask("resources/list")["resources"]] == [first["uri"], second["uri"]]
    assert notes.ask("resources/read", uri=first["uri"])["contents"][0]["text"] == "buy some"
    assert notes.ask("resources/templates/list")["resourceTemplates"][0]["uriTemplate"] == "notes://note/{number}"
    assert notes.told == (["notifications/resources/list_changed"] * 2 if notes.era is Era.LEGACY else [])


def test_the_prompt_has_all_notes_in_it(notes: Caller) -> None:
    notes.call("add", title="Milk", text="buy some")
    (prompt,) = notes.ask("prompts/list")["prompts"]

    (message,) = notes.ask("prompts/get", name=prompt["name"], arguments={"style": "detailed"})["messages"]

    assert "detailed" in message["content"]["text"]
    assert "Milk: buy some" in message["content"]["text"]


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/call", {"name": "nothing"}),
        ("tools/call", {"name": 7}),
        ("tools/call", {"name": "add", "arguments": []}),
        ("prompts/get", {"name": "nothing"}),
        ("prompts/get", {"name": "summarize", "arguments": {"style": 7}}),
        ("resources/read", {"uri": "notes://note/99"}),
        ("resources/list", {"cursor": "x"}),
    ],
)
def test_what_is_not_there_is_refused(notes: Caller, method: str, params: dict[str, object]) -> None:
    assert notes.ask(method, **params)["code"] == -32602


def test_there_is_an_end_to_notes(notes: Caller) -> None:
    for number in range(LIMIT):
        notes.server.tools["add"].run({"title": str(number), "text": ""})

    assert "already" in notes.call("add", title="one", text="more")
    assert "must be a string" in notes.call("search")


def test_who_listens_hears_of_new_notes_until_it_cancels() -> None:
    caller = Caller(Notes(), Era.MODERN)
    params = stamp(
        Raw(b'{"notifications":{"resourcesListChanged":true,"toolsListChanged":true}}'),
        revision=LATEST_MODERN,
        capabilities=Raw(b"{}"),
    )
    (acknowledged,) = caller.server.handle(jsonrpc.request(b"7", "subscriptions/listen", params))
    assert b'"notifications":{"resourcesListChanged":true}' in acknowledged.encode()

    caller.call("add", title="a", text="b")
    caller.server.handle(jsonrpc.notification("notifications/cancelled", {"requestId": 7}))
    caller.call("add", title="c", text="d")

    assert caller.told == ["notifications/resources/list_changed"]


@pytest.mark.parametrize("module", ["clock", "notes"])
def test_they_run_over_stdio_without_anything_heavy(module: str) -> None:
    program = (
        f"import runpy, sys; runpy.run_module('mcpgateway.demo.{module}', run_name='__main__');"
        "heavy = {'mcp', 'pydantic', 'trio', 'attrs'} & sys.modules.keys(); print(sorted(heavy), file=sys.stderr)"
    )
    request = b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n'

    done = subprocess.run([sys.executable, "-c", program], input=request, capture_output=True, timeout=300, check=False)

    assert json.loads(done.stdout) == {"jsonrpc": "2.0", "id": 1, "result": {}}
    assert done.stderr.strip() == b"[]"
