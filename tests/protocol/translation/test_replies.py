"""A server's reply, whatever it is, in the words of the other era."""

from __future__ import annotations

import pytest
from msgspec import Raw

from mcpgateway import jsonrpc
from mcpgateway.errors import ServerMisbehaved
from mcpgateway.jsonrpc import Message, error_code, raw_of, value_of
from mcpgateway.protocol.envelope import SERVER_INFO
from mcpgateway.protocol.translation import replies
from mcpgateway.protocol.translation.rounds import InputRequired
from tests.protocol.translation.test_errors import VISITS, failed

NOTHING = Raw(b"{}")


def to_legacy(reply: Message, method: str = "tools/call", capabilities: Raw = NOTHING) -> replies.LegacyReply:
    return replies.to_legacy(method, reply, capabilities=capabilities, server="s", revision="2024-11-05")


def test_a_result_crosses() -> None:
    modern = jsonrpc.result(b'"7"', {"resultType": "complete", "content": [{"type": "audio"}]})
    legacy = to_legacy(modern)

    assert isinstance(legacy, Message)
    assert legacy.id == b'"7"'
    assert value_of(legacy.result or b"") == {
        "content": [{"type": "text", "text": "[audio: revision 2024-11-05 of MCP cannot carry it]"}]
    }
    back = replies.to_modern("tools/call", legacy, capabilities=NOTHING, server="s", server_info=Raw(b'{"name":"s"}'))
    whole = value_of(back.result or b"")
    assert isinstance(whole, dict)
    assert (whole["resultType"], whole["_meta"]) == ("complete", {SERVER_INFO: {"name": "s"}})
    assert back.id == b'"7"'


def test_a_listing_is_without_tools_that_the_gateway_cannot_call() -> None:
    marked = {"name": "t", "inputSchema": {"type": "object", "x-mcp-header": "R"}}
    reply = jsonrpc.result(b"1", {"tools": [marked]})

    shown = replies.to_legacy("tools/list", reply, capabilities=NOTHING, server="s", over_http=True)

    assert isinstance(shown, Message)
    assert value_of(shown.result or b"") == {"tools": []}


def test_a_question_comes_first() -> None:
    reply = jsonrpc.result(b"1", {"resultType": "input_required", "inputRequests": {"r": {"method": "roots/list"}}})

    asked = to_legacy(reply, capabilities=Raw(b'{"roots":{}}'))

    assert isinstance(asked, InputRequired)
    assert list(asked.questions) == ["r"]
    with pytest.raises(ServerMisbehaved, match="asks for roots"):
        to_legacy(reply)


def test_an_error_crosses() -> None:
    legacy = to_legacy(failed(-32021))
    modern = replies.to_modern(
        "tools/call",
        failed(-32042, VISITS),
        capabilities=raw_of({"elicitation": {"url": {}}}),
        server="s",
        state="again",
        server_info=Raw(b'{"name":"s"}'),
    )

    assert isinstance(legacy, Message)
    assert error_code(legacy) == -32602
    result = value_of(modern.result or b"")
    assert isinstance(result, dict)
    assert (result["requestState"], result["_meta"]) == ("again", {SERVER_INFO: {"name": "s"}})


def test_what_is_no_reply_is_the_servers_fault() -> None:
    for message in (jsonrpc.request(b"1", "ping"), jsonrpc.notification("x")):
        with pytest.raises(ServerMisbehaved):
            to_legacy(message)
        with pytest.raises(ServerMisbehaved):
            replies.to_modern("tools/call", message, capabilities=NOTHING, server="s")
