from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given

from mcpgateway.config.document import Address, Invalid, Node, from_value, plain
from mcpgateway.config.formats import FORMATS, Format, parse
from mcpgateway.errors import JSON
from tests.strategies import json_texts, json_values


def lines(node: Node) -> dict[Address, int | None]:
    found = {node.at: node.line}
    for inner in [*node.entries.values(), *node.items]:
        found |= lines(inner)
    return found


@given(json_texts())
def test_json_is_read_as_the_standard_library_reads_it(text: bytes) -> None:
    root, problems = parse(text.decode(), "json")

    assert (plain(root), problems) == (json.loads(text), [])


@given(json_values)
def test_json_lines_are_where_the_keys_are(value: JSON) -> None:
    text = json.dumps({"first": value, "last": 1}, indent=1)
    root, _ = parse(text, "json")

    assert lines(root)["last",] == text.count("\n")


@given(json_values)
def test_a_value_survives_being_a_document(value: JSON) -> None:
    assert plain(from_value(value)) == value


def test_yaml_lines_and_values() -> None:
    text = "a: 1\n# comment\nb:\n  - x\n  - {c: on, d: 1:30,\n     e: 2020-01-01}\nf: 0x10\ng:\n"

    root, problems = parse(text, "yaml")

    assert plain(root) == {"a": 1, "b": ["x", {"c": "on", "d": "1:30", "e": "2020-01-01"}], "f": 16, "g": None}
    assert problems == []
    assert lines(root) == {
        (): 1,
        ("a",): 1,
        ("b",): 3,
        ("b", 0): 4,
        ("b", 1): 5,
        ("b", 1, "c"): 5,
        ("b", 1, "d"): 5,
        ("b", 1, "e"): 6,
        ("f",): 7,
        ("g",): 8,
    }


def test_yaml_merges_what_is_not_given() -> None:
    root, problems = parse("a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 3}\nc: {<<: [*a, *b], x: 0}\n", "yaml")

    assert plain(root) == {"a": {"x": 1, "y": 2}, "b": {"y": 3, "z": 3}, "c": {"x": 0, "y": 2, "z": 3}}
    assert problems == []


def test_toml_lines_are_found_for_tables_and_keys() -> None:
    text = '# [no]\ntop = 1\n\n[servers."a.b"]\ncommand = "x"\nenv.TZ = "UTC"\nlinks = { min = 1 }\n'
    text += '[ servers . c ]  # last\nurl=""\n'

    root, _ = parse(text, "toml")

    assert lines(root) == {
        (): None,
        ("top",): 2,
        ("servers",): 4,
        ("servers", "a.b"): 4,
        ("servers", "a.b", "command"): 5,
        ("servers", "a.b", "env"): 6,
        ("servers", "a.b", "env", "TZ"): 6,
        ("servers", "a.b", "links"): 7,
        ("servers", "a.b", "links", "min"): None,
        ("servers", "c"): 8,
        ("servers", "c", "url"): 9,
    }


@pytest.mark.parametrize(("format", "text"), [("json", "[" * 100_000), ("yaml", "[" * 500), ("yaml", "a: &x [*x]")])
def test_bottomless_documents_are_refused(format: Format, text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(text, format)

    assert [problem.text for problem in caught.value.problems] == ["nested too deeply"]


LAUGHS = "a: &a [x]\n" + "".join(
    f"{key}: &{key} [{', '.join([f'*{last}'] * 9)}]\n" for last, key in pairwise("abcdefgh")
)


@pytest.mark.parametrize("text", [LAUGHS, LAUGHS.replace("[x]", "{x: y}").replace("[", "{<<: [").replace("]", "]}")])
def test_aliases_that_stand_for_billions_of_values_are_refused(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(text, "yaml")

    assert "more than 100000 values" in caught.value.problems[0].text


def test_an_anchor_given_twice_is_no_news() -> None:
    root, problems = parse("a: &x hidden\nb: &x 2\nc: *x\n", "yaml")  # a warning would be an error, and quotes lines

    assert plain(root) == {"a": "hidden", "b": 2, "c": 2}
    assert problems == []


@pytest.mark.parametrize(
    ("format", "text"),
    [("yaml", "a: !!int"), ("yaml", "a: !!bool maybe"), ("yaml", "a: " + "9" * 5000), ("toml", "a = " + "9" * 5000)],
)
def test_a_number_that_cannot_be_read_is_refused(format: Format, text: str) -> None:
    with pytest.raises(Invalid, match="number"):
        parse(text, format)


@pytest.mark.parametrize(
    "text", ["a: \x01", "a: [", "a: *b", "a: !b c", "a: 1\n---\nb: 2", "%YAML 1.2 x", "? [a]\n: b"]
)
def test_yaml_that_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse(text, "yaml")


@pytest.mark.parametrize("text", ["", "{", "{'a': 1}", '{"a": 1,}', "// x\n1", "Infinity", "1 2", '"\t"', "9" * 5000])
def test_json_that_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse(text, "json")


@pytest.mark.parametrize("format", FORMATS)
def test_a_syntax_error_does_not_quote_the_text(format: Format) -> None:
    text = {
        "yaml": "a: *hidden\n",
        "json": '{"a": "hidden" "hidden"}',
        "toml": 'a = "hidden" hidden',
    }[format]

    with pytest.raises(Invalid) as caught:
        parse(text, format)

    assert "hidden" not in caught.value.problems[0].render("file")
    assert caught.value.problems[0].line == 1


@pytest.mark.parametrize("value", [{"a": {1, 2}}, {1: 2}, [object()], b"x"])
def test_a_value_that_no_configuration_can_hold_is_refused(value: object) -> None:
    with pytest.raises(Invalid):
        from_value(value)
