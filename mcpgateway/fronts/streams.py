"""GET of Streamable HTTP: a session's stream of what servers say outside calls, and streams that clients resume
(2025-03-26 and later, transports)."""

from __future__ import annotations

from mcpgateway.calls.namespace import Namespace
from mcpgateway.errors import ClientGone, GatewayError, InvalidRequest, MethodNotFound
from mcpgateway.fronts.flights import owner_of
from mcpgateway.fronts.handshakes import LEGACY_HEADERS
from mcpgateway.fronts.media import check_stream_media
from mcpgateway.fronts.replies import HttpBack
from mcpgateway.sessions.caller import ANONYMOUS
from mcpgateway.sessions.store import Session, SessionStore
from mcpgateway.sessions.streams import Stream
from mcpgateway.wire.bounds import Bounds
from mcpgateway.wire.http1.exchange import Exchange
from mcpgateway.wire.http1.requests import HttpRequest
from mcpgateway.wire.transport import TransportBroken
from mcpgateway.wire.waiting import Sweeper, Wait


class NotAllowed(MethodNotFound):
    """An HTTP method that means nothing on its path."""

    status = 405


class Streams:
    """Serves the streams that are open at a time; each in the task of its connection."""

    def __init__(self, sessions: SessionStore, sweeper: Sweeper, bounds: Bounds) -> None:
        self._sessions = sessions
        self._sweeper = sweeper
        self._bounds = bounds
        self._standing: dict[Wait, None] = {}
        """Those that have nothing to finish."""

    async def listen(self, namespace: Namespace, request: HttpRequest, exchange: Exchange, fields: bytes) -> None:
        """Answer a GET with a stream, to its end.

        :raises GatewayError: there is none
        """
        session = self._session(namespace, request)
        last_event = None if session.moved else request.headers.get(b"last-event-id")
        session.moved = False
        resumed = self._resumed(namespace, session, last_event)
        wait = Wait()
        wait.probe = lambda: ClientGone("the client closed its stream") if exchange.client_gone() else None
        back = HttpBack(exchange, fields)
        self._bounds.streams.take(request.address)
        self._sweeper.add(wait)
        try:
            if resumed is not None:
                await _resume(*resumed, wait, back)
            else:
                self._standing[wait] = None
                with session.listening(wait):
                    await namespace.listen(session.caller, last_event, wait, back)
        except ClientGone:
            raise TransportBroken("the client closed its stream") from None
        except GatewayError:
            if not exchange.started:
                raise
        finally:
            self._sweeper.discard(wait)
            self._standing.pop(wait, None)
            self._bounds.streams.release(request.address)
        await back.open()
        await exchange.finish()

    def _session(self, namespace: Namespace, request: HttpRequest) -> Session:
        headers = request.headers
        version = headers.get(b"mcp-protocol-version", b"2025-03-26").strip()
        if version not in LEGACY_HEADERS:
            raise NotAllowed("this revision has no GET; use subscriptions/listen")
        check_stream_media(headers)
        id = headers.get(b"mcp-session-id")
        if id is None:
            if namespace.keeps_sessions:
                raise InvalidRequest("the header Mcp-Session-Id is missing; initialise first")
            raise NotAllowed("servers that keep no sessions send nothing outside calls")
        return self._sessions.find(id.decode("latin-1"), namespace.name, ANONYMOUS)

    def _resumed(self, namespace: Namespace, session: Session, last_event: bytes | None) -> tuple[Stream, bytes] | None:
        """The stream of a call that a client goes on with; ``None`` where it wants the standing one, or a server's.

        :raises UnknownEvent: it is kept no longer
        """
        if last_event is None or owner_of(namespace, session) is None:
            return None
        stream = session.outbox.find(last_event)
        return None if stream is session.outbox.standing else (stream, last_event)

    def end(self, problem: GatewayError) -> None:
        """End the streams of what servers say outside calls; those of calls end with these."""
        for wait in list(self._standing):
            wait.end(problem)


async def _resume(stream: Stream, last_event: bytes, wait: Wait, back: HttpBack) -> None:
    """Bring a client the rest of the stream of a call. It ends with the call, or with the session."""
    stream.attach(wait, last_event)
    try:
        await back.open()
        await stream.drain(wait, back)
    finally:
        stream.detach(wait)
