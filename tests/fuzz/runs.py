"""One input through one target, with a bound on its time; and what structured inputs are made of."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Final

from hypothesis import strategies as st
from msgspec import Raw

from tests import strategies
from tests.fuzz.targets import TARGETS

PATIENCE: Final = 1.0
"""Seconds of the processor that one input may take, whatever else the machine does meanwhile."""


class TooSlow(AssertionError):
    """An input took longer than `PATIENCE`."""


def run(name: str, data: bytes) -> None:
    """Give one input to a target; what it raises says how to keep the input."""
    try:
        with patience():
            TARGETS[name](data)
    except Exception as problem:
        problem.add_note(f"found by the target {name!r}; keep it as a file in tests/fuzz/corpus/{name}: {data!r}")
        raise


@contextmanager
def patience(seconds: float = PATIENCE) -> Iterator[None]:
    """Raise `TooSlow` in a body that computes for longer. Main thread only."""
    before = signal.signal(signal.SIGVTALRM, _too_slow)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _too_slow(number: int, frame: FrameType | None) -> None:
    raise TooSlow(f"took more than {PATIENCE:g} s")


_frames: Final = strategies.frames.map(lambda frame: frame.data)
_several: Final = st.lists(_frames, max_size=4)


def _array(parts: list[bytes] | list[Raw]) -> bytes:
    return b"[" + b",".join(bytes(part) for part in parts) + b"]"


STRUCTURES: Final[Mapping[str, st.SearchStrategy[bytes]]] = {
    "messages": _frames,
    "handshakes": _frames,
    "clients": strategies.requests.map(lambda frame: frame.data),
    "batches": _several.map(_array),
    "correlators": _several.map(b"\n".join),
    "envelopes": strategies.json_texts(strategies.json_objects),
    "listings": st.lists(strategies.tools(), max_size=4).map(_array),
    "replies": _several.map(lambda parts: b"\x07" + b"".join(b"data: %b\n\n" % part for part in parts)),
    "config_json": strategies.json_texts(strategies.json_objects),
}
"""What inputs of a target may be like, beside those in its corpus."""
