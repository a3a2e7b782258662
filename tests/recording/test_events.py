"""Call events on their way."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mcpgateway.recording.events import CallEvent, Recorder
from mcpgateway.recording.outcomes import Outcome


def event(seconds: float) -> CallEvent:
    return CallEvent("work", "tools/call", "time", "now", True, Outcome.OK, seconds)


def test_every_sink_gets_every_event_once_in_order_when_somebody_wants_them_or_there_are_many() -> None:
    batches: list[list[float]] = []
    other: list[CallEvent] = []
    recorder = Recorder(lambda events: batches.append([each.seconds for each in events]), other.extend, waiting=3)

    for number in range(5):
        recorder.record(event(number))
    before = list(batches)
    recorder.flush()

    assert before == [[0, 1, 2]]
    assert batches == [[0, 1, 2], [3, 4]]
    assert [each.seconds for each in other] == [0, 1, 2, 3, 4]


def test_a_sink_that_fails_is_nobody_elses_concern(caplog: pytest.LogCaptureFixture) -> None:
    kept: list[CallEvent] = []

    def fails(events: Sequence[CallEvent]) -> None:
        raise OSError("disk full")

    recorder = Recorder(fails, kept.extend, waiting=2)
    recorder.record(event(1))
    recorder.record(event(2))

    assert len(kept) == 2
    assert "2 call events were lost" in caplog.text
