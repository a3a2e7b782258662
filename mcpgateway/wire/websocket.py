"""A WebSocket that we dialled, for one message per text frame: `dial`, `WebSocket`.

trio-websocket does the frames, on a `mcpgateway.wire.queued.QueuedStream`, and therefore without its two hazards: its
reader answers pings itself and would wait for the stream to take the pong, and a ``send`` that is cancelled would leave
half a frame. Here its reader never waits for a send, and one task alone sends.

We ping: that is how a connection which broke without a word is found out. Peers may ping as well.
"""

from __future__ import annotations

import logging
import ssl
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

import attrs
import trio
from h11 import ProtocolError as HttpProtocolError
from trio_websocket import CloseReason, ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection
from wsproto.utilities import ProtocolError

from mcpgateway.errors import LAST_WORDS, TooBusy
from mcpgateway.wire.http_client import innermost, target_of
from mcpgateway.wire.queued import PIECE, QueuedStream

log = logging.getLogger(__name__)

SUBPROTOCOL: Final = "mcp"
FRAME_LIMIT: Final = 64 * 1024 * 1024
"""Characters of the longest message that is taken; a longer one ends the connection with code 1009."""
QUEUE_LIMIT: Final = 64 * 1024 * 1024
"""Bytes that may wait to be sent."""
COURTESY: Final = 2.0
"""Seconds for the closing handshake."""

_NO_HANDSHAKE: Final = "answered the WebSocket handshake with something else"
_UNTRUSTED: Final = "CERTIFICATE_VERIFY_FAILED"
_VIOLATIONS: Final = (1002, 1007)
_CLOSE: Final = b"\x88"  # how a frame begins that closes (RFC 6455, 5.2)
_DRAIN: Final = 0.5
"""Seconds for what the peer has said and we have not read, once nothing can be sent to it any more."""
_BUFFER: Final = 65536  # what one read takes; the library's own 4 KiB cost seven times as much for 1 MB
_MESSAGES: Final = 64  # messages that the library may read ahead; each that waits costs a task switch less


class CannotConnect(Exception):
    """There is no WebSocket: nobody there, or no WebSocket server. The message says why."""


class HandshakeRefused(CannotConnect):
    """The peer answered the handshake with HTTP."""

    def __init__(self, status: int, headers: Mapping[bytes, bytes]) -> None:
        super().__init__(f"answered the WebSocket handshake with HTTP {status}")
        self.status = status
        self.headers = headers


@attrs.frozen
class Terms:
    """How a WebSocket is opened and kept. Times are in seconds."""

    headers: Sequence[tuple[bytes, bytes]] = ()
    """Header fields of the handshake beside its own."""
    interval: float = 30.0
    """Between two pings."""
    timeout: float = 10.0
    """Of silence after a ping, and of a peer that reads nothing although something waits for it, until the connection
    is given up."""


DEFAULT: Final = Terms()


async def dial(url: str, tls: Callable[[], ssl.SSLContext], timeout: float) -> trio.abc.Stream:
    """A connection to the host of a ``ws://`` or ``wss://`` URL, in ``timeout`` seconds.

    :raises CannotConnect: there is none
    """
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "wss"
    try:
        with trio.fail_after(timeout):
            context = tls() if secure else None
            stream = await trio.open_tcp_stream(host, parts.port or (443 if secure else 80))
            return stream if context is None else await _secured(stream, context, host)
    except trio.TooSlowError:
        raise CannotConnect(f"no connection within {timeout:g} s (connect_timeout)") from None
    except trio.BrokenResourceError as problem:
        raise CannotConnect(f"cannot connect: {_explained(problem)}") from None
    except OSError as problem:
        raise CannotConnect(f"cannot connect: {innermost(problem)}") from None


async def _secured(stream: trio.SocketStream, context: ssl.SSLContext, host: str) -> trio.abc.Stream:
    secured = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
    try:
        await secured.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secured


def _explained(problem: BaseException) -> str:
    """Why TLS failed, and what may be wrong."""
    reason = innermost(problem)
    hint = "can 'tls.ca' name its authority?" if _UNTRUSTED in reason else "is it ws://, without TLS?"
    return f"TLS failed ({hint}): {reason}"


