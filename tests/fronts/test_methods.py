"""Prompts, resources, completions and ping over HTTP, in both eras, raw and merged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.calls.doubles import library
from tests.fronts.site import request, site

Right = Callable[[Any], bool]
"""Whether a decoded result is the right one."""

ASKED: list[tuple[str, dict[str, object], Right]] = [
    ("prompts/list", {}, lambda result: result["prompts"][0]["name"].endswith("greet")),
    ("resources/list", {}, lambda result: result["resources"][0]["uri"] == "book://a/1"),
    ("resources/templates/list", {}, lambda result: result["resourceTemplates"][0]["uriTemplate"] == "shelf://a/{n}"),
    ("resources/read", {"uri": "book://a/1"}, lambda result: result["contents"][0]["text"] == "book://a/1 of a"),
    ("resources/read", {"uri": "shelf://a/7"}, lambda result: result["contents"][0]["text"] == "shelf://a/7 of a"),
]


@pytest.mark.parametrize("path", ["/mcp", "/mcp/a"])
@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_everything_that_can_be_listed_and_read(era: str, path: str) -> None:
    async with site({"a": library("a"), "b": library("b")}) as gateway:
        client = await gateway.dial()
        session = await client.initialize(path) if era == "legacy" else None
        prefix = "a_" if path == "/mcp" else ""
        asked: list[tuple[str, dict[str, object], Right]] = [
            *ASKED,
            ("prompts/get", {"name": f"{prefix}greet"}, lambda result: result["description"] == "greet of a"),
            (
                "completion/complete",
                {"ref": {"type": "ref/prompt", "name": f"{prefix}greet"}, "argument": {"name": "x", "value": ""}},
                lambda result: result["completion"]["values"][0]["name"] == "greet",
            ),
        ]
        for number, (method, params, right) in enumerate(asked):
            message = request(number, method, params)
            answer = await (client.modern(path, message) if session is None else session.post(client, message))

            assert (answer.status, answer.json["id"]) == (200, number), answer
            assert right(answer.json["result"]), (method, answer.json)


@pytest.mark.parametrize("path", ["/mcp", "/mcp/a"])
async def test_ping_is_of_the_legacy_era(path: str) -> None:
    async with site({"a": library("a")}) as gateway:
        client = await gateway.dial()
        session = await client.initialize(path)
        pong = await session.post(client, request("p", "ping"))
        modern = await client.modern(path, request("p", "ping"))

        assert (pong.status, pong.json) == (200, {"jsonrpc": "2.0", "id": "p", "result": {}})
        assert (modern.status, modern.json["error"]["code"]) == (404, -32601)
