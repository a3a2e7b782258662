"""The run-time state file: whose it is, when it goes, and that it is never in the way."""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from mcpgateway.wire import private
from runners import statefile
from runners.processes import Process
from runners.statefile import NAME, Dialled, State, StateFile, read, running, this_process

MINE, OTHER, DEAD = Process(1000, "a"), Process(2000, "b"), Process(1000, "earlier")


def state(process: Process = MINE, url: str = "http://127.0.0.1:1", **upstreams: Dialled) -> State:
    return State(process.pid, process.born, url, "", "0.1.0", "2026-11-20T12:00:00Z", "/etc/gateway.yaml", upstreams)


@pytest.fixture(autouse=True)
def warnings_are_seen(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)


@pytest.fixture
def file(tmp_path: Path) -> StateFile:
    return StateFile(tmp_path / "state", process=MINE, alive=lambda process: process == OTHER)


@pytest.mark.requirement("4.life.files")
def test_it_is_private_says_what_runs_and_goes_with_it(file: StateFile, tmp_path: Path) -> None:
    path = tmp_path / "state" / NAME
    file.write(state(cloud=Dialled("waiting", "Connection refused")))
    assert json.loads(path.read_text()) == {
        "pid": 1000,
        "born": "a",
        "url": "http://127.0.0.1:1",
        "metrics": "",
        "version": "0.1.0",
        "started": "2026-11-20T12:00:00Z",
        "config": "/etc/gateway.yaml",
        "upstreams": {"cloud": {"state": "waiting", "reason": "Connection refused"}},
    }
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)
    file.write(state(url="http://127.0.0.1:2"))
    assert read(path.parent) == state(url="http://127.0.0.1:2")
    file.remove()
    file.remove()
    assert list(path.parent.iterdir()) == []
    file.write(state())
    assert read(path.parent) is None, "a write that was late would leave it behind"


@pytest.mark.requirement("4.life.files")
@pytest.mark.parametrize("left", [state(Process(3000, "c")), state(DEAD), None], ids=["dead", "same number", "junk"])
def test_what_a_crash_left_is_replaced(
    left: State | None, file: StateFile, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state" / NAME
    path.parent.mkdir()
    path.write_text("{" if left is None else json.dumps(attrs.asdict(left)))
    file.write(state())
    assert read(path.parent) == state()
    assert caplog.records == []


@pytest.mark.requirement("4.life.files")
@pytest.mark.parametrize("url", ["http://127.0.0.1:9", ""], ids=["gateway", "bridge"])
def test_that_of_another_gateway_that_runs_is_left_alone_and_named_once(
    url: str, file: StateFile, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "state"
    theirs = state(OTHER, url)
    StateFile(directory, process=OTHER).write(theirs)
    for _ in range(2):
        file.write(state())
    file.remove()
    assert read(directory) == theirs
    (record,) = caplog.records
    assert f"process {OTHER.pid}{', ' * bool(url)}{url}; give" in record.getMessage()


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


@pytest.mark.requirement("6.service")
def test_what_runs_is_told_from_another_process_of_its_number(tmp_path: Path) -> None:
    mine = this_process()
    StateFile(tmp_path).write(state(mine))
    assert running(tmp_path) == state(mine)
    StateFile(tmp_path, process=mine).write(state(attrs.evolve(mine, born="earlier")))
    assert running(tmp_path) is None
    assert running(tmp_path / "nowhere") is None


class Disk:
    """Takes its time: until ``go_on``."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self._replace = private.replace

    def replace(self, path: Path, data: bytes) -> None:
        self.begun.set()
        self.go_on.wait()
        self._replace(path, data)


@pytest.fixture
def slow(file: StateFile, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """A disk on which another thread is writing the file."""
    disk = Disk()
    monkeypatch.setattr(private, "replace", disk.replace)
    writing = threading.Thread(target=file.write, args=(state(),))
    writing.start()
    disk.begun.wait()
    yield disk
    disk.go_on.set()
    writing.join()


@pytest.mark.requirement("4.life.files")
def test_the_end_leaves_nothing_that_a_thread_is_writing_and_nothing_is_written_after_it(
    slow: Disk, file: StateFile, tmp_path: Path
) -> None:
    ending = threading.Thread(target=file.remove)
    ending.start()
    ending.join(0.01)
    slow.go_on.set()
    ending.join()
    file.write(state())
    assert list((tmp_path / "state").iterdir()) == []


def test_a_disk_that_does_not_answer_does_not_hold_up_the_end(
    slow: Disk, file: StateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statefile, "PATIENCE", 0.01)
    ending = threading.Thread(target=file.remove, daemon=True)
    ending.start()
    ending.join(30)
    assert not ending.is_alive()
    assert not slow.go_on.is_set()
