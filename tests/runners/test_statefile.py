"""The run-time state file: whose it is, when it goes, and that it is never in the way."""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
from pathlib import Path

import pytest

from mcpgateway.wire import private
from runners.statefile import NAME, State, StateFile, is_alive, read

MINE, OTHER = 1000, 2000


def state(pid: int = MINE, url: str = "http://127.0.0.1:1") -> State:
    return State(pid, url, "0.1.0", "2026-11-20T12:00:00Z", "/etc/gateway.yaml")


@pytest.fixture(autouse=True)
def warnings_are_seen(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)


@pytest.fixture
def file(tmp_path: Path) -> StateFile:
    return StateFile(tmp_path / "state", pid=MINE, alive=lambda pid: pid == OTHER)


@pytest.mark.requirement("4.life.files")
def test_it_is_private_says_what_runs_and_goes_with_it(file: StateFile, tmp_path: Path) -> None:
    path = tmp_path / "state" / NAME
    file.write(state())
    assert json.loads(path.read_text()) == {
        "pid": MINE,
        "url": "http://127.0.0.1:1",
        "version": "0.1.0",
        "started": "2026-11-20T12:00:00Z",
        "config": "/etc/gateway.yaml",
    }
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)
    file.write(state(url="http://127.0.0.1:2"))
    assert read(path) == state(url="http://127.0.0.1:2")
    file.remove()
    file.remove()
    assert list(path.parent.iterdir()) == []


@pytest.mark.requirement("4.life.files")
@pytest.mark.parametrize("left", [state(pid=3000), state(pid=-1), None], ids=["dead", "no process", "junk"])
def test_what_a_crash_left_is_replaced(
    left: State | None, file: StateFile, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state" / NAME
    path.parent.mkdir()
    path.write_text(
        "{" if left is None else json.dumps({"pid": left.pid, "url": "", "version": "", "started": "", "config": None})
    )
    file.write(state())
    assert read(path) == state()
    assert caplog.records == []


@pytest.mark.requirement("4.life.files")
def test_that_of_another_gateway_that_runs_is_left_alone_and_named_once(
    file: StateFile, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state" / NAME
    theirs = state(OTHER, "http://127.0.0.1:9")
    StateFile(path.parent, pid=OTHER).write(theirs)
    for _ in range(2):
        file.write(state())
    file.remove()
    assert read(path) == theirs
    (record,) = caplog.records
    assert f"process {OTHER}, http://127.0.0.1:9" in record.getMessage()


@pytest.mark.requirement("4.life.files")
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG])
def test_a_disk_that_takes_nothing_is_one_warning(
    number: int, file: StateFile, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(private, "replace", full)
    for _ in range(3):
        file.write(state())
    file.remove()
    (record,) = caplog.records
    assert os.strerror(number) in record.getMessage()


def test_processes_that_are_there_are_alive() -> None:
    assert is_alive(os.getpid())
    assert is_alive(1)  # somebody else's, as a rule
    assert not any(map(is_alive, (0, -1, 2**22 + 1, 2**70)))
