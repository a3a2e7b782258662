"""A runner in the background, with small doubles in the runner's place: one that comes up, and others that do not."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

import pytest

from runners import background, processes
from runners.background import DidNotStart, Place, Record

UP = """
import os, signal, socket, sys
print("hello", *sys.argv[1:], flush=True)
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
"""
WAITS = UP + "signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + UP + "while True: signal.pause()"
FAILS = "import sys; sys.exit('no luck')"
HANGS = "import signal; print('thinking', flush=True); signal.pause()"
KILLS_ITSELF = "import os; os.kill(os.getpid(), 9)"


def start(tmp_path: Path, program: str, patience: float = 20.0) -> tuple[Place, Record]:
    place = Place(tmp_path / "state")
    # `-c PROGRAM` in front of `-m runners.double`: what follows a program are its arguments.
    with place.locked():
        record = background.start(
            place,
            "double",
            ["--flag"],
            python=[sys.executable, "-c", program],
            config="/c.yaml",
            shutdown_timeout=0.0,
            patience=patience,
            environment=os.environ,
        )
    return place, record


@pytest.mark.requirement("6.service", "feature.141")
def test_what_is_up_is_on_record_and_ends_when_it_is_told(tmp_path: Path) -> None:
    place, record = start(tmp_path, WAITS)

    assert place.running() == record
    assert os.getsid(record.pid) == record.pid, "it has a session of its own, and outlives its terminal"
    assert background.last_lines(place.log, 5) == ["hello -m runners.double --flag"]
    assert (record.runner, record.config) == ("double", "/c.yaml")
    with place.locked():
        assert background.stop(place, record, 10)
    os.waitpid(record.pid, 0)
    assert place.record() is None


@pytest.mark.requirement("6.service")
def test_its_files_are_nobody_elses(tmp_path: Path) -> None:
    place, record = start(tmp_path, WAITS)
    with place.locked():
        background.stop(place, record, 10)
        os.waitpid(record.pid, 0)
        place.write(record)

    modes = {path.name: stat.filemode(path.stat().st_mode) for path in place.directory.iterdir()}
    assert modes == {"service.json": "-rw-------", "service.lock": "-rw-------", "service.log": "-rw-------"}
    assert stat.S_IMODE(place.directory.stat().st_mode) == 0o700


@pytest.mark.requirement("6.service", "feature.141")
def test_what_does_not_end_is_killed(tmp_path: Path) -> None:
    place, record = start(tmp_path, STUBBORN)

    with place.locked():
        assert not background.stop(place, record, 0.05)

    assert os.waitpid(record.pid, 0)[1] == 9
    assert place.record() is None


@pytest.mark.requirement("6.service")
@pytest.mark.parametrize(
    ("program", "said"),
    [(FAILS, "ended with status 1"), (KILLS_ITSELF, "was ended by SIGKILL"), (HANGS, "was not up within 0.3 s")],
    ids=["ends", "is killed", "hangs"],
)
def test_what_does_not_come_up_says_why_and_leaves_nothing(program: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DidNotStart) as problem:
        start(tmp_path, program, 0.3 if program is HANGS else 20)

    assert str(problem.value) == said
    assert Place(tmp_path / "state").record() is None


@pytest.mark.requirement("6.service")
def test_what_cannot_be_put_on_record_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids: list[int] = []

    def full(place: Place, record: Record) -> None:
        pids.append(record.pid)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Place, "write", full)

    with pytest.raises(OSError, match="No space left"):
        start(tmp_path, WAITS)
    assert [processes.find(pid) for pid in pids] == [None]


@pytest.mark.requirement("6.service")
def test_a_record_whose_number_was_given_to_another_process_is_of_none_that_runs(tmp_path: Path) -> None:
    place = Place(tmp_path)
    mine = processes.find(os.getpid())
    assert mine is not None
    record = Record(mine.pid, mine.born, "gateway", None, 1.0, "2026-01-01T00:00:00Z")

    place.write(record)
    assert place.running() == record
    place.write(Record(mine.pid, "earlier", "gateway", None, 1.0, "2026-01-01T00:00:00Z"))
    assert place.record() is not None
    assert place.running() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "1"}'])
def test_a_record_that_cannot_be_read_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "service.json").write_text(text)

    assert Place(tmp_path).record() is None


def test_a_log_that_has_become_long_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "LOG_BYTES", 10)
    place = Place(tmp_path)
    for text in ("first", "second and long", "third"):
        with background._log(place) as fd:
            os.write(fd, text.encode() + b"\n")

    assert place.log.read_text() == "third\n"
    assert (tmp_path / "service.log.1").read_text() == "first\nsecond and long\n"


@pytest.mark.parametrize("block", [1, 7, 65536])
def test_the_last_lines_are_read_from_the_end(block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_BLOCK", block)
    log = tmp_path / "log"
    log.write_bytes("\n".join(["older", "old", "neu: ü", "bad: \xff", "new"]).encode("latin-1") + b"\n")

    assert background.last_lines(log, 2) == ["bad: \ufffd", "new"]
    assert background.last_lines(log, 0) == []
    assert background.last_lines(log, 99)[0] == "older"
    assert background.last_lines(log, 99, since=len("older\n")) == ["old", "neu: \ufffd", "bad: \ufffd", "new"]
