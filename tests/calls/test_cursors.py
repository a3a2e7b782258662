"""Pages of merged listings: nothing twice, nothing missed, and cursors that are good for one client only."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mcpgateway.calls.cursors import page
from mcpgateway.catalog.naming import Target
from mcpgateway.catalog.table import Entry
from mcpgateway.config.model import Config, NamespaceConfig
from mcpgateway.errors import InvalidParams
from mcpgateway.gateway import Gateway
from mcpgateway.protocol.revisions import Era
from mcpgateway.sessions.caller import Caller
from tests.calls.doubles import CALLERS_OF_BOTH as CALLERS
from tests.calls.doubles import ask, gateway_of, host, legacy, library, modern, names, result, space


def entries(*found: str) -> list[Entry]:
    return [Entry(name, Target("s", name), Raw(b"{}")) for name in found]


def walk(listings: list[list[str]], size: int) -> list[str]:
    """Take page after page, each from the next of the listings (the last one again and again)."""
    shown: list[str] = []
    after: str | None = None
    for number in range(1000):
        part, after = page(entries(*listings[min(number, len(listings) - 1)]), after, size)
        shown += [entry.name for entry in part]
        if after is None:
            return shown
    raise AssertionError("pages without end")


@given(st.lists(st.text("ab", max_size=4), unique=True), st.integers(1, 5))
def test_the_pages_are_the_listing(listing: list[str], size: int) -> None:
    assert walk([listing], size) == listing


@given(st.lists(st.integers(0, 30), unique=True), st.lists(st.sets(st.integers(0, 30)), max_size=4), st.integers(1, 5))
def test_of_a_listing_that_changes_nothing_comes_twice_and_what_stays_comes(
    order: list[int], gone: list[set[int]], size: int
) -> None:
    listings = [[str(entry) for entry in order if entry not in absent] for absent in gone] or [[]]
    try:
        shown = walk(listings, size)
    except InvalidParams:  # the entry to go on after has gone
        assert len(listings) > 1
        return
    assert len(set(shown)) == len(shown)
    assert set(shown) >= set.intersection(*map(set, listings))


def config(tmp_path: Path, page_size: int = 4) -> Config:
    return Config(page_size=page_size, state_dir=tmp_path)


async def everything(gateway: Gateway, caller: Caller, method: str = "tools/list") -> list[list[str]]:
    pages, cursor = list[list[str]](), None
    while True:
        reply = await ask(space(gateway), caller, method, {} if cursor is None else {"cursor": cursor})
        pages.append(names(reply))
        cursor = result(reply).get("nextCursor")
        if cursor is None:
            return pages


@pytest.mark.requirement("feature.65", "bridge.paging.same", "3.paging", "3.merged")
@pytest.mark.parametrize("era", Era)
async def test_a_long_listing_is_paged(era: Era, tmp_path: Path) -> None:
    async with gateway_of(library("a"), library("b"), config=config(tmp_path)) as gateway:
        caller = CALLERS[era]()
        pages = await everything(gateway, caller)
        whole = [f"{server}_{tool}" for server in "ab" for tool in host_tools(gateway)]

        assert [name for one in pages for name in one] == whole
        assert {len(one) for one in pages[:-1]} == {4}


def host_tools(gateway: Gateway) -> list[str]:
    return ["echo", "slow", "release", "waiting", "cancelled", "heard", "echo_ids", "progress", "ask", "fail",
            "tool_error", "big", "unknown", "notify", "crash"]  # fmt: skip


async def test_the_servers_are_listed_once_for_all_pages(tmp_path: Path) -> None:
    one = library("a", eras={Era.LEGACY})
    async with gateway_of(one, library("b"), config=config(tmp_path)) as gateway:
        await everything(gateway, legacy())

        assert len(host(one).asked("tools/list")) == 1


async def test_python_callers_get_all_pages(tmp_path: Path) -> None:
    async with gateway_of(library("a"), library("b"), config=config(tmp_path)) as gateway:
        assert len(await gateway.list_tools()) == 2 * len(host_tools(gateway))


async def test_a_cursor_is_good_for_one_client_and_one_listing(tmp_path: Path) -> None:
    spaces = {name: NamespaceConfig(name, ("a", "b")) for name in ("one", "two")}
    settings = Config(page_size=1, state_dir=tmp_path, namespaces=spaces)
    async with gateway_of(library("a"), library("b"), config=settings) as gateway:
        first = result(await ask(space(gateway, "one"), legacy(), "tools/list"))
        cursor = first["nextCursor"]
        assert isinstance(cursor, str)
        stranger = Caller(Era.LEGACY, "2025-11-25", Raw(b"{}"), principal="stranger")
        foreign = [
            (space(gateway, "two"), legacy(), "tools/list", cursor),
            (space(gateway, "one"), legacy(), "prompts/list", cursor),
            (space(gateway, "one"), legacy(b'{"roots":{}}'), "tools/list", cursor),
            (space(gateway, "one"), modern(), "tools/list", cursor),
            (space(gateway, "one"), stranger, "tools/list", cursor),
            (space(gateway, "one"), legacy(), "tools/list", f"{cursor[:-1]}{'A' if cursor[-1] != 'A' else 'B'}"),
            (space(gateway, "one"), legacy(), "tools/list", ""),
        ]
        for namespace, caller, method, value in foreign:
            with pytest.raises(InvalidParams) as refused:
                await ask(namespace, caller, method, {"cursor": value})
            assert (str(refused.value), refused.value.code) == ("Invalid cursor", -32602)
        again = await ask(space(gateway, "one"), legacy(), "tools/list", {"cursor": cursor})
        assert len(names(again)) == 1
