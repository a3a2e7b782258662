"""Answers of clients to questions that servers did not ask them: taken, and of no effect."""

from __future__ import annotations

from typing import Any

import pytest
import trio.testing

from tests.calls.doubles import host, library
from tests.fronts.site import call, site

ANSWERS: list[dict[str, Any]] = [
    {"jsonrpc": "2.0", "id": "gateway-1", "result": {"action": "accept"}},
    {"jsonrpc": "2.0", "id": 1, "result": {}},
    {"jsonrpc": "2.0", "id": "1", "error": {"code": -1, "message": "no"}},
]


@pytest.mark.requirement("3.bad.late")
@pytest.mark.parametrize("path", ["/mcp", "/mcp/a"])
@pytest.mark.parametrize("answer", ANSWERS)
async def test_an_answer_to_a_question_never_asked_reaches_no_server(answer: dict[str, Any], path: str) -> None:
    adapter = library("a")
    async with site({"a": adapter}) as gateway:
        client = await gateway.dial()
        session = await client.initialize(path, {"elicitation": {}})
        tool = "echo" if path == "/mcp/a" else "a_echo"
        await session.post(client, call(7, tool, {"text": "before"}))
        seen = len(host(adapter).seen)

        taken = await session.post(client, answer)
        await trio.testing.wait_all_tasks_blocked()
        after = await session.post(client, call(8, tool, {"text": "after"}))

        assert taken.status == 202
        assert after.status == 200
        assert len(host(adapter).seen) == seen + 1
        assert all(message.method is not None for message in host(adapter).seen)
