"""``python -m runners.gateway``: many MCP servers behind one HTTP endpoint."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import attrs
import trio

from mcpgateway._version import VERSION
from mcpgateway.app import Service
from mcpgateway.config.loading import Loaded
from mcpgateway.config.model import Config, Listen
from mcpgateway.config.proxies import is_loopback
from mcpgateway.errors import ConfigError
from mcpgateway.fronts.state import CannotWatch
from mcpgateway.gateway import Gateway
from runners import logs, open_files, options, stderr
from runners.statefile import State, StateFile

log = logging.getLogger("mcpgateway")
T = TypeVar("T")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT, then drain and return 0. A second signal ends at once; SIGHUP reloads."""
    flags = options.two_dashes(sys.argv[1:] if arguments is None else arguments)
    if "--check" in flags:
        from runners import check

        return check.main(flags)
    given = _parse(flags)
    try:
        loaded = _load(given)
    except ConfigError as problem:
        options.fail(str(problem))
    _configure_log(given, loaded.config)
    for warning in loaded.warnings:
        log.warning("%s", warning)
    try:
        trio.run(_run, given, open_files.fitted(loaded.config))
    except BaseExceptionGroup as group:
        refused, others = group.split((CannotListen, ConfigError))
        if refused is None or others is not None:
            raise
        options.fail(str(_first(refused)))
    return 0


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


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = options.parser("gateway", "Many MCP servers behind one HTTP endpoint.")
    parser.add_argument("--host", help="overrides listen.host (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="overrides listen.port (default 8080); 0: any free one")
    parser.add_argument(
        "--check", action="store_true", help="check the servers instead; takes the flags of runners.check"
    )
    return parser.parse_args(arguments)


def _load(given: argparse.Namespace) -> Loaded:
    """The configuration as it is now, under the flags.

    :raises ConfigError: it is bad, or does not go with the flags
    """
    loaded = options.find_configuration(given.config, demo=given.demo)
    return attrs.evolve(loaded, config=_overridden(loaded.config, given))


def _overridden(config: Config, given: argparse.Namespace) -> Config:
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


async def _run(given: argparse.Namespace, config: Config) -> None:
    stop = trio.Event()
    file = StateFile(config.state_dir)
    attached = has_terminal() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN  # as nohup has it
    with (
        trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as ending,
        trio.open_signal_receiver(signal.SIGHUP) as reloading,
    ):
        async with trio.open_nursery() as signals:
            signals.start_soon(_obey, ending, stop)
            async with trio.open_nursery() as running:
                try:
                    service = Service(Gateway(config))
                    url = await running.start(partial(service.run, stop=stop))
                except* OSError as group:
                    raise CannotListen(config.listen, _first(group)) from None
                stderr.line(f"listening on {url}")
                signals.start_soon(Reloads(given, service, file, stop, attached).obey, reloading)
            signals.cancel_scope.cancel(reason="the gateway has ended")
    file.remove()


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
    """The configuration read anew at each SIGHUP, one after the other, and the state file that follows it.

    ``attached`` says that the gateway belongs to a terminal, and is to end with it.
    """

    def __init__(
        self, given: argparse.Namespace, service: Service, file: StateFile, stop: trio.Event, attached: bool
    ) -> None:
        self._given = given
        self._service = service
        self._file = file
        self._stop = stop
        self._started = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        self._attached = attached

    async def obey(self, received: AsyncIterator[int]) -> None:
        """Write the state file, then reload at every signal, for ever."""
        await _in_thread(self._note)
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
            loaded = await _in_thread(partial(_load, self._given))
            if self._stop.is_set():
                return
            self._apply(loaded)
        except ConfigError as problem:
            for line in str(problem).splitlines():
                log.error("not reloaded: %s", line)
        except Exception:
            log.exception("not reloaded")  # a mistake of ours, which is not to end what runs
        else:
            await _in_thread(self._note)

    def _apply(self, loaded: Loaded) -> None:
        """Go on with a configuration that was read."""
        service, config = self._service, open_files.fitted(loaded.config)
        before = service.url
        try:
            differences = service.reconfigure(config)
        except OSError as problem:
            raise ConfigError([str(CannotListen(config.listen, problem))]) from None
        _configure_log(self._given, config)
        for warning in loaded.warnings:
            log.warning("%s", warning)
        for key in differences.fixed:
            log.warning("%r has changed, which takes effect at the next start", key)
        log.info("reloaded: %s", differences)
        if service.url != before:
            stderr.line(f"listening on {service.url}")

    def _note(self) -> None:
        source = self._service.gateway.config.source
        config = str(Path(source).absolute()) if source else None
        self._file.write(State(os.getpid(), self._service.url, VERSION, self._started, config))


def has_terminal() -> bool:
    """Whether this process belongs to a terminal, which is there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


async def _in_thread(function: Callable[[], T]) -> T:
    """Do what may wait for a disk, or for whoever writes a pipe; nobody waits for it when the gateway ends."""
    return await trio.to_thread.run_sync(function, abandon_on_cancel=True)


def _first(problem: BaseException) -> BaseException:
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return problem


if __name__ == "__main__":
    sys.exit(main())
