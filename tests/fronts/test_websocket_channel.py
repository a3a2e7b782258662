"""Floods of frames on a WebSocket: whoever sends them holds up nobody else, and fills no memory."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock
from wsproto.events import TextMessage

from mcpgateway.fronts.websocket_channel import FAIR
from tests.fronts.cloud import bridge, cloud
from tests.fronts.site import request

FLOODS = {
    "pings": b"\x89\x00",
    "pongs": b"\x8a\x00",
    "binary messages": b"\x82\x00",
    "pieces of binary messages": b"\x00\x01x",
    "messages that are none": b"\x81\x02{}",
    "pieces of no length": b"\x00\x00",
}
BEGUN = {"pieces of no length": b"\x01\x00", "pieces of binary messages": b"\x02\x00"}
BYTES = 6_000


@pytest.mark.requirement("6.bad")
@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_of_frames_lets_others_have_their_turns(flood: str, autojump_clock: MockClock) -> None:
    frame = FLOODS[flood]
    frames = BYTES // len(frame)
    async with cloud() as far, bridge(far.upstream()) as near:
        socket = await far.next()
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)
            begun, ended = BEGUN.get(flood, b""), b"\x80\x00" if flood in BEGUN else b""
            await socket.stream.send_all(begun + frame * frames + ended)
            await socket.send(request("last", "ping"))
            while not (isinstance(event := await socket.event(), TextMessage) and '"last"' in event.data):
                pass
            nursery.cancel_scope.cancel(reason="it is over")
        assert turns >= frames // FAIR
        assert near.upstream().reconnects == 0
