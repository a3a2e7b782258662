"""``python -m runners.remote``: a gateway or bridge on another machine, over the ssh client of this one.

There it has a directory to itself: ``venv``, a link to the environment of the version that is in use;
``mcp-gateway.yaml`` (or ``.json``, ``.toml``), the configuration; ``.env``, variables for it. What runs it is
`runners.service` of that environment. The other machine needs a shell, tar, and Python 3.11 or newer with ``venv``.

Nothing that was given becomes part of a shell's program: the programs are constant, and take what was given as
arguments, quoted for the one shell between. Files, and the secrets in them, travel on standard input.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import shlex
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs

from mcpgateway.config.loading import format_of
from mcpgateway.config.lookup import find
from mcpgateway.errors import ConfigError
from runners import environment, options, wheels
from runners.wheels import CannotPack

DIRECTORY: Final = "/opt/mcp-gateway"
PYTHONS: Final = ("python3", "python3.14", "python3.13", "python3.12", "python3.11")
COMMANDS: Final = ("deploy", "upload", "start", "stop", "restart", "reload", "status", "logs", "logs-f")

UPLOAD: Final = r"""
set -eu
umask 077
directory=$1 version=venv-$2
shift 2
mkdir -p -- "$directory"
cd -- "$directory"
incoming=$(mktemp -d ./incoming.XXXXXX)
trap 'rm -rf -- "$incoming"' EXIT
tar -xf - -C "$incoming"
if [ ! -e "$version/.complete" ]; then
    python=
    for each in "$@"; do
        if "$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$each
            break
        fi
    done
    if [ -z "$python" ]; then
        echo "no Python 3.11 or newer there; looked for: $*; name one with --python" >&2
        exit 1
    fi
    rm -rf -- "$version"
    "$python" -m venv "$version"
    "$version/bin/python" -m pip install --quiet --disable-pip-version-check "$incoming"/*.whl
    touch "$version/.complete"
    echo "installed: $directory/$version"
fi
former=$(readlink venv || true)
ln -sfn "$version" venv
for each in venv-*; do
    [ "$each" = "$version" ] || [ "$each" = "$former" ] || rm -rf -- "$each"
done
for each in "$incoming"/mcp-gateway.*; do
    [ -e "$each" ] || continue
    rm -f mcp-gateway.yaml mcp-gateway.json mcp-gateway.toml
    mv -- "$each" .
done
if [ -e "$incoming/.env" ]; then mv -- "$incoming/.env" .; fi
echo "uploaded: $directory"
"""
"""Arguments: the directory, what tells this wheel from others, and the Pythons to try. A version that is there is not
installed again; the one before it stays, because it may be running."""

SERVICE: Final = r"""
set -eu
directory=$1
shift
if [ ! -x "$directory/venv/bin/python" ]; then
    echo "nothing was uploaded to $directory yet" >&2
    exit 1
fi
cd -- "$directory"
unset MCP_GATEWAY_CONFIG MCP_CONFIG
if [ -e .env ]; then set -- "$@" --environment-file .env; fi
exec env -u SHLVL -u TERM venv/bin/python -P -m runners.service "$@"
"""
"""Arguments: the directory, and those of `runners.service`, which finds the configuration where it is. That a shell has
been at work is hidden from it: it was no login shell, so that one is asked where ``npx`` and ``uvx`` are."""


@attrs.frozen
class Host:
    """Another machine, and how it is reached."""

    destination: str
    """``user@host``, or a name of the ssh configuration."""
    options: tuple[str, ...] = ()
    """Of the ssh client."""

    def command(self, script: str, *arguments: str, terminal: bool = False) -> list[str]:
        """What to run here to have a shell run a script there."""
        there = shlex.join(["sh", "-c", script, "mcp-gateway", *arguments])
        return ["ssh", *self.options, *(["-t"] if terminal else ["-T"]), "--", self.destination, there]


class Refused(Exception):
    """The command line does not make sense; says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one command there; its exit status, which is 255 where the machine cannot be reached."""
    parser = _parser()
    given = parser.parse_args(options.two_dashes(sys.argv[1:] if arguments is None else arguments))
    try:
        host = _host(given)
        if given.command in ("deploy", "upload"):
            status = _upload(host, given)
            return status if status or given.command == "upload" else _service(host, given.directory, "restart")
        follow = given.follow or given.command == "logs-f"
        if given.command in ("logs", "logs-f"):
            words = ["logs", "-n", str(given.lines), *(["-f"] if follow else [])]
            return _service(host, given.directory, *words, terminal=follow and sys.stdout.isatty())
        return _service(host, given.directory, given.command)
    except (ConfigError, CannotPack, Refused) as problem:
        options.fail(str(problem))
    except FileNotFoundError:
        options.fail("there is no ssh client here")
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runners.remote",
        description="Installs a gateway or bridge on another machine, and runs it there, over ssh.",
        epilog="deploy is upload and restart; the other commands are those of runners.service, there.",
        allow_abbrev=False,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=", ".join(COMMANDS))
    parser.add_argument("host", metavar="USER@HOST", help="as for ssh")
    parser.add_argument(
        "--directory", default=DIRECTORY, help=f"there (default {DIRECTORY}); below the home if relative"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="to be uploaded; else looked up here")
    parser.add_argument("--environment-file", type=Path, metavar="FILE", help="NAME=value lines, to be uploaded too")
    parser.add_argument("--wheel", type=Path, help="to be installed; else one of this mcpgateway is made")
    parser.add_argument("--python", default="", help="there (default: the first of at least 3.11)")
    parser.add_argument("--port", type=int, help="of the ssh server")
    parser.add_argument("--identity", type=Path, metavar="FILE", help="the key to log in with")
    parser.add_argument("--ssh-option", action="append", default=[], metavar="NAME=VALUE", help="as ssh -o; repeatable")
    parser.add_argument("-f", "--follow", action="store_true", help="logs: go on with what comes")
    parser.add_argument("-n", "--lines", type=int, default=100, help="logs: how many (default 100)")
    return parser


def _host(given: argparse.Namespace) -> Host:
    if given.host.startswith("-") or not given.host:
        raise Refused(f"{given.host!r} is no USER@HOST")
    if not given.directory or "\0" in given.directory:
        raise Refused("--directory must name a directory")
    flags = [part for option in given.ssh_option for part in ("-o", option)]
    flags += ["-p", str(given.port)] if given.port is not None else []
    flags += ["-i", str(given.identity)] if given.identity is not None else []
    return Host(given.host, tuple(flags))


def _service(host: Host, directory: str, *words: str, terminal: bool = False) -> int:
    return subprocess.run(host.command(SERVICE, directory, *words, terminal=terminal), check=False).returncode


# ---- uploading -------------------------------------------------------------------------------------------------------


def _upload(host: Host, given: argparse.Namespace) -> int:
    files = {**configuration(given.config), **variables(given.environment_file)}
    with tempfile.TemporaryDirectory(prefix="mcp-gateway-") as folder:
        wheel = given.wheel if given.wheel is not None else wheels.make(Path(folder))
        try:
            data = wheel.read_bytes()
        except OSError as problem:
            raise Refused(f"{wheel}: {problem.strerror}") from None
    version = hashlib.sha256(data).hexdigest()[:12]
    archive = packed({wheel.name: data, **files})
    command = host.command(UPLOAD, given.directory, version, *([given.python] if given.python else PYTHONS))
    return subprocess.run(command, input=archive, check=False).returncode


def configuration(explicit: Path | None) -> dict[str, bytes]:
    """The configuration as it is to lie there, under the name that is looked up first; none where none is found here,
    which leaves the one that is there.

    :raises ConfigError: it was named and cannot be read
    """
    path = find(explicit, env=os.environ, cwd=Path(), home=Path.home())
    if path is None:
        return {}
    try:
        data = path.read_bytes()
    except OSError as problem:
        raise ConfigError([f"{path}: cannot be read: {problem.strerror}"]) from None
    return {f"mcp-gateway.{format_of(path, data.decode('utf-8-sig', 'replace'))}": data}


def variables(path: Path | None) -> dict[str, bytes]:
    """The variables as they are to lie there.

    :raises ConfigError: as `environment.read`
    """
    if path is None:
        return {}
    environment.read(path)
    return {".env": path.read_bytes()}


def packed(files: Mapping[str, bytes]) -> bytes:
    """A tar archive of files that are their owner's alone."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o600
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
