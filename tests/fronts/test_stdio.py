"""Stdio as such: lines, the ends of either side, and a client that does not read."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from mcpgateway import jsonrpc
from mcpgateway.config.limits import Limits
from mcpgateway.config.model import Listen
from mcpgateway.errors import INVALID_REQUEST
from mcpgateway.fronts.stdio import StdioFront
from tests.fronts.channels import ChannelClient, StdioWire, connected
from tests.fronts.site import LEGACY, Site, adapters, call, notification, request, site

INITIALIZE = request(0, "initialize", {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t"}})


@asynccontextmanager
async def client_of(gateway: Site) -> AsyncIterator[tuple[ChannelClient, StdioWire]]:
    async with connected("stdio", gateway) as client:
        assert isinstance(client.wire, StdioWire)
        yield client, client.wire


@pytest.mark.requirement("5.fronts", "feature.22")
async def test_everything_that_was_asked_is_answered_when_the_client_says_no_more() -> None:
    async with site() as gateway, client_of(gateway) as (client, wire):
        for message in (INITIALIZE, call(1, "slow", {"name": "s"}), call(2, "waiting", {"count": 1})):
            await client.send(message)
        await wire.end()
        assert [(await client.receive())["id"] for _ in range(2)] == [0, 2]
        for link in gateway.adapters["one"].links:
            for caused in link.host.handle(jsonrpc.request(b"99", "tools/call", {"name": "release"})):
                link.send(caused)
        assert (await client.receive())["id"] == 1
        with pytest.raises(trio.EndOfChannel):
            await client.receive()


async def test_what_does_not_end_is_ended_after_the_shutdown_timeout() -> None:
    async with site(shutdown_timeout=0.05) as gateway, client_of(gateway) as (client, wire):
        await client.initialize({"elicitation": {}})
        await client.send(call(1, "ask"))
        assert (await client.receive())["method"] == "elicitation/create"
        await wire.end()
        assert "shutting down" in (await client.answer(1))["error"]["message"]
        with pytest.raises(trio.EndOfChannel):
            await client.receive()


async def test_a_handshake_that_takes_for_ever_does_not_hold_up_the_end() -> None:
    servers = adapters("one")
    async with site(servers, shutdown_timeout=0.05) as gateway, client_of(gateway) as (client, wire):
        servers["one"].silent = True
        for link in servers["one"].links:
            link.crash("away")
        await client.send(INITIALIZE)
        await wire.end()
        with pytest.raises(trio.EndOfChannel):
            await client.receive()


async def test_a_message_is_one_line_whatever_a_server_sends() -> None:
    servers = adapters("one")
    async with site(servers) as gateway, client_of(gateway) as (client, _):
        await client.initialize()
        link = servers["one"].links[-1]
        link.hold()
        await client.send(call(1, "progress", {"n": 1}, _meta={"progressToken": 1}))
        while not link._held:
            await trio.testing.wait_all_tasks_blocked(0.001)
        link._held[0] = jsonrpc.decode(link._held[0].encode().replace(b"{", b"{\n"))
        link.let_go()
        await client.answer(1)
        assert client.told[0]["method"] == "notifications/progress"


async def test_lines_may_be_blank_end_with_cr_or_be_too_long() -> None:
    async with site(listen=Listen(limits=Limits(body_bytes=1000))) as gateway, client_of(gateway) as (client, wire):
        await wire._out.send_all(b"\n\r\n" + json.dumps(request(1, "ping")).encode() + b"\r\n")
        assert (await client.receive())["id"] == 1
        await client.send(b'"' + b"x" * 2000 + b'"')
        refused = await client.receive()
        assert (refused["id"], refused["error"]["code"]) == (None, INVALID_REQUEST)
        assert "1000 bytes" in refused["error"]["message"]
        assert (await client.ask(request(2, "ping")))["result"] == {}


async def test_a_last_line_needs_no_end() -> None:
    async with site() as gateway, client_of(gateway) as (client, wire):
        await wire._out.send_all(json.dumps(request(1, "ping")).encode())
        await wire.end()
        assert (await client.receive())["id"] == 1


async def test_files_do_as_well_as_pipes(tmp_path: Path) -> None:
    said: list[Any] = [INITIALIZE, notification("notifications/initialized"), call(1, "echo", {"text": "hi"})]
    given, taken = tmp_path / "in", tmp_path / "out"
    given.write_text("".join(json.dumps(message) + "\n" for message in said))
    async with site() as gateway:
        with given.open("rb") as stdin, taken.open("wb") as stdout:
            await StdioFront(gateway.gateway, "one").run(stdin.fileno(), stdout.fileno(), stop=trio.Event())

    assert [json.loads(line)["id"] for line in taken.read_text().splitlines()] == [0, 1]


async def test_nothing_to_read_is_the_end() -> None:
    async with site() as gateway:
        null = os.open(os.devnull, os.O_RDWR)
        try:
            await StdioFront(gateway.gateway, "one").run(null, null, stop=trio.Event())
        finally:
            os.close(null)


@pytest.mark.requirement("5.bad.channels")
async def test_a_client_that_does_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcpgateway.fronts.stdio.STALL", 0.05)
    async with site() as gateway, client_of(gateway) as (client, _):
        for n in range(4):
            await client.send(call(n, "big", {"kib": 1024}, _meta=_ENVELOPE))
        while gateway.gateway.bounds.calls.held or gateway.gateway.bounds.replies.held:
            await trio.testing.wait_all_tasks_blocked(0.01)


async def test_a_client_that_closes_its_end_takes_its_calls_along() -> None:
    async with site() as gateway, client_of(gateway) as (client, wire):
        await client.initialize()
        await client.send(call(1, "slow", {"name": "s"}))
        await client.ask(call(2, "waiting", {"count": 1}))
        await wire._in.aclose()
        await client.send(request(3, "ping"))
        while gateway.gateway.bounds.calls.held:
            await trio.testing.wait_all_tasks_blocked(0.001)
        assert len(gateway.gateway.sessions) == 0


_ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
