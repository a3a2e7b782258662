"""``python -m runners.gateway``: many MCP servers behind one HTTP endpoint."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Sequence
from functools import partial

import attrs
import trio

from mcpgateway.app import serve
from mcpgateway.config.checks import is_loopback
from mcpgateway.config.model import Config, Listen
from mcpgateway.errors import ConfigError
from mcpgateway.gateway import Gateway
from runners import logs, open_files, options

log = logging.getLogger("mcpgateway")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT, then drain and return 0. A second signal ends at once."""
    flags = options.two_dashes(sys.argv[1:] if arguments is None else arguments)
    if "--check" in flags:
        from runners import check

        return check.main([flag for flag in flags if flag != "--check"])
    given = _parse(flags)
    loaded = options.configuration(given.config, demo=given.demo)
    config = _overridden(loaded.config, given)
    logs.configure(given.log_level or config.logging.level, given.log_format or config.logging.format)
    for warning in loaded.warnings:
        log.warning("%s", warning)
    config = open_files.fitted(config)
    try:
        trio.run(_run, config)
    except BaseExceptionGroup as group:
        refused, others = group.split((CannotListen, ConfigError))
        if refused is None or others is not None:
            raise
        options.fail(str(_first(refused)))
    return 0


class CannotListen(Exception):
    """The listener could not be opened; says where and why."""


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = options.parser("gateway", "Many MCP servers behind one HTTP endpoint.")
    parser.add_argument("--host", help="overrides listen.host (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="overrides listen.port (default 8080); 0: any free one")
    parser.add_argument(
        "--check", action="store_true", help="check the servers instead; takes the flags of runners.check"
    )
    return parser.parse_args(arguments)


def _overridden(config: Config, given: argparse.Namespace) -> Config:
    """The configuration with the flags on top, which win over the file."""
    listen = config.listen
    if given.host is not None:
        listen = attrs.evolve(listen, host=given.host)
    if given.port is not None:
        if not 0 <= given.port <= 65535:
            options.fail(f"--port must be from 0 to 65535, not {given.port}")
        listen = attrs.evolve(listen, port=given.port)
    if given.host is not None and not is_loopback(listen.host) and not config.insecure:
        options.fail(
            f"--host {listen.host} is open to others, and there is no authentication yet: "
            "set 'insecure: true' in the configuration if that is meant"
        )
    return attrs.evolve(config, listen=listen)


async def _run(config: Config) -> None:
    stop = trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        async with trio.open_nursery() as signals:
            signals.start_soon(_obey, received, stop)
            async with trio.open_nursery() as running:
                try:
                    url = await running.start(partial(serve, Gateway(config), stop=stop))
                except* OSError as group:
                    raise CannotListen(_refusal(config.listen, _first(group))) from None
                print(f"listening on {url}", file=sys.stderr, flush=True)
            signals.cancel_scope.cancel(reason="the gateway has ended")


def _refusal(listen: Listen, problem: BaseException) -> str:
    if isinstance(problem, ssl.SSLError):
        return f"listen.tls: {problem}"
    reason = getattr(problem, "strerror", None) or str(problem)
    return f"cannot listen on {listen.host}, port {listen.port}: {reason}"


async def _obey(received: AsyncIterator[int], stop: trio.Event) -> None:
    """Stop at the first signal, politely; at the second one at once, by that signal."""
    async for number in received:
        if stop.is_set():
            log.warning("second signal: ending at once")
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        log.info("%s: finishing calls in flight", signal.Signals(number).name)
        stop.set()


def _first(problem: BaseException) -> BaseException:
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return problem


if __name__ == "__main__":
    sys.exit(main())
