"""The list of requirements is true: each named test exists, and each test that claims a requirement is named by it."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.requirements import BRIDGING, FEATURES, REQUIREMENTS, Requirement

ROOT = Path(__file__).resolve().parent.parent
BY_ID = {requirement.id: requirement for requirement in REQUIREMENTS}


@cache
def functions(path: Path) -> dict[str, tuple[str, ...]]:
    """The tests in a file, as ``function`` or ``Class::function``, each with the requirements that it claims."""
    tree = ast.parse(path.read_text(), filename=str(path))
    return {name: tuple(claims(node)) for name, node in walk(tree.body, "")}


def walk(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from walk(node.body, f"{prefix}{node.name}::")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            yield prefix + node.name, node


def claims(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for mark in node.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.requirement":
            for argument in mark.args:
                yield ast.literal_eval(argument)


def exists(test: str) -> bool:
    path, _, name = test.partition("::")
    return (ROOT / path).is_file() and name in functions(ROOT / path)


def claimed() -> Iterator[tuple[str, str]]:
    """Every (requirement, test) that a marker states."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name, ids in functions(path).items():
            for id in ids:
                yield id, f"{path.relative_to(ROOT).as_posix()}::{name}"


def test_ids_are_unique() -> None:
    repeated = [id for id, count in Counter(requirement.id for requirement in REQUIREMENTS).items() if count > 1]

    assert repeated == []


def test_every_row_of_the_tables_is_there() -> None:
    rows = [int(requirement.id.partition(".")[2]) for requirement in FEATURES]
    cells = Counter(requirement.id.split(".")[1] for requirement in BRIDGING)

    assert rows == list(range(1, 153))
    assert len(cells) == 18
    assert set(cells.values()) == {3}


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.id)
def test_requirement_is_in_one_state_and_its_tests_exist(requirement: Requirement) -> None:
    states = [bool(requirement.tests), requirement.later is not None, requirement.refused is not None]

    assert states.count(True) == 1
    assert [test for test in requirement.tests if not exists(test)] == []


def test_tests_that_claim_a_requirement_are_named_by_it() -> None:
    unknown = [f"{test} claims {id}, which is not listed" for id, test in claimed() if id not in BY_ID]
    unnamed = [
        f"{test} claims {id}, which does not name it"
        for id, test in claimed()
        if id in BY_ID and test not in BY_ID[id].tests
    ]

    assert unknown + unnamed == []


def test_a_missing_test_is_noticed() -> None:
    here = "tests/test_requirements.py"

    assert exists(f"{here}::test_ids_are_unique")
    assert not exists(f"{here}::test_that_was_renamed")
    assert not exists("tests/test_nowhere.py::test_ids_are_unique")
