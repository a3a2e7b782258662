"""Hostile input at every parser's entry: what was found before, and ten thousand new inputs, the same in every run.

A million come nightly (``nox -s fuzz``, `tests.fuzz.__main__`); what that finds is kept in the corpus.
"""

from __future__ import annotations

from random import Random
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutations import LONGEST, Mutator
from tests.fuzz.oracles import cuts
from tests.fuzz.runs import STRUCTURES, TooSlow, patience, run
from tests.fuzz.targets import CORPUS, TARGETS, seeds

INPUTS: Final = 10_000
MUTANTS: Final = 20
"""Inputs of one example: what Hypothesis drew, and mutants of it."""
EXAMPLES: Final = -(-INPUTS // MUTANTS // len(TARGETS))
"""Of each target."""


@pytest.mark.requirement("4.fuzzing")
@pytest.mark.parametrize("name", TARGETS)
def test_what_was_found_before(name: str) -> None:
    for data in seeds(name):
        run(name, data)


@pytest.mark.requirement("4.fuzzing")
@pytest.mark.requirement("4.shows.fuzzed")
@pytest.mark.parametrize("name", TARGETS)
def test_ten_thousand_inputs(name: str) -> None:
    corpus = list(seeds(name))
    given_to = 0

    @settings(max_examples=EXAMPLES, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(STRUCTURES.get(name, st.nothing()) | st.sampled_from(corpus), st.integers(0, 2**32))
    def give(data: bytes, seed: int) -> None:
        nonlocal given_to
        mutator = Mutator(Random(seed), corpus)
        for each in (data, *(mutator.mutant(data) for _ in range(MUTANTS - 1))):
            run(name, each)
            given_to += 1

    give()
    assert given_to * len(TARGETS) >= INPUTS


def test_every_corpus_has_its_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert all(any(seeds(name)) for name in TARGETS)


# ---- the fuzzer itself -----------------------------------------------------------------------------------------------


@given(st.binary(max_size=300))
def test_cuts_lose_nothing(data: bytes) -> None:
    assert b"".join(cuts(data)) == data[1:]
    assert all(cuts(data))


def test_mutants_are_bounded_and_repeatable() -> None:
    def mutants(seed: int) -> list[bytes]:
        mutator = Mutator(Random(seed), [b"hello", b"x" * LONGEST])
        return [mutator.mutant() for _ in range(200)]

    assert mutants(1) == mutants(1) != mutants(2)
    assert max(map(len, mutants(1))) <= LONGEST
    assert len(set(mutants(1))) > 150


def test_an_input_that_takes_too_long_is_a_finding() -> None:
    with pytest.raises(TooSlow), patience(0.01):
        _for_ever()
    with patience(0.01):
        pass


def _for_ever() -> None:
    while True:
        pass


def test_a_finding_says_how_to_keep_it() -> None:
    with pytest.raises(KeyError) as found:
        run("no such target", b"\x00input")
    assert "tests/fuzz/corpus/no such target" in found.value.__notes__[0]
    assert "\\x00input" in found.value.__notes__[0]
