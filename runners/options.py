"""The options that every runner takes, and how a configuration is found, read and complained about."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import attrs

from mcpgateway import __version__, durations
from mcpgateway.config.loading import Loaded, load
from mcpgateway.config.lookup import VARIABLES, explain_places, find, places
from mcpgateway.config.model import Config, StdioServer
from mcpgateway.errors import ConfigError
from runners import logs

DEMO = {
    name: StdioServer(name, command=sys.executable, args=("-m", f"mcpgateway.demo.{name}"))
    for name in ("clock", "notes")
}
"""The two bundled servers of ``--demo``."""


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """An argument parser that has ``--config``, ``--environment-file``, ``--demo``, ``--log-…`` and ``--version``."""
    options = argparse.ArgumentParser(
        prog=f"python -m runners.{name}",
        description=description,
        epilog="\n  ".join(
            [
                "Without --config, the file is the first of these that there is:",
                *(f"the value of {variable}" for variable in VARIABLES),
                *map(str, places(cwd=Path(), home=Path("~"))),
            ]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    options.add_argument("--config", type=Path, metavar="FILE", help="YAML, JSON or TOML; else looked up")
    options.add_argument(
        "--environment-file",
        type=Path,
        metavar="FILE",
        help="NAME=value lines, tokens for instance; wins over what is set",
    )
    options.add_argument("--demo", action="store_true", help="with two bundled demo servers; needs no configuration")
    options.add_argument("--log-level", choices=logs.LEVELS, help="overrides logging.level")
    options.add_argument("--log-format", choices=logs.FORMATS, help="overrides logging.format")
    options.add_argument("--log-verbose", action="store_true", help="sets logging.verbose")
    options.add_argument("--version", action="version", version=f"mcpgateway {__version__}")
    return options


def two_dashes(arguments: Sequence[str]) -> list[str]:
    """Long flags as the Go gateways took them, ``-config`` and ``-check=true``, as argparse does."""
    flags = [
        "-" + argument if len(argument) > 2 and argument[0] == "-" and argument[1].isalpha() else argument
        for argument in arguments
    ]
    return [_SWITCHES.get(flag, flag) for flag in flags if flag not in _SWITCHED_OFF]


# What Go's flag package takes for a truth value.
_SWITCHES = {f"{flag}={yes}": flag for flag in ("--check", "--version") for yes in "1 t T true TRUE True".split()}
_SWITCHED_OFF = {f"{flag}={no}" for flag in ("--check", "--version") for no in "0 f F false FALSE False".split()}


def seconds(text: str, *, zero: float | None = None) -> float:
    """A time as people write it: ``30s``, ``1m30s``, whatever Go takes, or a bare number of seconds.

    ``zero`` is what 0 stands for.

    :raises argparse.ArgumentTypeError: anything else, and 0 where it stands for nothing
    """
    try:
        value = float(text) if text.replace(".", "", 1).isdecimal() else _duration(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None
    if value == 0 and zero is not None:
        return zero
    if not value > 0:
        raise argparse.ArgumentTypeError("must be more than 0")
    return value


def _duration(text: str) -> float:
    try:
        return durations.parse_go(text)
    except ValueError:
        return durations.parse(text)


def configuration(explicit: Path | None, *, demo: bool = False) -> Loaded:
    """As `find_configuration`; exits with the problems if it is bad."""
    try:
        return find_configuration(explicit, demo=demo)
    except ConfigError as problem:
        fail(str(problem))


def find_configuration(explicit: Path | None, *, demo: bool = False) -> Loaded:
    """The configuration that the options, the environment or the lookup name.

    ``demo`` adds the bundled servers, and looks for no file that is not named with ``--config``.

    :raises ConfigError: there is none, or it is bad
    """
    found = look_for_configuration(explicit, demo=demo)
    if found is None:
        raise ConfigError([explain_places(cwd=Path(), home=Path.home())])
    return found


def named_configuration(given: argparse.Namespace) -> Loaded:
    """As `find_configuration`, by the options that every runner has. Its variables are to be taken before."""
    return find_configuration(given.config, demo=given.demo)


def look_for_configuration(explicit: Path | None, *, demo: bool = False) -> Loaded | None:
    """As `find_configuration`, but ``None`` where nobody names a file and there is none.

    :raises ConfigError: it is bad
    """
    if demo and explicit is None:
        return Loaded(Config(servers=DEMO), [])
    path = find(explicit, env=os.environ, cwd=Path(), home=Path.home())
    if path is None:
        return None
    loaded = load(path, env=os.environ)
    config = loaded.config
    return attrs.evolve(loaded, config=attrs.evolve(config, servers={**DEMO, **config.servers}) if demo else config)


def file_of(config: Config) -> str | None:
    """The file of a configuration, by which it is told from another one; ``None`` where it has none."""
    return os.path.abspath(config.source) if config.source else None


def verbose(config: Config, given: argparse.Namespace) -> Config:
    """The configuration with ``--log-verbose`` on top, which wins over the file."""
    return attrs.evolve(config, logging=attrs.evolve(config.logging, verbose=True)) if given.log_verbose else config


def fail(message: str) -> NoReturn:
    """Leave with a message and the status of a usage or configuration error."""
    print(message, file=sys.stderr)
    raise SystemExit(2)
