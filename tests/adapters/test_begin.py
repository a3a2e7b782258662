"""Calls that are begun without a task are held to the same contract as those that have one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest

from mcpgateway.testing import AdapterUnderTest, check_adapter
from mcpgateway.testing.begun import Begun
from mcpgateway.testing.contract import CHECKS
from tests.adapters.test_contract import ADAPTERS, ROUTED

BEGIN = [name for name in ADAPTERS if name != "memory" and name not in ROUTED]


@asynccontextmanager
async def begun(name: str, adapters: list[Begun]) -> AsyncIterator[AdapterUnderTest]:
    async with ADAPTERS[name]() as subject:
        adapters.append(Begun(subject.adapter))
        yield attrs.evolve(
            subject,
            adapter=adapters[0],
            dead=subject.dead and Begun(subject.dead),
            silent=subject.silent and Begun(subject.silent),
            only={era: Begun(adapter) for era, adapter in subject.only.items()},
        )


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", BEGIN)
async def test_a_begun_call_keeps_the_contract(name: str, check: str) -> None:
    await check_adapter(lambda: begun(name, []), only=check)


@pytest.mark.parametrize("name", BEGIN)
async def test_calls_are_really_begun(name: str) -> None:
    adapters: list[Begun] = []

    await check_adapter(lambda: begun(name, adapters), only="never_mixes_calls_up")

    assert adapters[0].begun > 0
