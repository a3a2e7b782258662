"""``runners.check``: what it finds out about servers good and bad, and its flags and exit statuses."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcpgateway.app import open_gateway
from mcpgateway.config.loading import from_value
from mcpgateway.demo.clock import Clock
from mcpgateway.demo.server import MiniServer
from mcpgateway.errors import JSON, NotStarted
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.memory import MemoryAdapter, MemoryLink
from runners import check, gateway
from runners.check import ENDING, look
from runners.findings import Finding, Status

TIMEOUT = 5.0


def clock(**_: object) -> MiniServer:
    return Clock()


class Mute(Clock):
    """Shakes hands and never lists its tools."""

    def handle(self, message: Message) -> list[Message]:
        return [] if message.method == "tools/list" else super().handle(message)


def mute(**_: object) -> MiniServer:
    return Mute()


class Prompting(Clock):
    """Says that it has prompts, and never lists them."""

    def _capabilities(self) -> dict[str, JSON]:
        return {**super()._capabilities(), "prompts": {}}

    def handle(self, message: Message) -> list[Message]:
        return [] if message.method == "prompts/list" else super().handle(message)


def prompting(**_: object) -> MiniServer:
    return Prompting()


class OneLink(MemoryAdapter):
    """A server that can be reached once: a second process would find its port taken."""

    async def connect(self, *arguments: object) -> MemoryLink:
        self.dead = bool(self.links)
        return await super().connect(*arguments)  # type: ignore[arg-type,return-value]


class NotThere(MemoryAdapter):
    """A server that cannot even be started."""

    async def connect(self, *arguments: object) -> MemoryLink:
        raise NotStarted(self.server, "command not found: x")


async def found(adapter: MemoryAdapter, *, tools_only: bool = False) -> Finding:
    async with open_gateway(servers={adapter.server: adapter}) as gateway:
        return await look(gateway, gateway.servers[adapter.server], TIMEOUT, tools_only=tools_only)


async def test_a_server_of_both_eras_is_found_to_be_one(autojump_clock: object) -> None:
    finding = await found(MemoryAdapter("clock", clock))

    assert finding.status is Status.OK
    assert finding.reachable
    assert finding.eras == ("modern", "legacy")
    assert finding.revision == "2026-07-28"
    assert (finding.server_name, finding.server_version) == ("clock", "1.0")
    assert [tool.name for tool in finding.tools] == ["now", "convert"]
    assert finding.tools[0].description == "The current date and time in a time zone."
    assert (finding.prompts, finding.resources) == (0, 0)
    assert finding.error is None


@pytest.mark.parametrize(
    ("era", "revision"), [(Era.LEGACY, "2025-11-25"), (Era.MODERN, "2026-07-28")], ids=["legacy", "modern"]
)
async def test_a_server_of_one_era_is_found_to_speak_no_other(era: Era, revision: str, autojump_clock: object) -> None:
    finding = await found(MemoryAdapter("one", eras={era}))

    assert finding.status is Status.OK
    assert finding.eras == (era.value,)
    assert finding.revision == revision


async def test_a_server_that_allows_one_link_is_ok_all_the_same(autojump_clock: object) -> None:
    finding = await found(OneLink("single", clock))

    assert finding.status is Status.OK
    assert finding.eras == ("modern",)


async def test_a_server_that_cannot_be_reached_has_failed_with_the_reason(autojump_clock: object) -> None:
    adapter = MemoryAdapter("dead")
    adapter.dead = True

    finding = await found(adapter)

    assert finding == Finding("dead", "in-process", Status.FAILED, seconds=0.0, error="is dead", stage="initialize")


async def test_what_cannot_even_be_started_has_failed_at_that(autojump_clock: object) -> None:
    finding = await found(NotThere("gone"))

    assert (finding.status, finding.stage, finding.error) == (Status.FAILED, "start", "command not found: x")


async def test_where_only_tools_are_asked_for_a_server_is_asked_for_nothing_else(autojump_clock: object) -> None:
    """For an upstream: the server is not started again to find out about the other era either."""
    adapter = MemoryAdapter("prompting", prompting)

    whole = await found(MemoryAdapter("prompting", prompting))
    finding = await found(adapter, tools_only=True)

    assert whole.status is Status.FAILED
    assert finding.status is Status.OK
    assert (len(finding.tools), finding.seconds, finding.eras) == (2, 0.0, ("modern",))
    assert len(adapter.links) == 1


async def test_a_server_that_never_shakes_hands_is_given_up(autojump_clock: object) -> None:
    adapter = MemoryAdapter("silent")
    adapter.silent = True

    finding = await found(adapter)

    assert finding.status is Status.FAILED
    assert not finding.reachable
    assert finding.error == "did not answer within 5 s"
    assert finding.seconds == TIMEOUT + ENDING


async def test_a_server_that_does_not_list_is_reachable_and_has_failed(autojump_clock: object) -> None:
    finding = await found(MemoryAdapter("mute", mute))

    assert finding.status is Status.FAILED
    assert finding.reachable
    assert finding.server_name == "clock"
    assert (finding.stage, finding.error) == ("list tools", "did not answer within 5 s")
    assert finding.seconds == TIMEOUT


@pytest.fixture
def file(tmp_path: Path) -> Callable[[object], str]:
    def write(document: object) -> str:
        path = tmp_path / "café.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return str(path)

    return write


DEMO = {"command": sys.executable, "args": ["-m", "mcpgateway.demo.clock"]}
MIXED = {
    "servers": {
        "zulu": DEMO,
        "off": {"url": "http://127.0.0.1:1/mcp", "enabled": False},
        "dies": {
            "command": sys.executable,
            "args": ["-c", "import os, sys; sys.exit('no luck with ' + os.environ['API_KEY'])", "--token=hunter2"],
            "env": {"API_KEY": "hunter2"},
        },
        "alpha": {**DEMO, "links": {"min": 0}},
    },
    "lazy_above": 0,
}


@pytest.mark.requirement("2.runner.check")
def test_every_server_is_looked_at_and_told_of_in_the_order_of_the_configuration(
    file: Callable[[object], str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Lazy servers are started too; a failure is one line with the child's last words, and never a secret."""
    status = check.main(["-config", file(MIXED), "-output", "json", "-timeout", "120s", "-strict"])

    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert status == 1
    assert [(each["name"], each["status"]) for each in document["servers"]] == [
        ("zulu", "ok"),
        ("off", "disabled"),
        ("dies", "failed"),
        ("alpha", "ok"),
    ]
    assert document["servers"][2]["error"] == "exited with status 1; its last words: no luck with ***"
    assert document["summary"] == {"ok": 2, "failed": 1, "disabled": 1, "tools": 4}
    assert "hunter2" not in printed.out + printed.err


