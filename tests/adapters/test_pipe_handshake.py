"""Which era a server speaks is found out, whatever it answers, and failures say why."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from msgspec import Raw

from mcpgateway.adapters.base import Offer
from mcpgateway.adapters.pipe_handshake import PROBE, negotiate
from mcpgateway.errors import EraMismatch, ServerUnavailable
from mcpgateway.protocol.handshake import initialize_params
from mcpgateway.protocol.revisions import Era
from tests.adapters.pipe_server import Server

INITIALIZE = initialize_params("2025-06-18", Raw(b"{}"), Raw(b'{"name":"c","version":"1"}'))


def discovered() -> dict[str, Any]:
    return {"result": {"supportedVersions": ["2026-07-28"], "capabilities": {}}}


def initialized() -> dict[str, Any]:
    return {
        "result": {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}}
    }


def refused(code: int, message: str = "no", **data: object) -> Callable[[], dict[str, Any]]:
    return lambda: {"error": {"code": code, "message": message, "data": data}}


def silent() -> None:
    return None


async def test_a_modern_server_is_found_by_the_probe() -> None:
    server = Server()
    server.answers = {"server/discover": discovered}
    await negotiate(server.link, Offer(None, INITIALIZE, Raw(b'{"roots":{}}')))
    assert server.link.negotiated.era is Era.MODERN
    assert [message["params"]["_meta"] for message in server.sent] == [
        {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {"roots": {}},
            "io.modelcontextprotocol/clientInfo": {"name": "c", "version": "1"},
        }
    ]


@pytest.mark.parametrize("probe", [refused(-32601), refused(-32602, "Invalid request parameters")])
async def test_a_legacy_server_is_found_by_its_refusal(probe: Callable[[], dict[str, Any]]) -> None:
    server = Server()
    server.answers = {"server/discover": probe, "initialize": initialized}
    await negotiate(server.link, Offer(None, INITIALIZE))
    assert server.link.negotiated.era is Era.LEGACY
    assert server.link.negotiated.stateful
    assert server.methods() == ["server/discover", "initialize", "notifications/initialized"]
    assert server.sent[1]["params"] == json.loads(bytes(INITIALIZE))


async def test_a_server_that_does_not_answer_the_probe_is_taken_for_legacy(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = Server()
    server.answers = {"initialize": initialized}
    await negotiate(server.link, Offer(None, INITIALIZE))
    assert trio.current_time() == PROBE
    assert server.link.negotiated.era is Era.LEGACY


async def test_a_probe_that_the_transport_refuses_is_as_good_as_an_answer() -> None:
    server = Server()
    refused_by_transport = ServerUnavailable("s", "answered with HTTP 400")

    def refuse() -> None:
        server.link.undelivered(json.dumps(server.sent[0]).encode(), refused_by_transport, known=False)

    server.answers = {"server/discover": refuse, "initialize": initialized}
    await negotiate(server.link, Offer(None, INITIALIZE))
    assert server.link.negotiated.era is Era.LEGACY
    assert server.methods() == ["server/discover", "initialize", "notifications/initialized"]


async def test_a_link_that_ends_during_the_probe_is_not_probed_on() -> None:
    server = Server()
    server.answers = {"server/discover": lambda: server.link.broken("exited with status 3")}
    with pytest.raises(ServerUnavailable, match="exited with status 3"):
        await negotiate(server.link, Offer(None, INITIALIZE))
    assert server.methods() == ["server/discover"]


async def test_a_modern_server_that_was_slow_to_start_is_asked_again(autojump_clock: trio.testing.MockClock) -> None:
    server = Server()
    answers = iter([None, discovered()])
    server.answers = {"server/discover": lambda: next(answers), "initialize": refused(-32022, supported=["2026-07-28"])}
    await negotiate(server.link, Offer(None, INITIALIZE))
    assert server.link.negotiated.era is Era.MODERN


@pytest.mark.parametrize(
    ("era", "answers", "words"),
    [
        (Era.LEGACY, {"initialize": refused(-32022, supported=["2026-07-28"])}, "only the modern era"),
        (Era.LEGACY, {"initialize": refused(-32601)}, "only the modern era"),
        (Era.LEGACY, {"initialize": refused(-32602, "_meta is required")}, "only the modern era"),
        (Era.MODERN, {"server/discover": refused(-32601)}, "only the legacy era"),
    ],
)
async def test_an_era_that_is_not_spoken(era: Era, answers: Any, words: str) -> None:
    server = Server()
    server.answers = answers
    with pytest.raises(EraMismatch, match=words):
        await negotiate(server.link, Offer(era, INITIALIZE))
    assert len(server.sent) == 1


@pytest.mark.parametrize(
    ("era", "answers", "words"),
    [
        (Era.LEGACY, {"initialize": refused(-32603, "no token given")}, "error -32603: 'no token given'"),
        (Era.LEGACY, {"initialize": lambda: {"result": {"x": 1}}}, "something else"),
        (Era.MODERN, {"server/discover": refused(-32021, "capability")}, "error -32021: 'capability'"),
        (None, {"server/discover": refused(-32601), "initialize": refused(-32601)}, "neither era"),
    ],
)
async def test_a_handshake_that_fails_says_why(era: Era | None, answers: Any, words: str) -> None:
    server = Server()
    server.answers = answers
    with pytest.raises(ServerUnavailable, match=words):
        await negotiate(server.link, Offer(era, INITIALIZE))


async def test_the_probe_is_repeated_once_with_a_revision_of_the_server() -> None:
    server = Server()
    answers = iter([refused(-32022, supported=["2026-07-28"])(), refused(-32022, supported=["2026-07-28"])()])
    server.answers = {"server/discover": lambda: next(answers)}
    with pytest.raises(ServerUnavailable, match="-32022"):
        await negotiate(server.link, Offer(Era.MODERN, INITIALIZE))
    assert server.methods() == ["server/discover"] * 2


async def test_a_link_that_has_not_shaken_hands_has_agreed_on_nothing() -> None:
    with pytest.raises(RuntimeError):
        _ = Server().link.negotiated
