from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcpgateway.catalog.patterns import denies, matcher, permits
from mcpgateway.catalog.rules import ToolRules
from tests import strategies


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("search", "search", True),
        ("search", "Search", False),
        ("search", "search_all", False),
        ("admin_*", "admin_", True),
        ("admin_*", "admin_drop", True),
        ("admin_*", "my_admin_drop", False),
        ("*_write", "file_write", True),
        ("get?time", "get.time", True),
        ("[ab]*", "beta", True),
        ("[!ab]*", "beta", False),
        ("x[1]", "x[1]", True),
        ("x[1]", "x1", True),
        ("*", "", True),
        ("*", "two\nlines", True),
        ("a*", "a\nb", True),
        ("a.c", "abc", False),
        ("größe", "größe", True),
    ],
)
def test_a_pattern_is_a_name_or_a_glob(pattern: str, name: str, matches: bool) -> None:
    assert matcher((pattern,))(name) is matches


@given(strategies.patterns, strategies.tool_names)
def test_several_patterns_match_what_one_of_them_matches(patterns: tuple[str, ...], name: str) -> None:
    assert matcher(patterns)(name) == any(pattern == name or fnmatchcase(name, pattern) for pattern in patterns)


def test_a_hostile_glob_is_matched_in_no_time() -> None:
    assert not matcher(("*a" * 30 + "b",))("a" * 5000)


@given(st.lists(strategies.rules, max_size=3), strategies.tool_names, strategies.tool_names)
def test_deny_wins_and_every_rule_has_to_allow(rules: list[ToolRules], original: str, exposed: str) -> None:
    permitted = permits(rules, original, exposed)

    assert not (permitted and (denies(rules, original) or denies(rules, exposed)))
    assert permitted == all(permits([rule], original, exposed) for rule in rules)
    for rule in rules:
        assert not permits([*rules, ToolRules(deny=(original,))], original, exposed)
        assert not permits([*rules, ToolRules(deny=(exposed,))], original, exposed)
        assert not permits([*rules, ToolRules(allow=())], original, exposed)
        assert not permitted or any(matcher(rule.allow)(name) for name in (original, exposed))


def test_no_rules_permit_everything() -> None:
    assert permits((), "anything", "x_anything")
    assert permits((ToolRules(),), "anything", "x_anything")
