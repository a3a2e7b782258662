"""The one way to shield a clean-up from cancellation: with a bound."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio


@contextmanager
def shielded(seconds: float) -> Iterator[trio.CancelScope]:
    """Let the body finish although its surroundings are cancelled, but for no longer than ``seconds``.

    Past them the body is cancelled and the block left in silence; the scope's ``cancelled_caught`` tells.
    """
    with trio.CancelScope(deadline=trio.current_time() + seconds, shield=True) as scope:
        yield scope
