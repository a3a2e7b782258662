"""``runners.check``: what it finds out about servers good and bad, and its flags and exit statuses."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mcpgateway.app import open_gateway
from mcpgateway.config.loading import from_value
from mcpgateway.demo.clock import Clock
from mcpgateway.demo.server import MiniServer
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.memory import MemoryAdapter, MemoryLink
from runners import check
from runners.check import ENDING, look, seconds
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


class OneLink(MemoryAdapter):
    """A server that can be reached once: a second process would find its port taken."""

    async def connect(self, *arguments: object) -> MemoryLink:
        self.dead = bool(self.links)
        return await super().connect(*arguments)  # type: ignore[arg-type,return-value]


async def found(adapter: MemoryAdapter) -> Finding:
    async with open_gateway(servers={adapter.server: adapter}) as gateway:
        return await look(gateway, gateway.servers[adapter.server], TIMEOUT)


async def test_a_server_of_both_eras_is_found_to_be_one(autojump_clock: object) -> None:
    finding = await found(MemoryAdapter("clock", clock))

    assert finding.status is Status.OK
    assert finding.reachable
    assert finding.eras == ("modern", "legacy")
    assert finding.revision == "2026-07-28"
    assert (finding.server_name, finding.server_version) == ("clock", "1.0")
    assert finding.tools == ("now", "convert")
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

    assert finding == Finding("dead", "in-process", Status.FAILED, seconds=0.0, error="is dead")


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
    assert finding.error == "did not answer within 5 s"
    assert finding.seconds == TIMEOUT


@pytest.mark.parametrize(
    ("text", "value"), [("30s", 30.0), ("30", 30.0), ("0.5", 0.5), ("500ms", 0.5), ("1m30s", 90.0)]
)
def test_a_timeout_is_a_duration_or_a_number_of_seconds(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "0", "0s", "-1", "soon", "nan", "inf", "1e9"])
def test_a_timeout_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        seconds(text)


@pytest.fixture
def file(tmp_path: Path) -> Callable[[object], str]:
    def write(document: object) -> str:
        path = tmp_path / "mcp-gateway.json"
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
    status = check.main(["-config", file(MIXED), "-output", "json", "-timeout", "20s", "-strict"])

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
