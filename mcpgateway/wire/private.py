"""Files that are nobody else's to read: mode 0600, in a directory of mode 0700, and never seen half written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def directory(path: Path) -> None:
    """Make a directory, if there is none, with mode 0700; those above it have the modes that all have.

    :raises OSError: it cannot be made
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def create(path: Path, data: bytes) -> None:
    """Write a file where there is none; of several who do so at once, the first one's stays.

    :raises OSError: it cannot be written; nothing is left of it then
    """
    try:
        _write(path, data, os.link)
    except FileExistsError:
        pass


def replace(path: Path, data: bytes) -> None:
    """Write a file, in the place of the one that is there.

    :raises OSError: it cannot be written; what was there still is, and nothing else
    """
    _write(path, data, os.replace)


def _write(path: Path, data: bytes, put: Callable[[Path, Path], None]) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600
    written = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        put(written, path)
    finally:
        written.unlink(missing_ok=True)
