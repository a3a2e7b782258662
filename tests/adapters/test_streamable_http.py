"""What an HTTP server may do to a link, by peers that do it. What every adapter does is the contract's."""

from __future__ import annotations

import json
import logging
import socket
from typing import Any

import pytest
import trio
import trio.testing

from mcpgateway import jsonrpc
from mcpgateway.adapters import http_link, http_streams, streamable_http
from mcpgateway.adapters.base import Event, NoBack, Outcome
from mcpgateway.adapters.streamable_http import StreamableHttpAdapter
from mcpgateway.config.model import Secret
from mcpgateway.errors import (
    EraMismatch,
    ServerError,
    ServerSessionLost,
    ServerTimeout,
    ServerUnavailable,
)
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing.client import Client, make_offer, open_client
from mcpgateway.wire.waiting import Wait
from tests.adapters.http_peer import (
    DISCOVERED,
    HALF,
    INITIALIZED,
    NOT_INITIALIZED,
    OK,
    REPLY,
    Answer,
    Asked,
    Peer,
    Reach,
    a_request,
    call,
    error,
    http,
    plain_json,
    raw,
    result,
    stream_of,
    text_of,
)
from tests.processes import free_port


async def refused(adapter: StreamableHttpAdapter, era: Era | None) -> ServerError:
    """How connecting fails; it leaves nothing."""
    async with trio.open_nursery() as nursery:
        with pytest.raises(ServerError) as caught:
            await adapter.connect(nursery, make_offer(era), lambda message: None)
        assert not nursery.child_tasks
        assert not adapter.client.open_connections
        assert adapter.links == 0
    return caught.value


# ---- shaking hands ---------------------------------------------------------------------------------------------------

HTML = http(200, "text/html", b"<html>")
LEGACY_ANSWERS = {
    "TypeScript SDK 1": NOT_INITIALIZED,
    "Python SDK 1": plain_json(
        '{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"Bad Request: Missing session ID"}}',
        400,
        mcp_session_id="minted-on-an-error",
    ),
    "HTTP+SSE": http(405, "text/plain", b"Method Not Allowed"),
    "method not found": error(-32601),
    "invalid parameters": error(-32602, message="Invalid request parameters"),
    "go SDK, stateful": result({**DISCOVERED, "supportedVersions": ["2025-06-18", "2025-11-25"]}),
    "only legacy revisions": error(-32022, 400, data={"supported": ["2025-11-25"], "requested": "2026-07-28"}),
    "HTML": HTML,
    "HTML 404": http(404, "text/html", b"<html>"),
    "JSON of no protocol": plain_json('{"detail":"Not Found"}', 404),
    "error that is text": plain_json('{"jsonrpc":"2.0","id":$id,"error":"no"}', 400),
    "empty": http(200, "application/json"),
    "accepted": http(202),
    "no content": http(204),
    "crashed": http(500, "text/plain", b"Internal Server Error"),
    "stream without a reply": stream_of(b": nothing\n\n"),
    "somebody else's reply": plain_json('{"jsonrpc":"2.0","id":"x","result":{"supportedVersions":["2026-07-28"]}}'),
}


@pytest.mark.parametrize("answer", LEGACY_ANSWERS.values(), ids=LEGACY_ANSWERS)
async def test_a_legacy_server_is_known_by_any_answer_to_the_probe(answer: Answer, peer: Peer, reach: Reach) -> None:
    peer.answers["server/discover"] = answer
    async with open_client(reach(), None) as client:
        assert client.link.negotiated.era is Era.LEGACY
        assert client.link.negotiated.stateful
    assert peer.methods() == ["server/discover", "initialize", "notifications/initialized", "DELETE"]
    assert "mcp-session-id" not in peer.asked[1].headers, "a session minted with an error is none"


async def test_a_stream_answers_the_handshake_too(peer: Peer, reach: Reach) -> None:
    log = (
        b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{"data":"\\"error\\" or \\"result\\""}}\n\n'
    )
    reply = b'data: {"jsonrpc":"2.0","id":$id,"result":%b}\n\n' % json.dumps(DISCOVERED).encode()
    peer.answers["server/discover"] = stream_of(log, reply)
    async with open_client(reach(), None) as client:
        assert client.link.negotiated.era is Era.MODERN
    assert json.loads(peer.asked[0].body)["params"]["_meta"]["io.modelcontextprotocol/clientInfo"]["name"] == "test"


