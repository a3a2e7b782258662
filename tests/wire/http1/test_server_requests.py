"""What the server reads and answers, over every transport."""

from __future__ import annotations

import logging
from itertools import pairwise

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from mcpgateway.config.limits import Limits
from tests.wire.http1.peers import Answers, answer, answers
from tests.wire.http1.servers import BIG, KINDS, Script, serving

GET = b"GET /a?b=1 HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_a_request_is_answered_and_the_connection_kept(kind: str) -> None:
    async with serving(kind) as site:
        peer = await site.dial()

        first = answer(await peer.ask(GET))
        second = answer(await peer.ask(POST))

        assert (first.status, first.body, first.keep_alive) == (200, b"GET /a b=1 ", True)
        assert (second.status, second.body, second.keep_alive) == (200, b"POST /a  hello", True)
        assert not peer.ended


async def test_a_response_has_a_date_and_a_length(kind: str) -> None:
    async with serving(kind) as site:
        headers = answer(await site.ask(GET)).headers

        assert headers["content-length"] == "11"
        assert headers["date"].endswith(" GMT")


async def test_what_the_handler_is_told_about_a_request() -> None:
    script = Script()
    async with serving("plain", script) as site:
        await site.ask(b"GET http://elsewhere/a/b?c=1?2 HTTP/1.1\r\nHOST: h\r\nX-Two: 1\r\nx-two: 2\r\n\r\n")

    (request,) = script.seen
    assert (request.method, request.path, request.query) == (b"GET", b"/a/b", b"c=1?2")
    assert request.headers == {b"host": b"h", b"x-two": b"1, 2"}
    assert list(request.duplicates) == [b"x-two"]
    assert (request.peer, request.secure, request.version) == ("peer", False, "1.1")


async def test_pipelined_requests_are_answered_in_their_order(kind: str) -> None:
    script = Script()
    async with serving(kind, script) as site:
        peer = await site.dial()
        held = b"GET /held HTTP/1.1\r\nHost: h\r\n\r\n"

        assert await peer.ask(held + POST + GET) == b""
        script.let_go()

        assert [reply.body for reply in answers(await peer.take())] == [b"held", b"POST /a  hello", b"GET /a b=1 "]


async def test_a_hundred_pipelined_requests_are_answered(kind: str) -> None:
    async with serving(kind) as site:
        replies = answers(await site.ask(b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % n for n in range(100))))

        assert [reply.body for reply in replies] == [b"GET /%d  " % n for n in range(100)]


async def test_thousands_of_pipelined_requests_in_one_packet_are_answered(kind: str) -> None:
    """As many as one read holds: none of them may cost stack."""
    async with serving(kind, limits=Limits(pipelined=2000)) as site:
        assert len(answers(await site.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 2000))) == 2000


async def test_who_pipelines_more_than_the_bound_gets_so_many_answers_and_a_refusal(kind: str) -> None:
    async with serving(kind, limits=Limits(pipelined=3)) as site:
        replies = answers(await site.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 5))

        assert [reply.status for reply in replies] == [200, 200, 200, 429]
        assert replies[-1].body == b"more than 3 requests at once (listen.limits.pipelined)"
        assert replies[-1].headers["retry-after"] == "5"


async def test_who_pipelines_and_does_not_read_is_answered_no_further(kind: str) -> None:
    """Replies that nobody takes are not piled up."""
    script = Script()
    async with serving(kind, script) as site:
        peer = await site.dial()
        await peer.send(b"GET /big HTTP/1.1\r\nHost: h\r\n\r\n" * 20)
        assert len(script.seen) <= 2

        assert [len(reply.body) for reply in answers(await peer.take())] == [len(BIG)] * 20


async def test_the_rest_of_a_pipelined_request_may_come_later(kind: str) -> None:
    async with serving(kind) as site:
        peer = await site.dial()

        first = await peer.ask(GET + POST[:-2])
        second = await peer.ask(POST[-2:])

        assert answer(first).body == b"GET /a b=1 "
        assert answer(second).body == b"POST /a  hello"


async def test_a_head_request_gets_the_head_only(kind: str) -> None:
    async with serving(kind) as site:
        peer = await site.dial()

        head = await peer.ask(b"HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n")
        streamed = await peer.ask(b"HEAD /stream HTTP/1.1\r\nHost: h\r\n\r\n")

        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert head.endswith(b"Content-Length: 9\r\n\r\n")
        assert streamed.endswith(b"\r\n\r\n")
        assert b"one" not in streamed
        assert answer(await peer.ask(GET)).status == 200


