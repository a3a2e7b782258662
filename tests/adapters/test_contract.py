"""Every adapter is held to the public contract; another adapter is one more line in ``ADAPTERS``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import pytest

from mcpgateway.adapters.in_process import InProcessAdapter
from mcpgateway.protocol.revisions import Era
from mcpgateway.testing import AdapterUnderTest, check_adapter
from mcpgateway.testing.contract import CHECKS
from mcpgateway.testing.memory import MemoryAdapter
from tests.adapters import sdk_server


@asynccontextmanager
async def memory() -> AsyncIterator[AdapterUnderTest]:
    dead, silent = MemoryAdapter("fixture"), MemoryAdapter("fixture")
    dead.dead = silent.silent = True
    yield AdapterUnderTest(
        MemoryAdapter("fixture"),
        dead=dead,
        silent=silent,
        only={era: MemoryAdapter("fixture", eras={era}) for era in Era},
        last_words="boom",
    )


@asynccontextmanager
async def in_process() -> AsyncIterator[AdapterUnderTest]:
    yield AdapterUnderTest(
        InProcessAdapter("fixture", sdk_server.make),
        dead=InProcessAdapter("fixture", "tests.adapters.sdk_server:no_such_thing"),
        silent=InProcessAdapter("fixture", sdk_server.make_silent),
        last_words="SystemExit",
        lacks={"keeps_unknown_members": "the SDK drops from results what it does not model"},
    )


ADAPTERS: Final[dict[str, Callable[[], AbstractAsyncContextManager[AdapterUnderTest]]]] = {
    "in-process": in_process,
    "memory": memory,
}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_the_adapter_keeps_the_contract(adapter: str, check: str) -> None:
    await check_adapter(ADAPTERS[adapter], only=check)
