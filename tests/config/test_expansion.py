from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpgateway.config.document import Expanded, Node, plain
from mcpgateway.config.expansion import Unset, expand, expand_all, expand_leniently

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True)
values = st.text(st.sampled_from("a$\\\"'{}:- \n"), max_size=6)
environments = st.dictionaries(names, values, max_size=4)
literals = st.text(st.characters(exclude_characters="$", exclude_categories=["Cs"]), max_size=6)


@st.composite
def templates(draw: st.DrawFn) -> tuple[str, dict[str, str], str]:
    """A text, an environment, and what the text has to become."""
    env = draw(environments)
    text = expected = ""
    for _ in range(draw(st.integers(0, 5))):
        match draw(st.sampled_from(["literal", "dollar", "default", *["variable"] * bool(env)])):
            case "literal":
                piece = draw(literals)
                text, expected = text + piece, expected + piece
            case "dollar":
                text, expected = text + "$$", expected + "$"
            case "variable":
                name = draw(st.sampled_from(sorted(env)))
                text, expected = f"{text}${{{name}}}", expected + env[name]
            case _:
                name, default = draw(names), draw(literals.filter(lambda text: "}" not in text))
                text, expected = f"{text}${{{name}:-{default}}}", expected + (env.get(name) or default)
    return text, env, expected


@given(templates())
def test_expands_to_the_pieces_it_was_made_of(template: tuple[str, dict[str, str], str]) -> None:
    text, env, expected = template

    assert expand(text, env) == expected


@given(values, environments)
def test_doubling_every_dollar_protects_any_text(text: str, env: dict[str, str]) -> None:
    assert expand(text.replace("$", "$$"), env) == text


@given(names, values)
def test_a_value_is_taken_as_it_is(name: str, value: str) -> None:
    assert expand(f"<${{{name}}}>", {name: value}) == f"<{value}>"


@pytest.mark.parametrize("text", ["$", "a$b", "$HOME", "${", "${}", "${1}", "${a b}", "${a:+b}", "${env:A}", "$ {A}"])
def test_a_dollar_that_begins_nothing_stays(text: str) -> None:
    assert expand(text, {"HOME": "x", "A": "y"}) == text


def test_all_unset_variables_are_told_at_once_and_an_empty_one_is_set() -> None:
    with pytest.raises(Unset) as caught:
        expand("${B}${A}${EMPTY}${B}", {"EMPTY": ""})

    assert caught.value.names == ("B", "A")


def test_expands_strings_only_and_remembers_what_was_written() -> None:
    root = Node({"k": Node([Node("${A}"), Node(5), Node(None), Node("plain")])})

    expanded, problems = expand_all(root, {"A": "x", "k": "y"})

    assert (plain(expanded), problems) == ({"k": ["x", 5, None, "plain"]}, [])
    value = expanded.entries["k"].items[0].value
    assert isinstance(value, Expanded)
    assert value.written == "${A}"


def test_what_cannot_be_expanded_stays_with_a_problem_each() -> None:
    node = Node("${A} ${B}", ("servers", "x", "url"), 3)

    expanded, problems = expand_all(node, {})

    assert expanded == node
    assert [problem.render("f") for problem in problems] == [
        "f:3: servers['x'].url: the environment variable A is not set (set it, or give a default: ${A:-…})",
        "f:3: servers['x'].url: the environment variable B is not set (set it, or give a default: ${B:-…})",
    ]


@pytest.mark.parametrize(
    ("text", "expanded", "bare"),
    [
        ("${A}", "x", "x"),
        ("$A", "$A", "x"),
        ("$A_B-$A.", "$A_B-$A.", "y-x."),
        ("${A:-z} ${Z:-z} ${EMPTY:-z}", "x z z", "x z z"),
        ("pa$$word $5 $ $! $", "pa$$word $5 $ $! $", "pa$$word $5 $ $! $"),
        ("$${A}", "$${A}", "$${A}"),
        ("${EMPTY}|", "|", "|"),
        ("${} ${a b} ${1}", "${} ${a b} ${1}", "${} ${a b} ${1}"),
    ],
)
def test_leniently(text: str, expanded: str, bare: str) -> None:
    env = {"A": "x", "A_B": "y", "EMPTY": ""}

    assert expand_leniently(text, env, bare=False) == (expanded, [])
    assert expand_leniently(text, env, bare=True) == (bare, [])


def test_leniently_an_unset_variable_is_empty_and_a_bare_one_is_not_named() -> None:
    expanded, odd = expand_leniently("<${GONE}${GONE}$hidden>", {}, bare=True)

    assert expanded == "<>"
    assert odd == [
        "the environment variable GONE is not set: it counts as empty",
        "the variable that follows a '$' is not set: it counts as empty",
    ]


@given(values)
def test_leniently_a_value_is_taken_as_it_is(value: str) -> None:
    assert expand_leniently("<${A}$A>", {"A": value}, bare=True) == (f"<{value}{value}>", [])