async def test_a_refused_revision_is_asked_for_once_more(peer: Peer, reach: Reach) -> None:
    refusal = error(-32022, 400, data={"supported": ["2026-07-28", "2027-01-01"], "requested": "2026-07-28"})

    async def refuse_once(asked: Any, stream: trio.SocketStream) -> None:
        await (refusal if peer.methods().count("server/discover") == 1 else result(DISCOVERED))(asked, stream)

    peer.answers["server/discover"] = refuse_once
    async with open_client(reach(), None) as client:
        assert client.link.negotiated.era is Era.MODERN

    peer.asked.clear()
    peer.answers["server/discover"] = refusal
    problem = await refused(reach(), None)
    assert isinstance(problem, ServerUnavailable)
    assert "refuses every protocol version" in str(problem)
    assert peer.methods() == ["server/discover"] * 2


@pytest.mark.parametrize("status", [400, 404, 405, 406, 415])
async def test_a_probe_that_is_not_understood_means_the_other_era(status: int, peer: Peer, reach: Reach) -> None:
    peer.answers["server/discover"] = http(status, "text/plain", b"no")
    assert isinstance(await refused(reach(), Era.MODERN), EraMismatch)


@pytest.mark.parametrize("status", [401, 403, 429, 500, 502, 503])
async def test_a_probe_that_is_not_served_just_now_says_nothing_about_the_era(
    status: int, peer: Peer, reach: Reach
) -> None:
    peer.answers["server/discover"] = http(status, "text/plain", b"no")
    problem = await refused(reach(), Era.MODERN)
    assert isinstance(problem, ServerUnavailable)
    assert f"HTTP {status}" in str(problem)


@pytest.mark.parametrize(
    "answer",
    [
        error(-32022, 400, data={"supported": ["2026-07-28"], "requested": "2025-11-25"}),
        error(-32020, 400),
        error(-32601, 404),
        error(-32602, 400, message="params._meta is required"),
    ],
)
async def test_a_modern_server_is_known_by_its_refusal_of_initialize(answer: Answer, peer: Peer, reach: Reach) -> None:
    peer.answers["initialize"] = answer
    assert isinstance(await refused(reach(), Era.LEGACY), EraMismatch)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (error(-32603, message="out of order"), "refused initialize with error -32603: 'out of order'"),
        (plain_json('{"jsonrpc":"2.0","id":$id,"error":[1]}'), "refused initialize with error 0"),
        (http(401), "HTTP 401; check the credentials"),
        (http(404, "text/html", b"<html>"), "HTTP 404; check the path of its URL"),
        (http(405), "speaks Streamable HTTP"),
        (http(307, Location="/other"), "HTTP 307, a redirect; configure the URL that it leads to"),
        (http(503, "text/html", b"<html>secret"), "HTTP 503 and text/html"),
        (HTML, "HTTP 200 and text/html"),
        (raw(b"SSH-2.0-OpenSSH_9\r\n\r\n", close=True), "not a valid HTTP"),
        (raw(b"", close=True), "closed the connection without a response"),
        (result({"capabilities": {}}), "answered initialize with something else"),
        (result({**INITIALIZED, "protocolVersion": "1999-01-01"}, Mcp_Session_Id="s9"), "revision '1999-01-01'"),
    ],
)
async def test_a_handshake_that_fails_says_what_to_do(answer: Answer, said: str, peer: Peer, reach: Reach) -> None:
    peer.answers["initialize"] = answer
    problem = await refused(reach(), Era.LEGACY)
    assert isinstance(problem, ServerUnavailable)
    assert said in str(problem)
    assert "secret" not in str(problem)


@pytest.mark.parametrize("broken", ["initialize", "notifications/initialized"])
async def test_a_handshake_that_fails_half_way_leaves_no_session(broken: str, peer: Peer, reach: Reach) -> None:
    if broken == "initialize":
        peer.answers[broken] = result({"protocolVersion": "1999-01-01"}, Mcp_Session_Id="s1")
    else:
        peer.answers[broken] = http(500)
    await refused(reach(), Era.LEGACY)
    assert peer.methods()[-1] == "DELETE"
    assert peer.asked[-1].headers["mcp-session-id"] == "s1"


