import pytest

from mcpgateway.catalog.rules import NamingMode, ServerView, ToolRules, resolve_mode

RAW, PREFIXED, AUTO = NamingMode.RAW, NamingMode.PREFIXED, NamingMode.AUTO


@pytest.mark.parametrize(
    ("mode", "configured", "servers", "resolved"),
    [
        (AUTO, True, 1, RAW),
        (AUTO, True, 2, PREFIXED),
        (AUTO, True, 0, PREFIXED),
        (AUTO, False, 1, PREFIXED),
        (AUTO, False, 2, PREFIXED),
        (RAW, False, 3, RAW),
        (RAW, True, 1, RAW),
        (PREFIXED, True, 1, PREFIXED),
    ],
)
def test_resolve_mode(mode: NamingMode, configured: bool, servers: int, resolved: NamingMode) -> None:
    assert resolve_mode(mode, configured=configured, servers=servers) is resolved


def test_of_two_new_names_for_a_tool_the_later_rule_counts() -> None:
    view = ServerView(rules=(ToolRules(rename={"a": "b", "c": "d"}), ToolRules(rename={"a": "x"})))
    assert view.renames == {"a": "x", "c": "d"}
