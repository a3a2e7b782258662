"""What ``runners.gateway`` and ``runners.bridge`` share: a service that runs until it is told to end.

SIGTERM and SIGINT drain it, a second one ends it at once, SIGHUP has it go on with what its file says by then.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Final

import attrs
import trio

from mcpgateway.app import Service
from mcpgateway.config.differences import Differences
from mcpgateway.config.loading import Loaded
from mcpgateway.config.model import Config, Listen
from mcpgateway.config.proxies import is_loopback
from mcpgateway.errors import ConfigError
from mcpgateway.fronts.state import CannotWatch
from mcpgateway.gateway import Gateway
from runners import logs, open_files, options, readiness, stderr
from runners.environment import Variables
from runners.presence import Presence, in_thread
from runners.statefile import StateFile

log = logging.getLogger("mcpgateway")

NOTHING_LEFT: Final = 1
"""The exit status of a bridge whose upstreams have all come to their end, as source system 000 had it."""


@attrs.frozen
class Runner:
    """What distinguishes one runner from the other."""

    parser: argparse.ArgumentParser
    listens: Callable[[argparse.Namespace, Loaded], bool]
    """Whether clients are to be served over HTTP.

    :raises ConfigError: this is no configuration for the runner
    """
    find: Callable[[argparse.Namespace], Loaded] = options.named_configuration
    """Finds and reads the configuration, at the start and at every reload.

    :raises ConfigError: there is none, or it is bad
    """
    dotenv: bool = False
    """Whether variables may stand in ``.env`` in the working directory, too."""


@attrs.frozen
class Wanted:
    """What is to run now."""

    config: Config
    listening: bool
    warnings: list[str]


def main(runner: Runner, arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT, then drain and return 0. A second signal ends at once; SIGHUP reloads. Where nobody
    listens and no upstream will be dialled any more, return 1.

    ``--check`` hands over to ``runners.check``.
    """
    flags = options.two_dashes(sys.argv[1:] if arguments is None else arguments)
    find = partial(_find, runner, Variables(os.environ))
    if "--check" in flags:
        from runners import check

        return check.main(flags, find=find)
    given = runner.parser.parse_args(flags)
    read = partial(_read, runner, find, given)
    try:
        wanted = read()
    except ConfigError as problem:
        options.fail(str(problem))
    _configure_log(given, wanted.config)
    for warning in wanted.warnings:
        log.warning("%s", warning)
    try:
        return trio.run(_run, given, read, wanted)
    except BaseExceptionGroup as group:
        refused, others = group.split((CannotListen, ConfigError))
        if refused is None or others is not None:
            raise
        options.fail(str(_first(refused)))


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """The flags of a runner that serves."""
    made = options.parser(name, description)
    made.add_argument("--host", help="overrides listen.host (default 127.0.0.1)")
    made.add_argument("--port", type=int, help="overrides listen.port (default 8080); 0: any free one")
    made.add_argument(
        "--check", action="store_true", help="check the servers instead; takes the flags of runners.check"
    )
    return made


class CannotListen(Exception):
    """The listener could not be opened; says where and why."""

    def __init__(self, listen: Listen, problem: BaseException) -> None:
        if isinstance(problem, ssl.SSLError):
            super().__init__(f"listen.tls: {problem}")
        elif isinstance(problem, CannotWatch):
            super().__init__(str(problem))
        else:
            reason = getattr(problem, "strerror", None) or str(problem)
            super().__init__(f"cannot listen on {listen.host}, port {listen.port}: {reason}")


def _find(runner: Runner, variables: Variables, given: argparse.Namespace) -> Loaded:
    """The configuration, and the variables for it, as their files are now.

    :raises ConfigError: there is none, or one of them is bad
    """
    variables.take(given.environment_file, dotenv=runner.dotenv)
    return runner.find(given)


def _read(runner: Runner, find: Callable[[argparse.Namespace], Loaded], given: argparse.Namespace) -> Wanted:
    """What the configuration says as it is now, under the flags.

    :raises ConfigError: it is bad, or does not go with the flags or the runner
    """
    loaded = find(given)
    listening = runner.listens(given, loaded)
    config = overridden(loaded.config, given)
    return Wanted(open_files.fitted(config) if listening else config, listening, loaded.warnings)


def overridden(config: Config, given: argparse.Namespace) -> Config:
    """The configuration with the flags on top, which win over the file."""
    listen = config.listen
    if given.host is not None:
        listen = attrs.evolve(listen, host=given.host)
    if given.port is not None:
        if not 0 <= given.port <= 65535:
            raise ConfigError([f"--port must be from 0 to 65535, not {given.port}"])
        listen = attrs.evolve(listen, port=given.port)
    if given.host is not None and not is_loopback(listen.host) and not config.insecure:
        text = (
            f"--host {listen.host} is open to others, and there is no authentication yet: "
            "set 'insecure: true' in the configuration if that is meant"
        )
        raise ConfigError([text])
    return options.verbose(attrs.evolve(config, listen=listen), given)


