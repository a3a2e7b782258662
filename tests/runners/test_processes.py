"""Other processes: known by number and birth, waited for without being their parent, never confused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from runners import processes
from runners.processes import Process

SLEEPER = [sys.executable, "-c", "import sys; sys.stdin.read()"]


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(SLEEPER, stdin=subprocess.PIPE)
    yield child
    child.kill()
    child.communicate()


@pytest.fixture(params=["descriptors", "none", "ps"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux; one without pidfd_open(2), as in a sandbox; and what is asked elsewhere."""
    if request.param == "descriptors" and not hasattr(os, "pidfd_open"):
        pytest.skip("Linux only")
    if request.param != "descriptors":
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    if request.param == "ps":
        monkeypatch.setattr(processes, "PROC", processes.PROC / "nowhere")


@pytest.mark.usefixtures("system")
def test_a_process_is_found_signalled_and_waited_for(child: subprocess.Popen[bytes]) -> None:
    process = processes.find(child.pid)

    assert process is not None
    assert processes.is_alive(process)
    assert not processes.has_ended(process, 0.01)
    assert processes.send(process, signal.SIGTERM)
    assert processes.has_ended(process, 10)
    assert processes.find(child.pid) is None, "it has ended, although nobody has reaped it"
    assert not processes.send(process, signal.SIGTERM)


@pytest.mark.requirement("6.service")
@pytest.mark.usefixtures("system")
def test_another_process_of_the_same_number_is_left_alone(child: subprocess.Popen[bytes]) -> None:
    former = Process(child.pid, "born at another time")

    assert not processes.is_alive(former)
    assert not processes.send(former, signal.SIGKILL)
    assert processes.has_ended(former, 0)
    assert child.poll() is None


@pytest.mark.parametrize("pid", [0, -1, 2**22 + 1])
def test_a_number_of_no_process_finds_none(pid: int) -> None:
    assert processes.find(pid) is None


@pytest.mark.usefixtures("system")
def test_memory_is_told_in_bytes() -> None:
    size = processes.resident(os.getpid())

    assert size is not None
    assert 10_000_000 < size < 10_000_000_000
