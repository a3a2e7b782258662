"""What stands between a gateway and an HTTP server in life: a TLS listener, a proxy, a front that speaks HTTP/2."""

from __future__ import annotations

import atexit
import json
import shutil
import ssl
import subprocess
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import unquote, urlsplit

import attrs
import trio

from mcpgateway.config.model import CertAndKey
from tests.wire.http1 import certificates

NODE: Final = shutil.which("node")
CA: Final = certificates.on_disk() / "ca.pem"
CLIENT: Final = CertAndKey(certificates.on_disk() / "client/cert.pem", certificates.on_disk() / "client/key.pem")
"""Who the gateway is."""


Handler: TypeAlias = Callable[[trio.SocketStream], Awaitable[object]]


async def _copy(source: trio.abc.ReceiveStream, sink: trio.abc.SendStream, scope: trio.CancelScope) -> None:
    """Copy until either end is over, and then end the whole tunnel."""
    try:
        async for data in source:
            await sink.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    scope.cancel(reason="one end has closed")


async def join(one: trio.abc.Stream, other: trio.abc.Stream) -> None:
    """A tunnel; closes both ends when one of them does."""
    async with one, other, trio.open_nursery() as nursery:
        nursery.start_soon(_copy, one, other, nursery.cancel_scope)
        nursery.start_soon(_copy, other, one, nursery.cancel_scope)


async def serve(handle: Handler, *, task_status: trio.TaskStatus[str]) -> None:
    """Listen on a free port of loopback, and say the URL."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    task_status.started(f"http://127.0.0.1:{listener.socket.getsockname()[1]}/mcp")
    await trio.serve_listeners(handle, [listener])


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


@asynccontextmanager
async def tls_front(url: str, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """TLS in front of an ``http://`` URL; gives the ``https://`` one."""

    async def handle(stream: trio.SocketStream) -> None:
        secured = trio.SSLStream(stream, context or certificates.listening(), server_side=True, https_compatible=True)
        try:
            await secured.do_handshake()
            behind = await trio.open_tcp_stream("127.0.0.1", port_of(url))
        except (trio.BrokenResourceError, OSError):
            await trio.aclose_forcefully(stream)
            return
        await join(secured, behind)

    async with trio.open_nursery() as nursery:
        secure = await nursery.start(serve, handle)
        yield f"https://127.0.0.1:{port_of(secure)}{urlsplit(url).path}"
        nursery.cancel_scope.cancel(reason="the test is over")


@attrs.define
class Proxy:
    """An HTTP proxy on loopback: ``CONNECT``, and ``http://`` URLs passed on. Attributes say what it does, and did."""

    credentials: str = ""
    """``user:password`` that it asks for, as they stand in a URL."""
    refusal: bytes = b""
    """What it answers in place of a tunnel."""
    silent: bool = False
    """It never answers."""
    hangs_up: bool = False
    """It closes in place of an answer."""
    port: int = 0
    tunnels: int = 0
    """Tunnels that were opened."""
    passed_on: int = 0
    """Connections on which requests were passed on."""
    open: int = 0
    """Connections that are open."""
    heads: list[bytes] = attrs.Factory(list)

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.credentials}@{self.place}" if self.credentials else f"http://{self.place}"

    async def serve(self, stream: trio.SocketStream) -> None:
        self.open += 1
        try:
            await self._serve(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.open -= 1
            await trio.aclose_forcefully(stream)

    async def _serve(self, stream: trio.SocketStream) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := await stream.receive_some()):
                return
            data += more
        head = data.partition(b"\r\n\r\n")[0]
        self.heads.append(head)
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        if self.silent:
            await stream.receive_some()
            return
        if self.hangs_up:
            return
        wanted = b"proxy-authorization: basic " + b64encode(unquote(self.credentials).encode())
        if self.credentials and wanted.lower() not in head.lower():
            await stream.send_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        if self.refusal:
            await stream.send_all(self.refusal)
            return
        try:
            behind = await trio.open_tcp_stream("127.0.0.1", port_of(target if "://" in target else f"//{target}"))
        except OSError:
            await stream.send_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        async with behind:
            if method == "CONNECT":
                self.tunnels += 1
                await stream.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                self.passed_on += 1
                await behind.send_all(data)
            await join(stream, behind)


@asynccontextmanager
async def proxy(credentials: str = "") -> AsyncIterator[Proxy]:
    """A proxy, which at the end has no connection left."""
    found = Proxy(credentials)
    async with trio.open_nursery() as nursery:
        found.port = port_of(await nursery.start(serve, found.serve))
        yield found
        nursery.cancel_scope.cancel(reason="the test is over")


@attrs.frozen
class Http2Front:
    """The front in ``http2_front.mjs``, one for all tests."""

    port: int
    demanding_port: int
    """Where it asks for a client's certificate."""

    def url(self, behind: str, *, demanding: bool = False) -> str:
        """The URL that leads through it to an ``http://`` one."""
        port = self.demanding_port if demanding else self.port
        return f"https://127.0.0.1:{port}/{port_of(behind)}{urlsplit(behind).path}"

    @property
    def stats(self) -> str:
        """The URL of what it has seen."""
        return f"https://127.0.0.1:{self.port}/stats"


@cache
def http2_front() -> Http2Front:
    """Start the front; it ends with the tests."""
    assert NODE is not None
    script = Path(__file__).with_name("http2_front.mjs")
    process = subprocess.Popen(
        [NODE, script, certificates.on_disk()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def end() -> None:
        process.communicate()

    atexit.register(end)
    assert process.stdout is not None
    return Http2Front(*json.loads(process.stdout.readline()))
