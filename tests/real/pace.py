"""How fast this machine is at the moment, for bounds in seconds.

Such bounds are promises about the machine that they were measured on. What is slower, or has other things to do, keeps
them in its own time: a test multiplies its bound by `slowness`, or by `cpu_slowness` where it is one of CPU time.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Final

REFERENCE_S: Final = 0.03
"""Seconds that `_work` takes on the reference machine, which has two cores to itself."""
CORES: Final = 2
ROUNDS: Final = 3
_TEXT: Final = json.dumps({"params": {"name": "echo", "arguments": {"text": "x" * 100}, "list": list(range(50))}})


def slowness() -> float:
    """How many times longer than on the reference machine things take here and now; 1 at least."""
    taken = sum(_work(time.perf_counter) for _ in range(ROUNDS)) / ROUNDS
    return max(taken / REFERENCE_S, 1.0) * max(CORES / len(cores()), 1.0)


def cores() -> list[int]:
    """The cores that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def cpu_slowness() -> float:
    """The same of CPU time, which does not pass while others have the processor."""
    return max(min(_work(time.thread_time) for _ in range(ROUNDS)) / REFERENCE_S, 1.0)


def _work(clock: Callable[[], float]) -> float:
    """Do what programs like this one do, always the same; the seconds that it took."""
    began = clock()
    for number in range(2000):
        value = json.loads(_TEXT)
        value["id"] = number
        json.dumps(dict(sorted(value.items())))
    return clock() - began
