"""How a merged namespace introduces itself: what its servers negotiated, united into one handshake."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import trio
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.calls.eras import OTHER
from mcpgateway.calls.keys import era_for
from mcpgateway.calls.namespace import speaks
from mcpgateway.calls.targets import text_of
from mcpgateway.calls.tasks import EXTENSION as TASKS_EXTENSION
from mcpgateway.errors import GatewayError, UnsupportedVersion
from mcpgateway.jsonrpc import members_of
from mcpgateway.protocol.capabilities import merge_capabilities
from mcpgateway.protocol.negotiated import Negotiated
from mcpgateway.protocol.revisions import Era, revisions_of
from mcpgateway.protocol.translation.capabilities import of_legacy_server, of_modern_server
from mcpgateway.servers.ledger import LinkKey
from mcpgateway.servers.server import Server
from mcpgateway.sessions.caller import Caller

_UNREACHED: Final = Raw(
    b'{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{"listChanged":true}}'
)
"""What a server may turn out to offer that was not reached yet: whoever is not told never asks. That it is there is
told as a change, by the gateway itself."""


_CARRIED: Final[Mapping[Era, tuple[str, ...]]] = {
    Era.LEGACY: ("tools", "prompts", "resources", "completions", "logging", "tasks"),
    Era.MODERN: ("tools", "prompts", "resources", "completions", "logging"),
}


_TRANSLATED: Final[Mapping[Era, Callable[[Raw], Raw]]] = {Era.LEGACY: of_modern_server, Era.MODERN: of_legacy_server}


async def reach(
    servers: Sequence[Server], caller: Caller, era: Era, *, startup_wait: float, list_timeout: float
) -> dict[str, Negotiated | None]:
    """What was negotiated with the servers that speak, or may speak, an era; ``None`` where none was reached yet.

    :raises UnsupportedVersion: there are servers, and none does
    """
    with trio.move_on_after(startup_wait):
        for server in servers:
            await server.tried.wait()
    async with trio.open_nursery() as nursery:
        for server in servers:
            spoken = era_for(caller, server)
            if server.spoken and spoken not in server.spoken:
                key = LinkKey(spoken, b"" if spoken is Era.MODERN else caller.capability_set)
                nursery.start_soon(_try_era, server, key, list_timeout)
    speaking = [server for server in servers if speaks(server, era)]
    if servers and not speaking:
        other = OTHER[era]
        raise UnsupportedVersion(
            f"the servers here speak only the {other.value} era of MCP, the client the {era.value} era, "
            "and calls are not translated between them here",
            data={"supported": list(revisions_of(other)), "client_era": era.value, "server_era": other.value},
        )
    return {
        server.name: server.spoken.get(era_for(caller, server)) or next(filter(None, server.spoken.values()), None)
        for server in speaking
    }


async def _try_era(server: Server, key: LinkKey, list_timeout: float) -> None:
    """Find out whether a server that speaks one era speaks the other too."""
    with trio.move_on_after(list_timeout):
        try:
            server.release(await server.acquire(key))
        except GatewayError:
            return


def offered(known: Mapping[str, Negotiated | None], era: Era) -> dict[str, object]:
    """The servers' capabilities united, of those that the gateway carries in merged namespaces."""
    merged = merge_capabilities(
        _UNREACHED if negotiated is None else _in_words_of(era, negotiated) for negotiated in known.values()
    )
    offered: dict[str, object] = {name: merged[name] for name in _CARRIED[era] if isinstance(merged.get(name), dict)}
    extensions = merged.get("extensions")
    if era is Era.MODERN and isinstance(extensions, dict) and TASKS_EXTENSION in extensions:
        offered["extensions"] = {TASKS_EXTENSION: extensions[TASKS_EXTENSION]}
    return offered


def _in_words_of(era: Era, negotiated: Negotiated) -> Raw:
    """What a server offers to the clients of an era."""
    return negotiated.capabilities if negotiated.era is era else _TRANSLATED[era](negotiated.capabilities)


def instructions(known: Mapping[str, Negotiated | None]) -> str | None:
    """What the servers tell their clients, each under its name."""
    parts: list[str] = []
    for name, negotiated in known.items():
        raw = None if negotiated is None else members_of(negotiated.result).get("instructions")
        if raw is not None and raw != jsonrpc.NULL:
            parts.append(f"# {name}\n\n{text_of(raw, 'instructions')}")
    return "\n\n".join(parts) or None
