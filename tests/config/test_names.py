from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpgateway.config import names


@pytest.mark.parametrize("name", ["a", "A-b_c.9", "x" * 64, ".a", "-"])
def test_what_is_legal_stays(name: str) -> None:
    assert names.problem(name) == ""
    assert names.legal(name, "server") == name


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("", "server"),
        ("..", "server"),
        ("my server", "my-server"),
        ("搜索", "server"),
        ("a/b?c", "a-b-c"),
        ("x" * 65, "x" * 55),
        ("wss://example.com/?token=hidden", "server"),
        ("\ud800", "server"),
    ],
)
def test_others_keep_what_is_legal_of_them_and_get_a_hash(name: str, head: str) -> None:
    legal = names.legal(name, "server")

    assert legal[:-9] == head
    assert names.problem(legal) == ""
    assert legal == names.legal(name, "server")


@given(st.text(max_size=70), st.text(max_size=70))
def test_legal_names_of_different_names_differ(one: str, other: str) -> None:
    assert names.problem(names.legal(one, "server")) == ""
    assert (names.legal(one, "server") == names.legal(other, "server")) == (one == other)


@given(st.lists(st.sampled_from(["a", "a-2", "a-2-2", "x" * 64, "x" * 62 + "-2"]), max_size=12))
def test_unique_names(wanted: list[str]) -> None:
    taken: list[str] = []
    for name in wanted:
        found = names.unique(name, taken)
        assert found not in taken
        assert (found == name) == (name not in taken)
        assert names.problem(found) == ""
        taken.append(found)


@pytest.mark.parametrize("name", ["a", "小智 1", "x" * 64, "a/b"])
def test_names_of_upstreams(name: str) -> None:
    assert names.upstream_problem(name) == ""


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "is empty"),
        (" \u3000", "is empty"),
        ("wss://example.com", "looks like an endpoint"),
        ("?TOKEN=x", "looks like an endpoint"),
        ("x" * 65, "must have 1 to 64 characters"),
        ("a\nb", "all of them printable"),
    ],
)
def test_what_no_upstream_may_be_called(name: str, problem: str) -> None:
    assert problem in names.upstream_problem(name)
