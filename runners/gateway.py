"""``python -m runners.gateway``: many MCP servers behind one HTTP endpoint."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial

import attrs
import trio

from mcpgateway.app import serve
from mcpgateway.config.checks import is_loopback
from mcpgateway.config.loading import Loaded
from mcpgateway.config.model import Config, StdioServer
from mcpgateway.gateway import Gateway
from runners import logs, options

log = logging.getLogger("mcpgateway")

_DEMO = {
    name: StdioServer(name, command=sys.executable, args=("-m", f"mcpgateway.demo.{name}")) for name in ("clock", "notes")
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT, then drain and return 0. A second signal ends at once."""
    given = _parse(options.two_dashes(sys.argv[1:] if arguments is None else arguments))
    if given.check:
        from runners import check

        return check.main([] if given.config is None else ["--config", str(given.config)])
    loaded = _loaded(given)
    config = _overridden(loaded.config, given)
    logs.configure(given.log_level or config.logging.level, given.log_format or config.logging.format)
    for warning in loaded.warnings:
        log.warning("%s", warning)
    try:
        trio.run(_run, config)
    except BaseExceptionGroup as group:
        refused, others = group.split(OSError)
        if refused is None or others is not None:
            raise
        options.fail(f"cannot listen on {config.listen.host}, port {config.listen.port}: {_first(refused)}")
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = options.parser("gateway", "Many MCP servers behind one HTTP endpoint.")
    parser.add_argument("--host", help="overrides listen.host (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="overrides listen.port (default 8080); 0: any free one")
    parser.add_argument("--demo", action="store_true", help="serve two bundled demo servers; needs no configuration")
    parser.add_argument("--check", action="store_true", help="check the servers instead, as runners.check does")
    return parser.parse_args(arguments)


def _loaded(given: argparse.Namespace) -> Loaded:
    if given.demo and given.config is None:
        return Loaded(Config(), [])
    return options.configuration(given.config)


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
    servers = {**_DEMO, **config.servers} if given.demo else config.servers
    return attrs.evolve(config, listen=listen, servers=servers)


async def _run(config: Config) -> None:
    stop = trio.Event()
    async with trio.open_nursery() as signals:
        await signals.start(_watch_signals, stop)
        async with trio.open_nursery() as running:
            url = await running.start(partial(serve, Gateway(config), stop=stop))
            print(f"listening on {url}", file=sys.stderr, flush=True)
        signals.cancel_scope.cancel(reason="the gateway has ended")


async def _watch_signals(stop: trio.Event, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        task_status.started()
        async for number in received:
            if stop.is_set():
                log.warning("second signal: ending at once")
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            log.info("%s: finishing calls in flight", signal.Signals(number).name)
            stop.set()


def _first(group: BaseExceptionGroup[OSError]) -> str:
    problem: BaseException = group
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return problem.strerror or str(problem) if isinstance(problem, OSError) else str(problem)


if __name__ == "__main__":
    sys.exit(main())
