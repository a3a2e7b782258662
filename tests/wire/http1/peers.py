"""The far side of an HTTP connection, byte by byte: what a test sends, and what comes back.

Nothing here waits for bytes. A `Peer` sends, the test lets every task of the run come to rest, and what has arrived by
then is what the other side had to say. So a test is exact, and one that fails does not hang.
"""

from __future__ import annotations

import json
import socket
import ssl
from typing import Any

import attrs
import httptools
from trio.testing import wait_all_tasks_blocked

_BUFFER = 1 << 20


@attrs.frozen
class Answer:
    """One response; header names are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes
    keep_alive: bool

    @property
    def json(self) -> Any:
        """The body decoded; Any, because a test knows what it asked for."""
        return json.loads(self.body)


class Answers:
    """Bytes in, responses out, and the statuses of interim ones beside them."""

    def __init__(self) -> None:
        self.done: list[Answer] = []
        self.interim: list[int] = []
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self.body = bytearray()
        """Of the response that is being received."""
        self.status = 0

    def feed(self, data: bytes) -> list[Answer]:
        """The responses that these bytes complete."""
        before = len(self.done)
        self._parser.feed_data(data)
        return self.done[before:]

    def on_message_begin(self) -> None:
        self._headers, self.body, self.status = {}, bytearray(), 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode()

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        if self.status < 200:
            self.interim.append(self.status)
            return
        keep_alive = self._parser.should_keep_alive()
        self.done.append(Answer(self.status, self._headers, bytes(self.body), keep_alive))


def answers(data: bytes) -> list[Answer]:
    """The whole responses in some bytes."""
    return Answers().feed(data)


def answer(data: bytes) -> Answer:
    """The one response that some bytes are."""
    (only,) = answers(data)
    return only


class Peer:
    """One end of a socket pair, over TLS or not. ``ended`` once the other side has closed, in order or not."""

    def __init__(self, sock: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = tls.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost") if tls else None
        self.ended = False

    async def shake_hands(self) -> None:
        """The TLS handshake, where there is one."""
        while self._tls is not None:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._push(self._outgoing.read())
                self._pull()
            else:
                await self._push(self._outgoing.read())
                return

    async def send(self, data: bytes) -> None:
        """Send all of it, as fast as the other side takes it, and let everything come to rest."""
        if self._tls is not None:
            self._tls.write(data)
            data = self._outgoing.read()
        await self._push(data)

    async def _push(self, data: bytes) -> None:
        rest = memoryview(data)
        stalled = False
        while rest and not stalled:
            try:
                rest = rest[self._sock.send(rest) :]
            except BlockingIOError:
                stalled = True
            except OSError:
                break  # the other side has closed, and what it said before is still to be read
            await wait_all_tasks_blocked()

    async def take(self) -> bytes:
        """All that comes until everything is at rest."""
        taken = bytearray()
        while True:
            await wait_all_tasks_blocked()
            more = self.take_nowait()
            if not more:
                return bytes(taken)
            taken += more

    def take_nowait(self, most: int = _BUFFER) -> bytes:
        """What is there now."""
        data = self._pull(most)
        if self._tls is None:
            return data
        plain = bytearray()
        try:
            while piece := self._tls.read(_BUFFER):
                plain += piece
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self.ended = True
        return bytes(plain)

    def _pull(self, most: int = _BUFFER) -> bytes:
        try:
            data = self._sock.recv(most)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self.ended = True
        elif self._tls is not None:
            self._incoming.write(data)
        return data

    async def ask(self, data: bytes) -> bytes:
        """Send, and take what comes back."""
        await self.send(data)
        return await self.take()

    def send_and_close(self, data: bytes) -> None:
        """Let the data and the end arrive together."""
        if self._tls is not None:
            self._tls.write(data)
            data = self._outgoing.read()
        self._sock.send(data)
        self._sock.close()

    def send_and_half_close(self, data: bytes) -> None:
        """Let the data and the end of it arrive together, and go on listening; not over TLS."""
        self._sock.send(data)
        self._sock.shutdown(socket.SHUT_WR)

    async def half_close(self) -> None:
        """Say that nothing more comes, and go on listening."""
        self._sock.shutdown(socket.SHUT_WR)
        await wait_all_tasks_blocked()

    def close(self) -> None:
        self._sock.close()