async def test_a_204_has_no_length(kind: str) -> None:
    async with serving(kind) as site:
        reply = answer(await site.ask(b"GET /empty HTTP/1.1\r\nHost: h\r\n\r\n"))

        assert (reply.status, reply.body) == (204, b"")
        assert "content-length" not in reply.headers


async def test_a_stream_is_chunked(kind: str) -> None:
    async with serving(kind) as site:
        peer = await site.dial()
        reply = answer(await peer.ask(b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n"))

        assert reply.headers["transfer-encoding"] == "chunked"
        assert reply.body == b"one,two"
        assert answer(await peer.ask(GET)).status == 200


async def test_a_client_of_http_1_0_gets_no_chunks_and_a_closed_connection(kind: str) -> None:
    async with serving(kind) as site:
        peer = await site.dial()
        data = await peer.ask(b"GET /stream HTTP/1.0\r\n\r\n")

        head, _, body = data.partition(b"\r\n\r\n")
        assert b"Transfer-Encoding" not in head
        assert b"Connection: close" in head
        assert body == b"one,two"
        assert peer.ended


async def test_a_client_of_http_1_0_may_ask_to_keep_the_connection(kind: str) -> None:
    async with serving(kind) as site:
        peer = await site.dial()
        asked = b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"

        assert answer(await peer.ask(asked)).headers["connection"] == "keep-alive"
        assert answer(await peer.ask(asked)).body == b"GET /a  "


async def test_a_client_may_ask_to_close(kind: str) -> None:
    async with serving(kind) as site:
        peer = await site.dial()
        reply = answer(await peer.ask(b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"))

        assert (reply.status, reply.keep_alive) == (200, False)
        assert peer.ended


async def test_a_chunked_body_is_read(kind: str) -> None:
    async with serving(kind) as site:
        reply = answer(await site.ask(CHUNKED + b"3;ext=1\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"))

        assert reply.body == b"POST /a  hello"


async def test_trailers_of_a_chunked_body_are_no_headers() -> None:
    """They come after the headers were judged (RFC 9110, 6.5.1: never merged into the header section)."""
    script = Script()
    async with serving("plain", script) as site:
        reply = answer(await site.ask(CHUNKED + b"1\r\nx\r\n0\r\nMcp-Session-Id: stolen\r\nHost: other\r\n\r\n"))

    (request,) = script.seen
    assert reply.status == 200
    assert b"mcp-session-id" not in request.headers
    assert request.headers[b"host"] == b"h"


@pytest.mark.parametrize("data", [POST, CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"], ids=["length", "chunked"])
async def test_a_sender_of_single_bytes_is_understood(kind: str, data: bytes) -> None:
    async with serving(kind) as site:
        peer = await site.dial()
        for byte in data[:-1]:
            await peer.send(bytes([byte]))
        assert await peer.take() == b""

        assert answer(await peer.ask(data[-1:])).body == b"POST /a  hello"


@given(st.lists(st.integers(1, len(POST + GET) - 1), max_size=6), st.sampled_from(KINDS))
def test_requests_may_be_cut_anywhere(cuts: list[int], kind: str) -> None:
    async def main() -> None:
        data = POST + GET
        bounds = [0, *sorted(set(cuts)), len(data)]
        async with serving(kind) as site:
            peer = await site.dial()
            received = Answers()
            for start, end in pairwise(bounds):
                received.feed(await peer.ask(data[start:end]))
        assert [reply.body for reply in received.done] == [b"POST /a  hello", b"GET /a b=1 "]

    trio.run(main)


async def test_large_bodies_pass_both_ways(kind: str) -> None:
    async with serving(kind) as site:
        peer = await site.dial()
        body = b"y" * (4 << 20)
        sent = await peer.ask(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        got = await peer.ask(b"GET /big HTTP/1.1\r\nHost: h\r\n\r\n")

        assert answer(sent).body == b"POST /  " + body
        assert answer(got).body == BIG


# ---- Expect ----------------------------------------------------------------------------------------------------------

EXPECTING = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"


async def test_who_waits_for_100_continue_gets_it(kind: str) -> None:
    async with serving(kind) as site:
        peer = await site.dial()

        assert await peer.ask(EXPECTING) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert answer(await peer.ask(b"hello")).body == b"POST /a  hello"


async def test_who_sends_the_body_at_once_needs_no_100_continue() -> None:
    async with serving("plain") as site:
        assert (await site.ask(EXPECTING + b"hello")).startswith(b"HTTP/1.1 200")


async def test_a_pipelined_request_gets_its_100_continue(kind: str) -> None:
    async with serving(kind) as site:
        peer = await site.dial()

        assert (await peer.ask(GET + EXPECTING)).endswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert answer(await peer.ask(b"hello")).body == b"POST /a  hello"


async def test_a_client_of_http_1_0_gets_no_interim_response() -> None:
    """RFC 9110, 10.1.1: the expectation of a client that knows no interim responses is ignored."""
    async with serving("plain") as site:
        peer = await site.dial()

        assert await peer.ask(EXPECTING.replace(b"HTTP/1.1", b"HTTP/1.0")) == b""
        assert answer(await peer.ask(b"hello")).body == b"POST /a  hello"


async def test_other_expectations_fail() -> None:
    async with serving("plain") as site:
        assert answer(await site.ask(EXPECTING.replace(b"100-continue", b"miracles"))).status == 417


# ---- upgrades are not taken up ---------------------------------------------------------------------------------------

UPGRADE = b"Connection: upgrade\r\nUpgrade: h2c\r\n"


async def test_an_upgrade_is_ignored_and_what_follows_is_read(kind: str) -> None:
    async with serving(kind) as site:
        replies = answers(await site.ask(b"GET /u HTTP/1.1\r\nHost: h\r\n" + UPGRADE + b"\r\n" + GET))

        assert [reply.body for reply in replies] == [b"GET /u  ", b"GET /a b=1 "]


async def test_an_upgrade_with_a_body_is_answered() -> None:
    async with serving("plain") as site:
        asked = b"POST /u HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n" + UPGRADE + b"\r\nhi"
        replies = answers(await site.ask(asked + GET))

        assert [reply.body for reply in replies] == [b"POST /u  hi", b"GET /a b=1 "]


async def test_a_refused_upgrade_leaves_the_request_before_it_alone() -> None:
    async with serving("plain") as site:
        refused = b"GET /u HTTP/1.1\r\n" + UPGRADE + b"\r\n"  # without a Host
        replies = answers(await site.ask(POST + refused))

        assert [(reply.status, reply.body[:14]) for reply in replies[:1]] == [(200, b"POST /a  hello")]
        assert [reply.status for reply in replies] == [200, 400]


async def test_any_number_of_upgrades_at_once_are_answered() -> None:
    async with serving("plain") as site:
        replies = answers(await site.ask((b"GET /u HTTP/1.1\r\nHost: h\r\n" + UPGRADE + b"\r\n") * 100))

        assert [reply.status for reply in replies] == [200] * 100


# ---- bad requests ----------------------------------------------------------------------------------------------------

BOTH = b"POST / HTTP/1.1\r\nHost: h\r\n%b\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
BAD = {
    "junk": (b"\x16\x03\x01\x02\x00junk\r\n\r\n", 400),
    "text": (b"hello, world\r\n\r\n", 400),
    "http/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "length, then chunked": (BOTH % b"Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
    "chunked, then length": (BOTH % b"Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
    "two lengths": (BOTH % b"Content-Length: 5\r\nContent-Length: 6", 400),
    "a length that is none": (BOTH % b"Content-Length: five", 400),
    "a negative length": (BOTH % b"Content-Length: -5", 400),
    "an encoding that does not end": (BOTH % b"Transfer-Encoding: gzip", 400),
    "a space before the colon": (b"GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400),
    "a folded header": (b"GET / HTTP/1.1\r\nHost: h\r\nX: 1\r\n 2\r\n\r\n", 400),
    "NUL in a header": (b"GET / HTTP/1.1\r\nHost: h\r\nX: \0\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "a bad chunk": (CHUNKED + b"xyz\r\n", 400),
    "a chunk longer than it says": (CHUNKED + b"2\r\nhello\r\n", 400),
    "a large declared body": (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n", 413),
    "an absurd declared body": (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %s\r\n\r\n" % (b"9" * 19), 413),
    "a large chunked body": (CHUNKED + b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n", 413),
    "a chunked body that grows": (CHUNKED + b"64\r\n%b\r\n" % (b"x" * 100) * 11, 413),
    "a large head": (b"GET / HTTP/1.1\r\nHost: h\r\nX: %b\r\n\r\n" % (b"x" * 2000), 431),
    "a long target": (b"GET /%b HTTP/1.1\r\nHost: h\r\n\r\n" % (b"x" * 2000), 431),
    "a head without an end": (b"GET / HTTP/1.1\r\nHost: h\r\nX: %b" % (b"x" * 2000), 431),
    "101 headers": (b"GET / HTTP/1.1\r\nHost: h\r\n%b\r\n" % b"".join(b"X%d: 1\r\n" % n for n in range(100)), 431),
    "101 times a header": (b"GET / HTTP/1.1\r\nHost: h\r\n%b\r\n" % (b"X: 1\r\n" * 102), 431),
}
SMALL = Limits(header_bytes=1500, body_bytes=1000)


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_request_is_refused_and_its_connection_closed(kind: str, case: str) -> None:
    data, status = BAD[case]
    script = Script()
    async with serving(kind, script, SMALL) as site:
        other = await site.dial()
        peer = await site.dial()

        reply = answer(await peer.ask(data))
        peer.close()

        assert (reply.status, reply.keep_alive) == (status, False)
        assert reply.body
        assert answer(await other.ask(GET)).status == 200
    assert [request.path for request in script.seen] == [b"/a"]


@pytest.mark.parametrize("case", ["a large head", "a large chunked body", "no host", "chunked, then length"])
async def test_a_bad_request_behind_a_good_one_is_refused_after_its_answer(case: str) -> None:
    data, status = BAD[case]
    async with serving("plain", limits=SMALL) as site:
        assert [reply.status for reply in answers(await site.ask(GET + data))] == [200, status]


async def test_a_large_head_is_refused_wherever_it_is_cut(kind: str) -> None:
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nX: %b\r\n\r\n" % (b"x" * 2000)
    async with serving(kind, limits=SMALL) as site:
        peer = await site.dial()

        assert answer(await peer.ask(head + b"h") + await peer.ask(b"i")).status == 431


async def test_a_hundred_headers_are_served() -> None:
    async with serving("plain") as site:
        fields = b"".join(b"X%d: 1\r\n" % n for n in range(99))

        assert answer(await site.ask(b"GET / HTTP/1.1\r\nHost: h\r\n" + fields + b"\r\n")).status == 200


@pytest.mark.parametrize("data", [b"GET / HT", POST[:-1], CHUNKED + b"5\r\nhel"], ids=["head", "length", "chunked"])
async def test_half_a_request_is_refused_when_its_sender_closes(data: bytes) -> None:
    script = Script()
    async with serving("plain", script) as site:
        peer = await site.dial()
        await peer.send(data)
        await peer.half_close()

        assert answer(await peer.take()).status == 400
        assert peer.ended
    assert script.seen == []


async def test_a_client_that_closes_between_requests_is_forgotten(kind: str) -> None:
    async with serving(kind) as site:
        peer = await site.dial()
        await peer.ask(GET)
        peer.close()
        await (await site.dial()).ask(GET)

        assert len(site.server.connections) == 1


async def test_a_client_that_closes_right_behind_its_request_is_forgotten(kind: str) -> None:
    """The end that comes with the last bytes must not be overlooked (edge triggering tells it once)."""
    async with serving(kind) as site:
        peer = await site.dial()
        peer.send_and_close(GET)
        await wait_all_tasks_blocked()

        assert not site.server.connections


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "tls"])
async def test_a_client_that_half_closes_behind_its_request_is_answered_and_then_closed(kind: str) -> None:
    async with serving(kind) as site:
        peer = await site.dial()
        peer.send_and_half_close(GET)

        assert answer(await peer.take()).body == b"GET /a b=1 "
        assert peer.ended
        assert not site.server.connections


# ---- handlers --------------------------------------------------------------------------------------------------------


async def test_a_handler_that_raises_gives_a_500_and_disturbs_nobody(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(kind) as site:
        other = await site.dial()
        peer = await site.dial()

        with caplog.at_level(logging.CRITICAL, "mcpgateway.http"):
            reply = answer(await peer.ask(b"GET /boom HTTP/1.1\r\nHost: h\r\n\r\n"))

        assert (reply.status, reply.keep_alive) == (500, False)
        assert b"RuntimeError" not in reply.body
        assert b"as asked" not in reply.body
        assert answer(await other.ask(GET)).status == 200


async def test_a_failure_of_a_handler_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with serving("plain") as site:
        await site.ask(b"GET /boom HTTP/1.1\r\nHost: h\r\n\r\n")

    (record,) = caplog.records
    assert record.name == "mcpgateway.http"
    assert "/boom" in record.getMessage()
    assert record.exc_info is not None


async def test_a_handler_that_raises_within_its_answer_breaks_it_off(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(kind) as site:
        peer = await site.dial()
        received = Answers()

        received.feed(await peer.ask(b"GET /boom/late HTTP/1.1\r\nHost: h\r\n\r\n"))

        assert (received.status, bytes(received.body), received.done) == (200, b"one,", [])
        assert peer.ended
    assert "as asked" in caplog.text


async def test_a_handler_that_answers_nothing_costs_the_connection() -> None:
    async with serving("plain") as site:
        peer = await site.dial()

        assert await peer.ask(b"GET /mute HTTP/1.1\r\nHost: h\r\n\r\n") == b""
        assert peer.ended
