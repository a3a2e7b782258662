"""Upstreams: a cloud is dialled, and then it is a client like any other."""

from __future__ import annotations

import pytest
import trio.testing

from tests.fronts.cloud import bridge, cloud
from tests.fronts.site import call, request


async def test_the_messages_of_a_cloud(autojump_clock: trio.testing.MockClock) -> None:
    async with cloud() as far, bridge(far.upstream()):
        socket = await far.next()
        assert (await socket.initialize())["protocolVersion"] == "2024-11-05"
        assert (await socket.ask(request(3, "ping")))["result"] == {}
        tools = (await socket.ask(request(4, "tools/list")))["result"]["tools"]
        assert "echo" in [tool["name"] for tool in tools]
        answer = await socket.ask(call(5, "echo", {"text": "hi"}))
        assert answer["result"]["content"][0]["text"] == "hi"

        await socket.close(1000)
        again = await far.next()
        assert again.at - socket.at == pytest.approx(1.0, abs=0.1)
