"""Files that nobody else may read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from mcpgateway.wire import private


def modes(path: Path) -> tuple[int, int]:
    return stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)


@pytest.mark.requirement("4.life.files")
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_modes_do_not_depend_on_the_umask(umask: int, tmp_path: Path) -> None:
    path = tmp_path / "above" / "state" / "file"
    before = os.umask(umask)
    try:
        private.directory(path.parent)
        private.create(path, b"one")
        assert (path.read_bytes(), modes(path)) == (b"one", (0o600, 0o700))
        private.replace(path, b"two")
        assert (path.read_bytes(), modes(path)) == (b"two", (0o600, 0o700))
    finally:
        os.umask(before)
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_the_first_one_stays(tmp_path: Path) -> None:
    private.create(tmp_path / "file", b"one")
    private.create(tmp_path / "file", b"two")
    assert (tmp_path / "file").read_bytes() == b"one"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_could_not_be_put_in_place_is_not_left_beside_it(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(IsADirectoryError):
        private.replace(tmp_path / "file", b"x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_directory_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    private.directory(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
