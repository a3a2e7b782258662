"""``python -m runners.stdio``: a gateway for the one client that starts it, over standard input and output.

By itself it runs the configured servers in its own process. With ``--url`` it is a bridge: a gateway of one server,
which is a running gateway, or any server of Streamable HTTP. Everything that a gateway does for a server is then done
for that one: the client's era is kept, sessions are opened again, streams resumed, names left alone.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs
import trio

from mcpgateway.app import open_gateway
from mcpgateway.config.loading import Loaded, from_value
from mcpgateway.config.model import Config, Isolation
from mcpgateway.config.plan import plans
from mcpgateway.errors import ConfigError
from mcpgateway.fronts.stdio import StdioFront
from runners import logs, options, statefile
from runners.environment import Variables

log = logging.getLogger("mcpgateway")

REMOTE: Final = "remote"
"""The name of the one server of a bridge."""
URL: Final = "MCP_GATEWAY_URL"
"""Where a bridge looks for its URL that was given none."""
_LONG: Final = "1d"
_EAGER: Final = {"initial": "250ms", "maximum": "2s"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until standard input ends, or SIGTERM or SIGINT come; then drain and return 0."""
    given = _parse(options.two_dashes(sys.argv[1:] if arguments is None else arguments))
    try:
        loaded = _loaded(given)
        namespace = chosen(loaded.config, REMOTE if given.url is not None else given.namespace)
    except ConfigError as problem:
        options.fail(str(problem))
    logging_ = loaded.config.logging
    logs.configure(given.log_level or logging_.level, given.log_format or logging_.format)
    for warning in loaded.warnings:
        log.warning("%s", warning)
    try:
        with own_wires() as (stdin, stdout):
            trio.run(_run, for_one(options.verbose(loaded.config, given)), namespace, stdin, stdout)
    except BaseExceptionGroup as group:
        refused, others = group.split(ConfigError)
        if refused is None or others is not None:
            raise
        options.fail(str(innermost(refused)))
    return 0


def bridge(arguments: Sequence[str] | None = None) -> int:
    """The console script ``mcp-gateway-bridge [URL]``: `main` with ``--url``."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    url = given.pop(0) if given and not given[0].startswith("-") else ""
    return main([f"--url={url}", *given])


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = options.parser("stdio", "A gateway over standard input and output, for the client that starts it.")
    parser.add_argument("--namespace", metavar="NAME", help="which namespace or server (default: the whole gateway)")
    parser.add_argument(
        "--url",
        nargs="?",
        const="",
        help=f"be a bridge to the gateway at this URL; without one, to that of {URL}, or to the one that is running",
    )
    parser.add_argument(
        "--header",
        action="append",
        default=[],
        metavar="'NAME: VALUE'",
        help="sent with every request to --url; ${VARIABLE} is taken from the environment",
    )
    given = parser.parse_args(arguments)
    if given.url is not None and given.namespace is not None:
        parser.error("--namespace does not go with --url: name it in the URL, as in http://127.0.0.1:8080/mcp/NAME")
    if given.header and given.url is None:
        parser.error("--header goes with --url only")
    return given


# ---- what to serve ---------------------------------------------------------------------------------------------------


def _loaded(given: argparse.Namespace) -> Loaded:
    """The configuration; of a bridge, the one that its flags make.

    :raises ConfigError: it is bad, or there is none
    """
    Variables(os.environ).take(given.environment_file)
    if given.url is None:
        return options.find_configuration(given.config, demo=given.demo)
    config = options.find_configuration(given.config).config if given.config is not None else Config()
    url = given.url or os.environ.get(URL) or running(config.state_dir)
    made = remote(url, given.header, os.environ)
    return attrs.evolve(made, config=attrs.evolve(made.config, logging=config.logging))


def running(state_dir: Path) -> str:
    """The URL of the gateway that runs with this directory.

    :raises ConfigError: there is none, or it is a bridge that does not listen
    """
    state = statefile.running(state_dir)
    if state is None or not state.url:
        why = f"{state_dir / statefile.NAME} names none"
        why = why if state is None else f"that of process {state.pid} does not listen"
        raise ConfigError([f"no gateway is running ({why}): give --url its URL, or set {URL}, or start one"])
    return f"{state.url}/mcp"


def remote(url: str, headers: Sequence[str], env: Mapping[str, str]) -> Loaded:
    """The configuration of a bridge. Its calls have no deadline of their own: the far end has. It is tried again
    every two seconds at least, for there is nobody else to turn to.

    :raises ConfigError: the URL or a header is none
    """
    fields: dict[str, object] = {}
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon:
            raise ConfigError([f"--header {name.strip()!r} has no value: write 'Name: value'"])
        fields[name.strip()] = value.strip()
    server: dict[str, object] = {
        "url": url,
        "headers": fields,
        "timeout": _LONG,
        "max_timeout": _LONG,
        "recovery": _EAGER,
    }
    return from_value({"servers": {REMOTE: server}}, env=env, name="--url")


def chosen(config: Config, wanted: str | None) -> str:
    """The namespace that is served.

    :raises ConfigError: there is none of that name, or none was named and there are several
    """
    names = plans(config)
    if wanted is not None and wanted in names:
        return wanted
    there_are = ", ".join(name for name in names if name) or "none"
    if wanted is not None:
        raise ConfigError([f"there is no namespace or server {wanted!r}; there are: {there_are}"])
    if "" in names:
        return ""
    if len(names) == 1:
        return next(iter(names))
    raise ConfigError([f"which namespace? --namespace has to name one; there are: {there_are}"])


def for_one(config: Config) -> Config:
    """The configuration for the one client that there is: servers on this machine are its own, so that what they ask
    outside calls (a filesystem server its roots, once it is initialized) has somebody to go to."""
    servers = {
        name: attrs.evolve(server, isolation=Isolation.SESSION)
        if server.local and server.isolation is Isolation.AUTO
        else server
        for name, server in config.servers.items()
    }
    return attrs.evolve(config, servers=servers)


# ---- running ---------------------------------------------------------------------------------------------------------


@contextmanager
def own_wires() -> Iterator[tuple[int, int]]:
    """Standard input and output for MCP alone: what anybody else prints goes to standard error, and there is nothing
    for them to read. Given back at the end, as they were."""
    wires = os.dup(0), os.dup(1)
    blocking = [os.get_blocking(fd) for fd in wires]
    sys.stdout.flush()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    try:
        yield wires
    finally:
        sys.stdout.flush()
        for fd, own, was in zip(wires, (0, 1), blocking, strict=True):
            os.set_blocking(fd, was)  # the terminal, or whoever shares the pipe, did not ask for it
            os.dup2(fd, own)
            os.close(fd)


async def _run(config: Config, namespace: str, stdin: int, stdout: int) -> None:
    stop = trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_obey, signals, stop)
            async with open_gateway(config) as gateway:
                await StdioFront(gateway, namespace).run(stdin, stdout, stop=stop)
            nursery.cancel_scope.cancel(reason="the gateway has ended")


def innermost(problem: BaseException) -> BaseException:
    """The first problem of a group, however deep it is."""
    while isinstance(problem, BaseExceptionGroup):
        problem = problem.exceptions[0]
    return problem


async def _obey(received: AsyncIterator[int], stop: trio.Event) -> None:
    """Stop at the first signal, politely; at the second one at once, by that signal."""
    signalled = False
    async for number in received:
        if signalled:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        log.info("%s: finishing calls in flight", signal.Signals(number).name)
        signalled = True
        stop.set()


if __name__ == "__main__":
    sys.exit(main())