async def test_a_handshake_that_is_cancelled_half_way_leaves_no_session(peer: Peer, reach: Reach) -> None:
    peer.answers["notifications/initialized"] = peer.hang()
    adapter = reach()
    async with trio.open_nursery() as links, trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def connect() -> None:
            with scope:
                await adapter.connect(links, make_offer(Era.LEGACY), lambda message: None)

        nursery.start_soon(connect)
        await peer.until_asked("notifications/initialized")
        scope.cancel(reason="test")
        assert (await peer.until_asked("DELETE")).headers["mcp-session-id"] == "s1"


async def test_a_server_that_never_answers_is_given_up(
    peer: Peer, reach: Reach, mock_clock: trio.testing.MockClock
) -> None:
    peer.answers["server/discover"] = peer.answers["initialize"] = peer.hang()
    adapter = reach(startup_timeout=60.0)
    async with trio.open_nursery() as nursery:

        async def connect() -> None:
            assert "no handshake within 60 s" in str(await refused(adapter, None))
            assert trio.current_time() - began == 60

        began = trio.current_time()
        nursery.start_soon(connect)
        await peer.until_asked("server/discover")
        mock_clock.jump(streamable_http.PROBE_TIMEOUT)
        await peer.until_asked("initialize")
        mock_clock.jump(60 - streamable_http.PROBE_TIMEOUT)


async def test_a_probe_that_was_not_answered_in_time_is_repeated_before_giving_up(
    peer: Peer, reach: Reach, mock_clock: trio.testing.MockClock
) -> None:
    peer.answers["server/discover"] = peer.hang()
    peer.answers["initialize"] = error(-32022, 400, data={"supported": ["2026-07-28"]})
    async with trio.open_nursery() as nursery:

        async def connect() -> None:
            async with open_client(reach(), None) as client:
                assert client.link.negotiated.era is Era.MODERN

        nursery.start_soon(connect)
        await peer.until_asked("server/discover")
        peer.answers["server/discover"] = result(DISCOVERED)
        mock_clock.jump(streamable_http.PROBE_TIMEOUT)


class NeverAnswers(trio.abc.HostnameResolver):
    async def getaddrinfo(self, *args: Any, **kwargs: Any) -> Any:
        await trio.sleep_forever()

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise NotImplementedError


async def test_a_port_that_nobody_listens_on_is_named_as_such(reach: Reach) -> None:
    problem = await refused(reach(f"http://127.0.0.1:{free_port()}/"), None)
    assert str(problem).startswith("server 's': cannot connect: ")
    assert str(problem).endswith("Connection refused")


class NoNames(trio.abc.HostnameResolver):
    async def getaddrinfo(self, *args: Any, **kwargs: Any) -> Any:
        await trio.lowlevel.checkpoint()
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise NotImplementedError


async def test_a_host_that_does_not_exist_is_named_as_such(reach: Reach) -> None:
    trio.socket.set_custom_hostname_resolver(NoNames())
    problem = await refused(reach("http://no-such-host.example/mcp"), None)
    assert str(problem) == "server 's': cannot connect: Name or service not known"


# ---- what is sent ----------------------------------------------------------------------------------------------------


async def test_requests_are_as_the_transport_says(peer: Peer, reach: Reach) -> None:
    async with open_client(reach(), Era.LEGACY) as client:
        await call(client.link)
    first, initialized, called, deleted = peer.asked
    for asked in (first, initialized, called):
        assert asked.headers["accept"] == "application/json, text/event-stream"
        assert asked.headers["content-type"] == "application/json"
        assert asked.headers["host"] == peer.url.removeprefix("http://").removesuffix("/mcp")
    assert "mcp-protocol-version" not in first.headers
    for asked in (initialized, called, deleted):
        assert asked.headers["mcp-protocol-version"] == "2025-11-25"
        assert asked.headers["mcp-session-id"] == "s1"
    assert called.message["id"] == 1, "never the client's id"
    assert deleted.verb == "DELETE"
    assert peer.connections == 1


