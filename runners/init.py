"""``python -m runners.init``: files to begin with, in the dialect that somebody is used to."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from mcpgateway import __version__
from runners import options

PYTHON: Final = "@PYTHON@"
"""What stands in an example for the interpreter that has this package."""
HIDDEN: Final = {"env.example": ".env.example"}
"""Names that begin with a dot where the files go."""

NEXT: Final[Mapping[str, tuple[str, ...]]] = {
    "canonical": (
        "edit mcp-gateway.yaml",
        "{python} -m runners.check     # what each server is and offers",
        "{python} -m runners.gateway   # or runners.bridge, to dial upstreams",
        "{python} -m runners.service start   # the same in the background",
    ),
    "000": (
        "cp configs/mcp_config.example.json configs/mcp_config.json, and edit it",
        "cp .env.example .env, and put your token there; keep it out of git",
        "cp run_local.example.sh run_local.sh; cp deploy_remote.example.sh deploy_remote.sh",
        "./run_local.sh check",
        "./run_local.sh start",
    ),
    "mcp-pipe": (
        "edit mcp_config.json",
        "cp .env.example .env, and put your token there; keep it out of git",
        "{python} -m runners.check",
        "{python} -m runners.bridge",
    ),
}
"""What to do when the files are there, for each dialect."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files and say what to do next; 1 if one is there already. Leaves with 2 if the usage is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m runners.init", description="Writes files to begin with.", allow_abbrev=False
    )
    parser.add_argument("directory", nargs="?", type=Path, default=Path(), metavar="DIR", help="(default: this one)")
    parser.add_argument(
        "--dialect",
        choices=tuple(NEXT),
        default="canonical",
        help="canonical (the default); 000: mcp-gateway, the Go program; mcp-pipe: mcp_pipe.py",
    )
    parser.add_argument("--force", action="store_true", help="write over files that are there")
    parser.add_argument("--version", action="version", version=f"mcpgateway {__version__}")
    given = parser.parse_args(options.two_dashes(sys.argv[1:] if arguments is None else arguments))
    files = {given.directory / name: data for name, data in examples(given.dialect)}
    there = [path for path, data in files.items() if path.exists() and not given.force and not _holds(path, data)]
    if there:
        print("already there, and different; nothing was written (--force writes over them):", file=sys.stderr)
        print(*(f"  {path}" for path in there), sep="\n", file=sys.stderr)
        return 1
    try:
        for path, data in files.items():
            write(path, data)
    except OSError as problem:
        print(f"init: {problem}", file=sys.stderr)
        return 1
    print(*(f"written: {path}" for path in files), "", "next:", sep="\n")
    print(*(f"  {step.format(python=interpreter())}" for step in NEXT[given.dialect]), sep="\n")
    return 0


def interpreter() -> str:
    """The interpreter that has this package, for a shell; by the shortest path to it, and not the one that a virtual
    environment links to."""
    return shlex.quote(
        os.path.join(os.path.realpath(os.path.dirname(sys.executable)), os.path.basename(sys.executable))
    )


def examples(dialect: str) -> Iterator[tuple[str, bytes]]:
    """The files of a dialect: where each goes, and what is in it."""
    python = interpreter().encode()
    for name, file in sorted(_files(resources.files("runners") / "examples" / dialect)):
        yield HIDDEN.get(name, name), file.read_bytes().replace(PYTHON.encode(), python)


def _files(directory: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    for entry in directory.iterdir():
        if entry.is_dir():
            yield from _files(entry, f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name, entry


def _holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data


def write(path: Path, data: bytes) -> None:
    """Write a file, and its directory if there is none; a script can be run, and what is copied to hold secrets is its
    owner's alone, as then the copy is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    if data.startswith(b"#!"):
        path.chmod(path.stat().st_mode | 0o111)
    elif path.name in HIDDEN.values():
        path.chmod(0o600)


if __name__ == "__main__":
    sys.exit(main())
