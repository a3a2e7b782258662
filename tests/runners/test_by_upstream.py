"""What ``check`` prints of upstreams: the text and the JSON of source system 000, byte by byte, and no secret."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from mcpgateway.config.model import (
    Config,
    HttpServer,
    InProcessServer,
    NamespaceConfig,
    Secret,
    ServerConfig,
    SseServer,
    StdioServer,
    UpstreamConfig,
    WebSocketServer,
)
from runners.by_upstream import NAME_WIDTH, Report, as_json, as_text, grouped
from runners.findings import Finding, Status, Tool, flat

GOLDEN: Final = Path(__file__).parent / "golden"


def upstream(name: str, *, token: str = "secret-of-the-cloud", **keys: Any) -> UpstreamConfig:
    endpoint = Secret(f"wss://api.xiaozhi.me/mcp/?token={token}")
    return UpstreamConfig(name, endpoint, **{"namespace": name, **keys})


def config(upstreams: Mapping[str, Mapping[str, ServerConfig]], *others: ServerConfig) -> Config:
    """Upstreams that each see the servers given, by what those are called there."""
    servers = {server.name: server for shown in upstreams.values() for server in shown.values()}
    return Config(
        servers={**servers, **{server.name: server for server in others}},
        namespaces={
            name: NamespaceConfig(name, tuple(server.name for server in shown.values()))
            for name, shown in upstreams.items()
        },
        upstreams=tuple(map(upstream, upstreams)),
    )


def ok(server: ServerConfig, *tools: Tool, name: str = "mcp-McpserverService", version: str = "1.0.0") -> Finding:
    return Finding(
        server.name, server.type, Status.OK, reachable=True, server_name=name, server_version=version, tools=tools
    )


DOCS = HttpServer("docs", title="tencentdocs", url="https://docs.qq.com/openapi/mcp")
LOCAL = StdioServer("local-mcp", command="python", args=("mcp_server.py",))
OLD = SseServer("old", enabled=False, url="http://127.0.0.1:3000/sse")
README = grouped(
    config({"xiaozhi-agent": {"old": OLD, "docs": DOCS, "local": LOCAL}}),
    [
        ok(
            DOCS,
            Tool("create_word_by_markdown", "通过Markdown格式创建在线Word文档"),
            Tool("get_content", "获取文档完整内容，" * 6),
            Tool("a_tool_whose_name_is_longer_than_28", "Short\nwords  <b>&\u2028</b>"),
            Tool("搜索", "search"),
            Tool("bare"),
        ),
        Finding("local-mcp", "stdio", Status.FAILED, error='exec: "python": not found', stage="start"),
        Finding("old", "sse"),
    ],
)
"""The example of its README, and what else there is: a long and an empty description, a long and a wide name."""

ALONE = StdioServer("alone", command="npx", args=("-y", "pkg", "--api-key", "hunter2"))
SOCKET = WebSocketServer("socket", url="wss://me@example.com/mcp?k=hunter2")
OBJECT = InProcessServer("object", module="package.module:server")
WIDER = grouped(
    attrs.evolve(
        base := config({"one": {"docs": DOCS}, "two": {"docs": DOCS, "object": OBJECT, "socket": SOCKET}}, ALONE),
        upstreams=(*base.upstreams, upstream("sleeping", namespace="two", enabled=False)),
    ),
    [
        ok(DOCS, Tool("get_content", "Reads")),
        Finding("object", "in-process", Status.FAILED, error="did not answer within 30 s", stage="initialize"),
        ok(SOCKET, name="", version=""),
        ok(ALONE, name="alone", version=""),
    ],
)
"""What its users cannot have: upstreams that share servers, one that is switched off, servers that none shows."""

NONE = grouped(Config(upstreams=(upstream("empty", namespace=""),)), [])
REPORTS: Final = {"readme": README, "wider": WIDER, "none": NONE}


@pytest.mark.requirement("feature.131", "6.check.text")
@pytest.mark.parametrize("name", REPORTS)
def test_the_text_byte_by_byte(name: str) -> None:
    assert as_text(REPORTS[name], colour=False) + "\n" == (GOLDEN / f"{name}.txt").read_text("utf-8")


@pytest.mark.requirement("feature.135", "6.check.colour")
def test_the_text_for_a_terminal_byte_by_byte() -> None:
    assert as_text(README, colour=True) + "\n" == (GOLDEN / "readme.colour.txt").read_text("utf-8")


@pytest.mark.requirement("feature.132", "6.check.json")
@pytest.mark.parametrize("name", REPORTS)
def test_the_json_byte_by_byte(name: str) -> None:
    assert as_json(REPORTS[name]) + "\n" == (GOLDEN / f"{name}.json").read_text("utf-8")


def test_where_ornaments_cannot_be_shown_there_are_others() -> None:
    assert as_text(WIDER, colour=False, plain=True).isascii()


# ---- properties ------------------------------------------------------------------------------------------------------

SECRET: Final = "hunter2xyzzy"
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
tools = st.builds(Tool, words, words)
identifiers = st.text(string.ascii_lowercase, min_size=1, max_size=4)


@st.composite
def secretive_servers(draw: st.DrawFn, name: str) -> ServerConfig:
    """A server with a secret in every place where people put one."""
    word = draw(identifiers)
    keys: dict[str, Any] = {"enabled": draw(st.booleans()), "title": draw(words)}
    headers = {word: Secret(draw(st.sampled_from([SECRET, f"Bearer {SECRET}"])))}
    query = f"?{word}={SECRET}&token={SECRET}&{SECRET}"
    flag = draw(st.sampled_from([["--token", SECRET], [f"--api-key={SECRET}"], ["-H", f"Authorization: {SECRET}"]]))
    in_json = [f'{{"apiKey": "{SECRET}"}}', f"https://{word}:{SECRET}@host/{query}"]
    return draw(
        st.sampled_from(
            [
                StdioServer(name, command=word, args=(word, *flag, *in_json), **keys),
                StdioServer(name, command=word, args=(word, SECRET), env={word: Secret(SECRET)}, **keys),
                HttpServer(name, url=f"https://host/mcp{query}", headers=headers, **keys),
                SseServer(name, url=f"https://host/{SECRET}/sse", headers=headers, **keys),
                WebSocketServer(name, url=f"wss://{SECRET}@host/", headers=headers, **keys),
            ]
        )
    )


@st.composite
def findings_of(draw: st.DrawFn, server: ServerConfig) -> Finding:
    if not server.enabled:
        return Finding(server.name, server.type)
    if draw(st.booleans()):
        return Finding(server.name, server.type, Status.FAILED, error=draw(words) or "x", stage="initialize")
    listed = tuple(draw(st.lists(tools, max_size=4)))
    return Finding(
        server.name, server.type, Status.OK, server_name=draw(words), server_version=draw(words), tools=listed
    )


@st.composite
def reports(draw: st.DrawFn) -> Report:
    names = draw(st.lists(identifiers, min_size=1, max_size=4, unique=True))
    servers = {name: draw(secretive_servers(name)) for name in names}
    seen = draw(st.lists(st.lists(st.sampled_from(names), unique=True), min_size=1, max_size=3))
    shown = {f"u{index}": tuple(group) for index, group in enumerate(seen)}
    token = f"{SECRET}&agent=7&Api-Key={SECRET}#{SECRET}0123456789"
    config = Config(
        servers=servers,
        namespaces={name: NamespaceConfig(name, group) for name, group in shown.items()},
        upstreams=tuple(upstream(name, token=token) for name in shown),
    )
    return grouped(config, [draw(findings_of(server)) for server in servers.values()])


@pytest.mark.requirement("feature.134", "6.check.masking")
@given(reports())
def test_no_secret_of_any_configuration_is_shown(report: Report) -> None:
    shown = as_text(report, colour=True) + as_json(report)

    assert SECRET not in shown
    assert "?token=***&agent=7&Api-Key=***#***" in shown


@pytest.mark.requirement("6.check.json")
@given(reports())
def test_the_json_parses_and_its_counts_add_up(report: Report) -> None:
    document = json.loads(as_json(report))

    groups = [*(shown["mcpServers"] for shown in document["upstreams"]), document.get("otherServers", [])]
    listed = [each for group in groups for each in group]
    enabled = [each for each in listed if "disabled" not in each]
    assert document["totalServers"] == document["healthyCount"] + document["failedCount"] == len(enabled)
    assert document["disabledCount"] == len(listed) - len(enabled)
    assert document["healthyCount"] == sum(each["healthy"] for each in listed)
    assert document["totalTools"] == sum(len(each.get("tools", [])) for each in listed)
    assert [each["name"] for each in listed] == [entry.name for entry in report.entries()]


@pytest.mark.requirement("6.check.json")
@given(words)
def test_what_a_server_says_comes_back_out_of_the_json_and_may_stand_in_html(text: str) -> None:
    shown = as_json(grouped(config({"u": {"docs": DOCS}}), [ok(DOCS, Tool("t", text), name=text)]))

    (server,) = json.loads(shown)["upstreams"][0]["mcpServers"]
    assert (server.get("serverName", ""), server["tools"][0].get("description", "")) == (text, text)
    assert not set("<>&\u2028\u2029") & set(shown)


def test_half_a_character_is_replaced_as_go_does() -> None:
    shown = as_json(grouped(config({"u": {"docs": DOCS}}), [ok(DOCS, name="\ud83d")]))

    assert '"serverName": "\\ufffd"' in shown


@pytest.mark.requirement("feature.131", "6.check.text")
@given(st.lists(tools, min_size=1, max_size=5))
def test_descriptions_stand_in_one_column_and_are_cut_between_characters(listed: list[Tool]) -> None:
    finding = ok(DOCS, *listed)
    lines = as_text(grouped(config({"u": {"docs": DOCS}}), [finding]), colour=True).splitlines()

    rows = [line for line in lines if line.startswith("        • ")]
    assert len(rows) == len(listed)
    for row, tool in zip(rows, listed, strict=True):
        name, _, rest = row.removeprefix("        • ").partition("\x1b[2m")
        assert cell_len(name) == max(NAME_WIDTH, cell_len(name.rstrip(" "))) + 1
        description = rest.removesuffix("\x1b[0m")
        assert description.isprintable()
        assert len(description) <= 45 + len("...")
        assert (flat(tool.description) or "-").startswith(description.removesuffix("..."))


@pytest.mark.requirement("6.check.text")
@pytest.mark.parametrize(("length", "shown"), [(45, "文" * 45), (46, "文" * 45 + "...")])
def test_a_description_of_more_than_45_characters_is_cut(length: int, shown: str) -> None:
    text = as_text(grouped(config({"u": {"docs": DOCS}}), [ok(DOCS, Tool("t", "文" * length))]), colour=False)

    assert f"        • t{' ' * 28}{shown}\n" in text


@pytest.mark.requirement("6.check.text")
@given(reports())
def test_servers_are_sorted_by_name_within_each_upstream(report: Report) -> None:
    lines = as_text(report, colour=False).splitlines()

    shown = [line.partition("[")[2].rpartition("]")[0] for line in lines if line.startswith(("   ✅", "   ❌", "   ⏸"))]
    groups = [group.entries for group in report.groups] + [report.others]
    assert shown == [flat(name) for group in groups for name in sorted(entry.name for entry in group)]