@pytest.mark.requirement("2.runner.check")
def test_failures_cost_the_exit_status_only_with_strict(
    file: Callable[[object], str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = file({"servers": {"gone": {"command": "no-such-command-anywhere"}}})

    assert check.main(["--config", path]) == 0
    assert check.main(["--config", path, "--strict"]) == 1
    assert "command not found: no-such-command-anywhere" in capsys.readouterr().out


def test_text_is_plain_where_it_is_not_for_a_terminal(
    file: Callable[[object], str], capsys: pytest.CaptureFixture[str]
) -> None:
    check.main(["--config", file({"servers": {"off": {**DEMO, "enabled": False}}})])

    assert capsys.readouterr().out == "off  disabled  stdio\n\n0 ok, 0 failed, 1 disabled, 0 tools\n"


@pytest.mark.parametrize(
    ("variables", "colour"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)], ids=str
)
def test_colours_are_for_terminals_that_want_them(
    variables: dict[str, str], colour: bool, file: Callable[[object], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    assert check._wants_colour() is colour


@pytest.mark.requirement("2.runner.check")
def test_explain_prints_the_canonical_configuration_and_starts_nothing(
    file: Callable[[object], str], capsys: pytest.CaptureFixture[str]
) -> None:
    desktop = {"mcpServers": {"mine": {"command": "no-such-command-anywhere", "env": {"API_KEY": "hunter2"}}}}

    status = check.main(["--config", file(desktop), "--explain"])

    printed = capsys.readouterr().out
    assert status == 0
    assert json.loads(printed) == {
        "servers": {"mine": {"type": "stdio", "command": "no-such-command-anywhere", "env": {"API_KEY": "***"}}}
    }


def test_a_bad_configuration_is_explained_and_ends_with_2(
    file: Callable[[object], str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        check.main(["--config", file({"servers": {"a": {"command": "x", "arg": []}}})])

    assert ended.value.code == 2
    assert "unknown key 'arg'" in capsys.readouterr().err


def test_every_server_is_eager_and_has_the_timeout_of_the_check() -> None:
    config = from_value({"servers": {"a": {**DEMO, "links": {"min": 0}}}, "lazy_above": 0}).config

    eager = check._eager(config, 7.0)

    assert eager.lazy_above == 1
    assert eager.servers["a"].links.min == 1
    assert eager.servers["a"].startup_timeout == eager.servers["a"].timeout == 7.0


# ---- upstreams -------------------------------------------------------------------------------------------------------

REFUSES = """
import json, os, sys
for line in sys.stdin:
    id = json.loads(line).get("id")
    if id is not None:
        error = {"code": -32000, "message": "no such key: " + os.environ["API_KEY"]}
        print(json.dumps({"jsonrpc": "2.0", "id": id, "error": error}), flush=True)
"""
DIALLED: dict[str, Any] = {
    "servers": {
        "clock": DEMO,
        "gone": {"command": "no-such-command-anywhere", "title": "本地"},
        "refuses": {"command": sys.executable, "args": ["-c", REFUSES], "env": {"API_KEY": "hunter2hunter2"}},
        "off": {"url": "http://127.0.0.1:1/mcp", "enabled": False},
    },
    "namespaces": {"work": {"servers": ["clock", "off", "gone"]}, "home": {"servers": ["refuses", "clock"]}},
    "upstreams": [
        {"name": "cloud", "endpoint": "wss://127.0.0.1:1/mcp/?token=hunter3hunter3", "namespace": "work"},
        {"name": "其他é", "endpoint": "wss://127.0.0.1:1/mcp/?token=hunter3hunter3", "namespace": "home"},
    ],
}


@pytest.mark.requirement("feature.131", "feature.133", "6.check.text")
def test_what_has_upstreams_is_told_by_them_with_what_failed(
    file: Callable[[object], str], capsys: pytest.CaptureFixture[str]
) -> None:
    status = check.main(["-check", "-config", file(DIALLED), "-timeout", "120s"])

    printed = capsys.readouterr()
    assert status == 0
    assert printed.err == ""
    assert "📡 Upstream: cloud\n   Endpoint: wss://127.0.0.1:1/mcp/?token=***\n\n   ✅ [clock] (stdio)\n" in printed.out
    assert "   ❌ [本地] (stdio)\n      Command: no-such-command-anywhere\n      Status: Failed\n" in printed.out
    assert "      Error: start failed: command not found: no-such-command-anywhere; is it on PATH?\n" in printed.out
    assert "      Error: initialize failed: " in printed.out
    assert "        • now                          The current date and time in a time zone.\n" in printed.out
    assert "   ⏸️ [off] (http)\n      URL: http://127.0.0.1:1/mcp\n      Status: Disabled\n\n" in printed.out
    assert "   Total Upstreams:    2\n   Total MCP Servers:  4\n     • Healthy:        2\n" in printed.out
    assert "hunter" not in printed.out


@pytest.mark.requirement("feature.132", "6.check.json", "6.check.strict")
def test_strict_says_by_its_status_that_a_server_of_an_upstream_failed(
    file: Callable[[object], str], capsys: pytest.CaptureFixture[str]
) -> None:
    status = check.main(["-check", "-strict", "-output=json", "--config", file(DIALLED)])

    document = json.loads(capsys.readouterr().out)
    assert status == 1
    assert list(document) == [
        "upstreams",
        "totalServers",
        "healthyCount",
        "failedCount",
        "disabledCount",
        "totalTools",
    ]
    assert [[server["name"] for server in shown["mcpServers"]] for shown in document["upstreams"]] == [
        ["clock", "off", "本地"],
        ["refuses", "clock"],
    ]


LISTS_TOOLS = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    answer = {
        "initialize": {"result": {
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}, "prompts": {}},
            "serverInfo": {"name": "s", "version": "1"},
        }},
        "tools/list": {"result": {"tools": []}},
        "server/discover": {"error": {"code": -32601, "message": "no such method"}},
    }.get(message["method"])
    if answer is not None:
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer}), flush=True)
"""


@pytest.mark.requirement("6.check.servers")
def test_a_server_of_an_upstream_need_not_list_its_prompts(
    file: Callable[[object], str], capsys: pytest.CaptureFixture[str]
) -> None:
    """It has some and does not answer when asked; no upstream would be any the worse for it."""
    servers = {"s": {"command": sys.executable, "args": ["-c", LISTS_TOOLS]}}
    upstreams = [{"name": "cloud", "endpoint": "wss://127.0.0.1:1/"}]

    check.main(["-config", file({"servers": servers, "upstreams": upstreams}), "-output", "json", "-timeout", "120s"])

    assert json.loads(capsys.readouterr().out)["healthyCount"] == 1


@pytest.mark.requirement("6.check.flags")
def test_an_unknown_output_is_text_as_it_was_with_a_warning(
    file: Callable[[object], str], capsys: pytest.CaptureFixture[str]
) -> None:
    status = check.main(["-output", "yaml", "-config", file({"servers": {"off": {**DEMO, "enabled": False}}})])

    printed = capsys.readouterr()
    assert status == 0
    assert printed.out.startswith("off  disabled")
    assert printed.err == "warning: --output yaml: there are text and json; this is text\n"


@pytest.mark.requirement("6.check.flags")
@pytest.mark.parametrize("runner", [check.main, gateway.main], ids=["check", "gateway"])
@pytest.mark.parametrize("flag", ["-check", "--check", "-check=true", "--check=1"])
def test_asked_for_with_a_flag_a_bad_configuration_is_an_error_and_1(
    runner: Callable[[list[str]], int],
    flag: str,
    file: Callable[[object], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As source system 000 had it; without the flag it is 2, as for any runner."""
    status = runner([flag, "-config", file({"servers": {"a": {"command": "x", "arg": []}}})])

    said = capsys.readouterr().err
    assert status == 1
    assert said.startswith("Error: ")
    assert "unknown key 'arg'" in said


