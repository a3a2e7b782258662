"""Children end when they should, with everything that they started. Real processes, no sleeps.

Every process of a test holds the write end of a pipe; the read end tells, by its end, that none of them is left.
"""

from __future__ import annotations

import gc
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
import trio
import trio.testing

from mcpgateway.wire.children import Child, Command, describe_status, spawn
from mcpgateway.wire.guard import Guard
from mcpgateway.wire.last_words import BURST, LINES_PER_SECOND

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

SOON = 60.0
"""Seconds after which a test has failed; what it waits for takes none, or would take for ever."""

STUBBORN = """
import os, signal, sys
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
for generation in range(2):
    if os.fork():
        break
os.write(1, b"up\\n")
while True:
    signal.pause()
"""
"""Ignores the end of its input and all polite signals, and so do a child and a grandchild of it. Says ``up`` thrice."""


class Alive:
    """A pipe held open by all processes that inherit ``fd``."""

    def __init__(self) -> None:
        self.read, self.fd = os.pipe()
        os.set_inheritable(self.fd, True)

    async def none_left(self) -> None:
        """Wait until no process holds the pipe."""
        self.release()
        with trio.fail_after(SOON):
            await trio.lowlevel.wait_readable(self.read)
        assert os.read(self.read, 1) == b""

    def release(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def close(self) -> None:
        self.release()
        os.close(self.read)


@pytest.fixture
def alive() -> Iterator[Alive]:
    pipe = Alive()
    yield pipe
    pipe.close()


@pytest.fixture
async def guard() -> AsyncIterator[Guard]:
    guard = Guard()
    yield guard
    await guard.aclose()


def command(program: str, **env: str) -> Command:
    return Command("t", (sys.executable, "-ISc", program), env)


def holding(alive: Alive, program: str) -> Command:
    """A program that takes the pipe over; children inherit nothing by themselves, hence ``/proc``."""
    path = f"/proc/{os.getpid()}/fd/{alive.fd}"
    return command(
        f"import os; held = os.dup(os.open({path!r}, os.O_WRONLY)); os.set_inheritable(held, True)\n" + program
    )


async def says(child: Child, *lines: bytes) -> None:
    seen: list[bytes] = []
    with trio.fail_after(SOON):
        while len(seen) < len(lines):
            received = await child.stdout.receive()
            assert received is not None, f"only {seen}; {child.last_words}"
            seen += received
    assert sorted(seen) == sorted(lines)


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# ---- spawn and terminate ---------------------------------------------------------------------------------------------


async def test_a_child_has_its_own_session_our_environment_and_no_descriptor_of_ours(guard: Guard) -> None:
    os.environ["MCPGATEWAY_TEST"] = "ours"
    program = (
        "import os; print(os.getsid(0) == os.getpid() == os.getpgid(0), os.environ['MCPGATEWAY_TEST'],"
        "os.environ['MORE'], *sorted(map(int, os.listdir('/proc/self/fd')))[:-1])"
    )
    async with trio.open_nursery() as nursery:
        child = await spawn(nursery, command(program, MORE="given"), guard)
        await says(child, b"True ours given 0 1 2")
        child.stdout.close()
    del os.environ["MCPGATEWAY_TEST"]
    assert child.status == "exited with status 0"
    assert not runs(child.pid)


async def test_what_goes_in_comes_back_and_the_end_of_input_ends_it(guard: Guard) -> None:
    async with trio.open_nursery() as nursery:
        child = await spawn(
            nursery, command("import sys\nfor line in sys.stdin: print(line, end='', flush=True)"), guard
        )
        child.stdin.put(b"hello")
        await says(child, b"hello")
        await child.terminate()
        assert child.exited.is_set()
        child.stdout.close()
    assert child.status == "exited with status 0"


async def test_a_child_that_hears_sigterm_is_not_killed(guard: Guard, mock_clock: trio.testing.MockClock) -> None:
    """Time stands still meanwhile: the child has as much of it as it needs."""
    program = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
signal.alarm(60)
print('up', flush=True)
while True: signal.pause()
"""
    async with trio.open_nursery() as nursery:
        child = await spawn(nursery, command(program), guard)
        await says(child, b"up")
        nursery.start_soon(child.terminate, 1.0)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(1.0)
        await child.exited.wait()
        child.stdout.close()
    assert child.status == "exited with status 7"


async def test_a_stubborn_child_is_killed_with_all_that_it_started(guard: Guard, alive: Alive) -> None:
    async with trio.open_nursery() as nursery:
        child = await spawn(nursery, holding(alive, STUBBORN), guard)
        await says(child, b"up", b"up", b"up")
        await child.terminate(grace=0.05)
        child.stdout.close()
    assert child.status == "was killed by SIGKILL"
    await alive.none_left()


async def test_terminate_finishes_though_cancelled_and_may_be_repeated(guard: Guard, alive: Alive) -> None:
    async with trio.open_nursery() as nursery:
        child = await spawn(nursery, holding(alive, STUBBORN), guard)
        await says(child, b"up", b"up", b"up")
        with trio.CancelScope() as scope:
            scope.cancel(reason="test")
            await child.terminate(grace=0.05)
        assert child.exited.is_set()
        await child.terminate()
        child.stdout.close()
    await alive.none_left()


async def test_cancelling_its_nursery_kills_at_once(guard: Guard, alive: Alive) -> None:
    async with trio.open_nursery() as nursery:
        child = await spawn(nursery, holding(alive, STUBBORN), guard)
        await says(child, b"up", b"up", b"up")
        nursery.cancel_scope.cancel(reason="test")
    child.stdout.close()
    assert not runs(child.pid)
    await alive.none_left()


async def test_what_a_child_leaves_behind_when_it_crashes_is_killed(guard: Guard, alive: Alive) -> None:
    program = (
        "import signal\nif os.fork():\n    raise SystemExit(3)\nprint('up', flush=True)\nwhile True: signal.pause()"
    )
    async with trio.open_nursery() as nursery:
        child = await spawn(nursery, holding(alive, program), guard)
        with trio.fail_after(SOON):
            await child.exited.wait()
        child.stdout.close()
    assert child.status == "exited with status 3"
    await alive.none_left()


async def test_what_cannot_be_started_leaves_no_descriptor_open(guard: Guard) -> None:
    await guard.start()
    gc.collect()  # what earlier tests left to be collected is not to be closed meanwhile
    before = os.listdir("/proc/self/fd")
    async with trio.open_nursery() as nursery:
        with pytest.raises(FileNotFoundError):
            await spawn(nursery, Command("t", ("mcpgateway-no-such-command",)), guard)
    assert os.listdir("/proc/self/fd") == before


async def test_a_finished_child_leaves_no_descriptor_open(guard: Guard) -> None:
    await guard.start()
    gc.collect()  # the same
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        async with trio.open_nursery() as nursery:
            child = await spawn(nursery, command("pass"), guard)
            await child.exited.wait()
            child.stdout.close()
    assert len(os.listdir("/proc/self/fd")) == before


# ---- standard error --------------------------------------------------------------------------------------------------


async def test_standard_error_is_logged_line_by_line_and_its_end_is_kept(
    guard: Guard, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mcpgateway.server.t")
    program = "import os; os.write(2, b'one\\r\\n\\xff\\x07two \\x1b[31mred\\x1b[0m\\nkey hunter2hunter2\\nunfinished')"
    async with trio.open_nursery() as nursery:
        child = await spawn(nursery, command(program, KEY="hunter2hunter2"), guard)
        await child.exited.wait()
        child.stdout.close()
    expected = ["one", r"\xff\x07two red", "key ***", "unfinished"]
    assert [record.getMessage() for record in caplog.records if record.name == "mcpgateway.server.t"] == expected
    assert str(child.last_words).splitlines() == expected


async def test_a_flood_on_standard_error_is_read_but_not_all_logged(
    guard: Guard, caplog: pytest.LogCaptureFixture, mock_clock: trio.testing.MockClock
) -> None:
    """All of it within one moment, however long the child takes for it."""
    caplog.set_level(logging.INFO, "mcpgateway.server.t")
    program = "import os\nfor _ in range(100): os.write(2, b'x' * 99 + b'\\n' + b'y\\n' * 500)\nos.write(2, b'end')"
    async with trio.open_nursery() as nursery:
        child = await spawn(nursery, command(program), guard)
        await child.exited.wait()
        child.stdout.close()
    assert BURST * LINES_PER_SECOND <= len(caplog.records) < 2 * BURST * LINES_PER_SECOND
    assert re.fullmatch(r"\(\d+ lines left out\)", caplog.records[-1].getMessage())
    assert str(child.last_words).endswith("y\nend")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (None, "is running"),
        (0, "exited with status 0"),
        (-9, "was killed by SIGKILL"),
        (-63, "was killed by signal 63"),
    ],
)
def test_describe_status(status: int | None, words: str) -> None:
    assert describe_status(status) == words


# ---- the guard -------------------------------------------------------------------------------------------------------

GATEWAY = """
import os, sys, trio
from mcpgateway.wire.children import Command, spawn
from mcpgateway.wire.guard import Guard
from mcpgateway.wire.last_words import BURST, LINES_PER_SECOND

async def main():
    guard = Guard()
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            child = await spawn(nursery, Command("t", (sys.executable, "-ISc", sys.argv[1])), guard)
            seen = 0
            while seen < 3:
                seen += len(await child.stdout.receive())
        print(guard.pid, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


async def test_no_child_survives_a_gateway_that_is_killed(alive: Alive) -> None:
    gateway = await trio.lowlevel.open_process(
        [sys.executable, "-c", GATEWAY, holding(alive, STUBBORN).argv[-1]],
        stdout=subprocess.PIPE,
        pass_fds=[alive.fd],
        start_new_session=True,
    )
    assert gateway.stdout is not None
    with trio.fail_after(SOON):
        guard_pid = int(await gateway.stdout.receive_some())
    guard_fd = os.pidfd_open(guard_pid)
    os.killpg(gateway.pid, signal.SIGKILL)
    await gateway.wait()
    await gateway.stdout.aclose()
    await alive.none_left()
    with trio.fail_after(SOON):
        await trio.lowlevel.wait_readable(guard_fd)
    os.close(guard_fd)


INTERRUPTED = """
import os, signal, subprocess, sys
import trio
from mcpgateway.wire.guard import Guard

async def main():
    guard = Guard()
    await guard.start()
    theirs, ours = os.pipe()
    with guard.starting(theirs):
        child = subprocess.Popen(
            [sys.executable, "-ISc", sys.argv[1]], stdin=theirs, stdout=subprocess.PIPE, start_new_session=OWN
        )
        for _ in range(3):
            child.stdout.readline()
        os.kill(os.getpid(), signal.SIGKILL)

trio.run(main)
"""
"""A gateway that is killed when a child has been forked and the guard has not been told its number."""


@pytest.mark.requirement("4.shows.orphans")
@pytest.mark.parametrize("own", [True, False], ids=["in its own session", "before it has one"])
async def test_no_child_survives_that_was_just_being_started(alive: Alive, own: bool) -> None:
    program = INTERRUPTED.replace("OWN", str(own))
    stubborn = holding(alive, STUBBORN if own else STUBBORN.replace("range(2)", "range(0)")).argv[-1]
    if not own:
        program = program.replace("range(3)", "range(1)")
    gateway = await trio.lowlevel.open_process(
        [sys.executable, "-c", program, stubborn], pass_fds=[alive.fd], start_new_session=True
    )
    with trio.fail_after(SOON):
        await gateway.wait()
    assert gateway.returncode == -signal.SIGKILL
    await alive.none_left()


async def test_a_start_that_failed_is_struck_off(guard: Guard) -> None:
    await guard.start()
    async with trio.open_nursery() as nursery:
        with pytest.raises(FileNotFoundError):
            await spawn(nursery, Command("t", ("mcpgateway-no-such-command",)), guard)
        child = await spawn(nursery, command("pass"), guard)
        await child.exited.wait()
        child.stdout.close()
    assert not guard._starts
    assert not guard._groups


async def test_the_guard_is_out_of_reach_and_holds_nothing(guard: Guard) -> None:
    await guard.start()
    assert guard.pid is not None
    first = guard.pid
    await guard.start()
    assert guard.pid == first, "one is enough"
    assert os.getsid(first) == first
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(first, number)
    async with trio.open_nursery() as nursery:
        child = await spawn(nursery, command("pass"), guard)
        await child.exited.wait()
        child.stdout.close()
    await guard.start()
    assert guard.pid == first, "it ignores polite signals"
    assert not os.listdir(f"/proc/{first}/fd")[3:]
    await guard.aclose()
    assert not runs(first)
    await guard.aclose()


async def test_a_guard_that_was_killed_is_replaced_and_knows_the_living(guard: Guard, alive: Alive) -> None:
    async with trio.open_nursery() as nursery:
        child = await spawn(nursery, holding(alive, STUBBORN), guard)
        await says(child, b"up", b"up", b"up")
        assert guard.pid is not None
        first = guard.pid
        fd = os.pidfd_open(first)
        os.kill(first, signal.SIGKILL)
        with trio.fail_after(SOON):
            await trio.lowlevel.wait_readable(fd)
        os.close(fd)
        other = await spawn(nursery, command("pass"), guard)
        await other.exited.wait()
        other.stdout.close()
        assert guard.pid not in (None, first)
        await guard.aclose()  # what is still listed goes with it
        with trio.fail_after(SOON):
            await child.exited.wait()
        child.stdout.close()
    assert child.status == "was killed by SIGKILL"
    await alive.none_left()
