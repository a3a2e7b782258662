"""A wheel of the mcpgateway that is running, for another machine.

From a checkout it is built with pip. An installation has no sources to build from, but everything that its wheel had,
in a list: it is packed again, byte for byte the same whenever that is done.
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

import mcpgateway

DISTRIBUTION: Final = "mcpgateway-trio"
PATIENCE: Final = 300.0
"""Seconds for pip to build a wheel; it may have to fetch what builds it."""
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_OF_INSTALLATION: Final = {"INSTALLER", "REQUESTED", "RECORD", "direct_url.json", "uv_cache.json"}
"""Files beside the metadata that an installer has added."""


class CannotPack(Exception):
    """There is nothing to make a wheel of; says what to do."""


def make(folder: Path) -> Path:
    """A wheel of this mcpgateway in a folder.

    :raises CannotPack: it can neither be built nor packed
    """
    source = Path(mcpgateway.__file__).resolve().parent.parent
    if is_checkout(source):
        return _built(source, folder)
    try:
        return packed(metadata.distribution(DISTRIBUTION), folder)
    except metadata.PackageNotFoundError:
        raise CannotPack(f"{source} is neither a checkout nor an installation: name a wheel with --wheel") from None


def is_checkout(folder: Path) -> bool:
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(project == DISTRIBUTION)


def _built(source: Path, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(source)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise CannotPack(f"pip took longer than {PATIENCE:g} s to build a wheel of {source}") from None
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise CannotPack(f"pip cannot build a wheel of {source}; name one with --wheel\n{done.stderr.strip()}")
    return wheels[0]


def packed(distribution: metadata.Distribution, folder: Path) -> Path:
    """The wheel from which a distribution was installed.

    :raises CannotPack: it is not made of Python alone, or some of it is missing
    """
    tags = (distribution.read_text("WHEEL") or "").splitlines()
    if "Root-Is-Purelib: true" not in tags or "Tag: py3-none-any" not in tags:
        raise CannotPack(f"{distribution.name} is for this machine alone")
    path = folder / f"{distribution.name.replace('-', '_')}-{distribution.version}-py3-none-any.whl"
    record = ""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for file, data in _files(distribution):
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            record += f"{_csv(file)},sha256={digest},{len(data)}\n"
            wheel.writestr(_entry(file), data)
        name = f"{_metadata(distribution)}/RECORD"
        wheel.writestr(_entry(name), record + f"{_csv(name)},,\n")
    return path


def _files(distribution: metadata.Distribution) -> Iterator[tuple[str, bytes]]:
    directory = _metadata(distribution)
    for file in sorted(distribution.files or ()):
        scripts_and_such = file.parts[0] == ".." or Path(str(file)).is_absolute()
        if scripts_and_such or "__pycache__" in file.parts:
            continue
        if file.parts[0] == directory and file.name in _OF_INSTALLATION:
            continue
        try:
            yield file.as_posix(), file.read_binary()
        except OSError as problem:
            raise CannotPack(f"{file} of {distribution.name} is missing ({problem.strerror})") from None


def _metadata(distribution: metadata.Distribution) -> str:
    """The name of the directory of its metadata."""
    names = {file.parts[0] for file in distribution.files or () if file.parts[0].endswith(".dist-info")}
    if len(names) != 1:
        raise CannotPack(f"{distribution.name} has no list of its files")
    return names.pop()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


def _csv(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if any(character in name for character in ',"') else name
