"""The options that every runner takes, and how a configuration is found, read and complained about."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mcpgateway import __version__
from mcpgateway.config.loading import Loaded, load
from mcpgateway.config.lookup import explain_places, find
from mcpgateway.errors import ConfigError
from runners import logs


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """An argument parser with ``--config --log-level --log-format --version``."""
    options = argparse.ArgumentParser(prog=f"python -m runners.{name}", description=description, allow_abbrev=False)
    options.add_argument("--config", type=Path, metavar="FILE", help="YAML, JSON or TOML; else looked up")
    options.add_argument("--log-level", choices=logs.LEVELS, help="overrides logging.level")
    options.add_argument("--log-format", choices=logs.FORMATS, help="overrides logging.format")
    options.add_argument("--version", action="version", version=f"mcpgateway {__version__}")
    return options


def two_dashes(arguments: Sequence[str]) -> list[str]:
    """Long flags with one dash, as the Go gateways wrote them (``-config``), with two."""
    return [
        "-" + argument if len(argument) > 2 and argument[0] == "-" and argument[1].isalpha() else argument
        for argument in arguments
    ]


def configuration(explicit: Path | None) -> Loaded:
    """The configuration that the options, the environment or the lookup name; exits with the problems if it is bad."""
    try:
        path = find(explicit, env=os.environ, cwd=Path(), home=Path.home())
        if path is None:
            fail(explain_places(cwd=Path(), home=Path.home()))
        return load(path, env=os.environ)
    except ConfigError as problem:
        fail(str(problem))


def fail(message: str) -> NoReturn:
    """Leave with a message and the status of a usage or configuration error."""
    print(message, file=sys.stderr)
    raise SystemExit(2)