@pytest.mark.requirement("6.check.flags")
@pytest.mark.parametrize("flags", [["-nope"], ["-timeout", "soon"], ["-timeout", "-5s"], ["-check=maybe"]], ids=str)
def test_a_flag_that_does_not_fit_is_told_with_the_usage_and_2(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        gateway.main(["-check", *flags])

    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: python -m runners.check ")


class Terminal(io.TextIOWrapper):
    """Standard output of a terminal, or of a file, in some encoding."""

    def __init__(self, encoding: str, *, tty: bool = False) -> None:
        self.written = io.BytesIO()
        self._tty = tty
        super().__init__(self.written, encoding=encoding)

    def isatty(self) -> bool:
        return self._tty

    def read_back(self, encoding: str) -> str:
        self.flush()
        return self.written.getvalue().decode(encoding)


OFF = {**DIALLED, "servers": {name: {**DIALLED["servers"][name], "enabled": False} for name in DIALLED["servers"]}}


@pytest.mark.requirement("6.check.text")
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_text_for_another_locale_has_other_ornaments(
    encoding: str, file: Callable[[object], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Terminal(encoding)
    monkeypatch.setattr(sys, "stdout", out)

    check.main(["-config", file(OFF)])

    shown = out.read_back(encoding)
    assert "# Upstream: \\u5176\\u4ed6" in shown
    assert "   - [clock] (stdio)\n" in shown
    assert "     * Disabled:       5\n" in shown


@pytest.mark.requirement("6.check.json")
@pytest.mark.parametrize("config", [OFF, {"servers": OFF["servers"]}], ids=["upstreams", "servers"])
def test_json_is_utf_8_whatever_the_locale(
    config: object, file: Callable[[object], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Terminal("ascii")
    monkeypatch.setattr(sys, "stdout", out)

    check.main(["-config", file(config), "-output", "json"])

    assert "café" in json.loads(out.read_back("utf-8")).get("config", "café")


@pytest.mark.requirement("feature.135", "6.check.colour")
@pytest.mark.parametrize(
    ("variables", "tty", "colour"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "0"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"TERM": "dumb"}, True, False),
    ],
    ids=str,
)
def test_upstreams_are_coloured_for_terminals_that_want_it(
    variables: dict[str, str],
    tty: bool,
    colour: bool,
    file: Callable[[object], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    out = Terminal("utf-8", tty=tty)
    monkeypatch.setattr(sys, "stdout", out)

    check.main(["-config", file(OFF)])

    assert ("\x1b[36mcloud\x1b[0m" in out.read_back("utf-8")) is colour


@pytest.mark.requirement("6.check.strict")
def test_a_server_that_cannot_work_has_failed_although_the_others_run_without_it(
    file: Callable[[object], str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of dlmufei/mcp-gateway, for which it is only left out: as if it were disabled."""
    servers = {"good": {"type": "stdio", **DEMO}, "bad": {"type": "http", "url": "ht tp://hunter2"}}
    upstreams = [{"name": "cloud", "endpoint": "wss://127.0.0.1:1/", "mcpServers": servers}]

    status = check.main(["-check", "-config", file({"upstreams": upstreams}), "-strict"])

    printed = capsys.readouterr()
    assert status == 1
    assert "   ✅ [good] (stdio)\n" in printed.out
    assert "      Status: Failed\n      Error: create adapter failed: url: is no URL: it holds spaces" in printed.out
    assert "     • Healthy:        1\n     • Failed:         1\n   Total Tools:        2\n" in printed.out
    assert "left out, the others run" in printed.err


@pytest.mark.requirement("6.check.text", "6.check.json")
def test_a_disabled_server_is_listed_whatever_it_lacks(
    file: Callable[[object], str], capsys: pytest.CaptureFixture[str]
) -> None:
    """As dlmufei/mcp-gateway does; what is wrong with it is nobody's concern, and it does not count."""
    lacking = {
        "bad": {"type": "http", "url": "ht tp://hunter2", "disabled": True},
        "empty": {"type": "sse", "disabled": True},
        "script": {"command": "x", "disabled": True},
    }
    servers = {"good": {"type": "stdio", **DEMO}, **lacking}
    upstreams = [{"name": "cloud", "endpoint": "wss://127.0.0.1:1/", "mcpServers": servers}]
    path = file({"upstreams": upstreams})

    assert check.main(["-check", "-config", path, "-strict"]) == 0
    text = capsys.readouterr()
    assert check.main(["-check", "-config", path, "-output", "json"]) == 0
    told = json.loads(capsys.readouterr().out)

    for name, type in ("bad", "http"), ("empty", "sse"), ("script", "stdio"):
        shown = text.out.partition(f"   ⏸️ [{name}] ({type})\n")[2].partition("\n\n")[0]
        assert shown.splitlines()[-1] == "      Status: Disabled"
    assert "   Total MCP Servers:  1\n     • Healthy:        1\n     • Disabled:       3\n" in text.out
    assert text.err == ""
    assert told["upstreams"][0]["mcpServers"][2] == {
        "name": "empty",
        "type": "sse",
        "disabled": True,
        "healthy": False,
        "error": "disabled in config",
    }
    assert (told["totalServers"], told["disabledCount"]) == (1, 3)
