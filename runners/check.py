"""``python -m runners.check``: starts the configured servers and tells what each of them is and offers."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from typing import Final

import attrs
import trio

from mcpgateway import durations, jsonrpc
from mcpgateway.app import open_gateway
from mcpgateway.calls.listing import fetch
from mcpgateway.catalog.items import Kind
from mcpgateway.config.explain import describe
from mcpgateway.config.model import Config, ServerConfig
from mcpgateway.errors import ConfigError, GatewayError
from mcpgateway.gateway import Gateway
from mcpgateway.protocol.revisions import LATEST_LEGACY, Era
from mcpgateway.servers.ledger import LinkKey
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller
from mcpgateway.wire.children import GRACE
from runners import logs, options
from runners.findings import Finding, Status, as_json, as_text, one_line

ENDING: Final = 2 * GRACE
"""Seconds more than the timeout for a child that did not shake hands to end, and so to say its last words."""

INTERRUPTED: Final = 130
"""The exit status after Ctrl-C, as shells have it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Check and print; 0, or with ``--strict`` 1 if a server failed. Leaves with 2 if the configuration is bad."""
    given = _parse(options.two_dashes(sys.argv[1:] if arguments is None else arguments))
    loaded = options.configuration(given.config, demo=given.demo)
    logs.configure(given.log_level or "error", given.log_format or loaded.config.logging.format)
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of servers and tools, whatever the locale
    if given.explain:
        print(json.dumps(describe(loaded.config), indent=2, ensure_ascii=False))
        return 0
    try:
        findings = trio.run(check, loaded.config, given.timeout)
    except ConfigError as problem:
        options.fail(str(problem))
    except (KeyboardInterrupt, BaseExceptionGroup) as stopped:
        if isinstance(stopped, BaseExceptionGroup) and stopped.split(KeyboardInterrupt)[1] is not None:
            raise
        return INTERRUPTED
    if given.output == "json":
        print(as_json(findings, source=loaded.config.source))
    else:
        print(as_text(findings, colour=_wants_colour()))
    return 1 if given.strict and any(finding.status is Status.FAILED for finding in findings) else 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = options.parser("check", "Tells of each configured server whether it is reachable, and what it offers.")
    parser.add_argument("--output", choices=("text", "json"), default="text", help="(default text)")
    parser.add_argument("--timeout", type=seconds, default=30.0, metavar="TIME", help="per server (default 30s)")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a server failed")
    parser.add_argument("--explain", action="store_true", help="print the canonical configuration; start nothing")
    return parser.parse_args(arguments)


def seconds(text: str) -> float:
    """A timeout as people write it: ``30s``, ``1m30s``, or a bare number of seconds."""
    try:
        value = float(text) if text.replace(".", "", 1).isdecimal() else durations.parse(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None
    if not value > 0:
        raise argparse.ArgumentTypeError("must be more than 0")
    return value


def _wants_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


async def check(config: Config, timeout: float) -> list[Finding]:
    """Start all enabled servers side by side and look at each for ``timeout`` seconds; in the configuration's order."""
    findings: dict[str, Finding] = {}

    async def one(gateway: Gateway, server: Server) -> None:
        findings[server.name] = await look(gateway, server, timeout)

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


async def look(gateway: Gateway, server: Server, timeout: float) -> Finding:
    """What one starting server turns out to be. Raises nothing: what goes wrong is part of the finding."""
    began = trio.current_time()
    late = f"did not answer within {timeout:g} s"
    finding = Finding(server.name, server.config.type, Status.FAILED, error=late)
    if await server.known(timeout + ENDING):
        finding = attrs.evolve(finding, error=one_line(server.statistics().reason) or "could not be reached")
    negotiated = next((each for each in server.spoken.values() if each is not None), None)
    if negotiated is not None:
        finding = attrs.evolve(
            finding,
            reachable=True,
            revision=negotiated.revision,
            server_name=negotiated.name,
            server_version=negotiated.version,
            error=late,
        )
        with trio.move_on_at(began + timeout):
            finding = await _offer(gateway, server, finding)
            await _other_era(server, negotiated.era)
    eras = tuple(era.value for era, spoken in server.spoken.items() if spoken is not None)
    return attrs.evolve(finding, eras=eras, seconds=trio.current_time() - began)


async def _offer(gateway: Gateway, server: Server, finding: Finding) -> Finding:
    caller = Caller(None, LATEST_LEGACY, jsonrpc.raw_of({}))
    try:
        tools, prompts, resources = [
            await _names(gateway, server, caller, kind) for kind in (Kind.TOOLS, Kind.PROMPTS, Kind.RESOURCES)
        ]
    except GatewayError as problem:
        return attrs.evolve(finding, error=one_line(getattr(problem, "reason", problem.message)))
    return attrs.evolve(
        finding,
        status=Status.OK,
        tools=tools,
        prompts=len(prompts),
        resources=len(resources),
        error=None,
    )


async def _names(gateway: Gateway, server: Server, caller: Caller, kind: Kind) -> tuple[str, ...]:
    listing = await fetch(gateway.dispatcher, server, caller, kind)
    return () if listing is None else tuple(item.name for item in listing.items)


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
