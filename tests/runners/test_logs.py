"""The log of a runner: on standard error, one line for each entry, whatever others put in."""

from __future__ import annotations

import json
import logging
import time
from datetime import datetime

import pytest

from runners import logs

log = logging.getLogger("mcpgateway.server.evil")


@pytest.mark.requirement("feature.107", "6.logs")
def test_text_keeps_an_entry_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "text")

    log.info("%s", "boom\n2026-01-01 00:00:00,000 ERROR mcpgateway: all is lost\r")

    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "\r" not in printed.err
    assert "boom\\n2026-01-01" in printed.err


@pytest.mark.requirement("feature.106", "6.logs")
def test_json_is_an_object_on_each_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")

    log.warning("lost %s", "ünïcode\nlines")
    try:
        raise ValueError("bad")
    except ValueError:
        log.exception("crashed")

    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert first["time"].endswith("+00:00")
    assert {key: first[key] for key in ("level", "logger", "message")} == {
        "level": "warning",
        "logger": "mcpgateway.server.evil",
        "message": "lost ünïcode\nlines",
    }
    assert second["exception"].endswith("ValueError: bad")


FIELDS = {"upstream": "cloud", "server": "my time", "tool": 'a="b"\nc', "result": '{"a": "b c"}', "seconds": 0.5}


@pytest.mark.requirement("feature.103", "6.logs")
def test_fields_stand_behind_the_text_and_cannot_be_forged(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "text")

    log.info("tool %s", "response", extra={"fields": FIELDS})

    assert capsys.readouterr().err.endswith(
        'tool response upstream=cloud server="my time" tool="a=\\"b\\"\\nc" result={"a": "b c"} seconds=0.5\n'
    )


@pytest.mark.requirement("feature.103", "6.logs")
def test_fields_are_members_in_json_and_replace_none(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")

    log.info("tool response", extra={"fields": {**FIELDS, "level": "fatal"}})

    entry = json.loads(capsys.readouterr().err)
    assert entry.items() >= FIELDS.items()
    assert (entry["level"], entry["message"]) == ("info", "tool response")


def test_characters_that_only_some_take_for_line_ends_are_spelt_out(capsys: pytest.CaptureFixture[str]) -> None:
    for format in logs.FORMATS:
        logs.configure("info", format)
        log.info("a\u2028b\x85c\x1b[31m")

    text, entry = capsys.readouterr().err.splitlines()
    assert text.endswith("a\\u2028b\\u0085c\\u001b[31m")
    assert json.loads(entry)["message"] == "a\u2028b\x85c\x1b[31m"


@pytest.mark.requirement("feature.105", "6.logs")
@pytest.mark.parametrize(("level", "shown"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_decides_what_is_shown(level: str, shown: int, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(level, "text")

    for each in logs.LEVELS:
        log.log(logging.getLevelNamesMapping()[each.upper()], "entry")

    assert capsys.readouterr().err.count("entry") == shown


@pytest.mark.requirement("4.life.files")
@pytest.mark.parametrize("step", [86_400.0, -86_400.0, 3650 * 86_400.0, -3650 * 86_400.0])
def test_a_wall_clock_that_jumps_is_no_matter(
    step: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 1_800_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    monkeypatch.setattr(time, "time_ns", lambda: int(now * 1e9))  # Python 3.13 and later
    for format in logs.FORMATS:
        logs.configure("info", format)
        log.info("before")
        now += step
        log.info("after")
        now -= step
    *text, before, after = capsys.readouterr().err.splitlines()
    assert [line.rpartition(" ")[2] for line in text] == ["before", "after"]
    times = [datetime.fromisoformat(json.loads(line)["time"]).timestamp() for line in (before, after)]
    assert times[1] - times[0] == step
