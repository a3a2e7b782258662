"""The legacy HTTP+SSE front (2024-11-05, transports): a stream that says where to POST, and on which all answers come.

``GET /sse`` opens a channel, announces ``/messages?sessionId=…`` and lasts as long as the channel; a POST there, or to
``/message``, or to ``/sse`` itself, is taken with 202. The session id is the channel's and says nothing about a session
of Streamable HTTP. Other than over Streamable HTTP, a client that closes its stream has gone, and its calls with it.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs, quote

from mcpgateway.errors import ClientGone, GatewayError, InvalidRequest, UnknownNamespace, UnknownSession
from mcpgateway.fronts.channel import Channel, Commons, open_channel
from mcpgateway.fronts.media import check_json, check_stream_media
from mcpgateway.wire import sse
from mcpgateway.wire.http1.exchange import Exchange
from mcpgateway.wire.http1.requests import HttpRequest
from mcpgateway.wire.outgoing import Outgoing
from mcpgateway.wire.transport import TransportBroken
from mcpgateway.wire.waiting import Wait

_TEXT: Final = b"Content-Type: text/plain\r\n"


class HttpSse:
    """Answers requests on the paths of HTTP+SSE; ``fields`` are header fields for every answer."""

    def __init__(self, commons: Commons) -> None:
        self._commons = commons
        self._channels: dict[str, Channel] = {}
        """By session id."""

    async def open(self, request: HttpRequest, exchange: Exchange, name: str, fields: bytes) -> None:
        """``GET …/sse``: a channel, for as long as the client listens.

        :raises UnknownNamespace: there is none of that name
        :raises InvalidRequest: the client takes no event stream
        :raises TooBusy: there are as many streams as there may be
        """
        commons = self._commons
        if commons.find(name) is None:
            raise UnknownNamespace(f"there is no namespace or server {name[:100]!r} here")
        check_stream_media(request.headers)
        commons.bounds.streams.take(request.address)
        wait = Wait()
        wait.probe = lambda: ClientGone("the client closed its stream") if exchange.client_gone() else None
        commons.sweeper.add(wait)
        try:
            await self._serve(request, exchange, name, fields, wait)
        except ClientGone:
            raise TransportBroken("the client closed its stream") from None
        finally:
            commons.sweeper.discard(wait)
            commons.bounds.streams.release(request.address)

    async def _serve(self, request: HttpRequest, exchange: Exchange, name: str, fields: bytes, wait: Wait) -> None:
        id = self._commons.sessions.new_id()
        out = Outgoing(self._commons.bounds.replies, request.address, wait)
        problem: GatewayError | TransportBroken | None = None
        exchange.stream(200, sse.HEADERS + fields, beat=sse.COMMENT)
        async with open_channel(self._commons, name, request.address, out, sse.encode) as (channel, _):
            self._channels[id] = channel
            try:
                await exchange.write(sse.encode(_endpoint(name, id), event=b"endpoint"))
                await out.drain(exchange.write)
                await exchange.finish()
            except (GatewayError, TransportBroken) as raised:  # kept out of the nursery, which would wrap it in a group
                problem = raised
            finally:
                del self._channels[id]
        if problem is not None:
            raise problem

    async def post(self, request: HttpRequest, exchange: Exchange, name: str, fields: bytes) -> None:
        """``POST …/messages?sessionId=``: a message of a client, answered on its stream.

        :raises InvalidRequest: it says of no session
        :raises UnknownSession: there is no stream of that session, or its namespace is another
        :raises ParseError, TooBusy: the message cannot be taken
        """
        channel = self.find(request, name)
        if channel is None:
            raise InvalidRequest("Missing sessionId parameter")
        check_json(request.headers)
        channel.received(request.body)
        await exchange.respond(202, b"Accepted", _TEXT + fields)

    def find(self, request: HttpRequest, name: str) -> Channel | None:
        """The channel that a POST is for; ``None`` where it does not say.

        :raises UnknownSession: there is no such channel, for this namespace
        """
        named = parse_qs(request.query.decode("latin-1")).get("sessionId")
        header = request.headers.get(b"mcp-session-id")
        id = named[0] if named else None if header is None else header.decode("latin-1")
        if id is None:
            return None
        channel = self._channels.get(id)
        if channel is None or channel.name != name:
            if not named:
                return None  # a session of Streamable HTTP, perhaps
            raise UnknownSession("Session not found")
        return channel


def _endpoint(name: str, id: str) -> bytes:
    """Where a client is to POST: a reference that it resolves against the URL of its stream."""
    path = f"/{quote(name, safe='')}/message" if name else "/messages"
    return f"{path}?sessionId={quote(id, safe='')}".encode()
