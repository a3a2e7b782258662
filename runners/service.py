"""``python -m runners.service``: a gateway or a bridge in the background, with a log file, a status and an orderly end.

Exit statuses are those of the Linux Standard Base for init scripts: 0 done, or running; of ``status`` 3 not running and
1 dead although nobody has stopped it; of everything else 1 failed, and 2 wrong usage or a bad configuration.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Final

import attrs

from mcpgateway import durations
from mcpgateway.config import loading, lookup, pipe
from mcpgateway.config.dialects import Dialect
from mcpgateway.config.loading import Loaded
from mcpgateway.config.model import Config
from mcpgateway.errors import ConfigError
from runners import background, environment, health, options, processes, statefile
from runners.background import DidNotStart, Place, Record
from runners.environment import Variables

OK, FAILED, NOT_RUNNING = 0, 1, 3
DEAD: Final = 1
"""``status`` of a service that has ended although nobody stopped it."""
INTERRUPTED: Final = 130
"""The exit status after Ctrl-C, as shells have it."""
RUNNERS: Final = ("gateway", "bridge")
HANDED_OVER: Final = {"check": (), "check-json": ("--output", "json")}
"""Commands that are those of `runners.check`, with these flags before those that were given."""
LINES: Final = 100
SHOWN: Final = 20
"""Lines of the log that are shown of a runner which did not start."""
PATIENCE: Final = 30.0
PYTHON: Final = (sys.executable, "-P") if sys.flags.safe_path else (sys.executable,)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one command; its exit status. Leaves with 2 if the usage or the configuration is bad."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["install"]:
        from runners import units

        return units.main(given[1:])
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # logs hold anything, whatever the locale
    try:
        return _do(options.two_dashes(given))
    except ConfigError as problem:
        options.fail(str(problem))
    except OSError as problem:
        print(f"{given[0]}: {problem}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _do(given: Sequence[str]) -> int:
    if given and given[0] in HANDED_OVER:
        from runners import check

        return check.main([*HANDED_OVER[given[0]], *given[1:]], find=_checked)
    flags, passed_on = _parser().parse_known_args(given)
    return _COMMANDS[flags.command](flags, passed_on)


def _checked(given: argparse.Namespace) -> Loaded:
    """The configuration as the runner for it has it.

    :raises ConfigError: there is none, or it is bad
    """
    Variables(os.environ).take(given.environment_file, dotenv=True)
    loaded = options.named_configuration(given)
    return pipe.bridged(loaded, os.environ) if runner_of(loaded, os.environ) == "bridge" else loaded


def _parser() -> argparse.ArgumentParser:
    parser = options.parser("service", _EXPLAINED)
    parser.add_argument("command", choices=(*_COMMANDS, *HANDED_OVER, "install"), metavar="COMMAND")
    parser.add_argument("--runner", choices=RUNNERS, help="(default: bridge if there are upstreams, else gateway)")
    parser.add_argument("-f", "--follow", action="store_true", help="logs: go on with what comes")
    parser.add_argument("-n", "--lines", type=_count, default=LINES, help=f"logs: how many (default {LINES})")
    parser.add_argument(
        "--wait", type=options.seconds, default=PATIENCE, metavar="TIME", help="start: until it is up (default 30s)"
    )
    return parser


_EXPLAINED: Final = """\
Runs a gateway, or a bridge, in the background.

