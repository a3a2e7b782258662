"""What ``check`` prints: columns by display width, one line for what others wrote, JSON whose keys never change."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from runners.findings import Finding, Status, Tool, as_json, as_text, one_line, summary

TIME = Finding(
    name="time",
    type="stdio",
    status=Status.OK,
    reachable=True,
    eras=("modern", "legacy"),
    revision="2026-07-28",
    server_name="mcp-time",
    server_version="1.26",
    tools=(Tool("now"), Tool("convert", "Never shown here")),
    prompts=1,
    resources=3,
    seconds=0.4142,
)
DEAD = Finding(
    "dead-server",
    "streamable-http",
    Status.FAILED,
    seconds=30.0,
    error="did not answer within 30 s",
    stage="initialize",
)
OFF = Finding("off", "stdio")


def test_text_has_a_line_for_each_server_with_its_offer_or_its_error_below() -> None:
    text = as_text([TIME, DEAD, OFF], colour=False)

    assert text.splitlines() == [
        "time         ok        stdio            modern, legacy  2026-07-28  mcp-time 1.26  0.41 s",
        "    tools (2): now, convert",
        "    prompts: 1, resources: 3",
        "dead-server  failed    streamable-http                                             30.00 s",
        "    did not answer within 30 s",
        "off          disabled  stdio",
        "",
        "1 ok, 1 failed, 1 disabled, 2 tools",
    ]


def test_text_without_tools_says_so() -> None:
    bare = Finding("bare", "stdio", Status.OK, reachable=True)

    assert "    tools (0)\n    prompts: 0, resources: 0" in as_text([bare], colour=False)


def test_text_without_servers_says_so() -> None:
    assert as_text([], colour=False) == "no servers are configured"


@pytest.mark.requirement("2.runner.check")
@given(names=st.lists(st.text("a服é", min_size=1, max_size=8), min_size=2, max_size=4))
def test_columns_are_aligned_by_display_width(names: list[str]) -> None:
    findings = [Finding("s", "stdio", server_name=name, seconds=1.0) for name in names]

    rows = as_text(findings, colour=False).splitlines()[: len(names)]

    assert len({cell_len(row) for row in rows}) == 1


def test_colours_are_there_only_when_asked_for() -> None:
    coloured = as_text([TIME, DEAD, OFF], colour=True)

    assert [word in coloured for word in ("\x1b[32mok", "\x1b[31mfailed", "\x1b[2mdisabled")] == [True] * 3
    assert "\x1b" not in as_text([TIME, DEAD, OFF], colour=False)


def test_what_servers_call_themselves_cannot_steer_the_terminal() -> None:
    evil = Finding("e", "stdio", Status.OK, server_name="\x1b]0;owned\x07", tools=(Tool("a\nb"), Tool("c\u202ed")))

    text = as_text([evil], colour=False)

    assert "\x1b" not in text
    assert "\x07" not in text
    assert "tools (2): a b, c\ufffdd" in text


def test_json_has_every_key_for_every_server_in_one_order() -> None:
    document = json.loads(as_json([TIME, DEAD, OFF], source="mcp-gateway.yaml"))

    assert list(document) == ["config", "servers", "summary"]
    assert [list(server) for server in document["servers"]] == [
        [
            "name",
            "type",
            "status",
            "reachable",
            "eras",
            "revision",
            "server_name",
            "server_version",
            "tools",
            "prompts",
            "resources",
            "seconds",
            "error",
        ]
    ] * 3
    assert [server["name"] for server in document["servers"]] == ["time", "dead-server", "off"]
    assert [server["status"] for server in document["servers"]] == ["ok", "failed", "disabled"]
    assert document["servers"][0]["seconds"] == 0.414
    assert document["summary"] == summary([TIME, DEAD, OFF]) == {"ok": 1, "failed": 1, "disabled": 1, "tools": 2}


@given(st.text(), st.integers(10, 300))
def test_a_reason_is_one_bounded_printable_line(text: str, limit: int) -> None:
    line = one_line(text, limit)

    assert line.isprintable()
    assert len(line) <= limit + 3


def test_a_long_reason_keeps_its_end_where_the_last_words_are() -> None:
    line = one_line("exited with status 1; its last words: " + "x" * 1000 + "\nKeyError: 'HOME'")

    assert line.startswith("exited with status 1; ")
    assert line.endswith("KeyError: 'HOME'")
