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


def _place(flags: argparse.Namespace) -> Place:
    """Where the service of these flags has its files. A configuration that has become bad or gone since it was started
    must not keep anybody from stopping it.

    :raises ConfigError: it is bad, and what runs there, or by default if it does not say where, was not started with it
    """
    try:
        return Place(read(flags)[0].config.state_dir)
    except ConfigError:
        meant = _meant(flags)
        named = None if meant is None else loading.state_dir(meant, env=os.environ)
        place = Place(named or Config().state_dir)
        running = place.running()
        if running is None or (meant is not None and running.config != str(meant.absolute())):
            raise
        return place


def _meant(flags: argparse.Namespace) -> Path | None:
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
    place = Place(loaded.config.state_dir)
    with place.locked():
        return _launch(flags, passed_on, loaded, runner, place)


def _launch(flags: argparse.Namespace, passed_on: Sequence[str], loaded: Loaded, runner: str, place: Place) -> int:
    source = str(Path(loaded.config.source).absolute()) if loaded.config.source else ""
    former = place.running()
    if former is not None:
        print(f"already running: process {former.pid}, {former.runner} of {former.config or 'no file'}")
        if former.config == (source or None):
            return OK
        print(_two(former.config, place), file=sys.stderr)
        return FAILED
    stranger = _stranger(place)
    if stranger is not None:
        print(f"already running: process {stranger.pid}, not started by this command", file=sys.stderr)
        if stranger.config != (source or None):
            print(_two(stranger.config, place), file=sys.stderr)
        return FAILED
    _warn(loaded)
    before = background.size(place.log)
    try:
        record = background.start(
            place,
            runner,
            runner_arguments(flags, source, passed_on),
            python=PYTHON,
            config=source or None,
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


def _two(other: str | None, place: Place) -> str:
    return f"it runs with {other or 'no file'}: give each its own 'state_dir', for both have {place.directory}"


def _warn(loaded: Loaded) -> None:
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def _stop(flags: argparse.Namespace, passed_on: Sequence[str]) -> int:
    _none_of(passed_on)
    place = _place(flags)
    with place.locked():
        return _end(place)


def _end(place: Place) -> int:
    record = place.running()
    if record is None:
        place.forget()
        stranger = _stranger(place)
        if stranger is None:
            print("not running")
            return OK
        print(f"process {stranger.pid} was not started by this command: stop it where it was started", file=sys.stderr)
        return FAILED
    bound = record.shutdown_timeout + background.MARGIN
    if background.stop(place, record, bound):
        print(f"stopped: process {record.pid}")
    else:
        print(f"killed: process {record.pid} had not ended after {bound:g} s")
    return OK


def _reload(flags: argparse.Namespace, passed_on: Sequence[str]) -> int:
    """Have what runs read its configuration and variables anew, unless they are bad, which is found out first."""
    _none_of(passed_on)
    loaded, _ = read(flags)
    place = Place(loaded.config.state_dir)
    source = str(Path(loaded.config.source).absolute()) if loaded.config.source else None
    with place.locked():
        record = place.running()
        if record is None:
            stranger = _stranger(place)
            print(
                "not running"
                if stranger is None
                else f"process {stranger.pid} was not started by this command: reload it where it was started",
                file=sys.stderr,
            )
            return FAILED
        if record.config != source:
            print(f"process {record.pid} runs with {record.config or 'no file'}, not with {source}", file=sys.stderr)
            return FAILED
        _warn(loaded)
        processes.send(record.process, signal.SIGHUP)
    print(f"reloading: process {record.pid}, log {place.log}")
    return OK


def _restart(flags: argparse.Namespace, passed_on: Sequence[str]) -> int:
    """Stop and start. What runs goes on if the configuration is bad, which is found out first."""
    loaded, runner = read(flags)
    place = Place(loaded.config.state_dir)
    with place.locked():
        return _end(place) or _launch(flags, passed_on, loaded, runner, place)


def _logs(flags: argparse.Namespace, passed_on: Sequence[str]) -> int:
    _none_of(passed_on)
    path = _place(flags).log
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
    place = _place(flags)
    record = place.record()
    if record is not None and processes.is_alive(record.process):
        _print(place, record)
        what, url = _asked(place, flags, record.pid)
        for line in health.lines(what, url) if url else ():
            print(line)
        return OK
    stranger = _stranger(place)
    if stranger is not None:
        print(f"running: process {stranger.pid}{_memory(stranger.pid)}, not started by this command")
        print(*health.lines("listening", stranger.url), sep="\n")
        return OK
    if record is not None:
        print(f"dead: process {record.pid} has ended although nobody stopped it; see {place.log}")
        return DEAD
    print("not running")
    return NOT_RUNNING


def _print(place: Place, record: Record) -> None:
    seconds = (datetime.now(UTC) - datetime.fromisoformat(record.started)).total_seconds()
    up = durations.format(float(max(0, round(seconds))))
    print(f"running: process {record.pid}{_memory(record.pid)}, up {up}")
    print(f"  runner    {record.runner}")
    print(f"  config    {record.config or 'none'}")
    print(f"  log       {place.log}")


def _memory(pid: int) -> str:
    size = processes.resident(pid)
    return "" if size is None else f", {size // (1024 * 1024)} MB"


def _stranger(place: Place) -> statefile.State | None:
    """A runner with the same directory that somebody else has started, a service manager perhaps, and that answers:
    the number alone may be that of another process by now."""
    state = statefile.read(place.directory / statefile.NAME)
    if state is None or not statefile.is_alive(state.pid) or health.ask(state.url) is None:
        return None
    return state


def _asked(place: Place, flags: argparse.Namespace, pid: int) -> tuple[str, str]:
    """What of a runner tells its state, and where: its listener, else that of its metrics; an empty URL for neither."""
    state = statefile.read(place.directory / statefile.NAME)
    if state is not None and state.pid == pid:
        return "listening", state.url
    try:
        metrics = read(flags)[0].config.metrics
    except ConfigError:  # since it was started
        return "", ""
    if not (metrics.enabled and metrics.port):
        return "", ""
    return "metrics", f"http://{f'[{metrics.host}]' if ':' in metrics.host else metrics.host}:{metrics.port}"


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