class WebSocket:
    """One WebSocket on a stream that it owns. `run` is its life; a `mcpgateway.adapters.pipe.Wire`."""

    def __init__(self, url: str, stream: trio.abc.Stream, terms: Terms = DEFAULT) -> None:
        self._url = url
        self._below = stream
        self._terms = terms
        self._stream = QueuedStream(stream, limit=QUEUE_LIMIT, stall=terms.timeout, moved=self._moved)
        self._socket: WebSocketConnection | None = None
        self._messages: deque[bytes] = deque()
        self._size = 0
        """Bytes of the messages that wait."""
        self._ping: trio.CancelScope | None = None
        """Ends the wait for a pong."""
        self._life = trio.CancelScope()
        self._receiving = trio.CancelScope()
        self._written = trio.Event()
        """Set when nothing more will be sent."""
        self._over = trio.Event()
        self._failure = ""
        self._refusal: HandshakeRefused | None = None

    # ---- going out ---------------------------------------------------------------------------------------------------

    def put(self, data: bytes) -> None:
        """Send one message of UTF-8 text; never waits.

        :raises TooBusy: more would wait than may
        :raises trio.ClosedResourceError: the connection is being closed
        """
        if self._stream.closing or self._receiving.cancel_called:
            raise trio.ClosedResourceError
        waiting = self._size + self._stream.queued
        if waiting + len(data) > QUEUE_LIMIT:
            raise TooBusy(f"{waiting} bytes are waiting for a server that does not read them")
        self._size += len(data)
        self._messages.append(data)
        self._stream.poke()

    async def aclose(self) -> None:
        """Close it with code 1000, in `COURTESY` seconds; idempotent."""
        self._receiving.cancel(reason="the WebSocket is being closed")
        if self._socket is None:
            self._life.cancel(reason="nobody waits for the handshake any more")
        await self._over.wait()

    async def _write(self) -> None:
        """Send what is put, until the end; the only task that does."""
        try:
            while True:
                await self._frame()
                await self._stream.flush()
                if not self._messages:
                    if self._stream.closing:
                        return
                    await self._stream.poked()
        except trio.TooSlowError:
            self._fail(f"has read nothing for {self._terms.timeout:g} s although messages are waiting", wait=0.0)
        except trio.BrokenResourceError as problem:
            self._fail(f"the connection broke: {innermost(problem)}", wait=_DRAIN)
        finally:
            self._written.set()

    async def _frame(self) -> None:
        """Queue frames for the messages that wait, as many as go out together: pings come between them."""
        while self._messages and self._stream.queued < PIECE:
            data = self._messages.popleft()
            self._size -= len(data)
            assert self._socket is not None
            try:
                await self._socket.send_message(data.decode())
            except (ConnectionClosed, ProtocolError):
                self._messages.clear()  # whoever reads finds out why

    # ---- its life ----------------------------------------------------------------------------------------------------

    async def run(  # noqa: ASYNC128  # it does, in `_converse`
        self,
        received: Callable[[bytes], None],
        drop: Callable[[str], None],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> str:
        """Shake hands, then hand over each message that comes, until the connection ends; returns why it did.

        ``drop`` is told of what cannot be used. Neither may block. Cancelled, it breaks off at once.

        :raises CannotConnect: the peer did not shake hands
        """
        try:
            with self._life:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    await self._converse(received, drop, task_status)
                    await self._stream.aclose()
                    with trio.move_on_after(COURTESY):
                        await self._written.wait()
                    nursery.cancel_scope.cancel(reason="the WebSocket is closed")
        finally:
            self._stream.closing = True
            try:
                await trio.aclose_forcefully(self._below)
            finally:
                self._over.set()
        if self._refusal is not None:
            raise self._refusal
        if self._socket is None:
            raise CannotConnect(self._failure or "the attempt was given up")
        return self._failure or "the link was closed"

    async def _converse(
        self, received: Callable[[bytes], None], drop: Callable[[str], None], task_status: trio.TaskStatus[None]
    ) -> None:
        """From the first handshake to the last; whoever writes outlives this, for there may be a last word to send."""
        try:
            async with trio.open_nursery() as nursery:
                self._socket = await self._shake_hands(nursery)
                nursery.start_soon(self._keep_alive)
                task_status.started()
                with self._receiving:
                    await self._receive(received, drop)
                with trio.move_on_after(COURTESY):
                    await self._socket.aclose()  # says so, unless the peer has; waits for its answer
                nursery.cancel_scope.cancel(reason="goodbye has been said")
        except BaseExceptionGroup as problems:
            self._explain(problems)

    async def _shake_hands(self, nursery: trio.Nursery) -> WebSocketConnection:
        """The library waits for an answer for ever, even when the connection has ended."""
        parts = urlsplit(self._url)
        async with trio.open_nursery() as watching:
            watching.start_soon(self._watch)
            socket = await wrap_client_stream(
                nursery,
                self._stream,  # type: ignore[arg-type]  # any stream will do
                parts.netloc.rpartition("@")[2],
                target_of(self._url).decode(),
                subprotocols=[SUBPROTOCOL],
                extra_headers=list(self._terms.headers),
                message_queue_size=_MESSAGES,
                max_message_size=FRAME_LIMIT,
                receive_buffer_size=_BUFFER,
            )
            watching.cancel_scope.cancel(reason="hands are shaken")
        return socket

    async def _watch(self) -> None:
        await self._stream.ended.wait()
        self._fail(
            _NO_HANDSHAKE if self._stream.closing else "closed the connection during the WebSocket handshake", wait=0.0
        )

    async def _receive(self, received: Callable[[bytes], None], drop: Callable[[str], None]) -> None:
        assert self._socket is not None
        try:
            while True:
                message = await self._socket.get_message()
                if isinstance(message, str):
                    received(message.encode())
                else:
                    drop("a binary frame")
        except ConnectionClosed as closed:
            reason = closed.reason
            if reason is not None and reason.code in _VIOLATIONS and self._stream.last != _CLOSE:
                await self._object(reason)
            self._failure = self._failure or self._stream.failure or described(reason)

    async def _object(self, violation: CloseReason) -> None:
        """The library has found frames that are none; it leaves it to us to say so."""
        self._failure = self._failure or f"broke the WebSocket protocol: {violation.reason}"
        last_word = CloseConnection(code=violation.code, reason=violation.reason)
        try:
            await self._stream.send_all(Connection(ConnectionType.CLIENT).send(last_word))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def _keep_alive(self) -> None:
        assert self._socket is not None
        timeout = self._terms.timeout
        while True:
            await trio.sleep(self._terms.interval)
            with trio.move_on_after(timeout) as self._ping:
                try:
                    await self._socket.ping()
                except (ConnectionClosed, ProtocolError):
                    return
                self._ping = None
            if self._ping is not None:
                self._fail(f"did not answer a ping within {timeout:g} s (keepalive)", wait=0.0)

    def _moved(self) -> None:
        """Bytes came or went. Behind 64 MiB on a slow line, a pong may be late without anything being wrong."""
        if self._ping is not None:
            self._ping.deadline = trio.current_time() + self._terms.timeout

    # ---- why it ended ------------------------------------------------------------------------------------------------

    def _fail(self, why: str, *, wait: float) -> None:
        """End it; the first reason counts. ``wait`` seconds are left for what has come already."""
        self._failure = self._failure or why
        self._life.deadline = trio.current_time() + wait

    def _explain(self, problems: BaseExceptionGroup[BaseException]) -> None:
        """What the library's reader raised: it leaves to us what comes of answers that are none."""
        errors, others = problems.split(Exception)
        if errors is None or others is not None:
            raise others or problems  # a cancellation, beside which nothing matters
        problem = _first(errors)
        if not isinstance(problem, ConnectionRejected | ConnectionClosed | ProtocolError | HttpProtocolError):
            log.error("a WebSocket was given up", exc_info=problem)
            self._failure = self._failure or "the gateway failed, which its log tells of"
        elif isinstance(problem, ConnectionRejected):
            self._refusal = HandshakeRefused(problem.status_code, dict(problem.headers or ()))
        elif self._socket is None:
            self._failure = self._failure or _NO_HANDSHAKE
        elif not self._receiving.cancel_called:  # else it could not answer a ping while it waited for the last frame
            self._failure = self._failure or described(None)


def _first(problems: BaseExceptionGroup[BaseException]) -> BaseException:
    problem = problems.exceptions[0]
    return _first(problem) if isinstance(problem, BaseExceptionGroup) else problem


def described(reason: CloseReason | None) -> str:
    """Why a WebSocket was closed, for people; ``None`` for frames that are none."""
    if reason is None:
        return "broke the WebSocket protocol"
    if reason.code == 1006:
        return "closed its connection without saying so"
    if reason.code == 1009 and reason.reason == f"Exceeded maximum message size: {FRAME_LIMIT} bytes":
        return f"sent a message longer than {FRAME_LIMIT} bytes"
    what = f"closed the WebSocket with code {reason.code} ({reason.name})"
    return f"{what}{LAST_WORDS}{reason.reason}" if reason.reason else what
