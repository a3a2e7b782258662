"""What a server of one era says to a client of the other, in front of one that speaks both; see `fixture_server`.

A modern-only server refuses the handshake, and names what it speaks. A legacy-only one answers like an SDK that knows
nothing of 2026-07-28.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Self, TypeAlias

import anyio
from mcp.shared.message import SessionMessage
from mcp.types import ErrorData, JSONRPCError, JSONRPCRequest
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

Asgi: TypeAlias = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]

MODERN: Final = "2026-07-28"
_VERSION: Final = "io.modelcontextprotocol/protocolVersion"
_UNSUPPORTED: Final = {
    "code": -32022,
    "message": "Unsupported protocol version",
    "data": {"supported": [MODERN], "requested": "initialize"},
}
_UNKNOWN: Final = {"code": -32601, "message": "Method not found"}
_BAD_REQUEST: Final = {"code": -32000, "message": "Bad Request: Unsupported protocol version"}


# ---- connections on which all messages travel ------------------------------------------------------------------------


def filtered(era: str, read: Any, write: Any) -> Any:
    """The SDK's read stream of a connection, without what a server of one era refuses by itself."""
    return read if era == "both" else _Filtered(era, read, write)


class _Filtered:
    def __init__(self, era: str, read: Any, write: Any) -> None:
        self._era = era
        self._read = read
        self._write = write

    @property
    def last_context(self) -> Any:
        return getattr(self._read, "last_context", None)

    async def receive(self) -> Any:
        while True:
            received = await self._read.receive()
            request: Any = received.message if isinstance(received, SessionMessage) else None
            error = _error(self._era, request) if isinstance(request, JSONRPCRequest) else None
            if error is None:
                return received
            refusal = JSONRPCError(jsonrpc="2.0", id=request.id, error=ErrorData.model_validate(error))
            await self._write.send(SessionMessage(refusal))

    async def aclose(self) -> None:
        await self._read.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _error(era: str, request: JSONRPCRequest) -> object:
    if era == "modern":
        return _UNSUPPORTED if request.method == "initialize" else None
    meta = (request.params or {}).get("_meta") or {}
    return _UNKNOWN if request.method == "server/discover" or _VERSION in meta else None


# ---- Streamable HTTP -------------------------------------------------------------------------------------------------


def over_http(era: str, inner: Asgi) -> Asgi:
    """An application that refuses requests of the other era at ``/mcp``."""

    async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != "/mcp" or _welcome(era, scope):
            await inner(scope, receive, send)
            return
        status, body = 400, {"jsonrpc": "2.0", "id": None, "error": _UNSUPPORTED if era == "modern" else _BAD_REQUEST}
        if era == "modern" and scope["method"] != "POST":
            status, body = 405, {}
        data = json.dumps(body).encode()
        fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": data})

    return app


def _welcome(era: str, scope: MutableMapping[str, Any]) -> bool:
    said = dict(scope["headers"]).get(b"mcp-protocol-version")
    version = None if said is None else said.decode()
    if era == "both":
        return True
    return version == MODERN if era == "modern" else version is None or version in HANDSHAKE_PROTOCOL_VERSIONS