def _configure_log(given: argparse.Namespace, config: Config) -> None:
    logs.configure(given.log_level or config.logging.level, given.log_format or config.logging.format)


# ---- running ---------------------------------------------------------------------------------------------------------


async def _run(given: argparse.Namespace, read: Callable[[], Wanted], wanted: Wanted) -> int:
    """Run until it is told to end, or has nothing left to do; the exit status."""
    stop, config = trio.Event(), wanted.config
    file = StateFile(config.state_dir)
    ready = readiness.taken(os.environ)
    attached = has_terminal() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN  # as nohup has it
    left = True
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # below it is received; one that comes too late for that is no end
    with (
        trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as ending,
        trio.open_signal_receiver(signal.SIGHUP) as reloading,
    ):
        async with trio.open_nursery() as signals:
            signals.start_soon(_obey, ending, stop)
            async with trio.open_nursery() as running:
                try:
                    service = Service(Gateway(config), listening=wanted.listening)
                    presence = Presence(service, file)

                    def moved() -> None:
                        nonlocal left
                        presence.changed()
                        if service.is_over and not stop.is_set():
                            left = False
                            stop.set()

                    service.moved = moved
                    await running.start(partial(service.run, stop=stop))
                except* OSError as group:
                    raise CannotListen(config.listen, _first(group)) from None
                if service.url:
                    stderr.line(f"listening on {service.url}")
                names = [upstream.name for upstream in config.upstreams if upstream.enabled]
                if names:
                    stderr.line(f"dialling {', '.join(names)}")
                signals.start_soon(Reloads(given, read, service, presence, stop, attached).obey, reloading, ready)
                signals.start_soon(presence.keep)
            signals.cancel_scope.cancel(reason="the gateway has ended")
    file.remove()
    if left:
        return 0
    log.error("no upstream is dialled any more, and nothing listens: ended with status %d", NOTHING_LEFT)
    return NOTHING_LEFT


async def _obey(received: AsyncIterator[int], stop: trio.Event) -> None:
    """Stop at the first signal, politely; at the second one at once, by that signal."""
    async for number in received:
        if stop.is_set():
            log.warning("second signal: ending at once")
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        log.info("%s: finishing calls in flight", signal.Signals(number).name)
        stop.set()


class Reloads:
    """The configuration read anew at each SIGHUP, one after the other.

    ``attached`` says that the gateway belongs to a terminal, and is to end with it.
    """

    def __init__(
        self,
        given: argparse.Namespace,
        read: Callable[[], Wanted],
        service: Service,
        presence: Presence,
        stop: trio.Event,
        attached: bool,
    ) -> None:
        self._given = given
        self._read = read
        self._service = service
        self._presence = presence
        self._stop = stop
        self._attached = attached

    async def obey(self, received: AsyncIterator[int], ready: Callable[[], None]) -> None:
        """Write the state file, tell whoever waits that all is ready, then reload at every signal, for ever."""
        await self._presence.tell()
        ready()
        async for _ in received:
            if self._stop.is_set():
                log.info("SIGHUP: not reloading, the gateway is ending")
            elif self._attached and not has_terminal():
                log.info("SIGHUP: the terminal was closed")
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                await self._reload()

    async def _reload(self) -> None:
        log.info("SIGHUP: reloading the configuration")
        try:
            wanted = await in_thread(self._read)
            if self._stop.is_set():
                return
            differences = self._apply(wanted)
        except ConfigError as problem:
            for line in str(problem).splitlines():
                log.error("not reloaded: %s", line)
        except Exception:
            log.exception("not reloaded")  # a mistake of ours, which is not to end what runs
        else:
            await self._presence.tell()
            log.info("reloaded: %s", differences)  # last: whoever reads it finds the state file as it is now

    def _apply(self, wanted: Wanted) -> Differences:
        """Go on with a configuration that was read; what is different in it."""
        service, config = self._service, wanted.config
        before = service.url
        try:
            differences = service.reconfigure(config, listening=wanted.listening)
        except OSError as problem:
            raise ConfigError([str(CannotListen(config.listen, problem))]) from None
        _configure_log(self._given, config)
        for warning in wanted.warnings:
            log.warning("%s", warning)
        for key in differences.fixed:
            log.warning("%r has changed, which takes effect at the next start", key)
        if service.url and service.url != before:
            stderr.line(f"listening on {service.url}")
        return differences


def has_terminal() -> bool:
    """Whether this process belongs to a terminal, which is there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _first(problem: BaseException) -> BaseException:
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return problem
