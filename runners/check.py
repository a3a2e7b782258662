"""``python -m runners.check``: starts the configured servers and tells what each of them is and offers."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import attrs
import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.app import open_gateway
from mcpgateway.calls.listing import fetch
from mcpgateway.catalog.items import Kind
from mcpgateway.config.explain import describe
from mcpgateway.config.loading import Loaded
from mcpgateway.config.masking import without
from mcpgateway.config.model import Config, ServerConfig
from mcpgateway.config.secrets import secrets_of
from mcpgateway.errors import ConfigError, GatewayError
from mcpgateway.gateway import Gateway
from mcpgateway.protocol.revisions import LATEST_LEGACY, Era
from mcpgateway.servers.ledger import LinkKey
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller
from mcpgateway.wire.children import GRACE
from runners import by_upstream, logs, options
from runners.environment import Variables
from runners.findings import Finding, Status, Tool, as_json, as_text, one_line

OUTPUTS: Final = ("text", "json")
TIMEOUT: Final = 30.0
"""Seconds for each server, where nothing else is said."""
ENDING: Final = 2 * GRACE
"""Seconds more than the timeout for a child that did not shake hands to end, and so to say its last words."""

CREATE: Final = "create adapter"
START: Final = "start"
INITIALIZE: Final = "initialize"
"""Stages of reaching a server, in which it may fail; see `runners.findings.Finding.stage`."""
INTERRUPTED: Final = 130
"""The exit status after Ctrl-C, as shells have it."""


def main(
    arguments: Sequence[str] | None = None,
    *,
    find: Callable[[argparse.Namespace], Loaded] | None = None,
) -> int:
    """Check and print; 0, or with ``--strict`` 1 if a server failed. ``find`` gives the configuration, and takes the
    variables for it; without it, those of ``--environment-file``.

    A configuration that cannot be used ends it with 2, as it does any runner; asked for with ``-check``, as users of
    dlmufei/mcp-gateway do, with what they know: ``Error: …`` and 1.
    """
    flags = options.two_dashes(sys.argv[1:] if arguments is None else arguments)
    given = _parse([flag for flag in flags if flag != "--check"])
    try:
        return _check_and_print(given, (find or _find)(given))
    except ConfigError as problem:
        if "--check" not in flags:
            options.fail(str(problem))
        print(f"Error: {problem}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, BaseExceptionGroup) as stopped:
        if isinstance(stopped, BaseExceptionGroup) and stopped.split(KeyboardInterrupt)[1] is not None:
            raise
        return INTERRUPTED


def _find(given: argparse.Namespace) -> Loaded:
    Variables(os.environ).take(given.environment_file)
    return options.named_configuration(given)


def _check_and_print(given: argparse.Namespace, loaded: Loaded) -> int:
    config = loaded.config
    logs.configure(given.log_level or "error", given.log_format or config.logging.format)
    for warning in _odd(given.output, loaded.warnings):
        print(f"warning: {warning}", file=sys.stderr)
    if given.explain:
        _print(json.dumps(describe(config), indent=2, ensure_ascii=False), json=True)
        return 0
    findings = [_or_left_out(finding, loaded.left_out) for finding in trio.run(check, config, given.timeout)]
    _print(_told(config, findings, json=given.output == "json"), json=given.output == "json")
    return 1 if given.strict and any(finding.status is Status.FAILED for finding in findings) else 0


def _or_left_out(finding: Finding, left_out: Mapping[str, str]) -> Finding:
    """What was found out about a server; one is no better for having been disabled because it cannot work."""
    why = left_out.get(finding.name)
    if why is None:
        return finding
    return attrs.evolve(finding, status=Status.FAILED, error=one_line(why), stage=CREATE)


def _odd(output: str, warnings: Sequence[str]) -> list[str]:
    unknown = [] if output in OUTPUTS else [f"--output {output}: there are {' and '.join(OUTPUTS)}; this is text"]
    return [*unknown, *warnings]


def _told(config: Config, findings: Sequence[Finding], *, json: bool) -> str:
    """What was found out, in the words of dlmufei/mcp-gateway where there are upstreams, as it has."""
    if config.upstreams:
        report = by_upstream.grouped(config, findings)
        if json:
            return by_upstream.as_json(report)
        return by_upstream.as_text(report, colour=_wants_colour(), plain=not _shows_unicode())
    return as_json(findings, source=config.source) if json else as_text(findings, colour=_wants_colour())


def _print(text: str, *, json: bool) -> None:
    """Print whatever servers and tools call themselves, whatever the locale; JSON is UTF-8 everywhere (RFC 8259)."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8" if json else None, errors="backslashreplace")
    try:
        print(text, flush=True)
    except BrokenPipeError:  # whoever reads it has read enough, `head` for instance
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter would try once more


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = options.parser("check", "Tells of each configured server whether it is reachable, and what it offers.")
    parser.add_argument("--output", default="text", metavar="|".join(OUTPUTS), help="(default text)")
    parser.add_argument(
        "--timeout",
        type=partial(options.seconds, zero=TIMEOUT),
        default=TIMEOUT,
        metavar="TIME",
        help="per server (default 30s)",
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a server failed")
    parser.add_argument("--explain", action="store_true", help="print the canonical configuration; start nothing")
    return parser.parse_args(arguments)


def _wants_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _shows_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().startswith("utf")


async def check(config: Config, timeout: float) -> list[Finding]:
    """Start all enabled servers side by side and look at each for ``timeout`` seconds; in the configuration's order.

    Upstreams are not dialled; where there are any, servers are asked for what those show, their tools, and no more.
    """
    findings: dict[str, Finding] = {}

    async def one(gateway: Gateway, server: Server) -> None:
        findings[server.name] = await look(gateway, server, timeout, tools_only=bool(config.upstreams))

    async with open_gateway(_eager(config, timeout)) as gateway:
        async with trio.open_nursery() as nursery:
            for server in gateway.servers.values():
                nursery.start_soon(one, gateway, server)
    return [findings.get(name) or Finding(name, each.type) for name, each in config.servers.items()]


def _eager(config: Config, timeout: float) -> Config:
    """The configuration with every enabled server started at once, and given up after the timeout."""

    def eager(server: ServerConfig) -> ServerConfig:
        return attrs.evolve(server, links=attrs.evolve(server.links, min=1), startup_timeout=timeout, timeout=timeout)

    servers = {name: eager(server) for name, server in config.servers.items()}
    return attrs.evolve(config, servers=servers, lazy_above=len(servers))


async def look(gateway: Gateway, server: Server, timeout: float, *, tools_only: bool = False) -> Finding:
    """What one starting server turns out to be. Raises nothing: what goes wrong is part of the finding."""
    began = trio.current_time()
    late = f"did not answer within {timeout:g} s"
    finding = Finding(server.name, server.config.type, Status.FAILED, error=late, stage=INITIALIZE)
    if await server.known(timeout + ENDING):
        error = _reason(server, server.statistics().reason) or "could not be reached"
        finding = attrs.evolve(finding, error=error, stage=START if server.unstarted else INITIALIZE)
    negotiated = next((each for each in server.spoken.values() if each is not None), None)
    if negotiated is not None:
        finding = attrs.evolve(
            finding,
            reachable=True,
            revision=negotiated.revision,
            server_name=negotiated.name,
            server_version=negotiated.version,
            error=late,
            stage=_listing(Kind.TOOLS),
        )
        with trio.move_on_at(began + timeout):
            finding = await _offer(gateway, server, finding, tools_only=tools_only)
            if not tools_only:
                await _other_era(server, negotiated.era)
    eras = tuple(era.value for era, spoken in server.spoken.items() if spoken is not None)
    return attrs.evolve(finding, eras=eras, seconds=trio.current_time() - began)


async def _offer(gateway: Gateway, server: Server, finding: Finding, *, tools_only: bool) -> Finding:
    listed: dict[Kind, tuple[Tool, ...]] = {}
    for kind in (Kind.TOOLS,) if tools_only else (Kind.TOOLS, Kind.PROMPTS, Kind.RESOURCES):
        try:
            listed[kind] = await _list(gateway, server, kind)
        except GatewayError as problem:
            reason = _reason(server, getattr(problem, "reason", problem.message))
            return attrs.evolve(finding, error=reason, stage=_listing(kind))
    return attrs.evolve(
        finding,
        status=Status.OK,
        tools=listed[Kind.TOOLS],
        prompts=len(listed.get(Kind.PROMPTS, ())),
        resources=len(listed.get(Kind.RESOURCES, ())),
        error=None,
        stage="",
    )


def _listing(kind: Kind) -> str:
    return f"list {kind.value}"


async def _list(gateway: Gateway, server: Server, kind: Kind) -> tuple[Tool, ...]:
    caller = Caller(None, LATEST_LEGACY, jsonrpc.raw_of({}))
    listing = await fetch(gateway.dispatcher, server, caller, kind)
    return () if listing is None else tuple(Tool(item.name, _description(item.raw)) for item in listing.items)


def _description(item: Raw) -> str:
    description = jsonrpc.value_of(jsonrpc.members_of(item).get("description", jsonrpc.NULL))
    return description if isinstance(description, str) else ""


def _reason(server: Server, reason: str) -> str:
    """Why something went wrong, without what the server was given to keep."""
    return one_line(without(secrets_of(server.config), reason))


async def _other_era(server: Server, spoken: Era) -> None:
    """Find out whether a server of one era speaks the other one too: a link for it tells."""
    other = Era.LEGACY if spoken is Era.MODERN else Era.MODERN
    if not server.may_speak(other):
        return
    try:
        server.release(await server.acquire(LinkKey(other, b"" if other is Era.MODERN else b"{}")))
    except GatewayError:
        pass  # an era that is not spoken (the server remembers it), or one link is all that can be had


if __name__ == "__main__":
    sys.exit(main())
