"""Upstreams over the system's own sockets: TCP and TLS. Time passes only where it is meant to."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trio
import trio.testing

from mcpgateway.config.model import Keepalive, Reconnect, Secret, Tls, UpstreamConfig
from mcpgateway.fronts.dialling import State
from tests.fronts.cloud import TOKEN, Socket, bridge
from tests.fronts.site import call, request
from tests.wire.http1.certificates import issued


@pytest.mark.requirement("6.upstreams", "6.keepalive")
@pytest.mark.parametrize("secure", [False, True])
async def test_a_cloud_is_served_and_found_to_be_gone(
    secure: bool, tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    cert, key = issued().write(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(cert, key)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    endpoint = f"{'wss' if secure else 'ws'}://localhost:{listener.socket.getsockname()[1]}/?token={TOKEN}"
    upstream = UpstreamConfig(
        "cloud",
        Secret(endpoint),
        "one",
        tls=Tls(ca=tmp_path / "ca.pem"),
        reconnect=Reconnect(initial=5, maximum=5),
        keepalive=Keepalive(20, 10),
    )

    async def connection() -> Socket:
        stream = await listener.accept()
        socket = Socket(trio.SSLStream(stream, tls, server_side=True) if secure else stream)
        await socket.accept()
        return socket

    async def until(state: State) -> None:
        while gateway.upstream().state is not state:
            await trio.testing.wait_all_tasks_blocked(0.01)
            mock_clock.jump(1)

    with trio.fail_after(600):
        async with listener, bridge(upstream) as gateway:
            socket = await connection()
            await socket.initialize()
            for n in range(3):
                answer = await socket.ask(call(n, "echo", {"text": "é" * 300_000}))
                assert answer["result"]["content"][0]["text"] == "é" * 300_000
            mock_clock.jump(20)
            while not socket.pings:
                assert (await socket.ask(request("p", "ping")))["result"] == {}
            await until(State.WAITING)  # nobody reads the first one any more
            await until(State.DIALLING)
            again = await connection()
            await again.initialize()
            assert "keepalive" in gateway.upstream().reason
            assert gateway.upstream().reconnects == 1
            gateway.stop.set()
            assert await again.code() == 1001
            for each in socket, again:
                await trio.aclose_forcefully(each.stream)
