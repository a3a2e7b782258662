"""The login shell's PATH: when it is asked for, what is made of the answer, and that nothing of it does harm."""

from __future__ import annotations

import logging
import os
import stat
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeAlias

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from mcpgateway.config.model import LoginShell, LoginShellMode
from mcpgateway.wire.guard import Guard
from mcpgateway.wire.login_path import Answer, LoginPath, filled, is_wanted, question

AUTO, ALWAYS, NEVER = LoginShellMode.AUTO, LoginShellMode.ALWAYS, LoginShellMode.NEVER
BARE = "/usr/bin:/bin:/usr/sbin:/sbin"
SOON = 60.0

# ---- when ------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("4.children.path", "feature.33")
@pytest.mark.parametrize(
    ("mode", "environ", "wanted"),
    [
        (AUTO, {"PATH": BARE}, True),  # launchd
        (AUTO, {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin"}, True),  # systemd
        (AUTO, {"PATH": "/usr/bin/:/bin:"}, True),
        (AUTO, {}, True),
        (AUTO, {"PATH": BARE, "TERM": "xterm"}, False),
        (AUTO, {"PATH": BARE, "SHLVL": "1"}, False),
        (AUTO, {"PATH": f"/opt/homebrew/bin:{BARE}"}, False),
        (NEVER, {"PATH": BARE}, False),
        (ALWAYS, {"PATH": f"/opt/homebrew/bin:{BARE}", "TERM": "xterm", "SHLVL": "1"}, True),
    ],
)
def test_it_is_asked_where_no_shell_has_been_at_work(
    mode: LoginShellMode, environ: dict[str, str], wanted: bool
) -> None:
    assert is_wanted(mode, environ) is wanted


@pytest.mark.parametrize(
    ("shell", "options"),
    [
        ("/bin/bash", ("-l", "-i", "-c")),
        ("/usr/bin/fish", ("-l", "-i", "-c")),
        ("/bin/tcsh", ("-i", "-c")),
        ("/usr/sbin/nologin", None),
        ("/bin/false", None),
        ("", None),
    ],
)
def test_each_shell_is_asked_in_its_way(shell: str, options: tuple[str, ...] | None) -> None:
    asked = question(shell)
    assert (asked[1:-1] if asked is not None else None) == options


# ---- what ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "login", "result"),
    [
        ("/usr/bin:/bin", "/opt/bin:/bin:/home/u/.local/bin", "/usr/bin:/bin:/opt/bin:/home/u/.local/bin"),
        ("/usr/bin:/bin", "/bin:/usr/bin", "/usr/bin:/bin"),
        ("/usr/bin", "", "/usr/bin"),
        ("", "/opt/bin", "/opt/bin"),
        ("/usr/bin", ".::bin:~/bin:/opt/bin", "/usr/bin:/opt/bin"),
    ],
)
def test_only_gaps_are_filled(own: str, login: str, result: str) -> None:
    assert filled(own, login) == result


_PATHS = st.lists(st.sampled_from(["/a", "/b", "/c", "", ".", "d"]), max_size=6).map(":".join)


@given(_PATHS, _PATHS)
def test_what_the_gateway_has_stays_first_and_nothing_relative_comes_in(own: str, login: str) -> None:
    result = filled(own, login)
    mine = list(dict.fromkeys(own.split(":"))) if own else []
    assert result.split(":")[: len(mine)] == mine or not mine
    assert set(result.split(":")) - set(mine) - {""} == {d for d in login.split(":") if d.startswith("/")} - set(mine)
    assert filled(result, login) == result


MARK = b"mcpgateway-login-path"


@pytest.mark.parametrize(
    ("lines", "path"),
    [
        ([MARK, b"/a:/b", MARK], "/a:/b"),
        ([b"Welcome!", b"PATH is /x", b"no line break " + MARK, b"/a", MARK], "/a"),
        ([MARK, MARK], ""),
        ([MARK, b"/a"], None),
        ([b"/a", MARK], None),
        ([MARK, b"/\xff", MARK], "/\udcff"),
    ],
)
def test_the_answer_is_found_among_noise(lines: list[bytes], path: str | None) -> None:
    answer = Answer()
    assert [answer.take(line) for line in lines][-1] is (path is not None)
    assert answer.path == path


# ---- asking ----------------------------------------------------------------------------------------------------------

MakeShell: TypeAlias = Callable[[str], str]


@pytest.fixture
async def guard() -> AsyncIterator[Guard]:
    guard = Guard()
    yield guard
    await guard.aclose()


@pytest.fixture
def shell(tmp_path: Path) -> MakeShell:
    """Writes a login shell that runs some lines, as its user's files, before it does what it was asked."""

    def make(lines: str) -> str:
        path = tmp_path / "shell"
        path.write_text(f'#!/bin/sh\n{lines}\nshift 3\neval "$1"\n')
        path.chmod(stat.S_IRWXU)
        return str(path)

    return make


async def asked(guard: Guard, shell: str, *, times: int = 1, timeout: float = SOON) -> str | None:
    environ = {"PATH": BARE, "SHELL": shell}
    login = LoginPath(LoginShell(ALWAYS, timeout), guard, environ)
    answers: list[str | None] = []

    async def ask() -> None:
        answers.append(await login.path())

    with trio.fail_after(2 * SOON):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(login.run)
            for _ in range(times):
                nursery.start_soon(ask)
    assert len(set(answers)) == 1
    assert len(answers) == times
    return answers[0]


@pytest.mark.requirement("4.children.path", "feature.33")
async def test_twenty_children_side_by_side_ask_once(guard: Guard, shell: MakeShell, tmp_path: Path) -> None:
    path = shell(f"echo asked >> {tmp_path}/count; echo hello; PATH=/opt/x/bin:$PATH; export PATH")
    assert await asked(guard, path, times=20) == f"{BARE}:/opt/x/bin" + _more()
    assert (tmp_path / "count").read_text() == "asked\n"


def _more() -> str:
    """What this process has on its PATH that a bare one has not: the shell of a test inherits it."""
    mine = [directory for directory in os.environ["PATH"].split(":") if directory not in BARE.split(":")]
    return "".join(f":{directory}" for directory in dict.fromkeys(mine))


async def test_nobody_waits_where_it_is_not_wanted(guard: Guard) -> None:
    login = LoginPath(LoginShell(AUTO), guard, {"PATH": BARE, "TERM": "xterm", "SHELL": "/no/such/shell"})
    assert await login.path() is None
    await login.run()
    assert guard.pid is None, "nothing was started"


async def test_nothing_is_started_before_a_child_needs_it(guard: Guard) -> None:
    login = LoginPath(LoginShell(ALWAYS), guard, {"SHELL": "/no/such/shell"})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(login.run)
        await trio.testing.wait_all_tasks_blocked()
        assert guard.pid is None
        nursery.cancel_scope.cancel(reason="test")


async def gone(pid: int) -> None:
    """Wait until a process has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with trio.fail_after(SOON):
        await trio.lowlevel.wait_readable(fd)
    os.close(fd)


@pytest.mark.skipif(sys.platform != "linux", reason="uses a pidfd")
async def test_what_the_users_files_start_does_not_hold_the_answer_up_and_is_killed(
    guard: Guard, shell: MakeShell, tmp_path: Path
) -> None:
    path = shell(f"sleep 600 & echo $! > {tmp_path}/pid; read line; echo got $line")
    assert await asked(guard, path) is not None
    await gone(int((tmp_path / "pid").read_text()))


@pytest.mark.requirement("4.children.path")
@pytest.mark.parametrize(
    ("lines", "timeout", "words"),
    [
        ("sleep 600", 0.05, "did not tell its own within 0.05 s"),
        ("exit 3", SOON, "ended without telling its own"),
        ("yes | head -c 1000000; exit", SOON, "ended without"),
        ("head -c 1000000 /dev/zero; exit", SOON, "ended without"),
    ],
)
async def test_a_failure_is_one_warning(
    guard: Guard, shell: MakeShell, caplog: pytest.LogCaptureFixture, lines: str, timeout: float, words: str
) -> None:
    caplog.set_level(logging.INFO, "mcpgateway")
    assert await asked(guard, shell(lines), times=3, timeout=timeout) is None
    (record,) = caplog.records
    assert words in record.getMessage()


async def test_a_shell_that_cannot_be_started_is_a_warning(guard: Guard, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mcpgateway")
    assert await asked(guard, "/no/such/shell") is None
    assert "/no/such/shell could not be started: No such file" in caplog.text


async def test_a_user_without_a_shell_is_not_asked(guard: Guard, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mcpgateway")
    assert await asked(guard, "/usr/sbin/nologin") is None
    assert not caplog.records


@pytest.mark.skipif(not Path("/bin/bash").exists(), reason="needs bash")
async def test_bash_itself_is_asked_with_the_files_of_its_user(
    guard: Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".bash_profile").write_text("echo good morning\nexport PATH=/from/profile:$PATH\n. ~/.bashrc\n")
    (tmp_path / ".bashrc").write_text("case $- in *i*) PATH=/only/where/interactive:$PATH;; esac\n")
    path = await asked(guard, "/bin/bash")
    assert path is not None
    assert path.startswith(f"{BARE}:/only/where/interactive:/from/profile")
