"""Seals open where they were meant to, and nowhere else; the key ring is one for all processes."""

from __future__ import annotations

import logging
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from mcpgateway.sessions.sealing import KEY_BYTES, Broken, Sealer, load_keys
from tests.strategies import json_objects

KEYS = (b"k" * KEY_BYTES, b"o" * KEY_BYTES)


class Clock:
    """Wall time, moved by the test."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def loaded(keys: Sequence[bytes] = KEYS, *, node: str = "n1", clock: Callable[[], float] = lambda: 0.0) -> Sealer:
    sealer = Sealer(lambda: keys, node=node, clock=clock)
    trio.run(sealer.load)
    return sealer


SEALER = loaded()
texts = st.text(max_size=5)
bindings = st.lists(texts, max_size=3)


@given(texts, json_objects, bindings)
def test_what_was_sealed_opens(purpose: str, claims: dict[str, object], binding: list[str]) -> None:
    seal = SEALER.seal(purpose, claims, binding=binding, lifetime=1.0)  # type: ignore[arg-type]  # JSON objects

    assert SEALER.open(purpose, seal, binding=binding) == claims
    assert seal.isascii()
    assert seal.startswith("n1.")


@given(texts, bindings, texts, bindings)
def test_it_opens_for_nothing_else(purpose: str, binding: list[str], other: str, elsewhere: list[str]) -> None:
    seal = SEALER.seal(purpose, {}, binding=binding, lifetime=1.0)
    if (purpose, binding) == (other, elsewhere):
        assert SEALER.open(other, seal, binding=elsewhere) == {}
    else:
        with pytest.raises(Broken):
            SEALER.open(other, seal, binding=elsewhere)


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_no_character_of_it_can_be_changed(at: int, which: int) -> None:
    """No two seals are equal, so what is drawn must not depend on one."""
    seal = SEALER.seal("p", {"a": 1}, binding=(), lifetime=1.0)
    at %= len(seal)
    others = [character for character in "Aa0-_.=é " if character != seal[at]]
    put = others[which % len(others)]
    with pytest.raises(Broken):
        SEALER.open("p", seal[:at] + put + seal[at + 1 :], binding=())


@given(st.text(max_size=80))
def test_junk_is_not_a_seal(junk: str) -> None:
    with pytest.raises(Broken):
        SEALER.open("p", junk, binding=())


def test_it_expires_by_wall_time() -> None:
    clock = Clock()
    sealer = loaded(clock=clock)
    seal = sealer.seal("p", {}, binding=(), lifetime=10.0)
    clock.now += 9.9
    assert sealer.open("p", seal, binding=()) == {}
    clock.now += 0.1
    with pytest.raises(Broken, match="expired"):
        sealer.open("p", seal, binding=())


def test_other_nodes_and_newer_rings_open_it_and_foreign_ones_do_not() -> None:
    seal = loaded(KEYS[1:]).seal("p", {"a": 1}, binding=(), lifetime=1.0)

    assert loaded(KEYS, node="n2").open("p", seal, binding=()) == {"a": 1}
    with pytest.raises(Broken):
        loaded(KEYS[:1]).open("p", seal, binding=())


# ---- the key ring ----------------------------------------------------------------------------------------------------


def test_the_ring_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "state" / "secret"
    keys = load_keys(path)

    assert load_keys(path) == keys
    assert [len(key) for key in keys] == [KEY_BYTES]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["secret"]


def test_a_ring_that_others_can_read_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = load_keys(tmp_path / "secret")
    assert caplog.text == ""
    (tmp_path / "secret").chmod(0o644)

    with caplog.at_level(logging.WARNING):
        assert load_keys(tmp_path / "secret") == keys
    assert "can be read by others" in caplog.text


def test_of_several_that_make_it_at_once_all_have_the_same(tmp_path: Path) -> None:
    path, found, start = tmp_path / "secret", list[tuple[bytes, ...]](), threading.Barrier(8)

    def make() -> None:
        start.wait()
        found.append(load_keys(path))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8
    assert len(set(found)) == 1


@pytest.mark.parametrize("contents", ["", "short\n", "é\n", "!!!!\n"])
def test_a_file_that_is_no_ring_is_left_alone_and_warned_of(
    contents: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "secret"
    path.write_text(contents, "utf-8")
    with caplog.at_level(logging.WARNING):
        keys = load_keys(path)

    assert [len(key) for key in keys] == [KEY_BYTES]
    assert path.read_text("utf-8") == contents
    (record,) = caplog.records
    assert "is not a key ring" in record.getMessage()
    assert not contents.strip() or contents.strip() not in record.getMessage()


def test_where_it_cannot_be_written_a_key_of_this_process_stands_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        one, two = (load_keys(tmp_path / "file" / "secret") for _ in range(2))

    assert one != two
    assert len(caplog.records) == 2


async def test_the_ring_is_read_once() -> None:
    read: list[int] = []

    def keys() -> Sequence[bytes]:
        read.append(1)
        return KEYS

    sealer = Sealer(keys, node="n")
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(sealer.load)
    assert read == [1]
