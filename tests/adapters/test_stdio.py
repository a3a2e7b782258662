"""stdio links against real children: the fixture server, and small ones that misbehave."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec import Raw
from trio.testing import MockClock

from mcpgateway import jsonrpc
from mcpgateway.adapters import stdio
from mcpgateway.adapters.base import Event, Link, NoBack, Offer, Request, open_link
from mcpgateway.adapters.pipe import PipeLink
from mcpgateway.adapters.stdio import StdioAdapter
from mcpgateway.config.model import LoginShell, LoginShellMode, Secret, StdioServer
from mcpgateway.errors import CallCancelled, ConfigError, EraMismatch, NotStarted, ServerUnavailable
from mcpgateway.jsonrpc import Message
from mcpgateway.protocol.handshake import initialize_params
from mcpgateway.protocol.revisions import Era
from mcpgateway.wire.guard import Guard
from mcpgateway.wire.login_path import LoginPath
from mcpgateway.wire.waiting import Wait

SOON = 60.0
"""Seconds after which a test gives up; nothing here takes as long."""

OFFER = Offer(Era.LEGACY, initialize_params("2025-11-25", Raw(b"{}"), Raw(b'{"name":"c","version":"1"}')))

TINY = r"""
import json, os, signal, sys
def write(data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
def say(**members):
    write(json.dumps({"jsonrpc": "2.0", **members}).encode() + b"\n")
def initialized(id):
    info = {"name": "t", "version": "1"}
    say(id=id, result={"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": info})
def requests():
    for line in sys.stdin:
        message = json.loads(line)
        if message["method"] == "initialize":
            initialized(message["id"])
        elif "id" in message:
            yield message["id"], message["params"]
"""
"""A legacy server in a few lines; what is added to it answers ``requests()``."""

ECHO = "for id, _ in requests(): say(id=id, result={})"


@pytest.fixture
async def guard() -> AsyncIterator[Guard]:
    guard = Guard()
    yield guard
    await guard.aclose()


def tiny(guard: Guard, program: str, **options: Any) -> StdioAdapter:
    return StdioAdapter(StdioServer("tiny", command=sys.executable, args=("-ISc", TINY + program), **options), guard)


def fixture(guard: Guard, *args: str, **options: Any) -> StdioAdapter:
    args = ("-m", "mcpgateway.testing.fixture_server", *args)
    return StdioAdapter(StdioServer("fixture", command=sys.executable, args=args, **options), guard, grace=0.5)


def a_call(tool: str, **arguments: object) -> Message:
    return jsonrpc.request(b'"client"', "tools/call", {"name": tool, "arguments": arguments})


async def call(link: Link, tool: str, **arguments: object) -> Any:
    with trio.fail_after(SOON):
        reply = await link.call(Request(a_call(tool, **arguments), Wait()), NoBack())
    return json.loads(reply.message.encode())["result"]


def text(result: Any) -> str:
    return str(result["content"][0]["text"])


def runs(pid: int | None) -> bool:
    assert pid is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# ---- the fixture server ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("speaks", "era", "expected"),
    [
        ("legacy", None, Era.LEGACY),
        ("modern", None, Era.MODERN),
        ("dual", None, Era.MODERN),
        ("dual", Era.LEGACY, Era.LEGACY),
    ],
)
async def test_the_era_is_found_out(guard: Guard, speaks: str, era: Era | None, expected: Era) -> None:
    async with open_link(fixture(guard, "--era", speaks), Offer(era, OFFER.initialize)) as link:
        assert link.negotiated.era is expected
        assert link.negotiated.name == "fixture"
        pid = link.statistics().pid
    assert not runs(pid)
    assert link.failure == "the link was closed"


@pytest.mark.parametrize(("speaks", "era"), [("legacy", Era.MODERN), ("modern", Era.LEGACY)])
async def test_an_era_that_is_not_spoken_leaves_no_child(guard: Guard, speaks: str, era: Era) -> None:
    async with trio.open_nursery() as nursery:
        with pytest.raises(EraMismatch):
            await fixture(guard, "--era", speaks).connect(nursery, Offer(era, OFFER.initialize), lambda message: None)
        # Nobody cancels the nursery: it ends because the child has.


async def test_many_calls_at_once_are_never_mixed(guard: Guard) -> None:
    async with open_link(fixture(guard), OFFER) as link:
        results: dict[str, Any] = {}

        async def one(number: int) -> None:
            results[f"text {number}"] = await call(link, "echo", text=f"text {number}")

        async with trio.open_nursery() as nursery:
            for number in range(64):
                nursery.start_soon(one, number)
        assert len(results) == 64
        for sent, result in results.items():
            assert text(result) == sent


async def test_a_line_of_five_megabytes_both_ways(guard: Guard) -> None:
    async with open_link(fixture(guard), OFFER) as link:
        assert len(text(await call(link, "big", kib=5 * 1024))) == 5 * 1024 * 1024
        long = "ü" * 2_500_000
        assert text(await call(link, "echo", text=long)) == long


async def test_progress_comes_under_the_clients_token(guard: Guard) -> None:
    seen: list[Any] = []

    class Back:
        async def send(self, event: Event) -> None:
            assert event.message is not None
            seen.append(json.loads(event.message.encode())["params"])

    message = jsonrpc.request(
        b"1", "tools/call", {"name": "progress", "arguments": {"n": 3}, "_meta": {"progressToken": "t"}}
    )
    async with open_link(fixture(guard), OFFER) as link:
        await link.call(Request(message, Wait()), Back())
    assert [(params["progressToken"], params["progress"]) for params in seen] == [("t", 1), ("t", 2), ("t", 3)]


async def test_a_cancel_is_told_to_the_server(guard: Guard) -> None:
    wait = Wait()
    ended: list[Exception] = []

    async def slow(link: Link) -> None:
        try:
            await link.call(Request(a_call("slow", name="x"), wait), NoBack())
        except CallCancelled as problem:
            ended.append(problem)

    async with open_link(fixture(guard), OFFER) as link, trio.open_nursery() as nursery:
        nursery.start_soon(slow, link)
        assert (await call(link, "waiting", count=1))["structuredContent"] == {"values": ["x"]}
        wait.end(CallCancelled("as asked"))
        assert (await call(link, "cancelled", count=1))["structuredContent"] == {"values": ["x"]}
        assert link.statistics().in_flight == 0
    assert len(ended) == 1


async def test_news_of_the_server_reach_the_callback(guard: Guard) -> None:
    heard: list[Message] = []
    async with open_link(fixture(guard), OFFER, heard.append) as link:
        await call(link, "notify")
    assert [message.method for message in heard] == ["notifications/tools/list_changed"]


async def test_a_crash_fails_all_calls_at_once_with_status_and_last_words(guard: Guard) -> None:
    problems: list[str] = []

    async def one(link: Link, name: str) -> None:
        with pytest.raises(ServerUnavailable) as caught:
            await call(link, name)
        problems.append(caught.value.message)

    async with open_link(fixture(guard), OFFER) as link:
        async with trio.open_nursery() as nursery:
            for name in ("slow", "slow", "crash"):
                nursery.start_soon(one, link, name)
        assert link.closed.is_set()
        assert link.failure == "exited with status 3; its last words: boom"
        assert problems == [f"server 'fixture': {link.failure}"] * 3
        with pytest.raises(ServerUnavailable, match="status 3"):
            await call(link, "echo")
        assert not runs(link.statistics().pid)


async def test_a_server_that_never_answers_is_given_up(guard: Guard) -> None:
    adapter = fixture(guard, "--silent", startup_timeout=0.05)
    assert await refusal(adapter) == "did not shake hands within 0.05 s"


# ---- children that misbehave -----------------------------------------------------------------------------------------


@pytest.mark.requirement("4.children.junk")
async def test_junk_on_standard_output_is_survived(guard: Guard) -> None:
    adapter = tiny(
        guard,
        r"""
write(b"Starting up...\n\n\xff\xfe\x00\n{\n[]\n{}\nnull\n7\n\"text\"\n\xef\xbb\xbf{}\n")
write(b'{"jsonrpc":"2.0","id":"\x00"}\n[1,null,[],{}]\n[' + b"1," * 600_000 + b"1]\n")
for id, params in requests():
    write(b'{"jsonrpc":"2.0",')
    write(b'"id":%d,"resul' % id)
    write(b't":{"content":[{"text":"ok"}]}}\r\n' + b"[" * 100000 + b"\nbye\n" + b'{"result":' + b"[" * 100000 + b"\n")
""",
    )
    async with open_link(adapter, OFFER) as link:
        for _ in range(3):
            assert text(await call(link, "t")) == "ok"


@pytest.mark.requirement("4.children.junk")
async def test_long_lines_of_junk_are_survived(guard: Guard) -> None:
    adapter = tiny(
        guard,
        r"""
for id, params in requests():
    write(b"x" * 1_000_000 + b"\n" + b"\xff" * 1_000_000 + b"\n" + b'{"a":"' + b"y" * 5_000_000 + b"\n")
    say(id=id, result={})
""",
    )
    async with open_link(adapter, OFFER) as link:
        assert await call(link, "t") == {}


async def test_a_reply_among_much_junk_counts_though_the_child_ends_at_once(guard: Guard) -> None:
    adapter = tiny(guard, "for id, _ in requests(): write(b'y\\n' * 10_000); say(id=id, result={}); os._exit(0)")
    async with open_link(adapter, OFFER) as link:
        assert await call(link, "t") == {}


@pytest.mark.requirement("4.children.junk")
async def test_a_child_that_prints_without_end_is_heard_and_others_have_their_turn(guard: Guard) -> None:
    flooding = tiny(
        guard,
        r"""
import threading
def flood():
    while True: os.write(1, b"y\n" * 2048)  # what is no longer than PIPE_BUF is written in one piece
for id, _ in requests():
    threading.Thread(target=flood, daemon=True).start()
    os.write(1, json.dumps({"jsonrpc": "2.0", "id": id, "result": {"first": True}}).encode() + b"\n")
    break
for id, _ in requests():
    os.write(1, json.dumps({"jsonrpc": "2.0", "id": id, "result": {}}).encode() + b"\n")
""",
    )
    async with open_link(flooding, OFFER) as link, open_link(tiny(guard, ECHO), OFFER) as other:
        assert await call(link, "t") == {"first": True}
        for _ in range(20):
            assert await call(other, "t") == {}
        assert await call(link, "t") == {}
        assert await call(link, "t") == {}


async def test_a_reply_without_a_line_break_before_the_end_counts(guard: Guard) -> None:
    adapter = tiny(guard, 'for id, _ in requests(): write(b\'{"jsonrpc":"2.0","id":%d,"result":{"x":1}}\' % id); break')
    async with open_link(adapter, OFFER) as link:
        assert await call(link, "t") == {"x": 1}
        await link.closed.wait()
        assert link.failure == "exited with status 0"


@pytest.mark.requirement("4.children.junk")
async def test_a_flood_on_standard_error_holds_nothing_up(guard: Guard) -> None:
    flood = r"b'x' * 3_000_000 + b'\nand so on\n' * 50_000"
    adapter = tiny(guard, f"for id, _ in requests(): os.write(2, {flood}); say(id=id, result={{}})")
    async with open_link(adapter, OFFER) as link:
        assert await call(link, "t") == {}


async def test_a_child_that_ignores_sigterm_is_killed(guard: Guard) -> None:
    program = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for id, _ in requests(): say(id=id, result={})
while True: signal.pause()
"""
    config = StdioServer("tiny", command=sys.executable, args=("-ISc", TINY + program))
    async with trio.open_nursery() as nursery:
        link = await StdioAdapter(config, guard, grace=0.05).connect(nursery, OFFER, lambda message: None)
        assert await call(link, "t") == {}
        with trio.fail_after(SOON):
            await link.aclose()
            assert not runs(link.statistics().pid)
            await link.aclose()


async def test_a_daemon_that_holds_the_output_open_does_not_keep_the_link(guard: Guard) -> None:
    program = r"""
for id, _ in requests():
    out_of_reach, told = os.pipe()
    if os.fork():
        os.read(out_of_reach, 1)
        os._exit(4)
    os.setsid()
    say(id=id, result={"pid": os.getpid()})
    os.write(told, b"x")
    signal.alarm(60)
    signal.pause()
"""
    async with trio.open_nursery() as nursery:
        link = await tiny(guard, program).connect(nursery, OFFER, lambda message: None)
        daemon = (await call(link, "t"))["pid"]
        with trio.fail_after(SOON):
            await link.closed.wait()
        assert link.failure == "exited with status 4"
    os.kill(daemon, signal.SIGKILL)


@pytest.mark.requirement("4.children.crash")
async def test_what_a_child_said_before_it_was_killed_is_heard_though_others_hold_its_pipes(guard: Guard) -> None:
    """Nothing is waited for: a reply and last words that are in the pipes count, and then the calls fail."""
    program = r"""
out_of_reach, told = os.pipe()
daemon = os.fork()
if not daemon:
    os.setsid()
    os.write(told, b"x")
    signal.alarm(60)
    signal.pause()
os.read(out_of_reach, 1)
first, second = (id for _, (id, _) in zip(range(2), requests()))
os.write(2, b"no\nline break")
say(id=first, result={"daemon": daemon})
os.kill(os.getpid(), signal.SIGKILL)
"""
    became: list[Any] = []

    async def one(link: Link) -> None:
        try:
            became.append(await call(link, "t"))
        except ServerUnavailable as problem:
            became.append(problem.reason)

    async with trio.open_nursery() as nursery:
        link = await tiny(guard, program).connect(nursery, OFFER, lambda message: None)
        async with trio.open_nursery() as calls:
            calls.start_soon(one, link)
            calls.start_soon(one, link)
    answer, problem = became
    os.kill(answer["daemon"], signal.SIGKILL)
    assert problem == "was killed by SIGKILL; its last words: no\nline break"


@pytest.mark.requirement("4.children.crash")
@pytest.mark.parametrize(
    ("closes", "words"),
    [("os.close(1)", "closed its output"), ("os.close(0); say(id=id, result={})", "its input is closed")],
)
async def test_a_child_that_closes_a_pipe_and_goes_on_is_ended(
    guard: Guard, monkeypatch: pytest.MonkeyPatch, closes: str, words: str
) -> None:
    """One pipe alone is no use: the calls fail, and the next link is another child's."""
    monkeypatch.setattr(stdio, "_DRAIN", 0.05)
    program = f"for id, _ in requests():\n    {closes}\n    while True: signal.pause()"
    config = StdioServer("tiny", command=sys.executable, args=("-ISc", TINY + program))
    async with trio.open_nursery() as nursery:
        link = await StdioAdapter(config, guard, grace=0.05).connect(nursery, OFFER, lambda message: None)
        with pytest.raises(ServerUnavailable, match=words):
            await twice(link)
        # The nursery ends only when the child has been reaped.
    assert not runs(link.statistics().pid)


async def twice(link: Link) -> None:
    for _ in range(2):
        await call(link, "t")


async def test_cancelling_the_nursery_ends_the_link_at_once(guard: Guard) -> None:
    async with trio.open_nursery() as nursery:
        adapter = tiny(guard, "for id, _ in requests(): signal.pause()")
        link = await adapter.connect(nursery, OFFER, lambda message: None)
        nursery.cancel_scope.cancel(reason="test")
    assert link.closed.is_set()
    assert link.failure == "the gateway gave it up"
    assert not runs(link.statistics().pid)


async def test_cancelling_the_connection_attempt_leaves_nothing(guard: Guard) -> None:
    adapter = tiny(guard, "say(method='notifications/tools/list_changed')\nwhile True: signal.pause()")
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:

            def up(message: Message) -> None:
                scope.cancel(reason="test")

            with trio.fail_after(SOON):
                await adapter.connect(nursery, OFFER, up)
        assert scope.cancelled_caught
        # Nobody cancels the nursery: it ends because the child has.


# ---- messages of failures --------------------------------------------------------------------------------------------


async def refusal(adapter: StdioAdapter) -> str:
    async with trio.open_nursery() as nursery:
        with pytest.raises(ServerUnavailable) as caught:
            await adapter.connect(nursery, OFFER, lambda message: None)
    return caught.value.reason


async def test_a_server_that_talks_to_people_instead_is_told_apart(
    guard: Guard, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that listens on a port, unless it is told to use stdio."""
    talked = trio.Event()
    drop = PipeLink.drop

    def heard(link: PipeLink, reason: str) -> None:
        drop(link, reason)
        talked.set()

    async def wait_and_end() -> None:
        await talked.wait()
        mock_clock.jump(61)

    monkeypatch.setattr(PipeLink, "drop", heard)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_and_end)
        reason = await refusal(tiny(guard, "print('Listening on port 3000', flush=True)\nsys.stdin.read()"))
    assert reason == (
        "did not shake hands within 60 s, and wrote on standard output what is no MCP; "
        "does it have to be told to use stdio?"
    )


async def test_a_child_that_ends_at_once_says_why_without_its_secrets(guard: Guard) -> None:
    program = "print('bad key', os.environ['KEY'], file=sys.stderr)\nsys.exit(2)"
    reason = await refusal(tiny(guard, program, env={"KEY": Secret("hunter2hunter2")}))
    assert reason == "exited with status 2; its last words: bad key ***"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("mcpgateway-no-such-command", "command not found: mcpgateway-no-such-command; is it on PATH?"),
        ("/no/such/command", "command not found: /no/such/command; is the path right?"),
        ("npx -y some-server", "command not found: npx -y some-server; arguments belong in 'args'"),
        ("/", "/ could not be started: Permission denied"),
    ],
)
async def test_a_command_that_cannot_be_started_says_why(guard: Guard, command: str, words: str) -> None:
    assert await refusal(StdioAdapter(StdioServer("x", command=command), guard)) == words


async def test_only_what_ran_has_been_started(guard: Guard) -> None:
    for adapter, started in (
        (StdioAdapter(StdioServer("x", command="/no/such/command"), guard), False),
        (tiny(guard, "sys.exit(2)"), True),
    ):
        async with trio.open_nursery() as nursery:
            with pytest.raises(ServerUnavailable) as caught:
                await adapter.connect(nursery, OFFER, lambda message: None)
        assert isinstance(caught.value, NotStarted) is not started


class AddsFolder(LoginPath):
    """A login shell that has been asked, and that adds a folder."""

    def __init__(self, folder: Path, guard: Guard) -> None:
        super().__init__(LoginShell(LoginShellMode.NEVER), guard)
        self.folder = folder

    async def path(self) -> str:
        await trio.lowlevel.checkpoint()
        return f"{os.environ['PATH']}:{self.folder}"


@pytest.mark.requirement("4.children.path", "feature.33")
async def test_a_command_is_looked_up_in_the_path_of_the_login_shell_and_has_it(guard: Guard, tmp_path: Path) -> None:
    command = tmp_path / "only-there"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    command.chmod(0o700)
    program = TINY + "for id, _ in requests(): say(id=id, result={'path': os.environ['PATH'].split(':')[-1]})"
    config = StdioServer("x", command="only-there", args=("-ISc", program))
    async with open_link(StdioAdapter(config, guard, AddsFolder(tmp_path, guard)), OFFER) as link:
        assert await call(link, "t") == {"path": str(tmp_path)}
    assert "command not found" in await refusal(StdioAdapter(config, guard))


@pytest.mark.requirement("4.children.path")
async def test_a_path_of_the_servers_own_wins(guard: Guard, tmp_path: Path) -> None:
    command = tmp_path / "only-there"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o700)
    config = StdioServer("x", command="only-there", env={"PATH": Secret("/usr/bin:/bin")})
    adapter = StdioAdapter(config, guard, AddsFolder(tmp_path, guard))
    assert await refusal(adapter) == "command not found: only-there; is it on PATH?"


async def test_a_script_without_its_interpreter_says_so(guard: Guard, tmp_path: Path) -> None:
    script = tmp_path / "server"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o700)
    assert "the interpreter that its first line names" in await refusal(
        StdioAdapter(StdioServer("x", command=str(script)), guard)
    )


async def test_a_missing_working_directory_is_named(guard: Guard, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert await refusal(tiny(guard, "", cwd=missing)) == f"its working directory does not exist: {missing}"


def test_windows_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ConfigError, match="Windows"):
        StdioAdapter(StdioServer("x", command="x"), Guard())


def test_secrets_are_not_in_the_repr_of_a_command() -> None:
    adapter = StdioAdapter(StdioServer("x", command="x", env={"KEY": Secret("hunter2hunter2")}), Guard())
    assert "hunter2" not in repr(vars(adapter))
