"""Requests, from bytes: llhttp does the parsing, and what it finds becomes whole requests, or a refusal."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import httptools

from mcpgateway.config.limits import Limits

MAX_HEADERS: Final = 100


class HttpRequest:
    """One request, read whole.

    ``path`` and ``query`` are the raw target, split at the first ``?``. ``headers`` maps lower-case names to values;
    of a repeated header the values are joined with ``", "`` (RFC 9110, 5.3) and the name is in ``duplicates``.
    ``peer`` is the client's address, and ``address`` what it counts as (`mcpgateway.wire.bounds.address_of`).
    """

    __slots__ = (
        *("address", "body", "duplicates", "headers", "keep_alive"),
        *("method", "path", "peer", "query", "secure", "version"),
    )

    def __init__(self, peer: str, secure: bool, address: str) -> None:
        self.method = b""
        self.path = b""
        self.query = b""
        self.version = "1.1"
        self.headers: dict[bytes, bytes] = {}
        self.duplicates: Sequence[bytes] = ()
        self.body = b""
        self.keep_alive = True
        self.peer = peer
        self.secure = secure
        self.address = address


class Refusal(Exception):
    """A request that cannot be read on; answered with ``status`` and the connection closed."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class RequestReader:
    """What httptools calls while it parses: makes requests and puts them in ``ready``."""

    __slots__ = (
        "_body",
        "_limits",
        "_make",
        "_target",
        "_upgrading",
        "beyond",
        "expect",
        "in_body",
        "measure",
        "parser",
        "partial",
        "ready",
        "refusal",
        "request",
        "size",
        "upgraded",
    )

    def __init__(self, make: Callable[[], HttpRequest], limits: Limits) -> None:
        self._make = make
        self._limits = limits
        self.ready: deque[HttpRequest] = deque()
        self.refusal: Refusal | None = None
        self.parser = httptools.HttpRequestParser(self)
        self.measure = False
        """Whether so much was received that a head may be too large."""
        self._upgrading: HttpRequest | None = None
        self.upgraded = False
        """The last request asks for a WebSocket: what follows is none of HTTP, and kept ``beyond``."""
        self.beyond = b""
        self._reset()

    def _reset(self) -> None:
        self.request = self._make()
        self._target = b""
        self._body: list[bytes] = []
        self.size = 0
        self.expect = False
        self.partial = False
        self.in_body = False

    def feed(self, data: bytes) -> None:
        """Parse what was received; a request that is none becomes a `refusal`, behind which nothing is read."""
        while data and self.refusal is None:
            if self.upgraded:
                self.beyond += data
                return
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = self._upgrade(data[upgrade.args[0] :])
            except httptools.HttpParserError as problem:
                self.refuse(400, f"not a valid HTTP/1.1 request: {problem}")

    def _upgrade(self, rest: bytes) -> bytes:
        """What to parse instead of the ``rest`` behind a request that asked for another protocol.

        What follows a request for a WebSocket belongs to that, and there is no other request on its connection. Else
        we do not switch, which RFC 9110 (7.8) allows, and answer the request as it is; Java's client asks for HTTP/2
        like this with every POST. llhttp stops at such a head for good and leaves out the body: a fresh parser reads
        it behind a head that says no more than how long it is.
        """
        self.parser = httptools.HttpRequestParser(self)
        framing = b""
        if self.refusal is None and self.ready:
            request, headers = self.ready[-1], self.ready[-1].headers
            if request.method == b"GET" and headers.get(b"upgrade", b"").lower() == b"websocket":
                request.keep_alive = False
                self.upgraded = True
                return rest
            framing = b"".join(
                b"%b: %b\r\n" % (name, headers[name])
                for name in (b"content-length", b"transfer-encoding", b"expect")
                if name in headers
            )
        if framing:
            self._upgrading = self.ready.pop()
            rest = b"POST / HTTP/1.1\r\nHost: -\r\n" + framing + b"\r\n" + rest
        return rest

    def on_message_begin(self) -> None:
        self.partial = True

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_body:
            return  # a trailer: allowed, and nothing that a request of ours could mean by one
        request = self.request
        headers = request.headers
        name = name.lower()
        if name in headers:
            request.duplicates = (*request.duplicates, name)
            value = headers[name] + b", " + value
        headers[name] = value

    def on_headers_complete(self) -> None:
        request = self.request
        parser = self.parser
        request.method = parser.get_method()
        request.version = parser.get_http_version()
        request.keep_alive = parser.should_keep_alive()
        target = self._target
        if target[:1] != b"/" and target != b"*":
            target = _origin_form(target)
        request.path, _, request.query = target.partition(b"?")
        headers = request.headers
        self.in_body = True
        if self.measure:
            size = len(target) + sum(len(name) + len(value) + 4 for name, value in headers.items())
            if size > self._limits.header_bytes:
                self.refuse(431, f"the request head is larger than {self._limits.header_bytes} bytes")
        if len(headers) > MAX_HEADERS or len(request.duplicates) > MAX_HEADERS:
            self.refuse(431, "too many header fields")
        if b"host" not in headers and request.version == "1.1":
            self.refuse(400, "a request needs a Host header")
        elif b"host" in request.duplicates:
            self.refuse(400, "two Host headers")
        declared = headers.get(b"content-length")
        if declared is not None and (len(declared) > 19 or int(declared) > self._limits.body_bytes):
            self.refuse(413, f"the body is larger than {self._limits.body_bytes} bytes")
        if b"expect" in headers:
            if headers[b"expect"].lower() != b"100-continue":
                self.refuse(417, "only 'Expect: 100-continue' is understood")
            self.expect = request.version == "1.1"

    def on_body(self, body: bytes) -> None:
        self.size += len(body)
        if self.size > self._limits.body_bytes:
            self.refuse(413, f"the body is larger than {self._limits.body_bytes} bytes")
            return
        self._body.append(body)

    def on_message_complete(self) -> None:
        body = self._body
        if self.refusal is None:
            request, self._upgrading = self._upgrading or self.request, None
            request.body = body[0] if len(body) == 1 else b"".join(body)
            if len(self.ready) < self._limits.pipelined:
                self.ready.append(request)
            else:
                self.refuse(429, f"more than {self._limits.pipelined} requests at once (listen.limits.pipelined)")
        self._reset()

    def refuse(self, status: int, reason: str) -> None:
        if self.refusal is None:
            self.refusal = Refusal(status, reason)


def _origin_form(target: bytes) -> bytes:
    """The path and query of an absolute-form target (RFC 9112, 3.2.2)."""
    _, separator, rest = target.partition(b"://")
    if not separator:
        return target
    _, slash, path = rest.partition(b"/")
    return slash + path or b"/"
