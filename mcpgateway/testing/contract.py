"""What every adapter must do, as checks that anybody can run: `check_adapter`, in the manner of trio.testing.

    async def test_my_adapter():
        @asynccontextmanager
        async def make():
            yield AdapterUnderTest(MyAdapter("fixture", …), dead=MyAdapter("fixture", "nobody there"))

        await check_adapter(make)

The adapter has to reach `mcpgateway.testing.fixture_server`, by whatever wire. Each check makes links of its own, in
each era that the adapter speaks, and holds the adapter to one rule of `mcpgateway.adapters.base`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

import trio

from mcpgateway.protocol.revisions import Era
from mcpgateway.testing import call_rules, link_rules  # noqa: F401  # importing them fills `CHECKS`
from mcpgateway.testing.client import expect
from mcpgateway.testing.subject import CHECKS, AdapterUnderTest, Check

__all__ = ["CHECKS", "AdapterUnderTest", "Check", "check_adapter"]

TIME_LIMIT: Final = 60.0
"""Seconds that a check may take before it has failed."""


async def check_adapter(
    make: Callable[[], AbstractAsyncContextManager[AdapterUnderTest]], *, only: str | None = None
) -> None:
    """Hold an adapter to the contract; ``make`` is entered afresh for each check, ``only`` runs a single one.

    :raises AssertionError: a rule is broken; a note says which, in which era
    """
    for check in CHECKS.values() if only is None else (CHECKS[only],):
        async with make() as subject:
            for era in [era for era in Era if era in check.eras & subject.eras and check.name not in subject.lacks]:
                await _run(check, subject, era)


async def _run(check: Check, subject: AdapterUnderTest, era: Era) -> None:
    try:
        with trio.fail_after(TIME_LIMIT):
            await check.run(subject, era)
        expect(not subject.leftovers(), f"left behind: {subject.leftovers()!r}")
    except BaseException as problem:
        problem.add_note(f"check {check.name!r}, {era.value} era")
        raise