commands:
  run                   in the foreground
  start, stop, restart  in the background; flags of run, start and restart that
                        are not known here go to the runner
  reload                read the configuration anew, as with SIGHUP
  status, logs          of what runs
  check, check-json     runners.check, whose flags they take
  install               write a unit for systemd; see install --help"""


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("must be a number of lines")
    return int(text)


# ---- what is meant ---------------------------------------------------------------------------------------------------


def runner_of(loaded: Loaded, env: Mapping[str, str], wanted: str | None = None) -> str:
    """The runner for a configuration: the bridge where there is something to dial, by the file, or by ``MCP_ENDPOINT``
    for a file of desktop clients, as `mcp_pipe.py` has it."""
    piped = loaded.dialect is Dialect.DESKTOP and env.get("MCP_ENDPOINT")
    return wanted or ("bridge" if loaded.config.upstreams or piped else "gateway")


def read(flags: argparse.Namespace) -> tuple[Loaded, str]:
    """The configuration, read with the variables of ``--environment-file`` and, as the bridge has it, of ``.env``, and
    the runner for it. They are not handed on to the runner: it reads them by itself, anew at each reload.

    :raises ConfigError: there is none, or it is bad
    """
    inherited = dict(os.environ)
    file: Path | None = flags.environment_file
    env = environment.with_dotenv({**inherited, **(environment.read(file) if file is not None else {})})
    os.environ.update(env)
    try:
        loaded = options.find_configuration(flags.config, demo=flags.demo)
    finally:
        os.environ.clear()
        os.environ.update(inherited)
    return loaded, runner_of(loaded, env, flags.runner)


@attrs.frozen
class Meant:
    """The service that flags mean."""

    place: Place
    config: str | None
    """Its configuration file."""
    whichever: bool = False
    """No configuration is named, and there is none: it is whatever runs there."""

    def runs(self) -> Record | statefile.State | None:
        """What runs at its place, whoever has started it."""
        return self.place.running() or statefile.running(self.place.directory)

    def is_of(self, config: str | None) -> bool:
        """Whether what runs with this configuration is it, or may be ended for it: one whose file has gone is not that
        of anybody else. So a file may be replaced by one of another format, and the service restarted."""
        return self.whichever or config == self.config or (config is not None and not os.path.exists(config))

    def unlike(self, other: Record | statefile.State) -> str:
        """For people: that another one runs at its place."""
        return (
            f"process {other.pid} runs with {other.config or 'no file'}, not with {self.config or 'no file'}; "
            f"give each its own 'state_dir', for both have {self.place.directory}"
        )


def _of(loaded: Loaded) -> Meant:
    """The service of a configuration."""
    return Meant(Place(loaded.config.state_dir), options.file_of(loaded.config))


def _running(flags: argparse.Namespace) -> Meant:
    """The service of these flags. A configuration that has become bad or gone since it was started must not keep
    anybody from stopping it.

    :raises ConfigError: it is bad, and what runs there, or by default if it does not say where, was not started with it
    """
    try:
        return _of(read(flags)[0])
    except ConfigError:
        file = _file(flags)
        named = None if file is None else loading.state_dir(file, env=os.environ)
        place = Place(named or Config().state_dir)
        meant = Meant(place, None if file is None else os.path.abspath(file), whichever=file is None)
        running = place.running()
        if running is None or not meant.is_of(running.config):
            raise
        return meant


def _file(flags: argparse.Namespace) -> Path | None:
    """The configuration file of these flags, whatever is in it; ``None`` where none is named and none is there."""
    try:
        return lookup.find(flags.config, env=os.environ, cwd=Path(), home=Path.home())
    except ConfigError:
        return flags.config or Path()  # it has gone; that of a variable is nobody's


def runner_arguments(flags: argparse.Namespace, source: str, passed_on: Sequence[str]) -> list[str]:
    """The flags of the runner itself."""
    variables = str(flags.environment_file.absolute()) if flags.environment_file is not None else ""
    named = {"--config": source, "--environment-file": variables}
    named |= {"--log-level": flags.log_level, "--log-format": flags.log_format}
    own = [part for flag, value in named.items() if value for part in (flag, value)]
    switches = {"--demo": flags.demo, "--log-verbose": flags.log_verbose}
    return [*own, *(flag for flag, on in switches.items() if on), *passed_on]


# ---- commands --------------------------------------------------------------------------------------------------------


def _run(flags: argparse.Namespace, passed_on: Sequence[str]) -> int:
    run = import_module(f"runners.{read(flags)[1]}").main
    status: int = run(runner_arguments(flags, str(flags.config or ""), passed_on))
    return status


def _start(flags: argparse.Namespace, passed_on: Sequence[str]) -> int:
    loaded, runner = read(flags)
    meant = _of(loaded)
    with meant.place.locked():
        return _launch(flags, passed_on, loaded, runner, meant)


def _launch(flags: argparse.Namespace, passed_on: Sequence[str], loaded: Loaded, runner: str, meant: Meant) -> int:
    place, former = meant.place, meant.runs()
    if former is not None and former.config != meant.config:
        print(meant.unlike(former), file=sys.stderr)
        return FAILED
    if isinstance(former, Record):
        print(f"already running: process {former.pid}, {former.runner} of {former.config or 'no file'}")
        return OK
    if former is not None:
        print(f"already running: process {former.pid}, not started by this command", file=sys.stderr)
        return FAILED
    _warn(loaded)
    before = background.size(place.log)
    try:
        record = background.start(
            place,
            runner,
            runner_arguments(flags, meant.config or "", passed_on),
            python=PYTHON,
            config=meant.config,
            shutdown_timeout=loaded.config.shutdown_timeout,
            patience=flags.wait,
            environment=os.environ,
        )
    except DidNotStart as problem:
        since = before if background.size(place.log) >= before else 0  # it is another file if it was put aside
        print(f"the {runner} {problem}; the end of {place.log}:", file=sys.stderr)
        print(*background.last_lines(place.log, SHOWN, since=since), sep="\n", file=sys.stderr)
        return FAILED
    print(f"started: process {record.pid}, {runner}, log {place.log}")
    return OK


def _warn(loaded: Loaded) -> None:
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def _stop(flags: argparse.Namespace, passed_on: Sequence[str]) -> int:
    _none_of(passed_on)
    meant = _running(flags)
    with meant.place.locked():
        return _end(meant)


def _end(meant: Meant) -> int:
    place, running = meant.place, meant.runs()
    if running is None:
        place.forget()
        print("not running")
        return OK
    if not isinstance(running, Record) or not meant.is_of(running.config):
        print(_not_ours(meant, running, "stop"), file=sys.stderr)
        return FAILED
    bound = running.shutdown_timeout + background.MARGIN
    if background.stop(place, running, bound):
        print(f"stopped: process {running.pid}")
    else:
        print(f"killed: process {running.pid} had not ended after {bound:g} s")
    return OK


def _not_ours(meant: Meant, running: Record | statefile.State, verb: str) -> str:
    """Why something is not done to what runs."""
    if running.config != meant.config and not meant.whichever:
        return meant.unlike(running)
    return f"process {running.pid} was not started by this command: {verb} it where it was started"


def _reload(flags: argparse.Namespace, passed_on: Sequence[str]) -> int:
    """Have what runs read its configuration and variables anew, unless they are bad, which is found out first."""
    _none_of(passed_on)
    loaded, _ = read(flags)
    meant = _of(loaded)
    with meant.place.locked():
        running = meant.runs()
        if running is None:
            print("not running", file=sys.stderr)
            return FAILED
        if not isinstance(running, Record) or running.config != meant.config:
            print(_not_ours(meant, running, "reload"), file=sys.stderr)
            return FAILED
        _warn(loaded)
        processes.send(running.process, signal.SIGHUP)
    print(f"reloading: process {running.pid}, log {meant.place.log}")
    return OK


def _restart(flags: argparse.Namespace, passed_on: Sequence[str]) -> int:
    """Stop and start. What runs goes on if the configuration is bad, which is found out first."""
    loaded, runner = read(flags)
    meant = _of(loaded)
    with meant.place.locked():
        return _end(meant) or _launch(flags, passed_on, loaded, runner, meant)


def _logs(flags: argparse.Namespace, passed_on: Sequence[str]) -> int:
    _none_of(passed_on)
    path = _running(flags).place.log
    if not path.exists():
        print(f"there is no log yet ({path})", file=sys.stderr)
        return FAILED
    if flags.follow:
        os.execvp("tail", ["tail", "-n", str(flags.lines), "-F", str(path)])
    for line in background.last_lines(path, flags.lines):
        print(line)
    return OK


def _none_of(passed_on: Sequence[str]) -> None:
    if passed_on:
        options.fail(f"unknown arguments: {' '.join(passed_on)}")


# ---- status ----------------------------------------------------------------------------------------------------------


def _status(flags: argparse.Namespace, passed_on: Sequence[str]) -> int:
    _none_of(passed_on)
    meant = _running(flags)
    running, dead = meant.runs(), meant.place.record()
    if running is not None and not meant.is_of(running.config):
        print("not running")
        print(meant.unlike(running), file=sys.stderr)
        return NOT_RUNNING
    if running is not None:
        _print(meant.place, running)
        return OK
    if dead is not None and meant.is_of(dead.config):
        print(f"dead: process {dead.pid} has ended although nobody stopped it; see {meant.place.log}")
        return DEAD
    print("not running")
    return NOT_RUNNING


def _print(place: Place, running: Record | statefile.State) -> None:
    seconds = (datetime.now(UTC) - datetime.fromisoformat(running.started)).total_seconds()
    up = durations.format(float(max(0, round(seconds))))
    print(f"running: process {running.pid}{_memory(running.pid)}, up {up}")
    print(f"  runner    {running.runner if isinstance(running, Record) else 'not started by this command'}")
    print(f"  config    {running.config or 'none'}")
    if isinstance(running, Record):
        print(f"  log       {place.log}")
    state = statefile.running(place.directory)
    if state is not None and state.pid == running.pid:
        for line in health.lines(state):
            print(line)


def _memory(pid: int) -> str:
    size = processes.resident(pid)
    return "" if size is None else f", {size // (1024 * 1024)} MB"


_COMMANDS: Final[Mapping[str, Callable[[argparse.Namespace, Sequence[str]], int]]] = {
    "run": _run,
    "start": _start,
    "stop": _stop,
    "restart": _restart,
    "reload": _reload,
    "status": _status,
    "logs": _logs,
}


if __name__ == "__main__":
    sys.exit(main())
