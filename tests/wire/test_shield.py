from __future__ import annotations

import trio
import trio.testing

from mcpgateway.wire.shield import shielded


async def test_a_clean_up_finishes_though_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    with trio.CancelScope() as scope:
        scope.cancel(reason="test")
        with shielded(5) as shield:
            await trio.sleep(4)
        assert not shield.cancelled_caught
        assert trio.current_time() == 4


async def test_but_not_for_ever(autojump_clock: trio.testing.MockClock) -> None:
    with shielded(5) as shield:
        await trio.sleep(100)
    assert shield.cancelled_caught
    assert trio.current_time() == 5
