"""A wheel made of an installation is the one that it was installed from, as far as that can be told."""

from __future__ import annotations

import csv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from runners import wheels
from runners.wheels import CannotPack

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = "attrs"
"""An installation of Python alone, which is here in any case."""


@pytest.mark.requirement("6.remote")
def test_an_installation_is_packed_again_whole(tmp_path: Path) -> None:
    distribution = metadata.distribution(PACKAGE)

    path = wheels.packed(distribution, tmp_path)

    assert path.name == f"attrs-{distribution.version}-py3-none-any.whl"
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        assert wheel.testzip() is None
        assert wheel.read("attr/_make.py") == Path(str(distribution.locate_file("attr/_make.py"))).read_bytes()
        rows = list(csv.reader(wheel.read(names[-1]).decode().splitlines()))
    assert f"attrs-{distribution.version}.dist-info/METADATA" in names
    assert [row[0] for row in rows] == names, "the record lists every file, itself last"
    assert not any("INSTALLER" in name or "__pycache__" in name or ".." in name for name in names)


def test_what_is_packed_twice_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    distribution = metadata.distribution(PACKAGE)

    first, second = wheels.packed(distribution, tmp_path), wheels.packed(distribution, tmp_path / "again")

    assert first.read_bytes() == second.read_bytes()


def test_what_is_for_one_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CannotPack, match="for this machine alone"):
        wheels.packed(metadata.distribution("msgspec"), tmp_path)


def test_a_checkout_is_known_by_its_project(tmp_path: Path) -> None:
    assert wheels.is_checkout(ROOT)
    assert not wheels.is_checkout(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "other"\n')
    assert not wheels.is_checkout(tmp_path)


@pytest.mark.parametrize(("name", "written"), [("a.py", "a.py"), ('a,"b".py', '"a,""b"".py"')])
def test_names_in_the_record_are_quoted_as_in_csv(name: str, written: str) -> None:
    assert wheels._csv(name) == written
    assert next(csv.reader([written])) == [name]
