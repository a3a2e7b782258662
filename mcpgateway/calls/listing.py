"""What servers list, fetched whole: every page of every server of a namespace, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.adapters.base import NoBack
from mcpgateway.calls.call import Dispatcher, era_for
from mcpgateway.catalog.items import Item, Kind, read
from mcpgateway.errors import GatewayError, InvalidParams, ServerMisbehaved
from mcpgateway.protocol.capabilities import declared
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
_decode_list = msgspec.json.Decoder(list[Raw]).decode


async def fetch(dispatcher: Dispatcher, server: Server, caller: Caller, kind: Kind) -> tuple[Item, ...]:
    """Everything of one kind that a server lists for such a caller; nothing if it does not have the capability.

    :raises GatewayError: the server could not be asked, or answered with something else
    """
    negotiated = server.spoken.get(era_for(caller, server))
    if negotiated is not None and not declared(negotiated.capabilities, CAPABILITIES[kind]):
        return ()
    entries: list[Raw] = []
    cursor: Raw | None = None
    seen: set[bytes] = set()
    for _ in range(MAX_PAGES):
        members = await ask(dispatcher, server, caller, METHODS[kind], {} if cursor is None else {"cursor": cursor})
        entries += _entries(server, members.get(kind.value))
        cursor = members.get("nextCursor")
        if cursor is None or cursor == jsonrpc.NULL:
            return read(kind, entries)
        if bytes(cursor) in seen:
            raise ServerMisbehaved(server.name, f"pages of {METHODS[kind]} lead in a circle")
        seen.add(bytes(cursor))
    raise ServerMisbehaved(server.name, f"lists more than {MAX_PAGES} pages of {METHODS[kind]}")


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


async def fetch_all(
    dispatcher: Dispatcher,
    servers: Sequence[Server],
    caller: Caller,
    kind: Kind,
    *,
    startup_wait: float,
    list_timeout: float,
) -> tuple[dict[str, tuple[Item, ...]], dict[str, str]]:
    """The listings of several servers, and the names of those that are missing, each with the reason.

    A server that has never been up is waited for until ``startup_wait``; every one has ``list_timeout`` to answer. One
    that fails costs the others nothing.
    """
    listings: dict[str, tuple[Item, ...]] = {}
    missing: dict[str, str] = {}

    async def one(server: Server) -> None:
        if not await server.known(startup_wait):
            missing[server.name] = "is still starting"
            return
        try:
            with trio.move_on_after(list_timeout) as scope:
                listings[server.name] = await fetch(dispatcher, server, caller, kind)
            if scope.cancelled_caught:
                missing[server.name] = f"did not list within {list_timeout:g} s"
        except GatewayError as problem:
            missing[server.name] = getattr(problem, "reason", problem.message)

    async with trio.open_nursery() as nursery:
        for server in servers:
            nursery.start_soon(one, server)
    return listings, {server.name: missing[server.name] for server in servers if server.name in missing}