async def test_modern_requests_carry_their_own_headers_and_no_session(peer: Peer, reach: Reach) -> None:
    peer.answers["server/discover"] = result(DISCOVERED, Mcp_Session_Id="ignored")
    async with open_client(reach(), Era.MODERN) as client:
        await call(client.link)
        await client.link.notify(jsonrpc.notification("notifications/roots/list_changed"))
    probe, called = peer.asked
    assert (probe.headers["mcp-method"], called.headers["mcp-method"]) == ("server/discover", "tools/call")
    assert probe.headers["mcp-protocol-version"] == "2026-07-28"
    assert "mcp-session-id" not in called.headers


@pytest.mark.parametrize(
    ("path", "target"),
    [("", "/"), ("/a/b?x=1&y=%20", "/a/b?x=1&y=%20"), ("/käse?ü", "/k%C3%A4se?%C3%BC"), ("?q", "/?q")],
)
async def test_the_url_is_sent_as_it_is_or_encoded(path: str, target: str, peer: Peer, reach: Reach) -> None:
    async with open_client(reach(peer.url.removesuffix("/mcp") + path), Era.MODERN):
        pass
    assert peer.asked[0].target == target


async def test_configured_headers_are_sent_with_everything_and_never_shown(
    peer: Peer, reach: Reach, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {
        "Authorization": Secret("Bearer hunter2"),
        "User-Agent": Secret("mine"),
        "X-Name": Secret("käse"),
        "Content-Length": Secret("7"),
        "Transfer-Encoding": Secret("chunked"),
    }
    adapter = reach(headers=headers)
    with caplog.at_level(logging.DEBUG):
        async with open_client(adapter, Era.LEGACY) as client:
            await call(client.link)
            peer.answers["tools/call"] = http(401, "text/plain", b"hunter2 is wrong")
            with pytest.raises(ServerUnavailable) as caught:
                await call(client.link)
    assert peer.methods() == ["initialize", "notifications/initialized", "tools/call", "tools/call", "DELETE"]
    for asked in peer.asked:
        assert (asked.headers["authorization"], asked.headers["user-agent"]) == ("Bearer hunter2", "mine")
        assert asked.headers["x-name"] == "käse"
        assert "transfer-encoding" not in asked.headers
        assert asked.lines.lower().count(b"content-length") == (asked.verb == "POST")
    shown = f"{caplog.text} {caught.value!r} {caught.value.data} {adapter!r} {client.link!r} {adapter.client!r}"
    assert "hunter2" not in shown


LOST = {
    "404": http(404),
    "404 with JSON": error(-32001, 404, "null", "Session not found"),
    "400 that names the session": error(-32000, 400, "null", "Bad Request: No valid session ID provided"),
    "400 in plain text": http(400, "text/plain", b"Bad Request: No valid session ID provided"),
    "400 of a server that was restarted": NOT_INITIALIZED,
}


@pytest.mark.parametrize("answer", LOST.values(), ids=LOST)
async def test_a_lost_session_ends_the_link_and_what_runs_on_it_may_be_answered(
    answer: Answer, peer: Peer, reach: Reach
) -> None:
    answers = trio.Event()

    async def late(asked: Asked, stream: trio.SocketStream) -> None:
        await answers.wait()
        await plain_json(REPLY)(asked, stream)

    async with open_client(reach(), Era.LEGACY) as client, trio.open_nursery() as nursery:
        peer.answers["tools/call"] = late
        other = client.start(nursery, "t")
        await peer.until_asked("tools/call")
        peer.answers["tools/call"] = answer
        wait = Wait()
        with pytest.raises(ServerSessionLost):
            await client.link.call(a_request(client.link, wait), NoBack())
        wait.check()  # the caller may try again under the same wait
        assert client.link.closed.is_set()
        assert "no longer knows the session" in client.link.failure
        assert client.link.statistics().in_flight == 1
        answers.set()
        assert (await other.outcome()).message.result is not None
        assert client.link.statistics().in_flight == 0
    assert "DELETE" not in peer.methods()


async def test_what_outlives_a_lost_session_ends_with_the_server(peer: Peer, reach: Reach) -> None:
    peer.answers["tools/call"] = peer.hang()
    async with trio.open_nursery() as nursery, open_client(reach(), Era.LEGACY) as client:
        other = client.start(nursery, "t")
        await peer.until_asked("tools/call")
        peer.answers["tools/call"] = http(404)
        with pytest.raises(ServerSessionLost):
            await call(client.link)
    assert isinstance(await other.problem(), ServerUnavailable)


def gone(client: Client) -> None:
    assert client.link.closed.is_set()
    assert "no longer knows the session" in client.link.failure


@pytest.mark.parametrize("client", ["Pool"])
@pytest.mark.parametrize("answer", LOST.values(), ids=LOST)
async def test_a_session_that_is_lost_when_a_call_was_begun(answer: Answer, peer: Peer, reach: Reach) -> None:
    async with open_client(reach(), Era.LEGACY) as client:
        await call(client.link)
        peer.answers["tools/call"] = answer
        outcomes: list[Outcome] = []
        assert client.link.begin(a_request(client.link), outcomes.append)  # type: ignore[attr-defined]  # `Begins`
        while not outcomes:
            await trio.testing.wait_all_tasks_blocked(0.01)
        (go_on,) = outcomes
        assert callable(go_on)
        with pytest.raises(ServerSessionLost):
            await go_on(NoBack())
        gone(client)


async def test_a_session_that_is_lost_while_a_call_is_resumed_does_not_make_it_again(
    peer: Peer, reach: Reach, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had begun: what may have had its effect is not as good as never sent."""
    monkeypatch.setattr(http_streams, "RETRY", 0.0)
    peer.answers["tools/call"] = stream_of(b"id: e1\ndata:\n\n")
    peer.answers["GET"] = http(404)
    async with open_client(reach(), Era.LEGACY, hears=True) as client:
        wait = Wait()
        with pytest.raises(ServerUnavailable, match="lost the session in the middle of the call") as caught:
            await client.link.call(a_request(client.link, wait), NoBack())
        assert not caught.value.unsent
        wait.check()  # the caller may try again under the same wait, if that does no harm
        gone(client)
    assert "notifications/cancelled" not in peer.methods()


async def test_a_session_that_is_lost_when_a_server_is_told_of_a_cancellation(peer: Peer, reach: Reach) -> None:
    async with open_client(reach(), Era.LEGACY) as client, trio.open_nursery() as nursery:
        peer.answers["tools/call"] = peer.hang()
        peer.answers["notifications/cancelled"] = http(404)
        started = client.start(nursery, "t")
        await peer.until_asked("tools/call")
        started.scope.cancel(reason="test")
        await client.link.closed.wait()
        gone(client)


SENT = {
    "no answer": raw(b"", close=True),
    "half a head": raw(HALF[:30], close=True),
    "half a body": raw(HALF, close=True),
    "an error": http(503),
}


@pytest.mark.requirement("4.http.pool")
@pytest.mark.parametrize("case", SENT)
async def test_what_was_sent_may_have_had_its_effect(case: str, peer: Peer, reach: Reach) -> None:
    async with open_client(reach(), Era.MODERN) as client:
        peer.answers["tools/call"] = SENT[case]
        with pytest.raises(ServerUnavailable) as caught:
            await call(client.link)
        assert not caught.value.unsent
    assert peer.methods().count("tools/call") == 1


@pytest.mark.requirement("4.http.pool")
async def test_what_was_not_sent_says_so(peer: Peer, reach: Reach) -> None:
    adapter = reach(peer.url.replace("127.0.0.1", "localhost"))
    async with open_client(adapter, Era.LEGACY) as client:
        await adapter.client.close_idle()
        trio.socket.set_custom_hostname_resolver(NoNames())
        for attempt in (call(client.link), client.link.notify(jsonrpc.notification("x"))):
            with pytest.raises(ServerUnavailable, match="cannot connect: Name or service not known") as caught:
                await attempt
            assert caught.value.unsent
        await client.link.aclose()
        with pytest.raises(ServerUnavailable, match="the link was closed") as caught:
            await call(client.link)
        assert caught.value.unsent
    assert peer.methods() == ["initialize", "notifications/initialized"]


async def test_a_notification_that_is_not_taken_is_an_error(
    peer: Peer, reach: Reach, mock_clock: trio.testing.MockClock
) -> None:
    changed = jsonrpc.notification("notifications/roots/list_changed")
    async with open_client(reach(timeout=5.0), Era.LEGACY) as client, trio.open_nursery() as nursery:
        peer.answers["notifications/roots/list_changed"] = plain_json("{}")
        await client.link.notify(changed)
        peer.answers["notifications/roots/list_changed"] = http(500)
        with pytest.raises(ServerUnavailable, match="HTTP 500"):
            await client.link.notify(changed)
        peer.answers["notifications/roots/list_changed"] = raw(b"", close=True)
        with pytest.raises(ServerUnavailable, match="closed the connection"):
            await client.link.notify(changed)
        peer.answers["notifications/roots/list_changed"] = peer.hang()

        async def notify() -> None:
            with pytest.raises(ServerTimeout):
                await client.link.notify(changed)

        nursery.start_soon(notify)
        await peer.until_asked("notifications/roots/list_changed", 4)
        mock_clock.jump(5)
        await peer.gone.wait()
        peer.answers["notifications/roots/list_changed"] = http(404)
        with pytest.raises(ServerSessionLost):
            await client.link.notify(changed)
        with pytest.raises(ServerUnavailable, match="no longer knows"):
            await client.link.notify(changed)


# ---- ends ------------------------------------------------------------------------------------------------------------

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
PHASES = {
    "before the head": (),
    "within the head": (HALF[:30],),
    "within the body": (HALF,),
    "within an event": (STREAM, b"7\r\ndata: {\r\n"),
    "between events": (STREAM, b"6\r\nid: 1\n\r\n", b"1\r\n\n\r\n"),
}


@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
@pytest.mark.parametrize("by", ["wait", "cancellation"])
@pytest.mark.parametrize("era", Era)
async def test_a_call_that_is_ended_closes_its_connection_and_a_legacy_server_is_told(
    era: Era, by: str, phase: tuple[bytes, ...], peer: Peer, reach: Reach
) -> None:
    adapter = reach()
    async with open_client(adapter, era) as client, trio.open_nursery() as nursery:
        peer.answers["tools/call"] = peer.hang(*phase)
        wait, why = Wait(), ServerTimeout("s", "enough")
        started = client.start(nursery, "t", wait=wait)
        await peer.until_asked("tools/call")
        await trio.testing.wait_all_tasks_blocked()
        if by == "wait":
            wait.end(why)
            assert await started.problem() is why
        else:
            started.scope.cancel(reason="test")
            await started.done.wait()
        await peer.gone.wait()
        if era is Era.LEGACY:
            told = await peer.until_asked("notifications/cancelled")
            assert told.message["params"] == {"requestId": 1}
            assert told.headers["mcp-session-id"] == "s1"
        peer.answers["tools/call"] = result(OK)
        assert text_of(await call(client.link)) == "ok"
    assert peer.methods().count("notifications/cancelled") == (era is Era.LEGACY)
    assert not adapter.client.open_connections


@pytest.mark.parametrize("by", ["wait", "cancellation"])
async def test_a_call_that_is_ended_while_it_dials_leaves_nothing(by: str, peer: Peer, reach: Reach) -> None:
    adapter = reach(peer.url.replace("127.0.0.1", "localhost"))
    async with open_client(adapter, Era.MODERN) as client, trio.open_nursery() as nursery:
        await adapter.client.close_idle()
        trio.socket.set_custom_hostname_resolver(NeverAnswers())
        wait, why = Wait(), ServerTimeout("s", "enough")
        started = client.start(nursery, "t", wait=wait)
        await trio.testing.wait_all_tasks_blocked()
        if by == "wait":
            wait.end(why)
            assert await started.problem() is why
        else:
            started.scope.cancel(reason="test")
            await started.done.wait()
        assert client.link.statistics().in_flight == 0
        assert not adapter.client.open_connections
    assert peer.methods() == ["server/discover"]


class Faulty:
    """The back-channel of a client that has gone."""

    async def send(self, event: Event) -> None:
        await trio.lowlevel.checkpoint()
        raise ConnectionResetError


async def test_a_client_that_cannot_be_sent_to_ends_its_call(peer: Peer, reach: Reach) -> None:
    async with open_client(reach(), Era.LEGACY) as client:
        peer.answers["tools/call"] = peer.hang(STREAM + b"7\r\nid: 1\n\n\r\n")
        with pytest.raises(ConnectionResetError):
            await client.link.call(a_request(client.link), Faulty())
        await peer.gone.wait()
        await peer.until_asked("notifications/cancelled")


async def test_a_server_that_cannot_be_told_is_left_alone(
    peer: Peer, reach: Reach, mock_clock: trio.testing.MockClock
) -> None:
    adapter = reach()
    async with open_client(adapter, Era.LEGACY) as client, trio.open_nursery() as nursery:
        peer.answers["tools/call"] = peer.answers["notifications/cancelled"] = peer.hang()
        wait = Wait()
        started = client.start(nursery, "t", wait=wait)
        await peer.until_asked("tools/call")
        wait.end(ServerTimeout("s", "enough"))
        await started.done.wait()
        await peer.until_asked("notifications/cancelled")
        mock_clock.jump(http_link.COURTESY)
        await trio.testing.wait_all_tasks_blocked()
        assert not adapter.client.open_connections


@pytest.mark.parametrize("answer", [http(200), http(204), http(405), http(404), raw(b"", close=True)])
async def test_closing_ends_the_session_once_whatever_the_server_says(answer: Answer, peer: Peer, reach: Reach) -> None:
    peer.answers["DELETE"] = answer
    adapter = reach()
    async with open_client(adapter, Era.LEGACY) as client:
        await client.link.aclose()
        await client.link.aclose()
        assert client.link.closed.is_set()
        assert client.link.failure == "the link was closed"
    assert peer.methods().count("DELETE") == 1
    assert not adapter.client.open_connections


async def test_closing_does_not_wait_for_a_server_that_is_silent(
    peer: Peer, reach: Reach, mock_clock: trio.testing.MockClock
) -> None:
    peer.answers["DELETE"] = peer.hang()
    async with trio.open_nursery() as nursery:

        async def close() -> None:
            async with open_client(reach(), Era.LEGACY):
                pass
            assert trio.current_time() - began == http_link.COURTESY

        began = trio.current_time()
        nursery.start_soon(close)
        await peer.until_asked("DELETE")
        mock_clock.jump(http_link.COURTESY)


async def test_a_server_without_sessions_is_told_of_no_end(peer: Peer, reach: Reach) -> None:
    peer.answers["initialize"] = result(INITIALIZED)
    async with open_client(reach(), Era.LEGACY) as client:
        assert not client.link.negotiated.stateful
    assert peer.methods() == ["initialize", "notifications/initialized"]


async def test_connections_are_shared_by_links_and_closed_with_the_last(peer: Peer, reach: Reach) -> None:
    adapter = reach()
    async with open_client(adapter, Era.LEGACY) as one:
        async with open_client(adapter, Era.MODERN) as other:
            await call(one.link)
            await call(other.link)
        assert adapter.client.open_connections == 1
        assert adapter.links == 1
    assert adapter.client.open_connections == 0
    assert peer.connections == 1


async def test_a_kept_connection_that_the_server_has_closed_is_not_used(
    peer: Peer, reach: Reach, mock_clock: trio.testing.MockClock
) -> None:
    async def answer_and_close(asked: Any, stream: trio.SocketStream) -> None:
        await result(OK)(asked, stream)
        await stream.aclose()

    peer.answers["tools/call"] = answer_and_close
    async with open_client(reach(), Era.MODERN) as client:
        for _ in range(3):
            assert text_of(await call(client.link)) == "ok"
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(1)
    assert peer.connections == 3
    assert peer.methods().count("tools/call") == 3


async def test_a_server_that_crashes_fails_its_calls_at_once_and_is_reached_again(
    nursery: trio.Nursery, peer: Peer, reach: Reach
) -> None:
    dying = Peer()
    async with trio.open_nursery() as crash:
        await crash.start(dying.serve)
        async with trio.open_nursery() as calls:
            async with open_client(reach(dying.url), Era.LEGACY) as client:
                dying.answers["tools/call"] = dying.hang()
                started = [client.start(calls, "t") for _ in range(3)]
                await dying.until_asked("tools/call", 3)
                crash.cancel_scope.cancel(reason="the server crashes")
                for one in started:
                    assert isinstance(await one.problem(), ServerUnavailable)
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 30):
                    with pytest.raises(ServerUnavailable, match="cannot connect"):
                        await client.link.call(a_request(client.link), NoBack())
                assert not client.link.closed.is_set()
