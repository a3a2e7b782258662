import re
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpgateway.catalog.naming import Claim, Clash, Target, assign, legal, marked, name_spares, uri_spares
from mcpgateway.catalog.rules import Collision
from tests.strategies import legal_names, server_names, tool_names

LEGAL = re.compile(r"[A-Za-z0-9_-]{1,64}")


# ---- legal names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("get_time", "get_time"),
        ("x" * 64, "x" * 64),
        ("x" * 65, "x" * 55 + "_su34l7pr"),
        ("get.time", "get_time_duirjq7u"),
        ("größe", "gr__e_2nj2ezy3"),
        ("", "_4oymiquy"),
    ],
)
def test_names_are_the_same_in_every_release(name: str, shown: str) -> None:
    """Agents have them in their instructions: a change here renames tools of every installation."""
    assert legal(name) == shown


@given(tool_names)
def test_a_legal_name_is_legal_and_stays(name: str) -> None:
    shown = legal(name)
    assert LEGAL.fullmatch(shown)
    assert legal(shown) == shown
    assert (shown == name) == (LEGAL.fullmatch(name) is not None)


@given(legal_names)
def test_a_name_that_clients_accept_does_not_change(name: str) -> None:
    assert legal(name) == name


@given(st.lists(tool_names | st.text("x.", min_size=60, max_size=70), unique=True, max_size=20))
def test_different_names_remain_different(names: list[str]) -> None:
    assert len({legal(name) for name in names}) == len(names)


@given(tool_names, tool_names)
def test_a_mark_says_what_the_name_stands_for(name: str, identity: str) -> None:
    assert LEGAL.fullmatch(marked(name, identity))
    assert marked(name, identity) != marked(name, identity + "'")


@given(server_names, tool_names, server_names, tool_names)
def test_spares_of_different_targets_differ_after_the_first(a: str, x: str, b: str, y: str) -> None:
    one, other = Target(a, x), Target(b, y)
    spares = [set(islice(name_spares(target, "full"), 1, 6)) for target in (one, other)]
    assert all(len(names) == 5 for names in spares)
    assert (spares[0] == spares[1]) if one == other else spares[0].isdisjoint(spares[1])


def test_a_mark_tells_where_the_server_ends() -> None:
    spares = [list(islice(name_spares(target, "abc"), 1, 2)) for target in (Target("a", "bc"), Target("ab", "c"))]
    assert spares[0] != spares[1]


def test_spare_uris_end_in_the_uri() -> None:
    spares = islice(uri_spares(Target("my files/ü", "file:///{path}")), 3)
    assert list(spares) == [
        "mcpgateway://my%20files%2F%C3%BC/file:///{path}",
        "mcpgateway://my%20files%2F%C3%BC.1/file:///{path}",
        "mcpgateway://my%20files%2F%C3%BC.2/file:///{path}",
    ]


# ---- collisions ------------------------------------------------------------------------------------------------------

A, B, C = Target("a", "t"), Target("b", "t"), Target("c", "t")


def claims_of(*wanted: tuple[Target, str, tuple[str, ...]]) -> list[Claim]:
    return [Claim(target, name, spares) for target, name, spares in wanted]


@pytest.mark.parametrize(
    ("collision", "names"),
    [
        (Collision.PREFIX, {A: "t", B: "b_t", C: "c_t"}),
        (Collision.FIRST, {A: "t"}),
        (Collision.LAST, {C: "t"}),
        (Collision.ERROR, {}),
    ],
)
def test_policies(collision: Collision, names: dict[Target, str]) -> None:
    given = assign(claims_of((A, "t", ("a_t",)), (B, "t", ("b_t",)), (C, "t", ("c_t",))), collision)
    assert given.names == names
    assert given.clashes == (Clash("t", (A, B, C)),)


def test_a_spare_that_is_taken_is_passed_over() -> None:
    given = assign(claims_of((A, "t", ()), (C, "b_t", ()), (B, "t", ("t", "b_t", "b_t_1"))), Collision.PREFIX)
    assert given.names == {A: "t", C: "b_t", B: "b_t_1"}


def test_whoever_comes_later_gives_way_even_to_a_spare() -> None:
    given = assign(claims_of((A, "t", ()), (B, "t", ("b_t",)), (C, "b_t", ("c_b_t",))), Collision.PREFIX)
    assert given.names == {A: "t", B: "b_t", C: "c_b_t"}
    assert given.clashes == (Clash("t", (A, B)), Clash("b_t", (B, C)))


claims = st.lists(st.tuples(server_names, tool_names), unique=True, max_size=8).flatmap(
    lambda targets: st.lists(
        st.sampled_from(["t", "u", "a_t", "b_t"]), min_size=len(targets), max_size=len(targets)
    ).map(lambda names: [(Target(*target), name) for target, name in zip(targets, names, strict=True)])
)


def assigned(wanted: list[tuple[Target, str]], collision: Collision) -> dict[Target, str]:
    spares = {target: name_spares(target, f"{target.server}_{name}") for target, name in wanted}
    return dict(assign([Claim(target, name, spares[target]) for target, name in wanted], collision).names)


@given(claims, st.sampled_from(Collision))
def test_no_two_have_one_name_and_who_is_alone_has_the_one_it_wants(
    wanted: list[tuple[Target, str]], collision: Collision
) -> None:
    names = assigned(wanted, collision)

    assert len(set(names.values())) == len(names)
    claimed = [name for _, name in wanted]
    if collision is Collision.PREFIX:
        assert set(names) == {target for target, _ in wanted}
        assert set(claimed) <= set(names.values())
    else:
        assert all(names[target] == name for target, name in wanted if target in names)
        assert set(names.values()) == {
            name for name in claimed if collision is not Collision.ERROR or claimed.count(name) == 1
        }


@given(claims, claims, st.sampled_from([Collision.PREFIX, Collision.FIRST]))
def test_claims_at_the_end_change_nothing_before_them(
    wanted: list[tuple[Target, str]], more: list[tuple[Target, str]], collision: Collision
) -> None:
    before = assigned(wanted, collision)
    known = {target for target, _ in wanted}
    after = assigned(wanted + [claim for claim in more if claim[0] not in known], collision)
    assert {target: name for target, name in after.items() if target in known} == before
