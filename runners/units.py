"""``python -m runners.service install``: a unit for systemd, which then does what `runners.service` does by itself.

The runner says that it is up (``Type=notify``), is started again unless its configuration is bad (status 2), and ends
with everything that it has started (``KillMode=mixed``: SIGTERM goes to the runner alone, which closes its servers in
order; what is left of them is killed). What protects the system stops short of what ``npx``, ``uvx`` and browsers need:
a home directory to write to, programs that make code at run time, namespaces, devices.
"""

from __future__ import annotations

import argparse
import getpass
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs

from mcpgateway.errors import ConfigError
from runners import options, service
from runners.background import MARGIN

MARK: Final = "# Written by: python -m runners.service install"
NAME: Final = "mcp-gateway"
SYSTEM_UNITS: Final = Path("/etc/systemd/system")
USER_UNITS: Final = Path("systemd/user")
"""Below ``XDG_CONFIG_HOME``."""
_NAMES: Final = re.compile(r"[A-Za-z0-9:_.@-]{1,200}").fullmatch

ALWAYS: Final = (
    "NoNewPrivileges=yes",
    "LockPersonality=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
)
"""Protection that a service manager of a user has, too."""
OF_SYSTEM: Final = (
    "PrivateTmp=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectSystem=full",
)


@attrs.frozen
class Unit:
    """What a unit is made of."""

    runner: str
    command: tuple[str, ...]
    directory: Path
    """Where it runs."""
    stop: float
    """Seconds that it has to end."""
    system: bool
    user: str | None = None
    """Whose the process is; of a system unit only."""
    path: str = ""
    """``PATH``; empty for that of the service manager."""

    def lines(self) -> Iterator[str]:
        yield from (MARK, "[Unit]", f"Description=MCP gateway ({self.runner})")
        if self.system:
            yield from ("Wants=network-online.target", "After=network-online.target")
        yield from ("", "[Service]", "Type=notify", "ExecStart=" + " ".join(map(quoted, self.command)))
        yield from ("ExecReload=/bin/kill -HUP $MAINPID", f"WorkingDirectory={escaped(str(self.directory))}")
        if self.user is not None:
            yield f"User={self.user}"
        if self.path:
            yield "Environment=" + quoted(f"PATH={self.path}", variables=False)
        yield from ("Restart=on-failure", "RestartSec=5", "RestartPreventExitStatus=2")
        yield from ("KillMode=mixed", f"TimeoutStopSec={self.stop:g}")
        yield from ALWAYS
        yield from OF_SYSTEM if self.system else ()
        yield from ("", "[Install]", f"WantedBy={'multi-user' if self.system else 'default'}.target")

    def __str__(self) -> str:
        return "\n".join(self.lines()) + "\n"


def quoted(argument: str, *, variables: bool = True) -> str:
    """One argument of a command line of systemd: in quotes, without specifiers, variables and escapes of its own.

    :param variables: whether systemd would replace ``$NAME`` there, as it does in commands
    :raises ConfigError: it has a line break, or another character that a unit cannot have
    """
    text = escaped(argument).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text.replace("$", "$$") if variables else text}"'


def escaped(text: str) -> str:
    """A value of a unit that is one text up to the end of its line.

    :raises ConfigError: as `quoted`
    """
    if not text.isprintable():
        raise ConfigError([f"{text!r} cannot stand in a unit of systemd"])
    return text.replace("%", "%%")


# ---- the command -----------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> int:
    """Print the unit, or write it and say what to do next. Leaves with 2 if something is bad."""
    parser = options.parser("service install", "Writes a unit for systemd. Other flags go to the runner.")
    parser.add_argument("--runner", choices=service.RUNNERS, help="(default: bridge if there are upstreams)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--user", action="store_true", help="for the service manager of this user (the default)")
    where.add_argument("--system", action="store_true", help="for that of the system (the default of root)")
    parser.add_argument("--run-as", metavar="USER", help="whose a system service is (default: who calls this)")
    parser.add_argument("--name", default=NAME, help=f"of the unit (default {NAME})")
    parser.add_argument("--print", action="store_true", help="to standard output, and write nothing")
    parser.add_argument("--force", action="store_true", help="write over a unit that was not written by this")
    given, passed_on = parser.parse_known_args(options.two_dashes(arguments))
    system = given.system or (os.geteuid() == 0 and not given.user)
    try:
        if _NAMES(given.name) is None:
            raise ConfigError([f"--name {given.name!r} is no name of a unit"])
        unit = _unit(given, passed_on, system)
        text = str(unit)
        if given.print:
            print(text, end="")
            return 0
        path = directory(system, os.environ, Path.home()) / f"{given.name}.service"
        _write(path, text, force=given.force)
    except ConfigError as problem:
        options.fail(str(problem))
    except OSError as problem:
        print(f"install: {problem}", file=sys.stderr)
        return 1
    print(f"written: {path}", *_next_steps(given.name, system), sep="\n")
    return 0


def _unit(given: argparse.Namespace, passed_on: Sequence[str], system: bool) -> Unit:
    loaded, runner = service.read(given)
    config = loaded.config
    source = options.file_of(config) or ""
    arguments = service.runner_arguments(given, source, passed_on)
    owner = given.run_as or os.environ.get("SUDO_USER") or getpass.getuser()
    return Unit(
        runner,
        (*service.PYTHON, "-m", f"runners.{runner}", *arguments),
        Path.cwd(),
        config.shutdown_timeout + MARGIN,
        system,
        owner if system else None,
        os.environ.get("PATH", ""),
    )


def directory(system: bool, environment: Mapping[str, str], home: Path) -> Path:
    """Where the units are of which a service manager knows."""
    if system:
        return SYSTEM_UNITS
    return Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / USER_UNITS


def _write(path: Path, text: str, *, force: bool) -> None:
    if not force and path.exists() and not path.read_text(errors="replace").startswith(MARK):
        raise ConfigError([f"{path} is there, and was not written by this command: --force writes over it"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _next_steps(name: str, system: bool) -> Iterator[str]:
    manager = "systemctl" if system else "systemctl --user"
    if shutil.which("systemctl") is None:
        yield "there is no systemd here: take the unit to where there is"
    yield from (f"  {manager} daemon-reload", f"  {manager} enable --now {name}")
    if not system:
        yield f"  loginctl enable-linger {getpass.getuser()}   # so that it runs while you are not logged in"
