"""What servers list, fetched whole: every page of every server of a namespace, side by side."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Container, Iterable, Sequence
from functools import lru_cache
from typing import Final, Generic, TypeVar

import attrs
import msgspec
import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import NoBack
from mcpgateway.calls.call import Dispatcher
from mcpgateway.calls.keys import era_for
from mcpgateway.calls.retries import may_be_called_twice
from mcpgateway.catalog.items import Item, Kind, read
from mcpgateway.catalog.naming import Target
from mcpgateway.errors import EraMismatch, GatewayError, InvalidParams, ServerMisbehaved
from mcpgateway.protocol.capabilities import declared
from mcpgateway.protocol.param_headers import MARK, find_invalid
from mcpgateway.protocol.results import Hints, hints_of, strictest
from mcpgateway.protocol.revisions import Era
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller
from mcpgateway.wire.waiting import Wait

METHODS: Final = {
    Kind.TOOLS: "tools/list",
    Kind.PROMPTS: "prompts/list",
    Kind.RESOURCES: "resources/list",
    Kind.TEMPLATES: "resources/templates/list",
}
CAPABILITIES: Final = {
    Kind.TOOLS: "tools",
    Kind.PROMPTS: "prompts",
    Kind.RESOURCES: "resources",
    Kind.TEMPLATES: "resources",
}
MAX_PAGES: Final = 1000
NOTED: Final = 10_000
"""Tools of a server that are remembered: one that lists others every time is not to fill the memory with them."""
_MARK: Final = MARK.encode()
_SHARE: Final = 0.98  # of the time for a listing; the rest is for putting it together, so that all of it is in time
T = TypeVar("T")
log = logging.getLogger("mcpgateway.server")
_decode_list = msgspec.json.Decoder(list[Raw]).decode


@attrs.frozen
class Listing:
    """What one server lists, and for how long that may be kept: the strictest of its pages."""

    items: tuple[Item, ...]
    hints: Hints


async def fetch(dispatcher: Dispatcher, server: Server, caller: Caller, kind: Kind) -> Listing | None:
    """Everything of one kind that a server lists for such a caller; ``None`` if it does not have the capability.

    :raises GatewayError: the server could not be asked, or answered with something else
    """
    era = era_for(caller, server)
    negotiated = server.spoken.get(era)
    if negotiated is not None and not declared(negotiated.capabilities, CAPABILITIES[kind]):
        return None
    entries, hints = await pages(dispatcher, server, caller, METHODS[kind], kind.value)
    items = read(kind, entries)
    if kind is Kind.TOOLS:
        note_tools(server, items)
    if kind is Kind.TOOLS and not server.pipe and era is Era.MODERN:
        items = _mirrorable(server.name, items)
    return Listing(items, hints)


async def pages(
    dispatcher: Dispatcher, server: Server, caller: Caller, method: str, member: str
) -> tuple[list[Raw], Hints]:
    """The entries of all pages of a listing, and the strictest hints among them.

    :raises GatewayError: the server could not be asked, or answered with something else
    """
    entries: list[Raw] = []
    hints: list[Hints] = []
    cursor: Raw | None = None
    seen: set[bytes] = set()
    for _ in range(MAX_PAGES):
        members = await ask(dispatcher, server, caller, method, {} if cursor is None else {"cursor": cursor})
        entries += _entries(server, members.get(member))
        hints.append(hints_of(members))
        cursor = members.get("nextCursor")
        if cursor is None or cursor == jsonrpc.NULL:
            return entries, strictest(hints)
        if bytes(cursor) in seen:
            raise ServerMisbehaved(server.name, f"pages of {method} lead in a circle")
        seen.add(bytes(cursor))
    raise ServerMisbehaved(server.name, f"lists more than {MAX_PAGES} pages of {method}")


def note_tools(server: Server, items: Iterable[Item]) -> None:
    """Remember these tools, and which of them may be called twice: that is asked when a call has failed, and in a
    hurry."""
    if len(server.tools) >= NOTED:
        server.tools.clear()
        server.repeatable.clear()
    for item in items:
        if item.name not in server.tools:
            server.tools[item.name] = Target(server.name, item.name)
        if may_be_called_twice(item.raw):
            server.repeatable.add(item.name)
        else:
            server.repeatable.discard(item.name)


def _mirrorable(server: str, items: Iterable[Item]) -> tuple[Item, ...]:
    """The tools whose marks of mirrored arguments are good: a client over HTTP must not show the others."""
    return tuple(
        item for item in items if _MARK not in bytes(item.raw) or not _bad_mark(server, item.name, bytes(item.raw))
    )


@lru_cache(maxsize=1024)  # remembered so that each is logged once
def _bad_mark(server: str, tool: str, raw: bytes) -> bool:
    try:
        problem = find_invalid(jsonrpc.value_of(jsonrpc.members_of(raw).get("inputSchema", jsonrpc.NULL)))
    except InvalidParams:
        problem = "its inputSchema cannot be read"
    if problem is not None:
        log.warning("server %r: tool %r is not shown: %s", server, tool, problem)
    return problem is not None


async def ask(
    dispatcher: Dispatcher, server: Server, caller: Caller, method: str, params: dict[str, object]
) -> dict[str, Raw]:
    """A request of the gateway's own, as this caller; the members of its result.

    :raises GatewayError: the server could not be asked, or answered with an error
    """
    reply = await dispatcher.call(server, caller, jsonrpc.request(b"0", method, params), Wait(), NoBack())
    if reply.message.result is None:
        code = jsonrpc.error_code(reply.message)
        raise ServerMisbehaved(server.name, f"answered {method} with error {code}")
    try:
        return jsonrpc.members_of(reply.message.result)
    except InvalidParams:
        raise ServerMisbehaved(server.name, f"answered {method} with something that is not an object") from None


def _entries(server: Server, raw: Raw | None) -> list[Raw]:
    try:
        return [] if raw is None else _decode_list(raw)
    except msgspec.DecodeError:
        raise ServerMisbehaved(server.name, "lists something that is not a list") from None


@attrs.frozen
class Gathered(Generic[T]):
    """What several servers list."""

    found: dict[str, T]
    missing: dict[str, str]
    """The servers that did not list, each with the reason."""
    late: tuple[str, ...]
    """Those of them that were not waited for as long as they may take."""


async def gather(
    servers: Sequence[Server],
    fetch: Callable[[Server], Awaitable[T]],
    *,
    startup_wait: float,
    list_timeout: float,
    hurried: Container[str] = (),
) -> Gathered[T]:
    """What several servers list, each fetched by ``fetch``.

    A server that has never been up is waited for until ``startup_wait``; every one has ``list_timeout`` to answer, and
    the ``hurried`` half of it. One that fails costs the others nothing, and is noted to have been missed.
    """
    found: dict[str, T] = {}
    missing: dict[str, str] = {}
    late: set[str] = set()

    async def one(server: Server) -> None:
        hurry, lacking = server.name in hurried, True
        seconds = list_timeout / 2 if hurry else list_timeout
        try:
            if not await server.known(startup_wait):
                missing[server.name] = "is still starting"
                return
            with trio.move_on_after(seconds * _SHARE) as scope:
                found[server.name] = await fetch(server)
                lacking = False
            if scope.cancelled_caught:
                missing[server.name] = f"did not list within {seconds:g} s"
                if hurry:
                    late.add(server.name)
                else:
                    server.health.failed(None, server.timed_out(list_timeout))
        except GatewayError as problem:
            missing[server.name] = getattr(problem, "reason", problem.message)
            lacking = not isinstance(problem, EraMismatch)  # which no link to come mends
        finally:
            server.missed |= lacking  # also where nobody waits for the listing any more

    async with trio.open_nursery() as nursery:
        for server in servers:
            nursery.start_soon(one, server)
    ordered = {server.name: missing[server.name] for server in servers if server.name in missing}
    return Gathered(found, ordered, tuple(name for name in ordered if name in late))
